//! What an endpoint has held for too long, and another one is to tell.

use super::{Error, Store, WriteTx};
use crate::event::Event;
use crate::time::Timestamp;

impl Store {
    /// The oldest deliveries of `endpoint` that were to be taken before `due_before`, and those that were given up after
    /// `given_up_after`; without those whose events were passed on already. What quiet hours hold back is not late.
    pub async fn held_too_long(
        &self,
        endpoint: &str,
        due_before: Timestamp,
        given_up_after: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<i64>, Error> {
        let (due_before, given_up_after, now) = (due_before.as_millis(), given_up_after.as_millis(), now.as_millis());
        let held = sqlx::query_scalar!(
            "select sequence from delivery
             where endpoint = ?1 and state = 'pending' and failed_over_at is null and first_due_at <= ?2
               and (held_until is null or held_until <= ?4)
             union all
             select sequence from delivery
             where endpoint = ?1 and state = 'dead' and failed_over_at is null and finished_at > ?3
             limit 100",
            endpoint,
            due_before,
            given_up_after,
            now
        );
        Ok(held.fetch_all(&self.read).await?)
    }
}

impl WriteTx {
    /// Marks a delivery as passed on, and returns its events that `fallback` was not told anyway; none if it is
    /// delivered by now.
    ///
    /// # Errors
    /// If they cannot be read, too; it is not marked then.
    pub async fn fail_over(&mut self, sequence: i64, fallback: &str, now: Timestamp) -> Result<Vec<Event>, Error> {
        let events = self.events_of(sequence).await?;
        let now = now.as_millis();
        let marked = sqlx::query!(
            "update delivery set failed_over_at = ? where sequence = ? and failed_over_at is null and state <> 'delivered'",
            now,
            sequence
        )
        .execute(&mut *self.tx)
        .await?;
        if marked.rows_affected() == 0 {
            return Ok(Vec::new());
        }
        let known = sqlx::query_scalar!(
            "select theirs.event from delivery me
             join delivery_event mine on mine.delivery = me.id
             join delivery_event theirs on theirs.event = mine.event
             where me.sequence = ?1 and theirs.endpoint = ?2",
            sequence,
            fallback
        )
        .fetch_all(&mut *self.tx)
        .await?;
        // A test says nothing to anybody but who asked for it.
        let is_new = |event: &Event| !event.data.test && !known.contains(&event.data.event_id.to_string());
        Ok(events.into_iter().filter(is_new).collect())
    }
}
