//! The backups that the daemon makes by `[backup]`: every night a verified copy, of which the newest are kept.
//!
//! It runs in a task of its own, on a connection of its own, so that neither polls nor deliveries wait for it. Pruning
//! follows a copy that was verified and has its name, never precedes one.

pub mod restore;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::NaiveDateTime;
use chrono_tz::Tz;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::store::backup::{self, Backup, Purpose};
use crate::store::{self, Store, copy};
use crate::text::error_chain;
use crate::time::{Clock, Timestamp};
use crate::worker_loop::{self, Progress};

/// A backup that takes longer is given up: its disk hangs.
const MAX_TIME: Duration = Duration::from_hours(1);
/// Pause after a failure.
const RETRY: Duration = Duration::from_hours(1);
/// The time in a name, in UTC: names sort by it.
const NAME_TIME: &str = "%Y-%m-%dT%H%M%SZ";

/// `[backup]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub dir: PathBuf,
    /// How many are kept.
    pub keep: usize,
    pub times: Times,
}

/// When backups are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// Cron with seconds, in `zone`.
    pub schedule: String,
    pub zone: Tz,
}

impl Times {
    #[must_use]
    pub fn next_after(&self, last: Timestamp) -> Option<Timestamp> {
        let cron = croner::Cron::from_str(&self.schedule).ok()?;
        let next = cron.find_next_occurrence(&last.to_utc().with_timezone(&self.zone), false).ok()?;
        Some(Timestamp::from_millis(next.timestamp_millis()))
    }

    /// The last of these times up to `now`.
    #[must_use]
    pub fn latest(&self, now: Timestamp) -> Option<Timestamp> {
        let cron = croner::Cron::from_str(&self.schedule).ok()?;
        let last = cron.find_previous_occurrence(&now.to_utc().with_timezone(&self.zone), true).ok()?;
        Some(Timestamp::from_millis(last.timestamp_millis()))
    }

    /// When a backup is too old: the second time after `last` has come.
    #[must_use]
    pub fn too_old_at(&self, last: Timestamp) -> Option<Timestamp> {
        self.next_after(self.next_after(last)?)
    }
}

/// Makes the backups of `[backup]`.
pub struct Nightly {
    settings: Settings,
    store: Store,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    /// After an attempt that failed, or that could not be noted.
    retry_at: Mutex<Option<Timestamp>>,
}

impl Nightly {
    #[must_use]
    pub fn new(settings: Settings, store: Store, clock: Arc<dyn Clock>, stop: CancellationToken) -> Self {
        Self { settings, store, clock, stop, retry_at: Mutex::default() }
    }

    /// Runs until `stop` is cancelled. The watchdog does not wait for it: a backup may take long, and its disk may hang.
    pub async fn run(self) {
        let nightly = Arc::new(self);
        let (clock, stop) = (nightly.clock.clone(), nightly.stop.clone());
        let progress = Progress::new("the backups".to_owned(), MAX_TIME);
        let round = || {
            let nightly = nightly.clone();
            async move { nightly.round().await }
        };
        worker_loop::run(progress, Arc::new(Notify::new()), clock, stop, round).await;
    }

    /// Makes a backup if one is due, also one that was missed while vetwatch did not run.
    ///
    /// # Errors
    /// When the database fails. A backup that fails is noted, and tried again later.
    pub async fn round(&self) -> Result<Option<Timestamp>, store::Error> {
        let now = self.clock.now();
        let state = self.store.backup_state().await?;
        // The directory may be a link, and the configuration name another one than last time.
        let real = std::fs::canonicalize(&self.settings.dir).ok();
        let is_here = state.file.as_deref().is_some_and(|file| real.as_deref() == Path::new(file).parent());
        let due = match state.at {
            // A backup in the future: the clock was set back.
            Some(last) if last <= now && is_here => self.settings.times.next_after(last),
            _ => Some(now),
        };
        if due.is_none_or(|due| due > now) {
            return Ok(due);
        }
        if let Some(at) = self.retry_at().filter(|at| *at > now && now.after(RETRY) >= *at) {
            return Ok(Some(at));
        }
        self.set_retry(Some(now.after(RETRY)));
        match self.aside(now).await {
            Ok(made) => {
                let mut tx = self.store.begin().await?;
                tx.note_backup(&made, now).await?;
                tx.commit().await?;
                self.set_retry(None);
                Ok(self.settings.times.next_after(now))
            }
            Err(store::Error::Interrupted) if self.stop.is_cancelled() => Ok(None),
            Err(failure) => {
                let why = error_chain(&failure);
                error!("no backup could be made in {}: {why}", self.settings.dir.display());
                let mut tx = self.store.begin().await?;
                tx.note_backup_failed(&why, now).await?;
                tx.commit().await?;
                Ok(self.retry_at())
            }
        }
    }

    /// Makes a backup on a thread of its own: what a disk that hangs holds up is that thread alone.
    async fn aside(&self, now: Timestamp) -> Result<Backup, store::Error> {
        let (settings, store, stop) = (self.settings.clone(), self.store.clone(), self.stop.clone());
        let runtime = tokio::runtime::Handle::current();
        let making = move || runtime.block_on(back_up(&settings, &store, &stop, now));
        let made = self.stop.run_until_cancelled(tokio::task::spawn_blocking(making)).await;
        // Stopped: the thread ends by itself.
        made.and_then(Result::ok).unwrap_or(Err(store::Error::Interrupted))
    }

    fn retry_at(&self) -> Option<Timestamp> {
        *self.retry_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_retry(&self, at: Option<Timestamp>) {
        *self.retry_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl std::fmt::Debug for Nightly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nightly").field("settings", &self.settings).finish_non_exhaustive()
    }
}

async fn back_up(
    settings: &Settings,
    store: &Store,
    stop: &CancellationToken,
    now: Timestamp,
) -> Result<Backup, store::Error> {
    let Settings { dir, keep, .. } = settings;
    match DirBuilder::new().mode(0o750).create(dir) {
        Err(error) if !dir.is_dir() => return Err(backup::failed("create the directory", dir)(error)),
        _ => {}
    }
    let dir = &std::fs::canonicalize(dir).map_err(backup::failed("find the directory", dir))?;
    let (stop, began) = (stop.clone(), Instant::now());
    let go_on = move || !stop.is_cancelled() && began.elapsed() < MAX_TIME;
    let prefix = prefix(store.path());
    let file = dir.join(format!("{prefix}{}.db", now.to_utc().format(NAME_TIME)));
    let made = backup::write(store.path(), &file, Purpose::Restore, go_on).await?;
    let kept = prune(dir, &prefix, &made.file, *keep);
    info!(
        bytes = made.bytes,
        transitions = made.contents.transitions,
        "backup written: {}, verified, in {} ms; {kept} are kept",
        made.file.display(),
        made.seconds.as_millis()
    );
    Ok(made)
}

/// `vetwatch-` of `vetwatch.db`.
fn prefix(database: &Path) -> String {
    format!("{}-", database.file_stem().unwrap_or_default().to_string_lossy())
}

/// Deletes all but the newest `keep` backups, and what interrupted ones left. Returns how many are there now.
fn prune(dir: &Path, prefix: &str, newest: &Path, keep: usize) -> usize {
    let names = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let names = names.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let is_ours = |name: &str, suffix: &str| {
        let time = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        time.is_some_and(|time| NaiveDateTime::parse_from_str(time, NAME_TIME).is_ok())
    };
    let mut backups: Vec<_> = names.iter().filter(|name| is_ours(name, ".db") && dir.join(name) != newest).collect();
    // Those of a clock that was ahead go first, or they would hold the places for good.
    backups.sort_unstable_by_key(|name| (dir.join(name) < *newest, *name));
    let others = keep.saturating_sub(1);
    let old = backups.iter().rev().skip(others).copied();
    let left = copy::partial(Path::new(".db")).to_string_lossy().into_owned();
    let journal = format!("{left}-journal");
    let partial = names.iter().filter(|name| is_ours(name, &left) || is_ours(name, &journal));
    for name in old.chain(partial) {
        if let Err(error) = std::fs::remove_file(dir.join(name)) {
            warn!("the old backup {} cannot be deleted: {error}", dir.join(name).display());
        }
    }
    backups.len().min(others) + 1
}
