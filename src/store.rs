//! The SQLite database. All SQL lives below this module; nothing else names sqlx.
//!
//! A stub: the seam that the commands need.

pub mod redrive;
pub mod reports;
pub mod roster;

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{Sqlite, Transaction};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the database cannot be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl Error {
    /// Somebody else holds the database: the same may work a moment later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        // SQLITE_BUSY and SQLITE_LOCKED are the low byte of the extended code.
        error.code().and_then(|code| code.parse::<i64>().ok()).is_some_and(|code| matches!(code & 0xff, 5 | 6))
    }
}

#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) read: SqlitePool,
    pub(crate) write: SqlitePool,
}

#[derive(Debug)]
pub struct WriteTx {
    pub(crate) tx: Transaction<'static, Sqlite>,
}

impl Store {
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal);
        let write = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!().run(&write).await?;
        let read = SqlitePoolOptions::new().max_connections(2).connect_with(options.read_only(true)).await?;
        Ok(Self { read, write })
    }

    /// Closes the database and leaves its write-ahead log, even an empty one: without it, analysts who may only read
    /// cannot open the database (SQLite would have to make the log first). The last connection removes the log if it
    /// can write; so the writer goes first, and the readers, who cannot, last.
    pub async fn close(&self) {
        let reader = self.read.acquire().await;
        self.write.close().await;
        drop(reader);
        self.read.close().await;
    }

    pub async fn begin(&self) -> Result<WriteTx, Error> {
        Ok(WriteTx { tx: self.write.begin_with("begin immediate").await? })
    }
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
    async fn a_closed_database_leaves_its_log_so_that_analysts_can_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("vetwatch.db")).await.unwrap();
        store.begin().await.unwrap().commit().await.unwrap();
        store.partner_names().await.unwrap();
        store.close().await;
        assert!(directory.path().join("vetwatch.db-wal").exists());
        assert!(directory.path().join("vetwatch.db-shm").exists());
    }
}
