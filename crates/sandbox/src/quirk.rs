//! Injected quirks: responses that are correct but unusual, or well-formed but wrong.
//!
//! At most one quirk of each kind applies to a request, in addition to a fault. Their cost does not depend on the
//! number of customers.

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

/// What a quirk changes; at most one quirk of each applies to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aspect {
    Body,
    Pagination,
    AuditLog,
    Transport,
    View,
}

impl Quirk {
    fn aspect(&self) -> Aspect {
        match self {
            Self::Writing(_) => Aspect::Body,
            Self::Listing(_) => Aspect::Pagination,
            Self::Auditing(_) => Aspect::AuditLog,
            Self::Sending(_) => Aspect::Transport,
            Self::Past { .. } | Self::Nothing => Aspect::View,
        }
    }

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

/// Which state a response shows.
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

/// The quirks of one response.
#[derive(Debug, Clone, Default)]
pub(super) struct AppliedQuirks {
    pub(super) body: BodyOptions,
    pub(super) pagination: PaginationOptions,
    pub(super) audit_log: AuditLogOptions,
    pub(super) transport: Option<TransportOptions>,
    pub(super) view: View,
}

#[derive(Debug, Default)]
pub(super) struct Quirks(Rules<Quirk>);

impl Quirks {
    pub(super) fn add(&mut self, rule: QuirkRule, now: Timestamp) -> u64 {
        self.0.add(rule, now)
    }

    /// False if there is no quirk with this number.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        self.0.remove(id)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn list(&self, now: Timestamp) -> Vec<ActiveQuirk> {
        self.0.list(now)
    }

    /// The quirks that apply to this request; counts them. `None` if there are none.
    pub(super) fn first_match(
        &mut self,
        kind: Kind,
        customer: Option<&str>,
        now: Timestamp,
    ) -> Option<Box<AppliedQuirks>> {
        if self.0.is_empty() {
            return None;
        }
        let mut quirks = AppliedQuirks::default();
        let mut met = false;
        for aspect in [Aspect::Body, Aspect::Pagination, Aspect::AuditLog, Aspect::Transport, Aspect::View] {
            let wanted = |quirk: &Quirk| quirk.aspect() == aspect && quirk.concerns(kind);
            let Some((_, quirk)) = self.0.first_match(kind, customer, now, wanted) else { continue };
            met = true;
            match quirk {
                Quirk::Writing(writing) => quirks.body = writing,
                Quirk::Listing(listing) => quirks.pagination = listing,
                Quirk::Auditing(auditing) => quirks.audit_log = auditing,
                Quirk::Sending(sending) => quirks.transport = Some(sending),
                Quirk::Past { ago } => quirks.view = View::Past(ago),
                Quirk::Nothing => quirks.view = View::Nothing,
            }
        }
        met.then(|| Box::new(quirks))
    }
}
