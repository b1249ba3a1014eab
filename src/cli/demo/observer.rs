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
use crate::store::reports::{DeliveryRow, TransitionFilter, TransitionRow};
use crate::text::short_duration;
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
    Mail {
        mail: DecodedMail,
        /// The ids of its events: the text of a large digest does not name them.
        events: Vec<String>,
        attempts: i64,
        /// From its creation to its arrival.
        waited: Duration,
    },
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
    /// The end of the last wait that was told.
    gathers_until: Timestamp,
}

impl Watch {
    pub(super) fn from(now: Timestamp) -> Self {
        Self { since: now, transition: 0, mails: 0, hooks: 0, cards: 0, waiting: HashSet::new(), gathers_until: now }
    }

    /// Returns new events, oldest first.
    pub(super) async fn poll(&mut self, stage: &Stage, now: Timestamp) -> Result<Vec<DemoEvent>, store::Error> {
        // Deliveries are read before transitions, so that no message is seen before its transition.
        let mut events: Vec<_> = self.posts(stage).collect();
        for mail in stage.mail.mails().into_iter().skip(self.mails) {
            self.mails += 1;
            let decoded = DecodedMail::read(&mail.text());
            let detail = stage.store.delivery(&decoded.id).await?;
            let (row, told) = detail.map(|it| (it.delivery, it.events_told)).unzip();
            let created = row.as_ref().and_then(|row| instant(&row.created_at)).unwrap_or(mail.received_at);
            let what = DemoEventKind::Mail {
                mail: decoded.clone(),
                events: told.into_iter().flatten().map(|event| event.event_id).collect(),
                attempts: row.map_or(1, |row| row.attempts),
                waited: mail.received_at.since(created),
            };
            let at = mail.received_at;
            let number = Some(stage.inbox.add(Arrival::Mail { mail, decoded }));
            events.push(DemoEvent { at, what, number });
        }
        for row in stage.pending().await? {
            if let Some(text) = self.gathers(&row) {
                events.push(DemoEvent { at: now, what: DemoEventKind::Vetwatch(text), number: None });
            }
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

    /// Tells once for each wait why a message is not sent at once.
    fn gathers(&mut self, row: &DeliveryRow) -> Option<String> {
        let (created, due) = (instant(&row.created_at)?, instant(row.next_attempt_at.as_deref()?)?);
        let wait = due.since(created);
        if row.attempts > 0 || wait == Duration::ZERO || created < self.gathers_until {
            return None;
        }
        self.gathers_until = due;
        let wait = short_duration(wait);
        Some(format!(
            "more than ten verdicts within a minute: mail and chats get those of the next {wait} in one message"
        ))
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
