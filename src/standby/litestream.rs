//! Litestream, which carries the data: a child process that copies each change of the database to a replica. The replica's
//! path ends in the leader's epoch, so that a leader that was deposed and does not know it writes where nobody reads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use url::Url;

use crate::redact;
use crate::store::{self, sibling_path};
use crate::text::error_chain;
use crate::time::Timestamp;

/// A replica that has not taken the newest changes for this long counts as failing, and no message waits for it longer.
pub const SYNC_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new leader waits for the first copy of the database before it begins without.
const FIRST_SYNC_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a replica may take to be restored.
const RESTORE_TIMEOUT: Duration = Duration::from_mins(30);
/// How long a look at a replica may take.
const TRY_TIMEOUT: Duration = Duration::from_mins(1);
/// For what answers on this machine.
const SOON: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// How to run Litestream, and where the replicas are.
#[derive(Clone)]
pub struct LitestreamSettings {
    pub program: PathBuf,
    /// May hold a password. Each epoch is a directory below it.
    pub url: Url,
    /// The private key, for SFTP.
    pub key_file: Option<PathBuf>,
}

impl fmt::Debug for LitestreamSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LitestreamSettings")
            .field("program", &self.program)
            .field("url", &self.place())
            .finish_non_exhaustive()
    }
}

impl LitestreamSettings {
    /// The replica of an epoch: `sftp://backup.example/vetwatch/epoch-7`.
    #[must_use]
    pub fn replica(&self, epoch: u64) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/epoch-{epoch}", self.url.path().trim_end_matches('/')));
        url
    }

    /// Where the replicas are, for people: without login and query.
    #[must_use]
    pub fn place(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{}://{host}{}", self.url.scheme(), self.url.path())
    }

    /// Litestream reads this from its standard input, and what may be secret from its environment.
    fn configuration(&self) -> String {
        let key = if self.key_file.is_some() { "      key-path: \"${VETWATCH_KEY_FILE}\"\n" } else { "" };
        format!(
            "socket:\n  enabled: true\n  path: \"${{VETWATCH_SOCKET}}\"\n  permissions: 0600\ndbs:\n  - path: \"${{VETWATCH_DATABASE}}\"\n    replica:\n      url: \"${{VETWATCH_REPLICA}}\"\n{key}"
        )
    }

    async fn start(&self, database: &Path, epoch: u64, arguments: &[&str]) -> Result<Child, String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["-config", "/dev/stdin"]);
        if arguments.first() == Some(&"restore") {
            command.arg("-o").arg(restored_path(database)).arg(database);
        }
        command.env("VETWATCH_SOCKET", socket(database)).env("VETWATCH_DATABASE", database);
        command.env("VETWATCH_REPLICA", self.replica(epoch).as_str());
        command.envs(self.key_file.iter().map(|file| ("VETWATCH_KEY_FILE", file)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child =
            command.spawn().map_err(|error| format!("{} cannot be started: {error}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            let written = stdin.write_all(self.configuration().as_bytes()).await;
            written.map_err(|error| format!("{} ended at once: {error}", self.program.display()))?;
        }
        Ok(child)
    }

    /// The version of the program.
    ///
    /// # Errors
    /// If it cannot be started, or is not Litestream 0.5 or later, whose control socket this needs.
    pub async fn version(&self) -> Result<String, String> {
        let output = Command::new(&self.program).arg("version").stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(SOON, output).await.map_err(|_| "it does not end".to_owned())?;
        let output = output.map_err(|error| format!("{} cannot be started: {error}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let mut numbers = said.trim_start_matches('v').split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        match (numbers.next(), numbers.next()) {
            (Some(0), Some(5..)) | (Some(1..), _) => Ok(said),
            _ => Err(format!("it says that it is version {said:?}; 0.5 or later is needed")),
        }
    }

    /// Restores the newest state of a replica beside the database, and returns the file.
    ///
    /// # Errors
    /// Why there is none: Litestream's own words.
    pub async fn restore(&self, database: &Path, epoch: u64) -> Result<PathBuf, String> {
        let restored = restored_path(database);
        forget(&restored);
        self.run(database, epoch, &["restore"], RESTORE_TIMEOUT).await.map(|()| restored)
    }

    /// Looks whether a replica can be reached, and has what a restore needs.
    ///
    /// # Errors
    /// Why not: Litestream's own words.
    pub async fn try_restore(&self, database: &Path, epoch: u64) -> Result<(), String> {
        self.run(database, epoch, &["restore", "-dry-run"], TRY_TIMEOUT).await
    }

    async fn run(&self, database: &Path, epoch: u64, arguments: &[&str], limit: Duration) -> Result<(), String> {
        let child = self.start(database, epoch, arguments).await?;
        let ended = timeout(limit, child.wait_with_output()).await;
        let takes_longer = |_| format!("it takes longer than {}", humantime::format_duration(limit));
        let output = ended.map_err(takes_longer)?.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().last().unwrap_or_default().trim_start_matches("Error: ");
        Err(redact::words(said))
    }
}

/// Where a replica is restored to, before it is checked and becomes the database.
fn restored_path(database: &Path) -> PathBuf {
    sibling_path(database, ".replica")
}

/// Removes what an earlier restore left; all of it, because a log of another file would damage the next.
pub fn forget(restored: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal", "-txid", ".tmp"] {
        let _ = std::fs::remove_file(sibling_path(restored, suffix));
    }
}

/// Removes what Litestream knows of a database.
pub(super) fn forget_path(database: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(store::litestream_directory(database)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn socket(database: &Path) -> PathBuf {
    sibling_path(database, ".litestream.sock")
}

/// Litestream, replicating the database of the leader.
pub struct Replica {
    settings: LitestreamSettings,
    database: PathBuf,
    epoch: u64,
    client: Client,
    child: tokio::sync::Mutex<Option<Child>>,
    /// One request at a time: those that arrive meanwhile share the next one.
    syncing: tokio::sync::Mutex<u64>,
    wanted: AtomicU64,
    state: Mutex<State>,
}

/// What is known of the replica.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// When it last had everything.
    pub synced_at: Option<Timestamp>,
    /// Since when it takes nothing, and why.
    pub failing: Option<(Timestamp, String)>,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("settings", &self.settings).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Replica {
    /// Starts to replicate, and waits a little until the whole database is in the replica.
    ///
    /// # Errors
    /// If Litestream cannot be started.
    pub async fn start(
        settings: &LitestreamSettings,
        database: &Path,
        epoch: u64,
        now: Timestamp,
    ) -> Result<Self, String> {
        let replica = Self::new(settings, database, epoch)?;
        end_earlier(&replica.client).await;
        // What Litestream knows of the path before: with it, it fails on another one.
        forget_path(database).map_err(|error| error.to_string())?;
        replica.keep_running().await?;
        let end = Instant::now() + FIRST_SYNC_TIMEOUT;
        let why = loop {
            match replica.sync_within(FIRST_SYNC_TIMEOUT).await {
                Ok(()) => break Ok(()),
                Err(why) if Instant::now() >= end => break Err(why),
                Err(_) => sleep(LOOK).await,
            }
            replica.keep_running().await?;
        };
        replica.note(why, now);
        Ok(replica)
    }

    /// A replica that nothing is copied to yet.
    pub(super) fn new(settings: &LitestreamSettings, database: &Path, epoch: u64) -> Result<Self, String> {
        let client = Client::builder().unix_socket(socket(database)).no_proxy();
        Ok(Self {
            settings: settings.clone(),
            database: database.to_owned(),
            epoch,
            client: client.build().map_err(|error| error_chain(&error))?,
            child: tokio::sync::Mutex::default(),
            syncing: tokio::sync::Mutex::default(),
            wanted: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Starts Litestream if it does not run.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn keep_running(&self) -> Result<(), String> {
        let mut running = self.child.lock().await;
        if let Some(child) = running.as_mut() {
            match child.try_wait() {
                Ok(None) => return Ok(()),
                Ok(Some(status)) => warn!("litestream ended ({status}), and is started again"),
                Err(error) => warn!("litestream is not to be seen ({error}), and is started again"),
            }
        }
        let mut child = self.settings.start(&self.database, self.epoch, &["replicate", "-log-level", "warn"]).await?;
        child.stdout.take().map(|said| tokio::spawn(log(said)));
        child.stderr.take().map(|said| tokio::spawn(log(said)));
        *running = Some(child);
        Ok(())
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the replica holds everything that is committed now, for at most [`SYNC_TIMEOUT`]. False if it does not.
    pub async fn sync(&self, now: Timestamp) -> bool {
        let mine = self.wanted.fetch_add(1, SeqCst) + 1;
        let synced = timeout(SYNC_TIMEOUT, async {
            let mut done = self.syncing.lock().await;
            if *done >= mine {
                return Ok(());
            }
            let covered = self.wanted.load(SeqCst);
            let synced = self.sync_within(SYNC_TIMEOUT).await;
            if synced.is_ok() {
                *done = covered;
            }
            synced
        });
        let synced = synced.await.unwrap_or_else(|_| Err("no answer within 5 s".to_owned()));
        self.note(synced, now)
    }

    fn note(&self, synced: Result<(), String>, now: Timestamp) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match synced {
            Ok(()) => {
                if let Some((since, _)) = state.failing.take() {
                    info!("the replica of epoch {} has everything again; it did not since {since}", self.epoch);
                }
                state.synced_at = Some(now);
                true
            }
            Err(why) => {
                if state.failing.is_none() {
                    warn!("the replica of epoch {} does not take what changes: {why}", self.epoch);
                }
                let since = state.failing.as_ref().map_or(now, |(since, _)| *since);
                state.failing = Some((since, why));
                false
            }
        }
    }

    async fn sync_within(&self, limit: Duration) -> Result<(), String> {
        let end = Instant::now() + limit;
        let body = json!({ "path": self.database, "wait": true, "timeout": limit.as_secs() });
        loop {
            let request =
                self.client.post("http://litestream/sync").json(&body).timeout(limit + Duration::from_secs(1));
            let answer = request.send().await.map_err(|error| {
                if error.is_timeout() {
                    format!("no answer within {}", humantime::format_duration(limit))
                } else {
                    format!("litestream's socket: {}", error_chain(&error.without_url()))
                }
            })?;
            let is_done = answer.status().is_success();
            let said: Value = answer.json().await.unwrap_or_default();
            let (here, there) = (said.get("txid"), said.get("replicated_txid"));
            if is_done && here.is_some() && here == there {
                return Ok(());
            }
            // Something was committed while it replicated.
            if is_done && here.is_some() && Instant::now() < end {
                continue;
            }
            let why = said.get("error").and_then(Value::as_str).unwrap_or("litestream says that it is behind");
            return Err(redact::words(why));
        }
    }

    /// Ends Litestream.
    pub async fn end(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            let _ = child.kill().await;
        }
        // From now on checkpoints are vetwatch's own.
        let _ = forget_path(&self.database);
        let _ = std::fs::remove_file(socket(&self.database));
    }
}

/// Ends a Litestream that a killed vetwatch left on this database: two of them would spoil each other's notes.
async fn end_earlier(client: &Client) {
    let ask = || async {
        let answer = client.get("http://litestream/info").timeout(SOON).send().await.ok()?;
        let said: Value = answer.json().await.ok()?;
        i32::try_from(said.get("pid")?.as_i64()?).ok()
    };
    let end = Instant::now() + SOON;
    while let Some(pid) = ask().await {
        warn!("ends a litestream that an earlier vetwatch started (process {pid})");
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        if Instant::now() >= end {
            return;
        }
        sleep(LOOK).await;
    }
}

/// Litestream's own words, in this program's log.
async fn log(said: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(said).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        warn!("litestream: {}", redact::words(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> LitestreamSettings {
        LitestreamSettings { program: "litestream".into(), url: url.parse().unwrap(), key_file: None }
    }

    #[test]
    fn each_epoch_has_a_path_of_its_own_before_the_query_and_no_login_is_shown() {
        let sftp = settings("sftp://vetwatch:s3cret-word@backup.example:2222/srv/vetwatch/");
        assert_eq!(sftp.replica(7).as_str(), "sftp://vetwatch:s3cret-word@backup.example:2222/srv/vetwatch/epoch-7");
        assert_eq!(sftp.place(), "sftp://backup.example/srv/vetwatch/");
        assert!(!format!("{sftp:?}").contains("s3cret-word"));
        let s3 = settings("s3://bucket/vetwatch?endpoint=minio.example&region=eu");
        assert_eq!(s3.replica(12).as_str(), "s3://bucket/vetwatch/epoch-12?endpoint=minio.example&region=eu");
        assert_eq!(settings("file:///srv/replica").replica(3).as_str(), "file:///srv/replica/epoch-3");
    }
}
