//! The page for people: self-contained, whole without a script, and live with one.

use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::Page;
use super::parts;
use super::snapshot::Snapshot;
use crate::digest::Sha256;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Nothing may be loaded, and nothing run or applied save the script and the style of the page, named by their digests (CSP
/// Level 3 §8.4): a text that slips through unescaped stays a text. `data:` is the empty icon.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::of(text.as_bytes()).as_bytes());
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// The page of a snapshot.
pub(super) fn dashboard(snapshot: &Snapshot) -> Page {
    let parts = parts::all(snapshot);
    let part = |id: &str| parts.get(id).map_or("", String::as_str);
    let live = |tag: &str, id: &str, more: &str| format!("<{tag} id=\"{id}\"{more}>{}</{tag}>", part(id));
    let body = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>aptpeer</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\"><noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\
         <style>{STYLE}</style></head><body>\
         <a class=\"skip\" href=\"#main\">Skip to the figures</a>\
         <header><h1>aptpeer</h1>{state}<span class=\"grow\"></span><span id=\"live\" role=\"status\"></span>\
         <button id=\"pause\" type=\"button\" aria-pressed=\"false\" hidden>Pause</button></header>\
         <main id=\"main\">{problems}\
         <section aria-labelledby=\"traffic\"><h2 id=\"traffic\">Where the bytes came from</h2><div class=\"cards three\">\
         <div class=\"card\"><h3>Last 24 hours</h3>{day}</div><div class=\"card\">{since}{ever}</div>\
         <div class=\"card\"><h3>Hour by hour</h3>{hours}</div></div></section>\
         <section aria-labelledby=\"now\"><h2 id=\"now\">Under way</h2>{busy}{downloads}\
         <p class=\"key\" aria-hidden=\"true\"><span><i class=\"dot released\"></i>given to apt</span><span><i class=\"dot linked\"></i>here</span>\
         <span><i class=\"dot under\"></i>under way</span><span><i class=\"dot missing\"></i>missing</span></p></section>\
         <section aria-labelledby=\"node\"><h2 id=\"node\">This node</h2><div class=\"cards three\">\
         <div class=\"card\"><h3>Cache</h3>{cache}</div><div class=\"card\"><h3>From outside</h3>{reach}</div>\
         <div class=\"card\"><h3>DHT</h3>{dht}</div></div></section>\
         <section aria-labelledby=\"who\"><h2 id=\"who\">Neighbours and peers</h2>{met}\
         <div class=\"scroll\" role=\"region\" aria-labelledby=\"who\" tabindex=\"0\"><table><caption>The best first; named and local ones before all others</caption>\
         <thead><tr><th scope=\"col\">Peer</th><th scope=\"col\">Known from</th><th scope=\"col\" class=\"n\">Says it has</th><th scope=\"col\" class=\"n\">Score</th>\
         <th scope=\"col\" class=\"n\">First byte</th><th scope=\"col\" class=\"n\">Throughput</th><th scope=\"col\" class=\"n\">Gave</th></tr></thead>\
         {peers}</table></div></section>\
         <section aria-labelledby=\"lately\"><h2 id=\"lately\">Lately</h2>\
         <div class=\"scroll\" role=\"region\" aria-labelledby=\"lately\" tabindex=\"0\"><table><caption>The last 50 objects that apt got</caption>\
         <thead><tr><th scope=\"col\">Object</th><th scope=\"col\" class=\"n\">Size</th><th scope=\"col\">From</th>\
         <th scope=\"col\" class=\"n\">When</th></tr></thead>{recent}</table></div></section></main>\
         <footer>{run}<p>aptpeer {version}</p><nav aria-label=\"For programs\"><a href=\"/stats\">figures</a> <a href=\"/snapshot\">snapshot</a> \
         <a href=\"/peers\">peers</a> <a href=\"/metrics\">metrics</a> <a href=\"/health\">health</a></nav></footer>\
         <script>{SCRIPT}</script></body></html>\n",
        version = snapshot.version,
        state = live("div", "state", " role=\"status\""),
        problems = live("div", "problems", " aria-live=\"polite\""),
        day = live("div", "day", ""),
        since = live("h3", "since", ""),
        ever = live("div", "ever", ""),
        hours = live("div", "hours", ""),
        busy = live("p", "busy", " class=\"sub\" aria-live=\"polite\""),
        downloads = live("ul", "downloads", " class=\"downloads\""),
        cache = live("div", "cache", ""),
        reach = live("div", "reach", ""),
        dht = live("div", "dht", ""),
        met = live("p", "met", " class=\"sub\""),
        peers = live("tbody", "peers", ""),
        recent = live("tbody", "recent", ""),
        run = live("p", "run", ""),
    );
    let headers = vec![
        ("content-security-policy", POLICY.as_str()),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ];
    Page { status: 200, content_type: "text/html; charset=utf-8", headers, body }
}
