//! Keeps the file small, and measures the time in which vetwatch ran.
//!
//! Transitions, events and deliveries are kept for ever; only the details of attempts are deleted.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tracing::warn;

use super::{Error, Store, WriteTx};
use crate::clock_watch::ClockWatch;
use crate::time::{Clock, Timestamp};

/// The max time that counts as running from one tick to the next.
const MAX_TICK: Duration = Duration::from_mins(1);
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// After a longer gap vetwatch was down, suspended, or the clock was set: `alive_since` restarts.
const MAX_GAP: Duration = Duration::from_mins(2);
/// A tick sooner than this after the last one writes nothing.
const MIN_TICK_INTERVAL: Duration = Duration::from_secs(30);

/// Pages that one step returns to the disk, 2 MB, and the most steps in an hour.
const VACUUM_PAGES: u32 = 500;
const VACUUM_STEPS: u32 = 20;

impl WriteTx {
    /// Records that vetwatch runs. Call it first in every transaction that decides by how long something has lasted.
    ///
    /// At most a minute since the last tick counts. The rest is a gap: the machine was suspended, the process was
    /// stopped, or the clock was set ahead. Start times (a delivery waits, an endpoint backs off, a partner fails) are
    /// moved on by the gap. After a clock that was set back, start times in the future become now.
    ///
    /// Each tick changes the file's header, so that an older copy put in its place is recognized: see [`Store::lost`].
    pub async fn tick(&mut self, now: Timestamp) -> Result<(), Error> {
        self.tick_counting(MAX_TICK, now).await
    }

    /// The first tick of a process: all the time since the last tick is a gap.
    pub async fn first_tick(&mut self, now: Timestamp) -> Result<(), Error> {
        self.tick_counting(Duration::ZERO, now).await
    }

    async fn tick_counting(&mut self, max: Duration, now: Timestamp) -> Result<(), Error> {
        let alive_at = sqlx::query_scalar!("select alive_at from daemon").fetch_optional(&mut *self.tx).await?;
        if let Some(alive_at) = alive_at.map(Timestamp::from_millis) {
            let since = now.since(alive_at);
            if now >= alive_at && since <= MIN_TICK_INTERVAL.min(max) {
                return Ok(());
            }
            let gap = since.saturating_sub(max);
            if now < alive_at || !gap.is_zero() {
                self.skip(gap, now).await?;
            }
        }
        self.run(sqlx::query!(
            "insert into daemon (id, alive_at, alive_since) values (1, ?1, ?1)
             on conflict (id) do update set alive_at = ?1,
                 alive_since = case when alive_since <= ?1 and alive_at between ?1 - ?2 and ?1 then alive_since else ?1 end",
            now.as_millis(),
            i64::try_from(MAX_GAP.as_millis()).unwrap_or(i64::MAX)
        ))
        .await?;
        let notes: i32 = sqlx::query_scalar("pragma user_version").fetch_one(&mut *self.tx).await?;
        let count = format!("pragma user_version = {}", notes.wrapping_add(1));
        sqlx::query(AssertSqlSafe(count)).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Moves start times on by `gap`; zero if the clock was set back.
    async fn skip(&mut self, gap: Duration, now: Timestamp) -> Result<(), Error> {
        let (gap, now) = (i64::try_from(gap.as_millis()).unwrap_or(i64::MAX / 2), now.as_millis());
        self.run(sqlx::query!(
            // Deferred deliveries become due later, and are not hurried.
            "update delivery set first_due_at = min(?1, first_due_at + ?2)
             where state = 'pending'
               and case when ?2 > 0 then first_due_at < ?1
                        else first_due_at > ?1 and (deferred_until is null or attempts > 0) end",
            now,
            gap
        ))
        .await?;
        self.run(sqlx::query!(
            "update delivery set deferred_since = min(?1, coalesce(deferred_since, created_at) + ?2)
             where state = 'pending' and respects_quiet_hours = 1",
            now,
            gap
        ))
        .await?;
        self.run(sqlx::query!(
            "update endpoint set closed_since = min(?1, closed_since + ?2), paused_at = min(?1, paused_at + ?2),
                                 unconfigured_since = min(?1, unconfigured_since + ?2), unconfirmed_since = min(?1, unconfirmed_since + ?2)",
            now,
            gap
        ))
        .await?;
        self.run(sqlx::query!(
            "update partner set failing_since = min(?1, failing_since + ?2), last_failed_at = min(?1, last_failed_at + ?2),
                                recovered_at = min(?1, recovered_at + ?2), unreadable_pending_since = min(?1, unreadable_pending_since + ?2),
                                readable_pending_since = min(?1, readable_pending_since + ?2)",
            now,
            gap
        ))
        .await
    }

    /// Shifts times recorded by the old clock to the new one, after it was set by `by_ms` while no time passed. Only
    /// times that are compared later on are shifted.
    pub async fn clock_was_set(&mut self, by_ms: i64, now: Timestamp) -> Result<(), Error> {
        let now = now.as_millis();
        self.run(sqlx::query!(
            // These times show which other customers were read since an entry is missing.
            "update customer set last_seen_at = last_seen_at + ?1
             where last_seen_at >= (select min(coalesce(missing_since, pending_since)) from qualification_state
                                    where missing_since is not null or pending_since is not null)",
            by_ms
        ))
        .await?;
        let hour_ago = now.min(now.saturating_sub(by_ms)).saturating_sub(HOUR_MS);
        self.run(sqlx::query!(
            // An early verdict needs more confirmation while its review was first seen less than an hour ago.
            "update qualification_state set attempt_seen_at = attempt_seen_at + ?1 where attempt_seen_at >= ?2",
            by_ms,
            hour_ago
        ))
        .await?;
        self.run(sqlx::query!(
            "update qualification_state set missing_since = missing_since + ?1, missing_last_present_at = missing_last_present_at + ?1,
                                    missing_confirmed_at = missing_confirmed_at + ?1, pending_since = pending_since + ?1,
                                    pending_last_other_at = pending_last_other_at + ?1, pending_confirmed_at = pending_confirmed_at + ?1,
                                    pending_until = pending_until + ?1
             where missing_since is not null or pending_since is not null",
            by_ms
        ))
        .await?;
        self.run(sqlx::query!(
            "update customer set missing_from_list_since = missing_from_list_since + ?1, departed_since = departed_since + ?1
             where missing_from_list_since is not null or departed_since is not null",
            by_ms
        ))
        .await?;
        self.run(sqlx::query!(
            "update partner set mass_absence_since = mass_absence_since + ?1, absence_accepted_at = absence_accepted_at + ?1,
                                list_short_since = list_short_since + ?1",
            by_ms
        ))
        .await?;
        self.run(sqlx::query!(
            "insert into daemon (id, alive_at, clock_set_at) values (1, ?1, ?1)
             on conflict (id) do update set clock_set_at = ?1",
            now
        ))
        .await
    }

    /// Deletes attempts that ended before `before`: at most 1000, and at most those of a day, because a clock that is
    /// ahead for an hour must not cost them all. Returns how many.
    pub async fn forget_attempts(&mut self, before: Timestamp) -> Result<u64, Error> {
        self.change(sqlx::query!(
            "delete from attempt where id in (
                 select a.id from attempt a join delivery d on d.id = a.delivery
                 where d.state <> 'pending'
                   and a.ended_at < min(?1, ?2 + (select o.ended_at from attempt o join delivery p on p.id = o.delivery
                                                  where o.ended_at < ?1 and p.state <> 'pending'
                                                  order by o.ended_at limit 1))
                 order by a.ended_at limit 1000)",
            before.as_millis(),
            DAY_MS
        ))
        .await
    }
}

impl Store {
    /// As [`WriteTx::tick`], in its own transaction.
    pub async fn tick(&self, now: Timestamp) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        tx.tick(now).await?;
        tx.commit().await
    }

    /// Shifts recorded times if the clock was set.
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

    /// Returns free pages to the disk and updates the planner's statistics.
    pub async fn maintain(&self) -> Result<(), Error> {
        for _ in 0..VACUUM_STEPS {
            let free: i64 = sqlx::query_scalar("pragma freelist_count").fetch_one(&self.read).await?;
            if free == 0 {
                break;
            }
            // A step is a transaction of its own: other writers take turns with it.
            let step = format!("pragma incremental_vacuum({VACUUM_PAGES})");
            sqlx::query(AssertSqlSafe(step)).execute(&self.write).await?;
        }
        sqlx::query("pragma optimize").execute(&self.write).await?;
        Ok(())
    }
}
