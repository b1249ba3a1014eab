//! What is known after `vetwatch submit` asked for a vetting: that news is to be expected, and, if Partner Center said
//! something that was understood, how the qualification stands.
//!
//! The answer to a submission may hold the new entry alone. So it says something of that qualification and nothing of the
//! customer's others: they are not missing, the customer does not count as seen, and the next answer about it is compared
//! in full.

use std::time::Duration;

use super::{Intervals, Recorded, after_business_days, tell};
use crate::changes::{self, AbsencePolicy, EvalContext, QualificationState};
use crate::delivery::route::Routes;
use crate::partner_center::Answer;
use crate::qualification::{Snapshot, key};
use crate::store::{self, Expected, PartnerRow, Store};
use crate::time::Timestamp;

use super::EXPECTED_BUSINESS_DAYS;

/// A process that dies while it submits leaves a customer that is asked about after this.
const LEASE: Duration = Duration::from_mins(5);
/// How soon a customer is asked about after Partner Center took a submission. Not at once: replicas lag.
const SOON: Duration = Duration::from_mins(1);

/// Puts the customer on expected news before anything is sent; `None`: it is watched no more.
///
/// # Errors
/// When the database fails; nothing is to be sent then.
pub async fn begin(store: &Store, customer: i64, now: Timestamp) -> Result<Option<Expected>, store::Error> {
    let until = after_business_days(now, EXPECTED_BUSINESS_DAYS);
    let mut tx = store.begin().await?;
    let expected = tx.watch_closely(customer, until, now.after(LEASE)).await?;
    tx.commit().await?;
    Ok(expected)
}

/// Partner Center refused: what is expected, and when it is asked, is as before.
pub async fn refused(store: &Store, expected: &Expected) -> Result<(), store::Error> {
    let mut tx = store.begin().await?;
    tx.restore_watch(expected).await?;
    tx.commit().await
}

/// It is not known whether the submission arrived: the customer is asked about at once.
pub async fn unclear(
    store: &Store,
    expected: &Expected,
    qualification: &str,
    now: Timestamp,
) -> Result<(), store::Error> {
    let mut tx = store.begin().await?;
    expect_first_response(&mut tx, expected.customer, qualification, now).await?;
    tx.submitted(expected, now, now).await?;
    tx.commit().await
}

/// Partner Center took the submission. Everything that follows from it is committed, or nothing is.
///
/// # Errors
/// When the database fails. The customer is on expected news all the same, since [`begin`].
pub async fn taken(
    store: &Store,
    partner: &PartnerRow,
    routes: &Routes,
    intervals: &Intervals,
    expected: &Expected,
    qualification: &str,
    (answer, now): (Option<&Answer>, Timestamp),
) -> Result<Recorded, store::Error> {
    let mut tx = store.begin().await?;
    let Some(customer) = tx.customer(expected.customer).await? else {
        return Ok(Recorded { dropped: true, ..Recorded::default() });
    };
    expect_first_response(&mut tx, customer.row, qualification, now).await?;
    let mut recorded = Recorded::default();
    if let Some(answer) = answer {
        let before: Vec<QualificationState> = tx.states(customer.row).await?;
        let about = before.into_iter().filter(|belief| key(&belief.qualification) == key(qualification));
        let said = Snapshot::of(answer.snapshot.get(&key(qualification)).cloned());
        let look = EvalContext {
            now: answer.ended_at,
            last_seen_at: customer.last_seen_at,
            submitted_at: customer.submitted_at,
            news_since: Some(partner.watching_since),
            first_confirmation: intervals.first_confirmation,
            second_confirmation: intervals.second_confirmation,
            doubt: AbsencePolicy::Usual,
        };
        let steps = changes::compare(&about.collect::<Vec<_>>(), &said, &look);
        recorded = tell(&mut tx, partner, routes, &customer, answer, &steps).await?;
    }
    tx.submitted(expected, now, now.after(SOON.min(intervals.in_review))).await?;
    tx.commit().await?;
    Ok(recorded)
}

/// Of a customer who was never seen, the first sight would be silent. This one's submission is known to be ours.
async fn expect_first_response(
    tx: &mut store::WriteTx,
    customer: i64,
    qualification: &str,
    now: Timestamp,
) -> Result<(), store::Error> {
    let Some(customer) = tx.customer(customer).await? else { return Ok(()) };
    let is_known = tx.states(customer.row).await?.iter().any(|belief| key(&belief.qualification) == key(qualification));
    if customer.last_seen_at.is_none() && !is_known {
        tx.save_state(customer.row, &QualificationState::never(qualification, now)).await?;
    }
    Ok(())
}
