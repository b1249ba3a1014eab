//! Records what `vetwatch submit` did: the customer is watched closely, and the response, if understood, is stored.
//!
//! The response to a submission may hold the new entry alone, so it counts for that qualification only: the others are
//! not missing, the customer does not count as seen, and the next poll is compared in full.

use std::time::Duration;

use super::{Recorded, Recorder, WATCH_BUSINESS_DAYS, persist_changes};
use crate::changes::{self, AbsencePolicy, EvalContext, QualificationState};
use crate::partner_center::Answer;
use crate::qualification::{Snapshot, key};
use crate::store::{self, CustomerId, Expected, Store};
use crate::time::Timestamp;

/// A customer whose submitting process died is polled after this.
const LEASE: Duration = Duration::from_mins(5);
/// When a customer is polled after an accepted submission. Not at once: replicas lag.
const FIRST_POLL_AFTER: Duration = Duration::from_mins(1);

impl Recorder<'_> {
    /// Watches the customer closely, before anything is sent. `None` if it is no longer watched.
    ///
    /// # Errors
    /// When the database fails; do not submit then.
    pub async fn submission_started(
        &self,
        customer: CustomerId,
        now: Timestamp,
    ) -> Result<Option<Expected>, store::Error> {
        let until = self.calendar.business_days_after(now, WATCH_BUSINESS_DAYS);
        let mut tx = self.store.begin().await?;
        let expected = tx.watch_closely(customer, until, now.after(LEASE)).await?;
        tx.commit().await?;
        Ok(expected)
    }

    /// Submission accepted: records everything that follows from it, or nothing.
    ///
    /// # Errors
    /// When the database fails. The customer is still watched closely, since [`Self::submission_started`].
    pub async fn submission_accepted(
        &self,
        expected: &Expected,
        qualification: &str,
        (answer, now): (Option<&Answer>, Timestamp),
    ) -> Result<Recorded, store::Error> {
        let Self { store, partner, routes, intervals, .. } = *self;
        let mut tx = store.begin().await?;
        let Some(customer) = tx.customer(expected.customer).await? else {
            return Ok(Recorded::default());
        };
        expect_first_response(&mut tx, customer.row, qualification, now).await?;
        let mut recorded = Recorded::default();
        if let Some(answer) = answer {
            let before: Vec<QualificationState> = tx.states(customer.row).await?;
            let submitted = before.into_iter().filter(|state| key(&state.qualification) == key(qualification));
            let snapshot = Snapshot::of(answer.snapshot.get(&key(qualification)).cloned());
            let context = EvalContext {
                now: answer.ended_at,
                last_seen_at: customer.last_seen_at,
                submitted_at: customer.submitted_at,
                notify_since: Some(partner.watching_since),
                first_confirmation: intervals.first_confirmation,
                second_confirmation: intervals.second_confirmation,
                absence_policy: AbsencePolicy::Confirm,
            };
            let steps = changes::compare(&submitted.collect::<Vec<_>>(), &snapshot, &context);
            recorded = persist_changes(&mut tx, partner, routes, &customer, answer, &steps).await?;
        }
        tx.submitted(expected, now, now.after(FIRST_POLL_AFTER.min(intervals.in_review))).await?;
        tx.commit().await?;
        Ok(recorded)
    }
}

/// Submission rejected: restores the previous watch and due time.
pub async fn rejected(store: &Store, expected: &Expected) -> Result<(), store::Error> {
    let mut tx = store.begin().await?;
    tx.restore_watch(expected).await?;
    tx.commit().await
}

/// Unknown whether the submission arrived: polls the customer at once.
pub async fn outcome_unknown(
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

/// The first response for an unseen customer would be stored silently; after a submission through vetwatch it must not be.
async fn expect_first_response(
    tx: &mut store::WriteTx,
    customer: CustomerId,
    qualification: &str,
    now: Timestamp,
) -> Result<(), store::Error> {
    let Some(customer) = tx.customer(customer).await? else { return Ok(()) };
    let is_known = tx.states(customer.row).await?.iter().any(|state| key(&state.qualification) == key(qualification));
    if customer.last_seen_at.is_none() && !is_known {
        tx.save_state(customer.row, &QualificationState::unseen(qualification, now)).await?;
    }
    Ok(())
}
