//! Alerts on a partner that cannot be read, or whose responses are implausible.

use std::time::Duration;

use chrono_tz::Tz;
use serde_json::json;
use tracing::{error, info};

use super::{Alert, Alerter};
use crate::attention::Reason;
use crate::delivery::message::time_format;
use crate::event::EventType;
use crate::store::{self, PartnerRow};
use crate::time::Timestamp;

impl Alerter {
    pub(super) async fn check_partner(&self, partner: &PartnerRow, now: Timestamp) -> Result<usize, store::Error> {
        let zone = self.routes.zone;
        let health = self.store.partner_health(partner.id).await?;
        let failing = health.failing_since.filter(|_| health.failing_for() >= Reason::PartnerFailing.after());
        let (since, alert) = match (health.failing_reported_since, health.mass_absence_since, failing) {
            (None, Some(since), _) => (Some(since), implausible(partner, since, zone)),
            (None, None, Some(since)) => {
                let length = health.failing_for();
                (Some(since), partner_failing(partner, since, &health.last_failure.unwrap_or_default(), length, zone))
            }
            (Some(since), None, _) if health.failing_since.is_none() => (None, recovered(partner, since, now, zone)),
            _ => return Ok(0),
        };
        if since.is_some() {
            error!(partner = partner.name, "{}", alert.summary);
        } else {
            info!(partner = partner.name, "{}", alert.summary);
        }
        let mark = async |tx: &mut store::WriteTx| {
            match since {
                Some(since) => tx.mark_partner_failing(partner.id, since).await?,
                None => tx.partner_recovered(partner.id, now).await?,
            }
            Ok(true)
        };
        self.announce(alert, now, mark).await
    }
}

fn partner_failing<'a>(partner: &'a PartnerRow, since: Timestamp, why: &str, length: Duration, zone: Tz) -> Alert<'a> {
    Alert {
        summary: format!("No good answer from Partner Center for {}", time_format::length(length)),
        detail: format!(
            "vetwatch asks for {} and has had no good answer since {}. The last one: {why}. No verdict is lost by that, \
             but it is told late: once Partner Center answers again, with the two times between which it fell. \
             `vetwatch status` shows how it stands.",
            partner.name,
            time_format::with_utc(since, zone)
        ),
        figures: json!({ "since": since }),
        ..Alert::new(EventType::PartnerFailing, partner)
    }
}

fn implausible(partner: &PartnerRow, since: Timestamp, zone: Tz) -> Alert<'_> {
    Alert {
        summary: "Implausible answers from Partner Center: many qualifications are gone, or older than before"
            .to_owned(),
        detail: format!(
            "Since {} Partner Center answers for more customers of {1} than is plausible that a qualification is gone, or \
             shows an older state. \
             Most likely that is its own trouble, so nothing is recorded as gone until two polls an hour apart agree. \
             Look at some of the customers in Partner Center (`vetwatch status` says how many there are); if it is true, \
             `vetwatch poll --accept --partner {1}` says so. Verdicts are told as ever, but for those that are older than \
             their review or have no date: they wait for the same.",
            time_format::with_utc(since, zone),
            partner.name
        ),
        figures: json!({ "since": since }),
        ..Alert::new(EventType::PartnerFailing, partner)
    }
}

fn recovered(partner: &PartnerRow, since: Timestamp, now: Timestamp, zone: Tz) -> Alert<'_> {
    let length = time_format::length(now.since(since));
    Alert {
        summary: format!("Partner Center can be read again, after {length}"),
        detail: format!(
            "{} could not be read from {} on. What changed meanwhile is told now, with the two times between which it \
             fell.",
            partner.name,
            time_format::with_utc(since, zone)
        ),
        figures: json!({ "since": since, "minutes": now.since(since).as_secs() / 60 }),
        ..Alert::new(EventType::PartnerRecovered, partner)
    }
}
