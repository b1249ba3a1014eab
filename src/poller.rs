//! Polls customers that are due: fetch, record. One loop per partner; a failed poll changes no state.
//!
//! No response waits for another: polls stay in flight over many rounds, each response is recorded when it arrives, and a
//! customer that becomes due meanwhile is polled as soon as there is a slot and budget.

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

use crate::alerts::{departed_customers, initial_sync, unknown_statuses};
use crate::calendar::Reminders;
use crate::clock_watch::ClockWatch;
use crate::delivery::route::Routes;
use crate::metrics::Metrics;
use crate::partner_center::{Budget, PartnerCenter};
use crate::recording::mass_absence;
use crate::schedule::Intervals;
use crate::schedule::PollClass;
use crate::store::{self, Backoff, CustomerId, DueCustomer, PartnerRow, Store};
use crate::time::{Clock, Timestamp};

/// Longer than any poll takes. A customer whose poll died with the process is due again by then.
const LEASE: Duration = Duration::from_mins(5);

use answers::Until;
pub(crate) use backoff::{MAX_BACKOFF, backoff_ended, doubled, is_ahead, log_backoff, pause, retry_pause};
pub use demand::{Every, Watched};
pub use flight::Flight;
pub use recent_polls::RecentPolls;
pub use shares::Shares;

pub struct Poller {
    pub partner: PartnerRow,
    pub client: Arc<PartnerCenter>,
    pub budget: Arc<Budget>,
    pub max_in_flight: usize,
    /// Customers are taken over from Partner Center's list.
    pub synced: bool,
    pub intervals: Intervals,
    /// The activity log reports submissions, as of the last round.
    pub log_is_read: AtomicBool,
    pub routes: Arc<Routes>,
    pub reminders: Arc<Reminders>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub clock_watch: Arc<ClockWatch>,
    pub metrics: Arc<Metrics>,
    /// Customers that held an entry and were understood within the last hour.
    pub recent_polls: Arc<RecentPolls>,
    /// The reduced rate limit that is stored, in requests per minute; 0 if none.
    pub limit: AtomicU32,
    /// Which class is polled next when the budget is short.
    pub shares: Mutex<Shares>,
    /// The polls in flight in the daemon.
    pub flight: Arc<tokio::sync::Mutex<Flight>>,
    /// Poked after a commit that queued something.
    pub outbox: Vec<Arc<Notify>>,
    /// No poll starts once this is cancelled.
    pub stop: CancellationToken,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PollRound {
    pub unchanged: u32,
    pub changed: u32,
    pub failed: u32,
    /// Claimed, and released without a poll: the partner backs off, or the daemon stops.
    pub released: u32,
    /// Transitions recorded.
    pub transitions: u32,
    /// Partner Center rejected the credential or its rights; a person must act.
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
        self.released += other.released;
        self.transitions += other.transitions;
        self.refused |= other.refused;
    }
}

impl Poller {
    /// Polls the customers that are due, within the budget, and waits for all responses.
    ///
    /// # Errors
    /// When the database fails. Customers not recorded are due again after the lease.
    pub async fn round(&self) -> Result<PollRound, store::Error> {
        let mut flight = Flight::default();
        let mut round = self.start_due(&mut flight).await?;
        self.take_answers(&mut flight, &mut round, Until::AllAnswered).await?;
        Ok(round)
    }

    /// A round of the daemon. Returns when another customer can be polled, on `poke`, or after 20 seconds. The next round
    /// takes up what is in flight.
    ///
    /// # Errors
    /// When the database fails. Responses are kept, and recorded by a later round.
    pub async fn turn(&self, poke: &Notify) -> Result<PollRound, store::Error> {
        let mut flight = self.flight.lock().await;
        let mut round = self.start_due(&mut flight).await?;
        self.take_answers(&mut flight, &mut round, Until::Poked(poke)).await?;
        if flight.is_under_way() || round.has_answers() {
            round.next = Some(self.clock.now());
        }
        Ok(round)
    }

    /// After the last turn: records or releases what is in flight.
    pub async fn end(&self) {
        let mut flight = self.flight.lock().await;
        if let Err(error) = self.take_answers(&mut flight, &mut PollRound::default(), Until::AllAnswered).await {
            warn!(error = &error as &dyn std::error::Error, "who was being asked is due again at the next start");
        }
    }

    /// Polls these customers once each, due or not, and waits for the budget and the responses. If the partner backs off,
    /// the rest is not polled.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn poll_now(&self, rows: &[CustomerId]) -> Result<PollRound, store::Error> {
        let (mut round, mut flight, mut left) = (PollRound::default(), Flight::patient(), rows);
        self.apply_log_availability(self.clock.now()).await?;
        while flight.is_under_way() || !left.is_empty() && !self.stop.is_cancelled() {
            let now = self.clock.now();
            flight.has_recorded = false;
            if !left.is_empty() {
                let backoff = self.store.backoff(self.partner.id).await?;
                if self.is_backing_off(&mut flight, &mut round, backoff, now) {
                    round.released = round.released.saturating_add(u32::try_from(left.len()).unwrap_or(u32::MAX));
                    left = &[];
                }
            }
            let (room, tokens) = (self.has_room(&flight), self.budget.available(now));
            if room && tokens > 0 && !left.is_empty() {
                let tokens = usize::try_from(tokens.min(flight.next_claim())).unwrap_or(usize::MAX);
                let (these, others) = left.split_at(left.len().min(tokens));
                let claimed = self.while_polling(&mut flight, &mut round, self.claim(these, now)).await?;
                let shares = *self.shares.lock().unwrap_or_else(PoisonError::into_inner);
                for customer in claimed {
                    flight.wait(customer, shares, self.budget.promise());
                }
                left = others;
            }
            let until = if left.is_empty() { Until::AllAnswered } else { Until::NextDue };
            round.next = Some(self.budget.ready_at(now));
            self.take_answers(&mut flight, &mut round, until).await?;
            if !left.is_empty() && !flight.is_under_way() {
                tokio::time::sleep(self.budget.ready_at(now).since(self.clock.now())).await;
            }
        }
        self.report(self.clock.now()).await?;
        Ok(round)
    }

    /// Claims customers that are due, as many as the budget and the free slots allow. Sets `next` of the round. Polls go on
    /// meanwhile.
    async fn start_due(&self, flight: &mut Flight) -> Result<PollRound, store::Error> {
        let mut round = PollRound::default();
        flight.has_recorded = false;
        let (now, due, backoff) = self.while_polling(flight, &mut round, self.prepare()).await?;
        if self.is_backing_off(flight, &mut round, backoff, now) {
            self.budget.polls_wait(false);
            return Ok(round);
        }
        round.next = due;
        if due.is_none_or(|due| due > now) {
            self.budget.polls_wait(false);
            return Ok(round);
        }
        if !self.has_room(flight) {
            return Ok(round);
        }
        let available = self.budget.available(now);
        if available == 0 {
            self.budget.polls_wait(true);
            round.next = Some(self.budget.ready_at(now));
            return Ok(round);
        }
        // The first poll after a backoff probes whether the fault is over.
        let limit = if flight.was_backing_off { 1 } else { available.min(flight.next_claim()) };
        let taken = self.while_polling(flight, &mut round, self.claim_due(limit, now)).await?;
        self.budget.polls_wait(taken.len() == usize::try_from(limit).unwrap_or(usize::MAX));
        for (customer, before) in taken {
            flight.wait(customer, before, self.budget.promise());
        }
        Ok(round) // now: there may be more
    }

    /// Brings the schedule up to date. Returns the time, when the next customer is due, and the backoff.
    async fn prepare(&self) -> Result<(Timestamp, Option<Timestamp>, Option<Backoff>), store::Error> {
        self.store.follow_clock(&self.clock_watch, &*self.clock).await?;
        let now = self.clock.now();
        self.apply_log_availability(now).await?;
        self.report(now).await?;
        mass_absence::clear_if_plausible(&self.store, self.partner.id, self.recent_polls.within_hour(now), now).await?;
        self.persist_rate_limit(now).await?;
        Ok((now, self.next_due(now).await?, self.store.backoff(self.partner.id).await?))
    }

    /// True if the partner backs off, until `round.next`.
    fn is_backing_off(
        &self,
        flight: &mut Flight,
        round: &mut PollRound,
        backoff: Option<Backoff>,
        now: Timestamp,
    ) -> bool {
        flight.was_backing_off = backoff.is_some();
        let backoff_until = backoff.map(|backoff| backoff.backoff_until).filter(|until| is_ahead(*until, now));
        if backoff_until.is_some() {
            round.next = backoff_until;
            self.pause_polling(flight, round);
        }
        backoff_until.is_some()
    }

    /// Claims at most `limit` customers by the shares of their classes, each with the shares before it.
    async fn claim_due(&self, limit: u32, now: Timestamp) -> Result<Vec<(DueCustomer, Shares)>, store::Error> {
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
        Ok(taken)
    }

    async fn claim(&self, rows: &[CustomerId], now: Timestamp) -> Result<Vec<DueCustomer>, store::Error> {
        let mut tx = self.store.begin().await?;
        let customers = tx.customers_to_poll(self.partner.id, rows, now).await?;
        tx.lease(customers.iter(), now, now.after(LEASE)).await?;
        tx.commit().await?;
        Ok(customers)
    }

    fn poke_outbox(&self, queued: usize) {
        if queued > 0 {
            for dispatcher in &self.outbox {
                dispatcher.notify_one();
            }
        }
    }

    /// Enqueues reports about all customers of the partner.
    async fn report(&self, now: Timestamp) -> Result<(), store::Error> {
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
