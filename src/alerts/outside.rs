//! Alarms that cannot be queued: the disk is full, or another program holds the database. They are sent past the outbox,
//! once and as well as it goes: what the outbox guarantees needs a database. Verdicts are never sent this way.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tracing::{error, warn};
use uuid::Uuid;

use super::Alarm;
use crate::attention::Reason;
use crate::delivery::{Channel, OutboundMessage, Outcome, RenderInput};
use crate::event::Event;
use crate::store::attention::Raised;
use crate::time::Timestamp;

/// One attempt at one endpoint.
const DEADLINE: Duration = Duration::from_secs(30);

/// The operators' endpoints, reached without the database.
#[derive(Debug, Default)]
pub struct Outside {
    pub endpoints: Vec<(String, Channel)>,
    /// What was sent and could not be queued since.
    sent: Mutex<BTreeSet<String>>,
    /// Of these, work that is late: its end is to be told.
    raised: Mutex<Vec<Raised>>,
}

impl Outside {
    #[must_use]
    pub fn of(endpoints: Vec<(String, Channel)>) -> Self {
        Self { endpoints, sent: Mutex::default(), raised: Mutex::default() }
    }

    /// Whether this alarm was sent, and not queued since.
    pub(super) fn has_sent(&self, alarm: &Alarm<'_>) -> bool {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).contains(&key(alarm))
    }

    /// This alarm could be queued: the next one of its kind is another one.
    pub(super) fn forget(&self, alarm: &Alarm<'_>) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(alarm));
    }

    /// Work that is late, as the operators heard past the outbox.
    pub(super) fn raised(&self) -> Vec<Raised> {
        self.lock().clone()
    }

    pub(super) fn holds(&self, raised: &Raised) -> bool {
        self.lock().iter().any(|sent| sent.is_same(raised))
    }

    /// Notes that it looks over; false: it was not sent past the outbox.
    pub(super) fn looks_over(&self, raised: &Raised, now: Timestamp) -> bool {
        let mut sent = self.lock();
        let Some(sent) = sent.iter_mut().find(|sent| sent.is_same(raised)) else { return false };
        sent.over_since = Some(now);
        true
    }

    /// Its end is told, or it stands in the table now.
    pub(super) fn is_over(&self, reason: Reason, about: &str) {
        self.lock().retain(|sent| sent.reason != reason || sent.about != about);
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.retain(|key| !(key.contains(reason.as_str()) && key.contains(about)));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Raised>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an alarm to every endpoint of the operators but the one that it is about. If none takes it, it is sent again
    /// at the next look.
    pub(super) async fn send(&self, alarm: &Alarm<'_>, event: &Event, now: Timestamp) {
        if self.has_sent(alarm) {
            return;
        }
        let mut taken = false;
        for (name, channel) in self.endpoints.iter().filter(|(name, _)| Some(name.as_str()) != alarm.exclude_endpoint) {
            let id = Uuid::now_v7();
            let message = channel.render(&RenderInput::new(id, std::slice::from_ref(event)), now);
            let final_replies = std::collections::BTreeMap::new();
            let outgoing = OutboundMessage { id, message: &message, recipient: None, final_replies: &final_replies };
            match tokio::time::timeout(DEADLINE, channel.deliver(outgoing, now)).await {
                Ok(report) if report.outcome == Outcome::Accepted => {
                    taken = true;
                    warn!(
                        endpoint = name,
                        "the alarm could not be queued, and was sent past the outbox: {}", alarm.summary
                    );
                }
                Ok(report) => error!(endpoint = name, "the alarm could neither be queued nor sent: {}", report.detail),
                Err(_) => error!(endpoint = name, "the alarm could neither be queued nor sent: no answer in time"),
            }
        }
        if taken {
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(key(alarm));
            let name = alarm.figures.get("reason").and_then(Value::as_str);
            let late = name.and_then(|name| Reason::ALL.iter().copied().find(|reason| reason.as_str() == name));
            if let (Some(reason), Some(about)) = (late, alarm.figures.get("about").and_then(Value::as_str)) {
                let about = about.to_owned();
                self.lock().push(Raised { reason, about, reported_at: now, over_since: None });
            }
        }
    }
}

/// What an alarm is about, however long that lasts already.
fn key(alarm: &Alarm<'_>) -> String {
    let figure = |name: &str| alarm.figures.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{} {} {} {}", alarm.kind, alarm.partner.name, figure("reason"), figure("endpoint"))
}
