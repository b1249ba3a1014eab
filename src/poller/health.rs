//! How well a partner can be seen, written down for `status` and the alarms.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Poller;
use crate::store;
use crate::time::Timestamp;

/// Without a good answer for so long, others are asked whether it is the partner or its customers…
const MASS_ABSENCE_DELAY: Duration = Duration::from_mins(10);
/// …as many in a round.
const CONTROL_SAMPLE: u32 = 2;

impl Poller {
    /// After a round: whether anybody gave a good answer, or else why not.
    pub(super) async fn record_health(&self, good: bool, failure: Option<String>) -> Result<(), store::Error> {
        let (partner, now) = (self.partner.id, self.clock.now());
        let since = self.store.failing_since(partner).await?;
        let is_long = since.is_some_and(|since| now.since(since) >= MASS_ABSENCE_DELAY);
        if good {
            if since.is_some() {
                let mut tx = self.store.begin().await?;
                tx.partner_answered(partner, now, is_long).await?;
                tx.commit().await?;
            }
        } else if let Some(why) = failure {
            let mut tx = self.store.begin().await?;
            tx.tick(now).await?;
            tx.partner_failed(partner, now, &why).await?;
            if is_long {
                // Is it these customers, or all of them? Who held something lately can tell.
                tx.schedule_control_polls(partner, None, CONTROL_SAMPLE, now).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Keeps a lowered limit over a restart.
    pub(super) async fn persist_rate_limit(&self, now: Timestamp) -> Result<(), store::Error> {
        let limit = self.budget.limit(now);
        if self.limit.swap(limit.unwrap_or(0), Ordering::Relaxed) != limit.unwrap_or(0) {
            let mut tx = self.store.begin().await?;
            tx.reduced_rate_limit(self.partner.id, limit).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
