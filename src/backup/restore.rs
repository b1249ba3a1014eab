//! Puts a backup in the place of the database.
//!
//! The order is what makes it safe: the backup is copied, checked and marked beside the database; the old database's log
//! is taken into its file, so that one file is the whole of it; the old file gets a second name; and one `rename` puts the
//! new one in its place. Before the rename the old database is there and whole, after it the new one. Only a database whose
//! log cannot be read any more is moved away first, with its log.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::instance_lock::Lock;
use crate::store::backup::{check_room, claim, directory_of, failed, sync_directory};
use crate::store::copy::{self, Contents};
use crate::store::{Error, sibling_path};
use crate::time::Timestamp;

/// A restored database.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    pub database: PathBuf,
    /// What it holds.
    #[serde(flatten)]
    pub contents: Contents,
    /// Where the old database is now; `None` if there was none.
    pub kept: Option<PathBuf>,
}

/// A backup that was opened to be restored: before root's rights are dropped, because it may be root's.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    /// The `-wal` file beside it, of a database that was copied by hand or kept aside.
    log: Option<File>,
}

impl Source {
    /// Opens a backup.
    ///
    /// # Errors
    /// If it cannot be read, or is the database itself.
    pub fn open(path: &Path, database: &Path) -> Result<Self, Error> {
        let refused = |why: &str| Error::Source { path: path.to_owned(), why: why.to_owned() };
        let found = path.metadata().map_err(failed("read", path))?;
        if !found.is_file() {
            return Err(refused("it is not a regular file"));
        }
        // Before it is opened: closing a descriptor of the database drops SQLite's locks on it.
        for (own, why) in [("", "it is the database itself"), ("-wal", "it is the log of the database, not a backup")] {
            let own = sibling_path(database, own).metadata();
            if own.is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino())) {
                return Err(refused(why));
            }
        }
        let file = File::open(path).map_err(failed("read", path))?;
        // A log is beside the file itself, not beside a link to it.
        let real = std::fs::canonicalize(path).map_err(failed("find", path))?;
        let log_path = sibling_path(&real, "-wal");
        let log = match File::open(&log_path) {
            Ok(log) => Some(log).filter(|_| copy::has_log(&file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", &log_path)(error)),
        };
        Ok(Self { path: path.to_owned(), file, log })
    }
}

/// Restores a backup. The lock says that no daemon runs, and that none starts meanwhile.
///
/// # Errors
/// If the backup is not sound or not of vetwatch, or another program uses the database. The database is then as it was.
pub async fn restore(source: Source, database: &Path, now: Timestamp, _lock: &Lock) -> Result<Restored, Error> {
    // A link's target is replaced, not the link.
    let database = std::fs::canonicalize(database).map_err(failed("find", database))?;
    let directory = directory_of(&database);
    // Nobody opens the database while this is held: see `Store::open`.
    let turn = File::open(directory).map_err(failed("open the directory", directory))?;
    match turn.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(Error::InUse { path: database }),
        Err(std::fs::TryLockError::Error(error)) => return Err(failed("lock", directory)(error)),
    }
    let new = sibling_path(&database, ".restoring");
    let restored = async {
        let contents = prepare(source, &new, now).await?;
        let kept = replace(&database, &new, now).await?;
        Ok(Restored { database: database.clone(), contents, kept })
    };
    let restored = restored.await;
    if restored.is_err() {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = std::fs::remove_file(sibling_path(&new, suffix));
        }
    }
    restored
}

/// Copies the backup to `new`, checks the copy and marks it.
async fn prepare(mut source: Source, new: &Path, now: Timestamp) -> Result<Contents, Error> {
    let directory = directory_of(new);
    // What an interrupted restore left would be taken for the log of the new file.
    for suffix in ["-wal", "-shm", "-journal"] {
        remove(&sibling_path(new, suffix))?;
    }
    let bytes = source.file.metadata().map_err(failed("read", &source.path))?.len();
    check_room(directory, bytes)?;
    let mut file = claim(new)?;
    io::copy(&mut source.file, &mut file).map_err(failed("copy the backup to", new))?;
    if let Some(mut log) = source.log {
        let path = sibling_path(new, "-wal");
        let mut copy = claim(&path)?;
        io::copy(&mut log, &mut copy).map_err(failed("copy the backup's log to", &path))?;
    }
    // The lock on `new` is dropped with `file`; no other program knows the name.
    drop(file);
    let checked = async {
        copy::check_schema(new).await?;
        copy::verify(new, || true).await
    };
    let contents = checked.await.map_err(|error| error.of_backup(new, &source.path))?;
    copy::mark_restored(new, now).await?;
    let file = File::open(new).map_err(failed("open", new))?;
    file.set_permissions(Permissions::from_mode(0o640)).map_err(failed("set the mode of", new))?;
    file.sync_all().map_err(failed("write", new))?;
    Ok(contents)
}

/// Keeps the old database under another name, and puts `new` in its place.
async fn replace(database: &Path, new: &Path, now: Timestamp) -> Result<Option<PathBuf>, Error> {
    let directory = directory_of(database);
    let logs = ["-wal", "-shm", "-journal"];
    let is_there = database.metadata().is_ok_and(|old| old.len() > 0);
    let has_logs = logs.iter().any(|suffix| sibling_path(database, suffix).exists());
    if !is_there && !has_logs {
        std::fs::rename(new, database).map_err(failed("rename the copy to", database))?;
        sync_directory(directory)?;
        return Ok(None);
    }
    let kept = free_name(database, now);
    if is_there {
        // Afterwards the file alone is the whole database.
        match copy::fold_log(database).await {
            Ok(true) => {}
            Ok(false) => return Err(Error::InUse { path: database.to_owned() }),
            // It has no whole to keep: all its pieces are kept.
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    // What is left of a log would be taken for the new file's, and damage it.
    for suffix in logs {
        let (from, to) = (sibling_path(database, suffix), sibling_path(&kept, suffix));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("move away", &from)(error)),
            _ => {}
        }
    }
    sync_directory(directory)?;
    // A second name for the old file: it keeps its own until the rename, in one step, gives that to the new one.
    std::fs::hard_link(database, &kept).map_err(failed("keep the old database as", &kept))?;
    sync_directory(directory)?;
    std::fs::rename(new, database).map_err(failed("rename the copy to", database))?;
    sync_directory(directory)?;
    Ok(Some(kept))
}

/// `vetwatch.db.replaced-2026-11-28T210000Z`, or that with a number.
fn free_name(database: &Path, now: Timestamp) -> PathBuf {
    let name = format!(".replaced-{}", now.to_utc().format(super::NAME_TIME));
    let numbered = (2..).map(|n: u32| format!("{name}.{n}"));
    let mut names = std::iter::once(name.clone()).chain(numbered).map(|name| sibling_path(database, &name));
    names.find(|path| !path.exists()).unwrap_or_else(|| sibling_path(database, &name))
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}
