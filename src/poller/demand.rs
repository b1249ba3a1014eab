//! How many requests per minute a schedule needs.

use std::time::Duration;

/// How often customers are polled and the activity log is read.
#[derive(Debug, Clone, Copy)]
pub struct Every {
    pub in_review: Duration,
    pub settled: Duration,
    pub unqualified: Duration,
    pub activity_log: Duration,
}

/// How many customers of a partner are in each class.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watched {
    /// Includes the confirming class.
    pub in_review: u64,
    pub settled: u64,
    /// Includes the unseen class.
    pub unqualified: u64,
    /// Whether the activity log reports submissions; if not, customers without an entry are polled as often as settled ones.
    pub log_is_read: bool,
}

/// Mean of the jitter: a customer is polled up to 5 % before its interval ends.
const MEAN_JITTER: f64 = 0.975;

impl Watched {
    /// On average, including the activity log (one page per scan), without the daily customer list.
    #[must_use]
    pub fn requests_per_minute(&self, every: &Every) -> f64 {
        let unqualified = if self.log_is_read { every.unqualified } else { every.settled };
        a_minute(self.in_review, every.in_review)
            + a_minute(self.settled, every.settled)
            + a_minute(self.unqualified, unqualified)
            + if self.log_is_read { MEAN_JITTER * a_minute(1, every.activity_log) } else { 0.0 }
    }
}

impl Every {
    /// How many customers in review, and how many settled ones, fit into `per_minute` requests.
    #[must_use]
    pub fn fitting(&self, per_minute: u32) -> (u64, u64) {
        let left = (f64::from(per_minute) - MEAN_JITTER * a_minute(1, self.activity_log)).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of customers")]
        let fit = |every: Duration| (left / a_minute(1, every)) as u64;
        (fit(self.in_review), fit(self.settled))
    }
}

fn a_minute(customers: u64, every: Duration) -> f64 {
    let customers = f64::from(u32::try_from(customers).unwrap_or(u32::MAX));
    customers * 60.0 / (every.as_secs_f64().max(0.001) * MEAN_JITTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_schedule_asks_for_each_customer_once_an_interval_and_for_the_log() {
        let every =
            Every { in_review: 15 * MINUTE, settled: 60 * MINUTE, unqualified: 600 * MINUTE, activity_log: 5 * MINUTE };
        let watched = Watched { in_review: 1500, settled: 600, unqualified: 600, log_is_read: true };
        let rate = watched.requests_per_minute(&every);
        assert!((rate - (111.0 / 0.975 + 0.2)).abs() < 0.01, "{rate}");
        let without_log = Watched { log_is_read: false, ..watched }.requests_per_minute(&every);
        assert!((without_log - 120.0 / 0.975).abs() < 0.01, "{without_log}");
        let (in_review, settled) = every.fitting(290);
        assert_eq!((in_review, settled), (4238, 16953));
        let full = Watched { in_review, log_is_read: true, ..Watched::default() }.requests_per_minute(&every);
        assert!((289.9..=290.0).contains(&full), "{full}");
    }
}
