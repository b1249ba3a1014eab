//! A filled database for the tests of reports.

use crate::store::Store;
#[cfg(test)]
use crate::time::Timestamp;

pub(crate) struct Filled {
    pub(crate) store: Store,
    _directory: tempfile::TempDir,
}

/// The contents of `tests/fixtures/filled.sql`.
pub(crate) async fn filled() -> Filled {
    let filled = empty().await;
    let sql = include_str!("../../../tests/fixtures/filled.sql");
    sqlx::raw_sql(sql).execute(&filled.store.write).await.unwrap();
    filled
}

pub(crate) async fn empty() -> Filled {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("vetwatch.db")).await.unwrap();
    Filled { store, _directory: directory }
}

/// 2026-11-21 12:00 UTC.
#[cfg(test)]
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(1_795_262_400_000)
}

#[cfg(test)]
impl Store {
    /// A view's columns in their order.
    pub(crate) async fn columns_of(&self, view: &str) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar("select name from pragma_table_info(?1) order by cid").bind(view).fetch_all(&self.read).await
    }
}
