//! What an endpoint has held for too long, and another one is to tell.

use super::{Error, Store};
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
               and (deferred_until is null or deferred_until <= ?4)
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
