//! Who is being asked, or about to be: kept over many rounds, so that no answer waits for another.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::batch::Batch;
use super::{PollRound, Poller, Shares};
use crate::partner_center::{Answer, Error, Promise};
use crate::store::DueCustomer;

/// Whoever was taken and could not be asked for so long is given back, well before its lease ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Dropped, it leaves whoever is being asked to the lease.
#[derive(Debug, Default)]
pub struct Flight {
    /// Taken, in the order in which they are asked.
    waiting: VecDeque<Waiting>,
    pub(super) asking: JoinSet<Answered>,
    /// Answers that are not recorded yet: the database may fail for a while.
    pub(super) answered: VecDeque<Answered>,
    pub(super) batch: Batch,
    /// Whoever waits may wait for as long as it takes.
    is_patient: bool,
    /// Something was recorded since the last look: somebody may be due.
    pub(super) is_news: bool,
    /// The gate was closed, and no good answer came since.
    pub(super) was_closed: bool,
    /// How often everything was stopped.
    pub(super) pauses: u64,
    /// Of those who are being asked: since the last pause.
    since_pause: usize,
}

#[derive(Debug)]
struct Waiting {
    customer: DueCustomer,
    /// How the shares stood before it was taken.
    before: Shares,
    promise: Promise,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Answered {
    pub(super) customer: DueCustomer,
    pub(super) question: PollOutcome,
    /// After how many pauses it was asked.
    pub(super) asked_in: u64,
}

/// What became of one question.
#[derive(Debug)]
pub(super) enum PollOutcome {
    Answer(Box<Answer>),
    Error(Error),
    Not,
}

impl Flight {
    /// One in which nobody is given back because it has to wait.
    pub(super) fn patient() -> Self {
        Self { is_patient: true, ..Self::default() }
    }

    pub(super) fn is_under_way(&self) -> bool {
        !(self.waiting.is_empty() && self.asking.is_empty() && self.answered.is_empty())
    }

    /// Whether the next question is the one that asks whether the trouble is over.
    pub(super) fn is_probe(&self) -> bool {
        self.was_closed
    }

    pub(super) fn arrived(&mut self, answered: Option<Answered>) {
        if answered.as_ref().is_some_and(|answered| answered.asked_in == self.pauses) {
            self.since_pause -= 1;
        }
        self.answered.extend(answered);
    }

    pub(super) fn wait(&mut self, customer: DueCustomer, before: Shares, promise: Promise) {
        self.waiting.push_back(Waiting { customer, before, promise, since: Instant::now() });
    }
}

impl Poller {
    /// Whether somebody else can be asked.
    pub(super) fn has_room(&self, flight: &Flight) -> bool {
        let is_probed = flight.was_closed && flight.since_pause > 0;
        flight.waiting.is_empty() && flight.asking.len() < self.max_in_flight && !is_probed && !self.stop.is_cancelled()
    }

    /// Begins the questions that wait, as many as there is room for.
    pub(super) fn begin(&self, flight: &mut Flight, round: &mut PollRound) {
        let has_expired = |waiting: &Waiting| !flight.is_patient && waiting.since.elapsed() > PATIENCE;
        if self.stop.is_cancelled() || flight.waiting.front().is_some_and(has_expired) {
            self.give_back(flight, round);
        }
        while flight.asking.len() < self.max_in_flight
            && let Some(Waiting { customer, promise, .. }) = flight.waiting.pop_front()
        {
            let (client, stop, asked_in) = (self.client.clone(), self.stop.clone(), flight.pauses);
            flight.since_pause += 1;
            flight.asking.spawn(async move {
                // An answer that makes us panic costs that answer.
                let asking = client.promised_qualifications(&customer.customer_id, Some(promise));
                let question = tokio::select! {
                    answer = AssertUnwindSafe(asking).catch_unwind() => match answer {
                        Ok(Ok(answer)) => PollOutcome::Answer(Box::new(answer)),
                        Ok(Err(error)) => PollOutcome::Error(error),
                        Err(_panic) => PollOutcome::Error(Error::Unreadable {
                            what: "an answer that vetwatch stumbled over; please report it".to_owned(),
                            correlation_id: None,
                        }),
                    },
                    () = stop.cancelled() => PollOutcome::Not,
                };
                Answered { customer, question, asked_in }
            });
        }
    }

    /// Nothing more is asked for now. What is under way may still be answered.
    pub(super) fn stop_asking(&self, flight: &mut Flight, round: &mut PollRound) {
        flight.pauses += 1;
        flight.since_pause = 0;
        flight.was_closed = true;
        self.give_back(flight, round);
    }

    /// Gives back who waits: due since when each was, and as if the shares had not been touched.
    fn give_back(&self, flight: &mut Flight, round: &mut PollRound) {
        if let Some(first) = flight.waiting.front() {
            *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = first.before;
        }
        for Waiting { customer, .. } in flight.waiting.drain(..) {
            flight.batch.not_asked(customer.row, customer.due_at);
            round.not_asked += 1;
        }
    }
}
