//! Undocumented statuses: reported to the operators once per status and partner.

use std::time::Duration;

use serde_json::json;

use crate::alerts::{self, Alert};
use crate::delivery::route::Routes;
use crate::event::EventType;
use crate::store::{self, PartnerRow, Store};
use crate::time::Timestamp;

/// Wait before the report, so that it can say how many customers have the status.
const REPORT_AFTER: Duration = Duration::from_mins(10);

/// Enqueues a message per status not reported yet. Returns the number of deliveries.
pub async fn report(
    store: &Store,
    partner: &PartnerRow,
    routes: &Routes,
    now: Timestamp,
) -> Result<usize, store::Error> {
    let before = now.before(REPORT_AFTER);
    if !store.has_unknown_statuses(partner.id, before).await? {
        return Ok(0);
    }
    let mut queued = 0;
    let mut tx = store.begin().await?;
    for unknown in tx.take_unknown_statuses(partner.id, before, now).await? {
        let customers = if unknown.customers == 1 {
            "1 customer has".to_owned()
        } else {
            format!("{} customers have", unknown.customers)
        };
        let alert = Alert {
            summary: format!("Partner Center writes a vetting status that vetwatch does not know: {}", unknown.status),
            detail: format!(
                "{customers} it now. It is kept and shown as it is, and never taken for a verdict: nobody is told when a \
                 review ends with this word. Look at what it means in Partner Center, and whether there is a newer \
                 vetwatch. This is told once for each word."
            ),
            figures: json!({ "vetting_status": unknown.status, "customers": unknown.customers }),
            ..Alert::new(EventType::UnknownStatus, partner)
        };
        queued += alerts::enqueue(&mut tx, routes, alert, now).await?;
    }
    tx.commit().await?;
    Ok(queued)
}
