"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const say = (text) => { if (by("live").textContent !== text) by("live").textContent = text; };
  const pause = by("pause");
  let source = null;
  const listen = () => {
    source = new EventSource("/events");
    source.onopen = () => say("Live");
    source.onmessage = (event) => {
      for (const [id, html] of Object.entries(JSON.parse(event.data).parts)) {
        const part = by(id);
        // The server has escaped whatever is not its own, and the policy of this page runs nothing that comes in this way.
        if (part) part.innerHTML = html;
      }
      say("Live");
    };
    source.onerror = () => {
      say("Not live: trying again");
      // The browser tries again by itself, unless it was turned away.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!paused()) listen(); }, 10000);
    };
  };
  const paused = () => pause.getAttribute("aria-pressed") === "true";
  pause.hidden = false;
  pause.addEventListener("click", () => {
    const stop = !paused();
    pause.setAttribute("aria-pressed", String(stop));
    if (stop) { source.close(); say("Paused"); } else { listen(); }
  });
  listen();
})();
