//! One qualification of a simulated customer, and how the documentation says that it is written.

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::Value;

use crate::qualification::key;
use crate::time::Timestamp;

pub const EDUCATION: &str = "Education";
pub const GOVERNMENT: &str = "GovernmentCommunityCloud";
pub const STATE_OWNED: &str = "StateOwnedEntity";

/// What Partner Center knows of one qualification; how much of it an answer shows is another matter.
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
    /// Written as it is.
    Raw(Value),
}

impl Entry {
    /// Whether this entry is about `qualification`, however spelled.
    pub(super) fn is_of(&self, qualification: &str) -> bool {
        key(&self.qualification) == key(qualification)
    }

    /// When the current review was submitted.
    pub(super) fn created_at(&self) -> Option<Timestamp> {
        match &self.vetting {
            Vetting::InReview { created_at }
            | Vetting::Approved { created_at }
            | Vetting::Denied { created_at, .. } => Some(*created_at),
            Vetting::Declared | Vetting::Raw(_) => None,
        }
    }
}

/// The documented names in the documented order. Two spellings of the create date are documented, each with samples of its own.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Documented<'a> {
    qualification: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vetting_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vetting_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vetting_created_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vetting_create_date: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    Documented(Documented<'a>),
    Raw(&'a Value),
}

/// The entries as the documentation's samples of GET show them: a bare array.
pub(super) fn array(entries: &[Entry]) -> Vec<u8> {
    let written: Vec<_> = entries.iter().map(written).collect();
    serde_json::to_vec(&written).expect("strings and JSON values can always be written")
}

fn written(entry: &Entry) -> Written<'_> {
    let (status, reason) = match &entry.vetting {
        Vetting::Raw(value) => return Written::Raw(value),
        Vetting::InReview { .. } => (Some("InReview"), None),
        Vetting::Approved { .. } => (Some("Approved"), None),
        Vetting::Denied { reason, .. } => (Some("Denied"), Some(reason.as_str())),
        Vetting::Declared => (None, None),
    };
    let government = entry.is_of(GOVERNMENT);
    // The sample of an approved Education has no date at all.
    let shown = entry.created_at().filter(|_| government || !matches!(entry.vetting, Vetting::Approved { .. }));
    let (created, create) = match shown {
        // Seven digits and a numeric offset, as the sample of GovernmentCommunityCloud has it.
        Some(at) if government => (None, Some(at.to_utc().format("%Y-%m-%dT%H:%M:%S%.3f2021+00:00").to_string())),
        Some(at) => (Some(at.to_utc().to_rfc3339_opts(SecondsFormat::Millis, true)), None),
        None => (None, None),
    };
    Written::Documented(Documented {
        qualification: &entry.qualification,
        vetting_status: status,
        vetting_reason: reason,
        vetting_created_date: created,
        vetting_create_date: create,
    })
}
