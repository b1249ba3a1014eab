//! The SQLite database. All SQL lives below this module; nothing else names sqlx.
//!
//! Reads go through [`Store`]; every write goes through a [`WriteTx`]. There is one writer connection: writers in
//! one process queue fairly for it, and `begin immediate` makes those of several processes wait for each other.

mod activity;
pub mod alarms;
mod departures;
mod endpoints;
mod enqueue;
mod fail_over;
mod housekeeping;
mod listing;
mod mute;
mod outbox;
mod overdue;
mod plausibility;
mod polling;
mod recipients;
mod recovery;
pub mod redrive;
pub mod reports;
pub mod roster;
mod submission;
mod trial;
mod vetting;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Sqlite, Transaction};
use tracing::warn;

pub use activity::{Acted, LogRead, LogState, Newcomer, SeenOperation};
pub use departures::{LostReview, Standing};
pub use enqueue::Parcel;
pub use listing::{ListState, ListedCustomer, TakenPage, Unlisted};
pub use outbox::{Claim, Due, Finish, InsteadOf, Unwritten};
pub use overdue::OpenReview;
pub use polling::{DueCustomer, Failed, Gate, PartnerRow, PollClass, Unchanged};
pub use recipients::{Refusal, Refused};
pub use recovery::Latest;
pub use submission::Expected;
pub use trial::Trial;
pub use vetting::Customer;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the database {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("the database {path} was written by a newer vetwatch or is damaged; nothing was changed")]
    Migrate { path: PathBuf, source: sqlx::migrate::MigrateError },
    #[error(
        "the database {path} was written by an older vetwatch; start the daemon once, or run the command as the service's user"
    )]
    Older { path: PathBuf },
    #[error("the database failed")]
    Sqlite(#[from] sqlx::Error),
}

impl Error {
    /// The trouble is with what was to be stored, not with the database: it would fail again.
    #[must_use]
    pub fn is_of_the_data(&self) -> bool {
        match self {
            // SQLITE_ERROR, SQLITE_TOOBIG, SQLITE_CONSTRAINT and SQLITE_MISMATCH with their extended codes.
            Self::Sqlite(sqlx::Error::Database(error)) => error
                .code()
                .and_then(|code| code.parse::<i32>().ok())
                .is_some_and(|code| matches!(code & 0xff, 1 | 18 | 19 | 20)),
            Self::Sqlite(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => true,
            _ => false,
        }
    }

    /// Somebody else holds the database; it will be free again.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Sqlite(sqlx::Error::Database(error)) => {
                // SQLITE_BUSY and SQLITE_LOCKED with their extended codes: the low byte says which.
                error.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| matches!(code & 0xff, 5 | 6))
            }
            _ => false,
        }
    }
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) write: SqlitePool,
    pub(crate) read: SqlitePool,
}

impl Store {
    /// Opens the file, creates it where there is none, and brings its tables up to date.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        // Two processes may start at once on a new file: one of them makes the tables.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let turn = File::open(folder).map_err(failed)?;
        turn.lock().map_err(failed)?;
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
            .busy_timeout(Duration::from_secs(5))
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
        let write = pool(1).acquire_timeout(Duration::from_hours(1)).connect_with(options.clone()).await?;
        sqlx::migrate!().run(&write).await.map_err(|source| Error::Migrate { path: path.to_owned(), source })?;
        let read = pool(2).connect_lazy_with(reading(path));
        drop(turn);
        Ok(Self { write, read })
    }

    /// Opens a file that is there, for reading only: makes nothing, waits for nobody.
    pub async fn open_to_read(path: &Path) -> Result<Self, Error> {
        let pool = || SqlitePoolOptions::new().max_connections(2);
        let read = pool().connect_with(reading(path)).await?;
        let current = sqlx::migrate!().iter().map(|migration| migration.version).max();
        let found =
            sqlx::query_scalar::<_, Option<i64>>("select max(version) from _sqlx_migrations").fetch_one(&read).await?;
        if found < current {
            return Err(Error::Older { path: path.to_owned() });
        }
        // A pool of its own, which nobody uses: `close` waits for the writer while it holds a reader.
        Ok(Self { write: pool().connect_lazy_with(reading(path)), read })
    }

    /// Begins a write. Waits for as long as somebody else holds the database.
    pub async fn begin(&self) -> Result<WriteTx, Error> {
        loop {
            match self.write.begin_with("begin immediate").await.map_err(Error::from) {
                Ok(tx) => return Ok(WriteTx { tx }),
                Err(error) if error.is_busy() => warn!("another program holds the database; waiting for it"),
                Err(error) => return Err(error),
            }
        }
    }

    /// A number that changes when another process has written.
    pub async fn data_version(&self) -> Result<i64, Error> {
        // Asked on the writer: there our own writes do not count.
        Ok(sqlx::query_scalar("pragma data_version").fetch_one(&self.write).await?)
    }

    /// Closes every connection, the writer before the last reader: SQLite takes the `-wal` and `-shm` files away with
    /// a last connection that may write, and who may only read could not open the database any more until somebody
    /// writes.
    pub async fn close(&self) {
        let reader = self.read.acquire().await;
        self.write.close().await;
        drop(reader);
        self.read.close().await;
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
        tx.partner("emea", crate::time::Timestamp::from_millis(1)).await.unwrap();
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
        assert!(tx.partner("emea", crate::time::Timestamp::from_millis(0)).await.is_err());
        drop(tx);
        store.close().await;
    }
}
