//! Waiting for a database that another program holds: how long, and what is said of it meanwhile.
//!
//! A wait ends after ten seconds with [`Error::Held`]. A command says so and ends; a loop of the daemon tries again, so
//! it comes round, obeys SIGTERM and feeds the watchdog.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::file::sibling_path;
use super::{Error, Store, WriteTx};
use crate::time::{Clock as _, SystemClock, Timestamp};

/// Nobody waits longer for another program…
const PATIENCE: Duration = Duration::from_secs(10);
/// …nor so long once the process is to end.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(100);
/// SQLite's lock for whoever writes is this byte of the `-shm` file.
const WRITER: u64 = 120;

/// What all that wait in this process know.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// In milliseconds; 0: nobody waits.
    since: AtomicI64,
    ends: AtomicBool,
}

impl Store {
    /// Begins a write.
    ///
    /// # Errors
    /// [`Error::Held`] if another program has held the database for ten seconds, [`Error::Lost`] if the file is not the
    /// one that was opened.
    pub async fn begin(&self) -> Result<WriteTx, Error> {
        if let Some(opened) = &self.opened {
            opened.is_in_its_place()?;
        }
        let began = Instant::now();
        loop {
            let mut beginning = pin!(self.write.begin_with("begin immediate"));
            let tx = loop {
                tokio::select! {
                    biased;
                    tx = &mut beginning => break tx.map_err(Error::from),
                    () = sleep(LOOK) => self.goes_on_waiting(began)?,
                }
            };
            match tx {
                Ok(tx) => {
                    self.waits_no_more();
                    return Ok(WriteTx { tx });
                }
                Err(error) if error.is_busy() => {
                    self.note_that_it_waits();
                    self.goes_on_waiting(began)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Since when this process has been waiting for another program that holds the database.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Timestamp> {
        let since = self.waiting.since.load(Ordering::Relaxed);
        (since != 0).then_some(Timestamp::from_millis(since))
    }

    /// The process is to end: nobody waits for long any more.
    pub fn hurry(&self) {
        self.waiting.ends.store(true, Ordering::Relaxed);
    }

    /// Whether a program, this one included, holds the database right now and lets nobody write. False as well if this
    /// user may not write.
    pub async fn is_held(&self) -> bool {
        // It stays open until the writer is closed: see `leave`.
        let Ok(_reader) = self.read.acquire().await else { return false };
        let writer = SqliteConnectOptions::new().filename(&self.path).create_if_missing(false);
        let Ok(mut writer) = writer.busy_timeout(LOOK).connect().await else { return false };
        let held = match writer.begin_with("begin immediate").await {
            Ok(tx) => tx.rollback().await.is_err(),
            Err(error) => Error::from(error).is_busy(),
        };
        let _ = writer.close().await;
        held
    }

    /// A wait for our own writer is no outage; while another program is waited for, all of us wait for that.
    fn goes_on_waiting(&self, began: Instant) -> Result<(), Error> {
        let patience = if self.waiting.ends.load(Ordering::Relaxed) { LAST_PATIENCE } else { PATIENCE };
        match self.waiting_since() {
            Some(since) if began.elapsed() >= patience => {
                let waited = SystemClock.now().since(since).max(began.elapsed());
                Err(held(&self.path, waited))
            }
            _ => Ok(()),
        }
    }

    fn note_that_it_waits(&self) {
        let now = SystemClock.now().as_millis();
        if self.waiting.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let who = holder(&self.path).unwrap_or_else(|| "another program".to_owned());
            warn!("{who} holds the database; waiting for it");
        }
    }

    fn waits_no_more(&self) {
        if self.waiting.since.swap(0, Ordering::Relaxed) != 0 {
            info!("the database is free again");
        }
    }
}

/// A wait while the database is opened.
pub(super) struct Wait {
    database: PathBuf,
    began: Instant,
}

impl Wait {
    pub(super) fn begin(database: &Path) -> Self {
        Self { database: database.to_owned(), began: Instant::now() }
    }

    /// Waits for a lock on `file`, which others hold for as long as they open the database.
    pub(super) async fn for_turn(&self, file: &File, failed: impl Fn(io::Error) -> Error) -> Result<(), Error> {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => self.goes_on()?,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            sleep(LOOK / 10).await;
        }
    }

    pub(super) fn goes_on(&self) -> Result<(), Error> {
        let waited = self.began.elapsed();
        if waited < PATIENCE { Ok(()) } else { Err(held(&self.database, waited)) }
    }
}

fn held(database: &Path, waited: Duration) -> Error {
    let who = holder(database).unwrap_or_else(|| "another program".to_owned());
    Error::Held { path: database.to_owned(), who, seconds: waited.as_secs() }
}

/// Who holds the writer's lock, as far as the kernel tells: `sqlite3 (process 4711)`.
fn holder(database: &Path) -> Option<String> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let place = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        let (major, minor) = (nix::sys::stat::major(file.dev()), nix::sys::stat::minor(file.dev()));
        Some(format!("{major:02x}:{minor:02x}:{}", file.ino()))
    };
    let (database_at, log_at) = (place(database), place(&sibling_path(database, "-shm")));
    let ours = std::process::id().to_string();
    // `1: POSIX  ADVISORY  WRITE 4711 fd:01:131090 120 120`; who waits for a lock has an arrow before the kind.
    let process = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX", _, "WRITE", process, at, first, last] = fields[..] else { return None };
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().unwrap_or(u64::MAX));
        let writes = Some(at) == log_at.as_deref() && (first..=last).contains(&WRITER);
        (process != ours && (writes || Some(at) == database_at.as_deref())).then_some(process)
    })?;
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(format!("{} (process {process})", name.trim()))
}
