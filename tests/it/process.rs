//! The shipped program as a child process. Partner Center, the mail server and the receiver run in the test's process,
//! so that they can stop or kill the daemon at a chosen instant.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use vetwatch::sandbox::smtp_server::SmtpServer;
use vetwatch::sandbox::webhook_receiver::Receiver;
use vetwatch::sandbox::{CustomerDetails, Options, Sandbox};
use vetwatch::store::Store;
use vetwatch::store::customers::NewCustomer;
use vetwatch::time::{Clock, SystemClock, Timestamp};

use crate::world::{SIGNING_SECRET, configuration, nothing_secret_is_in, rows, tell_baseline, tls};

/// Timeout for anything immediate. Only a failing test waits this long.
pub(crate) const SOON: Duration = Duration::from_mins(1);
/// Maximum log lines in the message of a failed test.
const SHOWN: usize = 80;

/// Interval for conditions that can only be checked repeatedly.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// Waits until `look` succeeds; a timeout's message has `what` and its last error.
pub(crate) async fn eventually<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + within;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < end, "{what}: not within {within:?}; seen last: {seen}"),
        }
        sleep(LOOK).await;
    }
}

/// The daemon's peers, and its folder.
pub(crate) struct DaemonHarness {
    pub(crate) sandbox: Sandbox,
    pub(crate) mail: SmtpServer,
    pub(crate) hook: Receiver,
    pub(crate) database: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) folder: TempDir,
    /// Of every command, beside `$CREDENTIALS_DIRECTORY`.
    pub(crate) environment: Vec<(&'static str, PathBuf)>,
    log: Log,
    /// Output of the commands so far.
    said: Mutex<Vec<u8>>,
}

impl DaemonHarness {
    /// A harness with additions to `[schedule]` and at the end of its configuration.
    pub(crate) async fn new(schedule: &str, more: &str) -> Self {
        Self::with(TempDir::new().expect("a folder"), None, schedule, more).await
    }

    /// Like [`Self::new`], with the database in a separate folder.
    pub(crate) async fn with(folder: TempDir, database: Option<&Path>, schedule: &str, more: &str) -> Self {
        Self::at(Arc::new(SystemClock), folder, database, schedule, more).await
    }

    /// …where the peers have this clock.
    pub(crate) async fn at(
        clock: Arc<dyn Clock>,
        folder: TempDir,
        database: Option<&Path>,
        schedule: &str,
        more: &str,
    ) -> Self {
        tls();
        let sandbox = Sandbox::start(Options::default(), clock.clone()).await.expect("a sandbox");
        let mail = SmtpServer::start(clock.clone()).await.expect("a mail server");
        let hook = Receiver::start(Some(SIGNING_SECRET), clock).await.expect("a receiver");
        std::fs::write(folder.path().join("client-secret"), Options::default().client_secret).expect("a secret");
        std::fs::write(folder.path().join("signing-secret"), SIGNING_SECRET).expect("a secret");
        let home = database.unwrap_or(folder.path());
        let (port, url) = (mail.address().port(), hook.url());
        // No grouping: each verdict has its own message.
        let text = configuration(home, &sandbox, port, url.as_str(), schedule, more).replacen(
            "\n\n[operators]",
            "\ngroup_wait = \"0s\"\n\n[operators]",
            1,
        );
        let (config, database) = (folder.path().join("vetwatch.toml"), home.join("vetwatch.db"));
        std::fs::write(&config, text).expect("a configuration");
        Self {
            sandbox,
            mail,
            hook,
            database,
            config,
            folder,
            environment: Vec::new(),
            log: Log::default(),
            said: Mutex::default(),
        }
    }

    /// Another credential than the secret; ten polls a second per customer.
    pub(crate) async fn with_credential(credential: &str) -> Self {
        let town = Self::new("in_review = \"100ms\"\nsettled = \"100ms\"", "").await;
        town.change("kind = \"client-secret\"\nclient_secret_file = \"client-secret\"", credential);
        town
    }

    /// Replaces a text in the configuration.
    pub(crate) fn change(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(&self.config).expect("a configuration");
        assert!(text.contains(old), "no {old} in {text}");
        std::fs::write(&self.config, text.replace(old, new)).expect("a configuration");
    }

    /// Stores a refresh token where `auth` does.
    pub(crate) fn keep_sign_in(&self) {
        let tokens = self.folder.path().join("tokens");
        std::fs::create_dir_all(&tokens).expect("a directory");
        let text = serde_json::json!({ "refresh_token": self.sandbox.sign_in(), "obtained_at": now() });
        std::fs::write(tokens.join("emea"), text.to_string()).expect("a file");
    }

    /// Starts a command without waiting for it.
    pub(crate) fn start_command(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program")
    }

    /// Starts a command whose output goes into a file.
    pub(crate) fn start_command_into(&self, arguments: &[&str], file: std::fs::File) -> Child {
        let mut command = self.command(arguments);
        command.stdout(file).stderr(Stdio::piped()).spawn().expect("the program")
    }

    /// Adds customers with a review that was polled; see [`Self::add_customers`].
    pub(crate) async fn in_review(&self, count: usize) -> Vec<String> {
        let ids = self.add_customers(count).await;
        for id in &ids {
            self.sandbox.submit(id).expect("a customer");
        }
        self.tell(&["poll"]);
        ids
    }

    /// Adds customers to Partner Center and to vetwatch. Returns their ids. No daemon may be running.
    pub(crate) async fn add_customers(&self, count: usize) -> Vec<String> {
        let store = Store::open(&self.database).await.expect("a database");
        let mut tx = store.begin().await.expect("a transaction");
        let mut ids = Vec::new();
        for n in 1..=count {
            let (id, name) = (format!("{n:08x}-0000-4000-8000-000000000000"), format!("School {n:04}"));
            let domain = format!("school-{n:04}.example");
            self.sandbox.add_customer(CustomerDetails::new(&id, &name, &domain)).expect("a new customer");
            let new = NewCustomer {
                partner: "emea",
                id: &id,
                name: Some(&name),
                domain: Some(&domain),
                tags: None,
                contact: None,
            };
            tx.add_customer(new, now()).await.expect("a customer");
            ids.push(id);
        }
        tx.commit().await.expect("a commit");
        store.close().await;
        tell_baseline(&self.database).await;
        ids
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let binary = std::env::var_os("VETWATCH_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_vetwatch").into());
        let mut command = Command::new(binary);
        command.arg("--config").arg(&self.config).args(arguments).env_clear().stdin(Stdio::null());
        command
            .env("CREDENTIALS_DIRECTORY", self.folder.path())
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.note(self.command(arguments).output().expect("the program"))
    }

    /// Stores a command's output for the check at the end.
    fn note(&self, output: Output) -> Output {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend([output.stdout.as_slice(), &output.stderr].concat());
        drop(said);
        output
    }

    /// Like [`Self::run`], without blocking the peers.
    pub(crate) async fn run_beside(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let running = tokio::task::spawn_blocking(move || command.output().expect("the program"));
        let output = timeout(SOON, running).await.unwrap_or_else(|_| panic!("{arguments:?} does not end"));
        self.note(output.expect("a thread"))
    }

    /// Runs a command that must succeed; returns its `--json` output.
    pub(crate) fn tell(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Starts the daemon. It is not ready yet.
    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied());
        self.spawn(command)
    }

    /// Starts the daemon with a limit of open files, `soft:hard`.
    pub(crate) fn start_limited(&self, files: &str) -> Daemon {
        let plain = self.command(&["run"]);
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}")).arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
        command.env("CREDENTIALS_DIRECTORY", self.folder.path());
        self.spawn(command)
    }

    /// Like [`Self::start_limited`]; waits until it is ready.
    pub(crate) async fn limited(&self, files: &str) -> Daemon {
        let mut daemon = self.start_limited(files);
        daemon.ready().await;
        daemon
    }

    fn spawn(&self, mut command: Command) -> Daemon {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let started_at = now();
        let mut child = command.spawn().expect("the daemon");
        self.log.add(format!("--- started at {started_at} as {}", child.id()));
        let ready = watch::Sender::new(false);
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (log, tell) = (self.log.clone(), ready.clone());
        // Ends with the child.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line.ends_with(concat!("vetwatch ", env!("CARGO_PKG_VERSION"), " runs")) {
                    tell.send_replace(true);
                }
                log.add(line);
            }
        });
        Daemon { child, started_at, ready: ready.subscribe(), log: self.log.clone() }
    }

    /// Like [`Self::start_with`], logging to a file. Readiness cannot be awaited.
    pub(crate) fn start_into(&self, log: &Path, environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.command(&["run"]);
        let file = std::fs::File::create(log).expect("a file");
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(file);
        let started_at = now();
        let child = command.spawn().expect("the daemon");
        Daemon { child, started_at, ready: watch::Sender::new(false).subscribe(), log: self.log.clone() }
    }

    /// Like [`Self::start_with`], with an unread log; returns the read end of the pipe.
    pub(crate) fn start_unread(&self, environment: &[(&str, &str)]) -> (Daemon, ChildStderr) {
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let started_at = now();
        let mut child = command.spawn().expect("the daemon");
        let unread = child.stderr.take().expect("a pipe");
        (Daemon { child, started_at, ready: watch::Sender::new(false).subscribe(), log: self.log.clone() }, unread)
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) async fn running(&self) -> Daemon {
        let mut daemon = self.start();
        daemon.ready().await;
        daemon
    }

    /// The newest lines logged by the daemons.
    pub(crate) fn log(&self) -> String {
        self.log.shown()
    }

    /// All that the daemons logged.
    pub(crate) fn journal(&self) -> String {
        self.log.all()
    }

    /// Waits for a line of the log.
    pub(crate) async fn logged(&self, text: &str) {
        eventually(text, SOON, async || {
            let log = self.log.shown();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        rows(&self.database, sql).await
    }

    /// Waits until a query returns exactly these rows.
    pub(crate) async fn until(&self, sql: &str, expected: &[&str]) {
        eventually(sql, SOON, async || {
            let seen = self.rows(sql).await;
            if seen == expected { Ok(()) } else { Err(format!("{seen:?}, not {expected:?}")) }
        })
        .await;
    }

    /// Waits until each endpoint has this many delivered messages, and none pending.
    pub(crate) async fn delivered(&self, each: usize) {
        let each = each.to_string();
        let expected = [format!("crm | delivered | {each}"), format!("sales-mail | delivered | {each}")];
        self.until(
            "select endpoint, state, count(*) from v_deliveries group by 1, 2 order by 1, 2",
            &expected.each_ref().map(String::as_str),
        )
        .await;
    }
}

impl Drop for DaemonHarness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log, its last {SHOWN} lines:\n{}", self.log.shown());
            // For those that keep the folder.
            let _ = std::fs::write(self.folder.path().join("journal.log"), self.log.all());
            return;
        }
        assert_eq!(self.sandbox.unknown_requests(), [], "Partner Center does not know these requests");
        assert_eq!(self.sandbox.violations(), [], "a careful client does not send these requests");
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        said.extend(self.log.all().into_bytes());
        nothing_secret_is_in(&self.database, &self.sandbox, &said);
    }
}

/// A command's output, for assertion messages.
pub(crate) fn complaint(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{}; stdout: {}; stderr: {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// The log of all daemons.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// The newest lines.
    fn shown(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    fn all(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

/// A daemon. It is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    /// Before it was started.
    pub(crate) started_at: Timestamp,
    ready: watch::Receiver<bool>,
    log: Log,
}

impl Daemon {
    pub(crate) async fn ready(&mut self) {
        let ready = timeout(SOON, self.ready.wait_for(|ready| *ready)).await;
        assert!(matches!(ready, Ok(Ok(_))), "the daemon does not say that it runs:\n{}", self.log.shown());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: it does nothing from here on.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill");
        assert!(told.success(), "{signal}: {told}");
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the daemon ends", SOON, async || {
            self.child.try_wait().expect("a child").ok_or_else(|| self.log.shown())
        })
        .await
    }

    /// SIGTERM, and a successful exit.
    pub(crate) async fn stop(mut self) {
        self.terminate();
        let status = self.ended().await;
        assert!(status.success(), "{status}:\n{}", self.log.shown());
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
