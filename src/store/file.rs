//! Checks that the file at the database's path is still the one that was opened. SQLite does not check: it would keep
//! writing to a deleted or replaced file, and the data would be lost.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::{Error, Store};
use crate::instance_lock;

/// How often the file is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(400);
/// A failed check is repeated after this: another program may be in the middle of a write.
const RECHECK_AFTER: Duration = Duration::from_millis(50);
/// Every this many checks SQLite reads the file as well.
const CHECKS_PER_READ: u64 = 10;
const HEADER: &[u8; 16] = b"SQLite format 3\0";
/// The file change counter in the header.
const CHANGE_COUNTER: std::ops::Range<usize> = 24..28;

#[derive(Debug)]
pub(super) struct Opened {
    path: PathBuf,
    /// The resolved path. Once `path` resolves to another, other programs use another log than we do.
    real: PathBuf,
    identity: (u64, u64),
    /// Never closed: closing any descriptor of a file drops all of the process's locks on it, SQLite's too. While it is
    /// open, no other file gets the same inode.
    file: ManuallyDrop<File>,
    changes: AtomicU32,
    /// The `-wal` and `-shm` files, once both were seen. They exist while any connection is open.
    logs: OnceLock<[(PathBuf, (u64, u64)); 2]>,
}

impl Opened {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let opened = Self {
            path: path.to_owned(),
            real: std::fs::canonicalize(path)?,
            identity: identity(&file.metadata()?),
            file: ManuallyDrop::new(file),
            changes: AtomicU32::new(0),
            logs: OnceLock::new(),
        };
        if let Ok(changes) = opened.changes() {
            opened.changes.store(changes, Ordering::Relaxed);
        }
        let _ = opened.check_logs();
        Ok(opened)
    }

    /// Checks the path; called before each write. One or two `stat` calls.
    pub(super) fn check_path(&self) -> Result<(), Error> {
        let how = match std::fs::metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => {
                if std::fs::symlink_metadata(&self.real).is_ok_and(|real| identity(&real) == self.identity) {
                    return Ok(());
                }
                "was moved, and a link put in its place"
            }
            Ok(_) => "was replaced by another file",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was deleted or moved",
            // A failed `stat` proves nothing; SQLite will say what is wrong.
            Err(_) => return Ok(()),
        };
        Err(self.lost(how))
    }

    fn check(&self) -> Result<(), Error> {
        self.check_path()?;
        match self.changes() {
            Ok(changes) => {
                let before = self.changes.load(Ordering::Relaxed);
                // The counter wraps around.
                if changes != before && before.wrapping_sub(changes) < u32::MAX / 2 {
                    return Err(self.lost("was overwritten with an older copy"));
                }
                self.changes.store(changes, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.lost("was emptied")),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(self.lost("was overwritten with something else"));
            }
            Err(_) => {}
        }
        self.check_logs()
    }

    fn check_logs(&self) -> Result<(), Error> {
        let find = |path: &Path| std::fs::metadata(path).ok().map(|found| identity(&found));
        let Some(logs) = self.logs.get() else {
            let [log, index] = ["-wal", "-shm"].map(|suffix| sibling_path(&self.path, suffix));
            if let (Some(of_log), Some(of_index)) = (find(&log), find(&index)) {
                let _ = self.logs.set([(log, of_log), (index, of_index)]);
            }
            return Ok(());
        };
        let gone = logs.iter().find(|(path, identity)| find(path) != Some(*identity));
        gone.map_or(Ok(()), |(path, _)| Err(Error::LogLost { path: path.clone() }))
    }

    /// The file change counter.
    fn changes(&self) -> io::Result<u32> {
        let mut header = [0; 100];
        self.file.read_exact_at(&mut header, 0)?;
        if !header.starts_with(HEADER) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let changes = header[CHANGE_COUNTER].try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(u32::from_be_bytes(changes))
    }

    fn lost(&self, how: &'static str) -> Error {
        Error::Lost { path: self.path.clone(), how }
    }
}

impl Store {
    /// Returns once the file was replaced, deleted or damaged.
    pub async fn lost(&self) -> Error {
        let Some(opened) = &self.opened else { return std::future::pending().await };
        for checks in 1_u64.. {
            sleep(CHECK_INTERVAL).await;
            if checks.is_multiple_of(CHECKS_PER_READ)
                && let Err(error) = self.check_readable().await
                && error.is_damage()
            {
                return error;
            }
            if opened.check().is_ok() {
                continue;
            }
            sleep(RECHECK_AFTER).await;
            if let Err(lost) = opened.check() {
                return lost;
            }
        }
        std::future::pending().await
    }

    /// Fails if SQLite cannot read the file.
    async fn check_readable(&self) -> Result<(), Error> {
        sqlx::query("select count(*) from sqlite_schema").execute(&self.read).await?;
        Ok(())
    }
}

/// True if vetwatch has run on this database and its file is missing or empty: it was deleted.
#[must_use]
pub fn was_deleted(database: &Path) -> bool {
    let is_empty = std::fs::metadata(database)
        .map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |found| found.len() == 0);
    is_empty
        && [instance_lock::path(database), sibling_path(database, "-wal"), sibling_path(database, "-shm")]
            .iter()
            .any(|path| path.exists())
}

pub(crate) fn sibling_path(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Where Litestream keeps what it knows of a database that it replicates: `.vetwatch.db-litestream`.
pub(crate) fn litestream_directory(database: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(database.file_name().unwrap_or_default());
    name.push("-litestream");
    database.with_file_name(name)
}

/// Whether Litestream replicates a database. Then the checkpoints are its own: where another program begins the log anew,
/// it misses what it has not read, and the replica is damaged without a word (measured with 0.5.17: docs/backup.md).
pub(super) fn is_replicated(database: &Path) -> bool {
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    litestream_directory(&real).exists()
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
