//! Qualifications and vetting statuses. Compared as Microsoft's services compare them, kept as spelled.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Normalises a name for comparison: without case and underscores (both `government_community_cloud` and
/// `GovernmentCommunityCloud` were seen).
#[must_use]
pub fn key(name: &str) -> String {
    name.trim().chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

/// Normalises a reason for comparison, as Microsoft writes it in several casings. `None` if empty.
#[must_use]
pub fn reason_key(reason: &str) -> Option<String> {
    Some(reason.trim().to_lowercase()).filter(|reason| !reason.is_empty())
}

/// A `vettingStatus`. An open set: the documentation ends its list with "etc.".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The entry has no status (`StateOwnedEntity` never has one).
    None,
    InReview,
    Verdict(Verdict),
    /// Not documented. Kept and shown, and never taken for a verdict.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Approved,
    Denied,
}

impl Verdict {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "Approved",
            Self::Denied => "Denied",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match key(word).as_str() {
            "approved" => Some(Self::Approved),
            "denied" => Some(Self::Denied),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One entry of a customer's qualifications, as Partner Center spelled it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub qualification: String,
    pub vetting_status: Option<String>,
    pub vetting_reason: Option<String>,
    /// The create date; `None` if missing or unreadable.
    pub created_at: Option<Timestamp>,
}

impl Entry {
    #[must_use]
    pub fn key(&self) -> String {
        key(&self.qualification)
    }

    #[must_use]
    pub fn status(&self) -> Status {
        let Some(word) = &self.vetting_status else { return Status::None };
        match (Verdict::parse(word), key(word).as_str()) {
            (Some(verdict), _) => Status::Verdict(verdict),
            (None, "inreview") => Status::InReview,
            (None, _) => Status::Unknown,
        }
    }

    #[must_use]
    pub fn status_key(&self) -> Option<String> {
        self.vetting_status.as_deref().map(key)
    }

    #[must_use]
    pub fn reason_key(&self) -> Option<String> {
        self.vetting_reason.as_deref().and_then(reason_key)
    }
}

/// A customer's response, normalised: at most one entry per qualification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot(Vec<Entry>);

impl Snapshot {
    /// Keeps the entry with the newest create date of each qualification; an unknown date is the oldest, and the last of equal
    /// ones wins. Skips `"None"`.
    #[must_use]
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut current: Vec<Entry> = Vec::new();
        for entry in entries {
            let name = entry.key();
            if name == "none" {
                continue;
            }
            match current.iter_mut().find(|known| known.key() == name) {
                Some(known) if known.created_at.map(Timestamp::as_secs) > entry.created_at.map(Timestamp::as_secs) => {}
                Some(known) => *known = entry,
                None => current.push(entry),
            }
        }
        current.sort_by_key(Entry::key);
        Self(current)
    }

    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    #[must_use]
    pub fn get(&self, qualification_key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key() == qualification_key)
    }

    /// A text that is equal for equivalent responses, whatever their spelling or order.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let rows: Vec<_> = self
            .0
            .iter()
            .map(|e| {
                (e.key(), e.vetting_status.as_deref().map(key), e.reason_key(), e.created_at.map(Timestamp::as_secs))
            })
            .collect();
        serde_json::json!(rows).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(qualification: &str, status: &str, created_s: Option<i64>) -> Entry {
        Entry {
            qualification: qualification.into(),
            vetting_status: Some(status.into()),
            vetting_reason: None,
            created_at: created_s.map(|s| Timestamp::from_millis(s * 1000)),
        }
    }

    #[test]
    fn of_several_entries_the_newest_is_current_and_of_a_tie_the_last() {
        let snapshot = Snapshot::of([
            entry("Education", "Denied", Some(20)),
            entry("education", "Approved", Some(10)),
            entry("Education", "InReview", None),
            entry("state_owned_entity", "A", Some(5)),
            entry("StateOwnedEntity", "B", Some(5)),
            entry("None", "Approved", Some(99)),
        ]);
        let seen: Vec<_> = snapshot.entries().iter().map(|e| e.vetting_status.clone().unwrap_or_default()).collect();
        assert_eq!(seen, ["Denied", "B"]);
    }

    #[test]
    fn spelling_and_order_do_not_change_the_fingerprint() {
        let a = Snapshot::of([entry("Education", "InReview", Some(1)), entry("StateOwnedEntity", "x", None)]);
        let b = Snapshot::of([entry("state_owned_entity", "X", None), entry("EDUCATION", "inreview", Some(1))]);
        assert_eq!(a.fingerprint(), b.fingerprint());
    }
}
