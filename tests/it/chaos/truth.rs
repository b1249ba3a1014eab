//! What Microsoft decides, and what of it must arrive where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::time::{Instant, sleep};
use vetwatch::time::Timestamp;

use crate::process::DaemonHarness;
use crate::world::try_rows;

/// The endpoints that come and go.
pub(super) const HOOKS: [&str; 2] = ["crm", "spare"];
/// A step is over once the daemon has stored so many looks at the customer: the first three may have begun before it.
const LOOKS: u32 = 5;
const REASONS: [&str; 4] = [
    "Not an Education Customer",
    "Not an Academic Domain",
    "Die Domäne gehört zu keiner Schule: „straße.example“ & <b>",
    "学校ではありません",
];

/// What identifies a step: customer, create date in seconds, status, reason.
pub(super) type Key = (String, i64, String, String);

/// The begin or the end of a review.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) key: Key,
    /// The types of event that it may have.
    pub(super) kinds: Vec<&'static str>,
    /// How long the daemon had run when it was decided.
    pub(super) ran: Duration,
    /// False if a restored backup knew nothing of it, and Partner Center does not show it any more.
    pub(super) required: bool,
    /// True for each endpoint of [`HOOKS`] that may have been configured when it was recorded.
    pub(super) with: [bool; 2],
    /// …that may not have been.
    pub(super) without: [bool; 2],
}

impl Step {
    pub(super) fn is_verdict(&self) -> bool {
        self.key.2 != "inreview"
    }
}

struct Customer {
    name: String,
    reviews: u64,
    status: &'static str,
    reason: String,
    /// Of this review.
    overturned: bool,
    /// Whether the last verdict was an approval.
    approved: bool,
    /// The last step, until it is over.
    open: Option<usize>,
    last: Option<usize>,
    seen_at: String,
    looks: u32,
    rests_until: Instant,
}

pub(super) struct Truth {
    rng: Rng,
    database: PathBuf,
    customers: BTreeMap<String, Customer>,
    pub(super) steps: Vec<Step>,
    /// The steps of each mail by its id, as the database had them, and their events.
    pub(super) mails: BTreeMap<String, BTreeSet<(Key, String)>>,
    mails_read: String,
    /// Sets of [`HOOKS`] of which one is configured.
    pub(super) hooks: Vec<[bool; 2]>,
    pub(super) ran: Duration,
    /// Nothing more is decided.
    pub(super) over: bool,
}

impl Truth {
    pub(super) fn new(database: &Path, rng: Rng) -> Self {
        Self {
            rng,
            database: database.to_owned(),
            customers: BTreeMap::new(),
            steps: Vec::new(),
            mails: BTreeMap::new(),
            mails_read: "0".to_owned(),
            hooks: vec![[true; 2]],
            ran: Duration::ZERO,
            over: false,
        }
    }

    /// Follows a customer in its first review, which vetwatch knows.
    pub(super) fn follow(&mut self, id: &str, name: &str) {
        let customer = Customer {
            name: name.to_owned(),
            reviews: 1,
            status: "InReview",
            reason: String::new(),
            overturned: false,
            approved: false,
            open: None,
            last: None,
            seen_at: String::new(),
            looks: 0,
            rests_until: Instant::now(),
        };
        self.customers.insert(id.to_owned(), customer);
    }

    /// One of the customers with this in their ids whose last step is over.
    pub(super) fn at_rest(&mut self, part: &str) -> Option<String> {
        let resting = |(id, customer): &(&String, &Customer)| id.contains(part) && customer.open.is_none();
        let resting: Vec<_> = self.customers.iter().filter(resting).map(|(id, _)| id.clone()).collect();
        self.rng.choice(resting)
    }

    /// Nothing more happens to it.
    pub(super) fn forget(&mut self, id: &str) {
        self.customers.remove(id);
    }

    pub(super) fn name(&self, id: &str) -> &str {
        self.customers.get(id).map_or("", |customer| &customer.name)
    }

    /// What is not over yet.
    pub(super) fn open(&self) -> usize {
        self.customers.values().filter(|customer| customer.open.is_some()).count()
    }

    /// Never returns; may be cancelled at any point.
    pub(super) async fn go_on(&mut self, town: &DaemonHarness, running: bool) {
        loop {
            let began = Instant::now();
            self.look().await;
            for id in self.customers.keys().cloned().collect::<Vec<_>>() {
                self.next(town, &id);
            }
            sleep(Duration::from_millis(40)).await;
            if running {
                self.ran += began.elapsed();
            }
        }
    }

    /// Reads which customers were looked at, and what the mails are about. The database may be missing just now.
    pub(super) async fn look(&mut self) {
        let database = SqliteConnectOptions::new().filename(&self.database).read_only(true);
        let seen = try_rows(database.clone(), "select customer_id, last_seen_at from v_customers").await;
        for row in seen.unwrap_or_default() {
            let (id, seen_at) = row.split_once(" | ").expect("two columns");
            let Some(customer) = self.customers.get_mut(id) else { continue };
            if seen_at != "null" && customer.seen_at != seen_at {
                seen_at.clone_into(&mut customer.seen_at);
                customer.looks += 1;
            }
            if customer.open.is_some() && customer.looks >= LOOKS {
                customer.open = None;
                customer.rests_until = Instant::now() + Duration::from_millis(self.rng.u64(..4000));
            }
        }
        let sql = format!(
            "select t.transition_id, de.delivery, de.event, t.customer_id, unixepoch(t.vetting_created_at), t.to_status,
                    t.vetting_reason
               from delivery_event de join v_transitions t on t.event_id = de.event
              where de.endpoint = 'sales-mail' and t.transition_id > {} order by t.transition_id",
            self.mails_read
        );
        for row in try_rows(database, &sql).await.unwrap_or_default() {
            let columns: Vec<_> = row.splitn(7, " | ").collect();
            let [transition, delivery, event, customer, created, status, reason] = columns.try_into().expect("a row");
            transition.clone_into(&mut self.mails_read);
            self.mails
                .entry(delivery.to_owned())
                .or_default()
                .insert((key(customer, created.parse().expect("a date"), status, reason), event.to_owned()));
        }
    }

    /// The next step of a customer, unless the last one is not over.
    fn next(&mut self, town: &DaemonHarness, id: &str) {
        let customer = self.customers.get_mut(id).expect("a customer of ours");
        // The first look is silent, whatever it shows.
        let is_known = customer.last.is_some() || customer.looks > 0;
        if self.over || !is_known || customer.open.is_some() || customer.rests_until > Instant::now() {
            return;
        }
        let number = self.steps.len();
        let reason = format!("{} ({number})", self.rng.choice(REASONS).expect("a reason"));
        let overturns = customer.status != "InReview" && !customer.overturned && self.rng.u8(..4) == 0;
        customer.overturned = overturns;
        (customer.status, customer.reason) = match (customer.status, self.rng.bool()) {
            ("InReview", true) => ("Approved", String::new()),
            ("InReview", false) => ("Denied", reason),
            ("Denied", true) if overturns => ("Approved", String::new()),
            ("Denied", false) if overturns => ("Denied", format!("{} - After Review", customer.reason)),
            ("Approved", _) if overturns => ("Denied", reason),
            _ => {
                customer.reviews += 1;
                ("InReview", String::new())
            }
        };
        let kind = match customer.status {
            "InReview" => "vetting.submitted",
            "Approved" => "vetting.approved",
            _ if customer.approved => "vetting.revoked",
            _ => "vetting.denied",
        };
        if customer.status != "InReview" {
            customer.approved = customer.status == "Approved";
        }
        show(town, id, customer.created(), customer.status, &customer.reason);
        customer.looks = 0;
        (customer.open, customer.last) = (Some(number), Some(number));
        self.steps.push(Step {
            key: key(id, customer.created().as_secs(), customer.status, &customer.reason),
            kinds: vec![kind],
            ran: self.ran,
            required: true,
            with: [false; 2],
            without: [false; 2],
        });
        self.note_hooks();
    }

    /// Notes for each step that is not over what may be configured.
    pub(super) fn note_hooks(&mut self) {
        for step in self.customers.values().filter_map(|customer| customer.open) {
            let step = &mut self.steps[step];
            for hooks in &self.hooks {
                for (n, configured) in hooks.iter().enumerate() {
                    step.with[n] |= configured;
                    step.without[n] |= !configured;
                }
            }
        }
    }

    /// A backup with these transitions of these customers was restored. Returns the customers that it does not have.
    pub(super) fn restored(&mut self, recorded: &BTreeSet<Key>, customers: &BTreeSet<String>) -> Vec<String> {
        for (number, step) in self.steps.iter_mut().enumerate() {
            if recorded.contains(&step.key) {
                continue;
            }
            let shown = self.customers.get(&step.key.0).is_some_and(|customer| customer.last == Some(number));
            step.required &= shown && customers.contains(&step.key.0);
            if step.key.2 == "denied" {
                step.kinds = vec!["vetting.denied", "vetting.revoked"];
            }
            (step.with, step.without) = ([true; 2], [true; 2]);
        }
        for (id, customer) in &mut self.customers {
            let known = |step: &&Step| step.key.0 == *id && step.is_verdict() && recorded.contains(&step.key);
            customer.approved = self.steps.iter().rev().find(known).is_some_and(|step| step.key.2 == "approved");
            if let Some(last) = customer.last.filter(|last| !recorded.contains(&self.steps[*last].key)) {
                if self.steps[last].is_verdict() {
                    customer.approved = self.steps[last].key.2 == "approved";
                }
                customer.open = Some(last);
            }
            customer.looks = 0;
        }
        "0".clone_into(&mut self.mails_read);
        let lost = |id: &&String| !customers.contains(*id);
        self.customers.keys().filter(lost).cloned().collect()
    }
}

impl Customer {
    fn created(&self) -> Timestamp {
        created(self.reviews)
    }
}

/// Create dates distinguish reviews: here they are hours apart, and years ago.
fn created(review: u64) -> Timestamp {
    Timestamp::from_millis(1_600_000_000_000).after(Duration::from_hours(2 * review))
}

/// Shows a customer's first review.
pub(super) fn submit(town: &DaemonHarness, id: &str) {
    show(town, id, created(1), "InReview", "");
}

fn show(town: &DaemonHarness, id: &str, created: Timestamp, status: &str, reason: &str) {
    let mut entry = json!({ "qualification": "Education", "vettingStatus": status, "vettingCreatedDate": created });
    if !reason.is_empty() {
        entry["vettingReason"] = json!(reason);
    }
    town.sandbox.set_entry(id, entry).expect("an entry");
}

pub(super) fn key(customer: &str, created: i64, status: &str, reason: &str) -> Key {
    let reason = if reason == "null" { "" } else { reason };
    (customer.to_owned(), created, vetwatch::qualification::key(status), reason.to_owned())
}
