//! Alerts on deliveries stuck at an endpoint that is not configured, or at one that accepts others.

use chrono_tz::Tz;
use serde_json::json;
use tracing::warn;

use super::endpoints::{messages, was_reported_recently};
use super::{Alert, Alerter, enqueue};
use crate::attention::Reason;
use crate::delivery::message::time_format;
use crate::event::EventType;
use crate::store::alerts::EndpointHealth;
use crate::store::waiting::{LoneWait, Stranded};
use crate::store::{self, PartnerRow};
use crate::time::Timestamp;

impl Alerter {
    pub(super) async fn check_gone_endpoints(&self, now: Timestamp) -> Result<usize, store::Error> {
        let Some(partner) = self.partners.first() else { return Ok(0) };
        let (mut queued, mut is_new) = (0, false);
        for stranded in self.store.stranded(&self.endpoints).await? {
            is_new |= stranded.unconfigured_since.is_none();
            if stranded.unreported {
                let mut tx = self.store.begin().await?;
                tx.mark_stranded_reported(&stranded.endpoint, now).await?;
                let alert = not_configured(partner, &stranded, self.routes.zone);
                warn!(endpoint = stranded.endpoint, "{}", alert.summary);
                queued += enqueue(&mut tx, &self.routes, alert, now).await?;
                tx.commit().await?;
            }
            let is_long =
                stranded.unconfigured_since.is_some_and(|gone| now.since(gone) >= Reason::MessagesWaiting.after());
            if is_long && !stranded.failed_over {
                let (name, operators) = (&stranded.endpoint, self.routes.operators());
                let waiting = self.store.not_failed_over(name).await?;
                queued +=
                    self.pass_on(name, &waiting, &operators, &format!("operators in place of {name}"), now).await?;
            }
        }
        if is_new {
            // New while vetwatch runs: a redrive of dead deliveries.
            let mut tx = self.store.begin().await?;
            tx.note_configured(&self.endpoints, now).await?;
            tx.commit().await?;
        }
        Ok(queued)
    }

    pub(super) async fn check_lone_waits(
        &self,
        partner: &PartnerRow,
        health: &EndpointHealth,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        if health.pending == 0 || was_reported_recently(health, now) || !self.endpoints.contains(&health.name) {
            return Ok(0);
        }
        let mut waits = self.store.lone_waits(Some(&health.name), now).await?;
        waits.retain(|wait| !wait.reported);
        let Some(first) = waits.first() else { return Ok(0) };
        let mut tx = self.store.begin().await?;
        for wait in &waits {
            tx.mark_lone_wait_reported(wait, now).await?;
        }
        let alert = waits_alone(partner, first, waits.len(), now);
        warn!(endpoint = health.name, "{}", alert.summary);
        let queued = enqueue(&mut tx, &self.routes, alert, now).await?;
        tx.commit().await?;
        Ok(queued)
    }
}

fn not_configured<'a>(partner: &'a PartnerRow, stranded: &Stranded, zone: Tz) -> Alert<'a> {
    let Stranded { endpoint, count, oldest_at, .. } = stranded;
    let what = if *count == 1 { "A message waits".to_owned() } else { format!("{count} messages wait") };
    let lost =
        if stranded.monitor_only { "What waits told of vetwatch itself." } else { "Its readers do not know of it." };
    let passed_on = if stranded.failed_over {
        "What it tells was sent to the operators' endpoints."
    } else {
        "After 15 minutes the operators' endpoints are sent what it tells."
    };
    Alert {
        summary: format!("{what} for {endpoint}, an endpoint that is not configured"),
        detail: format!(
            "{} waiting, the oldest since {}. {lost} Nothing is lost: it is kept, and sent once the configuration has an \
             endpoint of that name again. {passed_on} If the endpoint was renamed or will not come back: `vetwatch \
             deliveries redrive --endpoint {endpoint} --to ENDPOINT` tells another one instead.",
            messages(*count),
            time_format::with_utc(*oldest_at, zone),
        ),
        figures: json!({ "endpoint": endpoint, "messages": count }),
        ..Alert::of_vetwatch(EventType::DeadLetter, partner)
    }
}

fn waits_alone<'a>(partner: &'a PartnerRow, first: &LoneWait, count: usize, now: Timestamp) -> Alert<'a> {
    let LoneWait { id, endpoint, since, last_error, .. } = first;
    let why = last_error.as_deref().unwrap_or("no answer");
    let what = if count == 1 { "A message".to_owned() } else { format!("{count} messages") };
    let verb = if count == 1 { "waits" } else { "wait" };
    Alert {
        summary: format!("{what} to {endpoint} still {verb} after {}", time_format::length(now.since(*since))),
        detail: format!(
            "{endpoint} is not known to fail: mostly it has taken later ones. The last answer: {why}. It is not given up yet and is tried on, at \
             least every hour or so. `vetwatch deliveries show {id}` shows what it tells and each attempt; once the \
             cause is mended, `vetwatch deliveries redrive {id}` sends it at once, and `vetwatch deliveries redrive \
             {id} --to ENDPOINT` tells another endpoint instead."
        ),
        figures: json!({ "endpoint": endpoint, "messages": count }),
        ..Alert::of_vetwatch(EventType::DeadLetter, partner)
    }
}
