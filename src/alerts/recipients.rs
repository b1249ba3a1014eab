//! Recipients who refused a message for good while others took it: told over another endpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Alarm, Alarms, tell};
use crate::event::EventType;
use crate::store::{self, PartnerRow, Refusal};
use crate::time::Timestamp;

/// What is refused together is told together.
const GROUP_FOR: Duration = Duration::from_mins(1);
/// Between two messages about the recipients of one endpoint.
const MIN_INTERVAL: Duration = Duration::from_mins(10);
/// More addresses than this are not named.
const MAX_NAMES: usize = 10;

impl Alarms {
    pub(super) async fn watch_recipients(&self, now: Timestamp) -> Result<usize, store::Error> {
        // Of which partner such a message is does not matter; it must be of one.
        let Some(partner) = self.partners.first() else { return Ok(0) };
        let mut endpoints: Vec<String> = Vec::new();
        for refused in self.store.refused_recipients().await? {
            let own = self.recipients.get(&refused.endpoint);
            let is_own = own.is_some_and(|own| own.contains(&refused.address.to_lowercase()));
            // Of an endpoint that is not configured nobody knows whether the address is meant.
            if is_own || own.is_none() || refused.is_contact {
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
            queued += self.watch_recipients_of(partner, &endpoint, now).await?;
        }
        Ok(queued)
    }

    async fn watch_recipients_of(
        &self,
        partner: &PartnerRow,
        endpoint: &str,
        now: Timestamp,
    ) -> Result<usize, store::Error> {
        let (refusals, reported_at) = self.store.unreported_refusals(endpoint).await?;
        let times = || refusals.iter().map(|refusal| refusal.refused_at);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(0) };
        let gathered = now.since(first) >= GROUP_FOR || first > now;
        let paused = reported_at.is_some_and(|told| now.since(told) < MIN_INTERVAL && told <= now);
        if !gathered || paused {
            return Ok(0);
        }
        // The endpoint itself works: where the operators have no other one, it tells of its own recipient.
        let elsewhere = self.routes.operators.iter().any(|name| name != endpoint);
        let alarm = Alarm { exclude_endpoint: elsewhere.then_some(endpoint), ..refused(partner, endpoint, &refusals) };
        let mut tx = self.store.begin().await?;
        tx.refusals_reported(endpoint, last, now).await?;
        let queued = tell(&mut tx, &self.routes, alarm, now).await?;
        tx.commit().await?;
        Ok(queued)
    }
}

fn refused<'a>(partner: &'a PartnerRow, endpoint: &'a str, refusals: &[Refusal]) -> Alarm<'a> {
    // The newest reply of each; they come newest first.
    let mut said: BTreeMap<&str, &str> = BTreeMap::new();
    for (address, reply) in refusals.iter().rev().flat_map(|refusal| &refusal.replies) {
        said.insert(address, reply);
    }
    let (what, redrive) = match refusals {
        [one] => ("A message".to_owned(), format!("`vetwatch deliveries redrive {}`", one.delivery)),
        _ => (format!("{} messages", refusals.len()), format!("`vetwatch deliveries redrive --endpoint {endpoint}`")),
    };
    let whom = match said.keys().collect::<Vec<_>>()[..] {
        [one] => format!("the recipient {one}"),
        ref all => format!("{} recipients", all.len()),
    };
    let mut replies: Vec<_> =
        said.iter().take(MAX_NAMES).map(|(address, reply)| format!("{address}: {reply}")).collect();
    if said.len() > MAX_NAMES {
        replies.push(format!("and {} more", said.len() - MAX_NAMES));
    }
    Alarm {
        kind: EventType::DeadLetter,
        partner,
        summary: format!(
            "{what} to {endpoint} {} given up for {whom}",
            if refusals.len() == 1 { "was" } else { "were" }
        ),
        detail: format!(
            "The mail server refused it for good: {}. The other recipients are not concerned. Have the mailbox made, or correct \
             `to` of the endpoint or the customer's contact; {redrive} sends it again to whoever refused it.",
            replies.join("; ")
        ),
        figures: json!({ "endpoint": endpoint, "messages": refusals.len(), "recipients": said.len() }),
        exclude_endpoint: Some(endpoint),
        once: None,
    }
}
