//! `report`, for the command and the page: [`vetwatch_core::report`], from the database.

use std::collections::BTreeMap;

use chrono::{Datelike as _, Months, NaiveTime};
use serde::Serialize;
use vetwatch_core::forecast::{CameTrue, Review, replay};
use vetwatch_core::qualification;
use vetwatch_core::report::{self, Figures};

use crate::calendar::Calendar;
use crate::forecast::Forecasts;
use crate::overview::InReview;
use crate::store::{self, Store};
use crate::time::Timestamp;

/// Months of the usual period, this one included.
const MONTHS: u32 = 12;
/// The longest in review that are listed.
const LONGEST: u32 = 10;
/// Decided reviews of a qualification from which its forecasts are made again.
const REPLAYED_FROM: usize = 1000;

/// What is reported.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub since: Timestamp,
    pub partner: Option<&'a str>,
    /// The newest verdicts that count, at most.
    pub most: usize,
}

/// The output of `report --json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub since: Timestamp,
    pub until: Timestamp,
    /// Older verdicts of the period are left out, because there are very many.
    pub cut: bool,
    /// Whose days, weeks and months they are.
    pub timezone: String,
    /// Null: all of them.
    pub partner: Option<String>,
    #[serde(flatten)]
    pub figures: Figures,
    /// Oldest first.
    pub longest_in_review: Vec<InReview>,
    /// How often "9 of 10 like this were decided by …" came true.
    pub forecasts: CameTrue,
}

/// The first day of the usual period: of the eleventh month before this one.
#[must_use]
pub fn usual_since(calendar: &Calendar, now: Timestamp) -> Timestamp {
    let today = calendar.local(now).date();
    let first = today.with_day(1).and_then(|day| day.checked_sub_months(Months::new(MONTHS - 1)));
    calendar.at(first.unwrap_or(today).and_time(NaiveTime::MIN))
}

/// Reads all of it.
///
/// # Errors
/// When the database cannot be read.
pub async fn read(
    store: &Store,
    calendar: &Calendar,
    now: Timestamp,
    asked: Asked<'_>,
) -> Result<Report, store::Error> {
    let mut report = report::Report::new(calendar, asked.since, now);
    let mut reviews: BTreeMap<String, (Vec<Review>, usize)> = BTreeMap::new();
    let mut remember = |qualification: &str, submitted_at, decided_at: Option<Timestamp>| {
        let (of, decided) = reviews.entry(qualification::key(qualification)).or_default();
        if decided_at.is_none() || *decided < REPLAYED_FROM {
            of.push(Review { submitted_at, decided_at });
            *decided += usize::from(decided_at.is_some());
        }
    };
    let each_open = store.each_open(asked.partner, |open| {
        report.add_open(open);
        remember(open.qualification, open.since, None);
    });
    each_open.await?;
    let (mut added, mut oldest, mut cut) = (0, now, false);
    let each_ended = store.each_ended(asked.since, asked.partner, |ended| {
        cut = added == asked.most;
        if cut {
            return false;
        }
        added += 1;
        oldest = ended.observed_at;
        report.add(ended);
        if let Some(submitted_at) = ended.submitted_at.filter(|_| ended.outcome.is_verdict()) {
            remember(ended.qualification, submitted_at, Some(ended.observed_at));
        }
        true
    });
    each_ended.await?;
    if cut {
        report.begin_at(oldest);
    }
    let since = report.since();
    let forecasts = Forecasts::read(store, calendar, now).await?;
    let longest = store.reviews(None, asked.partner, LONGEST).await?;
    let came_true = reviews.values().map(|(of, _)| replay(of, calendar));
    Ok(Report {
        since,
        until: now,
        cut,
        timezone: calendar.zone.name().to_owned(),
        partner: asked.partner.map(str::to_owned),
        figures: report.figures(),
        longest_in_review: longest
            .into_iter()
            .map(|it| InReview { expected: forecasts.of_row(&it.row), row: it.row })
            .collect(),
        forecasts: came_true.fold(CameTrue::default(), CameTrue::and),
    })
}
