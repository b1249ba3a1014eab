//! Enqueues events for the endpoints that the routes choose.

use crate::delivery::route::{Routes, RoutingInput, Target};
use crate::event::Event;
use crate::store::{self, NewDelivery, WriteTx};
use crate::time::Timestamp;

/// Enqueues an event for each endpoint that the routes choose. `contact` is the customer's; `exclude_endpoint` is the
/// endpoint that the event is about, which gets none. Returns the number of endpoints.
pub async fn enqueue(
    tx: &mut WriteTx,
    routes: &Routes,
    event: &Event,
    contact: &str,
    exclude_endpoint: Option<&str>,
    now: Timestamp,
) -> Result<usize, store::Error> {
    let contact = super::email::contact_address(contact);
    let targets = routes.targets_for(&RoutingInput::from(event), contact.as_deref(), now);
    let mut count = 0;
    for target in targets.iter().filter(|target| Some(target.endpoint) != exclude_endpoint) {
        tx.enqueue(event, &new_delivery(target, now), now).await?;
        count += 1;
    }
    Ok(count)
}

/// The delivery to enqueue for a target.
#[must_use]
pub fn new_delivery<'a>(target: &'a Target<'a>, now: Timestamp) -> NewDelivery<'a> {
    NewDelivery {
        endpoint: target.endpoint,
        recipient: target.recipient.as_deref(),
        why: &target.why,
        group: target.group.as_deref(),
        max_events: target.max_events,
        due_at: target.due_at(now),
        respects_quiet_hours: target.quiet.is_some(),
        failover_from: None,
    }
}
