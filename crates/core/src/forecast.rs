//! When an open review will probably be decided, from one's own finished ones. Pure.
//!
//! Time is [working time](Calendar::working_time): a review does not move on a weekend. Those still open count as longer
//! than they have taken so far (Kaplan–Meier); leaving them out would promise too much, because the slow ones are the last
//! to end. For a review that has waited already, only those that took longer than that say anything.

use std::time::Duration;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::time::Timestamp;

pub use replay::{CameTrue, Review, replay};

/// With fewer finished reviews than this, one's own say too little.
pub const FINISHED_MIN: usize = 20;
/// The newest finished reviews that count: Microsoft's pace changes.
pub const FINISHED_MAX: usize = 500;
/// What is promised: 9 of 10.
pub const SHARE: f64 = 0.9;
/// What people report of Microsoft, which documents no time: "3 to 5 business days".
pub const USUAL_BUSINESS_DAYS: u32 = 5;

/// When a review is expected to be decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Until then. `None` if nothing can be said, or the time is over.
    #[serde(rename = "expected_by")]
    pub by: Option<Timestamp>,
    /// A sentence with the number of reviews that it is made from.
    #[serde(rename = "expected")]
    pub text: String,
    /// The finished reviews that took longer than this one has waited, and those still open that have; 0 if Microsoft's usual
    /// time is given.
    #[serde(rename = "expected_of")]
    pub of: usize,
}

/// How long reviews took, and how long the open ones have taken so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    /// Ascending.
    finished: Vec<Duration>,
    /// Ascending.
    open: Vec<Duration>,
}

impl Durations {
    #[must_use]
    pub fn new(mut finished: Vec<Duration>, mut open: Vec<Duration>) -> Self {
        finished.sort_unstable();
        open.sort_unstable();
        Self { finished, open }
    }

    #[must_use]
    pub fn finished(&self) -> usize {
        self.finished.len()
    }

    /// How many took longer than `waited`, or have.
    #[must_use]
    pub fn at_risk(&self, waited: Duration) -> usize {
        self.finished.len() - first_longer(&self.finished, waited) + self.open.len() - first_longer(&self.open, waited)
    }

    /// The share that has ended after each duration at which one ended, of those that took longer than `waited`.
    fn ended(&self, waited: Duration) -> impl Iterator<Item = (Duration, f64)> {
        let mut unfinished = 1.0;
        let mut from = first_longer(&self.finished, waited);
        std::iter::from_fn(move || {
            let took = *self.finished.get(from)?;
            let until = self.finished.partition_point(|it| *it <= took);
            let open = self.open.len() - self.open.partition_point(|it| *it < took);
            let at_risk = self.finished.len() - from + open;
            #[expect(clippy::cast_precision_loss, reason = "there are few")]
            let ended = (until - from) as f64 / at_risk as f64;
            unfinished *= 1.0 - ended;
            from = until;
            Some((took, 1.0 - unfinished))
        })
    }

    /// The time within which this share ends, of those that took longer than `waited`. `None` if too few have ended.
    #[must_use]
    pub fn quantile(&self, share: f64, waited: Duration) -> Option<Duration> {
        self.ended(waited).find(|(_, ended)| *ended >= share - 1e-9).map(|(took, _)| took)
    }

    /// The share that ends within this time. `None` if no review is known to have taken so long, or has.
    #[must_use]
    pub fn share_within(&self, time: Duration) -> Option<f64> {
        let longest = self.finished.last().max(self.open.last())?;
        let ended = self.ended(Duration::ZERO).take_while(|(took, _)| *took <= time).last();
        let everything = self.open.last() <= self.finished.last();
        (time <= *longest || everything).then(|| ended.map_or(0.0, |(_, share)| share))
    }

    /// As [`Self::quantile`], with a share that is raised so that a *next* one ends within it with this probability: of `n`
    /// values a next one is as likely to fall before the first as between any two, so the share is of `n + 1`.
    #[must_use]
    pub fn bound(&self, share: f64, waited: Duration) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "there are few")]
        let n = self.at_risk(waited) as f64;
        let raised = share * (n + 1.0) / n;
        if raised > 1.0 { None } else { self.quantile(raised, waited) }
    }
}

/// The first that took longer than `waited`. One that has not waited is compared with all.
fn first_longer(durations: &[Duration], waited: Duration) -> usize {
    if waited.is_zero() { 0 } else { durations.partition_point(|it| *it <= waited) }
}

/// What is expected of a review that was submitted at `since`.
#[must_use]
pub fn expected(durations: &Durations, calendar: &Calendar, since: Timestamp, now: Timestamp) -> Expected {
    let waited = calendar.working_time(since, now);
    if durations.finished() < FINISHED_MIN {
        let by = calendar.business_days_after(since, USUAL_BUSINESS_DAYS);
        return if by > now {
            let day = weekday(by, now, calendar.zone);
            Expected { by: Some(by), text: format!("by {day}, if it takes the usual 3 to 5 business days"), of: 0 }
        } else {
            Expected { by: None, text: "longer than the usual 3 to 5 business days".to_owned(), of: 0 }
        };
    }
    let of = durations.at_risk(waited);
    if let Some(took) = durations.bound(SHARE, waited) {
        let by = calendar.after_working_time(since, took);
        let day = weekday(by, now, calendar.zone);
        let like = if waited < Duration::from_hours(1) { "like this" } else { "that waited this long" };
        let text = format!("9 of 10 {like} were decided by {day} (from {of} reviews)");
        return Expected { by: Some(by), text, of };
    }
    let finished = durations.finished();
    let shorter = durations.finished.partition_point(|it| *it <= waited);
    let text = if shorter == finished {
        format!("longer than any of the {finished} that are decided took")
    } else {
        "no date: too few that waited this long are decided".to_owned()
    };
    Expected { by: None, text, of }
}

/// `Thursday`, within a week; else `Thursday 3 December`.
fn weekday(at: Timestamp, now: Timestamp, zone: Tz) -> String {
    let at_local = at.to_utc().with_timezone(&zone);
    let days = (at_local.date_naive() - now.to_utc().with_timezone(&zone).date_naive()).num_days();
    let format = if (0..7).contains(&days) { "%A" } else { "%A %-d %B" };
    match days {
        0 => "today".to_owned(),
        1 => "tomorrow".to_owned(),
        _ => at_local.format(format).to_string(),
    }
}

mod replay;
#[cfg(test)]
mod calibration;
#[cfg(test)]
mod tests;
