//! Deliveries that have waited too long and fail over to another endpoint.

use super::{Error, Store};
use crate::time::Timestamp;

impl Store {
    /// At most 100 deliveries of `endpoint` that were due before `due_before`, or dead since `dead_after`, and have not
    /// failed over. Deferred ones (quiet hours) are not late.
    pub async fn failover_candidates(
        &self,
        endpoint: &str,
        due_before: Timestamp,
        dead_after: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<i64>, Error> {
        let candidates = sqlx::query_scalar!(
            "select sequence from delivery
             where endpoint = ?1 and state = 'pending' and failed_over_at is null and first_due_at <= ?2
               and (deferred_until is null or deferred_until <= ?4)
             union all
             select sequence from delivery
             where endpoint = ?1 and state = 'dead' and failed_over_at is null and finished_at > ?3
             limit 100",
            endpoint,
            due_before.as_millis(),
            dead_after.as_millis(),
            now.as_millis()
        );
        Ok(candidates.fetch_all(&self.read).await?)
    }
}
