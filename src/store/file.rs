//! Whether the file at the database's path is still the one that was opened. SQLite does not look: it would write for
//! ever into a file that was deleted or replaced, which nobody finds again.

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

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(400);
/// What does not look right is looked at once more: somebody may be in the middle of writing it.
const AGAIN: Duration = Duration::from_millis(50);
/// Each so many looks SQLite is asked as well.
const READS: u64 = 10;
const HEADER: &[u8; 16] = b"SQLite format 3\0";
/// Where the header says how often the file has changed.
const CHANGES: std::ops::Range<usize> = 24..28;

#[derive(Debug)]
pub(super) struct Opened {
    path: PathBuf,
    /// Where the path led to. Once it leads elsewhere, other programs use another log than we do.
    real: PathBuf,
    identity: (u64, u64),
    /// Never closed: closing any descriptor of a file drops all locks that this process has on it, SQLite's as well.
    /// While it is open, no other file gets the same number.
    file: ManuallyDrop<File>,
    changes: AtomicU32,
    /// The `-wal` and the `-shm` file, since both were seen. They stay for as long as anybody has the database open.
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
        let _ = opened.logs_are_there();
        Ok(opened)
    }

    /// One question to the kernel, asked before each write.
    pub(super) fn is_in_its_place(&self) -> Result<(), Error> {
        let how = match std::fs::metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => {
                if std::fs::symlink_metadata(&self.real).is_ok_and(|real| identity(&real) == self.identity) {
                    return Ok(());
                }
                "was moved, and a link put in its place"
            }
            Ok(_) => "was replaced by another file",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was deleted or moved",
            // It cannot be seen just now; SQLite will say what is wrong.
            Err(_) => return Ok(()),
        };
        Err(self.lost(how))
    }

    fn is_as_it_was(&self) -> Result<(), Error> {
        self.is_in_its_place()?;
        match self.changes() {
            Ok(changes) => {
                let before = self.changes.load(Ordering::Relaxed);
                // It counts round.
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
        self.logs_are_there()
    }

    fn logs_are_there(&self) -> Result<(), Error> {
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

    /// How often the file has changed, as its header says.
    fn changes(&self) -> io::Result<u32> {
        let mut header = [0; 100];
        self.file.read_exact_at(&mut header, 0)?;
        if !header.starts_with(HEADER) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let changes = header[CHANGES].try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(u32::from_be_bytes(changes))
    }

    fn lost(&self, how: &'static str) -> Error {
        Error::Lost { path: self.path.clone(), how }
    }
}

impl Store {
    /// Returns once the file is not the one that was opened any more, or no database.
    pub async fn lost(&self) -> Error {
        let Some(opened) = &self.opened else { return std::future::pending().await };
        for looks in 1_u64.. {
            sleep(EVERY).await;
            if looks.is_multiple_of(READS)
                && let Err(error) = self.reads().await
                && error.is_damage()
            {
                return error;
            }
            if opened.is_as_it_was().is_ok() {
                continue;
            }
            sleep(AGAIN).await;
            if let Err(lost) = opened.is_as_it_was() {
                return lost;
            }
        }
        std::future::pending().await
    }

    /// Whether SQLite takes what is in the file for a database.
    async fn reads(&self) -> Result<(), Error> {
        sqlx::query("select count(*) from sqlite_schema").execute(&self.read).await?;
        Ok(())
    }
}

/// Whether vetwatch has run on this database before, and it is not there: somebody deleted it.
#[must_use]
pub fn begins_anew(database: &Path) -> bool {
    let is_empty = std::fs::metadata(database)
        .map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |found| found.len() == 0);
    is_empty
        && [instance_lock::path(database), sibling_path(database, "-wal"), sibling_path(database, "-shm")]
            .iter()
            .any(|path| path.exists())
}

pub(super) fn sibling_path(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
