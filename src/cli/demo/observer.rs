//! Observes the daemon from outside: its database, as any other program reads it, and what arrives at the simulated
//! peers.

use std::collections::HashSet;
use std::time::Duration;

use super::environment::{CHATS, Stage};
use super::inbox::Arrival;
use crate::cli::mime::DecodedMail;
use crate::cli::time_args::instant;
use crate::sandbox::webhook_receiver::{Receiver, WebhookRequest};
use crate::store;
use crate::store::reports::{DeliveryFilter, DeliveryRow, TransitionFilter, TransitionRow};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct DemoEvent {
    pub(super) at: Timestamp,
    pub(super) what: DemoEventKind,
    /// The number under which a page shows what arrived.
    pub(super) number: Option<usize>,
}

#[derive(Debug)]
pub(super) enum DemoEventKind {
    /// In the simulated Partner Center.
    Partner(String),
    MailServer(String),
    /// The daemon's process: killed, started.
    Daemon(String),
    /// An action of vetwatch that leaves no row.
    Vetwatch(String),
    Transition(Box<TransitionRow>),
    /// A message that could not be delivered yet; once per message.
    Waits(Box<DeliveryRow>),
    /// The mail, its number of attempts, and its age.
    Mail(DecodedMail, i64, Duration),
    Webhook(Box<WebhookRequest>),
    /// With the service's name.
    Card(&'static str, Box<WebhookRequest>),
}

/// How far back transitions are read: a commit may come later than its response.
const LOOK_BACK: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Watch {
    since: Timestamp,
    transition: i64,
    mails: usize,
    hooks: usize,
    cards: usize,
    waiting: HashSet<String>,
}

impl Watch {
    pub(super) fn from(now: Timestamp) -> Self {
        Self { since: now, transition: 0, mails: 0, hooks: 0, cards: 0, waiting: HashSet::new() }
    }

    /// Returns new events, oldest first.
    pub(super) async fn poll(&mut self, stage: &Stage, now: Timestamp) -> Result<Vec<DemoEvent>, store::Error> {
        // Deliveries are read before transitions, so that no message is seen before its transition.
        let mut events: Vec<_> = self.posts(stage).collect();
        for mail in stage.mail.mails().into_iter().skip(self.mails).take_while(|mail| mail.acknowledged) {
            self.mails += 1;
            let decoded = DecodedMail::read(&mail.text());
            let filter = DeliveryFilter { id: Some(&decoded.id), ..DeliveryFilter::default() };
            let row = stage.store.deliveries(filter).await?.pop();
            let queued = row.as_ref().and_then(|row| instant(&row.created_at)).unwrap_or(mail.received_at);
            let waited = mail.received_at.since(queued);
            let attempts = row.map_or(1, |row| row.attempts);
            let at = mail.received_at;
            let number = Some(stage.inbox.add(Arrival::Mail { mail, decoded: decoded.clone() }));
            events.push(DemoEvent { at, what: DemoEventKind::Mail(decoded, attempts, waited), number });
        }
        for row in stage.pending().await? {
            if row.last_error.is_some() && self.waiting.insert(row.delivery_id.clone()) {
                events.push(DemoEvent { at: now, what: DemoEventKind::Waits(Box::new(row)), number: None });
            }
        }
        let filter = TransitionFilter { since: Some(self.since.before(LOOK_BACK)), ..TransitionFilter::default() };
        let rows = stage.store.transitions(filter).await?;
        for row in rows.into_iter().rev().filter(|row| row.transition_id > self.transition).collect::<Vec<_>>() {
            let at = instant(&row.observed_at).unwrap_or(now);
            (self.transition, self.since) = (self.transition.max(row.transition_id), self.since.max(at));
            events.push(DemoEvent { at, what: DemoEventKind::Transition(Box::new(row)), number: None });
        }
        events.sort_by_key(|event| event.at);
        Ok(events)
    }

    /// What the receivers of webhooks and cards have answered.
    fn posts(&mut self, stage: &Stage) -> impl Iterator<Item = DemoEvent> + use<> {
        let hooks = answered(&stage.hook, &mut self.hooks).map(|hook| {
            let number = stage.inbox.add(Arrival::Webhook(hook.clone()));
            (hook.received_at, DemoEventKind::Webhook(Box::new(hook)), number)
        });
        let mut posts: Vec<_> = hooks.collect();
        for card in answered(&stage.chat, &mut self.cards) {
            let service = CHATS.iter().find(|(_, _, path)| *path == card.path).map_or("chat", |(_, name, _)| name);
            let number = stage.inbox.add(Arrival::Card(service, card.clone()));
            posts.push((card.received_at, DemoEventKind::Card(service, Box::new(card)), number));
        }
        posts.into_iter().map(|(at, what, number)| DemoEvent { at, what, number: Some(number) })
    }
}

/// The requests after the first `seen`, up to one that is not answered yet; counts them.
fn answered(receiver: &Receiver, seen: &mut usize) -> impl Iterator<Item = WebhookRequest> + use<> {
    let requests = receiver.hooks().into_iter().skip(*seen).take_while(|request| request.answered.is_some());
    let answered: Vec<_> = requests.collect();
    *seen += answered.len();
    answered.into_iter()
}
