//! Whole copies of the database, and the checks of a file before it is trusted. Everything here runs on connections of
//! its own, beside the daemon's writer and readers, and ends when `go_on` says so.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::{Error, LAST_UNRELEASED_VERSION, Store, doing, read_options};
use crate::time::Timestamp;

/// `pragma application_id` of a database: "vetw", as the first migration sets it.
const DATABASE_ID: u32 = 0x7665_7477;
/// Of a backup: "vetb". It may be replaced by another backup, as a database may not.
const BACKUP_ID: u32 = 0x7665_7462;
/// Of a copy for readers: "vetr". It lacks what the daemon needs.
const READERS_ID: u32 = 0x7665_7472;
const HEADER: &[u8; 16] = b"SQLite format 3\0";
/// `go_on` is asked after this many steps of SQLite's machine: well below a millisecond.
const STEPS: i32 = 1000;
/// At most so many lines of `integrity_check`.
const MAX_FOUND: usize = 5;

/// Asked again and again while SQLite works; `false` ends the work.
pub trait GoOn: Fn() -> bool + Clone + Send + Sync + 'static {}
impl<F: Fn() -> bool + Clone + Send + Sync + 'static> GoOn for F {}

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Contents {
    pub transitions: i64,
    pub last_transition: i64,
    pub deliveries: i64,
    /// Messages that are not delivered yet.
    pub pending: i64,
    #[serde(skip)]
    alive_at: Option<i64>,
}

impl Contents {
    /// Until when the daemon is known to have run: what happened later is not in it.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.alive_at.map(Timestamp::from_millis)
    }

    /// Nothing of these is ever deleted, so a later state holds at least as much.
    fn is_within(&self, later: &Self) -> bool {
        self.transitions <= later.transitions
            && self.last_transition <= later.last_transition
            && self.deliveries <= later.deliveries
    }
}

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Database,
    Backup,
    ForReaders,
    Empty,
    /// Another program's file.
    Other,
}

impl FileKind {
    /// Looks at the header without SQLite. Never call it on the live database: closing a descriptor of it drops SQLite's
    /// locks.
    pub fn of(file: &File) -> io::Result<Self> {
        let mut header = [0; 100];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(if file.metadata()?.len() == 0 { Self::Empty } else { Self::Other });
            }
            Err(error) => return Err(error),
        }
        let id = header[68..72].try_into().map(u32::from_be_bytes).unwrap_or_default();
        Ok(match id {
            DATABASE_ID if header.starts_with(HEADER) => Self::Database,
            BACKUP_ID if header.starts_with(HEADER) => Self::Backup,
            READERS_ID if header.starts_with(HEADER) => Self::ForReaders,
            _ => Self::Other,
        })
    }
}

/// Marks a finished copy, which no program has open, as a backup.
pub(super) fn mark_backup(file: &File) -> io::Result<()> {
    file.write_all_at(&BACKUP_ID.to_be_bytes(), 68)
}

/// True if a file's `-wal` file belongs to it, as its header says. Beside a backup it would be another file's.
pub fn has_log(file: &File) -> bool {
    let mut versions = [0; 2];
    file.read_exact_at(&mut versions, 18).is_ok() && versions == [2, 2]
}

/// Copies a database into `target`, which must be an empty file or none, as of one instant, and checks that the copy is
/// sound and complete. The copy is one file without a log.
///
/// # Errors
/// [`Error::Interrupted`] if `go_on` ended it, [`Error::Unsound`] if the copy is not sound. The target is left as it is.
pub async fn copy(database: &Path, target: &Path, go_on: impl GoOn) -> Result<Contents, Error> {
    let what = "copy the database";
    let path = target.to_str().ok_or_else(|| Error::Open {
        path: target.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8"),
    })?;
    let mut source = connect(database, go_on.clone()).await?;
    let copied = async {
        let before = contents(&mut source).await?;
        sqlx::query("vacuum into ?1").bind(path).execute(&mut source).await.map_err(doing(what))?;
        Ok((before, contents(&mut source).await?))
    };
    let copied: Result<_, Error> = copied.await;
    let _ = source.close().await;
    let (before, after) = copied.map_err(|error| error.or_interrupted().of_file(database))?;
    let found = verify(target, go_on).await?;
    if before.is_within(&found) && found.is_within(&after) {
        return Ok(found);
    }
    Err(Error::Unsound { path: target.to_owned(), found: "it does not hold all that the database holds".to_owned() })
}

/// Reads the whole file: every page, every index, every reference.
///
/// # Errors
/// [`Error::Unsound`] with what was found.
pub async fn verify(path: &Path, go_on: impl GoOn) -> Result<Contents, Error> {
    let mut file = connect(path, go_on).await.map_err(|error| error.of_file(path))?;
    let checked = async {
        let what = "check the copy";
        let found = problems(&mut file, "pragma integrity_check").await.map_err(doing(what))?;
        if let Some(found) = found {
            return Err(Error::Unsound { path: path.to_owned(), found });
        }
        let orphans = sqlx::query_as::<_, (String, i64)>(
            "select \"table\", count(*) from pragma_foreign_key_check group by 1 order by 1 limit 1",
        );
        if let Some((table, rows)) = orphans.fetch_optional(&mut file).await.map_err(doing(what))? {
            let found = match rows {
                1 => format!("a row of the table {table} refers to a row that is not there"),
                _ => format!("{rows} rows of the table {table} refer to rows that are not there"),
            };
            return Err(Error::Unsound { path: path.to_owned(), found });
        }
        contents(&mut file).await
    };
    let checked = checked.await;
    let _ = file.close().await;
    checked.map_err(|error| error.or_interrupted().of_file(path))
}

/// Makes `target` from a copy: for people who analyse, without what only the daemon needs.
pub async fn strip(copy: &Path, target: &Path, go_on: impl GoOn) -> Result<Contents, Error> {
    // A journal file that a crash leaves would be taken for one of the next copy.
    let options = SqliteConnectOptions::new().filename(copy).create_if_missing(false);
    let mut file = options.journal_mode(SqliteJournalMode::Memory).connect().await?;
    file.lock_handle().await?.set_progress_handler(STEPS, go_on.clone());
    let stripped = sqlx::raw_sql(
        "begin;
         update customer set response = null, contact = '' where response is not null or contact <> '';
         update transition set raw_answer = null where raw_answer is not null;
         update event set data = '{}';
         update delivery set message = null, recipient = null, group_key = null, final_replies = '{}', refused = '{}';
         update attempt set response = null where response is not null;
         pragma application_id = 1986360434;
         commit",
    );
    let stripped = stripped.execute(&mut file).await.map_err(doing("make a copy for readers"));
    let _ = file.close().await;
    stripped.map_err(Error::or_interrupted)?;
    // What was removed is still in the pages of the file.
    self::copy(copy, target, go_on).await
}

/// Checks that this vetwatch can run on a file, as far as its tables go.
///
/// # Errors
/// [`Error::NotVetwatch`], [`Error::ForReaders`], [`Error::Newer`] or [`Error::Unreleased`].
pub async fn check_schema(path: &Path) -> Result<(), Error> {
    let mut file = connect(path, || true).await.map_err(|error| error.of_file(path))?;
    let checked = async {
        let what = "look at the tables";
        let id: i64 = sqlx::query_scalar("pragma application_id").fetch_one(&mut file).await.map_err(doing(what))?;
        if u32::try_from(id) == Ok(READERS_ID) {
            return Err(Error::ForReaders { path: path.to_owned() });
        }
        let applied = applied(&mut file).await?;
        if applied.is_empty() {
            return Err(Error::NotVetwatch { path: path.to_owned() });
        }
        for (version, checksum) in applied {
            match sqlx::migrate!().iter().find(|migration| migration.version == version) {
                Some(known) if *known.checksum == *checksum => {}
                None if version > LAST_UNRELEASED_VERSION => return Err(Error::Newer { path: path.to_owned() }),
                _ => return Err(Error::Unreleased { path: path.to_owned() }),
            }
        }
        Ok(())
    };
    let checked = checked.await;
    let _ = file.close().await;
    checked.map_err(|error| error.of_file(path))
}

/// Marks a file as restored, for the daemon's next start and for `status`, and takes its log into it.
pub async fn mark_restored(path: &Path, now: Timestamp) -> Result<(), Error> {
    let what = "mark the database as restored";
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
    let mut file = options.journal_mode(SqliteJournalMode::Delete).connect().await.map_err(doing(what))?;
    let id = format!("pragma application_id = {DATABASE_ID}");
    sqlx::query(AssertSqlSafe(id)).execute(&mut file).await.map_err(doing(what))?;
    let marked = sqlx::query(
        "update daemon set restored_at = ?1, restored_until = alive_at, backup_failing_since = null, backup_error = null",
    );
    let marked = marked.bind(now.as_millis()).execute(&mut file).await.map_err(doing(what));
    let closed = file.close().await.map_err(doing(what));
    marked.and(closed)
}

/// Takes the log of a database that nobody uses into its file, and deletes it. False if another program has it open.
pub async fn fold_log(path: &Path) -> Result<bool, Error> {
    let what = "take the log of the old database into its file";
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
    let mut file = options.busy_timeout(super::BUSY_TIMEOUT).connect().await.map_err(doing(what))?;
    let folded = async {
        // Reading rolls back a transaction that a crash interrupted.
        sqlx::query("select count(*) from sqlite_schema").fetch_one(&mut file).await?;
        let mode = sqlx::query_scalar::<_, String>("pragma journal_mode = delete").fetch_one(&mut file).await?;
        // Without a log nobody was in the way yet: another program may be in a transaction.
        sqlx::query("begin exclusive").execute(&mut file).await?;
        sqlx::query("rollback").execute(&mut file).await?;
        Ok::<_, sqlx::Error>(mode)
    };
    let folded = folded.await;
    let _ = file.close().await;
    match folded.map_err(doing(what)) {
        Ok(mode) => Ok(mode != "wal"),
        Err(error) if error.is_busy() => Ok(false),
        Err(error) => Err(error.of_file(path)),
    }
}

/// The newest version of the schema that a database has, if migrations are missing in it.
pub(super) async fn outdated(database: &Path, migrator: &Migrator) -> Result<Option<i64>, Error> {
    let mut file = connect(database, || true).await?;
    let applied = applied(&mut file).await;
    let _ = file.close().await;
    let newest = applied?.into_iter().map(|(version, _)| version).max();
    Ok(newest.filter(|newest| migrator.iter().any(|migration| migration.version > *newest)))
}

impl Store {
    /// Looks for damage with `pragma quick_check`, and records it. Returns what was found; `None` if nothing, or if
    /// `go_on` ended it.
    pub async fn check_quickly(&self, go_on: impl GoOn) -> Result<Option<String>, Error> {
        let mut reader = connect(self.path(), go_on).await?;
        let found = problems(&mut reader, "pragma quick_check").await.map_err(doing("check the database"));
        let _ = reader.close().await;
        let found = match found.map_err(Error::or_interrupted) {
            Ok(found) => found,
            Err(Error::Interrupted) => return Ok(None),
            Err(error) if error.is_damage() => Some(error.of_file(self.path()).to_string()),
            Err(error) => return Err(error),
        };
        if found.is_some() {
            self.damage.get_or_init(|| crate::time::Clock::now(&crate::time::SystemClock));
        }
        Ok(found)
    }
}

async fn connect(path: &Path, go_on: impl GoOn) -> Result<SqliteConnection, Error> {
    let what = "open it to read";
    let mut connection = read_options(path).connect().await.map_err(doing(what))?;
    connection.lock_handle().await.map_err(doing(what))?.set_progress_handler(STEPS, go_on);
    Ok(connection)
}

/// The first lines of a check that does not say `ok`.
async fn problems(file: &mut SqliteConnection, check: &'static str) -> Result<Option<String>, sqlx::Error> {
    let found: Vec<String> = sqlx::query_scalar(check).fetch_all(file).await?;
    if found == ["ok"] {
        return Ok(None);
    }
    let lines: Vec<_> = found.iter().flat_map(|found| found.lines()).take(MAX_FOUND).collect();
    Ok(Some(lines.join("; ")))
}

async fn contents(file: &mut SqliteConnection) -> Result<Contents, Error> {
    let counts = sqlx::query_as(
        "select (select count(*) from transition) as transitions,
                (select coalesce(max(id), 0) from transition) as last_transition,
                (select count(*) from delivery) as deliveries,
                (select count(*) from delivery where state = 'pending') as pending,
                (select alive_at from daemon) as alive_at",
    );
    counts.fetch_one(file).await.map_err(doing("count what it holds"))
}

/// Versions and checksums of the migrations that a file has; none if it is no database of vetwatch.
async fn applied(file: &mut SqliteConnection) -> Result<Vec<(i64, Vec<u8>)>, Error> {
    let what = "look at the tables";
    let table =
        "select count(*) from sqlite_schema where type = 'table' and name in ('_sqlx_migrations', 'transition')";
    let tables: i64 = sqlx::query_scalar(table).fetch_one(&mut *file).await.map_err(doing(what))?;
    if tables < 2 {
        return Ok(Vec::new());
    }
    let applied = sqlx::query_as("select version, checksum from _sqlx_migrations order by version");
    applied.fetch_all(file).await.map_err(doing(what))
}

impl Error {
    /// `SQLITE_INTERRUPT`: `go_on` said no.
    fn or_interrupted(self) -> Self {
        if self.result_code() == Some(9) { Self::Interrupted } else { self }
    }

    /// Names the file if it is no database at all, or damaged.
    pub(super) fn of_file(self, path: &Path) -> Self {
        match self.result_code() {
            Some(26) => Self::NotADatabase { path: path.to_owned() },
            Some(11) => Self::Unsound { path: path.to_owned(), found: "database disk image is malformed".to_owned() },
            _ => self,
        }
    }
}

impl Error {
    /// Names the backup in place of the copy that was checked.
    #[must_use]
    pub(crate) fn of_backup(mut self, copy: &Path, backup: &Path) -> Self {
        if let Self::NotADatabase { path }
        | Self::NotVetwatch { path }
        | Self::ForReaders { path }
        | Self::Newer { path }
        | Self::Unreleased { path }
        | Self::Unsound { path, .. } = &mut self
            && path == copy
        {
            backup.clone_into(path);
        }
        self
    }
}

/// The file that a copy is written to before it has its name.
#[must_use]
pub fn partial(target: &Path) -> PathBuf {
    super::file::sibling_path(target, ".partial")
}
