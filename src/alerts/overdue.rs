//! Reminders of long reviews, after some business days and then repeatedly.
//!
//! A reminder must be true when it is sent, so it waits until the customer was seen recently. Each is sent once: the
//! transaction that enqueues it marks the review. Of several that became due meanwhile, only the last is sent. Those due
//! before the first response count as sent: `monitor.initial_sync` lists such reviews.

use std::time::Duration;

use tracing::{error, info};
use vetwatch_core::forecast::Expected;

use super::Alerter;
use crate::calendar::{Calendar, Reminder};
use crate::event::{Event, EventPayload, EventType, Overdue, VettingChange};
use crate::forecast::Forecasts;
use crate::ids::EventKey;
use crate::recording;
use crate::store::{self, Customer, OpenReview, PartnerRow};
use crate::time::Timestamp;

/// A customer polled in time was seen within two intervals and this.
const GRACE: Duration = Duration::from_mins(5);

impl Alerter {
    pub(super) async fn check_reviews(&self, partner: &PartnerRow, now: Timestamp) -> Result<usize, store::Error> {
        if self.reminders.business_days.is_empty() {
            return Ok(0);
        }
        let seen_after = now.before(self.in_review * 2 + GRACE);
        let mut due = Vec::new();
        for mut review in self.store.open_reviews(partner.id, seen_after).await? {
            let is_initial = review.reminded_until.is_none() && review.status_since <= review.customer_since;
            let known = if is_initial { self.reminders.last_due(review.since, review.status_since) } else { None };
            let known = known.map(|reminder| reminder.due_at);
            let reminder = self.reminders.next_reminder(review.since, review.reminded_until.or(known), now);
            if let Some(until) = reminder.map(|reminder| reminder.due_at).or(known) {
                review.since = review.since.min(now);
                due.push((review, until, reminder));
            }
        }
        if due.is_empty() {
            return Ok(0);
        }
        let forecasts = Forecasts::read(&self.store, &self.reminders.calendar, now).await?;
        let (mut tx, mut queued) = (self.store.begin().await?, 0);
        for (review, until, reminder) in &due {
            let customer = match tx.customer(review.customer).await {
                Ok(Some(customer)) => customer,
                Ok(None) => continue,
                // Does not block the other reminders; retried in the next round.
                Err(error) if error.is_data_error() => {
                    let error = error.while_doing("remind of a long review");
                    error!(
                        error = &error as &dyn std::error::Error,
                        partner = partner.name,
                        "somebody is not reminded"
                    );
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !tx.mark_reminded(review, *until).await? {
                continue;
            }
            let Some(reminder) = reminder else { continue };
            let expected = forecasts.of(&review.qualification, review.since);
            let calendar = &self.reminders.calendar;
            let mut event = event(partner, &customer, review, *reminder, calendar, expected, now);
            let (id, of) = (&customer.customer_id, (review.attempt, review.attempt_created_at));
            let key = EventKey::of_reminder(&partner.name, id, &review.qualification, of, reminder.number);
            event.data.event_id = tx.free_event_id(&key).await?;
            queued += recording::enqueue_event(&mut tx, &self.routes, partner, &customer, &event, None, now).await?;
            info!(
                partner = partner.name,
                customer.id = customer.customer_id,
                customer.name,
                "{} is still in review for {}",
                customer.name,
                review.qualification
            );
        }
        tx.commit().await?;
        Ok(queued)
    }
}

fn event(
    partner: &PartnerRow,
    customer: &Customer,
    review: &OpenReview,
    reminder: Reminder,
    calendar: &Calendar,
    expected: Expected,
    now: Timestamp,
) -> Event {
    let payload = VettingChange {
        customer: customer.reference(),
        qualification: review.qualification.clone(),
        from: Some(review.status.clone()),
        to: Some(review.status.clone()),
        vetting_reason: None,
        vetting_created_at: review.created_at,
        last_seen_before_at: None,
        attempt: review.attempt,
        correlation_id: review.correlation_id.clone(),
        first_seen: false,
        gone_created_at: None,
        overdue: Some(Overdue {
            since: review.since,
            business_days: calendar.business_days_between(review.since, now),
            reminder: reminder.number,
            expected: Some(expected),
        }),
    };
    Event::new(
        EventType::Overdue,
        Some(&partner.name),
        EventPayload::Vetting(Box::new(payload)),
        review.last_seen_at,
        now,
    )
}
