//! Event types and their data, as stored and as sent.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

macro_rules! event_types {
    ($($variant:ident = $name:literal,)*) => {
        /// What happened. The names are public: routes, webhooks and views use them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventType { $($variant,)* }

        impl EventType {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

event_types! {
    Approved = "vetting.approved",
    Denied = "vetting.denied",
    Revoked = "vetting.revoked",
    Vanished = "vetting.vanished",
    Submitted = "vetting.submitted",
    Changed = "vetting.changed",
    Overdue = "vetting.overdue",
    UnknownStatus = "monitor.unknown_status",
    InitialSync = "monitor.initial_sync",
    PartnerFailing = "monitor.partner_failing",
    PartnerRecovered = "monitor.partner_recovered",
    CustomersFailing = "monitor.customers_failing",
    CustomersRecovered = "monitor.customers_recovered",
    CustomersDeparted = "monitor.customers_departed",
    PollingLate = "monitor.polling_late",
    PollingRecovered = "monitor.polling_recovered",
    EndpointFailing = "monitor.endpoint_failing",
    EndpointRecovered = "monitor.endpoint_recovered",
    DeadLetter = "monitor.dead_letter",
    CredentialExpiring = "monitor.credential_expiring",
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

    /// True if the event is sent only where a route names it.
    #[must_use]
    pub fn is_opt_in(self) -> bool {
        matches!(self, Self::Submitted | Self::Changed)
    }
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
    pub fn new(kind: EventType, partner: &str, subject: EventPayload, observed_at: Timestamp, now: Timestamp) -> Self {
        let event_id = Uuid::now_v7();
        let data = EventData { event_id, partner: partner.to_owned(), subject, observed_at, test: false };
        Self { kind, occurred_at: now, data }
    }
}

/// The `data` object of a webhook. `event_id` is the same over all endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventData {
    pub event_id: Uuid,
    pub partner: String,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// The create date, or when the review was first seen.
    pub since: Timestamp,
    /// Whole business days since then.
    pub business_days: u32,
    /// Number of the reminder, counted from 1.
    pub reminder: u32,
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
