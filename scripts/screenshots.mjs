// Looks at the dashboard as people do: light, dark, on a phone, and without JavaScript.
//
//   node screenshots.mjs URL FOLDER
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, folder] = process.argv.slice(2);
const MOST = 150_000;
const complaints = [];
const profile = mkdtempSync(join(tmpdir(), "screenshots-"));

const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const looks = [
  { name: "light", colorScheme: "light", viewport: { width: 1040, height: 920 }, deviceScaleFactor: 1 },
  { name: "dark", colorScheme: "dark", viewport: { width: 1040, height: 920 }, deviceScaleFactor: 1 },
  { name: "phone", colorScheme: "light", viewport: { width: 390, height: 844 }, deviceScaleFactor: 1.5, isMobile: true },
];

async function look({ name, ...options }, script = true) {
  const context = await chromium.launchPersistentContext(join(profile, name + script), {
    executablePath: "/usr/bin/chromium", headless: true, args, javaScriptEnabled: script, ...options,
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`${name}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`${name}: ${error}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) complaints.push(`${name}: asks for ${request.url()}`);
  });
  await page.goto(url, { waitUntil: "domcontentloaded" });
  return { context, page };
}

async function live(page, name) {
  await page.waitForFunction(() => document.getElementById("live").textContent === "Live");
  // Something that moves has moved.
  const before = await page.textContent("#run");
  await page.waitForFunction((text) => document.getElementById("run").textContent !== text, before);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0) complaints.push(`${name}: ${wide} pixels too wide`);
  await page.click("#pause");
  if (await page.getAttribute("#pause", "aria-pressed") !== "true") complaints.push(`${name}: does not pause`);
  await page.click("#pause");
  await page.waitForFunction(() => document.getElementById("live").textContent === "Live");
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement.blur());
}

try {
  for (const kind of looks) {
    const { context, page } = await look(kind);
    await live(page, kind.name);
    const path = join(folder, `dashboard-${kind.name}.png`);
    await page.screenshot({ path });
    // The demo's downloads do not wait for a busy machine.
    if (!(await page.textContent("body")).includes("3 objects are being downloaded")) complaints.push(`${kind.name}: a download is over already`);
    const { size } = statSync(path);
    console.log(`${path}: ${size} bytes`);
    if (size > MOST) complaints.push(`${path} has ${size} bytes`);
    if (process.env.WHOLE) await page.screenshot({ path: join(process.env.WHOLE, `${kind.name}-whole.png`), fullPage: true });
    await context.close();
  }
  const { context, page } = await look({ ...looks[0], name: "without JavaScript" }, false);
  const rows = await page.locator("#recent tr").count();
  const refresh = await page.locator("meta[http-equiv=refresh]").count();
  if (rows < 5 || refresh !== 1) complaints.push(`without JavaScript: ${rows} rows, ${refresh} refresh`);
  await context.close();
} finally {
  rmSync(profile, { recursive: true, force: true });
}
if (complaints.length > 0) {
  console.error(complaints.join("\n"));
  process.exit(1);
}
