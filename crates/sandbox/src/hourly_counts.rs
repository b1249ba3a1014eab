//! Request counts by clock hour: a few numbers for a simulated week.

use std::collections::BTreeMap;

use serde::Serialize;

use super::log::Kind;
use vetwatch_core::time::Timestamp;

const HOUR_MS: i64 = 3_600_000;
/// More than a year. The oldest hours are dropped first.
const MAX_HOURS: usize = 10_000;

/// The requests of one clock hour. Hours without requests are omitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// Start of the hour, in UTC.
    pub starts_at: Timestamp,
    /// By time of arrival, including rejected ones.
    pub requests: BTreeMap<Kind, u64>,
}

impl Hour {
    /// Requests to the API: all but those for tokens.
    pub fn calls(&self) -> u64 {
        self.requests
            .iter()
            .filter(|(kind, _)| !matches!(kind, Kind::Token | Kind::SignIn))
            .map(|(_, count)| count)
            .sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Hours(BTreeMap<i64, BTreeMap<Kind, u64>>);

impl Hours {
    pub(super) fn count(&mut self, at: Timestamp, kind: Kind) {
        let hour = at.as_millis().div_euclid(HOUR_MS);
        *self.0.entry(hour).or_default().entry(kind).or_default() += 1;
        if self.0.len() > MAX_HOURS {
            self.0.pop_first();
        }
    }

    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = Hour> {
        let hour = |(hour, requests): (&i64, &BTreeMap<Kind, u64>)| Hour {
            starts_at: Timestamp::from_millis(hour * HOUR_MS),
            requests: requests.clone(),
        };
        self.0.iter().map(hour)
    }
}
