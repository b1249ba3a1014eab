// Starts the daemon on a database that is filled with ordinary and hostile customers. Nothing is polled: each is due in a
// year.
import { execFileSync, spawn } from "node:child_process";
import { createServer } from "node:net";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const HOSTILE = [
  "<script>document.title='owned'</script><img src=x onerror=alert(1)>",
  "\"'><svg/onload=alert(1)> & {{ 7*7 }} {% raw %}",
  "مدرسة النور \u202edekcah\u202c",
  "=?utf-8?B?PHNjcmlwdD4=?= ]]> --> </title>",
  "Bell\u0007 escape\u001b[31m tab\t line\r\nX-Header: 1",
  "W".repeat(10_000),
];
export const CUSTOMERS = 250;

export const id = (n) => `${n.toString(16).padStart(8, "0")}-0000-4000-8000-000000000000`;
export const quoted = (text) => `'${text.replaceAll("'", "''")}'`;
const name = (n) => (n <= HOSTILE.length ? HOSTILE[n - 1] : `School ${String(n).padStart(4, "0")}`);

// Every customer: in review, approved or denied; each with a message, some of which are waiting or given up.
function rows(now) {
  const sql = [`insert or replace into partner (id, name, watching_since, first_synced_at, last_synced_at, initial_sync_reported_at) values (1, 'emea', 0, 0, ${now}, ${now});`];
  for (let n = 1; n <= CUSTOMERS; n += 1) {
    const at = now - n * 3_600_000;
    const status = n <= HOSTILE.length || n > 130 ? "InReview" : n % 3 ? "Approved" : "Denied";
    const reason = status === "Denied" ? quoted(`Not an Education Customer ${HOSTILE[0]}`) : "null";
    const text = quoted(name(n));
    const event = `00000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`;
    const data = quoted(JSON.stringify({
      event_id: event, partner: "emea", qualification: "Education",
      customer: { id: id(n), name: name(n), domain: `school-${n}.example`, tags: [] },
    }));
    const kind = { InReview: "vetting.submitted", Approved: "vetting.approved", Denied: "vetting.denied" }[status];
    const state = n % 25 === 0 ? "dead" : n % 10 === 0 ? "pending" : "delivered";
    const [next, end] = state === "pending" ? [now + 31_536_000_000, "null"] : ["null", at + 1000];
    const error = state === "delivered" ? "null" : quoted(`550 no ${HOSTILE[1]}`);
    sql.push(
      `insert into customer (id, partner, customer_id, customer_key, name, domain, tags, source, added_at, next_poll_at, poll_class, last_seen_at, first_seen_at)
       values (${n}, 1, '${id(n)}', '${id(n)}', ${text}, 'school-${n}.example', '["north"]', 'manual', 1, ${now + 31_536_000_000}, 'settled', ${now}, 1);`,
      `insert into qualification_state (customer, qualification, qualification_key, present, vetting_status, vetting_reason, vetting_created_at, status_since, attempt)
       values (${n}, 'Education', 'education', 1, '${status}', ${reason}, ${at - 1000}, ${at}, 1);`,
      `insert into transition (id, customer, qualification, from_status, to_status, vetting_reason, vetting_created_at, attempt, submitted_at, last_seen_before_at, observed_at, raw_answer, correlation_id, request_id, outcome)
       values (${n}, ${n}, 'Education', '${status === "InReview" ? "absent" : "InReview"}', '${status}', ${reason}, ${at - 1000}, 1, ${at - 86_400_000}, ${at - 900_000}, ${at}, ${data}, 'correlation-${n}', 'request-${n}', ${status === "InReview" ? "null" : quoted(status)});`,
      `insert into event (id, type, transition, partner, customer, occurred_at, data) values ('${event}', '${kind}', ${n}, 1, ${n}, ${at}, ${data});`,
      `insert into delivery (sequence, id, endpoint, state, created_at, first_due_at, next_attempt_at, attempts, finished_at, last_error, message, format)
       values (${n}, '${event}', 'crm', '${state}', ${at}, ${at}, ${next}, 2, ${end}, ${error}, ${data}, 'webhook');`,
      `insert into delivery_event (delivery, endpoint, event, why) values ('${event}', 'crm', '${event}', 'route 1');`,
      `insert into attempt (delivery, number, began_at, ended_at, outcome, response) values
       ('${event}', 1, ${at}, ${at + 10}, 'failed', ${quoted(`503 ${HOSTILE[0]}`)}), ('${event}', 2, ${at + 20}, ${at + 30}, 'accepted', '200 OK');`,
    );
  }
  // A long history of one customer.
  const base = now - 1000 * 3_600_000;
  for (let n = 1; n <= 60; n += 1) {
    sql.push(`insert into transition (id, customer, qualification, from_status, to_status, attempt, observed_at)
      values (${1000 + n}, ${CUSTOMERS}, 'Education', '${n % 2 ? "InReview" : "Denied"}', '${n % 2 ? "Denied" : "InReview"}', ${n}, ${base - n * 1000});`);
  }
  return sql.join("\n");
}

const freePort = () => new Promise((done, fail) => {
  const server = createServer().on("error", fail);
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => done(port));
  });
});

// `fill` gives the rows as SQL.
export async function start(fill = rows) {
  const folder = mkdtempSync(join(tmpdir(), "vetwatch-page-"));
  const database = join(folder, "vetwatch.db");
  const config = join(folder, "vetwatch.toml");
  const [port, closed] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${port}/`;
  writeFileSync(join(folder, "client-secret"), "a secret of the tests");
  writeFileSync(join(folder, "signing-secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  writeFileSync(config, `
[database]
path = "${database}"
[[partner]]
name = "emea"
tenant = "contoso.onmicrosoft.com"
client_id = "00000000-0000-0000-0000-000000000000"
api_url = "http://127.0.0.1:${closed}/"
login_url = "http://127.0.0.1:${closed}/"
customers = "manual"
[partner.credential]
kind = "client-secret"
client_secret_file = "client-secret"
[[endpoint]]
name = "crm"
kind = "webhook"
url = "http://127.0.0.1:${closed}/"
secret_file = "signing-secret"
[[route]]
events = ["vetting.approved", "vetting.denied", "vetting.revoked", "vetting.vanished"]
endpoints = ["crm"]
[operators]
endpoints = ["crm"]
[web]
listen = "127.0.0.1:${port}"
`);
  const binary = process.env.VETWATCH_BIN ?? "target/release/vetwatch";
  const env = { PATH: process.env.PATH, CREDENTIALS_DIRECTORY: folder };
  const args = ["--config", config];
  // Makes the database.
  writeFileSync(join(folder, "none.csv"), "id\n");
  execFileSync(binary, [...args, "customers", "import", join(folder, "none.csv")], { env, stdio: ["ignore", "ignore", "pipe"] });
  execFileSync("sqlite3", ["-bail", database], { input: `begin;\n${fill(Date.now())}\ncommit;\n` });
  const daemon = spawn(binary, [...args, "run"], { env, stdio: ["ignore", "ignore", "pipe"] });
  const stop = () => {
    daemon.kill("SIGTERM");
    rmSync(folder, { recursive: true, force: true });
  };
  await new Promise((done, fail) => {
    let log = "";
    daemon.stderr.on("data", (chunk) => {
      log += chunk;
      if (log.includes("the page is served at")) done();
    });
    daemon.on("exit", (code) => fail(new Error(`the daemon ended with ${code}:\n${log}`)));
  });
  const run = (...command) => execFileSync(binary, [...args, ...command], { env, encoding: "utf8" });
  return { url, id, run, event: (n) => `00000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`, stop };
}
