//! What arrived at the simulated peers: numbered, for the pages that show it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cli::mime::DecodedMail;
use crate::sandbox::smtp_server::Mail;
use crate::sandbox::webhook_receiver::WebhookRequest;
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub(super) enum Arrival {
    Mail {
        mail: Mail,
        decoded: DecodedMail,
    },
    Webhook(WebhookRequest),
    /// With the service's name: Teams or Slack.
    Card(&'static str, WebhookRequest),
}

impl Arrival {
    pub(super) fn at(&self) -> Timestamp {
        match self {
            Self::Mail { mail, .. } => mail.received_at,
            Self::Webhook(request) | Self::Card(_, request) => request.received_at,
        }
    }

    /// What it says, in a line.
    pub(super) fn title(&self) -> String {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        match self {
            Self::Mail { decoded, .. } => decoded.subject.clone(),
            Self::Webhook(request) => {
                let json = request.json();
                format!("{} {}", text(&json["type"]), text(&json["data"]["customer"]["name"]))
            }
            Self::Card(_, request) => {
                let json = request.json();
                let teams = &json["attachments"][0]["content"]["fallbackText"];
                text(if teams.is_string() { teams } else { &json["text"] })
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Vec<Arrival>>);

impl Inbox {
    /// Returns its number, from 1.
    pub(super) fn add(&self, arrival: Arrival) -> usize {
        let mut all = self.all();
        all.push(arrival);
        all.len()
    }

    pub(super) fn get(&self, number: usize) -> Option<Arrival> {
        self.all().get(number.checked_sub(1)?).cloned()
    }

    pub(super) fn all(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
