//! What the people who run vetwatch must hear of: that it is blind, that an endpoint delivers nothing, that a message
//! was given up; and that it is over. And what only the passing of time makes news: reviews that take long. Each is told once, whatever dies in between: what was told is marked in the
//! transaction that queues the message.
//!
//! Looks at what the poller and the dispatchers have noted in the database, and knows nothing else.

mod credentials;
mod customers;
mod endpoints;
mod fallbacks;
mod overdue;
mod partners;
mod recipients;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::calendar::Reminders;
use crate::delivery::{self, route::Routes};
use crate::event::{Event, EventType, MonitorNews, Subject};
use crate::partner_center::{Credential, Expiry};
use crate::store::{self, PartnerRow, Store, WriteTx};
use crate::time::{Clock, Timestamp};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(20);

pub struct Alarms {
    pub partners: Vec<PartnerRow>,
    /// Of each partner.
    pub credentials: Vec<Vec<Credential>>,
    /// Of each mail server that is logged into with a token: its host, and when the proof for it ends.
    pub mail_servers: Vec<(String, Expiry)>,
    pub looked_at_credentials: AtomicI64,
    /// The endpoints of the configuration.
    pub endpoints: Vec<String>,
    /// Of each endpoint that sends mails: its own recipients' addresses, in lower case.
    pub recipients: BTreeMap<String, BTreeSet<String>>,
    pub routes: Arc<Routes>,
    /// When somebody is reminded of a long review, and how often reviews are looked at.
    pub reminders: Arc<Reminders>,
    pub in_review: Duration,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    /// Poked after a commit that queued something.
    pub outbox: Vec<Arc<Notify>>,
}

/// What is to be told.
#[derive(Debug)]
pub struct Alarm<'a> {
    pub kind: EventType,
    pub partner: &'a PartnerRow,
    pub summary: String,
    pub detail: String,
    pub figures: Value,
    /// The endpoint that this is about: another one tells of it.
    pub not_over: Option<&'a str>,
    /// It is told only once under this name.
    pub once: Option<String>,
}

impl<'a> Alarm<'a> {
    #[must_use]
    pub fn of(kind: EventType, partner: &'a PartnerRow, news: MonitorNews) -> Self {
        let MonitorNews { summary, detail, figures } = news;
        Self { kind, partner, summary, detail, figures: Value::Object(figures), not_over: None, once: None }
    }
}

impl Alarms {
    /// Tells what has not been told yet.
    pub async fn round(&self) -> Result<Option<Timestamp>, store::Error> {
        let now = self.clock.now();
        let mut queued = 0;
        for partner in &self.partners {
            queued += self.watch_partner(partner, now).await?;
            queued += self.watch_customers(partner, now).await?;
            queued += self.watch_reviews(partner, now).await?;
        }
        queued += self.watch_endpoints(now).await?;
        queued += self.watch_recipients(now).await?;
        queued += self.watch_fallbacks(now).await?;
        queued += self.watch_credentials(now).await?;
        if queued > 0 {
            for dispatcher in &self.outbox {
                dispatcher.notify_one();
            }
        }
        Ok(Some(now.after(EVERY)))
    }
}

/// Queues an alarm. Returns for how many endpoints.
pub async fn tell(tx: &mut WriteTx, routes: &Routes, alarm: Alarm<'_>, now: Timestamp) -> Result<usize, store::Error> {
    let Alarm { kind, partner, summary, detail, figures, not_over, once } = alarm;
    let figures = if let Value::Object(figures) = figures { figures } else { Map::new() };
    let news = MonitorNews { summary, detail, figures };
    let event = Event::new(kind, &partner.name, Subject::Monitor(news), now, now);
    tx.insert_event(&event, partner.id, None, None).await?;
    if let Some(once) = &once {
        tx.told_once(&event, once).await?;
    }
    delivery::queue(tx, routes, &event, "", not_over, now).await
}

impl std::fmt::Debug for Alarms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarms").field("partners", &self.partners).finish_non_exhaustive()
    }
}
