//! Customers without a qualification are polled rarely while the activity log reports submissions.

use std::sync::atomic::Ordering;

use tracing::info;

use super::Poller;
use crate::schedule::Intervals;
use crate::store;
use crate::time::Timestamp;

impl Poller {
    pub(super) fn intervals(&self) -> Intervals {
        Intervals { log_is_read: self.log_is_read.load(Ordering::Relaxed), ..self.intervals }
    }

    /// Checks whether the activity log is read. When that changes, the due times of these customers are spread over the new
    /// interval: none waits longer, and they are not all polled in one sweep.
    pub(super) async fn apply_log_availability(&self, now: Timestamp) -> Result<(), store::Error> {
        let state = self.store.log_state(self.partner.id).await?;
        let is_read = state.is_read(now);
        self.log_is_read.store(is_read, Ordering::Relaxed);
        if is_read == state.counts {
            return Ok(());
        }
        let every = if is_read { self.intervals.unqualified } else { self.intervals.settled };
        let mut tx = self.store.begin().await?;
        tx.set_log_available(self.partner.id, is_read, every, now).await?;
        tx.commit().await?;
        info!(
            partner = self.partner.name,
            "customers without a qualification are asked every {} now",
            crate::text::short_duration(every)
        );
        Ok(())
    }
}
