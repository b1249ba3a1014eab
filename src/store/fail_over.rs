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
    ) -> Result<Vec<String>, Error> {
        let (due_before, given_up_after, now) = (due_before.as_millis(), given_up_after.as_millis(), now.as_millis());
        let ids = sqlx::query_scalar!(
            "select id from delivery
             where endpoint = ?1 and state = 'pending' and failed_over_at is null and first_due_at <= ?2
               and (held_until is null or held_until <= ?4)
             union all
             select id from delivery
             where endpoint = ?1 and state = 'dead' and failed_over_at is null and finished_at > ?3
             limit 100",
            endpoint,
            due_before,
            given_up_after,
            now
        );
        Ok(ids.fetch_all(&self.read).await?)
    }
}

impl WriteTx {
    /// Marks a delivery as passed on, and returns its events that `fallback` was not told anyway; none if it is
    /// delivered by now.
    pub async fn fail_over(&mut self, id: &str, fallback: &str, now: Timestamp) -> Result<Vec<Event>, Error> {
        let now = now.as_millis();
        let marked = sqlx::query!(
            "update delivery set failed_over_at = ? where id = ? and failed_over_at is null and state <> 'delivered'",
            now,
            id
        )
        .execute(&mut *self.tx)
        .await?;
        if marked.rows_affected() == 0 {
            return Ok(Vec::new());
        }
        let known = sqlx::query_scalar!(
            "select theirs.event from delivery_event theirs
             join delivery_event mine on mine.event = theirs.event and mine.delivery = ?1
             where theirs.endpoint = ?2",
            id,
            fallback
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let events = self.events_of(id).await?;
        // A test says nothing to anybody but who asked for it.
        let is_new = |event: &Event| !event.data.test && !known.contains(&event.data.event_id.to_string());
        Ok(events.into_iter().filter(is_new).collect())
    }
}
