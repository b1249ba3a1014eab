//! Methods that control a sandbox in the same process.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::body;
use super::bulk::Bulk;
use super::engine::Engine;
use super::entra::{Decision, Device, SignIns};
use super::entry::EDUCATION;
use super::fault::FaultRule;
use super::hourly_counts::Hour;
use super::log::{Counts, Kind, Record, RequestLog, Violation};
use super::operation::{Operation, Step};
use super::quirk::QuirkRule;
use super::response_options::BodyOptions;
use super::throttle::{Throttle, ThrottleSettings};
use super::world::{Customer, CustomerDetails, WorldError};
use super::{Error, Sandbox};
use vetwatch_core::time::Timestamp;

/// A customer as the control API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CustomerView {
    #[serde(flatten)]
    pub details: CustomerDetails,
    /// The relationship has ended.
    pub ended: bool,
    /// Missing from the customer list.
    pub unlisted: bool,
    /// The entries of a response, unless a raw body is served.
    pub entries: Value,
    pub raw_body: bool,
}

impl CustomerView {
    pub(super) fn of(customer: &Customer) -> Self {
        Self {
            details: customer.details.clone(),
            ended: customer.state.ended,
            unlisted: customer.unlisted,
            entries: serde_json::from_slice(&body::body(&customer.state.entries, &BodyOptions::default()))
                .unwrap_or_default(),
            raw_body: customer.state.body.is_some(),
        }
    }
}

/// Customers and operations on them.
impl Sandbox {
    /// Adds a customer without a qualification; returns the id, generated if empty.
    pub fn add_customer(&self, details: CustomerDetails) -> Result<String, WorldError> {
        self.with(|engine, now| engine.world.add(details, now))
    }

    /// Adds many, with the same ids each time: first those in review, then the settled ones.
    pub fn add_customers(&self, bulk: Bulk) -> Vec<String> {
        self.with(|engine, now| engine.world.add_bulk(bulk, now))
    }

    /// Adds a verbatim record to the activity log; dated now unless it has a date.
    pub fn add_record(&self, record: Value) {
        self.with(|engine, now| engine.world.audit.raw(record, now));
    }

    pub fn customer(&self, id: &str) -> Option<CustomerView> {
        self.with(|engine, _| engine.world.get(id).map(CustomerView::of))
    }

    /// Applies an operation to a customer.
    pub fn apply(&self, id: &str, operation: Operation) -> Result<(), WorldError> {
        self.with(|engine, now| engine.world.apply(id, operation, now))
    }

    /// Starts a review of Education.
    pub fn submit(&self, id: &str) -> Result<(), WorldError> {
        self.apply(id, Operation::submit())
    }

    /// Approves Education.
    pub fn approve(&self, id: &str) -> Result<(), WorldError> {
        self.apply(id, Operation::approve())
    }

    /// Denies Education.
    pub fn deny(&self, id: &str, reason: &str) -> Result<(), WorldError> {
        self.apply(id, Operation::deny(reason))
    }

    /// Removes the entry for Education.
    pub fn withdraw(&self, id: &str) -> Result<(), WorldError> {
        self.apply(id, Operation::Withdraw { qualification: EDUCATION.into() })
    }

    /// Sets one verbatim entry, replacing those with the same `qualification`.
    pub fn set_entry(&self, id: &str, entry: Value) -> Result<(), WorldError> {
        self.apply(id, Operation::Entry { entry })
    }

    /// Removes a customer: polls get 404.
    pub fn remove_customer(&self, id: &str) -> Result<(), WorldError> {
        self.apply(id, Operation::Remove)
    }

    /// Ends the relationship: the customer is not listed, and polls get 403/20002.
    pub fn end_relationship(&self, id: &str) -> Result<(), WorldError> {
        self.apply(id, Operation::EndRelationship)
    }

    /// Sets a customer's timeline, replacing the rest of an earlier one.
    pub fn timeline(&self, id: &str, steps: Vec<Step>) -> Result<(), WorldError> {
        self.with(|engine, now| engine.world.timeline(id, steps, now))
    }
}

/// Faults, quirks, limits and credentials.
impl Sandbox {
    /// Adds a fault and returns its number.
    pub fn fault(&self, rule: FaultRule) -> u64 {
        self.with(|engine, now| engine.faults.add(rule, now))
    }

    /// Removes a fault and releases the requests it holds. False if there is no fault with this number.
    pub fn release(&self, fault: u64) -> bool {
        self.with(|engine, _| engine.faults.remove(fault))
    }

    /// Removes every fault and releases the requests they hold.
    pub fn clear_faults(&self) {
        self.with(|engine, _| engine.faults.clear());
    }

    /// Adds a quirk and returns its number.
    pub fn quirk(&self, rule: QuirkRule) -> u64 {
        self.with(|engine, now| engine.quirks.add(rule, now))
    }

    /// Removes a quirk. False if there is no quirk with this number.
    pub fn end_quirk(&self, quirk: u64) -> bool {
        self.with(|engine, _| engine.quirks.remove(quirk))
    }

    pub fn clear_quirks(&self) {
        self.with(|engine, _| engine.quirks.clear());
    }

    /// Sets or removes the rate limit of the API.
    pub fn throttle(&self, settings: Option<ThrottleSettings>) {
        self.with(|engine, _| engine.throttle = Throttle::of(settings));
    }

    /// Revokes every token issued so far; returns how many there were.
    pub fn revoke_tokens(&self) -> usize {
        self.with(|engine, _| engine.entra.revoke())
    }

    /// The access tokens issued so far: none may appear in a log, a database or an output.
    pub fn access_tokens(&self) -> Vec<String> {
        self.with(|engine, _| engine.entra.access_tokens())
    }

    /// Sets the lifetime of tokens issued from now on.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.with(|engine, _| engine.entra.lifetime = lifetime);
    }

    /// Replaces the client secret. Tokens issued before stay valid.
    pub fn set_client_secret(&self, secret: &str) {
        self.with(|engine, _| engine.entra.proofs.set_secret(secret.into()));
    }

    /// Registers one more certificate. False if it is not a certificate (PEM) for an RSA key.
    pub fn register_certificate(&self, pem: &str) -> bool {
        self.with(|engine, _| engine.entra.proofs.register(pem))
    }

    /// Sets the trusted platform's token; `None`: no platform is trusted.
    pub fn set_federated_token(&self, token: Option<&str>) {
        self.with(|engine, _| engine.entra.proofs.federated = token.map(str::to_owned));
    }

    /// Replaces the validation codes; each can be used as often as it says.
    pub fn set_validation_codes(&self, codes: Vec<Value>) {
        self.with(|engine, _| engine.submissions.codes = codes);
    }

    /// Accepted submissions of this customer's Education: each costs one of three attempts.
    pub fn attempts_of(&self, customer: &str) -> u32 {
        self.with(|engine, _| engine.submissions.attempts_of(customer))
    }

    /// Sets how users sign in, and how their refresh tokens are rotated.
    pub fn set_sign_ins(&self, settings: SignIns) {
        self.with(|engine, _| engine.entra.users.settings = settings);
    }

    /// Issues a refresh token, as after a sign-in.
    pub fn sign_in(&self) -> String {
        self.with(|engine, now| engine.entra.users.sign_in(now).1)
    }

    /// Revokes every sign-in, as a new password does (AADSTS50173); returns how many there were.
    pub fn revoke_sign_ins(&self) -> usize {
        self.with(|engine, _| engine.entra.users.revoke())
    }

    /// Devices that wait for a user to type their code.
    pub fn devices(&self) -> Vec<Device> {
        self.with(|engine, _| engine.entra.users.devices())
    }

    /// Decides about a device's code. False if no device is waiting with it.
    pub fn decide(&self, user_code: &str, decision: Decision) -> bool {
        self.with(|engine, _| engine.entra.users.decide(user_code, decision))
    }

    /// Expires the secret (AADSTS7000222) until another one is set.
    pub fn expire_client_secret(&self) {
        self.with(|engine, _| engine.entra.proofs.secret_expired = true);
    }
}

/// The request log.
impl Sandbox {
    /// Reads the request log. Do not call the sandbox from within: its mutex is held.
    pub fn log<R>(&self, read: impl FnOnce(&RequestLog) -> R) -> R {
        self.with(|engine, _| read(&engine.log))
    }

    /// The stored requests, oldest first.
    pub fn requests(&self) -> Vec<Record> {
        self.log(|log| log.after(0).cloned().collect())
    }

    /// The stored requests about one customer, in any spelling of the id.
    pub fn requests_about(&self, customer: &str) -> Vec<Record> {
        self.log(|log| log.after(0).filter(|record| record.is_about(customer)).cloned().collect())
    }

    pub fn counts(&self) -> BTreeMap<Kind, Counts> {
        self.log(|log| log.counts().clone())
    }

    /// Requests of this kind so far.
    pub fn count(&self, kind: Kind) -> u64 {
        self.log(|log| log.count(Some(kind), None))
    }

    /// Requests about this customer so far.
    pub fn count_of(&self, customer: &str) -> u64 {
        self.log(|log| log.count(None, Some(customer)))
    }

    /// Requests by clock hour of arrival, oldest first; hours without requests are omitted.
    pub fn hours(&self) -> Vec<Hour> {
        self.log(|log| log.hours().collect())
    }

    /// Protocol violations, unknown requests included. A test ends by asserting that there are none.
    pub fn violations(&self) -> Vec<Violation> {
        self.log(|log| log.violations().cloned().collect())
    }

    /// Requests for paths that Partner Center does not have.
    pub fn unknown_requests(&self) -> Vec<Record> {
        self.log(|log| log.after(0).filter(|record| record.kind == Kind::Unknown).cloned().collect())
    }

    /// Waits until the log satisfies a condition, which is checked at every change.
    pub async fn wait_for<R>(
        &self,
        within: Duration,
        mut answer: impl FnMut(&RequestLog) -> Option<R>,
    ) -> Result<R, Error> {
        let found = self.shared.wait_for(within, |engine| answer(&engine.log)).await;
        found.ok_or_else(|| Error::TimedOut { within, last: self.log(last_lines) })
    }

    /// Waits until `nth` requests of this kind have arrived since the start.
    pub async fn wait_for_requests(&self, kind: Kind, nth: u64, within: Duration) -> Result<(), Error> {
        self.wait_for(within, |log| (log.count(Some(kind), None) >= nth).then_some(())).await
    }

    /// Waits until `nth` requests about this customer have arrived since the start.
    pub async fn wait_for_customer(&self, customer: &str, nth: u64, within: Duration) -> Result<(), Error> {
        self.wait_for(within, |log| (log.count(None, Some(customer)) >= nth).then_some(())).await
    }

    fn with<R>(&self, work: impl FnOnce(&mut Engine, Timestamp) -> R) -> R {
        self.shared.with(work)
    }
}

/// The latest requests, for the message of a timeout.
fn last_lines(log: &RequestLog) -> String {
    let line = |record: &Record| {
        let status = record.status.map_or("no answer".to_owned(), |status| status.to_string());
        format!("  {} {} {} → {status}", record.at, record.method, record.path)
    };
    let lines: Vec<_> = log.after(log.last().saturating_sub(5)).map(line).collect();
    if lines.is_empty() { "  none".into() } else { lines.join("\n") }
}
