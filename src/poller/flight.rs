//! Polls in flight or about to start, kept over many rounds so that no response waits for another.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::batch::Batch;
use super::{PollRound, Poller, Shares};
use crate::partner_center::{Answer, Error, Promise};
use crate::store::{CustomerId, DueCustomer};

/// A claimed customer that waits longer is released, well before its lease ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Customers claimed at once: few, as one that becomes due meanwhile waits for them; many where a claim lasts less than a
/// second.
const CLAIM: u32 = 100;
const FAST_CLAIM: u32 = 500;

/// With this many responses to be recorded no poll starts: the database comes first.
const MAX_UNRECORDED: usize = 128;

/// If dropped, customers in flight are due again after their lease.
#[derive(Debug, Default)]
pub struct Flight {
    /// Claimed, in polling order.
    waiting: VecDeque<Waiting>,
    pub(super) running: JoinSet<Answered>,
    /// Responses not recorded yet: the database may fail for a while.
    pub(super) answered: VecDeque<Answered>,
    pub(super) batch: Batch,
    /// Waiting customers are never released for waiting too long.
    is_patient: bool,
    /// Something was recorded since the last claim, so another customer may be due.
    pub(super) has_recorded: bool,
    /// The partner backed off, and no good response arrived since.
    pub(super) was_backing_off: bool,
    /// Number of backoffs so far.
    pub(super) pauses: u64,
    /// Polls in flight that started since the last backoff.
    since_pause: usize,
    /// The customers of the polls in flight.
    customers: Vec<CustomerId>,
    /// When customers were last claimed, and how many at most.
    claimed_at: Option<Instant>,
    claim: u32,
}

#[derive(Debug)]
struct Waiting {
    customer: DueCustomer,
    /// As in [`Answered`].
    is_second: bool,
    /// The shares before it was claimed.
    shares_before: Shares,
    promise: Promise,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Answered {
    pub(super) customer: DueCustomer,
    pub(super) outcome: PollOutcome,
    /// The value of [`Flight::pauses`] when the poll started.
    pub(super) pauses_before: u64,
    /// It was claimed while an earlier poll of it had no stored result: it became due again meanwhile.
    pub(super) is_second: bool,
}

#[derive(Debug)]
pub(super) enum PollOutcome {
    Response(Box<Answer>),
    Failed(Error),
    Skipped,
}

impl Flight {
    /// One that releases no customer for waiting too long.
    pub(super) fn patient() -> Self {
        Self { is_patient: true, ..Self::default() }
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.waiting.is_empty() || !self.running.is_empty() || self.unrecorded() > 0
    }

    /// True if a failure that concerns every customer has arrived: no poll starts before the backoff does.
    fn is_halted(&self) -> bool {
        let concerns_all =
            |outcome: &PollOutcome| matches!(outcome, PollOutcome::Failed(error) if error.affects_partner());
        self.answered.iter().any(|answered| concerns_all(&answered.outcome))
    }

    /// How many customers to claim now.
    pub(super) fn next_claim(&mut self) -> u32 {
        let was_short = self.claimed_at.replace(Instant::now()).is_some_and(|at| at.elapsed() < Duration::from_secs(1));
        self.claim = if was_short { FAST_CLAIM } else { CLAIM };
        self.claim
    }

    /// With fewer waiting customers the next ones are claimed: a claim takes a few milliseconds.
    fn runs_low(&self) -> bool {
        self.waiting.len() < usize::try_from(self.claim / 4).unwrap_or(usize::MAX)
    }

    fn unrecorded(&self) -> usize {
        self.answered.len() + self.batch.to_record()
    }

    pub(super) fn arrived(&mut self, answered: Option<Answered>) {
        if answered.as_ref().is_some_and(|answered| answered.pauses_before == self.pauses) {
            self.since_pause -= 1;
        }
        let customer = answered.as_ref().map(|answered| answered.customer.row);
        if let Some(at) = self.customers.iter().position(|row| Some(*row) == customer) {
            self.customers.swap_remove(at);
        }
        self.answered.extend(answered);
    }

    /// Adds a customer that was just claimed.
    pub(super) fn wait(&mut self, customer: DueCustomer, shares_before: Shares, promise: Promise) {
        let row = customer.row;
        let is_second = self.waiting.iter().any(|waiting| waiting.customer.row == row)
            || self.customers.contains(&row)
            || self.answered.iter().any(|answered| answered.customer.row == row)
            || self.batch.failed.iter().any(|failed| failed.row == row);
        self.waiting.push_back(Waiting { customer, is_second, shares_before, promise, since: Instant::now() });
    }
}

impl Poller {
    /// True if more customers may be claimed: a slot is free, or soon will be and few customers wait for it.
    pub(super) fn has_room(&self, flight: &Flight) -> bool {
        let is_probed = flight.was_backing_off && flight.since_pause > 0;
        let has_slot = flight.running.len() < self.max_in_flight;
        let runs_low = if flight.waiting.is_empty() { has_slot } else { flight.runs_low() };
        runs_low && !is_probed && !self.stop.is_cancelled()
    }

    /// Waits for `work`, which uses the database, while polls go on. Their responses are kept in `flight`.
    pub(super) async fn while_polling<T>(
        &self,
        flight: &mut Flight,
        round: &mut PollRound,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(answered) = flight.running.join_next() => {
                    flight.arrived(answered.ok());
                    self.begin(flight, round);
                }
            }
        }
    }

    /// Starts the waiting polls, as many as there is room for.
    pub(super) fn begin(&self, flight: &mut Flight, round: &mut PollRound) {
        let has_expired = |waiting: &Waiting| !flight.is_patient && waiting.since.elapsed() > PATIENCE;
        if self.stop.is_cancelled() || flight.waiting.front().is_some_and(has_expired) {
            self.release_waiting(flight, round);
        }
        while !flight.is_halted()
            && flight.running.len() < self.max_in_flight
            && flight.unrecorded() < MAX_UNRECORDED
            && let Some(Waiting { customer, is_second, promise, .. }) = flight.waiting.pop_front()
        {
            let (client, stop, pauses_before) = (self.client.clone(), self.stop.clone(), flight.pauses);
            let (metrics, partner, began) = (self.metrics.clone(), self.partner.name.clone(), Instant::now());
            flight.since_pause += 1;
            flight.customers.push(customer.row);
            flight.running.spawn(async move {
                // A response that causes a panic costs that response only.
                let asking = client.promised_qualifications(&customer.customer_id, Some(promise));
                let outcome = tokio::select! {
                    answer = AssertUnwindSafe(asking).catch_unwind() => match answer {
                        Ok(Ok(answer)) => PollOutcome::Response(Box::new(answer)),
                        Ok(Err(error)) => PollOutcome::Failed(error),
                        Err(_panic) => PollOutcome::Failed(Error::Unreadable {
                            what: "an answer that vetwatch stumbled over; please report it".to_owned(),
                            correlation_id: None,
                        }),
                    },
                    () = stop.cancelled() => PollOutcome::Skipped,
                };
                match &outcome {
                    PollOutcome::Response(_) => metrics.polled(&partner, None, began.elapsed()),
                    PollOutcome::Failed(error) => metrics.polled(&partner, Some(error), began.elapsed()),
                    PollOutcome::Skipped => {}
                }
                Answered { customer, outcome, pauses_before, is_second }
            });
        }
    }

    /// Starts no more polls for now. Those in flight may still be answered.
    pub(super) fn pause_polling(&self, flight: &mut Flight, round: &mut PollRound) {
        flight.pauses += 1;
        flight.since_pause = 0;
        flight.was_backing_off = true;
        self.release_waiting(flight, round);
    }

    /// Releases the waiting customers: restores their due times and the shares.
    fn release_waiting(&self, flight: &mut Flight, round: &mut PollRound) {
        if let Some(first) = flight.waiting.front() {
            *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = first.shares_before;
        }
        for Waiting { customer, .. } in flight.waiting.drain(..) {
            flight.batch.release(customer.row, customer.due_at);
            round.released += 1;
        }
    }
}
