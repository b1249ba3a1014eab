//! One qualification of a simulated customer, written as [`response_options`](super::response_options) says, or
//! verbatim.

use serde_json::Value;

use vetwatch_core::qualification::key;
use vetwatch_core::time::Timestamp;

pub const EDUCATION: &str = "Education";
pub const GOVERNMENT: &str = "GovernmentCommunityCloud";
pub const STATE_OWNED: &str = "StateOwnedEntity";

/// What Partner Center knows about one qualification. Responses may show less.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub qualification: String,
    pub vetting: Vetting,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Vetting {
    InReview {
        created_at: Timestamp,
    },
    Approved {
        created_at: Timestamp,
    },
    Denied {
        created_at: Timestamp,
        reason: String,
    },
    /// A self-declaration: `StateOwnedEntity` is never vetted.
    Declared,
    /// Any status and date, or none.
    Stated {
        status: Option<String>,
        reason: Option<String>,
        created_at: Option<Timestamp>,
    },
    /// Written verbatim.
    Raw(Value),
}

impl Entry {
    /// The qualification `None`, which some responses use for "no entry".
    pub(super) fn none() -> Self {
        Self { qualification: "None".into(), vetting: Vetting::Declared }
    }

    /// An entry that is written verbatim.
    pub(super) fn raw(value: Value) -> Self {
        let fields = value.as_object().into_iter().flatten();
        let mut names = fields.filter(|(name, _)| name.eq_ignore_ascii_case("qualification"));
        let name = names.next().and_then(|(_, name)| name.as_str()).unwrap_or_default();
        Self { qualification: name.to_owned(), vetting: Vetting::Raw(value) }
    }

    /// True if this entry is about `qualification`, in any spelling.
    pub(super) fn is_of(&self, qualification: &str) -> bool {
        key(&self.qualification) == key(qualification)
    }

    /// When the current review was submitted.
    pub(super) fn created_at(&self) -> Option<Timestamp> {
        match &self.vetting {
            Vetting::InReview { created_at }
            | Vetting::Approved { created_at }
            | Vetting::Denied { created_at, .. } => Some(*created_at),
            Vetting::Stated { created_at, .. } => *created_at,
            Vetting::Declared | Vetting::Raw(_) => None,
        }
    }
}
