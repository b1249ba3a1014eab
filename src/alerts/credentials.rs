//! Alerts on credentials: 30, 14, 7, 3 and 1 days before they expire, and afterwards.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono_tz::Tz;
use serde_json::json;
use tracing::warn;

use super::{Alert, Alerter, enqueue};
use crate::delivery::message::time_format;
use crate::event::EventType;
use crate::partner_center::{Credential, Expiry};
use crate::store::{self, PartnerRow};
use crate::time::Timestamp;

const DAY: Duration = Duration::from_hours(24);
const DAYS_BEFORE: [u32; 6] = [0, 1, 3, 7, 14, 30];
/// Not each round: a check reads the file of a refresh token.
const CHECK_EVERY: Duration = Duration::from_hours(1);

impl Alerter {
    pub(super) async fn check_credentials(&self, now: Timestamp) -> Result<usize, store::Error> {
        let checked_at = Timestamp::from_millis(self.credentials_checked_at.load(Ordering::Relaxed));
        if checked_at <= now && now.since(checked_at) < CHECK_EVERY {
            return Ok(0);
        }
        let mut queued = 0;
        for (partner, credentials) in self.partners.iter().zip(&self.credentials) {
            let mut ends: Vec<Expiry> = credentials.iter().flat_map(Credential::expiries).collect();
            ends.sort_by_key(|end| (end.at, end.of));
            ends.dedup(); // a user's credential often shares the application's
            let mut tx = self.store.begin().await?;
            tx.save_credentials(partner.id, &ends).await?;
            for end in &ends {
                queued += self.check_credential(&mut tx, partner, CredentialOwner::Partner, *end, now).await?;
            }
            tx.commit().await?;
        }
        // A mail server belongs to no partner, but an alert needs one.
        if let Some(partner) = self.partners.first() {
            for (host, end) in &self.mail_servers {
                let mut tx = self.store.begin().await?;
                queued += self.check_credential(&mut tx, partner, CredentialOwner::MailServer(host), *end, now).await?;
                tx.commit().await?;
            }
        }
        self.credentials_checked_at.store(now.as_millis(), Ordering::Relaxed);
        Ok(queued)
    }

    async fn check_credential(
        &self,
        tx: &mut store::WriteTx,
        partner: &PartnerRow,
        owner: CredentialOwner<'_>,
        end: Expiry,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let left = end.at.since(now);
        let Some(days) = DAYS_BEFORE.into_iter().find(|days| left <= DAY * *days) else { return Ok(0) };
        let name = owner.name(partner);
        let key = format!("{} of {name} at {}, {days} days before", end.of, end.at);
        if tx.has_dedup_key(&key).await? {
            return Ok(0);
        }
        let alert = Alert { key: Some(key), ..expiry_alert(partner, owner, end, left, self.routes.zone) };
        warn!(partner = partner.name, "{}", alert.summary);
        enqueue(tx, &self.routes, alert, now).await
    }
}

#[derive(Clone, Copy)]
enum CredentialOwner<'w> {
    Partner,
    /// By its host.
    MailServer(&'w str),
}

impl CredentialOwner<'_> {
    fn name(self, partner: &PartnerRow) -> String {
        match self {
            Self::Partner => partner.name.clone(),
            Self::MailServer(host) => format!("the mail server {host}"),
        }
    }
}

fn expiry_alert<'p>(
    partner: &'p PartnerRow,
    owner: CredentialOwner<'_>,
    end: Expiry,
    left: Duration,
    zone: Tz,
) -> Alert<'p> {
    let (of, name) = (end.of, owner.name(partner));
    let summary = if left.is_zero() {
        format!("The {of} of {name} has ended")
    } else {
        format!("The {of} of {name} ends in {}", time_format::length(left))
    };
    Alert {
        summary,
        detail: format!(
            "It ends on {}. From then on {} {}",
            time_format::with_utc(end.at, zone),
            match owner {
                CredentialOwner::Partner => "Partner Center lets vetwatch in no more, and verdicts are seen late.",
                CredentialOwner::MailServer(_) => "it lets vetwatch in no more, and its mails wait.",
            },
            of.remedy(&name)
        ),
        figures: json!({ "credential": of, "ends_at": end.at, "days": left.as_secs() / 86_400 }),
        of_vetwatch: matches!(owner, CredentialOwner::MailServer(_)),
        ..Alert::new(EventType::CredentialExpiring, partner)
    }
}
