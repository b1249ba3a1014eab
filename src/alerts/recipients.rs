//! Alerts on recipients rejected for good while others accepted the message, sent over another endpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Alert, Alerter, enqueue};
use crate::delivery::email::address::Contact;
use crate::event::EventType;
use crate::store::{self, PartnerRow, Refusal};
use crate::time::Timestamp;

/// Waits for more rejections after the first.
const GROUP_FOR: Duration = Duration::from_mins(1);
/// Between two messages about the recipients of one endpoint.
const MIN_INTERVAL: Duration = Duration::from_mins(10);
const MAX_NAMES: usize = 10;

impl Alerter {
    pub(super) async fn check_recipients(&self, now: Timestamp) -> Result<usize, store::Error> {
        // An alert needs a partner; any will do.
        let Some(partner) = self.partners.first() else { return Ok(0) };
        let mut endpoints: Vec<String> = Vec::new();
        for refused in self.store.refused_recipients().await? {
            let own = self.recipients.get(&refused.endpoint);
            let is_own = own.is_some_and(|own| own.contains(&refused.address.to_lowercase()));
            // Of an unconfigured endpoint it is unknown whether the address is still wanted.
            let is_contact = |contact: &String| {
                let addresses = Contact::parse(contact).addresses;
                addresses.iter().any(|known| known.to_string().eq_ignore_ascii_case(&refused.address))
            };
            if is_own || own.is_none() || refused.contacts.iter().any(is_contact) {
                endpoints.push(refused.endpoint);
            } else {
                let mut tx = self.store.begin().await?;
                tx.forget_refusals(&refused.endpoint, &refused.address).await?;
                tx.commit().await?;
            }
        }
        endpoints.dedup();
        let mut queued = 0;
        for endpoint in endpoints {
            queued += self.check_recipients_of(partner, &endpoint, now).await?;
        }
        Ok(queued)
    }

    async fn check_recipients_of(
        &self,
        partner: &PartnerRow,
        endpoint: &str,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let (refusals, reported_at) = self.store.unreported_refusals(endpoint).await?;
        let times = || refusals.iter().map(|refusal| refusal.refused_at);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(0) };
        let gathered = now.since(first) >= GROUP_FOR || first > now;
        let paused = reported_at.is_some_and(|at| now.since(at) < MIN_INTERVAL && at <= now);
        if !gathered || paused {
            return Ok(0);
        }
        // The endpoint itself works: it reports its own recipient if the operators have no other one.
        let elsewhere = self.routes.operators.iter().any(|name| name != endpoint);
        let alert = Alert { exclude_endpoint: elsewhere.then_some(endpoint), ..refused(partner, endpoint, &refusals) };
        let mut tx = self.store.begin().await?;
        tx.refusals_reported(endpoint, last, now).await?;
        let queued = enqueue(&mut tx, &self.routes, alert, now).await?;
        tx.commit().await?;
        Ok(queued)
    }
}

fn refused<'a>(partner: &'a PartnerRow, endpoint: &'a str, refusals: &[Refusal]) -> Alert<'a> {
    // The newest reply of each address; refusals come newest first.
    let mut said: BTreeMap<&str, &str> = BTreeMap::new();
    for (address, reply) in refusals.iter().rev().flat_map(|refusal| &refusal.replies) {
        said.insert(address, reply);
    }
    let (what, redrive) = match refusals {
        [one] => ("A message".to_owned(), format!("`vetwatch deliveries redrive {}`", one.delivery)),
        _ => (format!("{} messages", refusals.len()), format!("`vetwatch deliveries redrive --endpoint {endpoint}`")),
    };
    let recipients = match said.keys().collect::<Vec<_>>()[..] {
        [one] => format!("the recipient {one}"),
        ref all => format!("{} recipients", all.len()),
    };
    let mut replies: Vec<_> =
        said.iter().take(MAX_NAMES).map(|(address, reply)| format!("{address}: {reply}")).collect();
    if said.len() > MAX_NAMES {
        replies.push(format!("and {} more", said.len() - MAX_NAMES));
    }
    Alert {
        summary: format!(
            "{what} to {endpoint} {} given up for {recipients}",
            if refusals.len() == 1 { "was" } else { "were" }
        ),
        detail: format!(
            "The mail server refused it for good: {}. The other recipients are not concerned. Have the mailbox made, or correct \
             `to` of the endpoint or the customer's contact; {redrive} sends it again to those recipients.",
            replies.join("; ")
        ),
        figures: json!({ "endpoint": endpoint, "messages": refusals.len(), "recipients": said.len() }),
        exclude_endpoint: Some(endpoint),
        ..Alert::of_vetwatch(EventType::DeadLetter, partner)
    }
}
