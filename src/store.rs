//! The SQLite database. All SQL is in this module and below it; nothing else uses sqlx.
//!
//! Reads go through [`Store`], writes through a [`WriteTx`]. There is one writer connection: writers in one process
//! queue fairly for it, and `begin immediate` makes those of several processes wait for each other.

mod activity_log;
pub mod alerts;
pub mod attention;
pub mod backup;
mod columns;
mod completions;
mod configuration;
pub mod copy;
mod departures;
mod endpoints;
mod enqueue;
mod fail_over;
mod file;
mod figures;
mod held;
mod housekeeping;
mod ids;
mod membership;
mod customer_sync;
mod leader;
mod mute;
mod outbox;
mod overdue;
mod mass_absence;
mod polling;
mod recipients;
mod recovery;
mod reading;
pub mod redirect;
pub mod redrive;
pub mod reports;
pub mod customers;
mod submission;
pub mod summary;
mod claimed_polls;
mod test_delivery;
mod unreadable;
mod vetting;
pub mod waiting;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteArguments, SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, Transaction};
use tokio::time::timeout;
use tracing::info;

use crate::time::Timestamp;

pub use activity_log::{ActiveCustomer, DiscoveredCustomer, LogRead, LogState, SeenOperation};
pub use configuration::ConfigurationState;
pub use customer_sync::{ListState, TakenPage, Unlisted};
pub use departures::{BaselineCounts, LostReview};
pub use file::was_deleted;
pub(crate) use file::{litestream_directory, sibling_path};
pub use held::LargeLog;
pub use ids::{CustomerId, PartnerId};
pub use mass_absence::UnclearReview;
pub use outbox::{Claim, ClaimedDelivery, FailoverFrom, Rendered, UnrenderedDelivery};
pub use overdue::OpenReview;
pub use polling::{Backoff, ClassCount, DueCustomer, Failed, PartnerRow, Unchanged};
use reading::read_options;
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
    #[error("{} is no SQLite database: another program has written over it, or it is another file", path.display())]
    NotADatabase { path: PathBuf },
    #[error("{} is no database of vetwatch", path.display())]
    NotVetwatch { path: PathBuf },
    #[error("{} is a copy for readers (`--for-readers`), which lacks what the daemon needs", path.display())]
    ForReaders { path: PathBuf },
    #[error("{} was written by a newer vetwatch", path.display())]
    Newer { path: PathBuf },
    #[error("{} is damaged: {found}", path.display())]
    Unsound { path: PathBuf, found: String },
    #[error("it was ended before it was complete")]
    Interrupted,
    /// The copy before a migration.
    #[error("the database {} cannot be copied before its tables are brought up to date; nothing was changed", path.display())]
    CopyBefore { path: PathBuf, source: Box<Error> },
    #[error("no backup can be written to {}: {why}", path.display())]
    Target { path: PathBuf, why: String },
    #[error("{} cannot be restored: {why}", path.display())]
    Source { path: PathBuf, why: String },
    #[error("another program has the database {} open", path.display())]
    InUse { path: PathBuf },
    #[error("cannot {what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{needed} MB are needed in {}, and {free} MB are free", directory.display())]
    NoRoom { directory: PathBuf, needed: u64, free: u64 },
    /// A statement failed.
    #[error("{} ({})", cannot(action.as_ref(), "use the database"), place(at))]
    Sqlite { action: Option<String>, at: &'static Location<'static>, source: sqlx::Error },
    /// A row holds what vetwatch cannot have written: it is damaged, or another program wrote it. No value is made up
    /// in its place; whatever depends on the row waits until it is repaired.
    #[error("{}: the column {column} of the row {row} in the table {table} cannot be read", cannot(action.as_ref(), "go on"))]
    Row {
        action: Option<String>,
        table: &'static str,
        row: String,
        column: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value could not be serialized as JSON.
    #[error("{}: a value cannot be written as JSON", cannot(action.as_ref(), "store something"))]
    Unwritable { action: Option<String>, source: serde_json::Error },
    #[error("{program} has held the database {path} for {seconds} s")]
    Held { path: PathBuf, program: String, seconds: u64 },
    /// The file is gone from its path: further writes would be lost.
    #[error("the database {path} {how} while it was in use")]
    Lost { path: PathBuf, how: &'static str },
    /// The file is still there, and the log can still be copied into it.
    #[error("{path}, which belongs to the database, was deleted or replaced while it was in use")]
    LogLost { path: PathBuf },
}

impl From<sqlx::Error> for Error {
    #[track_caller]
    fn from(source: sqlx::Error) -> Self {
        Self::Sqlite { action: None, at: Location::caller(), source }
    }
}

/// Maps the error of a statement; `what` says what the statement was for.
#[track_caller]
fn doing(what: &str) -> impl FnOnce(sqlx::Error) -> Error {
    let at = Location::caller();
    move |source| Error::Sqlite { action: Some(what.to_owned()), at, source }
}

fn cannot(action: Option<&String>, else_what: &str) -> String {
    format!("cannot {}", action.map_or(else_what, String::as_str))
}

/// `file:line` of a statement. The file's name alone says nothing about the machine that built vetwatch.
fn place(at: &Location<'_>) -> String {
    let file = at.file().rsplit(['/', '\\']).next().unwrap_or_default();
    format!("{file}:{}", at.line())
}

/// Maps an error to [`Error::Row`], which names the column.
fn unreadable<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    table: &'static str,
    row: impl std::fmt::Display,
    column: &str,
) -> impl FnOnce(E) -> Error {
    move |source| {
        let (row, column) = (row.to_string(), column.to_owned());
        Error::Row { action: None, table, row, column, source: source.into() }
    }
}

/// Maps the error of a statement that reads a row; a decode error names the column. `columns` are the columns of the
/// statement in order, because sqlx only gives their index.
fn row_error(
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

/// Converts a count, which is never negative.
fn to_count(table: &'static str, row: impl std::fmt::Display, column: &str, n: i64) -> Result<u32, Error> {
    u32::try_from(n).map_err(unreadable(table, row, column))
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Unwritable { action: None, source })
}

impl Error {
    /// Adds what was being done (`record an answer`), unless the error says so already.
    #[must_use]
    pub fn while_doing(mut self, what: impl std::fmt::Display) -> Self {
        if let Self::Sqlite { action, .. } | Self::Row { action, .. } | Self::Unwritable { action, .. } = &mut self {
            action.get_or_insert_with(|| what.to_string());
        }
        self
    }

    /// True if the data is at fault rather than the database: a retry would fail again.
    #[must_use]
    pub fn is_data_error(&self) -> bool {
        match self {
            Self::Sqlite { source: sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), .. }
            | Self::Row { .. }
            | Self::Unwritable { .. } => true,
            // SQLITE_ERROR, SQLITE_TOOBIG, SQLITE_CONSTRAINT and SQLITE_MISMATCH.
            _ => matches!(self.result_code(), Some(1 | 18 | 19 | 20)),
        }
    }

    /// True if another connection holds the database; a retry may succeed.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        // SQLITE_BUSY and SQLITE_LOCKED.
        matches!(self, Self::Held { .. }) || matches!(self.result_code(), Some(5 | 6))
    }

    /// True if a statement was interrupted at its deadline.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        // SQLITE_INTERRUPT.
        self.result_code() == Some(9)
    }

    /// True if the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        // SQLITE_FULL.
        self.result_code() == Some(13)
    }

    /// True if the file cannot be opened or written as it is: by this user, or by anybody.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        // SQLITE_READONLY, SQLITE_IOERR and SQLITE_CANTOPEN.
        matches!(self.result_code(), Some(8 | 10 | 14))
    }

    /// True if the file is not a database, or is damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        // SQLITE_CORRUPT and SQLITE_NOTADB.
        matches!(self, Self::NotADatabase { .. } | Self::Unsound { .. }) || matches!(self.result_code(), Some(11 | 26))
    }

    /// SQLite's result code; extended codes share its low byte.
    fn result_code(&self) -> Option<i32> {
        let Self::Sqlite { source: sqlx::Error::Database(error), .. } = self else { return None };
        error.code()?.parse::<i32>().ok().map(|code| code & 0xff)
    }
}

/// SQLite's busy timeout. A longer wait for another program repeats it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// The last migration version before the first release.
const LAST_UNRELEASED_VERSION: i64 = 18;
/// For a writer beside Litestream, and as SQLite has it.
const NO_CHECKPOINTS: &str = "pragma wal_autocheckpoint = 0";
const CHECKPOINTS: &str = "pragma wal_autocheckpoint = 1000";
/// A disk that hangs must not keep the process from ending.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) write: SqlitePool,
    pub(crate) read: SqlitePool,
    path: Arc<Path>,
    /// `None` if opened read-only.
    opened: Option<Arc<file::Opened>>,
    waiting: Arc<held::Waiting>,
    /// When this process first found damage.
    damage: Arc<OnceLock<Timestamp>>,
    /// Litestream makes the checkpoints.
    is_replicated: Arc<AtomicBool>,
    /// The last process that wrote left no log.
    ended_in_order: bool,
}

impl Store {
    /// Opens the file, creates it if it does not exist, and runs the migrations.
    ///
    /// # Errors
    /// [`Error::Held`] if another program holds it for longer than ten seconds.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, &sqlx::migrate!()).await.map_err(|error| error.of_file(path))
    }

    async fn open_with(path: &Path, migrator: &Migrator) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let wait = held::Wait::begin(path);
        // Two processes may start at once on a new file; only one may create the tables.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let turn = File::open(folder).map_err(failed)?;
        wait.lock(&turn, failed).await?;
        // Readable for the group (analysts), whatever the umask; SQLite gives its other files the same mode. The file
        // is never opened beside SQLite: closing any descriptor of a file drops all of the process's locks on it, and
        // the next program to open the database would think it is alone and delete the log that we write to.
        match File::options().create_new(true).write(true).mode(0o640).open(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        // Fails early with a clear error; SQLite would open the file read-only and fail at the first write.
        nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).map_err(|error| failed(error.into()))?;
        let ended_in_order = !sibling_path(path, "-wal").metadata().is_ok_and(|log| log.len() > 0);
        let is_new = std::fs::metadata(path).map_err(failed)?.len() == 0;
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A committed verdict survives a power cut, at the cost of one fsync per transaction.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(64)
            .pragma("cache_size", "-2000")
            .pragma("journal_size_limit", "67108864");
        if is_new {
            // Setting it again would be a write, for which a command that only reads would wait.
            options = options.auto_vacuum(SqliteAutoVacuum::Incremental);
        }
        // Connections are kept: `data_version`, which reveals other writers, is counted per connection. But where
        // SQLite itself has rolled back a transaction (the disk was full), sqlx waits for its end for ever: such a
        // connection is replaced.
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
                let database = path.to_owned();
                let write = pool(1).acquire_timeout(Duration::from_hours(1)).after_connect(move |connection, _| {
                    let is_replicated = file::is_replicated(&database);
                    Box::pin(async move {
                        if is_replicated {
                            sqlx::raw_sql(NO_CHECKPOINTS).execute(connection).await?;
                        }
                        Ok(())
                    })
                });
                let write = write.connect_with(options.clone()).await?;
                // Only now: what a killed process left behind is rolled back by the first that may write.
                if !is_new {
                    copy_before_migration(path, migrator).await?;
                }
                migrator.run(&write).await.map_err(|error| match error {
                    // Neither newer nor damaged: the database is locked, or the disk is full.
                    MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                        doing("bring the tables up to date")(error)
                    }
                    MigrateError::VersionMismatch(_) => Error::Unreleased { path: path.to_owned() },
                    MigrateError::VersionMissing(version) if version <= LAST_UNRELEASED_VERSION => {
                        Error::Unreleased { path: path.to_owned() }
                    }
                    source => Error::Migrate { path: path.to_owned(), source },
                })?;
                Ok::<_, Error>(write)
            };
            match write.await {
                Ok(write) => break write,
                Err(error) if error.is_busy() => wait.check()?,
                Err(error) => return Err(error),
            }
        };
        // What it reads is in the page cache of the system; the writer empties its own at each commit.
        let read = pool(2).connect_lazy_with(read_options(path).pragma("cache_size", "-512"));
        let opened = Some(Arc::new(file::Opened::at(path).map_err(failed)?));
        drop(turn);
        Ok(Self {
            write,
            read,
            path: path.into(),
            opened,
            waiting: Arc::default(),
            damage: Arc::default(),
            is_replicated: Arc::new(AtomicBool::new(file::is_replicated(path))),
            ended_in_order,
        })
    }

    /// Leaves checkpoints to Litestream while it replicates the database, and makes them otherwise.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn follow_litestream(&self) -> Result<(), Error> {
        let is_replicated = file::is_replicated(&self.path);
        if is_replicated != self.is_replicated.load(Ordering::Relaxed) {
            let pragma = if is_replicated { NO_CHECKPOINTS } else { CHECKPOINTS };
            sqlx::raw_sql(pragma).execute(&self.write).await?;
            self.is_replicated.store(is_replicated, Ordering::Relaxed);
            info!(
                "checkpoints of the database are {} now",
                if is_replicated { "Litestream's" } else { "vetwatch's own" }
            );
        }
        Ok(())
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// False if the process that wrote last was killed, or could not take its log into the file.
    #[must_use]
    pub fn ended_in_order(&self) -> bool {
        self.ended_in_order
    }

    /// The version of SQLite that is linked in.
    pub async fn sqlite_version(&self) -> Result<String, Error> {
        Ok(sqlx::query_scalar("select sqlite_version()").fetch_one(&self.read).await?)
    }

    /// A number that changes when another process has written.
    pub async fn data_version(&self) -> Result<i64, Error> {
        // Read on the writer, where our own writes do not count.
        Ok(sqlx::query_scalar("pragma data_version").fetch_one(&self.write).await?)
    }

    /// Copies the log into the file and closes it, for the last writer: afterwards the file alone holds everything, and
    /// a program that may read it can, because it needs no `-wal` and `-shm` files. False if those are still needed, because
    /// another connection reads an older snapshot or writes, or Litestream has not read the log to its end.
    pub async fn close(&self) -> bool {
        let copied = match self.opened {
            Some(_) if file::is_replicated(&self.path) => false,
            Some(_) => timeout(CLOSE_TIMEOUT, self.copy_log()).await.is_ok_and(|copied| copied.unwrap_or(false)),
            None => true,
        };
        if self.opened.is_some() && copied {
            let leaving_log_mode = async {
                self.read.close().await;
                let mode = "pragma busy_timeout = 0; pragma journal_mode = delete";
                let _ = sqlx::raw_sql(mode).execute(&self.write).await; // another connection is open: it stays
            };
            let _ = timeout(CLOSE_TIMEOUT, leaving_log_mode).await;
        }
        self.close_connections().await;
        copied
    }

    async fn copy_log(&self) -> Result<bool, Error> {
        let copied = sqlx::query_as::<_, (i64, i64, i64)>("pragma wal_checkpoint(truncate)");
        let (busy, in_log, in_file) = copied.fetch_one(&self.write).await?;
        Ok(busy == 0 || in_log == in_file)
    }

    /// Closes every connection, the writer before a last reader: SQLite deletes the `-wal` and `-shm` files with the
    /// last connection that may write, and without them a read-only user cannot open the database until the next write.
    pub async fn close_connections(&self) {
        let closing = async {
            self.read.close().await;
            let reader = match self.opened {
                Some(_) => read_options(&self.path).connect().await.ok(),
                None => None,
            };
            if let Some(mut reader) = reader {
                // Opens the log, if there is one.
                let _ = sqlx::query("select 1 from sqlite_schema").execute(&mut reader).await;
                self.write.close().await;
                let _ = reader.close().await;
            } else {
                self.write.close().await;
            }
        };
        // On a timeout the process ends anyway; nothing committed is lost by that.
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
}

/// Copies a database whose tables will be changed, beside it: `vetwatch.db.schema-1`. The copy of the version before is
/// deleted then.
///
/// # Errors
/// [`Error::CopyBefore`]: without a copy nothing is changed.
async fn copy_before_migration(path: &Path, migrator: &Migrator) -> Result<(), Error> {
    let Some(version) = copy::outdated(path, migrator).await? else { return Ok(()) };
    let target = sibling_path(path, &format!(".schema-{version}"));
    let copied = backup::write(path, &target, backup::Purpose::Restore, || true).await;
    let copied = copied.map_err(|source| match source {
        source if source.is_busy() => source,
        source => Error::CopyBefore { path: path.to_owned(), source: Box::new(source) },
    })?;
    info!("the database is brought up to date; a copy of what it was before is in {}", copied.file.display());
    for older in 1..version {
        // There is none of most versions.
        let _ = std::fs::remove_file(sibling_path(path, &format!(".schema-{older}")));
    }
    Ok(())
}

/// What `sqlx::query!` makes of a statement that returns no rows.
type Statement = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// A write transaction. [`commit`](Self::commit) applies it, dropping it rolls back. Never held across a network call.
#[derive(Debug)]
pub struct WriteTx {
    pub(crate) tx: Transaction<'static, Sqlite>,
}

impl WriteTx {
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.tx.commit().await?)
    }

    /// Runs a statement.
    #[track_caller]
    fn run(&mut self, statement: Statement) -> impl Future<Output = Result<(), Error>> + Send {
        let changed = self.change(statement);
        async move { changed.await.map(drop) }
    }

    /// Runs a statement. Returns how many rows it changed.
    #[track_caller]
    fn change(&mut self, statement: Statement) -> impl Future<Output = Result<u64, Error>> + Send {
        let at = Location::caller();
        async move {
            let done = statement.execute(&mut *self.tx).await;
            done.map(|done| done.rows_affected()).map_err(|source| Error::Sqlite { action: None, at, source })
        }
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
    async fn a_closed_database_is_one_file_unless_another_connection_needs_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vetwatch.db");
        let logs = || ["vetwatch.db-wal", "vetwatch.db-shm"].map(|name| directory.path().join(name).exists());
        let filled = async || {
            let store = Store::open(&path).await.unwrap();
            store.begin().await.unwrap().commit().await.unwrap();
            store.partner_names().await.unwrap();
            store
        };
        filled().await.close().await;
        assert_eq!(logs(), [false, false]);

        let store = filled().await;
        let mut reader = read_options(&path).connect().await.unwrap();
        sqlx::query("select 1 from sqlite_schema").execute(&mut reader).await.unwrap();
        store.close().await;
        assert_eq!(logs(), [true, true], "a reader is there");
        reader.close().await.unwrap();
        assert_eq!(logs(), [true, true]);

        // A daemon goes on beside a command that closes its connections.
        filled().await.close_connections().await;
        assert_eq!(logs(), [true, true]);
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

    /// The migrations, and one that no version has yet.
    fn next_version() -> Migrator {
        let mut migrator = sqlx::migrate!();
        let sql = sqlx::SqlStr::from_static("alter table daemon add column next integer");
        let kind = sqlx::migrate::MigrationType::Simple;
        migrator.migrations.to_mut().push(sqlx::migrate::Migration::new(2, "next".into(), kind, sql, false));
        migrator
    }

    #[tokio::test]
    async fn a_database_is_copied_before_its_tables_change_and_left_alone_if_it_cannot_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vetwatch.db");
        let copy = directory.path().join("vetwatch.db.schema-1");
        let store = Store::open(&path).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        tx.partner("emea", Timestamp::from_millis(1)).await.unwrap();
        tx.commit().await.unwrap();
        store.close().await;
        assert!(!copy.exists());

        // Something is in the way: nothing is changed.
        std::fs::create_dir(&copy).unwrap();
        let error = Store::open_with(&path, &next_version()).await.unwrap_err();
        assert!(matches!(error, Error::CopyBefore { .. }), "{error}");
        std::fs::remove_dir(&copy).unwrap();
        Store::open(&path).await.unwrap().close().await;

        let store = Store::open_with(&path, &next_version()).await.unwrap();
        let next: Option<i64> =
            sqlx::query_scalar("select next from daemon").fetch_optional(&store.read).await.unwrap();
        assert_eq!(next, None);
        store.close().await;
        let old = Store::open_to_read(&copy).await.unwrap();
        assert_eq!(old.partner_names().await.unwrap(), ["emea"]);
        old.close().await;
        let made = copy.metadata().unwrap().modified().unwrap();
        Store::open_with(&path, &next_version()).await.unwrap().close().await;
        assert_eq!(copy.metadata().unwrap().modified().unwrap(), made, "once");
    }

    #[tokio::test]
    async fn what_is_no_database_is_said_in_our_words() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vetwatch.db");
        std::fs::write(&path, vec![b'x'; 5000]).unwrap();
        for error in [Store::open(&path).await.unwrap_err(), Store::open_to_read(&path).await.unwrap_err()] {
            assert!(matches!(error, Error::NotADatabase { .. }) && error.is_damage(), "{error:?}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 5000]);
    }
}
