//! Counts the customers that held an entry and were understood within the last hour.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::store::CustomerId;
use crate::time::Timestamp;

const MINUTE_MS: i64 = 60_000;
const HOUR_MINUTES: i64 = 60;

/// Each customer counts once, however often it is polled. Empty after a start, so that absences weigh more: the safe side.
#[derive(Debug, Default)]
pub struct RecentPolls(Mutex<Hour>);

#[derive(Debug, Default)]
struct Hour {
    /// By customer: the minute of its last understood response.
    last: HashMap<CustomerId, i64>,
    /// By minute: the number of customers with their last understood response in it.
    minutes: VecDeque<(i64, u64)>,
}

impl RecentPolls {
    pub fn count(&self, customer: CustomerId, now: Timestamp) {
        let minute = now.as_millis().div_euclid(MINUTE_MS);
        let mut hour = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hour.forget(minute);
        let before = hour.last.insert(customer, minute);
        if before == Some(minute) {
            return;
        }
        if let Some((_, count)) = hour.minutes.iter_mut().find(|(at, _)| Some(*at) == before) {
            *count -= 1;
        }
        match hour.minutes.back_mut() {
            Some((at, count)) if *at == minute => *count += 1,
            _ => hour.minutes.push_back((minute, 1)),
        }
    }

    /// The number of customers within the last hour.
    pub fn within_hour(&self, now: Timestamp) -> u64 {
        let minute = now.as_millis().div_euclid(MINUTE_MS);
        let hour = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hour.minutes.iter().filter(|(at, _)| is_within(*at, minute)).map(|(_, count)| count).sum()
    }
}

impl Hour {
    /// Drops what is outside the hour, once a minute. On both sides: the clock may have been set back.
    fn forget(&mut self, minute: i64) {
        if self.minutes.back().is_none_or(|(at, _)| *at != minute) {
            self.minutes.retain(|(at, _)| is_within(*at, minute));
            self.last.retain(|_, at| is_within(*at, minute));
        }
    }
}

fn is_within(at: i64, minute: i64) -> bool {
    at > minute - HOUR_MINUTES && at <= minute
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_customer_counts_once_within_the_hour_however_often_it_is_asked_and_whatever_the_clock_does() {
        let (polls, start) = (RecentPolls::default(), Timestamp::from_millis(1_760_000_000_000));
        for minute in 0..180 {
            let now = start.after(Duration::from_mins(minute));
            for customer in 0..30 {
                polls.count(CustomerId(customer), now);
                polls.count(CustomerId(customer), now);
            }
            assert_eq!(polls.within_hour(now), 30, "after {minute} minutes");
        }
        let now = start.after(Duration::from_mins(20));
        polls.count(CustomerId(7), now);
        polls.count(CustomerId(8), now.after(Duration::from_mins(1)));
        let now = now.after(Duration::from_mins(2));
        polls.count(CustomerId(8), now);
        assert_eq!(polls.within_hour(now), 2);
        assert_eq!(polls.within_hour(now.after(Duration::from_hours(1))), 0);
    }
}
