//! What keeps the file small, and the time in which vetwatch ran.
//!
//! Transitions, events and deliveries stay for ever; only attempts' details go.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tracing::warn;

use super::{Error, Store, WriteTx};
use crate::time::{Clock, ClockWatch, Timestamp};

/// From one tick to the next at most this much counts as time in which vetwatch ran.
const MOST: Duration = Duration::from_mins(1);
const HOUR_MS: i64 = 3_600_000;
const A_DAY_MS: i64 = 24 * HOUR_MS;
/// Who has not ticked for longer than this was down, suspended, or its clock was set: it runs anew since then.
const GAP: Duration = Duration::from_mins(2);
/// A tick this soon after the last one writes nothing.
const FRESH: Duration = Duration::from_secs(30);

impl WriteTx {
    /// Notes that vetwatch runs. Whoever decides by how long something has lasted ticks first, in the same transaction.
    ///
    /// Of the time since the last tick at most a minute counts. The rest is a gap: the machine was suspended, the process
    /// was stopped, or the clock was set ahead. Whatever says since when something lasts (a message waits, an endpoint is
    /// closed, a partner fails) is moved on by the gap. After a clock that was set back, what lies ahead begins now.
    ///
    /// Each note is counted in the file's header, so that a copy put in its place is recognized: see [`Store::lost`].
    pub async fn tick(&mut self, now: Timestamp) -> Result<(), Error> {
        self.tick_counting(MOST, now).await
    }

    /// The first tick of a process: nothing of the time since the last one counts, nobody ran.
    pub async fn starts(&mut self, now: Timestamp) -> Result<(), Error> {
        self.tick_counting(Duration::ZERO, now).await
    }

    async fn tick_counting(&mut self, most: Duration, now: Timestamp) -> Result<(), Error> {
        let alive_at = sqlx::query_scalar!("select alive_at from daemon").fetch_optional(&mut *self.tx).await?;
        if let Some(alive_at) = alive_at.map(Timestamp::from_millis) {
            let since = now.since(alive_at);
            if now >= alive_at && since <= FRESH.min(most) {
                return Ok(());
            }
            let gap = since.saturating_sub(most);
            if now < alive_at || !gap.is_zero() {
                self.skip(gap, now).await?;
            }
        }
        let (now, gap) = (now.as_millis(), i64::try_from(GAP.as_millis()).unwrap_or(i64::MAX));
        sqlx::query!(
            "insert into daemon (id, alive_at, alive_since) values (1, ?1, ?1)
             on conflict (id) do update set alive_at = ?1,
                 alive_since = case when alive_since <= ?1 and alive_at between ?1 - ?2 and ?1 then alive_since else ?1 end",
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

    /// Moves on by `gap` what says since when something lasts; zero: the clock was set back.
    async fn skip(&mut self, gap: Duration, now: Timestamp) -> Result<(), Error> {
        let (gap, now) = (i64::try_from(gap.as_millis()).unwrap_or(i64::MAX / 2), now.as_millis());
        sqlx::query!(
            // What is held back becomes due later on, and is not to be hurried.
            "update delivery set first_due_at = min(?1, first_due_at + ?2)
             where state = 'pending'
               and case when ?2 > 0 then first_due_at < ?1
                        else first_due_at > ?1 and (deferred_until is null or attempts > 0) end",
            now,
            gap
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update delivery set deferred_since = min(?1, coalesce(deferred_since, created_at) + ?2)
             where state = 'pending' and respects_quiet_hours = 1",
            now,
            gap
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update endpoint set closed_since = min(?1, closed_since + ?2), paused_at = min(?1, paused_at + ?2),
                                 unconfigured_since = min(?1, unconfigured_since + ?2), unconfirmed_since = min(?1, unconfirmed_since + ?2)",
            now,
            gap
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update partner set failing_since = min(?1, failing_since + ?2), last_failed_at = min(?1, last_failed_at + ?2),
                                recovered_at = min(?1, recovered_at + ?2), unreadable_pending_since = min(?1, unreadable_pending_since + ?2),
                                readable_pending_since = min(?1, readable_pending_since + ?2)",
            now,
            gap
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// The clock was set by so many milliseconds, and no time passed: what was noted by the old one, to be looked at again
    /// after a while, is put into the new one's terms.
    pub async fn clock_was_set(&mut self, by_ms: i64, now: Timestamp) -> Result<(), Error> {
        let now = now.as_millis();
        sqlx::query!(
            // Whether others were understood since something is missing is told by these.
            "update customer set last_seen_at = last_seen_at + ?1
             where last_seen_at >= (select min(coalesce(missing_since, pending_since)) from qualification_state
                                    where missing_since is not null or pending_since is not null)",
            by_ms
        )
        .execute(&mut *self.tx)
        .await?;
        let hour_ago = now.min(now.saturating_sub(by_ms)).saturating_sub(HOUR_MS);
        sqlx::query!(
            // An early verdict is doubted longer while its review was first seen less than an hour ago.
            "update qualification_state set attempt_seen_at = attempt_seen_at + ?1 where attempt_seen_at >= ?2",
            by_ms,
            hour_ago
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update qualification_state set missing_since = missing_since + ?1, missing_last_present_at = missing_last_present_at + ?1,
                                    missing_confirmed_at = missing_confirmed_at + ?1, pending_since = pending_since + ?1,
                                    pending_last_other_at = pending_last_other_at + ?1, pending_confirmed_at = pending_confirmed_at + ?1,
                                    pending_until = pending_until + ?1
             where missing_since is not null or pending_since is not null",
            by_ms
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update customer set missing_from_list_since = missing_from_list_since + ?1, departed_since = departed_since + ?1
             where missing_from_list_since is not null or departed_since is not null",
            by_ms
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update partner set mass_absence_since = mass_absence_since + ?1, absence_accepted_at = absence_accepted_at + ?1,
                                list_short_since = list_short_since + ?1",
            by_ms
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "insert into daemon (id, alive_at, clock_set_at) values (1, ?1, ?1)
             on conflict (id) do update set clock_set_at = ?1",
            now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Forgets attempts that ended before `before`, a bounded number at a time and no more than those of a day: a clock that
    /// is ahead for an hour must not cost them all. Returns how many.
    pub async fn forget_attempts(&mut self, before: Timestamp) -> Result<u64, Error> {
        let before = before.as_millis();
        let done = sqlx::query!(
            "delete from attempt where id in (
                 select a.id from attempt a join delivery d on d.id = a.delivery
                 where d.state <> 'pending'
                   and a.ended_at < min(?1, ?2 + (select o.ended_at from attempt o join delivery p on p.id = o.delivery
                                                  where o.ended_at < ?1 and p.state <> 'pending'
                                                  order by o.ended_at limit 1))
                 order by a.ended_at limit 1000)",
            before,
            A_DAY_MS
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(done.rows_affected())
    }
}

impl Store {
    /// As [`WriteTx::tick`], in a transaction of its own.
    pub async fn tick(&self, now: Timestamp) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        tx.tick(now).await?;
        tx.commit().await
    }

    /// Corrects what the clock said before it was set.
    pub async fn follow_clock(&self, watch: &ClockWatch, clock: &dyn Clock) -> Result<(), Error> {
        let correct = async |by_ms: i64| {
            warn!("the clock was set by {} s", by_ms / 1000);
            let mut tx = self.begin().await?;
            tx.clock_was_set(by_ms, clock.now()).await?;
            tx.commit().await
        };
        watch.check(clock, correct).await
    }

    /// When the clock was last seen to be set.
    pub async fn clock_set_at(&self) -> Result<Option<Timestamp>, Error> {
        let at = sqlx::query_scalar!("select clock_set_at from daemon").fetch_optional(&self.read).await?;
        Ok(at.flatten().map(Timestamp::from_millis))
    }

    /// Gives free pages back to the disk and lets the planner look at the tables again.
    pub async fn maintain(&self) -> Result<(), Error> {
        sqlx::query("pragma incremental_vacuum(2000)").execute(&self.write).await?;
        sqlx::query("pragma optimize").execute(&self.write).await?;
        Ok(())
    }
}
