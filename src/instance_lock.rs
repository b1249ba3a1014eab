//! Who polls and who sends: one process at a time. `run`, and `poll` without a daemon, hold `<database>.lock`
//! exclusively while they do. The kernel lets go of it with the process, however that ends.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Held for as long as it lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// Takes the lock of a database; `None`: somebody holds it.
pub fn take(database: &Path) -> io::Result<Option<Lock>> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o640).open(path(database))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
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
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// The lock file of a database. It stays when its holder ends; only the lock on it counts.
#[must_use]
pub fn path(database: &Path) -> PathBuf {
    // One lock for one file, however it is named.
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
        let held = take(&database).unwrap().expect("nobody else holds it");
        assert_eq!(daemon_runs(&database), Some(true));
        assert!(take(&database).unwrap().is_none());
        drop(held);
        assert_eq!(daemon_runs(&database), Some(false));
        assert!(path(&database).exists());
    }
}
