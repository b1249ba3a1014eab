//! Recovers deliveries after a process died or a clock was set back.

use super::{ClaimedDelivery, Error, Store, WriteTx};
use crate::time::Timestamp;

/// The latest times that can have been set by now. A later one was set by another clock.
#[derive(Debug, Clone, Copy)]
pub struct ClockSkewBounds {
    pub now: Timestamp,
    /// Of an attempt or a probe.
    pub attempt: Timestamp,
    /// Of a delivery deferred by quiet hours.
    pub deferred: Timestamp,
    /// Of a delivery that waits for its group.
    pub gathered: Timestamp,
}

impl Store {
    /// True if a delivery or probe is due at, or was enqueued at, a time that only another clock can have set.
    pub async fn has_future_timestamps(&self, endpoint: &str, bounds: ClockSkewBounds) -> Result<bool, Error> {
        let waits = sqlx::query_scalar!(
            r#"select exists (select 1 from delivery where endpoint = ?1 and state = 'pending'
                              and ((next_attempt_at > ?2
                                    and (next_attempt_at is not deferred_until
                                         or deferred_until > case respects_quiet_hours when 1 then ?3 else ?5 end))
                                   or (next_attempt_at > ?4 and created_at > ?4)))
                   or exists (select 1 from endpoint where name = ?1 and probe_at > ?2) as "waits!: bool""#,
            endpoint,
            bounds.attempt.as_millis(),
            bounds.deferred.as_millis(),
            bounds.now.as_millis(),
            bounds.gathered.as_millis()
        );
        Ok(waits.fetch_one(&self.read).await?)
    }
}

impl WriteTx {
    /// Called at start: ends the attempts that the last process did not survive; their deliveries are due at once,
    /// without advancing the retry schedule. From the third interruption in a row they wait, each for a different time:
    /// a message that kills the process must not take along others that were merely open at the same time.
    pub async fn recover_deliveries(&mut self, now: Timestamp) -> Result<u64, Error> {
        let now = now.as_millis();
        let done = self
            .change(sqlx::query!(
                "update delivery
             set interrupted = interrupted + 1,
                 next_attempt_at = ?1 + case when interrupted < 2 then 0 else sequence * 7919 % 12000
                     + case interrupted when 2 then 60000 when 3 then 600000 else 3600000 end end
             where state = 'pending' and id in (select delivery from attempt where ended_at is null)",
                now
            ))
            .await?;
        self.run(sqlx::query!(
            "update attempt set ended_at = ?1, outcome = 'interrupted', response = 'vetwatch stopped in mid-attempt'
             where ended_at is null",
            now
        ))
        .await?;
        // An interrupted probe is repeated as well.
        self.run(sqlx::query!("update endpoint set probe_at = min(probe_at, ?1) where closed_since is not null", now))
            .await?;
        Ok(done)
    }

    /// Has deferred deliveries checked again: quiet hours may have changed.
    pub async fn recheck_deferred(&mut self, now: Timestamp) -> Result<(), Error> {
        self.run(sqlx::query!(
            "update delivery set next_attempt_at = ?1, first_due_at = first_due_at + ?1 - deferred_until, deferred_until = null
             where state = 'pending' and respects_quiet_hours = 1 and deferred_until > ?1",
            now.as_millis()
        ))
        .await
    }

    /// Ends an attempt because vetwatch stops: the delivery is due at once, without advancing the retry schedule.
    pub async fn interrupt(&mut self, due: &ClaimedDelivery, now: Timestamp) -> Result<(), Error> {
        let id = due.id.to_string();
        self.run(sqlx::query!(
            "update attempt set ended_at = ?1, outcome = 'interrupted', response = 'vetwatch was stopped before the answer came'
             where delivery = ?2 and number = ?3",
            now.as_millis(),
            id,
            due.attempt
        ))
        .await?;
        self.run(sqlx::query!(
            "update delivery set next_attempt_at = ?1 where id = ?2 and state = 'pending' and attempts = ?3",
            now.as_millis(),
            id,
            due.attempt
        ))
        .await
    }

    /// Makes what [`Store::has_future_timestamps`] finds due now, after a clock that was set back.
    pub async fn clamp_deliveries(&mut self, endpoint: &str, bounds: ClockSkewBounds) -> Result<(), Error> {
        let (now, attempt) = (bounds.now.as_millis(), bounds.attempt.as_millis());
        self.run(sqlx::query!(
            "update delivery set next_attempt_at = ?1, deferred_until = null, created_at = min(created_at, ?1),
                                 first_due_at = min(first_due_at, ?1)
             where endpoint = ?2 and state = 'pending'
               and ((next_attempt_at > ?3
                     and (next_attempt_at is not deferred_until or deferred_until > case respects_quiet_hours when 1 then ?4 else ?5 end))
                    or (next_attempt_at > ?1 and created_at > ?1))",
            now,
            endpoint,
            attempt,
            bounds.deferred.as_millis(),
            bounds.gathered.as_millis()
        ))
        .await?;
        self.run(sqlx::query!(
            "update endpoint set probe_at = ?1 where name = ?2 and probe_at > ?3",
            now,
            endpoint,
            attempt
        ))
        .await
    }
}
