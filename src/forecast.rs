//! When the open reviews will probably be decided: [`vetwatch_core::forecast`], from the database.

use std::collections::BTreeMap;

use chrono::DateTime;
use vetwatch_core::forecast::{Durations, Expected, FINISHED_MAX, expected};

use crate::calendar::Calendar;
use crate::qualification;
use crate::store::reports::CurrentRow;
use crate::store::{self, Store};
use crate::time::Timestamp;

/// Open reviews that are read: of so many a part says as much as all.
const OPEN_MAX: u32 = 5000;

/// Forecasts of every qualification that is in review.
#[derive(Debug)]
pub struct Forecasts {
    by_qualification: BTreeMap<String, Durations>,
    pub calendar: Calendar,
    pub now: Timestamp,
}

impl Forecasts {
    /// Reads what they are made from.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read(store: &Store, calendar: &Calendar, now: Timestamp) -> Result<Self, store::Error> {
        let mut open: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        for review in store.open_since(OPEN_MAX).await? {
            open.entry(review.qualification_key).or_default().push(review.since);
        }
        let mut by_qualification = BTreeMap::new();
        for (key, open) in open {
            let limit = u32::try_from(FINISHED_MAX).unwrap_or(u32::MAX);
            let finished = store.finished_reviews(&key, limit).await?;
            // Those that were submitted before the ones that count say nothing of today's pace.
            let window =
                (finished.len() == FINISHED_MAX).then(|| finished.iter().map(|it| it.submitted_at).min()).flatten();
            let open: Vec<_> = open.into_iter().filter(|since| window.is_none_or(|window| *since >= window)).collect();
            let submitted = finished.iter().map(|it| it.submitted_at).chain(open.iter().copied());
            let clock = calendar.working_clock(submitted.min().unwrap_or(now), now);
            let finished = finished.iter().map(|it| clock.between(it.submitted_at, it.observed_at)).collect();
            let open = open.iter().map(|since| clock.between(*since, now)).collect();
            by_qualification.insert(key, Durations::new(finished, open));
        }
        Ok(Self { by_qualification, calendar: calendar.clone(), now })
    }

    /// What is expected of a qualification; `None` if it is not in review.
    #[must_use]
    pub fn of_row(&self, row: &CurrentRow) -> Option<Expected> {
        let is_open = row.vetting_status.as_deref().is_some_and(|status| qualification::key(status) == "inreview");
        let since = row.vetting_created_at.as_deref().unwrap_or(&row.status_since);
        let since = DateTime::parse_from_rfc3339(since).ok().filter(|_| is_open)?;
        Some(self.of(&row.qualification, since.to_utc().into()))
    }

    /// What is expected of a review of this qualification that was submitted at `since`.
    #[must_use]
    pub fn of(&self, qualification: &str, since: Timestamp) -> Expected {
        let durations = self.by_qualification.get(&qualification::key(qualification));
        expected(durations.unwrap_or(&Durations::default()), &self.calendar, since, self.now)
    }
}
