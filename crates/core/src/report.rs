//! What was decided in a period: how much, how fast, at which attempt, why not, and what came of it. Pure.
//!
//! Reviews are added newest first, so that what came after a denial is known when the denial comes; nothing but their
//! durations is kept of them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{Datelike as _, Days, NaiveDate};
use serde::Serialize;

use crate::calendar::Calendar;
use crate::changes::Outcome;
use crate::forecast::Durations;
use crate::qualification;
use crate::time::Timestamp;

/// The newest weeks that are listed.
const WEEKS_MAX: usize = 26;
/// Within how many days reviews end, at which the share is listed.
const WITHIN_DAYS: [u32; 9] = [1, 2, 3, 4, 5, 7, 10, 14, 30];

/// A review that was seen to end.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    pub customer: i64,
    pub qualification: &'a str,
    pub attempt: i64,
    pub submitted_at: Option<Timestamp>,
    pub observed_at: Timestamp,
    pub outcome: Outcome,
    pub reason: Option<&'a str>,
}

/// A review that has not ended.
#[derive(Debug, Clone, Copy)]
pub struct Open<'a> {
    pub customer: i64,
    pub qualification: &'a str,
    pub since: Timestamp,
}

/// Verdicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Verdicts {
    pub verdicts: u64,
    pub approved: u64,
    pub denied: u64,
    /// Of the verdicts; null without one.
    pub approved_percent: Option<f64>,
}

impl Verdicts {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Approved => self.approved += 1,
            Outcome::Denied => self.denied += 1,
            Outcome::Revoked | Outcome::Vanished => return,
        }
        self.verdicts += 1;
        self.approved_percent = percent(self.approved, self.verdicts);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByQualification {
    /// Null: all of them.
    pub qualification: Option<String>,
    #[serde(flatten)]
    pub verdicts: Verdicts,
    /// Reviews whose entry disappeared without a verdict.
    pub vanished: u64,
    /// Approvals that Microsoft took back later.
    pub revoked: u64,
    pub in_review: u64,
    /// The hours within which half of the reviews end, and 9 of 10; null if so many have not ended.
    pub median_hours: Option<f64>,
    pub p90_hours: Option<f64>,
    /// The reviews that these are from: those submitted in the period, ended or not.
    pub timed: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByMonth {
    /// `2026-11`
    pub month: String,
    pub qualification: String,
    #[serde(flatten)]
    pub verdicts: Verdicts,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByWeek {
    /// Its Monday: `2026-11-23`.
    pub week: String,
    #[serde(flatten)]
    pub verdicts: Verdicts,
}

/// The share of reviews that end within a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Within {
    pub days: u32,
    /// Null before the first review ended, and beyond the longest time that is known.
    pub decided_percent: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByAttempt {
    pub qualification: String,
    /// As far as vetwatch saw.
    pub attempt: i64,
    #[serde(flatten)]
    pub verdicts: Verdicts,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByReason {
    /// Microsoft's words; null: none were given.
    pub vetting_reason: Option<String>,
    pub denials: u64,
    /// Of the denials, those after which another verdict was seen, or a review goes on.
    pub tried_again: u64,
    /// Of these, those whose next verdict was an approval; and one of a denial.
    pub then_approved: u64,
    pub then_denied: u64,
    /// Of the next verdicts; null without one.
    pub cured_percent: Option<f64>,
}

/// The figures of a period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// All, and each qualification.
    pub qualifications: Vec<ByQualification>,
    /// Newest first.
    pub months: Vec<ByMonth>,
    /// Oldest first, those without a verdict included.
    pub weeks: Vec<ByWeek>,
    pub decided_within: Vec<Within>,
    pub attempts: Vec<ByAttempt>,
    /// The most frequent first.
    pub reasons: Vec<ByReason>,
}

/// What is known of one qualification.
#[derive(Debug, Default)]
struct Kind {
    name: String,
    verdicts: Verdicts,
    vanished: u64,
    revoked: u64,
    in_review: u64,
    /// With the time of their submission.
    finished: Vec<(Timestamp, Duration)>,
    unfinished: Vec<(Timestamp, Duration)>,
}

/// What came after a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Later {
    InReview,
    Verdict(Outcome),
}

/// Counts.
#[derive(Debug)]
pub struct Report<'a> {
    calendar: &'a Calendar,
    since: Timestamp,
    until: Timestamp,
    kinds: BTreeMap<String, Kind>,
    months: BTreeMap<(i32, u32, String), Verdicts>,
    weeks: BTreeMap<NaiveDate, Verdicts>,
    attempts: BTreeMap<(String, i64), Verdicts>,
    reasons: HashMap<Option<String>, ByReason>,
    /// By customer and qualification.
    later: HashMap<(i64, String), Later>,
}

impl<'a> Report<'a> {
    /// Of the period from `since` until `until`, in the calendar's days.
    #[must_use]
    pub fn new(calendar: &'a Calendar, since: Timestamp, until: Timestamp) -> Self {
        Self {
            calendar,
            since,
            until,
            kinds: BTreeMap::new(),
            months: BTreeMap::new(),
            weeks: BTreeMap::new(),
            attempts: BTreeMap::new(),
            reasons: HashMap::new(),
            later: HashMap::new(),
        }
    }

    fn kind(&mut self, qualification: &str) -> (String, &mut Kind) {
        let key = qualification::key(qualification);
        let kind = self.kinds.entry(key.clone()).or_default();
        if kind.name.is_empty() {
            qualification.trim().clone_into(&mut kind.name);
        }
        (key, kind)
    }

    /// Adds a review that goes on. All of them come before the first one that ended.
    pub fn add_open(&mut self, open: Open<'_>) {
        let until = self.until;
        let (key, kind) = self.kind(open.qualification);
        kind.in_review += 1;
        kind.unfinished.push((open.since, until.since(open.since)));
        self.later.insert((open.customer, key), Later::InReview);
    }

    /// Adds a review that ended, newest first.
    pub fn add(&mut self, ended: Ended<'_>) {
        let (key, kind) = self.kind(ended.qualification);
        kind.verdicts.add(ended.outcome);
        if ended.outcome == Outcome::Revoked {
            kind.revoked += 1;
            return;
        }
        if let Some(submitted_at) = ended.submitted_at.filter(|at| *at <= ended.observed_at) {
            // One that vanished would have taken longer than that.
            let durations = if ended.outcome == Outcome::Vanished { &mut kind.unfinished } else { &mut kind.finished };
            durations.push((submitted_at, ended.observed_at.since(submitted_at)));
        }
        if ended.outcome == Outcome::Vanished {
            kind.vanished += 1;
            self.later.insert((ended.customer, key), Later::Verdict(Outcome::Vanished));
            return;
        }
        let name = kind.name.clone();
        let day = self.calendar.local(ended.observed_at).date();
        self.months.entry((day.year(), day.month(), name.clone())).or_default().add(ended.outcome);
        self.weeks.entry(monday(day)).or_default().add(ended.outcome);
        self.attempts.entry((name, ended.attempt)).or_default().add(ended.outcome);
        let later = self.later.insert((ended.customer, key), Later::Verdict(ended.outcome));
        if ended.outcome == Outcome::Denied {
            self.add_denial(ended.reason, later);
        }
    }

    fn add_denial(&mut self, reason: Option<&str>, later: Option<Later>) {
        let row = self.reasons.entry(reason.and_then(qualification::reason_key)).or_insert_with(|| ByReason {
            vetting_reason: reason.map(str::trim).filter(|reason| !reason.is_empty()).map(str::to_owned),
            denials: 0,
            tried_again: 0,
            then_approved: 0,
            then_denied: 0,
            cured_percent: None,
        });
        row.denials += 1;
        row.tried_again += u64::from(later.is_some());
        row.then_approved += u64::from(later == Some(Later::Verdict(Outcome::Approved)));
        row.then_denied += u64::from(later == Some(Later::Verdict(Outcome::Denied)));
        row.cured_percent = percent(row.then_approved, row.then_approved + row.then_denied);
    }

    /// The period begins no sooner than this, because older reviews are not added.
    pub fn begin_at(&mut self, since: Timestamp) {
        self.since = self.since.max(since);
    }

    #[must_use]
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// The figures.
    #[must_use]
    pub fn figures(mut self) -> Figures {
        let weeks = self.listed_weeks();
        for kind in self.kinds.values_mut() {
            // A review that was submitted before the period is known only if it was a slow one.
            kind.finished.retain(|(submitted_at, _)| *submitted_at >= self.since);
            kind.unfinished.retain(|(submitted_at, _)| *submitted_at >= self.since);
        }
        let mut all = Kind::default();
        for kind in self.kinds.values() {
            for (count, of) in [
                (&mut all.verdicts.approved, kind.verdicts.approved),
                (&mut all.verdicts.denied, kind.verdicts.denied),
                (&mut all.verdicts.verdicts, kind.verdicts.verdicts),
                (&mut all.vanished, kind.vanished),
                (&mut all.revoked, kind.revoked),
                (&mut all.in_review, kind.in_review),
            ] {
                *count += of;
            }
            all.finished.extend(&kind.finished);
            all.unfinished.extend(&kind.unfinished);
        }
        all.verdicts.approved_percent = percent(all.verdicts.approved, all.verdicts.verdicts);
        let (mut first, durations) = by_qualification(all);
        first.qualification = None;
        let qualifications =
            std::iter::once(first).chain(self.kinds.into_values().map(|kind| by_qualification(kind).0)).collect();
        let months = self.months.into_iter().rev();
        let mut reasons: Vec<_> = self.reasons.into_values().collect();
        reasons.sort_by(|a, b| b.denials.cmp(&a.denials).then_with(|| a.vetting_reason.cmp(&b.vetting_reason)));
        Figures {
            qualifications,
            months: months
                .map(|((year, month, qualification), verdicts)| ByMonth {
                    month: format!("{year}-{month:02}"),
                    qualification,
                    verdicts,
                })
                .collect(),
            weeks,
            decided_within: WITHIN_DAYS
                .map(|days| Within {
                    days,
                    decided_percent: durations.share_within(Duration::from_hours(24) * days).map(rounded_percent),
                })
                .into(),
            attempts: self
                .attempts
                .into_iter()
                .map(|((qualification, attempt), verdicts)| ByAttempt { qualification, attempt, verdicts })
                .collect(),
            reasons,
        }
    }

    /// The newest weeks of the period, from its first verdict on.
    fn listed_weeks(&self) -> Vec<ByWeek> {
        let Some(first) = self.weeks.keys().next() else { return Vec::new() };
        let last = monday(self.calendar.local(self.until).date());
        let back = last.checked_sub_days(Days::new(7 * (WEEKS_MAX as u64 - 1))).unwrap_or(last);
        let weeks = (*first.max(&back)).iter_weeks().take_while(|week| *week <= last);
        weeks
            .map(|week| ByWeek { week: week.to_string(), verdicts: self.weeks.get(&week).copied().unwrap_or_default() })
            .collect()
    }
}

fn by_qualification(kind: Kind) -> (ByQualification, Durations) {
    let timed = kind.finished.len() + kind.unfinished.len();
    let took = |reviews: Vec<(Timestamp, Duration)>| reviews.into_iter().map(|(_, took)| took).collect();
    let durations = Durations::new(took(kind.finished), took(kind.unfinished));
    let within = |share| durations.quantile(share, Duration::ZERO).map(|took| rounded(took.as_secs_f64() / 3600.0));
    let row = ByQualification {
        qualification: Some(kind.name),
        verdicts: kind.verdicts,
        vanished: kind.vanished,
        revoked: kind.revoked,
        in_review: kind.in_review,
        median_hours: within(0.5),
        p90_hours: within(0.9),
        timed: timed as u64,
    };
    (row, durations)
}

fn monday(day: NaiveDate) -> NaiveDate {
    day.checked_sub_days(Days::new(day.weekday().num_days_from_monday().into())).unwrap_or(day)
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn rounded_percent(share: f64) -> f64 {
    rounded(share * 100.0)
}

/// To one decimal; `None` of nothing.
#[must_use]
pub fn percent(part: u64, of: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let share = part as f64 / of as f64;
    (of > 0).then(|| rounded_percent(share))
}

#[cfg(test)]
mod tests;
