//! What keeps the file small. Transitions, events and deliveries stay for ever; only attempts' details go.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::{Error, Store, WriteTx};
use crate::time::Timestamp;

/// vetwatch notes every minute that it runs. After a longer gap it was down, or the machine slept, or the clock was set.
const GAP: Duration = Duration::from_mins(2);

impl WriteTx {
    /// Notes that vetwatch runs, and since when it does without a gap. Each such note is counted in the file's header, so
    /// that a copy put in its place is recognized: see [`Store::lost`].
    pub async fn runs(&mut self, now: Timestamp) -> Result<(), Error> {
        let (now, gap) = (now.as_millis(), i64::try_from(GAP.as_millis()).unwrap_or(i64::MAX));
        sqlx::query!(
            "insert into daemon (id, ran_until, ran_from) values (1, ?1, ?1)
             on conflict (id) do update set ran_until = ?1,
                 ran_from = case when ran_from <= ?1 and ran_until between ?1 - ?2 and ?1 then ran_from else ?1 end",
            now,
            gap
        )
        .execute(&mut *self.tx)
        .await?;
        let notes: i32 = sqlx::query_scalar("pragma user_version").fetch_one(&mut *self.tx).await?;
        let count = format!("pragma user_version = {}", notes.wrapping_add(1));
        sqlx::query(AssertSqlSafe(count)).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// At start: the time that vetwatch did not run does not count towards giving a message up. Nobody tried to
    /// send it then.
    pub async fn forgive_downtime(&mut self, now: Timestamp) -> Result<(), Error> {
        let now_ms = now.as_millis();
        sqlx::query!(
            "update delivery set first_due_at = min(?1, first_due_at + ?1 - d.ran_until)
             from daemon d where delivery.state = 'pending' and delivery.first_due_at < ?1 and d.ran_until < ?1",
            now_ms
        )
        .execute(&mut *self.tx)
        .await?;
        // Nor does it make anybody's trouble longer than it was seen to be.
        sqlx::query!(
            "update partner set failing_since = failing_since + ?1 - d.ran_until,
                                last_failed_at = last_failed_at + ?1 - d.ran_until
             from daemon d where failing_since is not null and d.ran_until < ?1",
            now_ms
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update endpoint set closed_since = min(?1, closed_since + ?1 - d.ran_until)
             from daemon d where closed_since is not null and d.ran_until < ?1",
            now_ms
        )
        .execute(&mut *self.tx)
        .await?;
        self.runs(now).await
    }

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
