//! What Partner Center knows: customers, their qualifications, and what will become of them. Pure state; the time
//! is an argument.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bulk::{self, Bulk};
use super::entry::{EDUCATION, Entry, STATE_OWNED, Vetting};
use super::text;
use crate::time::Timestamp;

/// What the customer list says of a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerDetails {
    /// The tenant id as it is spelled in answers. Made up when left out.
    #[serde(default)]
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub domain: String,
    #[serde(default = "reseller")]
    pub relationship: String,
}

fn reseller() -> String {
    "reseller".into()
}

impl CustomerDetails {
    /// A reseller's customer with an id of its own.
    pub fn new(id: impl Into<String>, name: impl Into<String>, domain: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), domain: domain.into(), relationship: reseller() }
    }
}

/// A body that is served instead of a customer's entries, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBody {
    pub content_type: String,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) details: CustomerDetails,
    /// The relationship ended: not listed any more, and 403/20002 when asked about.
    pub(super) ended: bool,
    pub(super) entries: Vec<Entry>,
    pub(super) body: Option<RawBody>,
    /// Which timeline is current; steps of an earlier one are void.
    timeline: u64,
}

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// After the step before (the first one: after the timeline was given).
    After(#[serde(with = "text")] Duration),
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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    #[error("there is no customer {0:?}")]
    Unknown(String),
    #[error("there is already a customer {0:?}")]
    Exists(String),
    #[error("an entry is a JSON object with \"qualification\": {0}")]
    NotAnEntry(String),
}

#[derive(Debug, Default)]
pub struct World {
    /// By id in lower case, which is also the order of the list.
    customers: BTreeMap<String, Customer>,
    /// What will happen, by time and then in the order given.
    agenda: BTreeMap<(Timestamp, u64), (String, u64, Operation)>,
    /// Numbers steps and timelines.
    numbered: u64,
    /// Customers made up so far.
    made_up: u64,
}

impl World {
    /// Lets happen what is due. Each step happens at its own time, however late anybody looks.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(due) = self.agenda.first_entry().filter(|step| step.key().0 <= now) {
            let ((at, _), (id, timeline, operation)) = due.remove_entry();
            if self.customers.get(&id).is_some_and(|customer| customer.timeline == timeline) {
                // Operations of a timeline were checked when it was given; the customer exists.
                let _ = self.apply(&id, operation, at);
            }
        }
    }

    /// Adds a customer and returns the id, made up if there was none.
    pub fn add(&mut self, mut details: CustomerDetails) -> Result<String, WorldError> {
        while details.id.is_empty() {
            let id = bulk::id(self.made_up);
            self.made_up += 1;
            if !self.customers.contains_key(&id) {
                details.id = id;
            }
        }
        let (id, key) = (details.id.clone(), details.id.to_lowercase());
        if self.customers.contains_key(&key) {
            return Err(WorldError::Exists(id));
        }
        let customer = Customer { details, ended: false, entries: Vec::new(), body: None, timeline: 0 };
        self.customers.insert(key, customer);
        Ok(id)
    }

    /// Adds many at once; see [`Bulk`]. Returns their ids in the order in which they were made.
    pub fn add_bulk(&mut self, bulk: Bulk, now: Timestamp) -> Vec<String> {
        let mut ids = Vec::with_capacity(bulk.count);
        for index in 0..bulk.count {
            let details = bulk::details(self.made_up);
            let entries = bulk.entries(index, now);
            let Ok(id) = self.add(CustomerDetails { id: String::new(), ..details }) else { continue };
            if let Some(customer) = self.customers.get_mut(&id) {
                customer.entries = entries;
            }
            ids.push(id);
        }
        ids
    }

    pub fn apply(&mut self, id: &str, operation: Operation, now: Timestamp) -> Result<(), WorldError> {
        check(&operation)?;
        let key = id.to_lowercase();
        let customer = self.customers.get_mut(&key).ok_or_else(|| WorldError::Unknown(id.into()))?;
        match operation {
            Operation::Submit { qualification } => {
                let declared = Entry { qualification: qualification.clone(), vetting: Vetting::Declared };
                let vetting =
                    if declared.is_of(STATE_OWNED) { Vetting::Declared } else { Vetting::InReview { created_at: now } };
                customer.put(Entry { qualification, vetting });
            }
            Operation::Approve { qualification } => {
                let created_at = customer.created_at(&qualification).unwrap_or(now);
                customer.put(Entry { qualification, vetting: Vetting::Approved { created_at } });
            }
            Operation::Deny { qualification, reason } => {
                let created_at = customer.created_at(&qualification).unwrap_or(now);
                customer.put(Entry { qualification, vetting: Vetting::Denied { created_at, reason } });
            }
            Operation::Withdraw { qualification } => customer.entries.retain(|entry| !entry.is_of(&qualification)),
            Operation::Entry { entry } => customer.put(raw(entry)),
            Operation::Entries { entries } => customer.entries = entries.into_iter().map(raw).collect(),
            Operation::Body { body, content_type } => {
                customer.body = Some(RawBody { content_type, bytes: body.into_bytes() });
            }
            Operation::ClearBody => customer.body = None,
            Operation::Rename { name } => customer.details.name = name,
            Operation::EndRelationship => customer.ended = true,
            Operation::RestoreRelationship => customer.ended = false,
            Operation::Remove => {
                self.customers.remove(&key);
            }
        }
        Ok(())
    }

    pub fn set_body(&mut self, id: &str, body: Option<RawBody>) -> Result<(), WorldError> {
        let customer = self.customers.get_mut(&id.to_lowercase()).ok_or_else(|| WorldError::Unknown(id.into()))?;
        customer.body = body;
        Ok(())
    }

    /// Gives a customer a script, in place of what is left of an earlier one.
    pub fn timeline(&mut self, id: &str, steps: Vec<Step>, now: Timestamp) -> Result<(), WorldError> {
        steps.iter().try_for_each(|step| check(&step.operation))?;
        let key = id.to_lowercase();
        let customer = self.customers.get_mut(&key).ok_or_else(|| WorldError::Unknown(id.into()))?;
        self.numbered += 1;
        let timeline = self.numbered;
        customer.timeline = timeline;
        let mut at = now;
        for Step { when, operation } in steps {
            at = match when {
                When::After(wait) => at.after(wait),
                When::At(time) => time,
            };
            self.numbered += 1;
            self.agenda.insert((at, self.numbered), (key.clone(), timeline, operation));
        }
        Ok(())
    }

    /// How many customers are listed or were.
    pub fn len(&self) -> usize {
        self.customers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.customers.is_empty()
    }

    /// Looks up an id, however it is spelled.
    pub(super) fn get(&self, id: &str) -> Option<&Customer> {
        // Most clients send it as it was spelled, and that is usually lower case already.
        self.customers.get(id).or_else(|| self.customers.get(&id.to_lowercase()))
    }

    /// Listed customers in the order of their ids, from the one after `after`.
    pub(super) fn listed(&self, after: Option<&str>) -> impl Iterator<Item = &Customer> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.customers.range::<str, _>((from, Bound::Unbounded)).map(|(_, customer)| customer).filter(|c| !c.ended)
    }
}

impl Customer {
    fn put(&mut self, entry: Entry) {
        match self.entries.iter().position(|known| known.is_of(&entry.qualification)) {
            Some(at) => {
                let name = entry.qualification.clone();
                self.entries[at] = entry;
                let mut index = 0;
                self.entries.retain(|known| {
                    index += 1;
                    index - 1 == at || !known.is_of(&name)
                });
            }
            None => self.entries.push(entry),
        }
    }

    fn created_at(&self, qualification: &str) -> Option<Timestamp> {
        self.entries.iter().find(|entry| entry.is_of(qualification)).and_then(Entry::created_at)
    }
}

fn raw(value: Value) -> Entry {
    let name = value.as_object().and_then(|entry| {
        entry.iter().find(|(name, _)| name.eq_ignore_ascii_case("qualification")).and_then(|(_, name)| name.as_str())
    });
    Entry { qualification: name.unwrap_or_default().to_owned(), vetting: Vetting::Raw(value) }
}

/// A single entry must say which one it replaces; a whole list may hold anything.
fn check(operation: &Operation) -> Result<(), WorldError> {
    match operation {
        Operation::Entry { entry } if raw(entry.clone()).qualification.is_empty() => {
            Err(WorldError::NotAnEntry(entry.to_string()))
        }
        _ => Ok(()),
    }
}
