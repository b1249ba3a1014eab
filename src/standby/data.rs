//! Which database the next leader goes on with: its own, if nobody has led since, or else the last leader's replica.

use std::path::{Path, PathBuf};

use tracing::warn;

use super::elector::Data;
use super::litestream::{self, LitestreamSettings};
use crate::backup::restore::{self, Source};
use crate::instance_lock;
use crate::store::{self, Store, sibling_path};
use crate::time::Timestamp;

/// How many databases of deposed leaders are kept on a host.
const KEPT: usize = 2;
const FILES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the replica of epoch {epoch}, which {host} wrote, cannot be restored: {why}")]
    Replica { epoch: u64, host: String, why: String },
    #[error("the replica of epoch {epoch}, which {host} wrote, was restored and is of no use")]
    Restored { epoch: u64, host: String, source: Box<store::Error> },
    #[error("this host's own database, which has the newest data, cannot be opened")]
    Open(#[source] Box<store::Error>),
    #[error("another vetwatch runs on {}", .0.display())]
    Locked(PathBuf),
    #[error("cannot lock the database {}", .0.display())]
    Lock(PathBuf, #[source] instance_lock::Error),
    #[error("the database {} cannot be moved away", .0.display())]
    Aside(PathBuf, #[source] std::io::Error),
}

/// True if a host's database, which belongs to the epoch `own`, lacks what others have recorded since.
#[must_use]
pub fn is_stale(own: Option<u64>, newest: Option<&Data>) -> bool {
    newest.is_some_and(|newest| own != Some(newest.epoch))
}

/// Puts the newest data in the place of the database. Returns whether that took a restore.
///
/// # Errors
/// If the replica cannot be restored. The database is then as it was, or moved away.
pub async fn prepare(
    replicas: &LitestreamSettings,
    database: &Path,
    own: Option<u64>,
    newest: Option<&Data>,
    now: Timestamp,
) -> Result<bool, Error> {
    let Some(newest) = newest.filter(|_| is_stale(own, newest) || !is_there(database)) else {
        // Litestream begins with a database that is there and up to date.
        let _lock = lock(database)?;
        let store = Store::open(database).await.map_err(|error| Error::Open(error.into()))?;
        store.close_connections().await;
        return Ok(false);
    };
    set_aside(database, own)?;
    let (epoch, host) = (newest.epoch, newest.host.clone());
    let restored = replicas.restore(database, epoch).await;
    let restored = restored.map_err(|why| Error::Replica { epoch, host: host.clone(), why })?;
    let lock = lock(database)?;
    let placed = async {
        let source = Source::open(&restored, database)?;
        restore::restore(source, database, now, &lock).await
    };
    let placed = placed.await;
    litestream::forget(&restored);
    placed.map_err(|source| Error::Restored { epoch, host, source: source.into() })?;
    drop(lock);
    Ok(true)
}

/// Moves a database away that belongs to an earlier epoch. It is never merged: what it holds and the replica does not, was
/// recorded after this host had been deposed.
///
/// # Errors
/// If it cannot be moved.
pub fn set_aside(database: &Path, epoch: Option<u64>) -> Result<(), Error> {
    if !is_there(database) {
        return Ok(());
    }
    let _lock = lock(database)?;
    let name = epoch.map_or(".before-standby".to_owned(), |epoch| format!(".epoch-{epoch}"));
    let numbered = (2..).map(|n: u32| format!("{name}.{n}"));
    let mut names = std::iter::once(name.clone()).chain(numbered).map(|name| sibling_path(database, &name));
    let Some(aside) = names.find(|path| !path.exists()) else { return Ok(()) };
    warn!("{} lacks what another host has recorded since, and is kept as {}", database.display(), aside.display());
    for suffix in FILES {
        match std::fs::rename(sibling_path(database, suffix), sibling_path(&aside, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Aside(database.to_owned(), error));
            }
            _ => {}
        }
    }
    delete_old(database);
    Ok(())
}

/// An empty file is what the lock makes.
fn is_there(database: &Path) -> bool {
    database.metadata().is_ok_and(|file| file.len() > 0)
}

fn lock(database: &Path) -> Result<instance_lock::Lock, Error> {
    let held = instance_lock::take(database).map_err(|source| Error::Lock(database.to_owned(), source))?;
    held.ok_or_else(|| Error::Locked(database.to_owned()))
}

/// Keeps the newest databases that were moved away.
fn delete_old(database: &Path) {
    let Some(directory) = database.parent() else { return };
    let prefix = format!("{}.epoch-", database.file_name().unwrap_or_default().to_string_lossy());
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    // `vetwatch.db.epoch-7` and `vetwatch.db.epoch-7.2`, without their logs.
    let age = |name: &String| {
        let rest = name.strip_prefix(&prefix)?;
        let (epoch, number) = rest.split_once('.').unwrap_or((rest, "1"));
        Some((epoch.parse::<u64>().ok()?, number.parse::<u64>().ok()?, name.clone()))
    };
    let mut kept: Vec<_> = names.filter_map(|name| age(&name)).collect();
    kept.sort_unstable();
    for (.., name) in kept.iter().rev().skip(KEPT) {
        for suffix in FILES {
            let _ = std::fs::remove_file(sibling_path(&directory.join(name), suffix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_stale_once_another_epoch_has_data() {
        let newest = |epoch| Some(Data { epoch, host: "b".to_owned() });
        assert!(!is_stale(None, None), "nobody has led yet");
        assert!(!is_stale(Some(7), None), "the keys of the elector were deleted");
        assert!(!is_stale(Some(7), newest(7).as_ref()));
        assert!(is_stale(Some(7), newest(9).as_ref()));
        assert!(is_stale(Some(9), newest(7).as_ref()), "a leader that never published");
        assert!(is_stale(None, newest(7).as_ref()), "a database from before");
    }

    #[test]
    fn what_is_moved_away_is_kept_twice_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("vetwatch.db");
        set_aside(&database, Some(1)).unwrap();
        for (epoch, text) in [(3, "three"), (4, "four"), (12, "twelve"), (12, "again")] {
            std::fs::write(&database, text).unwrap();
            std::fs::write(sibling_path(&database, "-wal"), "a log").unwrap();
            set_aside(&database, Some(epoch)).unwrap();
            assert!(!is_there(&database) && !sibling_path(&database, "-wal").exists());
        }
        let found = |name: &str| std::fs::read_to_string(directory.path().join(name)).ok();
        assert_eq!(found("vetwatch.db.epoch-12").as_deref(), Some("twelve"));
        assert_eq!(found("vetwatch.db.epoch-12.2").as_deref(), Some("again"));
        assert_eq!(found("vetwatch.db.epoch-12.2-wal").as_deref(), Some("a log"));
        assert_eq!((found("vetwatch.db.epoch-3"), found("vetwatch.db.epoch-4-wal")), (None, None));
    }
}
