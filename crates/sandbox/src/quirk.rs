//! Injected quirks: responses that are correct but unusual, or well-formed but wrong.
//!
//! At most one quirk of each kind applies to a request, in addition to a fault. Their cost does not depend on the
//! number of customers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_serde;
use super::log::{Kind, Shown};
use super::response_options::{AuditLogOptions, BodyOptions, PaginationOptions, TransportOptions};
use super::rule::{Rule, Rules};
use vetwatch_core::time::Timestamp;

/// In the control API: `{"quirk": "writing", "shape": "wrapper"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "quirk", rename_all = "snake_case")]
pub enum Quirk {
    /// How qualifications are written. For submissions, only the shape applies: `array` and `object` hold the new
    /// entry, `wrapper` all entries.
    Writing(BodyOptions),
    /// How the customer list is paged, and what is wrong with it.
    Listing(PaginationOptions),
    /// How the activity log is written.
    Auditing(AuditLogOptions),
    /// How every response is sent, faults included.
    Sending(TransportOptions),
    /// A lagging replica: the state this long ago, or the oldest known.
    Past {
        #[serde(with = "duration_serde")]
        ago: Duration,
    },
    /// No qualifications: `200 []`.
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

/// The quirks of one response.
#[derive(Debug, Clone, Default)]
pub(super) struct AppliedQuirks {
    pub(super) body: BodyOptions,
    pub(super) pagination: PaginationOptions,
    pub(super) audit_log: AuditLogOptions,
    pub(super) transport: Option<TransportOptions>,
    pub(super) shown: Shown,
    /// The age of a state that is [`Shown::Past`].
    pub(super) ago: Duration,
}

impl Rules<Quirk> {
    /// The quirks that apply to this request; counts them. `None` if there are none.
    pub(super) fn applied(&mut self, kind: Kind, customer: Option<&str>, now: Timestamp) -> Option<Box<AppliedQuirks>> {
        if self.is_empty() {
            return None;
        }
        let mut quirks = AppliedQuirks::default();
        let mut met = false;
        // One of each; a request concerns at most one of the first three.
        let aspects: [fn(&Quirk) -> bool; 3] = [
            |quirk| matches!(quirk, Quirk::Writing(_) | Quirk::Listing(_) | Quirk::Auditing(_)),
            |quirk| matches!(quirk, Quirk::Sending(_)),
            |quirk| matches!(quirk, Quirk::Past { .. } | Quirk::Nothing),
        ];
        for is_wanted in aspects {
            let wanted = |quirk: &Quirk| is_wanted(quirk) && quirk.concerns(kind);
            let Some((_, quirk)) = self.first_match(kind, customer, now, wanted) else { continue };
            met = true;
            match quirk {
                Quirk::Writing(writing) => quirks.body = writing,
                Quirk::Listing(listing) => quirks.pagination = listing,
                Quirk::Auditing(auditing) => quirks.audit_log = auditing,
                Quirk::Sending(sending) => quirks.transport = Some(sending),
                Quirk::Past { ago } => (quirks.shown, quirks.ago) = (Shown::Past, ago),
                Quirk::Nothing => quirks.shown = Shown::Nothing,
            }
        }
        met.then(|| Box::new(quirks))
    }
}
