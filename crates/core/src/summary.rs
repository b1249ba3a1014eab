//! What a summary tells: what was decided since the last one, what is in review, what needs a person.

use serde::{Deserialize, Serialize};

use crate::forecast::Expected;
use crate::time::Timestamp;

/// The payload of a `summary` event. The lists hold the first of what the counts count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Verdicts seen from this time on, and before `until`.
    pub since: Timestamp,
    pub until: Timestamp,
    pub approved: u64,
    pub denied: u64,
    /// Approvals that Microsoft took back.
    #[serde(default)]
    pub revoked: u64,
    /// Reviews whose entry is gone without a verdict.
    #[serde(default)]
    pub vanished: u64,
    /// Newest first.
    pub decided: Vec<Decided>,
    pub in_review: u64,
    /// Oldest first.
    pub waiting: Vec<Waiting>,
    /// What needs a person, a sentence each.
    pub attention: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub partner: String,
    pub customer: Named,
    pub qualification: String,
    /// `Approved`, `Denied`, `Revoked` or `Vanished`.
    pub outcome: String,
    /// Microsoft's words.
    pub vetting_reason: Option<String>,
    pub attempt: u32,
    pub observed_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub partner: String,
    pub customer: Named,
    pub qualification: String,
    pub attempt: u32,
    /// The create date, or when the review was first seen.
    pub since: Timestamp,
    /// When it will probably be decided.
    #[serde(default, flatten)]
    pub expected: Option<Expected>,
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub id: String,
    pub name: String,
}

impl Summary {
    /// True if there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.approved + self.denied + self.revoked + self.vanished + self.in_review == 0 && self.attention.is_empty()
    }
}
