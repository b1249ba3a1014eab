//! Alerts on customers that cannot be read while others can, grouped into one message.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Alert, Alerter, enqueue};
use crate::attention::Reason;
use crate::event::EventType;
use crate::store::alerts::{PartnerHealth, UnreadableCustomer};
use crate::store::{self, PartnerRow};
use crate::time::Timestamp;

/// Waits for more customers after the first: a common fault is noticed one by one.
const GROUP_FOR: Duration = Duration::from_mins(20);
/// Between two messages.
const MIN_INTERVAL: Duration = Duration::from_hours(6);
/// At least this many new ones, and no fewer than those known, do not wait for that.
const MUCH_WORSE: i64 = 50;
const MAX_NAMES: usize = 10;

impl Alerter {
    pub(super) async fn check_customers(&self, partner: &PartnerRow, now: Timestamp) -> Result<usize, store::Error> {
        let health = self.store.partner_health(partner.id).await?;
        // After a recovery of the partner its customers are polled again first.
        let settled = health.recovered_at.is_none_or(|at| at > now || now.since(at) >= GROUP_FOR);
        let fails = health.failing_for() >= Reason::PartnerFailing.after();
        let can_compare = health.failing_reported_since.is_none() && !fails && settled;
        let unreadable = since(can_compare && health.unreadable > 0, health.unreadable_pending_since, now);
        let readable = since(can_compare && health.readable > 0, health.readable_pending_since, now);
        let lost = unreadable.is_some_and(|at| now.since(at) >= GROUP_FOR) && may_notify_again(&health, now);
        let found = readable
            .is_some_and(|at| now.since(at) >= if health.known_unreadable == 0 { GROUP_FOR } else { MIN_INTERVAL });
        if !lost && !found && unreadable == health.unreadable_pending_since && readable == health.readable_pending_since
        {
            return Ok(0);
        }
        let (mut tx, mut queued) = (self.store.begin().await?, 0);
        tx.set_pending_since(partner.id, unreadable.filter(|_| !lost), readable.filter(|_| !found)).await?;
        if lost {
            let customers = tx.take_unreadable(partner.id, now).await?;
            queued += enqueue(&mut tx, &self.routes, cannot_be_read(partner, &customers), now).await?;
        }
        if found {
            let customers = tx.take_readable(partner.id).await?;
            queued += enqueue(&mut tx, &self.routes, can_be_read(partner, &customers), now).await?;
        }
        tx.commit().await?;
        Ok(queued)
    }
}

/// Since when there are `any`; now if there were none before.
fn since(any: bool, known: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    // A time in the future: the clock was set back.
    any.then(|| known.map_or(now, |known| known.min(now)))
}

/// True if the last message is long enough ago, or it has become much worse.
fn may_notify_again(health: &PartnerHealth, now: Timestamp) -> bool {
    let much_worse = health.unreadable >= MUCH_WORSE.max(health.known_unreadable);
    health.customers_reported_at.is_none_or(|at| at > now || now.since(at) >= MIN_INTERVAL || much_worse)
}

fn cannot_be_read<'a>(partner: &'a PartnerRow, customers: &[UnreadableCustomer]) -> Alert<'a> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for customer in customers {
        *reasons.entry(reason(customer)).or_default() += 1;
    }
    let common = reasons.iter().max_by_key(|(_, count)| **count).map(|(why, _)| *why).unwrap_or_default();
    let others = if reasons.len() > 1 { " (for most of them)" } else { "" };
    Alert {
        summary: format!("{} cannot be read", count(customers.len())),
        detail: format!(
            "Partner Center has given no good answer about {} for over an hour, three times in a row; the others of {} \
             can be read. What it said{others}: {common}. They are asked on. One who is no customer any more can be \
             paused or removed: `vetwatch customers pause`, `vetwatch customers remove`. `vetwatch status` lists them.",
            names(customers),
            partner.name
        ),
        figures: json!({ "customers": customers.len() }),
        ..Alert::new(EventType::CustomersFailing, partner)
    }
}

fn can_be_read<'a>(partner: &'a PartnerRow, customers: &[UnreadableCustomer]) -> Alert<'a> {
    Alert {
        summary: format!("{} can be read again", count(customers.len())),
        detail: format!(
            "Partner Center answers again about {} of {}. What was decided meanwhile has been told, with the two times \
             between which it fell.",
            names(customers),
            partner.name
        ),
        figures: json!({ "customers": customers.len() }),
        ..Alert::new(EventType::CustomersRecovered, partner)
    }
}

/// The error without its correlation id, to group by.
fn reason(customer: &UnreadableCustomer) -> &str {
    let error = customer.last_error.as_deref().unwrap_or("nothing");
    error.split(" (correlation").next().unwrap_or(error)
}

fn count(customers: usize) -> String {
    if customers == 1 { "1 customer".to_owned() } else { format!("{customers} customers") }
}

fn names(customers: &[UnreadableCustomer]) -> String {
    let named: Vec<_> = customers.iter().take(MAX_NAMES).map(|customer| customer.name.as_str()).collect();
    let more = customers.len() - named.len();
    let named = named.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}
