//! What keeps the file small. Transitions, events and deliveries stay for ever; only attempts' details go.

use super::{Error, Store, WriteTx};
use crate::time::Timestamp;

impl WriteTx {
    /// Forgets attempts that ended before `before`, a bounded number at a time. Returns how many.
    pub async fn forget_attempts(&mut self, before: Timestamp) -> Result<u64, Error> {
        let before = before.as_millis();
        let done = sqlx::query!(
            "delete from attempt where id in (
                 select a.id from attempt a join delivery d on d.id = a.delivery
                 where a.ended_at < ? and d.state <> 'pending' limit 1000)",
            before
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(done.rows_affected())
    }
}

impl Store {
    /// Gives free pages back to the disk and lets the planner look at the tables again.
    pub async fn tidy(&self) -> Result<(), Error> {
        sqlx::query("pragma incremental_vacuum(2000)").execute(&self.write).await?;
        sqlx::query("pragma optimize").execute(&self.write).await?;
        Ok(())
    }
}
