//! What follows from what people did: who is asked sooner, who is on the roster. Never more than that.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::calendar::Calendar;
use crate::partner_center::{Operation, OperationKind};
use crate::qualification::key;
use crate::recording::WATCH_BUSINESS_DAYS;
use crate::schedule::PollClass;
use crate::store::{self, ActiveCustomer, DiscoveredCustomer, WriteTx};
use crate::time::Timestamp;

/// A create date may be this much earlier than the submission that it is of.
const CLOCKS: Duration = Duration::from_mins(5);
/// An operation that is dated later than this is not believed.
const FUTURE: Duration = Duration::from_hours(24);

/// What was done about each customer, by id as compared.
pub(super) type ActivityById = HashMap<String, CustomerActivity>;

/// What was done about a customer, and when the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CustomerActivity {
    id: String,
    name: String,
    submitted_at: Option<Timestamp>,
    joined_at: Option<Timestamp>,
    left_at: Option<Timestamp>,
    /// Anything else.
    at: Option<Timestamp>,
}

impl CustomerActivity {
    /// Notes an operation that was done, or will have been.
    pub(super) fn note(acts: &mut ActivityById, operation: &Operation, now: Timestamp) {
        if !operation.is_done || operation.customer_id.is_empty() || operation.at > now.after(FUTURE) {
            return;
        }
        let act = acts.entry(key(&operation.customer_id)).or_default();
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

    /// Whether somebody who was not a customer as of then is one now.
    fn is_newcomer(&self, as_of: Timestamp) -> bool {
        let last = self.submitted_at.max(self.joined_at).max(self.at);
        let is_new = last.is_some_and(|at| at > as_of)
            // A list that was read soon after may lag behind.
            || self.joined_at.is_some_and(|at| at.after(FUTURE) > as_of);
        let is_tenant = Uuid::try_parse(&self.id).is_ok_and(|id| !id.is_nil() && self.id.len() == 36);
        is_new && is_tenant && self.left_at < last
    }

    /// Until when news of a customer is expected, if it is because of this.
    ///
    /// A submission counts once, and not if what it led to was seen already: what the customer holds began with it or
    /// later. Who became a customer and holds nothing yet will submit something soon.
    fn expects(&self, customer: &ActiveCustomer, calendar: &Calendar, now: Timestamp) -> Option<Timestamp> {
        let submitted = self.submitted_at.filter(|at| customer.submitted_at.is_none_or(|known| known < *at));
        let is_seen =
            |at: Timestamp| customer.in_review || customer.began_at.is_some_and(|began| began.after(CLOCKS) >= at);
        let joined = self.joined_at.filter(|_| customer.began_at.is_none() && customer.watch_closely_until.is_none());
        let at = submitted.filter(|at| !is_seen(*at)).max(joined)?;
        Some(until(at, calendar, now)).filter(|until| customer.watch_closely_until.is_none_or(|known| known < *until))
    }
}

fn until(at: Timestamp, calendar: &Calendar, now: Timestamp) -> Timestamp {
    calendar.business_days_after(at.min(now), WATCH_BUSINESS_DAYS)
}

/// Takes over what was done. `customer_sync`: as of when everybody is on it who was a customer; `None`: it follows nobody's
/// list. Returns of how many customers news is expected, and how many are new.
pub(super) async fn take(
    tx: &mut WriteTx,
    partner: i64,
    acts: &ActivityById,
    roster: Option<Timestamp>,
    calendar: &Calendar,
    now: Timestamp,
) -> Result<(u64, u64), store::Error> {
    let keys = |is_meant: &dyn Fn(&CustomerActivity) -> bool| -> Vec<&str> {
        acts.iter().filter(|(_, act)| is_meant(act)).map(|(key, _)| key.as_str()).collect()
    };
    let mut expected = 0;
    let of_interest = keys(&|act| act.submitted_at.is_some() || act.joined_at.is_some());
    for customer in tx.watched_among(partner, &of_interest).await? {
        let Some(act) = acts.get(&customer.key) else { continue };
        if let Some(until) = act.expects(&customer, calendar, now) {
            // Later than that nothing comes any more; it is looked once, and then as long as after any expectation.
            let class = if until > now { PollClass::InReview } else { PollClass::Settled };
            tx.expect(customer.row, until, class, now).await?;
            expected += 1;
        }
        if let Some(at) = act.submitted_at.filter(|at| customer.submitted_at < Some(*at)) {
            tx.note_submission(customer.row, at).await?;
        }
    }
    let Some(as_of) = roster else { return Ok((expected, 0)) };
    let mut newcomers = Vec::new();
    for key in tx.never_watched(partner, &keys(&|act| act.is_newcomer(as_of))).await? {
        let Some(act) = acts.get(&key) else { continue };
        let last = act.submitted_at.max(act.joined_at).max(act.at).unwrap_or(now);
        newcomers.push(DiscoveredCustomer {
            id: act.id.clone(),
            name: act.name.clone(),
            submitted_at: act.submitted_at.map(Timestamp::as_millis),
            watch_closely_until: until(last, calendar, now).as_millis(),
            key,
        });
    }
    if newcomers.is_empty() {
        return Ok((expected, 0));
    }
    Ok((expected, tx.insert_discovered(partner, &newcomers, now).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_262_400_000);

    fn hours_ago(hours: u64) -> Timestamp {
        NOW.before(Duration::from_hours(hours))
    }

    fn unqualified() -> ActiveCustomer {
        ActiveCustomer {
            row: 1,
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
    fn a_submission_is_looked_for_once_and_not_when_what_came_of_it_was_seen() {
        let act = CustomerActivity { submitted_at: Some(hours_ago(2)), ..CustomerActivity::default() };
        let expects = |customer: ActiveCustomer| act.expects(&customer, &Calendar::default(), NOW).is_some();
        assert!(expects(unqualified()));
        // It holds what began before: a denial, or something else.
        assert!(expects(ActiveCustomer { began_at: Some(hours_ago(3)), ..unqualified() }));
        assert!(
            expects(ActiveCustomer { submitted_at: Some(hours_ago(900)), ..unqualified() }),
            "that was another one"
        );
        for seen in [
            ActiveCustomer { submitted_at: Some(hours_ago(2)), ..unqualified() },
            ActiveCustomer { began_at: Some(hours_ago(2).before(CLOCKS)), ..unqualified() },
            ActiveCustomer { began_at: Some(hours_ago(1)), ..unqualified() },
            ActiveCustomer { in_review: true, began_at: Some(hours_ago(50)), ..unqualified() },
            ActiveCustomer { watch_closely_until: Some(NOW.after(Duration::from_hours(24 * 20))), ..unqualified() },
        ] {
            assert!(!expects(seen.clone()), "{seen:?}");
        }
    }

    #[test]
    fn nobody_is_made_a_customer_by_a_departure_an_odd_id_or_an_operation_that_the_list_knows_of() {
        let id = "b1d50000-0000-4000-8000-000000000001";
        let act =
            |hours| CustomerActivity { id: id.to_owned(), at: Some(hours_ago(hours)), ..CustomerActivity::default() };
        let as_of = hours_ago(5);
        assert!(act(4).is_newcomer(as_of));
        assert!(CustomerActivity { left_at: Some(hours_ago(5)), ..act(4) }.is_newcomer(as_of), "and is back");
        assert!(CustomerActivity { joined_at: Some(hours_ago(20)), ..act(30) }.is_newcomer(as_of), "lists lag behind");
        for nobody in [
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
            assert!(!nobody.is_newcomer(as_of), "{nobody:?}");
        }
    }
}
