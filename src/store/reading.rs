//! Reading beside the writer: read-only connections, which create nothing and wait for no lock.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::{Error, Store};

/// Steps of SQLite's machine between two looks at the clock: a fraction of a millisecond.
const STEPS: i32 = 10_000;

pub(super) fn read_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(Duration::from_secs(5))
}

impl Store {
    /// Opens an existing file read-only. Creates nothing and waits for no lock.
    pub async fn open_to_read(path: &Path) -> Result<Self, Error> {
        Self::open_reading(path, 2).await.map_err(|error| error.of_file(path))
    }

    /// As [`Self::open_to_read`], for [`Self::begin_reading`].
    pub async fn open_snapshots(path: &Path) -> Result<Self, Error> {
        Self::open_reading(path, 1).await.map_err(|error| error.of_file(path))
    }

    /// Begins a read transaction, which every following read is part of, until [`Self::end_reading`]. Statements that run
    /// beyond `deadline` are interrupted, with an error that [`Error::is_interrupted`]. Only for a store of
    /// [`Self::open_snapshots`]: its reads share one connection.
    pub async fn begin_reading(&self, deadline: Instant) -> Result<(), Error> {
        let mut connection = self.read.acquire().await?;
        connection.lock_handle().await?.set_progress_handler(STEPS, move || Instant::now() < deadline);
        sqlx::raw_sql("begin").execute(&mut *connection).await?;
        Ok(())
    }

    /// Ends the read transaction.
    pub async fn end_reading(&self) -> Result<(), Error> {
        let mut connection = self.read.acquire().await?;
        connection.lock_handle().await?.remove_progress_handler();
        sqlx::raw_sql("rollback").execute(&mut *connection).await?;
        Ok(())
    }

    async fn open_reading(path: &Path, connections: u32) -> Result<Self, Error> {
        let pool = || SqlitePoolOptions::new().max_connections(connections);
        let read = pool().connect_with(read_options(path)).await?;
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
        // A separate, unused pool: `close_connections` closes the writer while it holds a reader.
        let write = pool().connect_lazy_with(read_options(path));
        Ok(Self {
            write,
            read,
            path: path.into(),
            opened: None,
            waiting: Arc::default(),
            damage: Arc::default(),
            is_replicated: Arc::default(),
            ended_in_order: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[tokio::test]
    async fn a_snapshot_shows_one_state_and_a_long_statement_is_interrupted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vetwatch.db");
        let store = Store::open(&path).await.unwrap();
        let reader = Store::open_snapshots(&path).await.unwrap();
        let add = async |name: &str| {
            let mut tx = store.begin().await.unwrap();
            tx.partner(name, Timestamp::from_millis(1)).await.unwrap();
            tx.commit().await.unwrap();
        };
        let soon = || Instant::now() + Duration::from_mins(1);
        reader.begin_reading(soon()).await.unwrap();
        assert_eq!(reader.partner_names().await.unwrap().len(), 0);
        add("emea").await;
        assert_eq!(reader.partner_names().await.unwrap().len(), 0, "the same snapshot");
        reader.end_reading().await.unwrap();
        reader.begin_reading(soon()).await.unwrap();
        assert_eq!(reader.partner_names().await.unwrap(), ["emea"]);
        reader.end_reading().await.unwrap();

        reader.begin_reading(Instant::now()).await.unwrap();
        let endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
        let error = Error::from(sqlx::raw_sql(endless).execute(&reader.read).await.unwrap_err());
        assert!(error.is_interrupted(), "{error:?}");
        reader.end_reading().await.unwrap();
        reader.begin_reading(soon()).await.unwrap();
        assert_eq!(reader.partner_names().await.unwrap(), ["emea"], "it goes on");
    }
}
