//! Ensures that only one process polls and delivers. `run`, and `poll` without a daemon, hold `<database>.lock`
//! exclusively. The kernel releases it with the process, however that ends.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// Takes the lock of a database. `None` if another process holds it.
pub fn take(database: &Path) -> io::Result<Option<Lock>> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o640).open(path(database))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// True if a daemon runs; `None` if this user may not know. Takes a shared lock for an instant, so that concurrent callers do
/// not see each other.
#[must_use]
pub fn daemon_runs(database: &Path) -> Option<bool> {
    match File::open(path(database)) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Some(false),
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// The lock file of a database. The file remains; only the lock on it counts.
#[must_use]
pub fn path(database: &Path) -> PathBuf {
    // One lock per file, whatever path names it.
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut path = real.into_os_string();
    path.push(".lock");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_seen_while_its_holder_lives() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("vetwatch.db");
        assert_eq!(daemon_runs(&database), Some(false));
        let held = take(&database).unwrap().expect("no other process holds it");
        assert_eq!(daemon_runs(&database), Some(true));
        assert!(take(&database).unwrap().is_none());
        drop(held);
        assert_eq!(daemon_runs(&database), Some(false));
        assert!(path(&database).exists());
    }
}
