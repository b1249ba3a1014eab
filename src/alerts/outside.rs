//! Alerts that cannot be enqueued, because the disk is full or another program holds the database. They are sent past the
//! outbox, once and on a best-effort basis: its guarantees need the database. Verdicts are never sent this way.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tracing::{error, warn};
use uuid::Uuid;

use super::Alert;
use crate::attention::Reason;
use crate::delivery::route::Routes;
use crate::delivery::{Channel, Outcome};
use crate::event::Event;
use crate::store::attention::Raised;
use crate::store::{ClaimedDelivery, UnrenderedDelivery};
use crate::time::Timestamp;

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// The operators' endpoints, reached without the database.
#[derive(Debug, Default)]
pub struct Outside {
    pub endpoints: Vec<(String, Channel)>,
    /// Keys of alerts sent and not enqueued since.
    sent: Arc<Mutex<BTreeSet<Key>>>,
    /// Of these, late work, whose end is to be reported.
    raised: Arc<Mutex<Vec<Raised>>>,
}

impl Outside {
    /// The same alerts, sent to these endpoints from now on.
    #[must_use]
    pub fn to(&self, endpoints: Vec<(String, Channel)>) -> Self {
        Self { endpoints, sent: self.sent.clone(), raised: self.raised.clone() }
    }

    /// True if this alert was sent and not enqueued since.
    pub(super) fn has_sent(&self, alert: &Alert<'_>) -> bool {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).contains(&key(alert))
    }

    /// Forgets an alert that was enqueued, so that the next of its kind is sent again.
    pub(super) fn forget(&self, alert: &Alert<'_>) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(alert));
    }

    /// Late work that was reported past the outbox.
    pub(super) fn raised(&self) -> Vec<Raised> {
        self.lock().clone()
    }

    pub(super) fn holds(&self, raised: &Raised) -> bool {
        self.lock().iter().any(|sent| sent.is_same(raised))
    }

    /// Notes that lateness seems over; false if it was not sent past the outbox.
    pub(super) fn looks_over(&self, raised: &Raised, now: Timestamp) -> bool {
        let mut sent = self.lock();
        let Some(sent) = sent.iter_mut().find(|sent| sent.is_same(raised)) else { return false };
        sent.over_since = Some(now);
        true
    }

    /// Forgets lateness whose end was reported, or that is in the database now.
    pub(super) fn is_over(&self, reason: Reason, about: &str) {
        self.lock().retain(|sent| sent.reason != reason || sent.about != about);
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.retain(|key| key.reason != reason.as_str() || (key.about != about && !about.is_empty()));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Raised>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an alert to every endpoint of the operators but the one that it is about. If none accepts, the next round
    /// retries.
    pub(super) async fn send(&self, alert: &Alert<'_>, event: &Event, routes: &Routes, now: Timestamp) {
        if self.has_sent(alert) {
            return;
        }
        let mut accepted = false;
        for (name, channel) in self.endpoints.iter().filter(|(name, _)| Some(name.as_str()) != alert.exclude_endpoint) {
            let id = Uuid::now_v7();
            let draft = UnrenderedDelivery::new(id, vec![event.clone()], routes.zone);
            let message = channel.render(&UnrenderedDelivery { public_url: routes.public_url.clone(), ..draft }, now);
            let delivery = ClaimedDelivery::without_row(id, message.message);
            match tokio::time::timeout(ATTEMPT_TIMEOUT, channel.deliver(&delivery, now, None)).await {
                Ok(report) if report.outcome == Outcome::Accepted => {
                    accepted = true;
                    warn!(
                        endpoint = name,
                        "the alert could not be queued, and was sent past the outbox: {}", alert.summary
                    );
                }
                Ok(report) => error!(endpoint = name, "the alert could neither be queued nor sent: {}", report.detail),
                Err(_) => error!(endpoint = name, "the alert could neither be queued nor sent: no answer in time"),
            }
        }
        if accepted {
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(key(alert));
            let name = alert.figures.get("reason").and_then(Value::as_str);
            let late = name.and_then(|name| Reason::ALL.iter().copied().find(|reason| reason.as_str() == name));
            if let (Some(reason), Some(about)) = (late, alert.figures.get("about").and_then(Value::as_str)) {
                let about = about.to_owned();
                self.lock().push(Raised { reason, about, reported_at: now, over_since: None });
            }
        }
    }
}

/// Identifies an alert, independent of how long its cause has lasted.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: &'static str,
    reason: String,
    /// An endpoint, or else a partner; empty for the database.
    about: String,
}

fn key(alert: &Alert<'_>) -> Key {
    let figure = |name: &str| alert.figures.get(name).and_then(Value::as_str);
    Key {
        kind: alert.kind.as_str(),
        reason: figure("reason").unwrap_or_default().to_owned(),
        about: figure("endpoint").or(figure("about")).unwrap_or(&alert.partner.name).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::EventType;
    use crate::store::PartnerId;
    use crate::store::PartnerRow;

    #[test]
    fn the_end_of_one_trouble_forgets_no_other() {
        let partner = |name: &str| PartnerRow {
            id: PartnerId(1),
            name: name.to_owned(),
            watching_since: Timestamp::from_millis(0),
        };
        let (one, other) = (partner("emea"), partner("emea-2"));
        let alert = |partner| Alert {
            kind: EventType::PollingLate,
            partner,
            summary: String::new(),
            detail: String::new(),
            figures: json!({ "reason": Reason::PollingLate.as_str(), "about": partner.name }),
            exclude_endpoint: None,
            key: None,
            of_vetwatch: false,
        };
        let outside = Outside::default();
        for partner in [&one, &other] {
            outside.sent.lock().unwrap().insert(key(&alert(partner)));
        }
        outside.is_over(Reason::PollingLate, "emea");
        assert!(!outside.has_sent(&alert(&one)) && outside.has_sent(&alert(&other)));
    }
}
