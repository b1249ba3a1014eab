//! The test world: a simulated Partner Center, a mail server and a webhook receiver on loopback, a database in its own
//! folder, and vetwatch's worker loops, which tests run round by round at times of their choice.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{Column, ConnectOptions, Connection as _, Row, ValueRef};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use vetwatch::config::{Config, CredentialDirs};
use vetwatch::daemon::{self, Kept, Parts};
use vetwatch::sandbox::smtp_server::{Mail, SmtpServer};
use vetwatch::sandbox::webhook_receiver::{Receiver, WebhookRequest};
use vetwatch::sandbox::{CustomerDetails, Options, Sandbox};
use vetwatch::store::Store;
use vetwatch::store::customers::NewCustomer;
use vetwatch::time::{Clock, ManualClock, Timestamp};

pub(crate) const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr";

/// A Monday morning.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_763_974_800_000);

pub(crate) fn hours(n: u64) -> Duration {
    Duration::from_hours(n)
}

pub(crate) fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

pub(crate) struct World {
    /// Our clock. It may be set; Partner Center's only goes forward.
    pub(crate) clock: Arc<ManualClock>,
    theirs: Arc<ManualClock>,
    pub(crate) sandbox: Sandbox,
    pub(crate) mail: SmtpServer,
    pub(crate) hook: Receiver,
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) parts: Parts,
    /// Spans of running time that are not noted yet.
    ran: Mutex<Vec<(Timestamp, Timestamp)>>,
    _folder: TempDir,
    customers: u32,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with("", "").await
    }

    /// A world with additions to `[schedule]` and at the end of its configuration.
    pub(crate) async fn with(schedule: &str, more: &str) -> Self {
        Self::edited(schedule, more, |text| text).await
    }

    /// …and is changed like this.
    pub(crate) async fn edited(schedule: &str, more: &str, edit: impl FnOnce(String) -> String) -> Self {
        Self::edited_in(tempfile::tempdir().expect("a folder"), schedule, more, edit).await
    }

    /// …in this folder.
    pub(crate) async fn edited_in(
        folder: TempDir,
        schedule: &str,
        more: &str,
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let world = Self::unseen_in(folder, schedule, more, edit).await;
        tell_baseline(&world.config.database).await;
        world
    }

    /// A world whose partner is synced, and was never polled.
    pub(crate) async fn synced() -> Self {
        Self::without_baseline("", "", |text| text.replace("customers = \"manual\"", "customers = \"synced\"")).await
    }

    /// A world without a baseline report, with a changed configuration.
    pub(crate) async fn without_baseline(schedule: &str, more: &str, change: impl FnOnce(String) -> String) -> Self {
        Self::unseen_in(tempfile::tempdir().expect("a folder"), schedule, more, change).await
    }

    async fn unseen_in(folder: TempDir, schedule: &str, more: &str, change: impl FnOnce(String) -> String) -> Self {
        tls();
        let clock = Arc::new(ManualClock::at(START));
        let theirs = Arc::new(ManualClock::at(START));
        let sandbox = Sandbox::start(Options::default(), theirs.clone()).await.expect("a sandbox");
        let mail = SmtpServer::start(clock.clone()).await.expect("a mail server");
        let hook = Receiver::start(Some(SIGNING_SECRET), clock.clone()).await.expect("a receiver");
        let path = folder.path().join("vetwatch.toml");
        std::fs::write(folder.path().join("client-secret"), Options::default().client_secret).expect("a secret");
        std::fs::write(folder.path().join("signing-secret"), SIGNING_SECRET).expect("a secret");
        let text = configuration(folder.path(), &sandbox, mail.address().port(), hook.url().as_str(), schedule, more);
        std::fs::write(&path, change(text)).expect("a configuration");
        let config =
            Config::load(&path, &CredentialDirs::only(folder.path())).expect("a configuration without problems");
        let store = Store::open(&config.database).await.expect("a database");
        let parts = assemble(&config, &store, &clock).await;
        Self {
            clock,
            theirs,
            sandbox,
            mail,
            hook,
            config,
            store,
            parts,
            ran: Mutex::default(),
            _folder: folder,
            customers: 0,
        }
    }

    /// Adds a customer to Partner Center that vetwatch does not know. Returns its id.
    pub(crate) fn unwatched_customer(&mut self, name: &str) -> String {
        self.customers += 1;
        let id = format!("{:08x}-0000-4000-8000-000000000000", self.customers);
        let domain = format!("{}.example", name.to_lowercase().replace(' ', "-"));
        self.sandbox.add_customer(CustomerDetails::new(&id, name, &domain)).expect("a new customer")
    }

    /// Adds a customer to Partner Center and to vetwatch. Returns its id.
    pub(crate) async fn customer(&mut self, name: &str) -> String {
        let id = self.unwatched_customer(name);
        let domain = format!("{}.example", name.to_lowercase().replace(' ', "-"));
        let new = NewCustomer {
            partner: "emea",
            id: &id,
            name: Some(name),
            domain: Some(&domain),
            tags: None,
            contact: None,
        };
        let mut tx = self.store.begin().await.expect("a transaction");
        tx.add_customer(new, self.clock.now()).await.expect("a customer");
        tx.commit().await.expect("a commit");
        id
    }

    /// Like [`Self::customer`], with a review that was polled.
    pub(crate) async fn in_review(&mut self, name: &str) -> String {
        let id = self.customer(name).await;
        self.sandbox.submit(&id).expect("a customer");
        self.poll().await;
        id
    }

    /// Lets time pass while vetwatch runs, without running rounds.
    pub(crate) fn pass(&self, time: Duration) {
        let from = self.clock.now();
        self.suspend(time);
        let until = self.clock.now();
        let mut ran = self.ran.lock().expect("no panic");
        match ran.last_mut() {
            Some(last) if last.1 == from => last.1 = until,
            _ => ran.push((from, until)),
        }
    }

    /// Lets time pass while the machine is suspended, or the process stopped.
    pub(crate) fn suspend(&self, time: Duration) {
        self.clock.advance(time);
        self.theirs.advance(time);
    }

    /// Notes the running time from [`Self::pass`].
    pub(crate) async fn note_running(&self) {
        let ran = std::mem::take(&mut *self.ran.lock().expect("no panic"));
        for (from, until) in ran {
            self.store.tick(from).await.expect("a tick");
            let sql = "insert into daemon (id, alive_at, alive_since) values (1, {}, {}) \
                       on conflict (id) do update set alive_at = {}, alive_since = coalesce(alive_since, {})";
            self.execute(&sql.replace("{}", &until.as_millis().to_string())).await;
        }
    }

    /// Runs the alert checks.
    pub(crate) async fn watch(&self) {
        self.note_running().await;
        self.parts.alerts.round().await.expect("a look");
    }

    /// The time at Partner Center.
    pub(crate) fn theirs(&self) -> Timestamp {
        self.theirs.now()
    }

    /// Runs polling rounds until no customer is due. Returns the number of recorded transitions.
    pub(crate) async fn poll(&self) -> u32 {
        self.note_running().await;
        let mut transitions = 0;
        for partner in &self.parts.partners {
            loop {
                let round = partner.poller.round().await.expect("a round");
                transitions += round.transitions;
                if round.next.is_none_or(|next| next > self.clock.now()) {
                    break;
                }
            }
        }
        transitions
    }

    /// Lets the longest usual interval pass, and polls.
    pub(crate) async fn poll_later(&self) -> u32 {
        self.pass(hours(24));
        self.poll().await
    }

    /// Runs each endpoint's rounds until nothing is due there.
    pub(crate) async fn deliver(&self) {
        self.note_running().await;
        for endpoint in &self.parts.endpoints {
            loop {
                let round = endpoint.dispatcher.round().await.expect("a round");
                if round.next.is_none_or(|next| next > self.clock.now()) {
                    break;
                }
            }
        }
    }

    /// Lets time pass as the daemon does: polls, delivers and checks every few minutes.
    pub(crate) async fn live(&self, time: Duration) {
        let step = minutes(5);
        let mut left = time;
        while left > Duration::ZERO {
            self.pass(step.min(left));
            left = left.saturating_sub(step);
            self.poll().await;
            self.deliver().await;
            self.watch().await;
            self.deliver().await;
        }
    }

    /// Restarts as after a crash: only the file is left.
    pub(crate) async fn restart(&mut self) {
        self.ran.lock().expect("no panic").clear(); // it was not running since the last note
        self.store.close().await;
        self.store = Store::open(&self.config.database).await.expect("the database");
        let clock: Arc<dyn Clock> = self.clock.clone();
        daemon::recover(&self.config, &self.store, &clock).await.expect("a recovery");
        self.parts = assemble(&self.config, &self.store, &self.clock).await;
    }

    /// Copies the database into one file, as a backup does.
    pub(crate) async fn back_up(&self, name: &str) -> PathBuf {
        let path = self.config.database.with_file_name(name);
        self.execute(&format!("vacuum into '{}'", path.display())).await;
        path
    }

    /// Replaces the database with a copy, and restarts.
    pub(crate) async fn restore(&mut self, copy: &Path) {
        self.store.close().await;
        for file in ["vetwatch.db", "vetwatch.db-wal", "vetwatch.db-shm"] {
            let _ = std::fs::remove_file(self.config.database.with_file_name(file));
        }
        std::fs::copy(copy, &self.config.database).expect("a copy put back");
        self.restart().await;
    }

    /// The rows of a query, with columns joined by ` | `.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        rows(&self.config.database, sql).await
    }

    /// Runs SQL on the database, bypassing vetwatch.
    pub(crate) async fn execute(&self, sql: &str) {
        let mut writer =
            SqliteConnectOptions::new().filename(&self.config.database).connect().await.expect("a database");
        sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut writer).await.expect("a statement");
    }

    /// Webhooks received so far: type, customer, reason.
    pub(crate) fn webhooks(&self) -> Vec<String> {
        self.hook.hooks().iter().map(told).collect()
    }

    /// Subjects of the mails received so far.
    pub(crate) fn mail_subjects(&self) -> Vec<String> {
        self.mail.mails().iter().map(subject).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            nothing_secret_is_in(&self.config.database, &self.sandbox, b"");
            assert_eq!(self.sandbox.unknown_requests(), [], "Partner Center does not know these requests");
            assert_eq!(self.sandbox.violations(), [], "a careful client does not send these requests");
        }
    }
}

/// Asserts that no known secret is in the database files or in `said`.
pub(crate) fn nothing_secret_is_in(database: &Path, sandbox: &Sandbox, said: &[u8]) {
    let mut secrets = sandbox.access_tokens();
    secrets.push(Options::default().client_secret);
    secrets.push(SIGNING_SECRET.trim_start_matches("whsec_").to_owned());
    let mut places = vec![("what was logged or printed", said.to_vec())];
    for file in ["vetwatch.db", "vetwatch.db-wal"] {
        places.extend(std::fs::read(database.with_file_name(file)).ok().map(|bytes| (file, bytes)));
    }
    for (place, bytes) in &places {
        let text = String::from_utf8_lossy(bytes);
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "a secret is in {place}: {secret}");
        }
    }
}

async fn assemble(config: &Config, store: &Store, clock: &Arc<ManualClock>) -> Parts {
    let clock: Arc<dyn Clock> = clock.clone();
    let kept = Kept::new(&*clock, CancellationToken::new());
    daemon::assemble(config, store, &clock, &kept).await.expect("the parts")
}

pub(crate) fn configuration(
    folder: &Path,
    sandbox: &Sandbox,
    smtp: u16,
    hook: &str,
    schedule: &str,
    more: &str,
) -> String {
    let Options { tenant, client_id, .. } = Options::default();
    let (database, api) = (folder.join("vetwatch.db"), sandbox.url());
    format!(
        r#"
[database]
path = "{database}"

[[partner]]
name = "emea"
tenant = "{tenant}"
client_id = "{client_id}"
api_url = "{api}"
login_url = "{api}"
customers = "manual"
requests_per_minute = 60000
[partner.credential]
kind = "client-secret"
client_secret_file = "client-secret"

[schedule]
{schedule}

[smtp.office]
host = "127.0.0.1"
port = {smtp}
tls = "none"

[[endpoint]]
name = "sales-mail"
kind = "email"
smtp = "office"
from = "vetwatch@contoso.example"
to = ["sales@contoso.example"]

[[endpoint]]
name = "crm"
kind = "webhook"
url = "{hook}"
secret_file = "signing-secret"

[[route]]
events = ["vetting.approved", "vetting.denied", "vetting.revoked", "vetting.vanished"]
endpoints = ["sales-mail", "crm"]

[operators]
endpoints = ["sales-mail", "crm"]
{more}
"#,
        database = database.display()
    )
}

/// Marks the baseline as reported: most tests are about something else.
pub(crate) async fn tell_baseline(database: &Path) {
    let mut writer = SqliteConnectOptions::new().filename(database).connect().await.expect("a database");
    let sql =
        "insert into partner (name, watching_since, initial_sync_reported_at) values ('emea', unixepoch() * 1000, 1)
               on conflict (name) do update set initial_sync_reported_at = 1";
    sqlx::query(sql).execute(&mut writer).await.expect("a partner");
    writer.close().await.expect("an end");
}

/// Reads as an analyst's tool does, over a separate connection.
pub(crate) async fn rows(database: &Path, sql: &str) -> Vec<String> {
    try_rows(SqliteConnectOptions::new().filename(database).read_only(true), sql).await.expect("a query")
}

/// Like [`rows`], with options.
pub(crate) async fn try_rows(database: SqliteConnectOptions, sql: &str) -> Result<Vec<String>, sqlx::Error> {
    let mut reader = database.connect().await?;
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut reader).await?;
    let text = |row: &SqliteRow, n: usize| {
        if row.try_get_raw(n).expect("a column").is_null() {
            return "null".to_owned();
        }
        row.try_get::<String, _>(n)
            .or_else(|_| row.try_get::<i64, _>(n).map(|n| n.to_string()))
            .or_else(|_| row.try_get::<f64, _>(n).map(|n| format!("{n:?}")))
            .unwrap_or_else(|_| panic!("{} cannot be shown", row.column(n).name()))
    };
    Ok(rows.iter().map(|row| (0..row.len()).map(|n| text(row, n)).collect::<Vec<_>>().join(" | ")).collect())
}

/// Type, customer and reason of a webhook.
pub(crate) fn told(hook: &WebhookRequest) -> String {
    let json = hook.json();
    let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    format!("{} {} {}", text("/type"), text("/data/customer/name"), text("/data/vetting_reason"))
}

pub(crate) fn subject(mail: &Mail) -> String {
    let text = mail.text();
    let parsed = mail_parser::MessageParser::default().parse(text.as_bytes()).expect("a mail");
    parsed.subject().unwrap_or("(none)").to_owned()
}

/// The plain text of a mail, decoded.
pub(crate) fn plain_text(mail: &Mail) -> String {
    let text = mail.text();
    let mail = mail_parser::MessageParser::default().parse(&text).expect("a mail");
    mail.body_text(0).expect("a plain text").replace("\r\n", "\n")
}
