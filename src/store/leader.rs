//! With `[standby]`: which host led last. It goes over to the next one with the database.

use super::{Error, Store, WriteTx, doing};

impl Store {
    pub async fn last_leader(&self) -> Result<Option<String>, Error> {
        let row = sqlx::query_scalar!(r#"select last_leader as "host!" from daemon where last_leader is not null"#);
        row.fetch_optional(&self.read).await.map_err(doing("see which host led last"))
    }
}

impl WriteTx {
    pub async fn set_last_leader(&mut self, host: &str) -> Result<(), Error> {
        self.run(sqlx::query!("update daemon set last_leader = ?1", host)).await
    }
}
