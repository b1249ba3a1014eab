//! Takes what is due for one endpoint and has it handed over. One loop for each endpoint: a hung one delays nobody
//! else. Messages go one by one, in order; only while an attempt takes long, the next one goes beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::warn;

use crate::delivery::message::time_format;
use crate::delivery::quiet_hours;
use crate::delivery::route::{LONGEST_GROUP_WAIT, Routes};
use crate::delivery::{RenderInput, Sender};
use crate::event::Event;
use crate::store::{self, Claim, ClaimedDelivery, ClockSkewBounds, FailoverFrom, UnrenderedDelivery};
use crate::time::Timestamp;

/// Longer than any attempt, so that a lease is never overtaken by its own attempt.
const LEASE: Duration = Duration::from_mins(15);
/// A round ends after so many messages or so long, so that the loop shows its progress.
const ROUND: (u32, Duration) = (100, Duration::from_secs(20));
/// Before it is looked again where nothing could be taken, though something is due; and while an attempt is under way.
const LEAST_REST: Duration = Duration::from_secs(1);
/// While an attempt is under way for so long, the next message goes beside it…
const LONG: Duration = Duration::from_secs(5);
/// …so many at once.
const MOST: usize = 4;

#[derive(Debug)]
pub struct Dispatcher {
    sender: Arc<Sender>,
    /// What they hold back is not sent, whenever its time has come.
    routes: Arc<Routes>,
    under_way: Mutex<InFlight>,
}

/// Attempts that have begun and not ended. They outlive a round.
#[derive(Debug, Default)]
struct InFlight {
    /// Each ends with its delivery, and whether it was accepted.
    tasks: JoinSet<(i64, bool)>,
    /// When each of the deliveries' attempts began.
    began: BTreeMap<i64, Instant>,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    pub accepted: u32,
    pub failed: u32,
    pub next: Option<Timestamp>,
}

impl Dispatcher {
    #[must_use]
    pub fn new(sender: Sender, routes: Arc<Routes>) -> Self {
        Self { sender: Arc::new(sender), routes, under_way: Mutex::default() }
    }

    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.sender.endpoint
    }

    /// Attempts what is due, in event order. What takes long goes on after the round, which ends all the same.
    ///
    /// # Errors
    /// When the database fails. What was claimed then falls due again by itself.
    pub async fn round(&self) -> Result<Round, store::Error> {
        let mut round = Round::default();
        let mut under_way = self.under_way.lock().await;
        let (began, stop) = (Instant::now(), &self.sender.stop);
        while round.accepted + round.failed < ROUND.0 && began.elapsed() < ROUND.1 && !stop.is_cancelled() {
            let now = self.sender.clock.now();
            round.next = self.next(now).await?;
            if round.next.is_some_and(|at| at <= now) && under_way.may_begin() {
                match self.claim(now, &under_way.deliveries()).await? {
                    Some(due) => under_way.begin(&self.sender, due, now),
                    // All of it is held back, or somebody else took it.
                    None => round.next = self.next(now).await?.map(|at| at.max(now.after(LEAST_REST))),
                }
            }
            if under_way.began.is_empty() {
                return Ok(round);
            }
            tokio::select! {
                ended = under_way.tasks.join_next() => round.note(under_way.end(ended)),
                () = tokio::time::sleep(LEAST_REST) => {}
                () = stop.cancelled() => {}
            }
        }
        round.next = Some(self.sender.clock.now()); // there may be more
        Ok(round)
    }

    /// Waits for the attempts that are under way: once all stops, that is a matter of seconds.
    pub async fn end(&self) {
        let mut under_way = self.under_way.lock().await;
        while let Some(ended) = under_way.tasks.join_next().await {
            under_way.end(Some(ended));
        }
    }

    /// Attempts this delivery and no other, though its time has not come or the endpoint is closed: somebody waits for
    /// it. Nothing happens if it is not pending, or an attempt is open.
    ///
    /// # Errors
    /// When the database fails. What was claimed then falls due again by itself, under the same id.
    pub async fn try_one(&self, delivery: &str) -> Result<(), store::Error> {
        let now = self.sender.clock.now();
        let mut tx = self.sender.store.begin().await?;
        let due = tx.claim_one(delivery, self.claims(now, &[]), |unwritten| self.write(unwritten, now)).await?;
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
                    attempt: now.after(self.sender.policy.longest().max(LEASE)),
                    deferred: now.after(quiet_hours::LONGEST),
                    gathered: now.after(LONGEST_GROUP_WAIT),
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

    async fn claim(&self, now: Timestamp, under_way: &[i64]) -> Result<Option<ClaimedDelivery>, store::Error> {
        let quiet = self.routes.any_quiet_hours();
        let hold = |events: &[Event], queued_at: Timestamp| {
            let until = |event| self.routes.deferred_until(event, &self.sender.endpoint, now);
            // One that may go takes the others along; and each night of a calendar without end would be held anew.
            let until = if quiet { events.iter().map(until).min().flatten() } else { None };
            until.map(|until| until.min(queued_at.after(quiet_hours::LONGEST)))
        };
        let mut tx = self.sender.store.begin().await?;
        // For how long a message was held back counts only the time in which vetwatch ran.
        tx.tick(now).await?;
        let claimed = tx.claim_due(self.claims(now, under_way), hold, |unwritten| self.write(unwritten, now)).await;
        let due = claimed.map_err(|error| error.while_doing("take the next message"))?;
        tx.commit().await?;
        Ok(due)
    }

    fn claims<'a>(&'a self, now: Timestamp, under_way: &'a [i64]) -> Claim<'a> {
        let Sender { endpoint, channel, .. } = &*self.sender;
        Claim { endpoint, format: channel.form(), now, lease: LEASE, under_way }
    }

    fn write(&self, unwritten: &UnrenderedDelivery, now: Timestamp) -> String {
        let instead_of = unwritten.failover_from.as_ref();
        let note = instead_of.map(|FailoverFrom { endpoint, since, still_tried }| {
            let there = if *still_tried { "It is still tried there." } else { "It is not tried there any more." };
            format!("Sent here because {endpoint} has not taken it since {}. {there}", time_format::moment(*since))
        });
        let draft = RenderInput {
            id: unwritten.id,
            events: &unwritten.events,
            recipient: unwritten.recipient.as_deref(),
            instead_of: instead_of.map(|instead_of| instead_of.endpoint.as_str()),
            note: note.as_deref(),
        };
        self.sender.channel.render(&draft, now)
    }
}

impl InFlight {
    /// Whether another message may go now: all that are under way take long.
    fn may_begin(&self) -> bool {
        self.began.len() < MOST && self.began.values().all(|began| began.elapsed() >= LONG)
    }

    fn deliveries(&self) -> Vec<i64> {
        self.began.keys().copied().collect()
    }

    fn begin(&mut self, sender: &Arc<Sender>, due: ClaimedDelivery, now: Timestamp) {
        let (sender, delivery) = (sender.clone(), due.sequence);
        self.began.insert(delivery, Instant::now());
        self.tasks.spawn(async move { (delivery, sender.send(&due, now).await) });
    }

    /// Whether the attempt that has ended was accepted.
    fn end(&mut self, ended: Option<Result<(i64, bool), JoinError>>) -> Option<bool> {
        match ended? {
            Ok((delivery, accepted)) => {
                self.began.remove(&delivery);
                Some(accepted)
            }
            // The loop ends, and with it the process, which is started anew.
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
