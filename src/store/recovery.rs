//! Deliveries after a process that died, and after a clock that was set back.

use super::{ClaimedDelivery, Error, Store, WriteTx};
use crate::time::Timestamp;

/// The latest times that can be set now: what waits for a later one was set by another clock.
#[derive(Debug, Clone, Copy)]
pub struct ClockSkewBounds {
    pub now: Timestamp,
    /// Of an attempt, and of a probe.
    pub attempt: Timestamp,
    /// Of what quiet hours hold back.
    pub held: Timestamp,
    /// Of what gathers.
    pub gathered: Timestamp,
}

impl ClockSkewBounds {
    fn millis(self) -> [i64; 4] {
        [self.now, self.attempt, self.held, self.gathered].map(Timestamp::as_millis)
    }
}

impl Store {
    /// Whether something waits for a time that only another clock can have set, or was queued at one.
    pub async fn has_future_timestamps(&self, endpoint: &str, latest: ClockSkewBounds) -> Result<bool, Error> {
        let [now, attempt, held, gathered] = latest.millis();
        let waits = sqlx::query_scalar!(
            r#"select exists (select 1 from delivery where endpoint = ?1 and state = 'pending'
                              and ((next_attempt_at > ?2
                                    and (next_attempt_at is not deferred_until
                                         or deferred_until > case respects_quiet_hours when 1 then ?3 else ?5 end))
                                   or (next_attempt_at > ?4 and created_at > ?4)))
                   or exists (select 1 from endpoint where name = ?1 and probe_at > ?2) as "waits!: bool""#,
            endpoint,
            attempt,
            held,
            now,
            gathered
        );
        Ok(waits.fetch_one(&self.read).await?)
    }
}

impl WriteTx {
    /// At start: attempts that the last process did not survive are over, and their deliveries due at once. That
    /// costs no pause of the schedule. From the third in a row on it waits: a message that kills the process must
    /// not take its neighbours along. One that was only under way beside it waits for another time than its own.
    pub async fn recover_deliveries(&mut self, now: Timestamp) -> Result<u64, Error> {
        let now = now.as_millis();
        let done = sqlx::query!(
            "update delivery
             set interrupted = interrupted + 1,
                 next_attempt_at = ?1 + case when interrupted < 2 then 0 else sequence * 7919 % 12000
                     + case interrupted when 2 then 60000 when 3 then 600000 else 3600000 end end
             where state = 'pending' and id in (select delivery from attempt where ended_at is null)",
            now
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update attempt set ended_at = ?1, outcome = 'interrupted', response = 'vetwatch stopped in mid-attempt'
             where ended_at is null",
            now
        )
        .execute(&mut *self.tx)
        .await?;
        // What quiet hours hold back is looked at again: they may be others now.
        sqlx::query!(
            "update delivery set next_attempt_at = ?1, first_due_at = first_due_at + ?1 - deferred_until, deferred_until = null
             where state = 'pending' and respects_quiet_hours = 1 and deferred_until > ?1",
            now
        )
        .execute(&mut *self.tx)
        .await?;
        // A probe that was under way is repeated as well.
        sqlx::query!("update endpoint set probe_at = min(probe_at, ?1) where closed_since is not null", now)
            .execute(&mut *self.tx)
            .await?;
        Ok(done.rows_affected())
    }

    /// vetwatch stops before an attempt has ended: the delivery is due at once. That costs no pause of the schedule.
    pub async fn interrupt(&mut self, due: &ClaimedDelivery, now: Timestamp) -> Result<(), Error> {
        let (id, now) = (due.id.to_string(), now.as_millis());
        sqlx::query!(
            "update attempt set ended_at = ?1, outcome = 'interrupted', response = 'vetwatch was stopped before the answer came'
             where delivery = ?2 and number = ?3",
            now,
            id,
            due.attempt
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update delivery set next_attempt_at = ?1 where id = ?2 and state = 'pending' and attempts = ?3",
            now,
            id,
            due.attempt
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A clock that was set back must not put a message out of reach: what [`Store::has_future_timestamps`] is due now.
    pub async fn clamp_deliveries(&mut self, endpoint: &str, latest: ClockSkewBounds) -> Result<(), Error> {
        let [now, attempt, held, gathered] = latest.millis();
        sqlx::query!(
            "update delivery set next_attempt_at = ?1, deferred_until = null, created_at = min(created_at, ?1),
                                 first_due_at = min(first_due_at, ?1)
             where endpoint = ?2 and state = 'pending'
               and ((next_attempt_at > ?3
                     and (next_attempt_at is not deferred_until or deferred_until > case respects_quiet_hours when 1 then ?4 else ?5 end))
                    or (next_attempt_at > ?1 and created_at > ?1))",
            now,
            endpoint,
            attempt,
            held,
            gathered
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!("update endpoint set probe_at = ?1 where name = ?2 and probe_at > ?3", now, endpoint, attempt)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}
