//! Delivers what is due for one endpoint. Each endpoint has its own loop, so that a slow one delays no other. Messages
//! are sent one by one, in order; only while an attempt takes long, the next one is sent beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::delivery::Sender;
use crate::delivery::quiet_hours;
use crate::delivery::route::{MAX_GROUP_WAIT, Routes};
use crate::event::Event;
use crate::store::{self, Claim, ClaimedDelivery, ClockSkewBounds};
use crate::time::Timestamp;

/// Longer than any attempt, so that no lease expires during its attempt.
const LEASE: Duration = Duration::from_mins(15);
/// Limits of a round, so that the loop shows its progress.
const ROUND_MESSAGES: u32 = 100;
const ROUND_TIME: Duration = Duration::from_secs(20);
/// The pause before the next check, if nothing could be claimed though something is due, or an attempt is open.
const RECHECK_AFTER: Duration = Duration::from_secs(1);
/// An attempt that takes longer than this lets the next message be sent beside it…
const OVERLAP_AFTER: Duration = Duration::from_secs(5);
/// …up to this many at once.
const MAX_IN_FLIGHT: usize = 4;

#[derive(Debug)]
pub struct Dispatcher {
    sender: Arc<Sender>,
    /// Their quiet hours defer deliveries at claim time.
    routes: Arc<Routes>,
    in_flight: Arc<Mutex<InFlight>>,
    /// No new attempt begins once this is cancelled.
    stop: CancellationToken,
}

/// Open attempts. They outlive a round, and the dispatcher: each ends with the settings that it began with.
#[derive(Debug, Default)]
pub struct InFlight {
    /// Each task returns its delivery, and whether it was accepted.
    tasks: JoinSet<(i64, bool)>,
    /// When the attempt at each delivery began.
    began: BTreeMap<i64, Instant>,
}

/// The result of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    pub accepted: u32,
    pub failed: u32,
    pub next: Option<Timestamp>,
}

impl Dispatcher {
    #[must_use]
    pub fn new(sender: Sender, routes: Arc<Routes>, in_flight: Arc<Mutex<InFlight>>, stop: CancellationToken) -> Self {
        Self { sender: Arc::new(sender), routes, in_flight, stop }
    }

    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.sender.endpoint
    }

    /// Attempts what is due, in event order. An attempt that takes long outlives the round.
    ///
    /// # Errors
    /// If the database fails. A claimed delivery is due again after its lease.
    pub async fn round(&self) -> Result<Round, store::Error> {
        let mut round = Round::default();
        let mut in_flight = self.in_flight.lock().await;
        let (began, stop) = (Instant::now(), &self.stop);
        while round.accepted + round.failed < ROUND_MESSAGES && began.elapsed() < ROUND_TIME && !stop.is_cancelled() {
            let now = self.sender.clock.now();
            round.next = self.next(now).await?;
            if round.next.is_some_and(|at| at <= now) && in_flight.may_begin() {
                match self.claim(now, &in_flight.deliveries()).await? {
                    Some(due) => in_flight.begin(&self.sender, due, now),
                    // Everything is deferred, or another process claimed it.
                    None => round.next = self.next(now).await?.map(|at| at.max(now.after(RECHECK_AFTER))),
                }
            }
            if in_flight.began.is_empty() {
                return Ok(round);
            }
            tokio::select! {
                ended = in_flight.tasks.join_next() => round.note(in_flight.end(ended)),
                () = tokio::time::sleep(RECHECK_AFTER) => {}
                () = stop.cancelled() => {}
            }
        }
        round.next = Some(self.sender.clock.now()); // there may be more
        Ok(round)
    }

    /// Waits for the open attempts: once everything stops, a matter of seconds.
    pub async fn end(&self) {
        let mut in_flight = self.in_flight.lock().await;
        while let Some(ended) = in_flight.tasks.join_next().await {
            in_flight.end(Some(ended));
        }
    }

    /// Attempts this delivery only, even if it is not due or the endpoint is backing off, because a person waits for
    /// the result. Does nothing if it is not pending, or an attempt is open.
    ///
    /// # Errors
    /// If the database fails. A claimed delivery is due again after its lease, under the same id.
    pub async fn try_one(&self, delivery: &str) -> Result<(), store::Error> {
        let now = self.sender.clock.now();
        let mut tx = self.sender.store.begin().await?;
        let due = tx.claim_one(delivery, self.claim_params(now, &[]), |it| self.sender.channel.render(it, now)).await?;
        tx.commit().await?;
        match due {
            Some(due) => self.sender.send_once(&due, now).await,
            None => Ok(()),
        }
    }

    async fn next(&self, now: Timestamp) -> Result<Option<Timestamp>, store::Error> {
        match self.sender.store.next_attempt_at(&self.sender.endpoint).await? {
            Some(at) if at > now => {
                let latest = ClockSkewBounds {
                    now,
                    attempt: now.after(self.sender.policy.max_pause().max(LEASE)),
                    deferred: now.after(quiet_hours::MAX_DEFERRAL),
                    gathered: now.after(MAX_GROUP_WAIT),
                };
                if !self.sender.store.has_future_timestamps(&self.sender.endpoint, latest).await? {
                    return Ok(Some(at));
                }
                warn!(
                    endpoint = self.sender.endpoint,
                    "the clock was set back; what waited for the old time is due now"
                );
                let mut tx = self.sender.store.begin().await?;
                tx.clamp_deliveries(&self.sender.endpoint, latest).await?;
                tx.commit().await?;
                Ok(Some(now))
            }
            next => Ok(next),
        }
    }

    async fn claim(&self, now: Timestamp, in_flight: &[i64]) -> Result<Option<ClaimedDelivery>, store::Error> {
        let quiet = self.routes.any_quiet_hours();
        let defer_until = |events: &[Event], enqueued_at: Timestamp| {
            let until = |event| self.routes.deferred_until(event, &self.sender.endpoint, now);
            // The earliest event decides. The limit counts from enqueueing: a calendar may have no working days.
            let until = if quiet { events.iter().map(until).min().flatten() } else { None };
            until.map(|until| until.min(enqueued_at.after(quiet_hours::MAX_DEFERRAL)))
        };
        let mut tx = self.sender.store.begin().await?;
        // Only the time in which vetwatch ran counts as deferred.
        tx.tick(now).await?;
        let claimed = tx
            .claim_due(self.claim_params(now, in_flight), defer_until, |it| self.sender.channel.render(it, now))
            .await;
        let due = claimed.map_err(|error| error.while_doing("take the next message"))?;
        tx.commit().await?;
        Ok(due)
    }

    fn claim_params<'a>(&'a self, now: Timestamp, in_flight: &'a [i64]) -> Claim<'a> {
        let Sender { endpoint, channel, settings, .. } = &*self.sender;
        let Routes { zone, public_url, .. } = &*self.routes;
        Claim {
            endpoint,
            format: channel.format(),
            settings,
            zone: *zone,
            public_url: public_url.as_deref(),
            now,
            lease: LEASE,
            in_flight,
        }
    }
}

impl InFlight {
    /// Whether another attempt may start: every open one takes long.
    fn may_begin(&self) -> bool {
        self.began.len() < MAX_IN_FLIGHT && self.began.values().all(|began| began.elapsed() >= OVERLAP_AFTER)
    }

    fn deliveries(&self) -> Vec<i64> {
        self.began.keys().copied().collect()
    }

    fn begin(&mut self, sender: &Arc<Sender>, due: ClaimedDelivery, now: Timestamp) {
        let (sender, delivery) = (sender.clone(), due.sequence);
        self.began.insert(delivery, Instant::now());
        self.tasks.spawn(async move { (delivery, sender.send(&due, now).await) });
    }

    /// Removes an ended attempt. Returns whether it was accepted.
    fn end(&mut self, ended: Option<Result<(i64, bool), JoinError>>) -> Option<bool> {
        match ended? {
            Ok((delivery, accepted)) => {
                self.began.remove(&delivery);
                Some(accepted)
            }
            // Ends the loop and with it the process, which is restarted.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }
}

impl Round {
    fn note(&mut self, accepted: Option<bool>) {
        match accepted {
            Some(true) => self.accepted += 1,
            Some(false) => self.failed += 1,
            None => {}
        }
    }
}
