//! How long nobody at a partner is asked after an answer that concerns everybody.

use std::time::Duration;

use crate::partner_center::Error;

/// A gate closes for this long at most, and nothing throttled or refused waits longer without another try.
pub(crate) const LONGEST_GATE: Duration = Duration::from_hours(1);

/// How long the gate stays closed after `error`, when it closed `closures` times before without a good answer in
/// between. A throttled client waits as long as it was told; after the second time longer.
pub(crate) fn pause(error: &Error, closures: u32, in_review: Duration) -> Duration {
    let first = in_review.min(Duration::from_mins(1));
    let backoff =
        first.saturating_mul(2_u32.saturating_pow(closures.min(16))).min(in_review.min(Duration::from_mins(15)));
    let pause = match error {
        Error::Throttled { wait: Some(wait), .. } if closures == 0 => *wait,
        Error::Throttled { wait: Some(wait), .. } => backoff.max(*wait),
        _ => backoff,
    };
    pause.min(LONGEST_GATE)
}
