// Drives the page with a real browser. Prints a line for each check; exits with 1 if one fails. Arguments: only the checks
// whose names contain one.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch } from "./browser.mjs";
import { CUSTOMERS, HOSTILE, start } from "./site.mjs";

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const site = await start();
const browser = await launch();
const complaints = [];
let failed = 0;

const PAGES = [
  "", "decided", "report", "customers", "customers?q=school-7", "customers?q=nobody+of+this+name", "deliveries", "deliveries?state=delivered",
  "health", "no/such/page", `delivery/${site.event(25)}`, `delivery/${site.event(10)}`,
  ...[...HOSTILE.keys()].map((n) => `customer/emea/${site.id(n + 1)}`), `customer/emea/${site.id(CUSTOMERS)}`,
];

const wanted = process.argv.slice(2);

async function check(what, test) {
  if (wanted.length && !wanted.some((part) => what.includes(part))) return;
  try {
    await test();
    console.log(`ok: ${what}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${what}\n    ${String(error.message).replaceAll("\n", "\n    ")}`);
  }
}

// A page whose console, errors and foreign requests are complaints. A 404 is logged by the browser itself.
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (!message.text().includes("404 (Not Found)")) complaints.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
  page.on("dialog", (dialog) => {
    complaints.push(`${page.url()}: a dialog`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(site.url)) complaints.push(`${page.url()} asks for ${request.url()}`);
  });
  return page;
}

async function onEach(options, test) {
  const page = await open(options);
  for (const path of PAGES) {
    await page.goto(site.url + path);
    await test(page, path);
  }
  await page.context().close();
}

const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

const rowsOf = (page) => page.locator("main tbody tr").count();

await check("search finds by name, domain, tag and tenant id", async () => {
  const page = await open();
  for (const [q, rows] of [["school 0042", 1], ["SCHOOL-42.example", 1], [site.id(42), 1], ["north", 100], ["nobody", 0]]) {
    await page.goto(`${site.url}customers`);
    await page.getByRole("searchbox").fill(q);
    await page.getByRole("searchbox").press("Enter");
    await page.waitForURL(/\?q=/);
    assert.equal(await rowsOf(page), rows, q);
  }
  await page.context().close();
});

await check("the next pages show every customer once", async () => {
  const page = await open();
  await page.goto(`${site.url}customers`);
  const seen = [];
  for (;;) {
    seen.push(...await page.locator("main tbody th a").evaluateAll((links) => links.map((link) => link.href)));
    const next = page.locator("a[rel=next]");
    if (!await next.count()) break;
    await next.click();
  }
  assert.equal(seen.length, CUSTOMERS);
  assert.equal(new Set(seen).size, CUSTOMERS);
  await page.getByRole("link", { name: "To the first page" }).click();
  assert.equal(await rowsOf(page), 100);
  await page.context().close();
});

await check("a cursor that is none of ours shows the beginning", async () => {
  const page = await open();
  for (const list of ["", "decided", "customers", "deliveries"]) {
    for (const after of ["x", "%00", "%ff", "W10", "bnVsbA", "eyJhIjoxfQ", "'--", "a".repeat(5000)]) {
      const response = await page.goto(`${site.url}${list}?after=${after}`);
      assert.equal(response.status(), 200, `${list} ${after}`);
    }
  }
  await page.context().close();
});

await check("a customer's history has its evidence, its messages and older pages", async () => {
  const page = await open();
  await page.goto(`${site.url}customer/emea/${site.id(60)}`);
  assert.match(await page.locator(".timeline").innerText(), /In review\s*→.*Denied/s);
  await page.locator("details", { hasText: "Evidence" }).locator("summary").click();
  assert.match(await page.locator(".timeline").innerText(), /correlation-60/);
  await page.locator(".told a").first().click();
  assert.match(await page.locator("h1").innerText(), /vetting.denied: School 0060/);
  await page.goto(`${site.url}customer/emea/${site.id(CUSTOMERS)}`);
  let steps = await page.locator(".timeline > li").count();
  while (await page.locator("a[rel=next]").count()) {
    await page.locator("a[rel=next]").click();
    steps += await page.locator(".timeline > li").count();
  }
  assert.equal(steps, 61);
  await page.context().close();
});

await check("refresh is on only if asked for", async () => {
  const page = await open();
  await page.goto(`${site.url}customers?q=north`);
  assert.equal(await page.locator("meta[http-equiv=refresh]").count(), 0);
  await page.getByRole("link", { name: "Refresh every minute" }).click();
  assert.equal(await page.locator("meta[http-equiv=refresh]").count(), 1);
  await page.getByRole("link", { name: "stop" }).click();
  assert.equal(await page.locator("meta[http-equiv=refresh]").count(), 0);
  assert.match(page.url(), /q=north/);
  await page.context().close();
});

await check("the keyboard gets everywhere, and the first stop skips the links", async () => {
  const page = await open();
  await page.goto(site.url);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.ok(await page.evaluate(() => document.querySelector("main").contains(document.activeElement)));
  await page.context().close();
});

for (const colorScheme of ["light", "dark"]) {
  await check(`axe finds nothing, ${colorScheme}, 390 px`, () => onEach({ colorScheme, viewport: { width: 390, height: 844 }, bypassCSP: true }, async (page, path) => {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`), [], path);
  }));
}

for (const width of [320, 390]) {
  await check(`nothing overflows at ${width} px`, () => onEach({ viewport: { width, height: 700 } }, async (page, path) => {
    assert.ok(await overflow(page) <= 0, `${path}: ${await overflow(page)} px too wide`);
  }));
}

await check("nothing overflows with text of 200 %", () => onEach({ viewport: { width: 640, height: 700 }, bypassCSP: true }, async (page, path) => {
  await page.addStyleTag({ content: "html { font-size: 200% !important }" });
  assert.ok(await overflow(page) <= 0, `${path}: ${await overflow(page)} px too wide`);
}));

await check("without scripts every page shows the same", async () => {
  const [with_, without] = [await open(), await open({ javaScriptEnabled: false })];
  for (const path of PAGES) {
    await with_.goto(site.url + path);
    await without.goto(site.url + path);
    assert.equal(await without.locator("main").innerText(), await with_.locator("main").innerText(), path);
  }
  await with_.context().close();
  await without.context().close();
});

await check("on paper there is no navigation", async () => {
  const page = await open();
  await page.emulateMedia({ media: "print" });
  await page.goto(site.url);
  assert.equal(await page.locator("header nav").isVisible(), false);
  assert.ok(await page.locator("main table").isVisible());
  assert.ok((await page.pdf()).length > 1000);
  await page.context().close();
});

await check("hostile names stay text", () => onEach({}, async (page, path) => {
  const found = await page.evaluate(() => ({
    title: document.title, foreign: document.querySelectorAll("script, img, svg:not([role=img]), iframe, [onerror], [onload], [style], style").length,
    controls: /[\u0000-\u0008\u000b-\u001f\u202a-\u202e\u2066-\u2069]/.test(document.documentElement.innerHTML),
    long: document.documentElement.innerHTML.includes("W".repeat(5000)),
  }));
  assert.notEqual(found.title, "owned", path);
  assert.deepEqual([found.foreign, found.controls, found.long], [0, false, false], path);
}));

await check("the charts say in words what their bars show", async () => {
  const page = await open();
  await page.goto(`${site.url}report`);
  const weeks = page.locator("table", { hasText: "Week of" });
  const rows = await weeks.locator("tbody tr").evaluateAll((all) => all.map((row) => ({
    cells: [...row.querySelectorAll("td:not(.bar)")].map((cell) => Number(cell.innerText)),
    label: row.querySelector("svg").getAttribute("aria-label"),
    widths: [...row.querySelectorAll("rect")].map((rect) => rect.getBoundingClientRect().width),
    whole: row.querySelector("svg").getBoundingClientRect().width,
  })));
  const most = Math.max(...rows.map(({ cells }) => cells[0] + cells[1]));
  assert.equal(rows.reduce((sum, { cells }) => sum + cells[0] + cells[1], 0), 130 - HOSTILE.length);
  for (const { cells: [approved, denied], label, widths, whole } of rows) {
    assert.equal(label, `${approved} approved, ${denied} denied`);
    const drawn = widths.reduce((sum, width) => sum + width, 0);
    assert.ok(Math.abs(drawn - (whole * (approved + denied)) / most) < 1, `${label}: ${drawn} of ${whole} px`);
  }
  await page.context().close();
});

await check("the report as a file asks for nothing else and looks like the page", async () => {
  const page = await browser.newPage();
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.setContent(site.run("report", "--format", "html"));
  assert.deepEqual(asked, []);
  assert.equal(await page.locator("main table.chart rect").count() > 2, true);
  assert.equal(await page.locator("main a").count(), 0);
  assert.match(await page.locator("main").innerText(), /Longest in review/);
  assert.notEqual(await page.title(), "owned");
  await page.context().close();
});

await check("the Nu checker finds no error", async () => {
  const folder = mkdtempSync(join(tmpdir(), "vetwatch-html-"));
  const files = await Promise.all(PAGES.map(async (path, n) => {
    const file = join(folder, `${n}.html`);
    writeFileSync(file, await (await fetch(site.url + path)).text());
    return file;
  }));
  const report = join(folder, "report.html");
  writeFileSync(report, site.run("report", "--format", "html"));
  files.push(report);
  writeFileSync(join(folder, "style.css"), await (await fetch(`${site.url}style.css`)).text());
  const jar = String(require("vnu-jar"));
  const { stderr, status } = spawnSync("java", ["-jar", jar, "--errors-only", ...files], { encoding: "utf8" });
  rmSync(folder, { recursive: true });
  assert.equal(status, 0, stderr.slice(0, 3000));
});

await check("no page was refused anything by its policy, and no script ran", async () => assert.deepEqual([...new Set(complaints)].slice(0, 10), []));

await browser.close();
site.stop();
process.exit(failed ? 1 : 0);
