//! Operations on a customer, immediate or scripted.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::duration_serde;
use super::entry::{EDUCATION, Entry};
use super::world::WorldError;
use vetwatch_core::time::Timestamp;

/// An operation on a customer. In the control API: `{"do": "deny", "reason": "…"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Operation {
    /// Starts a review: `InReview` (`StateOwnedEntity`: declared). Replaces the previous entry.
    Submit {
        #[serde(default = "education")]
        qualification: String,
    },
    /// Approves; the entry keeps the create date of its review.
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
    /// Removes the entry.
    Withdraw {
        #[serde(default = "education")]
        qualification: String,
    },
    /// Sets an entry with only these fields, written as [quirks](super::Quirk) say.
    Set {
        #[serde(default = "education")]
        qualification: String,
        /// Any status; `None`: the entry has no status.
        status: Option<String>,
        reason: Option<String>,
        created: Option<Created>,
        /// `None` replaces the entries of the same qualification.
        beside: Option<Place>,
    },
    /// Sets a verbatim entry, replacing those with the same `qualification`.
    Entry {
        entry: Value,
    },
    /// Sets all entries, verbatim; a qualification may occur more than once.
    Entries {
        entries: Vec<Value>,
    },
    /// Serves a text verbatim instead of the entries.
    Body {
        body: String,
        #[serde(default = "json")]
        content_type: String,
    },
    /// Serves the entries again.
    ClearBody,
    Rename {
        name: String,
    },
    EndRelationship,
    RestoreRelationship,
    /// Removes the customer from the list; polls still succeed.
    Unlist,
    Relist,
    /// Removes the customer: 404.
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

/// Position of an additional entry of the same qualification.
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
    /// After the previous step (the first one: after the timeline was set).
    After(#[serde(with = "duration_serde")] Duration),
    At(Timestamp),
}

/// A step of a timeline.
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
    /// True if it can change the responses to polls.
    pub(super) fn changes_answers(&self) -> bool {
        !matches!(self, Self::Rename { .. } | Self::Unlist | Self::Relist)
    }

    /// A single entry must name its qualification; a list may hold anything.
    pub(super) fn check(&self) -> Result<(), WorldError> {
        match self {
            Self::Entry { entry } if Entry::raw(entry.clone()).qualification.is_empty() => {
                Err(WorldError::NotAnEntry(entry.to_string()))
            }
            _ => Ok(()),
        }
    }
}
