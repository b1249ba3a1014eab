//! Alerts on failing endpoints and dead deliveries, sent over another endpoint.

use std::time::Duration;

use chrono_tz::Tz;
use serde_json::json;
use tracing::error;

use super::{Alert, Alerter};
use crate::attention::Reason;
use crate::delivery::message::time_format;
use crate::event::EventType;
use crate::store::alerts::{DeadLetters, EndpointHealth};
use crate::store::{self, PartnerRow, Unreadable};
use crate::time::Timestamp;

/// Waits for more dead deliveries after the first.
const GROUP_FOR: Duration = Duration::from_mins(1);
/// Between two messages about the dead deliveries of one endpoint.
const MIN_INTERVAL: Duration = Duration::from_mins(10);

impl Alerter {
    pub(super) async fn check_endpoints(&self, now: Timestamp) -> Result<usize, store::Error> {
        // An alert needs a partner; any will do.
        let Some(partner) = self.partners.first() else { return Ok(0) };
        let mut queued = 0;
        for health in self.store.endpoint_health(now).await? {
            queued += self.check_endpoint(partner, &health, now).await?;
            queued += self.check_dead_letters(partner, &health, now).await?;
            queued += self.check_lone_waits(partner, &health, now).await?;
        }
        Ok(queued + self.check_unreadable(partner, now).await?)
    }

    /// Deliveries whose row cannot be read. The endpoint is not at fault, so the alert goes there as well.
    async fn check_unreadable(&self, partner: &PartnerRow, now: Timestamp) -> Result<usize, store::Error> {
        let mut queued = 0;
        for unreadable in self.store.unreadable_deliveries().await? {
            if unreadable.reported_at.is_some_and(|at| now.since(at) < MIN_INTERVAL && at <= now) {
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

    async fn check_endpoint(
        &self,
        partner: &PartnerRow,
        health: &EndpointHealth,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let is_configured = self.endpoints.contains(&health.name);
        let is_long_failing = !health.is_idle()
            && health.failing_since().is_some_and(|since| now.since(since) >= Reason::EndpointFailing.after());
        let fails = is_configured && (is_long_failing || health.paused_at.is_some());
        let works = health.failing_since().is_none() && health.paused_at.is_none();
        let (failing_at, alert) = match health.failing_reported_at {
            None if fails => (Some(now), failing(partner, health, now, self.routes.zone)),
            Some(reported_at) if works || !is_configured => (None, recovered(partner, health, reported_at, now)),
            _ => return Ok(0),
        };
        if failing_at.is_some() {
            error!(endpoint = health.name, "{}", alert.summary);
        }
        let mark = async |tx: &mut store::WriteTx| {
            tx.set_endpoint_reported(&health.name, failing_at).await?;
            Ok(failing_at.is_some() || is_configured) // else it left the configuration
        };
        self.announce(alert, now, mark).await
    }

    async fn check_dead_letters(
        &self,
        partner: &PartnerRow,
        health: &EndpointHealth,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let Some(dead) = self.store.unreported_dead(&health.name).await? else { return Ok(0) };
        // Dead since a later time: the clock was set back.
        let gathered = dead.first_at > now || now.since(dead.first_at) >= GROUP_FOR;
        if !gathered || was_reported_recently(health, now) {
            return Ok(0);
        }
        // Counted again in the transaction that marks them: more may have died meanwhile.
        let mark = async |tx: &mut store::WriteTx| Ok(tx.take_dead(&health.name, now).await?.is_some());
        self.announce(given_up(partner, health, &dead), now, mark).await
    }
}

/// True if dead deliveries of this endpoint were reported within [`MIN_INTERVAL`].
pub(super) fn was_reported_recently(health: &EndpointHealth, now: Timestamp) -> bool {
    health.dead_reported_at.is_some_and(|at| at <= now && now.since(at) < MIN_INTERVAL)
}

fn failing<'a>(partner: &'a PartnerRow, health: &'a EndpointHealth, now: Timestamp, zone: Tz) -> Alert<'a> {
    let why = health.last_error.as_deref().unwrap_or("it gave no reason");
    let (since, advice) = match (health.paused_at, health.failing_since()) {
        (Some(paused), _) => (
            paused,
            format!(
                "It says that it is gone for good. Nothing is sent to it until its configuration changes, or `vetwatch \
                 deliveries redrive --endpoint {}`.",
                health.name
            ),
        ),
        (None, closed) => (
            closed.unwrap_or(now),
            "Nothing is lost: what waits is tried again, at least every five minutes, and sent once it works."
                .to_owned(),
        ),
    };
    Alert {
        summary: format!("The endpoint {} has not delivered since {}", health.name, time_format::with_utc(since, zone)),
        detail: format!("{why}. {} waiting for it. {advice}", messages(health.pending)),
        figures: json!({ "endpoint": health.name, "waiting": health.pending, "since": since }),
        exclude_endpoint: Some(&health.name),
        ..Alert::of_vetwatch(EventType::EndpointFailing, partner)
    }
}

fn recovered<'a>(partner: &'a PartnerRow, health: &'a EndpointHealth, at: Timestamp, now: Timestamp) -> Alert<'a> {
    Alert {
        summary: format!("The endpoint {} delivers again", health.name),
        detail: format!(
            "What waited for it is sent now. It was told to be failing {} ago.",
            time_format::length(now.since(at))
        ),
        figures: json!({ "endpoint": health.name }),
        ..Alert::of_vetwatch(EventType::EndpointRecovered, partner)
    }
}

fn given_up<'a>(partner: &'a PartnerRow, health: &'a EndpointHealth, dead: &DeadLetters) -> Alert<'a> {
    let why = dead.last_error.as_deref().unwrap_or("no answer");
    let name = &health.name;
    let (what, redrive) = match dead.count {
        1 => ("A message".to_owned(), format!("`vetwatch deliveries redrive {}`", dead.id)),
        n => (format!("{n} messages"), format!("`vetwatch deliveries redrive --endpoint {name}`")),
    };
    let lost = if dead.monitor_only { "It told of vetwatch itself" } else { "Its readers do not know of it" };
    Alert {
        summary: format!("{what} to {name} {} given up", if dead.count == 1 { "was" } else { "were" }),
        detail: format!(
            "The last answer: {why}. {lost}. Correct the endpoint, then send again with {redrive}. `vetwatch deliveries \
             list --state dead` shows what it is; with `--to ENDPOINT` another endpoint is told instead."
        ),
        figures: json!({ "endpoint": name, "messages": dead.count }),
        exclude_endpoint: Some(name),
        ..Alert::of_vetwatch(EventType::DeadLetter, partner)
    }
}

fn waits_unread<'a>(partner: &'a PartnerRow, unreadable: &Unreadable) -> Alert<'a> {
    let Unreadable { endpoint, count, id, error, .. } = unreadable;
    let what = if *count == 1 { "A message".to_owned() } else { format!("{count} messages") };
    Alert {
        summary: format!("{what} to {endpoint} cannot be sent: what is stored cannot be read"),
        detail: format!(
            "{error}. Nothing is lost or left out: it waits, and is tried again every ten minutes. The database was damaged, \
             or changed by another program: mend the row, or put a backup back. `vetwatch deliveries show {id}` shows what \
             there is of it; `vetwatch deliveries redrive {id}` tries it at once."
        ),
        figures: json!({ "endpoint": endpoint, "messages": count }),
        ..Alert::of_vetwatch(EventType::DeadLetter, partner)
    }
}

pub(super) fn messages(count: i64) -> String {
    match count {
        1 => "1 message is".to_owned(),
        n => format!("{n} messages are"),
    }
}
