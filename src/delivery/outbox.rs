//! Enqueues events for the endpoints that the routes choose.

use crate::delivery::email::address::Contact;
use crate::delivery::route::{Routes, RoutingInput};
use crate::event::Event;
use crate::store::{self, WriteTx};
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
    let contact = Contact::parse(contact).recipient();
    let targets = routes.targets_for(&RoutingInput::from(event), contact.as_deref(), now);
    let mut count = 0;
    for target in targets.iter().filter(|target| Some(target.endpoint) != exclude_endpoint) {
        tx.enqueue(event, target, now).await?;
        count += 1;
    }
    Ok(count)
}
