//! Into the outbox: whom an event is for, and what they share a message with.

use crate::delivery::route::{Routes, RoutingInput, Target};
use crate::event::Event;
use crate::store::{self, NewDelivery, WriteTx};
use crate::time::Timestamp;

/// Queues an event for everybody whom it is for. `contact` is the customer's; `exclude_endpoint` is the endpoint that the event
/// is about, so another one tells of it. Returns for how many endpoints.
pub async fn queue(
    tx: &mut WriteTx,
    routes: &Routes,
    event: &Event,
    contact: &str,
    exclude_endpoint: Option<&str>,
    now: Timestamp,
) -> Result<usize, store::Error> {
    let told = routes.targets_for(&RoutingInput::from(event), super::email::contact_address(contact).as_deref(), now);
    let mut count = 0;
    for told in told.iter().filter(|told| Some(told.endpoint) != exclude_endpoint) {
        tx.enqueue(event, &parcel(told, now), now).await?;
        count += 1;
    }
    Ok(count)
}

/// What the store is to know of it.
#[must_use]
pub fn parcel<'a>(told: &'a Target<'a>, now: Timestamp) -> NewDelivery<'a> {
    NewDelivery {
        endpoint: told.endpoint,
        recipient: told.recipient.as_deref(),
        why: &told.why,
        group: told.group.as_deref(),
        most: told.most,
        due_at: told.due_at(now),
        respects_quiet_hours: told.quiet.is_some(),
        failover_from: None,
    }
}
