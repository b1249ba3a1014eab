//! Event types and their data, as stored and as sent.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::forecast::Expected;
use crate::summary::Summary;
use crate::time::Timestamp;

macro_rules! event_types {
    ($(#[doc = $when:literal] $variant:ident = $name:literal,)*) => {
        /// What happened. The names are public: routes, webhooks and views use them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventType { $(#[doc = $when] $variant,)* }

        impl EventType {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// When it is sent, as `docs/events.md` has it.
            #[must_use]
            pub const fn when(self) -> &'static str {
                match self { $(Self::$variant => $when,)* }
            }
        }
    };
}

event_types! {
    /// the status is now Approved, and the verdict does not equal the last notified one.
    Approved = "vetting.approved",
    /// the status is now Denied, the last notified verdict is no approval, and the verdict does not equal it.
    Denied = "vetting.denied",
    /// the last notified verdict is an approval, and the status is now Denied or absent.
    Revoked = "vetting.revoked",
    /// `InReview` before, and now absent: probably denied (Partner Center shows "None" some time after a denial). Or the last notified verdict, with its earlier date, stands in its place: then the message names both dates.
    Vanished = "vetting.vanished",
    /// the status is now `InReview`, a new attempt.
    Submitted = "vetting.submitted",
    /// any other change.
    Changed = "vetting.changed",
    /// in review for 3 business days, for 5, then every week ([configurable](configuration.md#overdue)).
    Overdue = "vetting.overdue",
    /// a status word that vetwatch does not know: once for each word and partner, ten minutes later, with the number of customers that have it.
    UnknownStatus = "monitor.unknown_status",
    /// the first complete sync of a partner, once: the first complete list was read, and each customer was polled. It says how many are watched, in review, approved, denied, and which reviews are overdue already.
    InitialSync = "monitor.initial_sync",
    /// a partner has given no good response for 30 minutes, or implausible ones; or its customer list cannot be read for 24 hours.
    PartnerFailing = "monitor.partner_failing",
    /// that is over.
    PartnerRecovered = "monitor.partner_recovered",
    /// customers cannot be read for an hour while others can: many in one message, gathered for 20 minutes.
    CustomersFailing = "monitor.customers_failing",
    /// that is over.
    CustomersRecovered = "monitor.customers_recovered",
    /// customers [departed](customers.md#departed-customers) in the middle of a review: once, gathered.
    CustomersDeparted = "monitor.customers_departed",
    /// the oldest due customer of a partner waits for more than twice its interval (and 30 seconds), or the oldest due message of an endpoint that could be tried for 15 minutes: the schedule needs more than the budget, the disk is full, or another program holds the database. Time in which vetwatch did not run does not count.
    PollingLate = "monitor.polling_late",
    /// that has been over for a minute.
    PollingRecovered = "monitor.polling_recovered",
    /// an endpoint has delivered nothing for 15 minutes, or said that it is gone: sent over another endpoint.
    EndpointFailing = "monitor.endpoint_failing",
    /// it has delivered again.
    EndpointRecovered = "monitor.endpoint_recovered",
    /// deliveries are dead, those of an endpoint together; messages wait for an endpoint that is not configured; a message has waited for 24 hours though its endpoint works. Sent over another endpoint.
    DeadLetter = "monitor.dead_letter",
    /// 30, 14, 7, 3 and 1 days before a client secret (`client_secret_expires`), certificate or refresh token ends, a mail server's included, and when it has ended.
    CredentialExpiring = "monitor.credential_expiring",
    /// a [backup](backup.md) by `[backup]` failed, or the last good one is older than twice its period. Sent once, and tried again every hour.
    BackupFailed = "monitor.backup_failed",
    /// a backup was made again.
    BackupRecovered = "monitor.backup_recovered",
    /// with [`[standby]`](standby.md): another host leads than before.
    LeaderChanged = "monitor.leader_changed",
    /// with [`[standby]`](standby.md): the replica has lacked the newest changes for a minute, or the leader has had no other host that could take over for 10 minutes.
    StandbyFailing = "monitor.standby_failing",
    /// that is over.
    StandbyRecovered = "monitor.standby_recovered",
    /// every week ([configurable](configuration.md#summary)): what was decided, what is in review, what needs a person. Not sent when there is nothing of it.
    Summary = "summary",
}

impl EventType {
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == name)
    }

    /// True if the event goes to the operators, whatever the routes say.
    #[must_use]
    pub fn is_for_operators(self) -> bool {
        self.as_str().starts_with("monitor.")
    }

    /// True if routes may name the event. A summary has endpoints of its own.
    #[must_use]
    pub fn is_routed(self) -> bool {
        self != Self::Summary
    }

    /// True if the event is sent only where a route names it.
    #[must_use]
    pub fn is_opt_in(self) -> bool {
        matches!(self, Self::Submitted | Self::Changed)
    }
}

/// The table of `docs/events.md`, in Markdown.
#[must_use]
pub fn table() -> String {
    let row = |kind: &EventType| {
        let to = match kind {
            kind if kind.is_for_operators() => "operators",
            EventType::Summary => "`[summary]`",
            kind if kind.is_opt_in() => "routes that name it; always recorded",
            _ => "routes",
        };
        let when = kind.when().trim().trim_end_matches('.');
        format!("| `{kind}` | {when} | {to} |\n")
    };
    let rows: String = EventType::ALL.iter().map(row).collect();
    format!("| event | when | goes to |\n| --- | --- | --- |\n{rows}")
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An event as stored, committed together with its transition.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub kind: EventType,
    pub occurred_at: Timestamp,
    pub data: EventData,
}

impl Event {
    /// A new event with a random id. The ids of verdicts are deterministic: see the module `ids`.
    #[must_use]
    pub fn new(
        kind: EventType,
        partner: Option<&str>,
        subject: EventPayload,
        observed_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        let event_id = Uuid::now_v7();
        let data = EventData { event_id, partner: partner.map(str::to_owned), subject, observed_at, test: false };
        Self { kind, occurred_at: now, data }
    }
}

/// The `data` object of a webhook. `event_id` is the same over all endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventData {
    pub event_id: Uuid,
    /// `None` for an event about vetwatch itself: an endpoint, the database.
    pub partner: Option<String>,
    #[serde(flatten)]
    pub subject: EventPayload,
    pub observed_at: Timestamp,
    pub test: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventPayload {
    Vetting(Box<VettingChange>),
    Monitor(OperationalNotice),
    Summary(Box<Summary>),
}

/// A change of one qualification of one customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VettingChange {
    pub customer: CustomerRef,
    pub qualification: String,
    /// The previous status, as spelled; `absent` without an entry, null for an entry without status or at first sight.
    pub from: Option<String>,
    pub to: Option<String>,
    /// Microsoft's words.
    pub vetting_reason: Option<String>,
    pub vetting_created_at: Option<Timestamp>,
    /// When the previous state was last seen: the change happened between this and `observed_at`.
    pub last_seen_before_at: Option<Timestamp>,
    /// Number of the review, as far as vetwatch saw; Education allows three.
    pub attempt: u32,
    /// The correlation id of the response; Microsoft's support asks for it.
    pub correlation_id: Option<String>,
    /// Found in the first response for the customer.
    #[serde(default)]
    pub first_seen: bool,
    /// For a `vetting.vanished` after which an earlier verdict is shown again: the create date of the vanished request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_created_at: Option<Timestamp>,
    /// For `vetting.overdue` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<Overdue>,
}

/// How long a review has been open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// The create date, or when the review was first seen.
    pub since: Timestamp,
    /// Whole business days since then.
    pub business_days: u32,
    /// Number of the reminder, counted from 1.
    pub reminder: u32,
    /// When it will probably be decided, as far as one's own finished reviews say.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerRef {
    pub id: String,
    pub name: String,
    pub domain: String,
    pub tags: Vec<String>,
}

/// The payload of a `monitor.…` event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationalNotice {
    pub summary: String,
    /// What it means and what to do, in sentences.
    pub detail: String,
    /// Figures, by name.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub figures: serde_json::Map<String, serde_json::Value>,
}
