//! Microsoft's side of a campaign: reviews begin and end while it lasts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use vetwatch::sandbox::smtp_server::Mail;
use vetwatch::sandbox::webhook_receiver::WebhookRequest;
use vetwatch::time::Timestamp;

use super::PATIENCE;
use crate::process::{DaemonHarness, now};

/// Every begin and end of a review is notified at once, each event in a message of its own, and tried again after `retry`.
pub(crate) fn configuration(retry: &str) -> String {
    format!(
        "[[route]]
events = [\"vetting.submitted\"]
endpoints = [\"sales-mail\", \"crm\"]
group_wait = \"0s\"
[retry]
schedule = [\"{retry}\"]
[overdue]
business_days = []
"
    )
}

/// The begin or end of a review, to be notified.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    pub(crate) customer: String,
    pub(crate) attempt: u64,
    /// The type of the event, without `vetting.`.
    pub(crate) what: String,
}

impl Step {
    pub(crate) fn is_verdict(&self) -> bool {
        self.what != "submitted"
    }

    /// Columns `customer_id, event_type, attempt`.
    pub(crate) fn row(&self) -> String {
        format!("{} | vetting.{} | {}", self.customer, self.what, self.attempt)
    }
}

/// The step that a webhook notifies, and the event's id.
pub(crate) fn of_hook(hook: &WebhookRequest) -> (Step, String) {
    let json = hook.json();
    let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let step = Step {
        customer: text("/data/customer/id"),
        attempt: json.pointer("/data/attempt").and_then(Value::as_u64).unwrap_or_default(),
        what: text("/type").trim_start_matches("vetting.").to_owned(),
    };
    (step, text("/data/event_id"))
}

/// A mail's id, which is that of its delivery.
pub(crate) fn name_of(mail: &Mail) -> String {
    let text = mail.text();
    let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: <")).and_then(|id| id.split_once('@'));
    id.unwrap_or_else(|| panic!("no Message-ID in {text}")).0.to_owned()
}

/// Expected steps of each mail, by its id, with the events' ids.
pub(crate) async fn told_by_mail(town: &DaemonHarness) -> BTreeMap<String, Vec<(Step, String)>> {
    let sql = "select de.delivery, e.id, c.customer_id, e.type, json_extract(e.data, '$.attempt')
               from delivery_event de join event e on e.id = de.event join customer c on c.id = e.customer
               where de.endpoint = 'sales-mail'";
    let mut told = BTreeMap::<String, Vec<_>>::new();
    for row in town.rows(sql).await {
        let [delivery, event, customer, kind, attempt] =
            row.split(" | ").collect::<Vec<_>>().try_into().expect("a row");
        let what = kind.trim_start_matches("vetting.").to_owned();
        let step = Step { customer: customer.to_owned(), attempt: attempt.parse().expect("a number"), what };
        told.entry(delivery.to_owned()).or_default().push((step, event.to_owned()));
    }
    told
}

/// Reviews of some customers. A customer's next step comes a little after the last one was notified, so that each is
/// seen: two between two polls would be one.
pub(crate) struct Reviews {
    rng: Rng,
    customers: BTreeMap<String, Customer>,
    /// All steps so far.
    done: Vec<Step>,
    told: BTreeSet<Step>,
    looked_until: Timestamp,
}

#[derive(Default)]
struct Customer {
    attempt: u64,
    approved: bool,
    in_review: bool,
}

impl Reviews {
    /// Adds customers whose first review was polled.
    pub(crate) async fn begin(town: &DaemonHarness, count: usize, rng: Rng) -> Self {
        let ids = town.in_review_since_long(count).await;
        let customer = |id| (id, Customer { attempt: 1, approved: false, in_review: true });
        let customers = ids.into_iter().map(customer).collect();
        Self { rng, customers, done: Vec::new(), told: BTreeSet::new(), looked_until: now() }
    }

    /// Never returns; may be cancelled at any point.
    pub(crate) async fn go_on(&mut self, town: &DaemonHarness) {
        if self.done.is_empty() {
            for id in self.customers.keys().cloned().collect::<Vec<_>>() {
                self.next(town, &id);
            }
        }
        loop {
            self.follow(town).await;
        }
    }

    /// Goes on until everything that has happened before is notified, for at most this long. Returns what is not.
    pub(crate) async fn until_notified(&mut self, town: &DaemonHarness, within: Duration) -> Vec<Step> {
        let mut missing = self.done.clone();
        let _ = timeout(within, async {
            loop {
                missing.retain(|step| !self.told.contains(step));
                if missing.is_empty() {
                    return;
                }
                self.follow(town).await;
            }
        })
        .await;
        missing
    }

    /// Waits for the next webhooks, and takes the next steps of their customers.
    async fn follow(&mut self, town: &DaemonHarness) {
        let since = self.looked_until;
        let told = |hook: &WebhookRequest| hook.received_at >= since && !self.told.contains(&of_hook(hook).0);
        let Ok(hooks) = town.hook.wait_for_those(1, PATIENCE, told).await else { return };
        // Sometimes immediately, sometimes after the next polls, sometimes while nothing runs.
        if self.rng.bool() {
            sleep(Duration::from_millis(self.rng.u64(..100))).await;
        }
        for hook in hooks {
            let (step, _) = of_hook(&hook);
            self.looked_until = hook.received_at;
            if self.told.insert(step.clone()) && self.done.iter().rev().any(|done| *done == step) {
                self.next(town, &step.customer);
            }
        }
    }

    /// What happened in all.
    pub(crate) fn end(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.done)
    }

    fn next(&mut self, town: &DaemonHarness, id: &str) {
        let customer = self.customers.get_mut(id).expect("a customer of ours");
        let mut reason = Value::Null;
        let (what, status) = if !customer.in_review {
            customer.attempt += 1;
            ("submitted", "InReview")
        } else if self.rng.bool() {
            ("approved", "Approved")
        } else {
            reason = json!("Not an Education Customer");
            (if customer.approved { "revoked" } else { "denied" }, "Denied")
        };
        customer.in_review = !customer.in_review;
        if !customer.in_review {
            customer.approved = status == "Approved";
        }
        let mut entry = entry(status, customer.attempt);
        if !reason.is_null() {
            entry["vettingReason"] = reason;
        }
        town.sandbox.set_entry(id, entry).expect("an entry");
        self.done.push(Step { customer: id.to_owned(), attempt: customer.attempt, what: what.to_owned() });
    }
}

/// Create dates distinguish reviews, in whole seconds: here they are hours apart.
fn entry(status: &str, attempt: u64) -> Value {
    let created = Timestamp::from_millis(1_700_000_000_000).after(Duration::from_hours(attempt));
    json!({ "qualification": "Education", "vettingStatus": status, "vettingCreatedDate": created })
}

impl DaemonHarness {
    /// Like [`DaemonHarness::in_review`], with the create date of a campaign's first review.
    async fn in_review_since_long(&self, count: usize) -> Vec<String> {
        let ids = self.add_customers(count).await;
        for id in &ids {
            self.sandbox.set_entry(id, entry("InReview", 1)).expect("an entry");
        }
        self.tell(&["poll"]);
        ids
    }
}
