//! A backup: a verified copy of the database under its final name, or none at all. And what is known of the last one.

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use serde::Serialize;

use super::copy::{self, Contents, FileKind, GoOn};
use super::file::sibling_path;
use super::{Error, Store, WriteTx};
use crate::instance_lock;
use crate::time::Timestamp;

/// Space that a copy leaves free: the daemon goes on writing.
const SPARE_BYTES: u64 = 16 << 20;

/// What a copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be restored.
    Restore,
    /// For people who analyse: see [`copy::strip`].
    Readers,
}

/// A backup that was written.
#[derive(Debug, Clone, Serialize)]
pub struct Backup {
    pub file: PathBuf,
    pub bytes: u64,
    #[serde(serialize_with = "as_seconds")]
    pub seconds: Duration,
    #[serde(flatten)]
    pub contents: Contents,
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Writes a copy beside `target`, checks it, makes it durable and only then gives it the name. A backup of that name is
/// replaced; whatever fails, the old one stays.
///
/// # Errors
/// Also if `target` is something else than a backup: see [`check_target`].
pub async fn write(database: &Path, target: &Path, purpose: Purpose, go_on: impl GoOn) -> Result<Backup, Error> {
    let began = Instant::now();
    let target = check_target(database, target)?;
    let directory = directory_of(&target);
    let sizes = ["", "-wal"].map(|suffix| sibling_path(database, suffix).metadata().map_or(0, |file| file.len()));
    let size = sizes.iter().sum::<u64>();
    check_room(directory, if purpose == Purpose::Readers { 2 * size } else { size })?;
    let partial = copy::partial(&target);
    let file = claim(&partial)?;
    let written = async {
        let contents = match purpose {
            Purpose::Restore => copy::copy(database, &partial, go_on).await?,
            Purpose::Readers => for_readers(database, &partial, go_on).await?,
        };
        let mode = if purpose == Purpose::Readers { 0o644 } else { 0o640 };
        if purpose == Purpose::Restore {
            copy::mark_backup(&file).map_err(failed("write", &partial))?;
        }
        file.set_permissions(Permissions::from_mode(mode)).map_err(failed("set the mode of", &partial))?;
        if let Ok(database) = database.metadata() {
            // The group that may read the database; a member of it may give it away, others may not.
            let _ = chown(&partial, None, Some(database.gid()));
        }
        file.sync_all().map_err(failed("write", &partial))?;
        let bytes = file.metadata().map_err(failed("look at", &partial))?.len();
        std::fs::rename(&partial, &target).map_err(failed("rename the copy to", &target))?;
        // A log that was left there belongs to a file that is gone.
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = std::fs::remove_file(sibling_path(&target, suffix));
        }
        sync_directory(directory)?;
        Ok(Backup { file: target.clone(), bytes, seconds: began.elapsed(), contents })
    };
    // What is wrong with the copy is wrong with the database.
    let written = written.await.map_err(|error: Error| error.of_backup(&partial, database));
    if written.is_err() {
        // Gone already if only the directory could not be synced.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

async fn for_readers(database: &Path, partial: &Path, go_on: impl GoOn) -> Result<Contents, Error> {
    let whole = sibling_path(partial, ".whole");
    let file = claim(&whole)?;
    let stripped = async {
        copy::copy(database, &whole, go_on.clone()).await?;
        copy::strip(&whole, partial, go_on).await
    };
    let stripped = stripped.await;
    let _ = std::fs::remove_file(&whole);
    drop(file);
    stripped
}

/// Checks that a backup may be written to `target`. Returns its absolute path.
///
/// # Errors
/// [`Error::Target`] if it belongs to the database, or is a file that is no backup.
pub fn check_target(database: &Path, target: &Path) -> Result<PathBuf, Error> {
    let refused = |why: String| Error::Target { path: target.to_owned(), why };
    if target == Path::new("-") {
        return Err(refused(
            "a copy is checked before it has its name, which a pipe cannot be: name a file".to_owned(),
        ));
    }
    let absolute = std::path::absolute(target).map_err(failed("find", target))?;
    let (directory, Some(name)) = (directory_of(&absolute), absolute.file_name()) else {
        return Err(refused("it has no file name".to_owned()));
    };
    let directory = match std::fs::canonicalize(directory) {
        Ok(directory) if directory.is_dir() => directory,
        Ok(_) => return Err(refused(format!("{} is not a directory", directory.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refused(format!("there is no directory {}: create it first", directory.display())));
        }
        Err(error) => return Err(failed("open the directory", directory)(error)),
    };
    let real = directory.join(name);
    let live = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let own = ["", "-wal", "-shm", "-journal"].map(|suffix| sibling_path(&live, suffix));
    if own.contains(&real) || real == instance_lock::path(&live) {
        return Err(refused(
            "it is the database that vetwatch runs on, or belongs to it: name another file".to_owned(),
        ));
    }
    let found = match real.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(real),
        Err(error) => return Err(failed("look at", &real)(error)),
    };
    if !found.is_file() {
        return Err(refused("it is not a regular file: name a file".to_owned()));
    }
    if live.metadata().is_ok_and(|live| (live.dev(), live.ino()) == (found.dev(), found.ino())) {
        return Err(refused("it is another name of the database that vetwatch runs on: name another file".to_owned()));
    }
    match File::open(&real).and_then(|file| FileKind::of(&file)).map_err(failed("look at", &real))? {
        FileKind::Backup | FileKind::ForReaders | FileKind::Empty => Ok(real),
        FileKind::Database => Err(refused(
            "it is a database of vetwatch and no backup: name another file, or move it away first".to_owned(),
        )),
        FileKind::Other => Err(refused("there is a file of this name that is no backup: name another one".to_owned())),
    }
}

/// Fails if a directory lacks space for a file of this size.
pub(crate) fn check_room(directory: &Path, bytes: u64) -> Result<(), Error> {
    let needed = bytes + SPARE_BYTES;
    // A file system that does not say has room until a write fails.
    let Ok(found) = nix::sys::statvfs::statvfs(directory) else { return Ok(()) };
    #[allow(clippy::useless_conversion, reason = "narrower on some machines")]
    let free = u64::from(found.blocks_available()) * u64::from(found.fragment_size());
    if free >= needed {
        return Ok(());
    }
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    Err(Error::NoRoom { directory: directory.to_owned(), needed: megabytes(needed), free: free / 1_000_000 })
}

/// Opens an empty file of a copy that is being written; what a crash left there is emptied.
pub(crate) fn claim(partial: &Path) -> Result<File, Error> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o640);
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(partial);
    let file = file.map_err(failed("create", partial))?;
    let why = |why: &str| Error::Target { path: partial.to_owned(), why: why.to_owned() };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(why("another copy is being written there at this moment")),
        Err(TryLockError::Error(error)) => return Err(failed("lock", partial)(error)),
    }
    let found = file.metadata().map_err(failed("look at", partial))?;
    if !found.is_file() {
        return Err(why("it is not a regular file; remove it"));
    }
    // In a directory that others may write to it could be another name of a file elsewhere.
    if found.nlink() > 1 || found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(why("it belongs to another user; remove it"));
    }
    let there = partial.symlink_metadata().map_err(failed("look at", partial))?;
    if (there.dev(), there.ino()) != (found.dev(), found.ino()) {
        return Err(why("another copy was written there at this moment"));
    }
    file.set_len(0).map_err(failed("empty", partial))?;
    Ok(file)
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("make durable", directory))
}

pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { what, path: path.to_owned(), source }
}

/// What the database knows of its backups by `[backup]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BackupState {
    /// The last good one.
    pub at: Option<Timestamp>,
    pub file: Option<String>,
    pub bytes: Option<i64>,
    /// Since when none succeeds, and why.
    pub failing_since: Option<Timestamp>,
    pub error: Option<String>,
}

/// When a database was restored, and until when its backup knows what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Restored {
    pub at: Timestamp,
    pub until: Option<Timestamp>,
}

impl std::fmt::Display for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = self.until.map_or_else(|| "an unknown time".to_owned(), |until| until.to_string());
        write!(
            f,
            "the database was restored at {} from a backup as of {until}: what happened since is found again, and what has a \
             date is sent under the id that it had",
            self.at
        )
    }
}

impl Store {
    pub async fn backup_state(&self) -> Result<BackupState, Error> {
        let row =
            sqlx::query!("select backup_at, backup_file, backup_bytes, backup_failing_since, backup_error from daemon");
        let Some(row) = row.fetch_optional(&self.read).await? else { return Ok(BackupState::default()) };
        Ok(BackupState {
            at: row.backup_at.map(Timestamp::from_millis),
            file: row.backup_file,
            bytes: row.backup_bytes,
            failing_since: row.backup_failing_since.map(Timestamp::from_millis),
            error: row.backup_error,
        })
    }

    /// When the database was last restored; `None` if never.
    pub async fn restored(&self) -> Result<Option<Restored>, Error> {
        let row = sqlx::query!("select restored_at, restored_until from daemon").fetch_optional(&self.read).await?;
        let restored = row.and_then(|row| {
            let at = Timestamp::from_millis(row.restored_at?);
            Some(Restored { at, until: row.restored_until.map(Timestamp::from_millis) })
        });
        Ok(restored)
    }

    /// The restoration that no daemon has seen yet. Ask before the first tick.
    pub async fn newly_restored(&self) -> Result<Option<Restored>, Error> {
        let (restored, alive_at) = (self.restored().await?, self.alive_at().await?);
        // The time in the backup is from before; the first tick is from after.
        Ok(restored.filter(|restored| alive_at.is_some() && alive_at == restored.until))
    }
}

impl WriteTx {
    pub async fn note_backup(&mut self, backup: &Backup, now: Timestamp) -> Result<(), Error> {
        let (file, bytes) = (backup.file.display().to_string(), i64::try_from(backup.bytes).unwrap_or(i64::MAX));
        self.run(sqlx::query!(
            "update daemon set backup_at = ?1, backup_file = ?2, backup_bytes = ?3, backup_failing_since = null,
                               backup_error = null",
            now.as_millis(),
            file,
            bytes
        ))
        .await
    }

    pub async fn note_backup_failed(&mut self, error: &str, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update daemon set backup_failing_since = coalesce(backup_failing_since, ?1), backup_error = ?2",
            now.as_millis(),
            error
        ))
        .await
    }
}
