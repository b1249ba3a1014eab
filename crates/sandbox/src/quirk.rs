//! Quirks on demand: answers that are right and yet awkward, or that are in order and yet untrue.
//!
//! A request meets at most one quirk of each kind, beside a fault. Neither a quirk for everybody nor a storm costs
//! anything by the number of customers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_serde;
use super::log::{Kind, Shown};
use super::response_options::{AuditLogOptions, BodyOptions, PaginationOptions, TransportOptions};
use super::rule::{Active, Rule, Rules};
use vetwatch_core::time::Timestamp;

/// In the control API: `{"quirk": "writing", "shape": "wrapper"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "quirk", rename_all = "snake_case")]
pub enum Quirk {
    /// How qualifications are written; of the answer to a submission the shape: `array` and `object` hold the new entry
    /// alone, `wrapper` all of them.
    Writing(BodyOptions),
    /// What is odd about the customer list.
    Listing(PaginationOptions),
    /// How the activity log is written.
    Auditing(AuditLogOptions),
    /// How any answer is sent, a fault's as well.
    Sending(TransportOptions),
    /// A replica that lags behind: what was true so long ago, or as far back as is known.
    Past {
        #[serde(with = "duration_serde")]
        ago: Duration,
    },
    /// As if the customer had no qualification: `200 []`.
    Nothing,
}

impl Quirk {
    fn concerns(&self, kind: Kind) -> bool {
        match self {
            Self::Writing(_) => matches!(kind, Kind::Qualifications | Kind::Submissions),
            Self::Past { .. } | Self::Nothing => kind == Kind::Qualifications,
            Self::Listing(_) => kind == Kind::Customers,
            Self::Auditing(_) => kind == Kind::AuditRecords,
            Self::Sending(_) => true,
        }
    }
}

pub type QuirkRule = Rule<Quirk>;
pub type ActiveQuirk = Active<Quirk>;

/// Which state an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum View {
    #[default]
    Present,
    Past(Duration),
    Nothing,
}

impl View {
    pub(super) fn shown(self) -> Shown {
        match self {
            Self::Present => Shown::Present,
            Self::Past(_) => Shown::Past,
            Self::Nothing => Shown::Nothing,
        }
    }
}

/// All that is odd about one answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    pub(super) writing: BodyOptions,
    pub(super) listing: PaginationOptions,
    pub(super) auditing: AuditLogOptions,
    pub(super) sending: Option<TransportOptions>,
    pub(super) view: View,
}

#[derive(Debug, Default)]
pub(super) struct Quirks(Rules<Quirk>);

impl Quirks {
    pub(super) fn add(&mut self, rule: QuirkRule, now: Timestamp) -> u64 {
        self.0.add(rule, now)
    }

    /// False if there is none of that number.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        self.0.remove(id)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn list(&self, now: Timestamp) -> Vec<ActiveQuirk> {
        self.0.list(now)
    }

    /// The quirks that this request meets; counts them. `None`: nothing is odd.
    pub(super) fn meet(&mut self, kind: Kind, customer: Option<&str>, now: Timestamp) -> Option<Box<Manner>> {
        if self.0.is_empty() {
            return None;
        }
        let mut manner = Manner::default();
        let mut met = false;
        for is_one in [writing, listing, auditing, sending, view] {
            let wanted = |quirk: &Quirk| is_one(quirk) && quirk.concerns(kind);
            let Some((_, quirk)) = self.0.meet(kind, customer, now, wanted) else { continue };
            met = true;
            match quirk {
                Quirk::Writing(writing) => manner.writing = writing,
                Quirk::Listing(listing) => manner.listing = listing,
                Quirk::Auditing(auditing) => manner.auditing = auditing,
                Quirk::Sending(sending) => manner.sending = Some(sending),
                Quirk::Past { ago } => manner.view = View::Past(ago),
                Quirk::Nothing => manner.view = View::Nothing,
            }
        }
        met.then(|| Box::new(manner))
    }
}

fn writing(quirk: &Quirk) -> bool {
    matches!(quirk, Quirk::Writing(_))
}

fn listing(quirk: &Quirk) -> bool {
    matches!(quirk, Quirk::Listing(_))
}

fn auditing(quirk: &Quirk) -> bool {
    matches!(quirk, Quirk::Auditing(_))
}

fn sending(quirk: &Quirk) -> bool {
    matches!(quirk, Quirk::Sending(_))
}

fn view(quirk: &Quirk) -> bool {
    matches!(quirk, Quirk::Past { .. } | Quirk::Nothing)
}
