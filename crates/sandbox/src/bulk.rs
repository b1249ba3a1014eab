//! Customers by the thousand, the same ones each time.

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use super::entry::{EDUCATION, Entry, Vetting};
use super::rule::scrambled;
use super::world::CustomerDetails;
use vetwatch_core::time::Timestamp;

/// Documented reasons, each in the casing of the documentation.
pub(crate) const REASONS: &[&str] = &[
    "Not an Education Customer",
    "No longer an Education Customer",
    "Not an Education Customer - After Review",
    "Restricted being an Education Customer",
    "Not an Academic Domain",
    "Not an eligible Library",
    "Not an eligible Museum",
];

const NAMES: &[&str] = &[
    "Contoso",
    "Fabrikam",
    "Northwind",
    "Adatum",
    "Tailspin",
    "Wingtip",
    "Woodgrove",
    "Litware",
    "Proseware",
    "Alpine",
];
const KINDS: &[&str] = &["University", "College", "Academy", "High School", "Library", "Museum", "Institute"];

/// `count` customers: first `in_review` with Education in review since now, then `settled` ones, alternately approved
/// and denied, and the rest without a qualification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bulk {
    pub count: usize,
    #[serde(default)]
    pub in_review: usize,
    #[serde(default)]
    pub settled: usize,
}

impl Bulk {
    pub(super) fn entries(&self, index: usize, now: Timestamp) -> Vec<Entry> {
        let settled = index.wrapping_sub(self.in_review);
        let vetting = if index < self.in_review {
            Vetting::InReview { created_at: now }
        } else if settled >= self.settled {
            return Vec::new();
        } else if settled.is_multiple_of(2) {
            Vetting::Approved { created_at: now }
        } else {
            Vetting::Denied { created_at: now, reason: REASONS[settled / 2 % REASONS.len()].into() }
        };
        vec![Entry { qualification: EDUCATION.into(), vetting }]
    }
}

/// The id of the `n`-th generated customer, from 0. The same in every sandbox.
#[must_use]
pub(crate) fn id(n: u64) -> String {
    let bytes = (u128::from(scrambled(2 * n)) << 64 | u128::from(scrambled(2 * n + 1))).to_be_bytes();
    let id: Uuid = Builder::from_random_bytes(bytes).into_uuid();
    id.to_string()
}

pub(super) fn details(n: u64) -> CustomerDetails {
    let pick = |list: &[&'static str], n: u64| list[usize::try_from(n % list.len() as u64).unwrap_or_default()];
    let (name, kind) = (pick(NAMES, n), pick(KINDS, n / NAMES.len() as u64));
    let domain = format!("{}-{n}.example", name.to_lowercase());
    CustomerDetails::new("", format!("{name} {kind} {n}"), domain)
}
