//! Who is due → ask → record. One loop for each partner; a failed question changes nothing that is believed.
//!
//! No answer waits for another: what is under way stays so over many rounds, each answer is recorded when it comes, and
//! whoever becomes due meanwhile is asked as soon as there is a slot and something left of the budget.

mod answers;
mod recent_polls;
mod batch;
mod demand;
mod scheduling;
mod flight;
mod backoff;
mod intervals;
mod shares;
mod health;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::calendar::Reminders;
use crate::clock_watch::ClockWatch;
use crate::delivery::route::Routes;
use crate::partner_center::{Budget, PartnerCenter};
use crate::recording::{departed_customers, initial_sync, mass_absence, unknown_statuses};
use crate::schedule::Intervals;
use crate::schedule::PollClass;
use crate::store::{self, PartnerRow, Store};
use crate::time::{Clock, Timestamp};

/// So many customers are taken at once, at most; of those whom a person wants to be asked now, so many.
const TAKEN: (u32, u32) = (100, 500);
/// Longer than a question can take: a customer whose question died with the process is due again by then.
const LEASE: Duration = Duration::from_mins(5);

use answers::Until;
pub(crate) use backoff::{LONGEST_GATE, pause};
pub use demand::{Every, Watched};
pub use flight::Flight;
pub use recent_polls::Asked;
pub use shares::Shares;

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
    /// Customers that held an entry and were understood within the last hour.
    pub asked: Asked,
    /// The lowered limit that is stored, 0: none.
    pub limit: AtomicU32,
    /// Whose question is next when the budget is short.
    pub shares: Mutex<Shares>,
    /// What is under way in the daemon.
    pub flight: tokio::sync::Mutex<Flight>,
    /// Poked after a commit that queued something.
    pub outbox: Vec<Arc<Notify>>,
    /// No new question is asked once this is cancelled.
    pub stop: CancellationToken,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PollRound {
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

impl PollRound {
    fn has_answers(&self) -> bool {
        self.unchanged + self.changed + self.failed > 0
    }

    pub fn add(&mut self, other: &Self) {
        self.unchanged += other.unchanged;
        self.changed += other.changed;
        self.failed += other.failed;
        self.not_asked += other.not_asked;
        self.transitions += other.transitions;
        self.refused |= other.refused;
    }
}

impl Poller {
    /// Asks the customers that are due, as many as the budget has for, and waits for all their answers.
    ///
    /// # Errors
    /// When the database fails. Who was not recorded then is due again after the lease.
    pub async fn round(&self) -> Result<PollRound, store::Error> {
        let mut flight = Flight::default();
        let mut round = self.look(&mut flight).await?;
        self.take_answers(&mut flight, &mut round, Until::AllAnswered).await?;
        Ok(round)
    }

    /// A round of the daemon's, which waits for no answer in particular: it comes back when somebody else can be asked,
    /// when `poke` says so, and after 20 seconds at the latest. What is under way then is taken up by the next one.
    ///
    /// # Errors
    /// When the database fails. Answers are kept, and recorded by the next round that can.
    pub async fn turn(&self, poke: &Notify) -> Result<PollRound, store::Error> {
        let mut flight = self.flight.lock().await;
        let mut round = self.look(&mut flight).await?;
        self.take_answers(&mut flight, &mut round, Until::Poked(poke)).await?;
        if flight.is_under_way() || round.has_answers() {
            round.next = Some(self.clock.now());
        }
        Ok(round)
    }

    /// After the last turn: gives back who is being asked, once we are to stop.
    pub async fn end(&self) {
        let mut flight = self.flight.lock().await;
        if let Err(error) = self.take_answers(&mut flight, &mut PollRound::default(), Until::AllAnswered).await {
            warn!(error = &error as &dyn std::error::Error, "who was being asked is due again at the next start");
        }
    }

    /// Asks these customers now, whether or not they are due, each once: it waits for the budget and for their answers.
    /// Behind a closed gate the rest is not asked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn poll_now(&self, rows: &[i64]) -> Result<PollRound, store::Error> {
        let (mut round, mut flight, mut left) = (PollRound::default(), Flight::patient(), rows);
        self.apply_log_availability(self.clock.now()).await?;
        while flight.is_under_way() || !left.is_empty() && !self.stop.is_cancelled() {
            let now = self.clock.now();
            flight.is_news = false;
            if !left.is_empty() && self.is_closed(&mut flight, &mut round, now).await? {
                round.not_asked = round.not_asked.saturating_add(u32::try_from(left.len()).unwrap_or(u32::MAX));
                left = &[];
            }
            let (room, tokens) = (self.has_room(&flight), self.budget.available(now).min(TAKEN.1));
            if room && tokens > 0 && !left.is_empty() {
                let (these, others) = left.split_at(left.len().min(usize::try_from(tokens).unwrap_or(usize::MAX)));
                self.take_these(&mut flight, these, now).await?;
                left = others;
            }
            let until = if left.is_empty() { Until::AllAnswered } else { Until::SomebodyElse };
            round.next = Some(self.budget.ready_at(now));
            self.take_answers(&mut flight, &mut round, until).await?;
            if !left.is_empty() && !flight.is_under_way() {
                tokio::time::sleep(self.budget.ready_at(now).since(self.clock.now())).await;
            }
        }
        self.tell(self.clock.now()).await?;
        Ok(round)
    }

    /// Looks who is due, and takes as many as the budget has for and as can be asked. Says when to look again.
    async fn look(&self, flight: &mut Flight) -> Result<PollRound, store::Error> {
        let mut round = PollRound::default();
        self.store.follow_clock(&self.clock_watch, &*self.clock).await?;
        let now = self.clock.now();
        flight.is_news = false;
        self.apply_log_availability(now).await?;
        self.tell(now).await?;
        mass_absence::clear_if_plausible(&self.store, self.partner.id, self.asked.within_hour(now), now).await?;
        self.persist_rate_limit(now).await?;
        if self.is_closed(flight, &mut round, now).await? {
            self.budget.polls_wait(false);
            return Ok(round);
        }
        round.next = self.next_due(now).await?;
        if round.next.is_none_or(|due| due > now) {
            self.budget.polls_wait(false);
            return Ok(round);
        }
        if !self.has_room(flight) {
            return Ok(round);
        }
        let available = self.budget.available(now).min(TAKEN.0);
        if available == 0 {
            self.budget.polls_wait(true);
            round.next = Some(self.budget.ready_at(now));
            return Ok(round);
        }
        // The first question after a pause asks for all whether the trouble is over.
        let limit = if flight.is_probe() { 1 } else { available };
        let taken = self.take(flight, limit, now).await?;
        self.budget.polls_wait(taken == limit);
        Ok(round) // now: there may be more
    }

    /// Whether nobody is asked for now. `next` says until when.
    async fn is_closed(
        &self,
        flight: &mut Flight,
        round: &mut PollRound,
        now: Timestamp,
    ) -> Result<bool, store::Error> {
        let gate = self.store.backoff(self.partner.id).await?;
        let backoff_until = gate.as_ref().map(|gate| gate.backoff_until);
        // One that is farther away than any is closed for: the clock was set back.
        let backoff_until = backoff_until.filter(|until| *until > now && *until <= now.after(LONGEST_GATE));
        flight.was_closed = gate.is_some();
        if backoff_until.is_some() {
            round.next = backoff_until;
            self.stop_asking(flight, round);
        }
        Ok(backoff_until.is_some())
    }

    /// Takes whose turn it is. Returns how many they are.
    async fn take(&self, flight: &mut Flight, limit: u32, now: Timestamp) -> Result<u32, store::Error> {
        let mut tx = self.store.begin().await?;
        let mut due = Vec::new();
        for class in PollClass::IN_ORDER {
            due.push(VecDeque::from(tx.due_customers(self.partner.id, class, now, limit).await?));
        }
        let mut shares = *self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        for _ in 0..limit {
            let before = shares;
            let class = shares.next(|class| !due[class as usize].is_empty());
            let Some(customer) = class.and_then(|class| due[class as usize].pop_front()) else { break };
            taken.push((customer, before));
        }
        tx.lease(taken.iter().map(|(customer, _)| customer), now, now.after(LEASE)).await?;
        tx.commit().await?;
        *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = shares;
        let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        for (customer, before) in taken {
            flight.wait(customer, before, self.budget.promise());
        }
        Ok(count)
    }

    async fn take_these(&self, flight: &mut Flight, rows: &[i64], now: Timestamp) -> Result<(), store::Error> {
        let mut tx = self.store.begin().await?;
        let customers = tx.customers_to_poll(self.partner.id, rows, now).await?;
        tx.lease(customers.iter(), now, now.after(LEASE)).await?;
        tx.commit().await?;
        let shares = *self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        for customer in customers {
            flight.wait(customer, shares, self.budget.promise());
        }
        Ok(())
    }

    fn poke_outbox(&self, queued: usize) {
        if queued > 0 {
            for dispatcher in &self.outbox {
                dispatcher.notify_one();
            }
        }
    }

    /// Queues what follows from how everybody stands rather than from one answer.
    async fn tell(&self, now: Timestamp) -> Result<(), store::Error> {
        let (store, partner, routes) = (&self.store, &self.partner, &self.routes);
        departed_customers::stop_polling_departed(store, partner, now).await?;
        let queued = unknown_statuses::report(store, partner, routes, now).await?
            + departed_customers::report(store, partner, routes, now).await?
            + initial_sync::report(store, partner, self.synced, routes, &self.reminders, now).await?;
        self.poke_outbox(queued);
        Ok(())
    }
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("partner", &self.partner).finish_non_exhaustive()
    }
}
