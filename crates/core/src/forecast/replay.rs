//! How often a forecast came true, by one's own reviews.

use std::time::Duration;

use serde::Serialize;

use super::{Durations, FINISHED_MAX, FINISHED_MIN, SHARE};
use crate::calendar::Calendar;
use crate::time::Timestamp;

/// The newest reviews whose forecasts are made again.
const REPLAYED_MAX: usize = 100;
/// The reviews that were open then and are looked at for each: of so many a part says as much as all.
const OPEN_MAX: usize = 300;

/// A review of one qualification.
#[derive(Debug, Clone, Copy)]
pub struct Review {
    pub submitted_at: Timestamp,
    /// `None`: it goes on.
    pub decided_at: Option<Timestamp>,
}

/// How often "9 of 10" came true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CameTrue {
    /// Decided reviews for which a date could be given on the day they were submitted.
    pub made: u64,
    /// Of them, those that were decided by that date.
    pub came_true: u64,
}

impl CameTrue {
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { made: self.made + other.made, came_true: self.came_true + other.came_true }
    }
}

/// Makes the forecast of each of the newest decided reviews again, from what was known when it was submitted.
#[must_use]
pub fn replay(reviews: &[Review], calendar: &Calendar) -> CameTrue {
    let first = reviews.iter().map(|review| review.submitted_at).min();
    let last = reviews.iter().map(|review| review.decided_at.unwrap_or(review.submitted_at)).max();
    let (Some(first), Some(last)) = (first, last) else { return CameTrue::default() };
    let clock = calendar.working_clock(first, last);
    let took = |review: &Review| Some((*review, clock.between(review.submitted_at, review.decided_at?)));
    let mut decided: Vec<_> = reviews.iter().filter_map(took).collect();
    decided.sort_by_key(|(review, _)| review.decided_at);
    let mut result = CameTrue::default();
    for (asked, took) in decided.iter().rev().take(REPLAYED_MAX) {
        let then = asked.submitted_at;
        let known = decided.partition_point(|(review, _)| review.decided_at <= Some(then));
        if known < FINISHED_MIN {
            continue;
        }
        let finished = &decided[known.saturating_sub(FINISHED_MAX)..known];
        let window = finished.iter().map(|(review, _)| review.submitted_at).min().unwrap_or(then);
        let later = decided[known..].iter().map(|(review, _)| review);
        let going_on = reviews.iter().filter(|review| review.decided_at.is_none());
        let open = later.chain(going_on).filter(|it| it.submitted_at >= window && it.submitted_at < then);
        let open = open.take(OPEN_MAX).map(|it| clock.between(it.submitted_at, then)).collect();
        let durations = Durations::new(finished.iter().map(|(_, took)| *took).collect(), open);
        if let Some(bound) = durations.bound(SHARE, Duration::ZERO) {
            result.made += 1;
            result.came_true += u64::from(*took <= bound);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(n: u64) -> Timestamp {
        Timestamp::from_millis(0).after(Duration::from_hours(n))
    }

    fn every_day() -> Calendar {
        Calendar { working_days: [true; 7], ..Calendar::default() }
    }

    /// A review each day, decided after `took` hours.
    fn office(days: u64, took: impl Fn(u64) -> u64) -> Vec<Review> {
        let review = |day| Review { submitted_at: hours(24 * day), decided_at: Some(hours(24 * day + took(day))) };
        (0..days).map(review).collect()
    }

    #[test]
    fn a_steady_office_keeps_what_is_said_of_it() {
        let steady = replay(&office(200, |day| 20 + day % 10), &every_day());
        assert_eq!((steady.made, steady.came_true), (100, 100));
    }

    #[test]
    fn an_office_that_slows_down_breaks_it() {
        let slower = replay(&office(200, |day| 20 + day * 5), &every_day());
        assert!(slower.made == 100 && slower.came_true < 50, "{slower:?}");
    }

    #[test]
    fn only_what_was_decided_then_counts() {
        // Twenty-five are decided long after the last one was submitted: nothing could be said of any of them.
        assert_eq!(replay(&office(25, |day| 5000 - day), &every_day()), CameTrue::default());
    }
}
