//! Figures of the database for a support bundle: no content.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::file::sibling_path;
use super::{Error, Store, doing};

/// At most so many lines of `quick_check`.
const MAX_PROBLEMS: u32 = 20;

/// What the database is like.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub journal_mode: String,
    pub page_size: i64,
    pub pages: i64,
    pub free_pages: i64,
    pub file_bytes: Option<u64>,
    /// The write-ahead log.
    pub wal_bytes: Option<u64>,
    pub migrations: Vec<i64>,
    /// Rows of each table.
    pub rows: BTreeMap<String, i64>,
    /// `ok`, or what `pragma quick_check` found.
    pub quick_check: Vec<String>,
}

impl Store {
    /// Counts and checks everything: seconds for a large database.
    pub async fn figures(&self) -> Result<Figures, Error> {
        let what = "look at the database";
        let number = async |pragma: &'static str| {
            sqlx::query_scalar::<_, i64>(pragma).fetch_one(&self.read).await.map_err(doing(what))
        };
        let journal_mode =
            sqlx::query_scalar("pragma journal_mode").fetch_one(&self.read).await.map_err(doing(what))?;
        let migrations = sqlx::query_scalar("select version from _sqlx_migrations order by version");
        let tables: Vec<String> =
            sqlx::query_scalar("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'")
                .fetch_all(&self.read)
                .await
                .map_err(doing(what))?;
        let mut rows = BTreeMap::new();
        for table in tables {
            let count = format!("select count(*) from \"{}\"", table.replace('"', "\"\""));
            let count = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&self.read).await.map_err(doing(what))?;
            rows.insert(table, count);
        }
        let check = format!("pragma quick_check({MAX_PROBLEMS})");
        let bytes = |path| std::fs::metadata(path).ok().map(|file| file.len());
        Ok(Figures {
            journal_mode,
            page_size: number("pragma page_size").await?,
            pages: number("pragma page_count").await?,
            free_pages: number("pragma freelist_count").await?,
            file_bytes: bytes(self.path().to_owned()),
            wal_bytes: bytes(sibling_path(self.path(), "-wal")),
            migrations: migrations.fetch_all(&self.read).await.map_err(doing(what))?,
            rows,
            quick_check: sqlx::query_scalar(AssertSqlSafe(check)).fetch_all(&self.read).await.map_err(doing(what))?,
        })
    }

    /// What identifies customers: their id, and a name, domain or contact that they have or had.
    pub async fn customer_words(&self) -> Result<Vec<(String, String)>, Error> {
        let words = sqlx::query!(
            r#"select customer_id as "id!: String", name as "word!: String" from customer
               union select customer_id, domain from customer
               union select customer_id, contact from customer
               union select c.customer_id, e.data ->> '$.customer.name' from event e join customer c on c.id = e.customer
                     where json_valid(e.data)
               union select c.customer_id, e.data ->> '$.customer.domain' from event e join customer c on c.id = e.customer
                     where json_valid(e.data)"#
        );
        let words = words.fetch_all(&self.read).await.map_err(doing("read the customers"))?;
        Ok(words.into_iter().map(|row| (row.id, row.word)).collect())
    }
}
