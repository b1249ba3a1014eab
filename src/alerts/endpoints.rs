//! An endpoint that delivers nothing, and messages that were given up: told over another one.

use std::time::Duration;

use serde_json::json;
use tracing::error;

use super::{Alarm, Alarms};
use crate::attention::Reason;
use crate::delivery::message::time_format;
use crate::event::EventType;
use crate::store::alerts::{DeadLetters, EndpointHealth};
use crate::store::{self, PartnerRow, Unreadable};
use crate::time::Timestamp;

/// What is given up together is told together.
const GROUP_FOR: Duration = Duration::from_mins(1);
/// Between two messages about given-up ones of one endpoint.
const MIN_INTERVAL: Duration = Duration::from_mins(10);

impl Alarms {
    pub(super) async fn watch_endpoints(&self, now: Timestamp) -> Result<usize, store::Error> {
        // Of which partner such a message is does not matter; it must be of one.
        let Some(partner) = self.partners.first() else { return Ok(0) };
        let mut queued = 0;
        for sight in self.store.endpoint_health(now).await? {
            queued += self.watch_endpoint(partner, &sight, now).await?;
            queued += self.watch_dead_letters(partner, &sight, now).await?;
            queued += self.watch_lone_waits(partner, &sight, now).await?;
        }
        Ok(queued + self.watch_unreadable(partner, now).await?)
    }

    /// Messages that wait because of what is stored of them. The endpoint is not to blame, so it is told there as well.
    async fn watch_unreadable(&self, partner: &PartnerRow, now: Timestamp) -> Result<usize, store::Error> {
        let mut queued = 0;
        for unreadable in self.store.unreadable_deliveries().await? {
            if unreadable.reported_at.is_some_and(|told| now.since(told) < MIN_INTERVAL && told <= now) {
                continue;
            }
            let mark = async |tx: &mut store::WriteTx| {
                tx.mark_unreadable_reported(&unreadable.endpoint, now).await?;
                Ok(true)
            };
            queued += self.announce(waits_unread(partner, &unreadable), now, mark).await?;
        }
        Ok(queued)
    }

    async fn watch_endpoint(
        &self,
        partner: &PartnerRow,
        sight: &EndpointHealth,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let is_configured = self.endpoints.contains(&sight.name);
        let long_closed = !sight.is_idle
            && sight.failing_since().is_some_and(|since| now.since(since) >= Reason::EndpointFailing.after());
        let fails = is_configured && (long_closed || sight.paused_at.is_some());
        let works = sight.failing_since().is_none() && sight.paused_at.is_none();
        let (failing_at, alarm) = match sight.failing_reported_at {
            None if fails => (Some(now), failing(partner, sight, now)),
            Some(told) if works || !is_configured => (None, recovered(partner, sight, told, now)),
            _ => return Ok(0),
        };
        error_if(failing_at.is_some(), &alarm.summary);
        let mark = async |tx: &mut store::WriteTx| {
            tx.set_endpoint_reported(&sight.name, failing_at).await?;
            Ok(failing_at.is_some() || is_configured) // else it left the configuration: nothing to hear of
        };
        self.announce(alarm, now, mark).await
    }

    async fn watch_dead_letters(
        &self,
        partner: &PartnerRow,
        sight: &EndpointHealth,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let Some(dead) = self.store.unreported_dead(&sight.name).await? else { return Ok(0) };
        // It ended later than now: the clock was set back.
        let gathered = dead.first_at > now || now.since(dead.first_at) >= GROUP_FOR;
        if !gathered || was_told_lately(sight, now) {
            return Ok(0);
        }
        // They are counted anew in the transaction that marks them: others may have been given up meanwhile.
        let mark = async |tx: &mut store::WriteTx| Ok(tx.take_dead(&sight.name, now).await?.is_some());
        self.announce(given_up(partner, sight, &dead), now, mark).await
    }
}

/// Of messages to this endpoint.
pub(super) fn was_told_lately(sight: &EndpointHealth, now: Timestamp) -> bool {
    sight.dead_reported_at.is_some_and(|told| told <= now && now.since(told) < MIN_INTERVAL)
}

fn error_if(failing: bool, summary: &str) {
    if failing {
        error!("{summary}");
    }
}

fn failing<'a>(partner: &'a PartnerRow, sight: &'a EndpointHealth, now: Timestamp) -> Alarm<'a> {
    let why = sight.last_error.as_deref().unwrap_or("it gave no reason");
    let (since, advice) = match (sight.paused_at, sight.failing_since()) {
        (Some(paused), _) => (
            paused,
            format!(
                "It says that it is gone for good. Nothing is sent to it until its configuration changes, or `vetwatch \
                 deliveries redrive --endpoint {}`.",
                sight.name
            ),
        ),
        (None, closed) => (
            closed.unwrap_or(now),
            "Nothing is lost: what waits is tried again, at least every five minutes, and sent once it works."
                .to_owned(),
        ),
    };
    Alarm {
        kind: EventType::EndpointFailing,
        partner,
        summary: format!("The endpoint {} has not delivered since {}", sight.name, time_format::moment(since)),
        detail: format!("{why}. {} waiting for it. {advice}", messages(sight.pending)),
        figures: json!({ "endpoint": sight.name, "waiting": sight.pending, "since": since }),
        exclude_endpoint: Some(&sight.name),
        once: None,
    }
}

fn recovered<'a>(partner: &'a PartnerRow, sight: &'a EndpointHealth, told: Timestamp, now: Timestamp) -> Alarm<'a> {
    Alarm {
        kind: EventType::EndpointRecovered,
        partner,
        summary: format!("The endpoint {} delivers again", sight.name),
        detail: format!(
            "What waited for it is sent now. It was told to be failing {} ago.",
            time_format::length(now.since(told))
        ),
        figures: json!({ "endpoint": sight.name }),
        exclude_endpoint: None,
        once: None,
    }
}

fn given_up<'a>(partner: &'a PartnerRow, sight: &'a EndpointHealth, dead: &DeadLetters) -> Alarm<'a> {
    let why = dead.last_error.as_deref().unwrap_or("no answer");
    let name = &sight.name;
    let (what, redrive) = match dead.count {
        1 => ("A message".to_owned(), format!("`vetwatch deliveries redrive {}`", dead.id)),
        n => (format!("{n} messages"), format!("`vetwatch deliveries redrive --endpoint {name}`")),
    };
    let lost = if dead.monitor_only { "It told of vetwatch itself" } else { "Whoever reads there does not know of it" };
    Alarm {
        kind: EventType::DeadLetter,
        partner,
        summary: format!("{what} to {name} {} given up", if dead.count == 1 { "was" } else { "were" }),
        detail: format!(
            "The last answer: {why}. {lost}. Correct the endpoint, then send again with {redrive}. `vetwatch deliveries \
             list --state dead` shows what it is; with `--to ENDPOINT` another endpoint is told instead."
        ),
        figures: json!({ "endpoint": name, "messages": dead.count }),
        exclude_endpoint: Some(name),
        once: None,
    }
}

fn waits_unread<'a>(partner: &'a PartnerRow, unreadable: &Unreadable) -> Alarm<'a> {
    let Unreadable { endpoint, count, id, error, .. } = unreadable;
    let what = if *count == 1 { "A message".to_owned() } else { format!("{count} messages") };
    Alarm {
        kind: EventType::DeadLetter,
        partner,
        summary: format!("{what} to {endpoint} cannot be sent: what is stored cannot be read"),
        detail: format!(
            "{error}. Nothing is lost or left out: it waits, and is tried again every ten minutes. The database was damaged, \
             or changed by another program: mend the row, or put a backup back. `vetwatch deliveries show {id}` shows what \
             there is of it; `vetwatch deliveries redrive {id}` tries it at once."
        ),
        figures: json!({ "endpoint": endpoint, "messages": count }),
        exclude_endpoint: None,
        once: None,
    }
}

pub(super) fn messages(count: i64) -> String {
    match count {
        1 => "1 message is".to_owned(),
        n => format!("{n} messages are"),
    }
}
