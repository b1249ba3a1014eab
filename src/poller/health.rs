//! Records a partner's health for `status` and the alerts.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Poller;
use crate::store;
use crate::time::Timestamp;

/// Without a good response for this long, others are polled to tell whether the partner fails or some customers…
const CONTROL_POLLS_AFTER: Duration = Duration::from_mins(10);
/// …this many per round.
const CONTROL_POLLS_PER_ROUND: u32 = 2;

impl Poller {
    /// Records whether any response of a round was good, or else the last failure.
    pub(super) async fn record_health(&self, good: bool, failure: Option<String>) -> Result<(), store::Error> {
        let (partner, now) = (self.partner.id, self.clock.now());
        let since = self.store.failing_since(partner).await?;
        let is_long = since.is_some_and(|since| now.since(since) >= CONTROL_POLLS_AFTER);
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
                // Customers that lately had an entry tell whether all fail, or only these.
                tx.schedule_control_polls(partner, None, CONTROL_POLLS_PER_ROUND, now).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Keeps a reduced rate limit over a restart.
    pub(super) async fn persist_rate_limit(&self, now: Timestamp) -> Result<(), store::Error> {
        let limit = self.budget.limit(now);
        if self.limit.swap(limit.unwrap_or(0), Ordering::Relaxed) != limit.unwrap_or(0) {
            let mut tx = self.store.begin().await?;
            tx.set_reduced_rate_limit(self.partner.id, limit).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
