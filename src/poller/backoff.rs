//! A partner's backoff after a failure that affects all its customers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::{debug, info, warn};
use vetwatch_core::retry::is_logged;

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
    let backoff = retry_pause(error, first, backoffs).min(in_review.min(Duration::from_mins(15)));
    let pause = match error {
        Error::Throttled { wait: Some(wait), .. } if backoffs == 0 => *wait,
        Error::Throttled { wait: Some(wait), .. } => backoff.max(*wait),
        _ => backoff,
    };
    pause.min(MAX_BACKOFF)
}

/// The pause after `error`, which follows `failures` others: `usual`, doubled with each. Short at first if Partner Center was
/// not reached: the network of a machine that has just started is up in seconds.
pub(crate) fn retry_pause(error: &Error, usual: Duration, failures: u32) -> Duration {
    match failures {
        0 if error.is_before_the_call() => usual.min(Duration::from_secs(5)),
        1 if error.is_before_the_call() => usual.min(Duration::from_secs(15)),
        2 if error.is_before_the_call() => usual.min(Duration::from_mins(1)),
        more if error.is_before_the_call() => doubled(usual, more - 3),
        _ => doubled(usual, failures),
    }
}

/// What this process last logged of each partner's backoff: the error, and how often in a row it was met. Polls, the
/// customer list and the activity log meet the same one.
static LOGGED: Mutex<BTreeMap<String, (String, u32)>> = Mutex::new(BTreeMap::new());

/// Logs that a backoff begins: if it is the first one, if its cause is another one than before, and every tenth, hundredth, …
/// time. A short interval would repeat the same words every few seconds.
pub(crate) fn log_backoff(partner: &str, until: Timestamp, error: &Error) {
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    match logged.get_mut(partner).filter(|(before, _)| error.is_same_as(before)) {
        None => {
            warn!(partner, %until, "backing off from Partner Center: {error}");
            logged.insert(partner.to_owned(), (error.to_string(), 1));
        }
        Some((_, count)) => {
            *count = count.saturating_add(1);
            if is_logged(*count) {
                warn!(partner, %until, "still backing off from Partner Center, for the {count}th time in a row: {error}");
            } else {
                debug!(partner, %until, count, "still backing off from Partner Center: {error}");
            }
        }
    }
}

/// The next backoff is logged as the first.
pub(crate) fn backoff_ended(partner: &str) {
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner).remove(partner);
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
        let backoffs = backoff.as_ref().map_or(0, |backoff| backoff.backoffs);
        let backoffs = if is_new { backoffs } else { backoffs.saturating_sub(1) };
        let until = self.clock.now().after(pause(error, backoffs, self.intervals().in_review));
        let mut tx = self.store.begin().await?;
        if is_new {
            log_backoff(&self.partner.name, until, error);
            tx.start_backoff(partner, until, &error.to_string(), error.is_throttling()).await?;
        } else {
            tx.extend_backoff(partner, until).await?;
        }
        tx.release_polls(&[(answered.customer.row, until)]).await?;
        tx.commit().await
    }

    pub(super) async fn end_backoff(&self) -> Result<(), store::Error> {
        let Some(backoff) = self.store.backoff(self.partner.id).await? else { return Ok(()) };
        info!(partner = self.partner.name, failures = backoff.backoffs, "Partner Center answers again");
        backoff_ended(&self.partner.name);
        let mut tx = self.store.begin().await?;
        tx.clear_backoff(self.partner.id).await?;
        tx.commit().await
    }
}
