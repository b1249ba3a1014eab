//! Observes the daemon from outside: its database, as any other program reads it, and what arrives at the simulated
//! peers.

use std::collections::HashSet;
use std::time::Duration;

use super::environment::Stage;
use crate::cli::mime::DecodedMail;
use crate::cli::time_args::instant;
use crate::sandbox::webhook_receiver::WebhookRequest;
use crate::store;
use crate::store::reports::{DeliveryFilter, DeliveryRow, TransitionFilter, TransitionRow};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct DemoEvent {
    pub(super) at: Timestamp,
    pub(super) what: DemoEventKind,
}

#[derive(Debug)]
pub(super) enum DemoEventKind {
    /// In the simulated Partner Center.
    Partner(String),
    MailServer(String),
    /// An action of vetwatch that leaves no row.
    Vetwatch(String),
    Transition(Box<TransitionRow>),
    /// A message that could not be delivered yet; once per message.
    Waits(Box<DeliveryRow>),
    /// The mail, its number of attempts, and its age.
    Mail(DecodedMail, i64, Duration),
    Webhook(Box<WebhookRequest>),
}

/// How far back transitions are read: a commit may come later than its response.
const LOOK_BACK: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Watch {
    since: Timestamp,
    transition: i64,
    mails: usize,
    hooks: usize,
    waiting: HashSet<String>,
}

impl Watch {
    pub(super) fn from(now: Timestamp) -> Self {
        Self { since: now, transition: 0, mails: 0, hooks: 0, waiting: HashSet::new() }
    }

    /// Returns new events, oldest first.
    pub(super) async fn poll(&mut self, stage: &Stage, now: Timestamp) -> Result<Vec<DemoEvent>, store::Error> {
        // Deliveries are read before transitions, so that no message is seen before its transition.
        let mut events: Vec<_> = self.webhooks(stage).collect();
        for mail in stage.mail.mails().into_iter().skip(self.mails).take_while(|mail| mail.acknowledged) {
            self.mails += 1;
            let decoded = DecodedMail::read(&mail.text());
            let filter = DeliveryFilter { id: Some(&decoded.id), ..DeliveryFilter::default() };
            let row = stage.store.deliveries(filter).await?.pop();
            let queued = row.as_ref().and_then(|row| instant(&row.created_at)).unwrap_or(mail.received_at);
            let waited = mail.received_at.since(queued);
            let attempts = row.map_or(1, |row| row.attempts);
            events.push(DemoEvent { at: mail.received_at, what: DemoEventKind::Mail(decoded, attempts, waited) });
        }
        for row in self.pending(stage).await? {
            if row.last_error.is_some() && self.waiting.insert(row.delivery_id.clone()) {
                events.push(DemoEvent { at: now, what: DemoEventKind::Waits(Box::new(row)) });
            }
        }
        let filter = TransitionFilter { since: Some(self.since.before(LOOK_BACK)), ..TransitionFilter::default() };
        let rows = stage.store.transitions(filter).await?;
        for row in rows.into_iter().rev().filter(|row| row.transition_id > self.transition).collect::<Vec<_>>() {
            let at = instant(&row.observed_at).unwrap_or(now);
            (self.transition, self.since) = (self.transition.max(row.transition_id), self.since.max(at));
            events.push(DemoEvent { at, what: DemoEventKind::Transition(Box::new(row)) });
        }
        events.sort_by_key(|event| event.at);
        Ok(events)
    }

    fn webhooks(&mut self, stage: &Stage) -> impl Iterator<Item = DemoEvent> + use<> {
        let answered = stage.hook.hooks().into_iter().skip(self.hooks).take_while(|hook| hook.answered.is_some());
        let events: Vec<_> = answered.collect();
        self.hooks += events.len();
        events.into_iter().map(|hook| DemoEvent { at: hook.received_at, what: DemoEventKind::Webhook(Box::new(hook)) })
    }

    /// Messages that are still pending.
    pub(super) async fn pending(&self, stage: &Stage) -> Result<Vec<DeliveryRow>, store::Error> {
        stage.store.deliveries(DeliveryFilter { state: Some("pending"), ..DeliveryFilter::default() }).await
    }
}
