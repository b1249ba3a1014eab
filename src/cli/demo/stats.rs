//! The demo's totals: what vetwatch recorded against what arrived.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::environment::{CHATS, HOOK_ENDPOINT, MAIL_ENDPOINT};
use super::observer::DemoEventKind;
use crate::event::EventType;
use crate::sandbox::webhook_receiver::Signature;
use crate::store::reports::DeliveryRow;

/// The events that the demo's configuration routes.
const ROUTED: [EventType; 4] = [EventType::Approved, EventType::Denied, EventType::Revoked, EventType::Vanished];

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What needs no look at the end.
    counted: Summary,
    /// Events that are to be sent, and their type.
    sent: HashMap<String, EventType>,
    /// Ids of events that arrived by mail, and by webhook; each with the ids of its messages.
    mailed: Arrived,
    hooked: Arrived,
    /// Ids of messages that arrived, and how often.
    messages: BTreeMap<String, u64>,
}

type Arrived = BTreeMap<String, BTreeSet<String>>;

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Summary {
    /// By event type.
    pub(super) transitions: BTreeMap<String, u64>,
    pub(super) mails: u64,
    pub(super) webhooks: u64,
    pub(super) cards: u64,
    pub(super) signatures_verified: u64,
    pub(super) signatures_not_verified: u64,
    /// Messages that arrived more than once, under their one id.
    pub(super) repeated: u64,
    /// Events that arrived under more than one id.
    pub(super) under_two_ids: u64,
    /// How often the daemon was killed.
    pub(super) kills: u64,
    /// Messages that are still pending.
    pub(super) waiting: u64,
    /// Messages that neither arrived nor are pending.
    pub(super) lost: u64,
    /// Approvals and denials that arrived by mail and by webhook.
    pub(super) approvals_delivered: u64,
    pub(super) denials_delivered: u64,
}

impl Tally {
    pub(super) fn note(&mut self, what: &DemoEventKind) {
        match what {
            DemoEventKind::Transition(row) => {
                let kind = row.event_type.clone().unwrap_or_default();
                if let (Some(routed), Some(id)) = (ROUTED.iter().find(|r| r.as_str() == kind), &row.event_id) {
                    self.sent.insert(id.clone(), *routed);
                }
                *self.counted.transitions.entry(kind).or_default() += 1;
            }
            DemoEventKind::Mail(mail, ..) => {
                self.counted.mails += 1;
                self.arrived(&mail.id);
                for event in mail.events() {
                    self.mailed.entry(event.to_owned()).or_default().insert(mail.id.clone());
                }
            }
            DemoEventKind::Webhook(hook) => {
                self.counted.webhooks += 1;
                let id = hook.id().unwrap_or_default();
                self.arrived(id);
                if hook.signature == Signature::Valid {
                    self.counted.signatures_verified += 1;
                    if let Some(event) = hook.json()["data"]["event_id"].as_str() {
                        self.hooked.entry(event.to_owned()).or_default().insert(id.to_owned());
                    }
                } else {
                    self.counted.signatures_not_verified += 1;
                }
            }
            DemoEventKind::Card(..) => self.counted.cards += 1,
            _ => {}
        }
    }

    pub(super) fn note_kill(&mut self) {
        self.counted.kills += 1;
    }

    fn arrived(&mut self, message: &str) {
        let times = self.messages.entry(message.to_owned()).or_default();
        *times += 1;
        if *times > 1 {
            self.counted.repeated += 1;
        }
    }

    /// How often the message with this id arrived.
    pub(super) fn arrivals(&self, message: &str) -> u64 {
        self.messages.get(message).copied().unwrap_or(0)
    }

    /// The totals, given the pending messages.
    pub(super) fn summary(&self, pending: &[DeliveryRow]) -> Summary {
        let waiting = |endpoint: &str| pending.iter().filter(|row| row.endpoint == endpoint).count();
        let missing = |arrived: &Arrived, endpoint: &str| {
            let missing = self.sent.keys().filter(|id| !arrived.contains_key(*id)).count();
            missing.saturating_sub(waiting(endpoint))
        };
        // A card names no id, so they are counted.
        let cards = CHATS.iter().map(|(endpoint, ..)| self.sent.len().saturating_sub(waiting(endpoint))).sum::<usize>();
        let cards = cards.saturating_sub(usize::try_from(self.counted.cards).unwrap_or(usize::MAX));
        let lost = missing(&self.mailed, MAIL_ENDPOINT) + missing(&self.hooked, HOOK_ENDPOINT) + cards;
        let two_ids = [&self.mailed, &self.hooked].map(|arrived| arrived.values().filter(|ids| ids.len() > 1).count());
        let delivered = |kind: EventType| {
            let arrived = |id: &&String| self.mailed.contains_key(*id) && self.hooked.contains_key(*id);
            self.sent.iter().filter(|(_, sent)| **sent == kind).map(|(id, _)| id).filter(arrived).count() as u64
        };
        Summary {
            waiting: pending.len() as u64,
            lost: lost as u64,
            under_two_ids: two_ids.iter().sum::<usize>() as u64,
            approvals_delivered: delivered(EventType::Approved),
            denials_delivered: delivered(EventType::Denied),
            ..self.counted.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::HeaderMap;

    use super::*;
    use crate::cli::mime::DecodedMail;
    use crate::sandbox::webhook_receiver::WebhookRequest;
    use crate::store::reports::TransitionRow;
    use crate::time::Timestamp;

    fn transition(event: &str, kind: &str) -> DemoEventKind {
        DemoEventKind::Transition(Box::new(TransitionRow {
            transition_id: 1,
            observed_at: String::new(),
            last_seen_before_at: None,
            partner: String::new(),
            customer_id: String::new(),
            customer_name: String::new(),
            qualification: String::new(),
            from_status: None,
            to_status: None,
            vetting_reason: None,
            vetting_created_at: None,
            attempt: 1,
            event_type: Some(kind.to_owned()),
            event_id: Some(event.to_owned()),
            correlation_id: None,
        }))
    }

    fn mail(id: &str, event: &str) -> DemoEventKind {
        let mail = DecodedMail {
            id: id.to_owned(),
            kind: String::new(),
            subject: String::new(),
            text: format!("Denied\n\nEvent: {event}"),
        };
        DemoEventKind::Mail(mail, 1, Duration::ZERO)
    }

    fn pending(endpoint: &str) -> DeliveryRow {
        DeliveryRow {
            sequence: 1,
            delivery_id: String::new(),
            endpoint: endpoint.to_owned(),
            state: "pending".to_owned(),
            attempts: 1,
            events: 1,
            created_at: String::new(),
            next_attempt_at: None,
            finished_at: None,
            redirected_at: None,
            discarded_at: None,
            last_error: None,
            about: None,
        }
    }

    fn card() -> DemoEventKind {
        let request = WebhookRequest {
            received_at: Timestamp::from_millis(0),
            method: String::new(),
            path: String::new(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            signature: Signature::NotChecked,
            answered: Some(200),
        };
        DemoEventKind::Card("Teams", Box::new(request))
    }

    #[test]
    fn a_message_that_neither_arrived_nor_waits_is_lost() {
        let mut tally = Tally::default();
        let verdict = [transition("e-1", "vetting.denied"), transition("e-2", "vetting.submitted")];
        for what in verdict.into_iter().chain([mail("d-1", "e-1"), card()]) {
            tally.note(&what);
        }
        assert_eq!(tally.summary(&[pending(HOOK_ENDPOINT)]).lost, 1, "the second card");
        tally.note(&card());
        let lost = |pending: &[DeliveryRow]| tally.summary(pending).lost;
        assert_eq!(lost(&[]), 1, "the webhook");
        assert_eq!(lost(&[pending(MAIL_ENDPOINT)]), 1, "the webhook, whatever mail waits");
        assert_eq!(lost(&[pending(HOOK_ENDPOINT)]), 0);
        assert_eq!(tally.summary(&[]).denials_delivered, 0, "by mail only");
    }

    #[test]
    fn a_message_that_came_twice_counts_twice() {
        let mut tally = Tally::default();
        for what in [transition("e-1", "vetting.denied"), mail("d-1", "e-1"), mail("d-1", "e-1")] {
            tally.note(&what);
        }
        let summary = tally.summary(&[]);
        assert_eq!((summary.mails, summary.repeated, summary.under_two_ids), (2, 1, 0));
        tally.note(&mail("d-2", "e-1"));
        assert_eq!((tally.summary(&[]).repeated, tally.summary(&[]).under_two_ids), (1, 1), "another id");
    }
}
