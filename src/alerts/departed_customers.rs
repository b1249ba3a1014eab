//! Departed customers: missing from Partner Center's list, or without a relationship (403/20002). They are still polled,
//! rarely, and the operators are notified once if a review was open.

use std::fmt::Write as _;

use chrono_tz::Tz;
use serde_json::json;
use tracing::info;
use vetwatch_core::membership::POLL_DEPARTED_FOR;

use crate::alerts::{self, Alert};
use crate::delivery::message::time_format;
use crate::delivery::route::Routes;
use crate::event::EventType;
use crate::store::{self, LostReview, PartnerRow, Store};
use crate::text;
use crate::time::Timestamp;

const MAX_NAMES_IN_MESSAGE: usize = 20;

/// Enqueues one message about all departures not reported yet. Returns the number of deliveries.
///
/// # Errors
/// When the database fails; the departures stay unreported then.
pub async fn report(
    store: &Store,
    partner: &PartnerRow,
    routes: &Routes,
    now: Timestamp,
) -> Result<usize, store::Error> {
    if !store.has_unreported_departures(partner.id).await? {
        return Ok(0);
    }
    let mut tx = store.begin().await?;
    let lost = tx.take_unreported_departures(partner.id, now).await?;
    let queued = if lost.is_empty() {
        0
    } else {
        alerts::enqueue(&mut tx, routes, departed(partner, &lost, routes.zone), now).await?
    };
    tx.commit().await?;
    Ok(queued)
}

/// Stops polling customers that departed 90 days ago.
pub async fn stop_polling_departed(store: &Store, partner: &PartnerRow, now: Timestamp) -> Result<(), store::Error> {
    let before = now.before(POLL_DEPARTED_FOR);
    if store.has_long_departed(partner.id, before).await? {
        let mut tx = store.begin().await?;
        let customers = tx.give_up_departed(partner.id, before, now).await?;
        tx.commit().await?;
        info!(partner = partner.name, customers, "customers that departed 90 days ago are no longer polled");
    }
    Ok(())
}

const WHAT_TO_DO: &str = "Ask the customer whether the reseller relationship was ended. If it was ended by mistake, send a new \
                          relationship request: polling resumes as soon as Partner Center answers again. Until then the \
                          customer is polled rarely, for 90 days, and a verdict is still reported. This message is sent \
                          once.";

fn departed<'a>(partner: &'a PartnerRow, lost: &[LostReview], zone: Tz) -> Alert<'a> {
    let (summary, detail, figures) = if let [review] = lost {
        let LostReview { customer_id, label, qualification, .. } = review;
        let why = if review.unlisted {
            "has been missing from Partner Center's customer list for a day"
        } else {
            "answers that there is no relationship any more (403/20002)"
        };
        let name = name(label);
        (
            format!("{name} is no longer a customer in Partner Center, in the middle of a review"),
            format!(
                "{name} {why}. The review for {}, going on since {}, can no longer be followed.",
                text::line(qualification, 60),
                time_format::with_utc(review.since, zone)
            ),
            json!({ "customer": label, "customer_id": customer_id, "qualification": qualification }),
        )
    } else {
        let mut detail = "Partner Center does not list these customers any more, or refuses to answer about them \
                          (403/20002). Their reviews can no longer be followed:"
            .to_owned();
        list(
            &mut detail,
            lost.iter().map(|review| (review.label.as_str(), review.qualification.as_str(), review.since)),
            zone,
        );
        let summary = format!("{} customers left Partner Center in the middle of a review", lost.len());
        (summary, detail, json!({ "reviews": lost.len() }))
    };
    let detail = format!("{detail}\n{WHAT_TO_DO}");
    Alert { summary, detail, figures, ..Alert::new(EventType::CustomersDeparted, partner) }
}

pub(super) fn name(label: &str) -> String {
    text::line(label, 60)
}

/// Appends a line per review, at most [`MAX_NAMES_IN_MESSAGE`], and how many more there are.
pub(super) fn list<'a>(
    text: &mut String,
    reviews: impl ExactSizeIterator<Item = (&'a str, &'a str, Timestamp)>,
    zone: Tz,
) {
    let more = reviews.len().saturating_sub(MAX_NAMES_IN_MESSAGE);
    for (label, qualification, since) in reviews.take(MAX_NAMES_IN_MESSAGE) {
        let (name, qualification) = (name(label), text::line(qualification, 60));
        let _ = write!(text, "\n- {name}: {qualification}, since {}", time_format::day(since, zone));
    }
    if more > 0 {
        let _ = write!(text, "\n- and {more} more");
    }
}
