//! When a delivery is retried. Pure: randomness is passed in as a number.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Timestamp;

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every recipient has a final reply, and at least one has accepted.
    Accepted,
    /// Rejected for now; `after` is the wait that the server asked for, from [`retry_after`].
    Retry { after: Option<Duration> },
    /// Rejected for now, for a reason of this message or its recipients: the endpoint works.
    Deferred,
    /// It was handed over, and whether it was accepted is not known. It is retried after a longer pause. The endpoint
    /// does not count as failing: it can be reached.
    Unconfirmed,
    /// Every recipient has rejected it for good.
    Refused,
    /// Rejected for a reason that is not known to be this message's own: our identity, permissions or quota. Does not
    /// end the message while others fare no better.
    Blocked,
    /// The endpoint cannot be reached.
    Unavailable,
    /// The endpoint rejects our credentials. Never ends a message.
    AuthRejected,
    /// The endpoint says that it is gone for good (HTTP 410).
    Gone,
}

/// The result of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptResult {
    pub outcome: Outcome,
    /// What the server replied, or why there was no reply: for people, without secrets, at most
    /// [`AttemptResult::DETAIL_MAX`] bytes, no control characters.
    pub detail: String,
    /// The final replies of this attempt, by recipient.
    pub final_replies: BTreeMap<String, String>,
}

impl AttemptResult {
    pub const DETAIL_MAX: usize = 1000;
}

/// Whether a final reply means that the recipient accepted the message (otherwise it rejected it for good).
#[must_use]
pub fn took(reply: &str) -> bool {
    reply.starts_with('2')
}

/// The longest pause between probes of an endpoint.
pub const MAX_PROBE_PAUSE: Duration = Duration::from_mins(5);

/// The longest pause that a server may ask for: a mistake there must not silence an endpoint for days.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Parses `Retry-After`: seconds, or a date in any of the forms of [RFC 9110].
///
/// [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats
#[must_use]
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are too many seconds as well.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).map(chrono::DateTime::<chrono::Utc>::from);
        let date = date.or_else(|_| chrono::DateTime::parse_from_rfc2822(text).map(|date| date.to_utc())).ok()?;
        Timestamp::from(date).since(now)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// `[retry]`.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// The pauses after the first, second, … failure; the last one repeats.
    pub schedule: Vec<Duration>,
    /// A delivery becomes dead when it has waited this long while vetwatch ran and could retry.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            schedule: [5, 30, 120, 600, 1800, 3600].map(Duration::from_secs).to_vec(),
            give_up_after: Duration::from_hours(7 * 24),
        }
    }
}

/// The least failed attempts before a delivery becomes dead, however long it waited.
const MIN_ATTEMPTS: u32 = 5;

/// How long a delivery has waited, and the attempts made meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// Only while vetwatch ran and could retry: suspends, pauses, quiet hours and changes of the clock do not count.
    pub time: Duration,
    /// Failures in a row, this one included: the delivery's, or its endpoint's, where one delivery probes for all.
    pub attempts: u32,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    Delivered,
    /// The next attempt is at this time; advances the retry schedule.
    At(Timestamp),
    /// Dead: no retry would help.
    Rejected,
    /// Dead: the time to retry is over.
    Expired,
}

impl RetryPolicy {
    /// The pause after failure number `retry_index + 1`: the schedule's, and up to a fifth more by `jitter` (0 to 1),
    /// so that deliveries that failed together are not retried together.
    #[must_use]
    pub fn pause(&self, retry_index: u32, jitter: f64) -> Duration {
        let last = self.schedule.len().saturating_sub(1);
        let step = usize::try_from(retry_index).map_or(last, |retry_index| retry_index.min(last));
        let pause = self.schedule.get(step).copied().unwrap_or(MAX_PROBE_PAUSE);
        pause.mul_f64(1.0 + 0.2 * jitter.clamp(0.0, 1.0))
    }

    /// Decides what follows an attempt. `retry_index` is the number of failures before it.
    #[must_use]
    pub fn next(
        &self,
        outcome: Outcome,
        retry_index: u32,
        waited: Waited,
        now: Timestamp,
        jitter: f64,
    ) -> RetryDecision {
        let pause = self.pause(retry_index, jitter);
        let over = waited.time >= self.give_up_after && waited.attempts >= MIN_ATTEMPTS;
        match outcome {
            Outcome::Accepted => RetryDecision::Delivered,
            Outcome::Refused => RetryDecision::Rejected,
            Outcome::Retry { .. } | Outcome::Deferred | Outcome::Unconfirmed | Outcome::Unavailable if over => {
                RetryDecision::Expired
            }
            // It may have been accepted, and each further copy is a nuisance: start with the third pause.
            Outcome::Unconfirmed => RetryDecision::At(now.after(self.pause(retry_index.saturating_add(2), jitter))),
            // A wrong login or address, or an unknown cause, says nothing about the message, however long it lasts.
            Outcome::Blocked | Outcome::AuthRejected | Outcome::Gone | Outcome::Unavailable | Outcome::Deferred => {
                RetryDecision::At(now.after(pause))
            }
            Outcome::Retry { after } => RetryDecision::At(now.after(pause.max(after.unwrap_or_default()))),
        }
    }

    /// The longest time ahead that an attempt can be scheduled.
    #[must_use]
    pub fn max_pause(&self) -> Duration {
        self.schedule.iter().copied().max().unwrap_or_default().mul_f64(1.2).max(MAX_RETRY_AFTER)
    }
}

/// True if the `nth` failure in a row is worth a line in the log: the first, the tenth, the hundredth, …
#[must_use]
pub fn is_logged(nth: u32) -> bool {
    nth.checked_ilog10().is_some_and(|zeros| 10_u32.pow(zeros) == nth)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn the_first_failure_is_logged_and_then_ever_fewer() {
        let logged: Vec<u32> = (0..=20_000).filter(|nth| is_logged(*nth)).collect();
        assert_eq!(logged, [1, 10, 100, 1000, 10_000]);
        assert!(!is_logged(u32::MAX));
    }

    #[test]
    fn the_pauses_follow_the_schedule_and_the_last_one_repeats() {
        let policy = RetryPolicy::default();
        let pauses: Vec<u64> = (0..8).map(|retry_index| policy.pause(retry_index, 0.0).as_secs()).collect();
        assert_eq!(pauses, [5, 30, 120, 600, 1800, 3600, 3600, 3600]);
    }

    #[test]
    fn a_pause_is_up_to_a_fifth_longer_and_never_shorter() {
        let policy = RetryPolicy::default();
        let pauses = [-1.0, 0.0, 0.5, 1.0, 2.0].map(|jitter| policy.pause(1, jitter).as_secs());
        assert_eq!(pauses, [30, 30, 33, 36, 36]);
    }

    #[test]
    fn a_reply_that_begins_with_2_is_an_acceptance() {
        assert!(took("250 2.0.0 queued") && took("202 Accepted"));
        assert!(!took("550 5.1.1 no such user") && !took("452 4.2.2 full") && !took(""));
    }

    const LONG: Waited = Waited { time: Duration::from_hours(24 * 30), attempts: 99 };

    #[test]
    fn a_login_that_is_refused_is_never_the_messages_end() {
        let next = RetryPolicy::default().next(Outcome::AuthRejected, 99, LONG, START, 0.5);
        assert!(matches!(next, RetryDecision::At(_)));
    }

    #[test]
    fn a_receiver_may_ask_for_more_time() {
        let waited = Waited { time: Duration::ZERO, attempts: 1 };
        let next = |after| RetryPolicy::default().next(Outcome::Retry { after }, 0, waited, START, 0.0);
        assert_eq!(next(Some(Duration::from_mins(1))), RetryDecision::At(START.after(Duration::from_mins(1))));
        assert_eq!(next(Some(Duration::from_secs(1))), RetryDecision::At(START.after(Duration::from_secs(5))));
    }

    #[test]
    fn retry_after_is_read_in_each_form_and_never_believed_beyond_an_hour() {
        let now = Timestamp::from_millis(1_795_262_400_000);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(3600)),
            ("Sat, 21 Nov 2026 12:05:00 GMT", Some(300)),
            ("Saturday, 21-Nov-26 12:05:00 GMT", Some(300)),
            ("Sat Nov 21 12:05:00 2026", Some(300)),
            ("Sat, 21 Nov 2026 13:05:00 +0100", Some(300)),
            ("Sat, 21 Nov 2026 11:00:00 GMT", Some(0)),
            ("Mon, 01 Jan 2091 00:00:00 GMT", Some(3600)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now).map(|wait| wait.as_secs()), seconds, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_pause_is_bounded_and_a_message_ends_only_after_its_time_and_five_attempts(
            retry_index in 0u32..,
            jitter in -1.0..2.0,
            waited in 0u64..1_000_000,
            attempts in 1u32..10,
            now in any::<i32>(),
            unavailable in any::<bool>(),
        ) {
            // At any time of the clock.
            let (policy, now) = (RetryPolicy::default(), Timestamp::from_millis(i64::from(now) * 1000));
            let outcome = if unavailable { Outcome::Unavailable } else { Outcome::Retry { after: None } };
            let waited = Waited { time: Duration::from_secs(waited), attempts };
            let is_over = waited.time >= policy.give_up_after && attempts >= 5;
            match policy.next(outcome, retry_index, waited, now, jitter) {
                RetryDecision::At(at) => {
                    prop_assert!(!is_over);
                    prop_assert!(at > now && at <= now.after(policy.max_pause()));
                }
                next => prop_assert!(is_over && next == RetryDecision::Expired),
            }
        }
    }
}
