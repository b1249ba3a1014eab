//! A partner's backoff after a failure that affects all its customers.

use std::time::Duration;

use tracing::{info, warn};

use super::Poller;
use super::flight::{Answered, Flight};
use crate::partner_center::Error;
use crate::store;
use crate::time::Timestamp;

/// The longest pause without another try, whatever Partner Center says.
pub(crate) const MAX_BACKOFF: Duration = Duration::from_hours(1);

/// How long to back off after `error`, following `backoffs` earlier ones without a good response in between. The first
/// time, a throttled client waits as long as `Retry-After` says; later at least that long.
pub(crate) fn pause(error: &Error, backoffs: u32, in_review: Duration) -> Duration {
    let first = in_review.min(Duration::from_mins(1));
    let backoff = doubled(first, backoffs).min(in_review.min(Duration::from_mins(15)));
    let pause = match error {
        Error::Throttled { wait: Some(wait), .. } if backoffs == 0 => *wait,
        Error::Throttled { wait: Some(wait), .. } => backoff.max(*wait),
        _ => backoff,
    };
    pause.min(MAX_BACKOFF)
}

/// `first`, doubled with each of `failures` in a row.
pub(crate) fn doubled(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures.min(16)))
}

/// True if `at` is ahead. Farther than the longest backoff means that the clock was set back.
pub(crate) fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at > now && at <= now.after(MAX_BACKOFF)
}

impl Poller {
    /// Backs off after a failure that every other customer of the partner would meet too.
    pub(super) async fn start_backoff(
        &self,
        flight: &Flight,
        answered: &Answered,
        error: &Error,
    ) -> Result<(), store::Error> {
        let partner = self.partner.id;
        let backoff = self.store.backoff(partner).await?;
        // A poll in flight at the start of the backoff met the same fault.
        let is_new = answered.pauses_before == flight.pauses || backoff.is_none();
        let backoffs = backoff.map_or(0, |backoff| backoff.backoffs);
        let backoffs = if is_new { backoffs } else { backoffs.saturating_sub(1) };
        let until = self.clock.now().after(pause(error, backoffs, self.intervals().in_review));
        let mut tx = self.store.begin().await?;
        if is_new {
            warn!(partner = self.partner.name, %until, "backing off from Partner Center: {error}");
            tx.start_backoff(partner, until, &error.to_string()).await?;
        } else {
            tx.extend_backoff(partner, until).await?;
        }
        tx.release_polls(&[(answered.customer.row, until)]).await?;
        tx.commit().await
    }

    pub(super) async fn end_backoff(&self) -> Result<(), store::Error> {
        if self.store.backoff(self.partner.id).await?.is_none() {
            return Ok(());
        }
        info!(partner = self.partner.name, "Partner Center answers again");
        let mut tx = self.store.begin().await?;
        tx.clear_backoff(self.partner.id).await?;
        tx.commit().await
    }
}
