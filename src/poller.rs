//! Who is due → ask → record. One loop for each partner; a failed question changes nothing that is believed.

mod asked;
mod batch;
mod due;
mod gate;
mod pace;
mod sight;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::calendar::Reminders;
use crate::delivery::route::Routes;
use crate::partner_center::{Answer, Budget, Error, PartnerCenter};
use crate::record::{self, Intervals, baseline, brake, departure, unrecognized};
use crate::store::{self, DueCustomer, Failed, PartnerRow, PollClass, Store, Unchanged};
use crate::time::{Clock, ClockWatch, Timestamp};

/// A round takes at most so many customers, and begins no question after so long.
const ROUND: (u32, Duration) = (100, Duration::from_secs(30));
/// Longer than a question can take: a customer whose question died with the process is due again by then.
const LEASE: Duration = Duration::from_mins(5);
/// A customer is blind when three questions in a row over at least this long have failed.
const BLIND_AFTER: Duration = Duration::from_hours(1);

pub use asked::Asked;
use batch::{BATCH, Batch};
pub(crate) use gate::{LONGEST_GATE, pause};

pub struct Poller {
    pub partner: PartnerRow,
    pub client: Arc<PartnerCenter>,
    pub budget: Arc<Budget>,
    pub max_in_flight: usize,
    /// The roster follows Partner Center's list.
    pub synced: bool,
    pub intervals: Intervals,
    /// The activity log tells of submissions, as far as the last round knows.
    pub log_is_read: AtomicBool,
    pub routes: Arc<Routes>,
    /// Which reviews are overdue.
    pub reminders: Arc<Reminders>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub clock_watch: Arc<ClockWatch>,
    /// Answers within the last hour about customers who have something to lose.
    pub asked: Asked,
    /// The lowered limit that is stored, 0: none.
    pub limit: AtomicU32,
    /// Poked after a commit that queued something.
    pub outbox: Vec<Arc<Notify>>,
    /// No new question is asked once this is cancelled.
    pub stop: CancellationToken,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    pub unchanged: u32,
    pub changed: u32,
    pub failed: u32,
    /// Taken, and given back without asking: the gate closed, or we are stopping.
    pub not_asked: u32,
    /// Transitions recorded.
    pub transitions: u32,
    /// Partner Center refused us as a whole: a person must act.
    pub refused: bool,
    pub next: Option<Timestamp>,
}

impl Round {
    pub fn add(&mut self, other: &Self) {
        self.unchanged += other.unchanged;
        self.changed += other.changed;
        self.failed += other.failed;
        self.not_asked += other.not_asked;
        self.transitions += other.transitions;
        self.refused |= other.refused;
    }
}

/// What became of one question.
enum Question {
    Answer(Box<Answer>),
    Error(Error),
    Not,
}

impl Poller {
    /// Asks the customers that are due, as many as the budget has for.
    ///
    /// # Errors
    /// When the database fails. Who was not recorded then is due again after the lease.
    pub async fn round(&self) -> Result<Round, store::Error> {
        let mut round = Round::default();
        self.store.follow_clock(&self.clock_watch, &*self.clock).await?;
        let now = self.clock.now();
        self.follow_log(now).await?;
        self.tell(now).await?;
        brake::release(&self.store, self.partner.id, self.asked.within_hour(now), now).await?;
        self.note_limit(now).await?;
        let gate = self.store.gate(self.partner.id).await?;
        if let Some(gate) = &gate
            && gate.closed_until > now
            && gate.closed_until <= now.after(LONGEST_GATE)
        {
            round.next = Some(gate.closed_until);
            return Ok(round);
        }
        round.next = self.next_due(now).await?;
        if round.next.is_none_or(|due| due > now) {
            return Ok(round);
        }
        let available = self.budget.available(now).min(ROUND.0);
        if available == 0 {
            round.next = Some(self.budget.ready_at(now));
            return Ok(round);
        }
        // The first question after a pause asks for all whether the trouble is over.
        let limit = if gate.is_some() { 1 } else { available };
        let mut tx = self.store.begin().await?;
        let due = tx.take_due_customers(self.partner.id, now, now.after(LEASE), limit).await?;
        tx.commit().await?;

        self.ask_all(due, &mut round, ROUND.1).await?;
        round.next = Some(self.clock.now()); // there may be more
        Ok(round)
    }

    /// Asks these customers now, whether or not they are due: as many of them, from the first on, as the budget has
    /// for. `taken` says how many that were.
    pub async fn ask_now(&self, rows: &[i64]) -> Result<(usize, Round), store::Error> {
        let mut round = Round::default();
        let now = self.clock.now();
        self.follow_log(now).await?;
        if let Some(gate) = self.store.gate(self.partner.id).await?
            && gate.closed_until > now
        {
            round.next = Some(gate.closed_until);
            return Ok((0, round));
        }
        let limit = usize::try_from(self.budget.available(now)).map_or(BATCH.0, |tokens| tokens.min(BATCH.0));
        let rows = &rows[..limit.min(rows.len())];
        round.next = Some(if rows.is_empty() { self.budget.ready_at(now) } else { now });
        let mut tx = self.store.begin().await?;
        let taken = tx.take_customers(self.partner.id, rows, now, now.after(LEASE)).await?;
        tx.commit().await?;
        self.ask_all(taken, &mut round, Duration::MAX).await?; // whoever asked for it waits
        self.tell(self.clock.now()).await?;
        Ok((rows.len(), round))
    }

    /// Queues what follows from how everybody stands rather than from one answer.
    async fn tell(&self, now: Timestamp) -> Result<(), store::Error> {
        let (store, partner, routes) = (&self.store, &self.partner, &self.routes);
        departure::give_up(store, partner, now).await?;
        let queued = unrecognized::tell(store, partner, routes, now).await?
            + departure::tell(store, partner, routes, now).await?
            + baseline::tell(store, partner, self.synced, routes, &self.reminders, now).await?;
        self.poke_outbox(queued);
        Ok(())
    }

    async fn ask_all(
        &self,
        due: Vec<DueCustomer>,
        round: &mut Round,
        begin_within: Duration,
    ) -> Result<(), store::Error> {
        let began = Instant::now();
        // Set by the first answer that concerns everybody: nothing more is asked behind a closed gate.
        let closed = CancellationToken::new();
        let mut answers = std::pin::pin!(
            stream::iter(due)
                .map(|customer| {
                    let closed = &closed;
                    async move {
                        let asked = if closed.is_cancelled() || began.elapsed() > begin_within {
                            Question::Not
                        } else {
                            self.ask(&customer).await
                        };
                        (customer, asked)
                    }
                })
                .buffer_unordered(self.max_in_flight)
        );
        let mut batch = Batch::default();
        let mut gate: Option<(Timestamp, Error)> = None;
        let (mut good, mut failure) = (false, None);
        while let Some((customer, asked)) = answers.next().await {
            match asked {
                Question::Answer(answer) => {
                    good = true;
                    if matches!(customer.class, PollClass::SecondLook | PollClass::InReview | PollClass::Settled) {
                        self.asked.count(answer.ended_at);
                    }
                    if is_unchanged(&customer, &answer) {
                        round.unchanged += 1;
                        batch.unchanged.push(self.unchanged(&customer, &answer));
                    } else {
                        match self.record(&customer, &answer).await {
                            Ok(transitions) => {
                                round.changed += 1;
                                round.transitions += transitions;
                            }
                            // It costs this answer, and not those that came with it.
                            Err(error) if error.is_of_the_data() => {
                                round.failed += 1;
                                batch.failed.push(self.failed(&customer, &error, false));
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
                Question::Error(error) if error.is_partners_trouble() => {
                    closed.cancel();
                    failure = Some(error.to_string());
                    batch.not_asked.push(customer.row);
                    round.failed += 1;
                    round.refused |= matches!(error, Error::Credential(_) | Error::Forbidden(_));
                    gate = Some((self.clock.now(), error));
                }
                Question::Error(error) => {
                    round.failed += 1;
                    let no_relationship = matches!(error, Error::NoRelationship(_));
                    failure = Some(error.to_string());
                    batch.failed.push(self.failed(&customer, &error, no_relationship));
                }
                Question::Not => {
                    round.not_asked += 1;
                    batch.not_asked.push(customer.row);
                }
            }
            if batch.is_full() {
                self.commit(std::mem::take(&mut batch), None).await?;
            }
        }
        if let Some((at, error)) = gate {
            self.close_gate(at, &error, batch).await?;
        } else {
            self.commit(batch, None).await?;
            if good {
                self.open_gate().await?;
            }
        }
        self.note_sight(good, failure).await
    }

    async fn ask(&self, customer: &DueCustomer) -> Question {
        // A task of its own: an answer that makes us panic costs that answer.
        let (client, id) = (self.client.clone(), customer.customer_id.clone());
        let question = tokio::spawn(async move { client.qualifications(&id).await });
        let abort = question.abort_handle();
        tokio::select! {
            answer = question => match answer {
                Ok(Ok(answer)) => Question::Answer(Box::new(answer)),
                Ok(Err(error)) => Question::Error(error),
                Err(_panic) => Question::Error(Error::Unreadable {
                    what: "an answer that vetwatch stumbled over; please report it".to_owned(),
                    correlation_id: None,
                }),
            },
            () = self.stop.cancelled() => {
                abort.abort();
                Question::Not
            }
        }
    }

    async fn record(&self, customer: &DueCustomer, answer: &Answer) -> Result<u32, store::Error> {
        let asked = self.asked.within_hour(answer.ended_at);
        let recorded =
            record::record(&self.store, &self.partner, &self.routes, &self.intervals(), asked, customer.row, answer)
                .await?;
        self.poke_outbox(recorded.queued);
        for (change, event) in &recorded.changes {
            let word = |status: &Option<String>| status.clone().unwrap_or_else(|| "no status".to_owned());
            info!(
                customer.id = customer.customer_id, qualification = change.qualification,
                attempt = change.review.attempt, correlation_id = %answer.correlation_id,
                "{event}: from {} to {}", word(&change.from), word(&change.to)
            );
        }
        Ok(u32::try_from(recorded.changes.len()).unwrap_or(u32::MAX))
    }

    fn poke_outbox(&self, queued: usize) {
        if queued > 0 {
            for dispatcher in &self.outbox {
                dispatcher.notify_one();
            }
        }
    }

    fn unchanged(&self, customer: &DueCustomer, answer: &Answer) -> Unchanged {
        let next = if customer.left && customer.class == PollClass::Unqualified {
            self.intervals().seldom(answer.ended_at, fastrand::f64())
        } else {
            self.intervals().next(customer.class, answer.ended_at, fastrand::f64())
        };
        Unchanged {
            row: customer.row,
            class: customer.class.as_str(),
            answer: answer.snapshot.fingerprint(),
            began_at: answer.began_at.as_millis(),
            seen_at: answer.ended_at.as_millis(),
            next_poll_at: next.as_millis(),
        }
    }

    fn failed(&self, customer: &DueCustomer, error: &dyn std::error::Error, no_relationship: bool) -> Failed {
        let now = self.clock.now();
        let error = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        let usual = self.intervals().of(customer.class);
        let pause = if no_relationship && (customer.refused || customer.left) {
            self.intervals().unqualified
        } else if no_relationship {
            self.intervals().second_look.min(usual) // for once, it may be a mistake
        } else {
            Duration::from_secs(30).saturating_mul(2_u32.saturating_pow(customer.poll_failures.min(16))).min(usual)
        };
        warn!(customer.id = customer.customer_id, "a customer could not be asked: {error}");
        Failed {
            row: customer.row,
            at: now.as_millis(),
            next_poll_at: now.after(pause.mul_f64(1.0 - 0.05 * fastrand::f64())).as_millis(),
            error,
            no_relationship,
            blind_after_ms: i64::try_from(BLIND_AFTER.as_millis()).unwrap_or(i64::MAX),
        }
    }

    async fn commit(&self, batch: Batch, due_at: Option<Timestamp>) -> Result<(), store::Error> {
        if batch.unchanged.is_empty() && batch.failed.is_empty() && batch.not_asked.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        tx.unchanged(&batch.unchanged).await?;
        tx.failed(&batch.failed).await?;
        tx.not_asked(&batch.not_asked, due_at.unwrap_or_else(|| self.clock.now())).await?;
        tx.commit().await
    }

    /// Throttled, or refused altogether: the others would be answered the same, so nobody is asked for a while.
    async fn close_gate(&self, at: Timestamp, error: &Error, batch: Batch) -> Result<(), store::Error> {
        let closures = self.store.gate(self.partner.id).await?.map_or(0, |gate| gate.closures);
        let until = at.after(pause(error, closures, self.intervals().in_review));
        warn!(partner = self.partner.name, %until, "nothing is asked of Partner Center for a while: {error}");
        self.commit(batch, Some(until)).await?;
        let mut tx = self.store.begin().await?;
        tx.close_gate(self.partner.id, until, &error.to_string()).await?;
        tx.commit().await
    }

    async fn open_gate(&self) -> Result<(), store::Error> {
        if self.store.gate(self.partner.id).await?.is_none() {
            return Ok(());
        }
        info!(partner = self.partner.name, "Partner Center answers again");
        let mut tx = self.store.begin().await?;
        tx.open_gate(self.partner.id).await?;
        tx.commit().await
    }
}

/// Says the answer what is believed already, and does nothing follow from the time that has passed?
fn is_unchanged(customer: &DueCustomer, answer: &Answer) -> bool {
    customer.class != PollClass::SecondLook
        && customer.poll_failures == 0 // a failure may have moved it to another class
        && !record::is_expectation_over(customer.expected_until, customer.class, answer.ended_at)
        && customer.answer.as_deref() == Some(answer.snapshot.fingerprint().as_str())
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("partner", &self.partner).finish_non_exhaustive()
    }
}
