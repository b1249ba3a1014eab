//! The demo's totals: what vetwatch recorded against what arrived.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::environment::{CHATS, HOOK_ENDPOINT, MAIL_ENDPOINT};
use super::observer::DemoEventKind;
use crate::event::EventType;
use crate::sandbox::webhook_receiver::Signature;
use crate::store::reports::{DeliveryRow, EventTrace};

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
    /// The number of cards at each service.
    cards: BTreeMap<&'static str, u64>,
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
    /// Messages that neither arrived nor wait nor are dead, though their customer is not muted.
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
            DemoEventKind::Mail { mail, events, .. } => {
                self.counted.mails += 1;
                self.arrived(&mail.id);
                for event in events {
                    self.mailed.entry(event.clone()).or_default().insert(mail.id.clone());
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
            DemoEventKind::Card(service, _) => {
                self.counted.cards += 1;
                *self.cards.entry(service).or_default() += 1;
            }
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

    /// The ids of the events that are to be sent.
    pub(super) fn sent(&self) -> impl Iterator<Item = &String> {
        self.sent.keys()
    }

    /// The totals, given what the database says, at the end, of each event to be sent, and all messages.
    pub(super) fn summary(&self, traces: &HashMap<String, EventTrace>, messages: &[DeliveryRow]) -> Summary {
        let is_told = |id: &&String| traces.get(*id).is_none_or(|trace| !trace.muted);
        let told: Vec<_> = self.sent.keys().filter(is_told).collect();
        // The states of the event's messages at the endpoint.
        let states = |id: &String, endpoint: &str| -> Vec<_> {
            let deliveries = traces.get(id).into_iter().flat_map(|trace| &trace.deliveries).map(|it| &it.delivery);
            deliveries.filter(|row| row.endpoint == endpoint).map(|row| row.state.as_str()).collect()
        };
        let missing = |arrived: &Arrived, endpoint: &str| {
            let is_known = |id: &&String| states(id, endpoint).iter().any(|state| *state != "delivered");
            told.iter().filter(|id| !arrived.contains_key(**id) && !is_known(id)).count() as u64
        };
        // A card of several events does not name them. One that arrived twice hides one that did not arrive.
        let cards = CHATS.iter().map(|(endpoint, service, _)| {
            let not_enqueued = told.iter().filter(|id| states(id, endpoint).is_empty()).count();
            let delivered = messages.iter().filter(|row| row.endpoint == *endpoint && row.state == "delivered").count();
            let arrived = self.cards.get(service).copied().unwrap_or(0);
            (not_enqueued as u64) + (delivered as u64).saturating_sub(arrived)
        });
        let lost = missing(&self.mailed, MAIL_ENDPOINT) + missing(&self.hooked, HOOK_ENDPOINT) + cards.sum::<u64>();
        let two_ids = [&self.mailed, &self.hooked].map(|arrived| arrived.values().filter(|ids| ids.len() > 1).count());
        let delivered = |kind: EventType| {
            let arrived = |id: &&String| self.mailed.contains_key(*id) && self.hooked.contains_key(*id);
            self.sent.iter().filter(|(_, sent)| **sent == kind).map(|(id, _)| id).filter(arrived).count() as u64
        };
        Summary {
            waiting: messages.iter().filter(|row| row.state == "pending").count() as u64,
            lost,
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
    use crate::store::reports::{DeliveryTrace, EventRow, TransitionRow};
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

    fn mail(id: &str, events: &[&str]) -> DemoEventKind {
        DemoEventKind::Mail {
            mail: DecodedMail { id: id.to_owned(), kind: String::new(), subject: String::new(), text: String::new() },
            events: events.iter().map(|&event| event.to_owned()).collect(),
            attempts: 1,
            waited: Duration::ZERO,
        }
    }

    fn message(endpoint: &str, state: &str) -> DeliveryRow {
        DeliveryRow {
            sequence: 1,
            delivery_id: String::new(),
            endpoint: endpoint.to_owned(),
            state: state.to_owned(),
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

    /// Messages at mail, webhook, Teams and Slack.
    fn messages(states: [&str; 4]) -> Vec<DeliveryRow> {
        let endpoints = [MAIL_ENDPOINT, HOOK_ENDPOINT, CHATS[0].0, CHATS[1].0];
        endpoints.into_iter().zip(states).map(|(endpoint, state)| message(endpoint, state)).collect()
    }

    /// The events, each in all of the messages.
    fn traces(events: &[&str], messages: &[DeliveryRow]) -> HashMap<String, EventTrace> {
        let trace = |event: &&str| EventTrace {
            event: EventRow {
                event_id: (*event).to_owned(),
                event_type: String::new(),
                occurred_at: Timestamp::from_millis(0),
                data: serde_json::Value::Null,
            },
            partner: String::new(),
            test: false,
            muted: false,
            transition: None,
            deliveries: messages.iter().map(in_message).collect(),
        };
        events.iter().map(|event| ((*event).to_owned(), trace(event))).collect()
    }

    fn in_message(delivery: &DeliveryRow) -> DeliveryTrace {
        let (delivery, final_replies) = (delivery.clone(), serde_json::Value::Null);
        DeliveryTrace { delivery, why: None, attempts_made: Vec::new(), final_replies }
    }

    fn webhook(event: &str) -> DemoEventKind {
        let body = format!(r#"{{"data":{{"event_id":"{event}"}}}}"#).into_bytes();
        DemoEventKind::Webhook(Box::new(WebhookRequest { body, signature: Signature::Valid, ..request() }))
    }

    fn card(service: &'static str) -> DemoEventKind {
        DemoEventKind::Card(service, Box::new(request()))
    }

    fn request() -> WebhookRequest {
        WebhookRequest {
            received_at: Timestamp::from_millis(0),
            method: String::new(),
            path: String::new(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            signature: Signature::NotChecked,
            answered: Some(200),
        }
    }

    const DELIVERED: [&str; 4] = ["delivered"; 4];

    #[test]
    fn a_message_that_neither_arrived_nor_waits_is_lost() {
        let mut tally = Tally::default();
        let verdict = [transition("e-1", "vetting.denied"), transition("e-2", "vetting.submitted")];
        for what in verdict.into_iter().chain([mail("d-1", &["e-1"]), card("Teams"), card("Slack")]) {
            tally.note(&what);
        }
        let lost = |messages: &[DeliveryRow]| tally.summary(&traces(&["e-1"], messages), messages).lost;
        assert_eq!(lost(&messages(DELIVERED)), 1, "the webhook, whatever the daemon believes");
        assert_eq!(lost(&messages(["delivered", "pending", "delivered", "delivered"])), 0);
        assert_eq!(lost(&messages(["delivered", "dead", "delivered", "delivered"])), 0, "it was said to be given up");
        assert_eq!(lost(&messages(DELIVERED)[..3]), 2, "and a card that was never enqueued");
        assert_eq!(tally.summary(&HashMap::new(), &[]).lost, 3, "nothing was enqueued, and only the mail arrived");
        let summary = tally.summary(&traces(&["e-1"], &messages(DELIVERED)), &messages(DELIVERED));
        assert_eq!(summary.denials_delivered, 0, "by mail only");
    }

    #[test]
    fn another_message_at_the_same_endpoint_hides_no_loss() {
        let mut tally = Tally::default();
        tally.note(&transition("e-1", "vetting.approved"));
        let mine = messages(DELIVERED);
        let others = [messages(["pending"; 4]), messages(DELIVERED)].concat();
        for what in [card("Teams"), card("Slack")] {
            tally.note(&what); // of tests
        }
        assert_eq!(tally.summary(&traces(&["e-1"], &mine), &[mine.clone(), others].concat()).lost, 4);
    }

    #[test]
    fn a_message_of_several_events_is_a_message_for_each_of_them() {
        let mut tally = Tally::default();
        for event in ["e-1", "e-2"] {
            tally.note(&transition(event, "vetting.approved"));
            tally.note(&webhook(event));
        }
        let summary = |tally: &Tally, states| {
            let messages = messages(states);
            tally.summary(&traces(&["e-1", "e-2"], &messages), &messages)
        };
        let waits = summary(&tally, ["pending", "delivered", "pending", "pending"]);
        assert_eq!((waits.lost, waits.waiting), (0, 3));
        assert_eq!(summary(&tally, DELIVERED).lost, 4, "two events by mail, and two cards");
        for what in [mail("d-1", &["e-1", "e-2"]), card("Teams"), card("Slack")] {
            tally.note(&what);
        }
        let arrived = summary(&tally, DELIVERED);
        assert_eq!((arrived.lost, arrived.waiting, arrived.approvals_delivered), (0, 0, 2));
    }

    #[test]
    fn what_a_muted_customer_is_not_told_is_not_lost() {
        let mut tally = Tally::default();
        tally.note(&transition("e-1", "vetting.approved"));
        let mut traces = traces(&["e-1"], &[]);
        assert_eq!(tally.summary(&traces, &[]).lost, 4);
        traces.get_mut("e-1").unwrap().muted = true;
        assert_eq!(tally.summary(&traces, &[]).lost, 0);
    }

    #[test]
    fn a_message_that_came_twice_counts_twice() {
        let mut tally = Tally::default();
        for what in [transition("e-1", "vetting.denied"), mail("d-1", &["e-1"]), mail("d-1", &["e-1"])] {
            tally.note(&what);
        }
        let summary = tally.summary(&HashMap::new(), &[]);
        assert_eq!((summary.mails, summary.repeated, summary.under_two_ids), (2, 1, 0));
        tally.note(&mail("d-2", &["e-1"]));
        let summary = tally.summary(&HashMap::new(), &[]);
        assert_eq!((summary.repeated, summary.under_two_ids), (1, 1), "another id");
    }
}
