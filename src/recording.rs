//! Records responses in one transaction: the states, their changes, the events and their deliveries, all or nothing. So
//! no verdict is lost.

pub mod mass_absence;
pub mod submission;

use std::time::Duration;

use uuid::Uuid;
use vetwatch_core::membership;

use crate::calendar::Calendar;
use crate::changes::{self, Change, EvalContext, QualificationState};
use crate::delivery::{self, route::Routes};
use crate::event::{Event, EventPayload, EventType, VettingChange};
use crate::ids::EventKey;
use crate::partner_center::Answer;
use crate::qualification::{self, Status, Verdict};
use crate::redact;
use crate::schedule::{Intervals, PollClass};
use crate::store::{self, Customer, CustomerId, PartnerRow, Store, WriteTx};
use crate::time::Timestamp;

/// How long a customer is watched closely after a denial, or after an entry that may return is gone.
pub(crate) const WATCH_BUSINESS_DAYS: u32 = 10;
/// How long after that a customer stays in the settled class.
const SETTLED_FOR: Duration = Duration::from_hours(24 * 90);

/// The outcome of recording one response. The default if nothing was recorded: the response is older than the recorded one,
/// or the customer was removed meanwhile.
#[derive(Debug, Default)]
pub struct Recorded {
    pub changes: Vec<(Change, EventType)>,
    /// Endpoints that events were enqueued for.
    pub queued: usize,
}

/// Records responses about the customers of a partner.
#[derive(Debug, Clone, Copy)]
pub struct Recorder<'a> {
    pub store: &'a Store,
    pub partner: &'a PartnerRow,
    pub routes: &'a Routes,
    pub intervals: &'a Intervals,
    pub calendar: &'a Calendar,
}

/// A response about a customer.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    pub customer: CustomerId,
    pub answer: &'a Answer,
    /// Customers that held an entry and were understood within the last hour.
    pub recently_polled: u64,
}

impl Recorder<'_> {
    /// Records responses about different customers, in order. Commits everything that follows from all of them, or nothing;
    /// then they may be recorded again. Returns an outcome for each.
    pub async fn record(&self, responses: &[Response<'_>]) -> Result<Vec<Recorded>, store::Error> {
        let rows: Vec<_> = responses.iter().map(|response| response.customer).collect();
        let mut tx = self.store.begin().await?;
        let first_synced_at = tx.first_synced_at(self.partner.id).await?;
        let (mut customers, mut states) = (tx.customers(&rows).await?, tx.states_of(&rows).await?);
        let (mut recorded, mut responded) = (Vec::new(), Vec::new());
        for response in responses {
            let customer = customers.remove(&response.customer).filter(|customer| !is_stale(customer, response.answer));
            let Some(customer) = customer else {
                recorded.push(Recorded::default());
                continue;
            };
            let before = states.remove(&customer.row).unwrap_or_default();
            responded.push(customer.row);
            recorded.push(self.record_one(&mut tx, response, customer, &before, first_synced_at).await?);
        }
        if let Some(last) = responses.last() {
            tx.apply_membership(&responded, membership::Event::Responded, last.answer.ended_at).await?;
        }
        tx.commit().await?;
        Ok(recorded)
    }

    async fn record_one(
        &self,
        tx: &mut WriteTx,
        response: &Response<'_>,
        mut customer: Customer,
        before: &[QualificationState],
        first_synced_at: Option<Timestamp>,
    ) -> Result<Recorded, store::Error> {
        let Self { partner, routes, intervals, calendar, .. } = *self;
        let Response { answer, recently_polled, .. } = *response;
        let now = answer.ended_at;
        let absence_policy =
            mass_absence::absence_policy(tx, partner.id, &customer, before, answer, recently_polled).await?;
        let context = EvalContext {
            now,
            // The clock may have been set back since.
            last_seen_at: customer.last_seen_at.map(|seen| seen.min(now)),
            submitted_at: customer.submitted_at,
            notify_since: notify_since(partner, first_synced_at, &customer),
            first_confirmation: intervals.first_confirmation,
            second_confirmation: intervals.second_confirmation,
            absence_policy,
        };
        let steps = changes::compare(before, &answer.snapshot, &context);

        let recorded = persist_changes(tx, partner, routes, &customer, answer, &steps).await?;
        customer.watch_closely_until = watch_closely_until(&customer, &steps, calendar, now);
        let states: Vec<_> = steps.into_iter().map(|(state, _)| state).collect();
        customer.class = class(&states, customer.watch_closely_until, now);
        let mut next = next_poll_at(&customer, &states, intervals, &context);
        if customer.unlisted && customer.class != PollClass::Confirming {
            (customer.class, next) = (PollClass::Unqualified, intervals.next_rare_poll(now, fastrand::f64()));
        }
        tx.save_response(&customer, &answer.snapshot.fingerprint(), answer.began_at, now, next).await?;
        Ok(recorded)
    }
}

/// True if a newer response is recorded. One from the future means that the clock was set back, not that this one is older.
fn is_stale(customer: &Customer, answer: &Answer) -> bool {
    customer.response_requested_at.is_some_and(|recorded| answer.began_at < recorded && recorded <= answer.ended_at)
}

/// Saves the new states, and each change with its event and deliveries.
async fn persist_changes(
    tx: &mut WriteTx,
    partner: &PartnerRow,
    routes: &Routes,
    customer: &Customer,
    answer: &Answer,
    steps: &[(QualificationState, Option<Change>)],
) -> Result<Recorded, store::Error> {
    let now = answer.ended_at;
    let mut recorded = Recorded::default();
    let evidence =
        if steps.iter().any(|(_, change)| change.is_some()) { redact::words(&answer.raw) } else { String::new() };
    for (state, change) in steps {
        tx.save_state(customer.row, state).await?;
        if let Some(word) = state.unknown_status() {
            tx.unknown_status(partner.id, &qualification::key(word), word, now).await?;
        }
        let Some(change) = change else { continue };
        let (request, correlation) = (answer.request_id, answer.correlation_id);
        let transition = tx.insert_transition(customer.row, change, now, &evidence, request, correlation).await?;
        let mut event = event(partner, customer, change, now, correlation);
        if let Some(key) = EventKey::of_change(&partner.name, &customer.customer_id, change) {
            event.data.event_id = tx.free_event_id(&key).await?;
        }
        recorded.queued += enqueue_event(tx, routes, partner, customer, &event, Some(transition), now).await?;
        recorded.changes.push((change.clone(), event.kind));
    }
    Ok(recorded)
}

/// Stores an event about a customer and enqueues it for each endpoint that the routes choose; for none if the customer is
/// muted. Returns how many endpoints.
pub(crate) async fn enqueue_event(
    tx: &mut WriteTx,
    routes: &Routes,
    partner: &PartnerRow,
    customer: &Customer,
    event: &Event,
    transition: Option<i64>,
    now: Timestamp,
) -> Result<usize, store::Error> {
    tx.insert_event(event, partner.id, Some(customer.row), transition).await?;
    if customer.is_muted(now) {
        tx.mute_event(event).await?;
        return Ok(0);
    }
    delivery::enqueue(tx, routes, event, &customer.contact, None, now).await
}

/// Reviews submitted after this are notified with the first response. `None` (all are) for a customer that joined after the
/// first complete customer list.
fn notify_since(partner: &PartnerRow, first_synced_at: Option<Timestamp>, customer: &Customer) -> Option<Timestamp> {
    let joined_later = first_synced_at.is_some_and(|synced| customer.added_at > synced);
    (!joined_later).then_some(partner.watching_since)
}

fn event(partner: &PartnerRow, customer: &Customer, change: &Change, now: Timestamp, correlation_id: Uuid) -> Event {
    let payload = VettingChange {
        customer: customer.reference(),
        qualification: change.qualification.clone(),
        from: change.from.clone(),
        to: change.to.clone(),
        vetting_reason: change.reason.clone(),
        vetting_created_at: change.created_at,
        last_seen_before_at: change.last_seen_before_at,
        attempt: change.review.attempt,
        correlation_id: Some(correlation_id.to_string()),
        first_seen: change.first_seen,
        gone_created_at: change
            .review
            .created_at
            .filter(|_| change.event == EventType::Vanished && change.is_replaced()),
        overdue: None,
    };
    Event::new(change.event, Some(&partner.name), EventPayload::Vetting(Box::new(payload)), now, now)
}

/// A denial is often followed by a new submission, and a missing entry by its return: both are watched for closely.
fn watch_closely_until(
    customer: &Customer,
    steps: &[(QualificationState, Option<Change>)],
    calendar: &Calendar,
    now: Timestamp,
) -> Option<Timestamp> {
    let changes = || steps.iter().filter_map(|(state, change)| Some((change.as_ref()?.event, state.status())));
    let is_watched = |(event, status): (EventType, Option<Status>)| {
        matches!(event, EventType::Denied | EventType::Revoked | EventType::Vanished)
            // Also a denial that is shown again after a stale copy.
            || (event == EventType::Changed && matches!(status, None | Some(Status::Verdict(Verdict::Denied))))
    };
    if changes().any(is_watched) {
        return Some(calendar.business_days_after(now, WATCH_BUSINESS_DAYS));
    }
    let has_arrived = changes().any(|(_, status)| matches!(status, Some(Status::InReview | Status::Verdict(_))));
    customer.watch_closely_until.filter(|until| until.after(SETTLED_FOR) > now && !has_arrived)
}

/// True if the interval of a customer of this class changes now only because time has passed.
pub(crate) fn watch_window_expired(watch_closely_until: Option<Timestamp>, class: PollClass, now: Timestamp) -> bool {
    watch_closely_until.is_some_and(|until| match class {
        PollClass::InReview => until <= now,
        _ => until.after(SETTLED_FOR) <= now,
    })
}

/// Also if the review shows a status that is not known, or none: it may have ended.
fn is_in_review(state: &QualificationState) -> bool {
    match state.status() {
        Some(Status::InReview) => true,
        Some(Status::Unknown | Status::None) => state.is_review_open(),
        _ => false,
    }
}

fn class(states: &[QualificationState], watch_closely_until: Option<Timestamp>, now: Timestamp) -> PollClass {
    if states.iter().any(|state| state.pending.is_some()) {
        PollClass::Confirming
    } else if states.iter().any(is_in_review) || watch_closely_until.is_some_and(|until| until > now) {
        PollClass::InReview
    } else if watch_closely_until.is_some() || states.iter().any(|state| state.entry.is_some()) {
        PollClass::Settled
    } else {
        PollClass::Unqualified
    }
}

fn next_poll_at(
    customer: &Customer,
    states: &[QualificationState],
    intervals: &Intervals,
    ctx: &EvalContext,
) -> Timestamp {
    let next_at = states.iter().filter_map(|state| Some(state.pending.as_ref()?.next_confirmation_at(ctx))).min();
    let usual = match ctx.last_seen_at {
        None => intervals.after_first_response(customer.class, ctx.now, fastrand::f64()),
        Some(_) => intervals.next(customer.class, ctx.now, fastrand::f64()),
    };
    match next_at {
        // A review, also with a pending verdict, is polled at least as often as any review.
        Some(at) if states.iter().any(is_in_review) => at.min(usual),
        Some(at) => at,
        None => usual,
    }
}

#[cfg(test)]
mod tests;
