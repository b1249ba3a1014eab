//! The transaction that no verdict is lost in: what was observed, what changed, what is told of it and to whom, all
//! of it or nothing.

pub mod initial_sync;
pub mod mass_absence;
pub mod departed_customers;
pub mod submission;
pub mod unknown_statuses;

use std::time::Duration;

use chrono::{Datelike, Weekday};
use uuid::Uuid;

use crate::changes::{self, Change, EvalContext, QualificationState};
use crate::delivery::{self, route::Routes};
use crate::event::{Event, EventPayload, EventType, VettingChange};
use crate::ids::EventKey;
use crate::partner_center::Answer;
use crate::qualification::{self, Status, Verdict};
use crate::redact;
use crate::store::{self, Customer, PartnerRow, PollClass, Store, WriteTx};
use crate::time::Timestamp;

/// How often who is asked: `[schedule]`, as far as the poller needs it.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    pub in_review: Duration,
    pub settled: Duration,
    pub unqualified: Duration,
    pub first_confirmation: Duration,
    pub second_confirmation: Duration,
    /// The activity log tells of submissions, so who holds nothing is asked seldom.
    pub log_is_read: bool,
}

/// How long news is expected after a denial, or after an entry is gone that may come back.
pub(crate) const EXPECTED_BUSINESS_DAYS: u32 = 10;
/// Who held something is asked as often as the settled for so long after that.
const SETTLED_AFTER: Duration = Duration::from_hours(24 * 90);

/// What an answer came to.
#[derive(Debug, Default)]
pub struct Recorded {
    pub changes: Vec<(Change, EventType)>,
    /// Messages that were queued.
    pub queued: usize,
    /// The answer was older than what was recorded, or the customer was removed meanwhile: nothing happened.
    pub dropped: bool,
}

/// Records an understood answer. Either everything that follows from it is committed, or nothing is and the same
/// answer may be recorded again.
pub async fn record(
    store: &Store,
    partner: &PartnerRow,
    routes: &Routes,
    intervals: &Intervals,
    asked: u64,
    customer: i64,
    answer: &Answer,
) -> Result<Recorded, store::Error> {
    let now = answer.ended_at;
    let mut tx = store.begin().await?;
    let Some(mut customer) = tx.customer(customer).await? else {
        return Ok(Recorded { dropped: true, ..Recorded::default() });
    };
    // A recorded answer from the future means that the clock was set back; it says nothing of this one's age.
    if customer.response_requested_at.is_some_and(|recorded| answer.began_at < recorded && recorded <= now) {
        return Ok(Recorded { dropped: true, ..Recorded::default() });
    }
    let before = tx.states(customer.row).await?;
    let doubt = mass_absence::doubt(&mut tx, partner.id, &customer, &before, answer, asked).await?;
    let look = EvalContext {
        now,
        last_seen_at: customer.last_seen_at,
        submitted_at: customer.submitted_at,
        news_since: news_since(partner, tx.first_synced_at(partner.id).await?, &customer),
        first_confirmation: intervals.first_confirmation,
        second_confirmation: intervals.second_confirmation,
        doubt,
    };
    let steps = changes::compare(&before, &answer.snapshot, &look);

    let recorded = tell(&mut tx, partner, routes, &customer, answer, &steps).await?;
    customer.watch_closely_until = watch_closely_until(&customer, &steps, now);
    let beliefs: Vec<_> = steps.into_iter().map(|(belief, _)| belief).collect();
    customer.class = class(&beliefs, customer.watch_closely_until, now);
    let mut next = next_poll_at(&customer, &beliefs, intervals, &look);
    if customer.unlisted && customer.class != PollClass::Confirming {
        (customer.class, next) = (PollClass::Unqualified, intervals.next_rare_poll(now, fastrand::f64()));
    }
    tx.save_response(&customer, &answer.snapshot.fingerprint(), answer.began_at, now, next).await?;
    tx.commit().await?;
    Ok(recorded)
}

/// Saves what is believed now, and each change with its event and the messages it makes.
async fn tell(
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
    for (belief, change) in steps {
        tx.save_state(customer.row, belief).await?;
        if let Some(word) = belief.unknown_status() {
            tx.unknown_status(partner.id, &qualification::key(word), word, now).await?;
        }
        let Some(change) = change else { continue };
        let (request, correlation) = (answer.request_id, answer.correlation_id);
        let transition = tx.insert_transition(customer.row, change, now, &evidence, request, correlation).await?;
        let mut event = event(partner, customer, change, now, correlation);
        if let Some(key) = EventKey::of_change(&partner.name, &customer.customer_id, change) {
            event.data.event_id = tx.free_event_id(&key).await?;
        }
        recorded.queued += queue(tx, routes, partner, customer, &event, Some(transition), now).await?;
        recorded.changes.push((change.clone(), event.kind));
    }
    Ok(recorded)
}

/// Stores news of a customer and queues it for whoever is told. Of a muted customer nobody is. Returns for how many.
pub(crate) async fn queue(
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

/// From when on a review counts as begun on our watch: since the partner is watched, or, for a customer who joined
/// after the first complete list, always.
fn news_since(partner: &PartnerRow, first_synced_at: Option<Timestamp>, customer: &Customer) -> Option<Timestamp> {
    let joined_later = first_synced_at.is_some_and(|synced| customer.added_at > synced);
    (!joined_later).then_some(partner.watching_since)
}

fn event(partner: &PartnerRow, customer: &Customer, change: &Change, now: Timestamp, correlation_id: Uuid) -> Event {
    let news = VettingChange {
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
    Event::new(change.event, &partner.name, EventPayload::Vetting(Box::new(news)), now, now)
}

/// A denial is often followed by a new submission, and an entry that is gone by its return: both are looked for.
fn watch_closely_until(
    customer: &Customer,
    steps: &[(QualificationState, Option<Change>)],
    now: Timestamp,
) -> Option<Timestamp> {
    let changes = || steps.iter().filter_map(|(belief, change)| Some((change.as_ref()?.event, belief.status())));
    let is_looked_for = |(event, status): (EventType, Option<Status>)| {
        matches!(event, EventType::Denied | EventType::Revoked | EventType::Vanished)
            // Also the denial that is back after a copy of the past.
            || (event == EventType::Changed && matches!(status, None | Some(Status::Verdict(Verdict::Denied))))
    };
    if changes().any(is_looked_for) {
        return Some(after_business_days(now, EXPECTED_BUSINESS_DAYS));
    }
    let has_come = changes().any(|(_, status)| matches!(status, Some(Status::InReview | Status::Verdict(_))));
    customer.watch_closely_until.filter(|until| until.after(SETTLED_AFTER) > now && !has_come)
}

/// Is a customer of this class asked at another interval from now on, though nothing has changed?
pub(crate) fn watch_window_expired(watch_closely_until: Option<Timestamp>, class: PollClass, now: Timestamp) -> bool {
    watch_closely_until.is_some_and(|until| match class {
        PollClass::InReview => until <= now,
        _ => until.after(SETTLED_AFTER) <= now,
    })
}

fn class(beliefs: &[QualificationState], watch_closely_until: Option<Timestamp>, now: Timestamp) -> PollClass {
    if beliefs.iter().any(|belief| belief.pending.is_some()) {
        PollClass::Confirming
    } else if beliefs.iter().any(|belief| belief.status() == Some(Status::InReview))
        || watch_closely_until.is_some_and(|until| until > now)
    {
        PollClass::InReview
    } else if watch_closely_until.is_some() || beliefs.iter().any(|belief| belief.entry.is_some()) {
        PollClass::Settled
    } else {
        PollClass::Unqualified
    }
}

fn next_poll_at(
    customer: &Customer,
    beliefs: &[QualificationState],
    intervals: &Intervals,
    look: &EvalContext,
) -> Timestamp {
    let next_look = beliefs.iter().filter_map(|belief| Some(belief.pending.as_ref()?.next_look_at(look))).min();
    let usual = match look.last_seen_at {
        None => intervals.after_first_sight(customer.class, look.now, fastrand::f64()),
        Some(_) => intervals.next(customer.class, look.now, fastrand::f64()),
    };
    match next_look {
        // A review that goes on, or a verdict that is not believed yet, is still looked at as often as any review.
        Some(next_look) if beliefs.iter().any(|belief| belief.status() == Some(Status::InReview)) => {
            next_look.min(usual)
        }
        Some(next_look) => next_look,
        None => usual,
    }
}

impl Intervals {
    #[must_use]
    pub fn of(&self, class: PollClass) -> Duration {
        match class {
            PollClass::Confirming | PollClass::InReview => self.in_review,
            PollClass::Unqualified if self.log_is_read => self.unqualified,
            PollClass::Settled | PollClass::Unseen | PollClass::Unqualified => self.settled,
        }
    }

    /// How long a customer of this class may be due before it is late: one that was never understood counts as in review.
    #[must_use]
    pub fn promised(&self, class: PollClass) -> Duration {
        match class {
            PollClass::Confirming => self.first_confirmation,
            PollClass::InReview | PollClass::Unseen => self.in_review,
            PollClass::Settled | PollClass::Unqualified => self.of(class),
        }
    }

    /// When a customer who left is asked next.
    #[must_use]
    pub fn next_rare_poll(&self, now: Timestamp, chance: f64) -> Timestamp {
        now.after(self.unqualified.mul_f64(1.0 - 0.05 * chance.clamp(0.0, 1.0)))
    }

    /// When a customer is asked for the second time. All that were found in one sweep would be asked in one sweep every
    /// day; so each gets a time of its own, as `chance` (0 to 1) says, within the interval of its class.
    #[must_use]
    pub fn after_first_sight(&self, class: PollClass, now: Timestamp, chance: f64) -> Timestamp {
        let usual = self.of(class);
        now.after(usual.mul_f64(chance.clamp(0.0, 1.0)).max(usual.min(self.in_review)))
    }

    /// When a customer of this class is asked next: its interval, or up to a twentieth less, as `chance` (0 to 1)
    /// says, so that nothing marches in step and nothing is later than promised.
    #[must_use]
    pub fn next(&self, class: PollClass, now: Timestamp, chance: f64) -> Timestamp {
        now.after(self.of(class).mul_f64(1.0 - 0.05 * chance.clamp(0.0, 1.0)))
    }
}

pub(crate) fn after_business_days(from: Timestamp, days: u32) -> Timestamp {
    let mut at = from;
    let mut left = days;
    while left > 0 {
        at = at.after(Duration::from_hours(24));
        if !matches!(at.to_utc().weekday(), Weekday::Sat | Weekday::Sun) {
            left -= 1;
        }
    }
    at
}

#[cfg(test)]
mod tests;
