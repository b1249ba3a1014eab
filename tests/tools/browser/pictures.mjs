// Draws the page for the documentation: pictures.mjs FOLDER. `tests/tools/draw_page` runs it.
import { join } from "node:path";
import { launch } from "./browser.mjs";
import { id, quoted, start } from "./site.mjs";

const folder = process.argv[2];
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const TOWNS = [
  "Contoso", "Fabrikam", "Northwind", "Wingtip", "Adatum", "Litware", "Proseware", "Tailspin", "Woodgrove", "Lucerne", "Humongous",
  "Trey", "Alpine", "Coho", "Margie's", "Consolidated",
];
const KINDS = ["School", "College", "University", "Library", "Academy"];
const REASONS = ["Not an Education Customer", "Domain ownership not verified", "Incomplete information"];
const REVIEWS = 12;
const CUSTOMERS = TOWNS.length * KINDS.length;

// The generator mulberry32: every picture is of the same office.
let seed = 7;
function chance() {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
}

// A review of each customer, most of them over; a few denied customers tried again.
function rows(now) {
  const sql = [`insert or replace into partner (id, name, watching_since, first_synced_at, last_synced_at, initial_sync_reported_at) values (1, 'emea', 0, 0, ${now}, ${now});`];
  let number = 0;
  const happened = (n, from, to, reason, attempt, submitted, at) => {
    number += 1;
    const event = `00000000-0000-7000-8000-${number.toString(16).padStart(12, "0")}`;
    const kind = { InReview: "submitted", Approved: "approved", Denied: "denied" }[to];
    const why = reason ? quoted(reason) : "null";
    sql.push(
      `insert into transition (id, customer, qualification, from_status, to_status, vetting_reason, vetting_created_at, attempt, submitted_at, last_seen_before_at, observed_at, raw_answer, correlation_id, request_id, outcome)
       values (${number}, ${n}, 'Education', '${from}', '${to}', ${why}, ${submitted}, ${attempt}, ${submitted}, ${at - 900_000}, ${at}, '{}', 'c0ffee00-0000-4000-8000-${n}', 'r-${n}', ${to === "InReview" ? "null" : quoted(to)});`,
      `insert into event (id, type, transition, partner, customer, occurred_at, data) values ('${event}', 'vetting.${kind}', ${number}, 1, ${n}, ${at}, '{}');`,
    );
    if (to === "InReview") return;
    sql.push(
      `insert into delivery (sequence, id, endpoint, state, created_at, first_due_at, attempts, finished_at, message, format)
       values (${number}, '${event}', 'crm', 'delivered', ${at}, ${at}, 1, ${at + 400}, '{}', 'webhook');`,
      `insert into delivery_event (delivery, endpoint, event, why) values ('${event}', 'crm', '${event}', 'route 1');`,
      `insert into attempt (delivery, number, began_at, ended_at, outcome, response) values ('${event}', 1, ${at}, ${at + 400}, 'accepted', '200 OK');`,
    );
  };
  for (let n = 1; n <= CUSTOMERS; n += 1) {
    const name = `${TOWNS[(n * 7) % TOWNS.length]} ${KINDS[Math.floor(n / TOWNS.length) % KINDS.length]}`;
    const domain = `${name.toLowerCase().replaceAll(/[^a-z]+/g, "-")}.example`;
    sql.push(`insert into customer (id, partner, customer_id, customer_key, name, domain, tags, source, added_at, next_poll_at, poll_class, last_seen_at, first_seen_at)
      values (${n}, 1, '${id(n)}', '${id(n)}', ${quoted(name)}, '${domain}', '["${n % 2 ? "north" : "south"}"]', 'synced', 1, ${now + 365 * DAY}, 'settled', ${now - 120_000}, 1);`);
    const took = () => Math.round((1.2 + 3.5 * chance() ** 2 + (chance() < 0.1 ? 6 : 0)) * DAY);
    const open = n % Math.floor(CUSTOMERS / REVIEWS) === 0;
    let end = now - Math.round((open ? 1.5 + 5 * chance() : 1 + 175 * chance()) * DAY);
    let attempt = 1;
    let status = chance() < (open ? 1 : 0.25) ? "Denied" : "Approved";
    const reason = REASONS[Math.floor(chance() ** 2 * REASONS.length)];
    let submitted = end - took();
    happened(n, "absent", "InReview", null, attempt, submitted, submitted + 600_000);
    happened(n, "InReview", status, status === "Denied" ? reason : null, attempt, submitted, end);
    if (open || (status === "Denied" && chance() < 0.7)) {
      attempt = 2;
      submitted = end + Math.round((0.2 + chance()) * DAY);
      const again = submitted + took();
      happened(n, "Denied", "InReview", null, attempt, submitted, submitted + 600_000);
      status = "InReview";
      end = submitted + 600_000;
      if (!open && again < now) {
        status = chance() < 0.8 ? "Approved" : "Denied";
        happened(n, "InReview", status, status === "Denied" ? reason : null, attempt, submitted, again);
        end = again;
      }
    }
    sql.push(`insert into qualification_state (customer, qualification, qualification_key, present, vetting_status, vetting_reason, vetting_created_at, status_since, attempt)
      values (${n}, 'Education', 'education', 1, '${status}', ${status === "Denied" ? quoted(reason) : "null"}, ${submitted}, ${end}, ${attempt});`);
  }
  return sql.join("\n");
}

const site = await start(rows);
const browser = await launch();

async function draw(name, path, colorScheme, width, height) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, deviceScaleFactor: width < 500 ? 2 : 1 });
  const page = await context.newPage();
  await page.goto(site.url + path);
  await page.screenshot({ path: join(folder, `${name}.png`) });
  await context.close();
}

const longest = Math.floor(CUSTOMERS / REVIEWS);
await draw("page-review", "", "light", 1100, 640);
await draw("page-report", "report", "dark", 1100, 900);
await draw("page-customer", `customer/emea/${id(longest)}`, "light", 390, 1120);
await browser.close();
site.stop();
