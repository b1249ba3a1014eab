//! Failover: events that an endpoint could not deliver for too long are sent to its fallback as well.

use std::time::Duration;

use tracing::warn;

use super::Alerter;
use crate::delivery::route::{Fallback, Target};
use crate::store;
use crate::time::Timestamp;

/// Deliveries dead for longer are not passed on: the fallback may be new in the configuration.
const DEAD_WITHIN: Duration = Duration::from_hours(24);

const GROUP_FOR: Duration = Duration::from_secs(1);

impl Alerter {
    pub(super) async fn check_fallbacks(&self, now: Timestamp) -> Result<usize, store::Error> {
        let mut queued = 0;
        for (endpoint, profile) in &self.routes.profiles {
            if let Some(fallback) = &profile.fallback {
                queued += self.fail_over(endpoint, fallback, now).await?;
            }
        }
        Ok(queued)
    }

    async fn fail_over(&self, endpoint: &str, fallback: &Fallback, now: Timestamp) -> Result<usize, store::Error> {
        let (due_before, dead_after) = (now.before(fallback.after), now.before(DEAD_WITHIN));
        let held = self.store.failover_candidates(endpoint, due_before, dead_after, now).await?;
        if held.is_empty() {
            return Ok(0);
        }
        self.pass_on(endpoint, &held, std::slice::from_ref(&fallback.endpoint), &format!("fallback of {endpoint}"), now)
            .await
    }

    /// Enqueues the events of these deliveries for `others`, except those that they have already. A dead delivery that
    /// one of the others has of them is redriven.
    pub(super) async fn pass_on(
        &self,
        endpoint: &str,
        deliveries: &[i64],
        others: &[String],
        why: &str,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let mut queued = 0;
        let mut tx = self.store.begin().await?;
        for sequence in deliveries {
            let mut unknown = Vec::new();
            for other in others {
                match tx.events_missing_at(other, *sequence).await {
                    Ok(events) => unknown.push((other, events)),
                    // The dispatcher meets it as well and records it for an alert.
                    Err(error) if error.is_data_error() => {}
                    Err(error) => return Err(error),
                }
            }
            if unknown.is_empty() || !tx.mark_failed_over(*sequence, now).await? {
                continue;
            }
            for (other, events) in unknown {
                let target = Target {
                    failover_from: Some(endpoint),
                    group_wait: Some(GROUP_FOR),
                    ..self.routes.direct_target(other, why.to_owned(), why.to_owned())
                };
                for event in &events {
                    tx.enqueue(event, &target, now).await?;
                    queued += 1;
                }
                queued += tx.fail_over_to_dead_copies(other, *sequence, now).await? as usize;
            }
        }
        tx.commit().await?;
        if queued > 0 {
            warn!(endpoint, "{endpoint} has not taken {queued} events; they are sent to {} as well", others.join(", "));
        }
        Ok(queued)
    }
}
