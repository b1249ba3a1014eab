//! An endpoint that delivers nothing, and messages that were given up: told over another one.

use std::time::Duration;

use serde_json::json;
use tracing::error;

use super::{Alarm, Alarms, tell};
use crate::delivery::message::when;
use crate::event::EventType;
use crate::store::alarms::{Dead, EndpointSight};
use crate::store::{self, PartnerRow};
use crate::time::Timestamp;

const FAILING_AFTER: Duration = Duration::from_mins(15);
/// What is given up together is told together.
const GATHER: Duration = Duration::from_mins(1);
/// Between two messages about given-up ones of one endpoint.
const PAUSE: Duration = Duration::from_mins(10);

impl Alarms {
    pub(super) async fn watch_endpoints(&self, now: Timestamp) -> Result<usize, store::Error> {
        // Of which partner such a message is does not matter; it must be of one.
        let Some(partner) = self.partners.first() else { return Ok(0) };
        let mut queued = 0;
        for sight in self.store.endpoint_sights(now).await? {
            queued += self.watch_endpoint(partner, &sight, now).await?;
            queued += self.watch_dead_letters(partner, &sight, now).await?;
        }
        Ok(queued)
    }

    async fn watch_endpoint(
        &self,
        partner: &PartnerRow,
        sight: &EndpointSight,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let is_configured = self.endpoints.contains(&sight.name);
        let long_closed =
            !sight.is_idle && sight.failing_since().is_some_and(|since| now.since(since) >= FAILING_AFTER);
        let fails = is_configured && (long_closed || sight.paused_at.is_some());
        let works = sight.failing_since().is_none() && sight.paused_at.is_none();
        let (failing_at, alarm) = match sight.failing_told_at {
            None if fails => (Some(now), failing(partner, sight, now)),
            Some(told) if works || !is_configured => (None, recovered(partner, sight, told, now)),
            _ => return Ok(0),
        };
        let mut tx = self.store.begin().await?;
        tx.endpoint_told(&sight.name, failing_at).await?;
        let queued = if failing_at.is_some() || is_configured {
            error_if(failing_at.is_some(), &alarm.summary);
            tell(&mut tx, &self.routes, alarm, now).await?
        } else {
            0 // it left the configuration: nothing to hear of
        };
        tx.commit().await?;
        Ok(queued)
    }

    async fn watch_dead_letters(
        &self,
        partner: &PartnerRow,
        sight: &EndpointSight,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let Some(dead) = self.store.dead_since(&sight.name, sight.dead_told_at).await? else { return Ok(0) };
        let gathered = now.since(dead.first_at) >= GATHER;
        let paused = sight.dead_told_at.is_some_and(|told| now.since(told) < PAUSE && told <= now);
        if !gathered || paused {
            return Ok(0);
        }
        let mut tx = self.store.begin().await?;
        tx.dead_told(&sight.name, dead.last_at).await?;
        let queued = tell(&mut tx, &self.routes, given_up(partner, sight, &dead), now).await?;
        tx.commit().await?;
        Ok(queued)
    }
}

fn error_if(failing: bool, summary: &str) {
    if failing {
        error!("{summary}");
    }
}

fn failing<'a>(partner: &'a PartnerRow, sight: &'a EndpointSight, now: Timestamp) -> Alarm<'a> {
    let why = sight.last_error.as_deref().unwrap_or("it gave no reason");
    let (since, advice) = match (sight.paused_at, sight.failing_since()) {
        (Some(paused), _) => (
            paused,
            format!(
                "It says that it is gone for good. Nothing is sent to it until its configuration changes, or `vetwatch \
                 notifications redrive --endpoint {}`.",
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
        summary: format!("The endpoint {} has not delivered since {}", sight.name, when::moment(since)),
        detail: format!("{why}. {} waiting for it. {advice}", messages(sight.pending)),
        figures: json!({ "endpoint": sight.name, "waiting": sight.pending, "since": since }),
        not_over: Some(&sight.name),
        once: None,
    }
}

fn recovered<'a>(partner: &'a PartnerRow, sight: &'a EndpointSight, told: Timestamp, now: Timestamp) -> Alarm<'a> {
    Alarm {
        kind: EventType::EndpointRecovered,
        partner,
        summary: format!("The endpoint {} delivers again", sight.name),
        detail: format!(
            "What waited for it is sent now. It was told to be failing {} ago.",
            when::length(now.since(told))
        ),
        figures: json!({ "endpoint": sight.name }),
        not_over: None,
        once: None,
    }
}

fn given_up<'a>(partner: &'a PartnerRow, sight: &'a EndpointSight, dead: &Dead) -> Alarm<'a> {
    let why = dead.last_error.as_deref().unwrap_or("no answer");
    let name = &sight.name;
    let (what, redrive) = match dead.count {
        1 => ("A message".to_owned(), format!("`vetwatch notifications redrive {}`", dead.id)),
        n => (format!("{n} messages"), format!("`vetwatch notifications redrive --endpoint {name}`")),
    };
    let lost = if dead.monitor_only { "It told of vetwatch itself" } else { "Whoever reads there does not know of it" };
    Alarm {
        kind: EventType::DeadLetter,
        partner,
        summary: format!("{what} to {name} {} given up", if dead.count == 1 { "was" } else { "were" }),
        detail: format!(
            "The last answer: {why}. {lost}. Correct the endpoint, then send again with {redrive}. `vetwatch notifications \
             list --state dead` shows what it is."
        ),
        figures: json!({ "endpoint": name, "messages": dead.count }),
        not_over: Some(name),
        once: None,
    }
}

fn messages(count: i64) -> String {
    match count {
        1 => "1 message is".to_owned(),
        n => format!("{n} messages are"),
    }
}
