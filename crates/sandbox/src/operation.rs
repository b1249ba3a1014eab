//! What can happen to a customer, now or by a script.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::duration_serde;
use super::entry::{EDUCATION, Entry};
use super::world::WorldError;
use vetwatch_core::time::Timestamp;

/// Something that happens to a customer. In the control API: `{"do": "deny", "reason": "…"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Operation {
    /// A review begins now: `InReview` (`StateOwnedEntity`: declared). Replaces the entry of before.
    Submit {
        #[serde(default = "education")]
        qualification: String,
    },
    /// The entry keeps the create date of its review.
    Approve {
        #[serde(default = "education")]
        qualification: String,
    },
    Deny {
        #[serde(default = "education")]
        qualification: String,
        #[serde(default = "not_education")]
        reason: String,
    },
    /// The entry is absent from now on.
    Withdraw {
        #[serde(default = "education")]
        qualification: String,
    },
    /// An entry of which only that is known which is given here; written as [quirks](super::quirk) say.
    Set {
        #[serde(default = "education")]
        qualification: String,
        /// Any word. `None`: the entry has no status.
        #[serde(default)]
        status: Option<String>,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        created: Option<Created>,
        /// `None`: in place of the entries of the same qualification.
        #[serde(default)]
        beside: Option<Place>,
    },
    /// One entry in any words; replaces the entries of the same `qualification`.
    Entry {
        entry: Value,
    },
    /// All entries in any words, several of one qualification if so wished.
    Entries {
        entries: Vec<Value>,
    },
    /// A text that is served instead of the entries, as it is.
    Body {
        body: String,
        #[serde(default = "json")]
        content_type: String,
    },
    /// Back to the entries.
    ClearBody,
    Rename {
        name: String,
    },
    EndRelationship,
    RestoreRelationship,
    /// The customer list does not have it any more, and its qualifications are answered as ever.
    Unlist,
    Relist,
    /// The customer is unknown from now on: 404.
    Remove,
}

fn education() -> String {
    EDUCATION.into()
}

fn not_education() -> String {
    "Not an Education Customer".into()
}

fn json() -> String {
    "application/json; charset=utf-8".into()
}

impl Operation {
    pub fn submit() -> Self {
        Self::Submit { qualification: education() }
    }

    pub fn approve() -> Self {
        Self::Approve { qualification: education() }
    }

    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny { qualification: education(), reason: reason.into() }
    }

    pub fn withdraw() -> Self {
        Self::Withdraw { qualification: education() }
    }
}

/// The create date of an entry. In the control API: `{"ago": "2h"}`, `{"at": "2026-11-21T09:14:03Z"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Created {
    /// Before the operation happens.
    Ago(#[serde(with = "duration_serde")] Duration),
    At(Timestamp),
}

/// Where one more entry of the same qualification goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// After the step before (the first one: after the timeline was given).
    After(#[serde(with = "duration_serde")] Duration),
    At(Timestamp),
}

/// A line of a customer's script.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub when: When,
    pub operation: Operation,
}

impl Step {
    pub fn after(wait: Duration, operation: Operation) -> Self {
        Self { when: When::After(wait), operation }
    }

    pub fn at(time: Timestamp, operation: Operation) -> Self {
        Self { when: When::At(time), operation }
    }
}

impl Operation {
    /// Whether the answers to questions about the customer can change by it.
    pub(super) fn changes_answers(&self) -> bool {
        !matches!(self, Self::Rename { .. } | Self::Unlist | Self::Relist)
    }

    /// A single entry must say which one it replaces; a whole list may hold anything.
    pub(super) fn check(&self) -> Result<(), WorldError> {
        match self {
            Self::Entry { entry } if Entry::raw(entry.clone()).qualification.is_empty() => {
                Err(WorldError::NotAnEntry(entry.to_string()))
            }
            _ => Ok(()),
        }
    }
}
