//! When a message is tried again. Pure: chance is passed as a number.

use std::time::Duration;

use crate::time::Timestamp;

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every recipient has taken it or refused it for good, and at least one has taken it.
    Accepted,
    /// Not this time; the receiver may have said how long to wait.
    Retry { after: Option<Duration> },
    /// Not this time, for a reason that is this message's or its recipients' own: the endpoint works.
    Deferred,
    /// It was handed over, and whether it was taken is not known: nobody saw the end. It is tried again, with more
    /// patience, and says nothing against the endpoint: somebody is there.
    Unconfirmed,
    /// Trying again is senseless: no recipient will ever take it.
    Refused,
    /// Refused for a reason that is not known to be this message's own: who we are, what we may send, how much. Never
    /// its end while others fare no better.
    Blocked,
    /// The endpoint as a whole cannot be reached.
    Unavailable,
    /// The endpoint does not let us in (a wrong password): never a message's end.
    AuthRejected,
    /// The endpoint says that it is gone for good (HTTP 410).
    Gone,
}

/// Whether a recipient with this reply has taken the message; else it was refused for good.
#[must_use]
pub fn took(reply: &str) -> bool {
    reply.starts_with('2')
}

/// However an endpoint fails, it is asked again after this long at most.
pub const LONGEST_PROBE: Duration = Duration::from_mins(5);

/// A receiver that asks for a longer pause than this is asked again all the same.
pub const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// `[retry]`.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// The pauses after the first, second, … failure; the last one repeats.
    pub schedule: Vec<Duration>,
    /// A message becomes a dead letter when it has waited for this long while vetwatch ran and could try.
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

/// However long a message waited: it is not given up before so many attempts have failed.
const LEAST_ATTEMPTS: u32 = 5;

/// How long a message has waited, and what was tried meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// While vetwatch ran and could try: no suspend, no pause and no quiet hours count, nor does a clock that was set.
    pub time: Duration,
    /// Failures in a row, this one included: the message's own, or those of its endpoint as a whole where one message
    /// asks for all.
    pub attempts: u32,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    Delivered,
    At(Timestamp),
    /// Nobody will ever take it.
    Refused,
    /// Its time is over.
    GivenUp,
}

impl RetryPolicy {
    /// The pause after failure number `retry_index + 1`: the schedule's, and up to a fifth more, as `chance` (0 to 1) says,
    /// so that what failed together does not come back together.
    #[must_use]
    pub fn pause(&self, retry_index: u32, chance: f64) -> Duration {
        let last = self.schedule.len().saturating_sub(1);
        let step = usize::try_from(retry_index).map_or(last, |retry_index| retry_index.min(last));
        let pause = self.schedule.get(step).copied().unwrap_or(LONGEST_PROBE);
        pause.mul_f64(1.0 + 0.2 * chance.clamp(0.0, 1.0))
    }

    /// What follows from an attempt. `retry_index`: how many failures went before it.
    #[must_use]
    pub fn next(
        &self,
        outcome: Outcome,
        retry_index: u32,
        waited: Waited,
        now: Timestamp,
        chance: f64,
    ) -> RetryDecision {
        let pause = self.pause(retry_index, chance);
        let over = waited.time >= self.give_up_after && waited.attempts >= LEAST_ATTEMPTS;
        match outcome {
            Outcome::Accepted => RetryDecision::Delivered,
            Outcome::Refused => RetryDecision::Refused,
            Outcome::Retry { .. } | Outcome::Deferred | Outcome::Unconfirmed | Outcome::Unavailable if over => {
                RetryDecision::GivenUp
            }
            // It may have been taken: each further copy is a nuisance, so begin with the third pause.
            Outcome::Unconfirmed => RetryDecision::At(now.after(self.pause(retry_index.saturating_add(2), chance))),
            // Our login or its address is wrong, or nobody knows: that says nothing of the message, however long it lasts.
            Outcome::Blocked | Outcome::AuthRejected | Outcome::Gone | Outcome::Unavailable | Outcome::Deferred => {
                RetryDecision::At(now.after(pause))
            }
            Outcome::Retry { after } => {
                RetryDecision::At(now.after(pause.max(after.unwrap_or_default().min(LONGEST_WAIT))))
            }
        }
    }

    /// The longest time ahead that an attempt can have been set to.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.schedule.iter().copied().max().unwrap_or_default().mul_f64(1.2).max(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn the_pauses_follow_the_schedule_and_the_last_one_repeats() {
        let policy = RetryPolicy::default();
        let pauses: Vec<u64> = (0..8).map(|retry_index| policy.pause(retry_index, 0.0).as_secs()).collect();
        assert_eq!(pauses, [5, 30, 120, 600, 1800, 3600, 3600, 3600]);
    }

    const LONG: Waited = Waited { time: Duration::from_hours(24 * 30), attempts: 99 };

    #[test]
    fn a_login_that_is_refused_is_never_the_messages_end() {
        let next = RetryPolicy::default().next(Outcome::AuthRejected, 99, LONG, START, 0.5);
        assert!(matches!(next, RetryDecision::At(_)));
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_for_ever() {
        let waited = Waited { time: Duration::ZERO, attempts: 1 };
        let next = |after| RetryPolicy::default().next(Outcome::Retry { after }, 0, waited, START, 0.0);
        assert_eq!(next(Some(Duration::from_mins(1))), RetryDecision::At(START.after(Duration::from_mins(1))));
        assert_eq!(next(Some(Duration::from_secs(1))), RetryDecision::At(START.after(Duration::from_secs(5))));
        assert_eq!(next(Some(Duration::from_hours(999))), RetryDecision::At(START.after(LONGEST_WAIT)));
    }

    proptest! {
        #[test]
        fn every_pause_is_bounded_and_a_message_ends_only_after_its_time_and_five_attempts(
            retry_index in 0u32..,
            chance in -1.0..2.0,
            waited in 0u64..1_000_000,
            attempts in 1u32..10,
            now in any::<i32>(),
            unavailable in any::<bool>(),
        ) {
            // Whatever the clock says.
            let (policy, now) = (RetryPolicy::default(), Timestamp::from_millis(i64::from(now) * 1000));
            let outcome = if unavailable { Outcome::Unavailable } else { Outcome::Retry { after: None } };
            let waited = Waited { time: Duration::from_secs(waited), attempts };
            let is_over = waited.time >= policy.give_up_after && attempts >= 5;
            match policy.next(outcome, retry_index, waited, now, chance) {
                RetryDecision::At(at) => {
                    prop_assert!(!is_over);
                    prop_assert!(at > now && at <= now.after(policy.longest()));
                }
                next => prop_assert!(is_over && next == RetryDecision::GivenUp),
            }
        }
    }
}
