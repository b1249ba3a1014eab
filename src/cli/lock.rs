//! Who works on the database: `run` and a `poll` without daemon hold `<database>.lock` exclusively while they do.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::cli::{Exit, Failure};

/// The lock file of a database. It stays when its holder ends; only the lock on it counts.
#[must_use]
pub fn path(database: &Path) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(".lock");
    name.into()
}

/// Takes the lock for as long as the file lives; `None`: a daemon holds it.
pub fn take(database: &Path) -> Result<Option<File>, Failure> {
    let path = path(database);
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("cannot lock {}", path.display())).because(error.to_string())
    };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Whether a daemon runs. `None`: this user may not know. Looks for an instant only, with a shared lock, so that two
/// who look do not see each other.
#[must_use]
pub fn daemon_runs(database: &Path) -> Option<bool> {
    match File::open(path(database)) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Some(false),
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_seen_while_its_holder_lives() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("vetwatch.db");
        assert_eq!(daemon_runs(&database), Some(false));
        let held = take(&database).unwrap().expect("nobody else holds it");
        assert_eq!(daemon_runs(&database), Some(true));
        assert!(take(&database).unwrap().is_none());
        drop(held);
        assert_eq!(daemon_runs(&database), Some(false));
        assert!(directory.path().join("vetwatch.db.lock").exists());
    }
}
