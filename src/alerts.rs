//! Alerts for the operators: a partner or an endpoint fails, a delivery is dead, and the end of it. Also reminders of long
//! reviews. Each is sent once, also over a crash: the transaction that enqueues the message marks it as reported.
//!
//! Everything is derived from what the poller and the dispatchers record in the database.

mod credentials;
pub mod departed_customers;
pub mod initial_sync;
pub mod unknown_statuses;
mod customers;
mod endpoints;
mod fallbacks;
mod late;
mod leader;
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
use crate::standby::Leadership;
use crate::store::{self, PartnerRow, Store, WriteTx};
use crate::time::{Clock, Timestamp};

pub use outside::Outside;

const CHECK_EVERY: Duration = Duration::from_secs(20);
/// How long after the clock was set alerts that depend on the date alone are held back: it may be set right again.
const CLOCK_DOUBT: Duration = Duration::from_hours(1);

pub struct Alerter {
    pub partners: Vec<PartnerRow>,
    /// By partner, in the order of `partners`.
    pub credentials: Vec<Vec<Credential>>,
    /// Mail servers with an OAuth login: the host, and when its credential expires.
    pub mail_servers: Vec<(String, Expiry)>,
    pub credentials_checked_at: AtomicI64,
    /// The endpoints of the configuration.
    pub endpoints: Vec<String>,
    /// What [`look::late`](crate::attention::look::late) checks.
    pub scope: Scope,
    /// True while work is late; stops the heartbeat.
    pub late: Arc<AtomicBool>,
    /// For alerts that cannot be enqueued.
    pub outside: Outside,
    /// By mail endpoint: its configured recipients, in lower case.
    pub recipients: BTreeMap<String, BTreeSet<String>>,
    pub routes: Arc<Routes>,
    pub reminders: Arc<Reminders>,
    pub in_review: Duration,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub clock_watch: Arc<ClockWatch>,
    /// With `[standby]`.
    pub leadership: Option<Arc<Leadership>>,
    /// Poked after a commit that queued something.
    pub outbox: Vec<Arc<Notify>>,
}

#[derive(Debug, Clone)]
pub struct Alert<'a> {
    pub kind: EventType,
    pub partner: &'a PartnerRow,
    pub summary: String,
    pub detail: String,
    pub figures: Value,
    /// The endpoint that the alert is about; it is sent to others.
    pub exclude_endpoint: Option<&'a str>,
    /// Sent only once under this key.
    pub key: Option<String>,
    /// It is about vetwatch itself, and the message names no partner. The stored event needs one all the same.
    pub of_vetwatch: bool,
}

impl<'a> Alert<'a> {
    /// Without texts and figures; sent to every endpoint of the operators, however often.
    #[must_use]
    pub fn new(kind: EventType, partner: &'a PartnerRow) -> Self {
        let (summary, detail) = (String::new(), String::new());
        Self {
            kind,
            partner,
            summary,
            detail,
            figures: Value::Null,
            exclude_endpoint: None,
            key: None,
            of_vetwatch: false,
        }
    }

    /// As [`Self::new`], about vetwatch itself: an endpoint, the database.
    #[must_use]
    pub fn of_vetwatch(kind: EventType, partner: &'a PartnerRow) -> Self {
        Self { of_vetwatch: true, ..Self::new(kind, partner) }
    }
}

impl Alerter {
    /// Enqueues the alerts that are due.
    pub async fn round(&self) -> Result<Option<Timestamp>, store::Error> {
        let now = self.clock.now();
        let (mut queued, mut failed) = (0, None);
        // A failed check does not prevent the others.
        let mut check = |what: &str, result: Result<usize, store::Error>| match result {
            Ok(count) => queued += count,
            Err(error) => failed = failed.take().or(Some(error.while_doing(what))),
        };
        // Durations below count only the time in which vetwatch ran.
        check("tell that the database is damaged", self.check_damage(now).await);
        check("note that vetwatch runs", self.store.tick(now).await.map(|()| 0));
        let followed = self.store.follow_clock(&self.clock_watch, &*self.clock).await;
        check("note that the clock was set", followed.map(|()| 0));
        let clock_set_at = self.store.clock_set_at().await?;
        let trusts_clock = clock_set_at.is_none_or(|at| at > now || now.since(at) >= CLOCK_DOUBT);
        for partner in &self.partners {
            check("see whether a partner can be read", self.check_partner(partner, now).await);
            check("see whether customers can be read", self.check_customers(partner, now).await);
            if trusts_clock {
                check("remind of long reviews", self.check_reviews(partner, now).await);
            }
        }
        check("see whether endpoints deliver", self.check_endpoints(now).await);
        check("see which recipients refused a message", self.check_recipients(now).await);
        check("tell that another host leads", self.check_leader(now).await);
        check("see whether work is late", self.check_late(now).await);
        check("pass messages on to a fallback", self.check_fallbacks(now).await);
        check("see what waits for endpoints that are not configured", self.check_gone_endpoints(now).await);
        if trusts_clock {
            check("see when credentials end", self.check_credentials(now).await);
        }
        if queued > 0 {
            for dispatcher in &self.outbox {
                dispatcher.notify_one();
            }
        }
        failed.map_or(Ok(Some(now.after(CHECK_EVERY))), Err)
    }

    /// Enqueues an alert in one transaction with `mark`, which marks it as reported, or returns false if it was. One that
    /// cannot be enqueued is sent past the outbox, and retried in the next round.
    async fn announce(
        &self,
        alert: Alert<'_>,
        now: Timestamp,
        mark: impl AsyncFnOnce(&mut WriteTx) -> Result<bool, store::Error>,
    ) -> Result<usize, store::Error> {
        let queued = async {
            let mut tx = self.store.begin().await?;
            let mut queued = 0;
            if mark(&mut tx).await? && !self.outside.has_sent(&alert) {
                queued = enqueue(&mut tx, &self.routes, alert.clone(), now).await?;
            }
            tx.commit().await?;
            Ok(queued)
        };
        match queued.await {
            Ok(queued) => {
                self.outside.forget(&alert);
                Ok(queued)
            }
            Err(error) => {
                let error: store::Error = error;
                if !error.is_data_error() {
                    self.outside.send(&alert, &event(&alert, now), &self.routes, now).await;
                }
                Err(error)
            }
        }
    }
}

/// Enqueues an alert. Returns the number of deliveries.
pub async fn enqueue(
    tx: &mut WriteTx,
    routes: &Routes,
    alert: Alert<'_>,
    now: Timestamp,
) -> Result<usize, store::Error> {
    let event = event(&alert, now);
    tx.insert_event(&event, alert.partner.id, None, None).await?;
    if let Some(key) = &alert.key {
        tx.set_dedup_key(&event, key).await?;
    }
    delivery::enqueue(tx, routes, &event, "", alert.exclude_endpoint, now).await
}

fn event(alert: &Alert<'_>, now: Timestamp) -> Event {
    let figures = if let Value::Object(figures) = &alert.figures { figures.clone() } else { Map::new() };
    let notice = OperationalNotice { summary: alert.summary.clone(), detail: alert.detail.clone(), figures };
    let partner = (!alert.of_vetwatch).then_some(&*alert.partner.name);
    Event::new(alert.kind, partner, EventPayload::Monitor(notice), now, now)
}

impl std::fmt::Debug for Alerter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alerter").field("partners", &self.partners).finish_non_exhaustive()
    }
}
