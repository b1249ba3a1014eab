//! The SQLite database. All SQL lives below this module; nothing else names sqlx.
//!
//! Reads go through [`Store`]; every write goes through a [`WriteTx`]. There is one writer connection: writers in
//! one process queue fairly for it, and `begin immediate` makes those of several processes wait for each other.

mod activity_log;
pub mod alerts;
pub mod attention;
mod departures;
mod endpoints;
mod enqueue;
mod fail_over;
mod file;
mod held;
mod housekeeping;
mod customer_sync;
mod mute;
mod outbox;
mod overdue;
mod mass_absence;
mod polling;
mod recipients;
mod recovery;
pub mod redirect;
pub mod redrive;
pub mod reports;
pub mod customers;
mod submission;
mod claimed_polls;
mod test_delivery;
mod unreadable;
mod vetting;
pub mod waiting;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Sqlite, Transaction};
use tokio::time::timeout;

use crate::time::Timestamp;

pub use activity_log::{ActiveCustomer, DiscoveredCustomer, LogRead, LogState, SeenOperation};
pub use customer_sync::{ListState, ListedCustomer, TakenPage, Unlisted};
pub use departures::{BaselineCounts, LostReview};
pub use enqueue::NewDelivery;
pub use file::begins_anew;
pub use outbox::{Claim, ClaimedDelivery, Completion, FailoverFrom, UnrenderedDelivery};
pub use overdue::OpenReview;
pub use polling::{ClassCount, DueCustomer, Failed, Gate, PartnerRow, Unchanged};
pub use recipients::{Refusal, Refused};
pub use recovery::ClockSkewBounds;
pub use submission::Expected;
pub use test_delivery::TestDelivery;
pub use unreadable::Unreadable;
pub use vetting::Customer;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the database {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("the database {path} was written by a newer vetwatch or is damaged; nothing was changed")]
    Migrate { path: PathBuf, source: MigrateError },
    #[error(
        "the database {path} was made by a vetwatch of before the first release, which had other tables; nothing was changed"
    )]
    Unreleased { path: PathBuf },
    #[error(
        "the database {path} was written by an older vetwatch; start the daemon once, or run the command as the service's user"
    )]
    Older { path: PathBuf },
    /// A statement failed.
    #[error("{} ({})", cannot(action.as_ref(), "use the database"), place(at))]
    Sqlite { action: Option<String>, at: &'static Location<'static>, source: sqlx::Error },
    /// A row holds what vetwatch cannot have written: it is damaged, or somebody else wrote it. Nothing is made up in its
    /// place; whatever depends on it waits until the row is mended.
    #[error("{}: the column {column} of the row {row} in the table {table} cannot be read", cannot(action.as_ref(), "go on"))]
    Row {
        action: Option<String>,
        table: &'static str,
        row: String,
        column: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was to be stored cannot be written as JSON.
    #[error("{}: a value cannot be written as JSON", cannot(action.as_ref(), "store something"))]
    Unwritable { action: Option<String>, source: serde_json::Error },
    #[error("{who} has held the database {path} for {seconds} s")]
    Held { path: PathBuf, who: String, seconds: u64 },
    /// Whatever is written now is written for nobody.
    #[error("the database {path} {how} while it was in use")]
    Lost { path: PathBuf, how: &'static str },
    /// The file is there, and what is in the log can still be copied into it.
    #[error("{path}, which belongs to the database, was deleted or replaced while it was in use")]
    LogLost { path: PathBuf },
}

impl From<sqlx::Error> for Error {
    #[track_caller]
    fn from(source: sqlx::Error) -> Self {
        Self::Sqlite { action: None, at: Location::caller(), source }
    }
}

/// The error of a statement that does this.
#[track_caller]
fn doing(what: &str) -> impl FnOnce(sqlx::Error) -> Error {
    let at = Location::caller();
    move |source| Error::Sqlite { action: Some(what.to_owned()), at, source }
}

fn cannot(action: Option<&String>, else_what: &str) -> String {
    format!("cannot {}", action.map_or(else_what, String::as_str))
}

/// Which statement it was, for a report: the file's name alone says nothing of where vetwatch was built.
fn place(at: &Location<'_>) -> String {
    let file = at.file().rsplit(['/', '\\']).next().unwrap_or_default();
    format!("{file}:{}", at.line())
}

/// An error that names the column of a row, for what it holds.
fn unreadable<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    table: &'static str,
    row: impl std::fmt::Display,
    column: &str,
) -> impl FnOnce(E) -> Error {
    let (row, column) = (row.to_string(), column.to_owned());
    move |source| Error::Row { action: None, table, row, column, source: source.into() }
}

/// The error of a statement that reads a row: if a column of it is to blame, it is named. `columns` are those that the
/// statement reads, in its order: sqlx only counts them.
fn of_row(
    table: &'static str,
    row: impl std::fmt::Display,
    columns: &'static str,
) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| match error {
        sqlx::Error::ColumnDecode { index, source } => {
            let name = index.parse().ok().and_then(|n| columns.split_whitespace().nth(n));
            unreadable(table, row, name.unwrap_or(&index))(source)
        }
        error => error.into(),
    }
}

/// A count, which is never negative.
fn counted(table: &'static str, row: impl std::fmt::Display, column: &str, n: i64) -> Result<u32, Error> {
    u32::try_from(n).map_err(unreadable(table, row, column))
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Unwritable { action: None, source })
}

impl Error {
    /// Says what was being done when it happened (`record an answer`), unless that is said more exactly already.
    #[must_use]
    pub fn while_doing(mut self, what: impl std::fmt::Display) -> Self {
        if let Self::Sqlite { action, .. } | Self::Row { action, .. } | Self::Unwritable { action, .. } = &mut self {
            action.get_or_insert_with(|| what.to_string());
        }
        self
    }

    /// The trouble is with what was to be stored, not with the database: it would fail again.
    #[must_use]
    pub fn is_of_the_data(&self) -> bool {
        match self {
            // SQLITE_ERROR, SQLITE_TOOBIG, SQLITE_CONSTRAINT and SQLITE_MISMATCH with their extended codes.
            Self::Sqlite { source: sqlx::Error::Database(error), .. } => error
                .code()
                .and_then(|code| code.parse::<i32>().ok())
                .is_some_and(|code| matches!(code & 0xff, 1 | 18 | 19 | 20)),
            Self::Sqlite { source: sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), .. }
            | Self::Row { .. }
            | Self::Unwritable { .. } => true,
            _ => false,
        }
    }

    /// Somebody else holds the database; it will be free again.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::Sqlite { source: sqlx::Error::Database(error), .. } => {
                // SQLITE_BUSY and SQLITE_LOCKED with their extended codes: the low byte says which.
                error.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| matches!(code & 0xff, 5 | 6))
            }
            _ => false,
        }
    }

    /// What is in the file is no database, or not a whole one.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            // SQLITE_CORRUPT and SQLITE_NOTADB with their extended codes.
            Self::Sqlite { source: sqlx::Error::Database(error), .. } => error
                .code()
                .and_then(|code| code.parse::<i32>().ok())
                .is_some_and(|code| matches!(code & 0xff, 11 | 26)),
            _ => false,
        }
    }
}

/// Another program that holds the writer's lock is waited for in pieces of this length.
const BUSY: Duration = Duration::from_secs(2);
/// The last migration of before the first release.
const LAST_UNRELEASED: i64 = 18;
/// A disk that hangs must not keep a process from ending.
const LONGEST_CLOSE: Duration = Duration::from_secs(5);

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) write: SqlitePool,
    pub(crate) read: SqlitePool,
    path: Arc<Path>,
    /// `None`: opened to read.
    opened: Option<Arc<file::Opened>>,
    waiting: Arc<held::Waiting>,
    /// When this process first met damage.
    damage: Arc<OnceLock<Timestamp>>,
}

impl Store {
    /// Opens the file, creates it where there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::Held`] if another program holds it for longer than a command waits.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let wait = held::Wait::begin(path);
        // Two processes may start at once on a new file: one of them makes the tables.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let turn = File::open(folder).map_err(failed)?;
        wait.for_turn(&turn, failed).await?;
        // Readable for the group (analysts), whatever the umask; SQLite gives its other files the same mode. The file is
        // never opened beside SQLite: closing any descriptor of it drops the locks of all, and the next program that
        // comes by would take itself for the only one and delete the log that we write to.
        match File::options().create_new(true).write(true).mode(0o640).open(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        // Said now and in words; SQLite would open it for reading, and fail at the first write.
        nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).map_err(|error| failed(error.into()))?;
        let is_new = std::fs::metadata(path).map_err(failed)?.len() == 0;
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A verdict that was committed survives a power cut. It costs one fsync a transaction.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .statement_cache_capacity(64)
            .pragma("cache_size", "-2000")
            .pragma("journal_size_limit", "67108864");
        if is_new {
            // To say so again would be a write: a command that only reads would wait for whoever writes.
            options = options.auto_vacuum(SqliteAutoVacuum::Incremental);
        }
        // Connections stay: the data version that tells of other writers counts within one. But where SQLite itself has
        // undone a transaction (the disk was full), sqlx waits for its end for ever: such a connection is replaced.
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .test_before_acquire(false)
                .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let write = loop {
            let write = async {
                let write = pool(1).acquire_timeout(Duration::from_hours(1)).connect_with(options.clone()).await?;
                sqlx::migrate!().run(&write).await.map_err(|error| match error {
                    // Neither newer nor damaged: it is held, or the disk is full.
                    MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                        doing("bring the tables up to date")(error)
                    }
                    MigrateError::VersionMismatch(_) => Error::Unreleased { path: path.to_owned() },
                    MigrateError::VersionMissing(version) if version <= LAST_UNRELEASED => {
                        Error::Unreleased { path: path.to_owned() }
                    }
                    source => Error::Migrate { path: path.to_owned(), source },
                })?;
                Ok::<_, Error>(write)
            };
            match write.await {
                Ok(write) => break write,
                Err(error) if error.is_busy() => wait.goes_on()?,
                Err(error) => return Err(error),
            }
        };
        let read = pool(2).connect_lazy_with(reading(path));
        let opened = Some(Arc::new(file::Opened::at(path).map_err(failed)?));
        drop(turn);
        Ok(Self { write, read, path: path.into(), opened, waiting: Arc::default(), damage: Arc::default() })
    }

    /// Opens a file that is there, for reading only: makes nothing, waits for nobody.
    pub async fn open_to_read(path: &Path) -> Result<Self, Error> {
        let pool = || SqlitePoolOptions::new().max_connections(2);
        let read = pool().connect_with(reading(path)).await?;
        let found = sqlx::query_as::<_, (i64, Vec<u8>)>("select version, checksum from _sqlx_migrations");
        let found = found.fetch_all(&read).await?;
        for migration in sqlx::migrate!().iter() {
            let checksum =
                found.iter().find(|(version, _)| *version == migration.version).map(|(_, checksum)| checksum);
            match checksum {
                None => return Err(Error::Older { path: path.to_owned() }),
                Some(checksum) if **checksum != *migration.checksum => {
                    return Err(Error::Unreleased { path: path.to_owned() });
                }
                Some(_) => {}
            }
        }
        // A pool of its own, which nobody uses: `leave` waits for the writer while it holds a reader.
        let write = pool().connect_lazy_with(reading(path));
        Ok(Self { write, read, path: path.into(), opened: None, waiting: Arc::default(), damage: Arc::default() })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number that changes when another process has written.
    pub async fn data_version(&self) -> Result<i64, Error> {
        // Asked on the writer: there our own writes do not count.
        Ok(sqlx::query_scalar("pragma data_version").fetch_one(&self.write).await?)
    }

    /// Copies what is in the log into the file, so that the file alone holds everything, and closes it. For who is the
    /// last to write. False: somebody still reads what stood there before, or writes, and so the log is still needed.
    pub async fn close(&self) -> bool {
        let copied = match self.opened {
            Some(_) => timeout(LONGEST_CLOSE, self.copy_log()).await.is_ok_and(|copied| copied.unwrap_or(false)),
            None => true,
        };
        self.leave().await;
        copied
    }

    async fn copy_log(&self) -> Result<bool, Error> {
        let copied = sqlx::query_as::<_, (i64, i64, i64)>("pragma wal_checkpoint(truncate)");
        let (busy, in_log, in_file) = copied.fetch_one(&self.write).await?;
        Ok(busy == 0 || in_log == in_file)
    }

    /// Closes every connection, the writer before the last reader: SQLite takes the `-wal` and `-shm` files away with
    /// a last connection that may write, and who may only read could not open the database any more until somebody
    /// writes.
    pub async fn leave(&self) {
        let closing = async {
            let reader = self.read.acquire().await;
            self.write.close().await;
            drop(reader);
            self.read.close().await;
        };
        // Otherwise the process ends without: nothing that was committed is lost by that.
        let _ = timeout(LONGEST_CLOSE, closing).await;
    }
}

fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(Duration::from_secs(5))
}

/// A write transaction. Nothing of it happened unless [`commit`](Self::commit) returned; dropping it undoes it.
/// None is ever alive across a network call.
#[derive(Debug)]
pub struct WriteTx {
    pub(crate) tx: Transaction<'static, Sqlite>,
}

impl WriteTx {
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_opens_the_database_for_writing_and_leaves_takes_nothing_along() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vetwatch.db");
        Store::open(&path).await.unwrap().close().await; // the file is there, as at every start but the first
        let store = Store::open(&path).await.unwrap();
        let count = || {
            let sql = "select count(*) from partner";
            let done = std::process::Command::new("sqlite3").arg(&path).arg(sql).output().unwrap();
            String::from_utf8(done.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(count(), "0");
        assert!(directory.path().join("vetwatch.db-wal").exists(), "the log that is being written to");
        let mut tx = store.begin().await.unwrap();
        tx.partner("emea", Timestamp::from_millis(1)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(count(), "1");
    }

    #[tokio::test]
    async fn a_closed_database_leaves_its_log_so_that_analysts_can_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("vetwatch.db")).await.unwrap();
        store.begin().await.unwrap().commit().await.unwrap();
        store.partner_names().await.unwrap();
        store.close().await;
        assert!(directory.path().join("vetwatch.db-wal").exists());
        assert!(directory.path().join("vetwatch.db-shm").exists());
    }

    #[tokio::test]
    async fn a_database_that_was_opened_to_read_can_be_closed_and_never_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vetwatch.db");
        Store::open(&path).await.unwrap().close().await;
        let store = Store::open_to_read(&path).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        assert!(tx.partner("emea", Timestamp::from_millis(0)).await.is_err());
        drop(tx);
        store.close().await;
    }
}
