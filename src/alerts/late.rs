//! Alerts on late work: customers not polled, deliveries not attempted, a customer list that cannot be read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tracing::{error, info};

use super::{Alert, Alerter, event};
use crate::attention::look::{self, Lateness};
use crate::attention::{Late, Reason};
use crate::delivery::message::time_format;
use crate::event::EventType;
use crate::store::{self, PartnerRow, attention::Raised};
use crate::time::Timestamp;

/// Lateness that returns sooner than this was not over.
const OVER_FOR: Duration = Duration::from_mins(1);

impl Alerter {
    pub(super) async fn check_late(&self, now: Timestamp) -> Result<usize, store::Error> {
        let Lateness { late, failing } = look::late(&self.store, &self.scope, now).await?;
        self.late.store(late.iter().any(|late| !is_of_copies(late.reason)), Ordering::Relaxed);
        let mut raised = self.store.raised().await?;
        // What was sent past the outbox is in no table, but its end is reported as well.
        let mut sent = self.outside.raised();
        sent.retain(|sent| !raised.iter().any(|known| known.is_same(sent)));
        raised.append(&mut sent);
        let (mut queued, mut failed) = (0, None);
        for late in &late {
            let result = match raised.iter().find(|raised| raised.is(late)) {
                None => self.raise(late, now).await,
                // Sent past the outbox only: recorded once the database can be written to.
                Some(raised) if self.outside.holds(raised) => self.raise(late, now).await,
                Some(raised) if raised.over_since.is_some() => self.looks_over(raised, None).await.map(|()| 0),
                Some(_) => Ok(0),
            };
            // A failed one was sent past the outbox; continue with the others.
            match result {
                Ok(count) => queued += count,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        for raised in raised.iter().filter(|raised| !late.iter().any(|late| raised.is(late))) {
            // Unknown whether its customers would be polled in time.
            if raised.reason == Reason::PollingLate && failing.contains(&raised.about) {
                continue;
            }
            match raised.over_since {
                // A time in the future: the clock was set back.
                Some(since) if since <= now && now.since(since) < OVER_FOR => {}
                Some(since) if since <= now => queued += self.is_over(raised, now).await?,
                _ if self.outside.looks_over(raised, now) => {}
                _ => self.looks_over(raised, Some(now)).await?,
            }
        }
        Ok(queued)
    }

    /// Checked first: after damage the other checks may be unable to read the database.
    pub(super) async fn check_damage(&self, now: Timestamp) -> Result<usize, store::Error> {
        let Some(late) = self.store.damage_found_at().map(look::damaged) else { return Ok(0) };
        let raised = self.store.raised().await.unwrap_or_default();
        if raised.iter().any(|raised| raised.is(&late)) { Ok(0) } else { self.raise(&late, now).await }
    }

    async fn raise(&self, late: &Late, now: Timestamp) -> Result<usize, store::Error> {
        let (Some(partner), Some(kind)) = (self.partner_of(&late.about), late.reason.event()) else { return Ok(0) };
        let [what, _, remedy] = late.reason.words();
        let alert = Alert {
            summary: late.summary(now, self.routes.zone),
            detail: format!(
                "What it means: {what}. What helps: {remedy}.{} `vetwatch status` shows how it stands.",
                match late.reason {
                    Reason::DatabaseDamaged => "",
                    reason if is_of_copies(reason) => "",
                    _ => " No verdict is lost by that, but it is told late.",
                }
            ),
            figures: figures(late.reason, &late.about, Some(late.since)),
            exclude_endpoint: (late.reason == Reason::DeliveryLate).then_some(&*late.about),
            of_vetwatch: is_of_vetwatch(late.reason),
            ..Alert::new(kind, partner)
        };
        // Checked every 20 seconds, logged once.
        if !self.outside.has_sent(&alert) {
            if late.reason == Reason::DeliveryLate {
                error!(endpoint = late.about, "{}", alert.summary);
            } else {
                error!(partner = partner.name, "{}", alert.summary);
            }
        }
        // What is damaged may be the outbox: its messages could be queued and never sent.
        if late.reason == Reason::DatabaseDamaged {
            self.outside.send(&alert, &event(&alert, now), &self.routes, now).await;
        }
        let mark = async |tx: &mut store::WriteTx| tx.raise(late.reason, &late.about, now).await;
        let queued = self.announce(alert, now, mark).await?;
        self.outside.is_over(late.reason, &late.about);
        Ok(queued)
    }

    async fn is_over(&self, raised: &Raised, now: Timestamp) -> Result<usize, store::Error> {
        let about = &raised.about;
        let Some(partner) = self.partner_of(about) else { return Ok(0) };
        let (kind, summary) = match raised.reason {
            Reason::CannotWrite => (EventType::PollingRecovered, "The database can be written to again".to_owned()),
            Reason::DatabaseDamaged => (
                EventType::PollingRecovered,
                "vetwatch was started anew, and has met no damage of the database since".to_owned(),
            ),
            Reason::BackupFailed if self.scope.backup.is_none() => {
                (EventType::BackupRecovered, "No backups are configured any more".to_owned())
            }
            Reason::BackupFailed => (EventType::BackupRecovered, "A backup was made again".to_owned()),
            Reason::ReplicaLate => (EventType::StandbyRecovered, "The replica has everything again".to_owned()),
            Reason::NoStandby => (EventType::StandbyRecovered, "Another host can take over again".to_owned()),
            Reason::CustomerListFailing => {
                (EventType::PartnerRecovered, format!("The customer list of {about} can be read again"))
            }
            Reason::DeliveryLate => {
                (EventType::PollingRecovered, format!("Messages to {about} are tried in time again"))
            }
            _ => (EventType::PollingRecovered, format!("Customers of {about} are polled in time again")),
        };
        if raised.reason == Reason::DeliveryLate {
            info!(endpoint = about, "{summary}");
        } else {
            info!(partner = partner.name, "{summary}");
        }
        let alert = Alert {
            summary,
            detail: format!(
                "It was told {} ago that {}.",
                time_format::length(now.since(raised.reported_at)),
                match raised.reason {
                    Reason::BackupFailed => "they fail",
                    Reason::ReplicaLate => "it does not",
                    Reason::NoStandby => "none can",
                    _ => "they were not",
                }
            ),
            figures: figures(raised.reason, about, None),
            of_vetwatch: is_of_vetwatch(raised.reason),
            ..Alert::new(kind, partner)
        };
        let was_outside = self.outside.holds(raised);
        let mark = async |tx: &mut store::WriteTx| Ok(tx.clear(raised.reason, about).await? || was_outside);
        let queued = self.announce(alert, now, mark).await?;
        self.outside.is_over(raised.reason, about);
        Ok(queued)
    }

    async fn looks_over(&self, raised: &Raised, since: Option<Timestamp>) -> Result<(), store::Error> {
        let mut tx = self.store.begin().await?;
        tx.set_over_since(raised.reason, &raised.about, since).await?;
        tx.commit().await
    }

    /// The partner of this name. The first one for an endpoint, as an alert needs a partner.
    fn partner_of(&self, about: &str) -> Option<&PartnerRow> {
        self.partners.iter().find(|partner| partner.name == about).or(self.partners.first())
    }
}

impl Raised {
    fn is(&self, late: &Late) -> bool {
        self.reason == late.reason && self.about == late.about
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.reason == other.reason && self.about == other.about
    }
}

/// Whether it is about copies of the data: without one vetwatch sees and tells all the same.
fn is_of_copies(reason: Reason) -> bool {
    matches!(reason, Reason::BackupFailed | Reason::ReplicaLate | Reason::NoStandby)
}

/// Whether it is about an endpoint or the database, and no partner.
fn is_of_vetwatch(reason: Reason) -> bool {
    !matches!(reason, Reason::PollingLate | Reason::CustomerListFailing)
}

fn figures(reason: Reason, about: &str, since: Option<Timestamp>) -> Value {
    let mut figures = Map::new();
    figures.insert("reason".to_owned(), json!(reason));
    figures.extend(since.map(|_| ("about".to_owned(), json!(about))));
    if reason == Reason::DeliveryLate {
        figures.insert("endpoint".to_owned(), json!(about));
    }
    figures.extend(since.map(|since| ("since".to_owned(), json!(since))));
    Value::Object(figures)
}
