//! When customers are polled: the classes that a short budget is shared by, and their intervals. Pure.

use std::time::Duration;

use serde::Serialize;

use crate::time::Timestamp;

/// Which poll interval applies to a customer. In the order in which a short budget is spent, once each class had its
/// share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PollClass {
    /// An absence or a verdict waits for confirmation.
    Confirming,
    /// A review is open, or the customer is watched closely.
    InReview,
    /// Has a qualification, and none in review.
    Settled,
    /// No response was understood yet.
    Unseen,
    /// Has no qualification.
    Unqualified,
}

impl PollClass {
    pub const IN_ORDER: [Self; 5] = [Self::Confirming, Self::InReview, Self::Settled, Self::Unseen, Self::Unqualified];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirming => "confirming",
            Self::InReview => "in_review",
            Self::Settled => "settled",
            Self::Unseen => "unseen",
            Self::Unqualified => "unqualified",
        }
    }

    /// # Errors
    /// If there is no class of that name.
    pub fn parse(name: &str) -> Result<Self, String> {
        let known = Self::IN_ORDER.into_iter().find(|class| class.as_str() == name);
        known.ok_or_else(|| format!("{name:?} is no class of customers"))
    }
}

/// The poll intervals of `[schedule]`.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    pub in_review: Duration,
    pub settled: Duration,
    pub unqualified: Duration,
    pub first_confirmation: Duration,
    pub second_confirmation: Duration,
    /// The activity log reports submissions, so customers without an entry are polled rarely.
    pub log_is_read: bool,
}

impl Intervals {
    #[must_use]
    pub fn of(&self, class: PollClass) -> Duration {
        match class {
            PollClass::Confirming | PollClass::InReview => self.in_review,
            PollClass::Unqualified if self.log_is_read => self.unqualified,
            PollClass::Settled | PollClass::Unseen | PollClass::Unqualified => self.settled,
        }
    }

    /// How long a customer of this class may be due before it is late. An unseen one counts as in review.
    #[must_use]
    pub fn promised(&self, class: PollClass) -> Duration {
        match class {
            PollClass::Confirming => self.first_confirmation,
            PollClass::InReview | PollClass::Unseen => self.in_review,
            PollClass::Settled | PollClass::Unqualified => self.of(class),
        }
    }

    /// When a departed customer is polled next. `chance` (0 to 1) as in [`Self::next`].
    #[must_use]
    pub fn next_rare_poll(&self, now: Timestamp, chance: f64) -> Timestamp {
        now.after(self.unqualified.mul_f64(1.0 - 0.05 * chance.clamp(0.0, 1.0)))
    }

    /// When a customer is polled for the second time. Customers found in one sweep would stay in one sweep every day, so
    /// `chance` (0 to 1) spreads them over the interval of their class.
    #[must_use]
    pub fn after_first_response(&self, class: PollClass, now: Timestamp, chance: f64) -> Timestamp {
        let usual = self.of(class);
        now.after(usual.mul_f64(chance.clamp(0.0, 1.0)).max(usual.min(self.in_review)))
    }

    /// When a customer of this class is polled next: after its interval, less a jitter of up to 5 % by `chance` (0 to 1).
    /// Never late.
    #[must_use]
    pub fn next(&self, class: PollClass, now: Timestamp, chance: f64) -> Timestamp {
        now.after(self.of(class).mul_f64(1.0 - 0.05 * chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: Intervals = Intervals {
        in_review: Duration::from_mins(15),
        settled: Duration::from_hours(24),
        unqualified: Duration::from_hours(24 * 7),
        first_confirmation: Duration::from_mins(2),
        second_confirmation: Duration::from_hours(1),
        log_is_read: true,
    };
    const NOW: Timestamp = Timestamp::from_millis(1_795_262_400_000);

    fn minutes(at: Timestamp) -> u64 {
        at.since(NOW).as_secs() / 60
    }

    #[test]
    fn the_words_of_the_classes_are_those_in_the_database() {
        let words = PollClass::IN_ORDER.map(PollClass::as_str);
        assert_eq!(words, ["confirming", "in_review", "settled", "unseen", "unqualified"]);
        assert_eq!(words.map(|word| PollClass::parse(word).unwrap()), PollClass::IN_ORDER);
        assert!(PollClass::parse("Settled").is_err());
    }

    #[test]
    fn customers_without_an_entry_are_polled_rarely_only_if_the_activity_log_reports_submissions() {
        let minutes = |intervals: Intervals| PollClass::IN_ORDER.map(|class| intervals.of(class).as_secs() / 60);
        assert_eq!(minutes(INTERVALS), [15, 15, 1440, 1440, 10_080]);
        assert_eq!(minutes(Intervals { log_is_read: false, ..INTERVALS }), [15, 15, 1440, 1440, 1440]);
    }

    #[test]
    fn a_customer_is_late_after_what_its_class_promises_and_an_unseen_one_as_if_it_were_in_review() {
        let promised = PollClass::IN_ORDER.map(|class| INTERVALS.promised(class).as_secs() / 60);
        assert_eq!(promised, [2, 15, 1440, 15, 10_080]);
    }

    #[test]
    fn a_poll_is_up_to_a_twentieth_early_and_never_late() {
        let next = |chance| minutes(INTERVALS.next(PollClass::Settled, NOW, chance));
        assert_eq!([-1.0, 0.0, 0.5, 1.0, 2.0].map(next), [1440, 1440, 1404, 1368, 1368]);
        let rare = |chance| minutes(INTERVALS.next_rare_poll(NOW, chance));
        assert_eq!([-1.0, 0.0, 0.5, 1.0, 2.0].map(rare), [10_080, 10_080, 9828, 9576, 9576]);
    }

    #[test]
    fn second_polls_are_spread_over_the_interval_and_none_is_sooner_than_one_of_a_review() {
        let second = |class, chance| minutes(INTERVALS.after_first_response(class, NOW, chance));
        assert_eq!([0.0, 0.25, 1.0, 2.0].map(|chance| second(PollClass::Settled, chance)), [15, 360, 1440, 1440]);
        assert_eq!([0.0, 1.0].map(|chance| second(PollClass::InReview, chance)), [15, 15]);
    }
}
