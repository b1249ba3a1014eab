//! How long nobody at a partner is asked after an answer that concerns everybody.

use std::time::Duration;

use tracing::{info, warn};

use super::Poller;
use super::flight::{Answered, Flight};
use crate::partner_center::Error;
use crate::store;

/// A gate closes for this long at most, and nothing throttled or refused waits longer without another try.
pub(crate) const LONGEST_GATE: Duration = Duration::from_hours(1);

/// How long the gate stays closed after `error`, when it closed `backoffs` times before without a good answer in
/// between. A throttled client waits as long as it was told; after the second time longer.
pub(crate) fn pause(error: &Error, backoffs: u32, in_review: Duration) -> Duration {
    let first = in_review.min(Duration::from_mins(1));
    let backoff =
        first.saturating_mul(2_u32.saturating_pow(backoffs.min(16))).min(in_review.min(Duration::from_mins(15)));
    let pause = match error {
        Error::Throttled { wait: Some(wait), .. } if backoffs == 0 => *wait,
        Error::Throttled { wait: Some(wait), .. } => backoff.max(*wait),
        _ => backoff,
    };
    pause.min(LONGEST_GATE)
}

impl Poller {
    /// Throttled, or refused altogether: the others would be answered the same, so nobody is asked for a while.
    pub(super) async fn start_backoff(
        &self,
        flight: &Flight,
        answered: &Answered,
        error: &Error,
    ) -> Result<(), store::Error> {
        let partner = self.partner.id;
        let gate = self.store.backoff(partner).await?;
        // What was under way when it closed tells of the same trouble.
        let is_new = answered.asked_in == flight.pauses || gate.is_none();
        let backoffs = gate.map_or(0, |gate| gate.backoffs);
        let backoffs = if is_new { backoffs } else { backoffs.saturating_sub(1) };
        let until = self.clock.now().after(pause(error, backoffs, self.intervals().in_review));
        let mut tx = self.store.begin().await?;
        if is_new {
            warn!(partner = self.partner.name, %until, "nothing is asked of Partner Center for a while: {error}");
            tx.start_backoff(partner, until, &error.to_string()).await?;
        } else {
            tx.extend_backoff(partner, until).await?;
        }
        tx.release_polls(&[(answered.customer.row, until)]).await?;
        tx.commit().await
    }

    pub(super) async fn clear_backoff(&self) -> Result<(), store::Error> {
        if self.store.backoff(self.partner.id).await?.is_none() {
            return Ok(());
        }
        info!(partner = self.partner.name, "Partner Center answers again");
        let mut tx = self.store.begin().await?;
        tx.clear_backoff(self.partner.id).await?;
        tx.commit().await
    }
}
