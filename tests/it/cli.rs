//! The binary as people and scripts use it: every command, against a simulated Partner Center.
//!
//! The output of every command is stored, and searched at the end for secrets and terminal control characters.

mod analyst;
mod answers;
mod daemon;
mod fit;
mod import;
mod logs;
mod poll;
mod proof;
mod customers;
mod shells;
mod submit;
mod support_bundle;
mod watching;
mod width;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vetwatch::sandbox::smtp_server::SmtpServer;
use vetwatch::sandbox::webhook_receiver::Receiver;
use vetwatch::sandbox::{CustomerDetails, Options, Sandbox};
use vetwatch::store::Store;
use vetwatch::time::{Clock, SystemClock};

use crate::world::{self, SIGNING_SECRET, rows, tell_baseline, tls};

/// Secrets: the client secret, a piece of the webhook's address, the signing key, and the beginning of every access
/// token.
const SECRETS: [&str; 4] = ["p4rtner-s3cret", "h00k-s3cret", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "eyJ0eXAi"];

/// A name that would colour a terminal, set its title, and reverse its line.
pub(crate) const EVIL: &str = "Evil\u{1b}[31m\u{1b}]0;owned\u{7} \u{202e}School\r\n";

pub(crate) struct Desk {
    pub(crate) sandbox: Sandbox,
    pub(crate) mail: SmtpServer,
    pub(crate) hook: Receiver,
    pub(crate) folder: TempDir,
    printed: Arc<Mutex<String>>,
    customers: u32,
    /// The binary, and the user it runs as, if not the current one.
    binary: PathBuf,
    user: Option<u32>,
}

/// Exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.err, "", "{self:#?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The one object on stderr.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        assert_eq!(self.err.lines().count(), 1, "{self:#?}");
        let object: Value = serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        assert_eq!(object["error"]["exit_code"].as_i64(), self.code.map(i64::from), "{self:#?}");
        object["error"].clone()
    }
}

impl Desk {
    pub(crate) async fn new() -> Self {
        Self::with("in_review = \"100ms\"\nsettled = \"24h\"", |text| text).await
    }

    /// With these lines in `[schedule]`, and a changed configuration.
    pub(crate) async fn with(schedule: &str, change: impl FnOnce(String) -> String) -> Self {
        tls();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let options = Options { client_secret: SECRETS[0].into(), ..Options::default() };
        let sandbox = Sandbox::start(options, clock.clone()).await.unwrap();
        let mail = SmtpServer::start(clock.clone()).await.unwrap();
        let hook = Receiver::start(Some(SIGNING_SECRET), clock).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = hook.url().join(SECRETS[1]).unwrap();
        for (name, text) in [("client-secret", SECRETS[0]), ("signing-secret", SIGNING_SECRET), ("url", url.as_str())] {
            fs::write(folder.path().join(name), text).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let text = world::configuration(folder.path(), &sandbox, mail.address().port(), "HOOK", schedule, "");
        let text = text.replace("url = \"HOOK\"", "url_file = \"url\"");
        fs::write(folder.path().join("vetwatch.toml"), change(text)).unwrap();
        Self { sandbox, mail, hook, folder, printed: Arc::default(), customers: 0, binary: binary(), user: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a customer to Partner Center that vetwatch does not know. Returns its id.
    pub(crate) fn unwatched_customer(&mut self, name: &str) -> String {
        self.customers += 1;
        let id = format!("{:08x}-0000-4000-8000-00000000000a", self.customers);
        let domain = format!("school{}.example", self.customers);
        self.sandbox.add_customer(CustomerDetails::new(&id, name, domain)).unwrap()
    }

    /// Adds a customer to Partner Center and, by hand, to vetwatch.
    pub(crate) async fn customer(&mut self, name: &str) -> String {
        let id = self.unwatched_customer(name);
        let domain = format!("school{}.example", self.customers);
        Store::open(&self.path("vetwatch.db")).await.unwrap().close().await;
        tell_baseline(&self.path("vetwatch.db")).await;
        self.run(&["customers", "add", &id, "--name", name, "--domain", &domain]).await.exits(0);
        id
    }

    /// `vetwatch` with these arguments, ready to start.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("VETWATCH_CONFIG", self.path("vetwatch.toml")).env("CREDENTIALS_DIRECTORY", self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs it to its end; stores its output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        self.run_command(self.command(arguments), arguments).await
    }

    /// On a screen of so many columns.
    pub(crate) async fn run_at(&self, columns: usize, arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        command.env("COLUMNS", columns.to_string());
        self.run_command(command, arguments).await
    }

    async fn run_command(&self, mut command: Command, arguments: &[&str]) -> Said {
        let printed = self.printed.clone();
        let child = command.spawn().unwrap();
        let id = child.id();
        // Off the runtime's thread, so that Partner Center can respond.
        let end = tokio::task::spawn_blocking(move || child.wait_with_output());
        let Ok(output) = tokio::time::timeout(Duration::from_mins(1), end).await else {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
            panic!("{arguments:?} does not end");
        };
        let output = output.unwrap().unwrap();
        let said = Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        printed.lock().unwrap().extend([said.out.as_str(), said.err.as_str()]);
        assert!(!said.err.contains("panicked"), "{arguments:?}: {said:#?}");
        said
    }

    /// Runs it with `--json`; it must succeed.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).await.exits(0).json()
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        rows(&self.path("vetwatch.db"), sql).await
    }

    /// Waits until the query returns these rows.
    #[track_caller]
    pub(crate) fn until<'a>(&'a self, sql: &'a str, wanted: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                let seen = self.rows(sql).await;
                if seen == wanted {
                    return;
                }
                assert!(Instant::now() < deadline, "{caller}: wanted {wanted:?}, last seen {seen:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Asserts that the keys of each object are the view's columns and these.
    pub(crate) async fn assert_columns(&self, objects: &Value, view: &str, more: &[&str]) {
        let columns = self.rows(&format!("select name from pragma_table_info('{view}')")).await;
        let wanted: BTreeSet<&str> = columns.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let objects = objects.as_array().unwrap();
        assert!(!objects.is_empty(), "nothing to compare with {view}");
        for object in objects {
            let keys: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, wanted, "{view}");
        }
    }

    /// Runs later commands as a user who may read the database and the configuration, and nothing else.
    pub(crate) fn as_analyst(&mut self) {
        let folder = self.folder.path();
        // `nobody` may have no access to a binary in a home directory.
        // Not copied by this process: a child that another test forks meanwhile would keep the copy open for writing.
        let copied = Command::new("cp").args([&self.binary, &self.path("vetwatch")]).status().unwrap();
        assert!(copied.success());
        self.binary = self.path("vetwatch");
        let me = fs::metadata(folder).unwrap();
        let root = std::os::unix::fs::MetadataExt::uid(&me) == 0;
        for (name, mode) in [
            ("vetwatch", 0o555),
            ("vetwatch.toml", 0o444),
            ("vetwatch.db", 0o640),
            ("vetwatch.db-wal", 0o640),
            ("vetwatch.db-shm", 0o640),
            ("vetwatch.db.lock", 0o640),
            ("client-secret", 0o600),
            ("signing-secret", 0o600),
            ("url", 0o600),
        ] {
            let path = self.path(name);
            if !path.exists() {
                continue;
            }
            let secret = mode == 0o600;
            if root && !secret {
                chown(&path, None, Some(NOBODY)).unwrap();
            }
            // The owner of the files is not an analyst, but may do no more than one.
            let mode = if root { mode } else { mode & if secret { 0 } else { 0o555 } };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        if root {
            chown(folder, None, Some(NOBODY)).unwrap();
            self.user = Some(NOBODY);
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(if root { 0o750 } else { 0o550 })).unwrap();
    }

    /// Asserts that secrets are neither in the database nor in the output.
    #[track_caller]
    fn shows_nowhere(&self, secret: &str) {
        let printed = self.printed.lock().unwrap();
        assert!(!printed.contains(secret), "{secret} was printed:\n{printed}");
        for file in ["vetwatch.db", "vetwatch.db-wal"] {
            let bytes = fs::read(self.path(file)).unwrap_or_default();
            assert!(!holds(&bytes, secret), "{secret} stands in {file}");
        }
    }

    /// All output so far, and anything else to search for secrets.
    pub(crate) fn keep(&self, text: &str) {
        *self.printed.lock().unwrap() += text;
    }
}

const NOBODY: u32 = 65534;

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o700));
        if std::thread::panicking() {
            return;
        }
        for secret in SECRETS {
            self.shows_nowhere(secret);
        }
        let printed = self.printed.lock().unwrap();
        let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t') || matches!(c, '\u{202a}'..='\u{202e}');
        assert!(!printed.contains(acts), "something that acts on a terminal was printed:\n{printed:?}");
        assert_eq!(self.sandbox.violations(), [], "a careful client does not send these requests");
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The shipped binary, or the one just built.
fn binary() -> PathBuf {
    let shipped = std::env::var_os("VETWATCH_BIN").map(PathBuf::from);
    shipped.unwrap_or_else(|| env!("CARGO_BIN_EXE_vetwatch").into())
}
