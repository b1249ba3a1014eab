//! Partner Center's state: customers, their qualifications and timelines. Pure; the time is an argument.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::audit::Audit;
use super::bulk::{self, Bulk};
use super::entry::{Entry, STATE_OWNED, Vetting};
use super::history::History;
use super::operation::{Created, Operation, Place, Step, When};
use vetwatch_core::time::Timestamp;

/// A customer as the customer list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerDetails {
    /// The tenant id, as spelled in responses. Generated if empty.
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
    /// A customer with this id, whose relationship is `reseller`.
    pub fn new(id: impl Into<String>, name: impl Into<String>, domain: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), domain: domain.into(), relationship: reseller() }
    }
}

/// A body that is served verbatim instead of a customer's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawBody {
    pub(super) content_type: String,
    pub(super) bytes: Vec<u8>,
}

/// The state that responses about a customer are built from.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The relationship has ended: not listed, and polls get 403/20002.
    pub(super) ended: bool,
    pub(super) entries: Vec<Entry>,
    pub(super) body: Option<RawBody>,
}

#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) details: CustomerDetails,
    pub(super) state: State,
    /// Missing from the customer list; polls still succeed.
    pub(super) unlisted: bool,
    /// Number of the current timeline; steps of earlier ones are void.
    timeline: u64,
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
pub(super) struct World {
    /// Keyed by the id in lower case, which is also the order of the list.
    customers: BTreeMap<String, Customer>,
    /// Future steps, by time and then in the order given.
    agenda: BTreeMap<(Timestamp, u64), (String, u64, Operation)>,
    /// Past states, only for customers that have changed.
    history: History,
    /// Operations of the partner's users and applications.
    pub(super) audit: Audit,
    /// Numbers steps and timelines.
    numbered: u64,
    /// Number of customers generated so far.
    made_up: u64,
}

impl World {
    /// Applies the steps that are due, each at its own time, however late this is called.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some(due) = self.agenda.first_entry().filter(|step| step.key().0 <= now) {
            let ((at, _), (id, timeline, operation)) = due.remove_entry();
            if self.customers.get(&id).is_some_and(|customer| customer.timeline == timeline) {
                // A timeline's operations were checked when it was set; the customer exists.
                let _ = self.apply(&id, operation, at);
            }
        }
    }

    /// Adds a customer and returns the id, generated if empty.
    pub(super) fn add(&mut self, details: CustomerDetails, now: Timestamp) -> Result<String, WorldError> {
        let name = details.name.clone();
        let id = self.put(details)?;
        self.audit.note(now, "add_customer", &id, &name, &json!({"Id": id}));
        Ok(id)
    }

    fn put(&mut self, mut details: CustomerDetails) -> Result<String, WorldError> {
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
        self.history.forget(&key);
        self.customers.insert(key, Customer { details, state: State::default(), unlisted: false, timeline: 0 });
        Ok(id)
    }

    /// Adds many at once, without activity log records; see [`Bulk`]. Returns their ids in order of creation.
    pub(super) fn add_bulk(&mut self, bulk: Bulk, now: Timestamp) -> Vec<String> {
        let mut ids = Vec::with_capacity(bulk.count);
        for index in 0..bulk.count {
            let details = bulk::details(self.made_up);
            let entries = bulk.entries(index, now);
            let Ok(id) = self.put(CustomerDetails { id: String::new(), ..details }) else { continue };
            if let Some(customer) = self.customers.get_mut(&id) {
                customer.state.entries = entries;
            }
            ids.push(id);
        }
        ids
    }

    pub(super) fn apply(&mut self, id: &str, operation: Operation, now: Timestamp) -> Result<(), WorldError> {
        operation.check()?;
        let key = id.to_lowercase();
        let customer = self.customers.get_mut(&key).ok_or_else(|| WorldError::Unknown(id.into()))?;
        if operation.changes_answers() {
            self.history.remember(&key, &customer.state, now);
        }
        let name = customer.details.name.clone();
        match operation {
            Operation::Submit { qualification } => {
                let value = json!({"Qualification": &qualification});
                self.audit.note(now, "update_customer_qualification", id, &name, &value);
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
            Operation::Withdraw { qualification } => {
                customer.state.entries.retain(|entry| !entry.is_of(&qualification));
            }
            Operation::Set { qualification, status, reason, created, beside } => {
                let created_at = created.map(|created| match created {
                    Created::Ago(ago) => now.before(ago),
                    Created::At(time) => time,
                });
                let entry = Entry { qualification, vetting: Vetting::Stated { status, reason, created_at } };
                match beside {
                    None => customer.put(entry),
                    Some(Place::First) => customer.state.entries.insert(0, entry),
                    Some(Place::Last) => customer.state.entries.push(entry),
                }
            }
            Operation::Entry { entry } => customer.put(Entry::raw(entry)),
            Operation::Entries { entries } => customer.state.entries = entries.into_iter().map(Entry::raw).collect(),
            Operation::Body { body, content_type } => {
                customer.state.body = Some(RawBody { content_type, bytes: body.into_bytes() });
            }
            Operation::ClearBody => customer.state.body = None,
            Operation::Rename { name } => customer.details.name = name,
            Operation::EndRelationship => {
                self.audit.note(now, "remove_partner_customer_relationship", id, &name, &json!({"Id": id}));
                customer.state.ended = true;
            }
            Operation::RestoreRelationship => customer.state.ended = false,
            Operation::Unlist => customer.unlisted = true,
            Operation::Relist => customer.unlisted = false,
            Operation::Remove => {
                self.customers.remove(&key);
                self.history.forget(&key);
            }
        }
        Ok(())
    }

    pub(super) fn set_body(&mut self, id: &str, body: Option<RawBody>, now: Timestamp) -> Result<(), WorldError> {
        let key = id.to_lowercase();
        let customer = self.customers.get_mut(&key).ok_or_else(|| WorldError::Unknown(id.into()))?;
        self.history.remember(&key, &customer.state, now);
        customer.state.body = body;
        Ok(())
    }

    /// Sets a customer's timeline, replacing the rest of an earlier one.
    pub(super) fn timeline(&mut self, id: &str, steps: Vec<Step>, now: Timestamp) -> Result<(), WorldError> {
        steps.iter().try_for_each(|step| step.operation.check())?;
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

    /// Number of customers, including unlisted ones.
    pub(super) fn len(&self) -> usize {
        self.customers.len()
    }

    /// Looks up an id in any spelling.
    pub(super) fn get(&self, id: &str) -> Option<&Customer> {
        // Fast path: ids are usually sent in lower case.
        self.customers.get(id).or_else(|| self.customers.get(&id.to_lowercase()))
    }

    /// A customer's state at that time, or the oldest known.
    pub(super) fn state_at<'a>(&'a self, customer: &'a Customer, at: Timestamp) -> &'a State {
        self.history.at(&customer.details.id, at).unwrap_or(&customer.state)
    }

    /// Listed customers ordered by id, starting after `after`.
    pub(super) fn listed(&self, after: Option<&str>) -> impl Iterator<Item = &Customer> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.customers.range::<str, _>((from, Bound::Unbounded)).map(|(_, customer)| customer).filter(|c| c.is_listed())
    }

    /// Listed customers in reverse order, from this one.
    pub(super) fn listed_down_from(&self, last: &str) -> impl Iterator<Item = &Customer> {
        let down = self.customers.range::<str, _>((Bound::Unbounded, Bound::Included(last))).rev();
        down.map(|(_, customer)| customer).filter(|c| c.is_listed())
    }
}

impl Customer {
    fn is_listed(&self) -> bool {
        !self.state.ended && !self.unlisted
    }

    /// Replaces the entries of its qualification, in the place of the first one.
    fn put(&mut self, entry: Entry) {
        let entries = &mut self.state.entries;
        let at = entries.iter().position(|known| known.is_of(&entry.qualification)).unwrap_or(entries.len());
        entries.retain(|known| !known.is_of(&entry.qualification));
        entries.insert(at, entry);
    }

    fn created_at(&self, qualification: &str) -> Option<Timestamp> {
        self.state.entries.iter().find(|entry| entry.is_of(qualification)).and_then(Entry::created_at)
    }
}
