//! What Partner Center knows: customers, their qualifications, and what will become of them. Pure state; the time
//! is an argument.

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

/// What the answers to questions about a customer are made of.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The relationship ended: not listed any more, and 403/20002 when asked about.
    pub(super) ended: bool,
    pub(super) entries: Vec<Entry>,
    pub(super) body: Option<RawBody>,
}

#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) details: CustomerDetails,
    pub(super) state: State,
    /// Not in the customer list, though answered for.
    pub(super) unlisted: bool,
    /// Which timeline is current; steps of an earlier one are void.
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
pub struct World {
    /// By id in lower case, which is also the order of the list.
    customers: BTreeMap<String, Customer>,
    /// What will happen, by time and then in the order given.
    agenda: BTreeMap<(Timestamp, u64), (String, u64, Operation)>,
    /// What was true before; only of customers to whom something happened.
    history: History,
    /// What users and applications of the partner did.
    pub(super) audit: Audit,
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
    pub fn add(&mut self, details: CustomerDetails, now: Timestamp) -> Result<String, WorldError> {
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

    /// Adds many at once, as if they had been there for long; see [`Bulk`]. Returns their ids in the order in which they were made.
    pub fn add_bulk(&mut self, bulk: Bulk, now: Timestamp) -> Vec<String> {
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

    pub fn apply(&mut self, id: &str, operation: Operation, now: Timestamp) -> Result<(), WorldError> {
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

    pub fn set_body(&mut self, id: &str, body: Option<RawBody>, now: Timestamp) -> Result<(), WorldError> {
        let key = id.to_lowercase();
        let customer = self.customers.get_mut(&key).ok_or_else(|| WorldError::Unknown(id.into()))?;
        self.history.remember(&key, &customer.state, now);
        customer.state.body = body;
        Ok(())
    }

    /// Gives a customer a script, in place of what is left of an earlier one.
    pub fn timeline(&mut self, id: &str, steps: Vec<Step>, now: Timestamp) -> Result<(), WorldError> {
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

    /// What was true of a customer at that time: the oldest that is known, if it lies further back.
    pub(super) fn state_at<'a>(&'a self, customer: &'a Customer, at: Timestamp) -> &'a State {
        self.history.at(&customer.details.id, at).unwrap_or(&customer.state)
    }

    /// Listed customers in the order of their ids, from the one after `after`.
    pub(super) fn listed(&self, after: Option<&str>) -> impl Iterator<Item = &Customer> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.customers.range::<str, _>((from, Bound::Unbounded)).map(|(_, customer)| customer).filter(|c| c.is_listed())
    }

    /// Listed customers backwards from this one.
    pub(super) fn listed_down_from(&self, last: &str) -> impl Iterator<Item = &Customer> {
        let down = self.customers.range::<str, _>((Bound::Unbounded, Bound::Included(last))).rev();
        down.map(|(_, customer)| customer).filter(|c| c.is_listed())
    }
}

impl Customer {
    fn is_listed(&self) -> bool {
        !self.state.ended && !self.unlisted
    }

    fn put(&mut self, entry: Entry) {
        match self.state.entries.iter().position(|known| known.is_of(&entry.qualification)) {
            Some(at) => {
                let name = entry.qualification.clone();
                self.state.entries[at] = entry;
                let mut index = 0;
                self.state.entries.retain(|known| {
                    index += 1;
                    index - 1 == at || !known.is_of(&name)
                });
            }
            None => self.state.entries.push(entry),
        }
    }

    fn created_at(&self, qualification: &str) -> Option<Timestamp> {
        self.state.entries.iter().find(|entry| entry.is_of(qualification)).and_then(Entry::created_at)
    }
}
