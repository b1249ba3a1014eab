//! What the people who run vetwatch must hear of: that it is blind, that an endpoint delivers nothing, that a message
//! was given up; and that it is over. And what only the passing of time makes news: reviews that take long. Each is told once, whatever dies in between: what was told is marked in the
//! transaction that queues the message.
//!
//! Looks at what the poller and the dispatchers have noted in the database, and knows nothing else.

mod credentials;
mod customers;
mod endpoints;
mod fallbacks;
mod late;
mod outside;
mod overdue;
mod partners;
mod recipients;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::attention::look::Scope;
use crate::calendar::Reminders;
use crate::clock_watch::ClockWatch;
use crate::delivery::{self, route::Routes};
use crate::event::{Event, EventPayload, EventType, OperationalNotice};
use crate::partner_center::{Credential, Expiry};
use crate::store::{self, PartnerRow, Store, WriteTx};
use crate::time::{Clock, Timestamp};

pub use outside::Outside;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(20);
/// For so long after the clock was set nobody is told of what the date alone makes news: it may be set right again.
const CLOCK_DOUBT: Duration = Duration::from_hours(1);

pub struct Alarms {
    pub partners: Vec<PartnerRow>,
    /// Of each partner.
    pub credentials: Vec<Vec<Credential>>,
    /// Of each mail server that is logged into with a token: its host, and when the proof for it ends.
    pub mail_servers: Vec<(String, Expiry)>,
    pub looked_at_credentials: AtomicI64,
    /// The endpoints of the configuration.
    pub endpoints: Vec<String>,
    /// What lateness is measured by.
    pub scope: Scope,
    /// Something is late: the heartbeat stays away.
    pub late: Arc<AtomicBool>,
    /// For what cannot be queued.
    pub outside: Outside,
    /// Of each endpoint that sends mails: its own recipients' addresses, in lower case.
    pub recipients: BTreeMap<String, BTreeSet<String>>,
    pub routes: Arc<Routes>,
    /// When somebody is reminded of a long review, and how often reviews are looked at.
    pub reminders: Arc<Reminders>,
    pub in_review: Duration,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub clock_watch: Arc<ClockWatch>,
    /// Poked after a commit that queued something.
    pub outbox: Vec<Arc<Notify>>,
}

/// What is to be told.
#[derive(Debug, Clone)]
pub struct Alarm<'a> {
    pub kind: EventType,
    pub partner: &'a PartnerRow,
    pub summary: String,
    pub detail: String,
    pub figures: Value,
    /// The endpoint that this is about: another one tells of it.
    pub exclude_endpoint: Option<&'a str>,
    /// It is told only once under this name.
    pub once: Option<String>,
}

impl<'a> Alarm<'a> {
    #[must_use]
    pub fn of(kind: EventType, partner: &'a PartnerRow, news: OperationalNotice) -> Self {
        let OperationalNotice { summary, detail, figures } = news;
        Self { kind, partner, summary, detail, figures: Value::Object(figures), exclude_endpoint: None, once: None }
    }
}

impl Alarms {
    /// Tells what has not been told yet.
    pub async fn round(&self) -> Result<Option<Timestamp>, store::Error> {
        let now = self.clock.now();
        let (mut queued, mut failed) = (0, None);
        // What cannot be looked at keeps nobody from hearing of the rest.
        let mut looked = |what: &str, found: Result<usize, store::Error>| match found {
            Ok(count) => queued += count,
            Err(error) => failed = failed.take().or(Some(error.while_doing(what))),
        };
        // What is decided below by how long something lasts counts only the time in which vetwatch ran.
        looked("tell that the database is damaged", self.watch_damage(now).await);
        looked("note that vetwatch runs", self.store.tick(now).await.map(|()| 0));
        let followed = self.store.follow_clock(&self.clock_watch, &*self.clock).await;
        looked("note that the clock was set", followed.map(|()| 0));
        let clock_set_at = self.store.clock_set_at().await?;
        let trusts_clock = clock_set_at.is_none_or(|at| at > now || now.since(at) >= CLOCK_DOUBT);
        for partner in &self.partners {
            looked("see whether a partner can be read", self.watch_partner(partner, now).await);
            looked("see whether customers can be read", self.watch_customers(partner, now).await);
            if trusts_clock {
                looked("remind of long reviews", self.watch_reviews(partner, now).await);
            }
        }
        looked("see whether endpoints deliver", self.watch_endpoints(now).await);
        looked("see which recipients refused a message", self.watch_recipients(now).await);
        looked("see whether work is late", self.watch_late(now).await);
        looked("pass messages on to a fallback", self.watch_fallbacks(now).await);
        looked("see what waits for endpoints that are not configured", self.watch_gone_endpoints(now).await);
        if trusts_clock {
            looked("see when credentials end", self.watch_credentials(now).await);
        }
        if queued > 0 {
            for dispatcher in &self.outbox {
                dispatcher.notify_one();
            }
        }
        failed.map_or(Ok(Some(now.after(EVERY))), Err)
    }

    /// Queues an alarm in one transaction with `mark`, which notes that it is told, or says that it was. An alarm that
    /// cannot be queued is sent past the outbox, and tried again at the next look.
    async fn announce(
        &self,
        alarm: Alarm<'_>,
        now: Timestamp,
        mark: impl AsyncFnOnce(&mut WriteTx) -> Result<bool, store::Error>,
    ) -> Result<usize, store::Error> {
        let queued = async {
            let mut tx = self.store.begin().await?;
            let mut queued = 0;
            if mark(&mut tx).await? && !self.outside.has_sent(&alarm) {
                queued = tell(&mut tx, &self.routes, alarm.clone(), now).await?;
            }
            tx.commit().await?;
            Ok(queued)
        };
        match queued.await {
            Ok(queued) => {
                self.outside.forget(&alarm);
                Ok(queued)
            }
            Err(error) => {
                let error: store::Error = error;
                if !error.is_data_error() {
                    self.outside.send(&alarm, &event(&alarm, now), now).await;
                }
                Err(error)
            }
        }
    }
}

/// Queues an alarm. Returns for how many endpoints.
pub async fn tell(tx: &mut WriteTx, routes: &Routes, alarm: Alarm<'_>, now: Timestamp) -> Result<usize, store::Error> {
    let event = event(&alarm, now);
    tx.insert_event(&event, alarm.partner.id, None, None).await?;
    if let Some(once) = &alarm.once {
        tx.set_dedup_key(&event, once).await?;
    }
    delivery::enqueue(tx, routes, &event, "", alarm.exclude_endpoint, now).await
}

fn event(alarm: &Alarm<'_>, now: Timestamp) -> Event {
    let figures = if let Value::Object(figures) = &alarm.figures { figures.clone() } else { Map::new() };
    let news = OperationalNotice { summary: alarm.summary.clone(), detail: alarm.detail.clone(), figures };
    Event::new(alarm.kind, &alarm.partner.name, EventPayload::Monitor(news), now, now)
}

impl std::fmt::Debug for Alarms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarms").field("partners", &self.partners).finish_non_exhaustive()
    }
}
