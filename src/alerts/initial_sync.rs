//! The initial sync of a partner: reports the state of all customers to the operators, once.

use std::fmt::Write as _;

use serde_json::json;

use super::departed_customers;
use crate::alerts::{self, Alert};
use crate::calendar::Reminders;
use crate::delivery::route::Routes;
use crate::event::EventType;
use crate::store::{self, BaselineCounts, PartnerRow, Store};
use crate::time::Timestamp;

/// Enqueues the message if the initial sync is complete: each customer was polled once and, if `synced`, the customer list
/// was complete. Returns the number of deliveries. Commits the mark that it was reported as well.
///
/// # Errors
/// When the database fails; nothing was reported then.
pub async fn report(
    store: &Store,
    partner: &PartnerRow,
    synced: bool,
    routes: &Routes,
    reminders: &Reminders,
    now: Timestamp,
) -> Result<usize, store::Error> {
    if !store.is_initial_sync_due(partner.id, synced).await? {
        return Ok(0);
    }
    let mut tx = store.begin().await?;
    if !tx.mark_initial_sync_reported(partner.id, now).await? {
        return Ok(0);
    }
    let counts = tx.baseline_counts(partner.id).await?;
    let queued = alerts::enqueue(&mut tx, routes, initial_sync(partner, &counts, reminders, now), now).await?;
    tx.commit().await?;
    Ok(queued)
}

fn initial_sync<'a>(
    partner: &'a PartnerRow,
    counts: &BaselineCounts,
    reminders: &Reminders,
    now: Timestamp,
) -> Alert<'a> {
    let BaselineCounts { watched, paused, unpolled, in_review, approved, denied, .. } = *counts;
    let overdue: Vec<_> = counts.reviews.iter().filter(|(_, _, since)| reminders.is_overdue(*since, now)).collect();
    let customers = if watched == 1 { "1 customer".to_owned() } else { format!("{watched} customers") };
    let mut detail =
        "Every customer was asked once. This is how they stood, and no message was sent for it; from now on \
                      each change is told."
            .to_owned();
    if unpolled > 0 {
        let customers = if unpolled == 1 { "1 customer".to_owned() } else { format!("{unpolled} customers") };
        let _ = write!(
            detail,
            "\n{customers} could not be asked so far; `vetwatch customers list` shows who, and `vetwatch status CUSTOMER` why."
        );
    }
    if paused > 0 {
        let customers = if paused == 1 { "1 customer is".to_owned() } else { format!("{paused} customers are") };
        let _ = write!(detail, "\n{customers} paused, and not polled.");
    }
    if !overdue.is_empty() {
        let days = reminders.business_days.first().copied().unwrap_or_default();
        let _ = write!(detail, "\nIn review for more than {days} business days already, the oldest first:");
        departed_customers::list(
            &mut detail,
            overdue.iter().map(|(label, what, since)| (label.as_str(), what.as_str(), *since)),
            reminders.calendar.zone,
        );
    }
    let name = &partner.name;
    Alert {
        summary: format!("{name}: {customers} watched, {in_review} in review, {approved} approved, {denied} denied"),
        detail,
        figures: json!({
            "watched": watched, "in_review": in_review, "overdue": overdue.len(), "approved": approved,
            "denied": denied, "not_asked": unpolled, "paused": paused,
        }),
        ..Alert::new(EventType::InitialSync, partner)
    }
}
