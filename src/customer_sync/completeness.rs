//! Decides whether a list that was read to its end is complete.

use vetwatch_core::membership::MIN_MISSING;

use crate::time::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completeness {
    /// The next list is compared with it.
    Complete,
    /// Too short to mark customers as missing. When the first list of about this size was read, and its size.
    Short { since: Timestamp, size: u64 },
}

/// Compares a list of `size` customers with the last complete one of `last`; it may be 5 % shorter. A shorter one is
/// accepted if another of about its size was read a day before (`short`): customers may really have left. An empty list
/// after a non-empty one never is: rather a permission was revoked.
pub(super) fn measure(size: u64, last: Option<u64>, short: Option<(Timestamp, u64)>, now: Timestamp) -> Completeness {
    let last = last.unwrap_or(0);
    if is_at_least_95_percent(size, last) {
        return Completeness::Complete;
    }
    match short {
        Some((since, before))
            if size > 0 && is_at_least_95_percent(size.min(before), size.max(before)) && since <= now =>
        {
            if now.since(since) >= MIN_MISSING {
                Completeness::Complete
            } else {
                Completeness::Short { since, size: before }
            }
        }
        _ => Completeness::Short { since: now, size },
    }
}

fn is_at_least_95_percent(size: u64, of: u64) -> bool {
    size.saturating_mul(100) >= of.saturating_mul(95)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_shorter_list_is_accepted_when_it_is_nearly_as_long_or_when_two_a_day_apart_agree() {
        let now = Timestamp::from_millis(1_795_262_400_000);
        let ago = |hours| now.before(Duration::from_hours(hours));
        let new = |size| Completeness::Short { since: now, size };
        for (size, last, short, expected) in [
            (0, None, None, Completeness::Complete),
            (1000, Some(0), None, Completeness::Complete),
            (950, Some(1000), None, Completeness::Complete),
            (2000, Some(1000), None, Completeness::Complete),
            (949, Some(1000), None, new(949)),
            (500, Some(1000), Some((ago(24), 500)), Completeness::Complete),
            (490, Some(1000), Some((ago(24), 500)), Completeness::Complete),
            (510, Some(1000), Some((ago(24), 500)), Completeness::Complete),
            (500, Some(1000), Some((ago(5), 510)), Completeness::Short { since: ago(5), size: 510 }),
            (400, Some(1000), Some((ago(24), 500)), new(400)),
            (600, Some(1000), Some((ago(24), 500)), new(600)),
            (0, Some(1000), Some((ago(24), 0)), new(0)),
            (500, Some(1000), Some((now.after(Duration::from_hours(24)), 500)), new(500)), // the clock was set back
        ] {
            assert_eq!(measure(size, last, short, now), expected, "{size} after {last:?} and {short:?}");
        }
    }
}
