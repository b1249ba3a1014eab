//! How many requests there were in each hour of the clock: a few numbers for a simulated week.

use std::collections::BTreeMap;

use serde::Serialize;

use super::log::Kind;
use vetwatch_core::time::Timestamp;

const HOUR_MS: i64 = 3_600_000;
/// Hours kept: more than a year of them. The oldest are forgotten first.
const KEPT: usize = 10_000;

/// The requests of one hour of the clock. Hours without any are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// The full hour in UTC.
    pub starts_at: Timestamp,
    /// By when they arrived, refused ones included.
    pub requests: BTreeMap<Kind, u64>,
}

impl Hour {
    /// To the API: all but tokens.
    pub fn calls(&self) -> u64 {
        self.requests.iter().filter(|(kind, _)| **kind != Kind::Token).map(|(_, count)| count).sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Hours(BTreeMap<i64, BTreeMap<Kind, u64>>);

impl Hours {
    pub(super) fn count(&mut self, at: Timestamp, kind: Kind) {
        let hour = at.as_millis().div_euclid(HOUR_MS);
        *self.0.entry(hour).or_default().entry(kind).or_default() += 1;
        if self.0.len() > KEPT {
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
