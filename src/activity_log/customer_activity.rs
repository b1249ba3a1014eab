//! Applies what the log shows of customers: makes them due sooner or adds them, never more.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::calendar::Calendar;
use crate::partner_center::{Operation, OperationKind};
use crate::qualification::key;
use crate::recording::WATCH_BUSINESS_DAYS;
use crate::schedule::PollClass;
use crate::store::{self, ActiveCustomer, DiscoveredCustomer, PartnerId, WriteTx};
use crate::time::Timestamp;

/// A create date may be this much earlier than its submission.
const MAX_CLOCK_SKEW: Duration = Duration::from_mins(5);
/// An operation dated farther ahead than this is ignored.
const MAX_FUTURE: Duration = Duration::from_hours(24);

/// Activity by normalised customer id.
pub(super) type ActivityById = HashMap<String, CustomerActivity>;

/// The last operations on a customer, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CustomerActivity {
    id: String,
    name: String,
    submitted_at: Option<Timestamp>,
    joined_at: Option<Timestamp>,
    left_at: Option<Timestamp>,
    at: Option<Timestamp>,
}

impl CustomerActivity {
    /// Adds an operation, unless it failed.
    pub(super) fn note(activity: &mut ActivityById, operation: &Operation, now: Timestamp) {
        if !operation.is_done || operation.customer_id.is_empty() || operation.at > now.after(MAX_FUTURE) {
            return;
        }
        let act = activity.entry(key(&operation.customer_id)).or_default();
        if act.id.is_empty() || !operation.customer_name.is_empty() {
            (act.id, act.name) = (operation.customer_id.clone(), operation.customer_name.clone());
        }
        let last = match operation.kind {
            OperationKind::Submission => &mut act.submitted_at,
            OperationKind::NewCustomer => &mut act.joined_at,
            OperationKind::Departure => &mut act.left_at,
            OperationKind::Other => &mut act.at,
        };
        *last = (*last).max(Some(operation.at));
    }

    /// True if this became a customer after `as_of`.
    fn is_new_customer(&self, as_of: Timestamp) -> bool {
        let last = self.submitted_at.max(self.joined_at).max(self.at);
        let is_new = last.is_some_and(|at| at > as_of)
            // A list read soon after may lag.
            || self.joined_at.is_some_and(|at| at.after(MAX_FUTURE) > as_of);
        let is_tenant = Uuid::try_parse(&self.id).is_ok_and(|id| !id.is_nil() && self.id.len() == 36);
        is_new && is_tenant && self.left_at < last
    }

    /// Until when the customer is watched closely because of this activity; `None` if it is not.
    ///
    /// A submission counts once, and not if its review was seen already: the customer's entry dates from it or later. A new
    /// customer without an entry will submit something soon.
    fn watch_until(&self, customer: &ActiveCustomer, calendar: &Calendar, now: Timestamp) -> Option<Timestamp> {
        let submitted = self.submitted_at.filter(|at| customer.submitted_at.is_none_or(|known| known < *at));
        let is_seen = |at: Timestamp| {
            customer.in_review || customer.began_at.is_some_and(|began| began.after(MAX_CLOCK_SKEW) >= at)
        };
        let joined = self.joined_at.filter(|_| customer.began_at.is_none() && customer.watch_closely_until.is_none());
        let at = submitted.filter(|at| !is_seen(*at)).max(joined)?;
        Some(until(at, calendar, now)).filter(|until| customer.watch_closely_until.is_none_or(|known| known < *until))
    }
}

fn until(at: Timestamp, calendar: &Calendar, now: Timestamp) -> Timestamp {
    calendar.business_days_after(at.min(now), WATCH_BUSINESS_DAYS)
}

/// Applies the activity. `synced_as_of`: the time of the last complete customer list; `None` if customers are not synced.
/// Returns how many customers are watched closely from now on, and how many were added.
pub(super) async fn apply(
    tx: &mut WriteTx,
    partner: PartnerId,
    activity: &ActivityById,
    synced_as_of: Option<Timestamp>,
    calendar: &Calendar,
    now: Timestamp,
) -> Result<(u64, u64), store::Error> {
    let keys = |matches: &dyn Fn(&CustomerActivity) -> bool| -> Vec<&str> {
        activity.iter().filter(|(_, act)| matches(act)).map(|(key, _)| key.as_str()).collect()
    };
    let mut expected = 0;
    let relevant = keys(&|act| act.submitted_at.is_some() || act.joined_at.is_some());
    for customer in tx.watched_among(partner, &relevant).await? {
        let Some(act) = activity.get(&customer.key) else { continue };
        if let Some(until) = act.watch_until(&customer, calendar, now) {
            // Past that time it is polled once, and then as often as settled customers.
            let class = if until > now { PollClass::InReview } else { PollClass::Settled };
            tx.expect(customer.row, until, class, now).await?;
            expected += 1;
        }
        if let Some(at) = act.submitted_at.filter(|at| customer.submitted_at < Some(*at)) {
            tx.note_submission(customer.row, at).await?;
        }
    }
    let Some(as_of) = synced_as_of else { return Ok((expected, 0)) };
    let mut new_customers = Vec::new();
    for key in tx.never_watched(partner, &keys(&|act| act.is_new_customer(as_of))).await? {
        let Some(act) = activity.get(&key) else { continue };
        let last = act.submitted_at.max(act.joined_at).max(act.at).unwrap_or(now);
        new_customers.push(DiscoveredCustomer {
            id: act.id.clone(),
            name: act.name.clone(),
            submitted_at: act.submitted_at.map(Timestamp::as_millis),
            watch_closely_until: until(last, calendar, now).as_millis(),
            key,
        });
    }
    if new_customers.is_empty() {
        return Ok((expected, 0));
    }
    Ok((expected, tx.insert_discovered(partner, &new_customers, now).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::CustomerId;

    const NOW: Timestamp = Timestamp::from_millis(1_795_262_400_000);

    fn hours_ago(hours: u64) -> Timestamp {
        NOW.before(Duration::from_hours(hours))
    }

    fn unqualified() -> ActiveCustomer {
        ActiveCustomer {
            row: CustomerId(1),
            key: String::new(),
            class: PollClass::Unqualified,
            left: false,
            submitted_at: None,
            watch_closely_until: None,
            in_review: false,
            began_at: None,
        }
    }

    #[test]
    fn a_submission_is_watched_once_and_not_when_its_review_was_seen() {
        let act = CustomerActivity { submitted_at: Some(hours_ago(2)), ..CustomerActivity::default() };
        let expects = |customer: ActiveCustomer| act.watch_until(&customer, &Calendar::default(), NOW).is_some();
        assert!(expects(unqualified()));
        // Its entry is from before: a denial, or something else.
        assert!(expects(ActiveCustomer { began_at: Some(hours_ago(3)), ..unqualified() }));
        assert!(
            expects(ActiveCustomer { submitted_at: Some(hours_ago(900)), ..unqualified() }),
            "that was another one"
        );
        for seen in [
            ActiveCustomer { submitted_at: Some(hours_ago(2)), ..unqualified() },
            ActiveCustomer { began_at: Some(hours_ago(2).before(MAX_CLOCK_SKEW)), ..unqualified() },
            ActiveCustomer { began_at: Some(hours_ago(1)), ..unqualified() },
            ActiveCustomer { in_review: true, began_at: Some(hours_ago(50)), ..unqualified() },
            ActiveCustomer { watch_closely_until: Some(NOW.after(Duration::from_hours(24 * 20))), ..unqualified() },
        ] {
            assert!(!expects(seen.clone()), "{seen:?}");
        }
    }

    #[test]
    fn no_customer_is_added_by_a_departure_an_odd_id_or_an_operation_that_the_list_knows_of() {
        let id = "b1d50000-0000-4000-8000-000000000001";
        let act =
            |hours| CustomerActivity { id: id.to_owned(), at: Some(hours_ago(hours)), ..CustomerActivity::default() };
        let as_of = hours_ago(5);
        assert!(act(4).is_new_customer(as_of));
        assert!(CustomerActivity { left_at: Some(hours_ago(5)), ..act(4) }.is_new_customer(as_of), "and is back");
        assert!(
            CustomerActivity { joined_at: Some(hours_ago(20)), ..act(30) }.is_new_customer(as_of),
            "lists lag behind"
        );
        for ignored in [
            act(6),
            CustomerActivity { left_at: Some(hours_ago(3)), ..act(4) },
            CustomerActivity {
                left_at: Some(hours_ago(3)),
                ..CustomerActivity { id: id.to_owned(), ..CustomerActivity::default() }
            },
            CustomerActivity { id: "../../partners".to_owned(), ..act(4) },
            CustomerActivity { id: Uuid::nil().to_string(), ..act(4) },
            CustomerActivity { joined_at: Some(hours_ago(40)), ..act(40) },
        ] {
            assert!(!ignored.is_new_customer(as_of), "{ignored:?}");
        }
    }
}
