//! Waiting for a database that another program holds, with a limit and a log message.
//!
//! A wait ends after ten seconds with [`Error::Held`]. A command reports it and exits; a worker loop retries, so that
//! it still obeys SIGTERM and feeds the watchdog.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::file::{litestream_directory, sibling_path};
use super::{Error, Store, WriteTx};
use crate::time::{Clock as _, SystemClock, Timestamp};

/// The longest wait for another program…
const MAX_WAIT: Duration = Duration::from_secs(10);
/// …and while the process is stopping.
const MAX_WAIT_STOPPING: Duration = Duration::from_secs(2);
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Reads of the list of locks before its holder counts as unknown.
const LOOKS: u32 = 5;
/// The offset of SQLite's write lock in the `-shm` file.
const WRITE_LOCK_BYTE: u64 = 120;
/// Those of its read locks that keep the log from being taken over or begun anew.
const READ_LOCK_BYTES: RangeInclusive<u64> = 123..=127;
/// What SQLite cuts the log down to when it begins anew: `journal_size_limit`.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// Shared by all waits of this process.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// In milliseconds; 0 if there is no wait.
    since: AtomicI64,
    stopping: AtomicBool,
}

impl Store {
    /// Begins a write transaction.
    ///
    /// # Errors
    /// [`Error::Held`] if another program has held the database for ten seconds, [`Error::Lost`] if the file is not the
    /// one that was opened.
    pub async fn begin(&self) -> Result<WriteTx, Error> {
        if let Some(opened) = &self.opened {
            opened.check_path()?;
        }
        let began = Instant::now();
        loop {
            let mut beginning = pin!(self.write.begin_with("begin immediate"));
            let tx = loop {
                tokio::select! {
                    biased;
                    tx = &mut beginning => break tx.map_err(Error::from),
                    () = sleep(CHECK_INTERVAL) => self.check_wait(began)?,
                }
            };
            match tx {
                Ok(tx) => {
                    self.end_wait();
                    return Ok(WriteTx { tx });
                }
                Err(error) if error.is_busy() => {
                    self.start_wait();
                    self.check_wait(began)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Since when this process has waited for another program that holds the database.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Timestamp> {
        let since = self.waiting.since.load(Ordering::Relaxed);
        (since != 0).then_some(Timestamp::from_millis(since))
    }

    /// Shortens all waits, because the process is stopping.
    pub fn hurry(&self) {
        self.waiting.stopping.store(true, Ordering::Relaxed);
    }

    /// True if this process waits for another program, or one of another name holds the write lock just now. Takes no lock,
    /// so it disturbs no writer.
    #[must_use]
    pub fn is_held_by_another(&self) -> bool {
        let another = || lock_holder(&self.path).is_some_and(|program| !program.starts_with("vetwatch "));
        self.waiting_since().is_some() || another()
    }

    /// True if any program, this one included, holds the write lock. Tries to take it. False too if this user may not write.
    pub async fn is_held(&self) -> bool {
        // Kept open until the writer is closed: see `close_connections`.
        let Ok(_reader) = self.read.acquire().await else { return false };
        let writer = SqliteConnectOptions::new().filename(&self.path).create_if_missing(false);
        let Ok(mut writer) = writer.busy_timeout(CHECK_INTERVAL).connect().await else { return false };
        let held = match writer.begin_with("begin immediate").await {
            Ok(tx) => tx.rollback().await.is_err(),
            Err(error) => Error::from(error).is_busy(),
        };
        let _ = writer.close().await;
        held
    }

    /// Waiting for our own writer is no outage, unless that waits for another program.
    fn check_wait(&self, began: Instant) -> Result<(), Error> {
        let limit = if self.waiting.stopping.load(Ordering::Relaxed) { MAX_WAIT_STOPPING } else { MAX_WAIT };
        match self.waiting_since() {
            Some(since) if began.elapsed() >= limit => {
                let waited = SystemClock.now().since(since).max(began.elapsed());
                Err(held(&self.path, waited))
            }
            _ => Ok(()),
        }
    }

    fn start_wait(&self) {
        let now = SystemClock.now().as_millis();
        if self.waiting.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let program = lock_holder(&self.path).unwrap_or_else(|| "another program".to_owned());
            warn!("{program} holds the database; waiting for it");
        }
    }

    fn end_wait(&self) {
        if self.waiting.since.swap(0, Ordering::Relaxed) != 0 {
            info!("the database is free again");
        }
    }
}

/// A wait while opening the database.
pub(super) struct Wait {
    database: PathBuf,
    began: Instant,
}

impl Wait {
    pub(super) fn begin(database: &Path) -> Self {
        Self { database: database.to_owned(), began: Instant::now() }
    }

    /// Waits for a lock on `file`, which every process holds while it opens the database.
    pub(super) async fn lock(&self, file: &File, failed: impl Fn(io::Error) -> Error) -> Result<(), Error> {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => self.check()?,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            sleep(CHECK_INTERVAL / 10).await;
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let waited = self.began.elapsed();
        if waited < MAX_WAIT { Ok(()) } else { Err(held(&self.database, waited)) }
    }
}

fn held(database: &Path, waited: Duration) -> Error {
    let program = lock_holder(database).unwrap_or_else(|| "another program".to_owned());
    Error::Held { path: database.to_owned(), program, seconds: waited.as_secs() }
}

/// A log that is larger than SQLite lets it grow by itself. It cannot be taken over into the file while a program reads
/// what the file held before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeLog {
    pub path: PathBuf,
    pub bytes: u64,
    /// A program that reads now: `python3 (process 4711)`.
    pub reader: Option<String>,
    /// What says that Litestream makes the checkpoints.
    pub litestream: Option<PathBuf>,
}

impl fmt::Display for LargeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, megabytes) = (self.path.display(), self.bytes / 1_000_000);
        write!(f, "{path} has grown to {megabytes} MB, because ")?;
        if let Some(directory) = &self.litestream {
            return write!(
                f,
                "Litestream, which the checkpoints are left to, has made none: see that it runs, or delete {} if it is not used \
                 any more",
                directory.display()
            );
        }
        match &self.reader {
            Some(program) => {
                write!(f, "{program} has not ended what it reads in the database: end it, or its transaction")
            }
            None => f.write_str("a program has read the database for long, or very much was written at once"),
        }
    }
}

impl Store {
    /// The sizes of the database's file and of its log.
    #[must_use]
    pub fn bytes(database: &Path) -> [u64; 2] {
        [database.to_owned(), sibling_path(database, "-wal")]
            .map(|path| std::fs::metadata(path).map_or(0, |it| it.len()))
    }

    /// The log, if it has grown beyond 64 MB.
    #[must_use]
    pub fn large_log(&self) -> Option<LargeLog> {
        let path = sibling_path(&self.path, "-wal");
        let bytes = std::fs::metadata(&path).ok()?.len();
        let is_large = bytes > MAX_LOG_BYTES;
        let directory = litestream_directory(&self.path);
        let litestream = directory.exists().then_some(directory);
        is_large.then(|| LargeLog { path, bytes, reader: reader(&self.path), litestream })
    }
}

/// The process that holds the write lock, from `/proc/locks`: `sqlite3 (process 4711)`.
fn lock_holder(database: &Path) -> Option<String> {
    // The kernel hands the list out a page at a time, so a lock that ends meanwhile can hide another one.
    (0..LOOKS).find_map(|_| {
        programs_with("WRITE", WRITE_LOCK_BYTE..=WRITE_LOCK_BYTE, Some(database), database).into_iter().next()
    })
}

/// A process that is in the middle of reading. vetwatch's own are left out: they end by themselves.
fn reader(database: &Path) -> Option<String> {
    let mut programs = programs_with("READ", READ_LOCK_BYTES, None, database).into_iter();
    programs.find(|program| !program.starts_with("vetwatch "))
}

/// The other processes that have locked one of `bytes` of the `-shm` file, or any byte of `whole`.
fn programs_with(kind: &str, bytes: RangeInclusive<u64>, whole: Option<&Path>, database: &Path) -> Vec<String> {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let place = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        let (major, minor) = (nix::sys::stat::major(file.dev()), nix::sys::stat::minor(file.dev()));
        Some(format!("{major:02x}:{minor:02x}:{}", file.ino()))
    };
    let (whole_at, log_at) = (whole.and_then(place), place(&sibling_path(database, "-shm")));
    let ours = std::process::id().to_string();
    // `1: POSIX  ADVISORY  WRITE 4711 fd:01:131090 120 120`; a waiting process has an arrow before the kind.
    let processes = locks.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX", _, how, process, at, first, last] = fields[..] else { return None };
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().unwrap_or(u64::MAX));
        let is_there = Some(at) == log_at.as_deref() && first <= *bytes.end() && last >= *bytes.start();
        (how == kind && process != ours && (is_there || Some(at) == whole_at.as_deref())).then_some(process)
    });
    let name = |process: &str| {
        let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
        Some(format!("{} (process {process})", name.trim()))
    };
    processes.filter_map(name).collect()
}
