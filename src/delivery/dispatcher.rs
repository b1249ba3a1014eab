//! Takes what is due for one endpoint, hands it over, and notes what became of it. One loop for each endpoint: a
//! hung one delays nobody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::delivery::message::when;
use crate::delivery::quiet;
use crate::delivery::retry::{LONGEST_PROBE, Next, Policy, Waited};
use crate::delivery::route::{LONGEST_GROUP_WAIT, Routes};
use crate::delivery::{Channel, Draft, Outcome, Outgoing, Report};
use crate::event::Event;
use crate::store::{self, Claim, Due, Finish, InsteadOf, Latest, Store, Unwritten, WriteTx};
use crate::time::{Clock, Timestamp};

/// No attempt lasts longer than this, whatever the other side does…
const DEADLINE: Duration = Duration::from_secs(90);
/// …so that a lease is never overtaken by its own attempt.
const LEASE: Duration = Duration::from_mins(3);
/// A round ends after so many messages or so long, so that the loop shows its progress.
const ROUND: (u32, Duration) = (100, Duration::from_secs(30));
/// Before it is looked again where nothing could be taken, though something is due.
const LEAST_REST: Duration = Duration::from_secs(1);
/// Once it is to end, the outcome of an attempt is tried to be stored for so long.
const LAST_TRIES: Duration = Duration::from_secs(2);
/// After so many failures in a row even an endpoint that can be reached is only probed.
const FAILURES_TO_CLOSE: u32 = 3;

pub struct Dispatcher {
    pub endpoint: String,
    pub channel: Channel,
    pub policy: Policy,
    /// What they hold back is not sent, whenever its time has come.
    pub routes: Arc<Routes>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    /// What the endpoint's settings come to, without secrets: a paused endpoint is tried again when it changes.
    pub settings: String,
    /// No new attempt is begun once this is cancelled.
    pub stop: CancellationToken,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    pub accepted: u32,
    pub failed: u32,
    pub next: Option<Timestamp>,
}

impl Dispatcher {
    /// Attempts what is due, in event order.
    ///
    /// # Errors
    /// When the database fails. What was claimed then falls due again by itself.
    pub async fn round(&self) -> Result<Round, store::Error> {
        let mut round = Round::default();
        let began = Instant::now();
        while round.accepted + round.failed < ROUND.0 && began.elapsed() < ROUND.1 && !self.stop.is_cancelled() {
            let now = self.clock.now();
            round.next = self.next(now).await?;
            if round.next.is_none_or(|at| at > now) {
                return Ok(round);
            }
            let Some(due) = self.claim(now).await? else {
                // All of it is held back, or somebody else took it.
                round.next = self.next(now).await?.map(|at| at.max(now.after(LEAST_REST)));
                return Ok(round);
            };
            let report = self.attempt(&due, now).await;
            if report.outcome == Outcome::Accepted {
                round.accepted += 1;
            } else {
                round.failed += 1;
            }
            self.finish(&due, &report).await;
        }
        round.next = Some(self.clock.now()); // there may be more
        Ok(round)
    }

    /// Attempts this delivery and no other, though its time has not come or the endpoint is closed: somebody waits for
    /// it. Nothing happens if it is not pending, or an attempt is open.
    ///
    /// # Errors
    /// When the database fails. What was claimed then falls due again by itself, under the same id.
    pub async fn try_one(&self, delivery: &str) -> Result<(), store::Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let due = tx.claim_one(delivery, self.claims(now), |unwritten| self.write(unwritten, now)).await?;
        tx.commit().await?;
        if let Some(due) = due {
            let report = self.attempt(&due, now).await;
            // Somebody waits: nothing is tried for ever.
            self.try_finish(&due, &report).await?;
        }
        Ok(())
    }

    async fn next(&self, now: Timestamp) -> Result<Option<Timestamp>, store::Error> {
        match self.store.next_attempt_at(&self.endpoint).await? {
            Some(at) if at > now => {
                let latest = Latest {
                    now,
                    attempt: now.after(self.policy.longest().max(LEASE)),
                    held: now.after(quiet::LONGEST),
                    gathered: now.after(LONGEST_GROUP_WAIT),
                };
                if !self.store.waits_too_long(&self.endpoint, latest).await? {
                    return Ok(Some(at));
                }
                warn!(endpoint = self.endpoint, "the clock was set back; what waited for the old time is due now");
                let mut tx = self.store.begin().await?;
                tx.clamp_deliveries(&self.endpoint, latest).await?;
                tx.commit().await?;
                Ok(Some(now))
            }
            next => Ok(next),
        }
    }

    async fn claim(&self, now: Timestamp) -> Result<Option<Due>, store::Error> {
        let quiet = self.routes.know_quiet_hours();
        let hold = |events: &[Event], queued_at: Timestamp| {
            let until = |event| self.routes.held_until(event, &self.endpoint, now);
            // One that may go takes the others along; and each night of a calendar without end would be held anew.
            let until = if quiet { events.iter().map(until).min().flatten() } else { None };
            until.map(|until| until.min(queued_at.after(quiet::LONGEST)))
        };
        let mut tx = self.store.begin().await?;
        let claimed = tx.claim_due(self.claims(now), hold, |unwritten| self.write(unwritten, now)).await;
        let due = claimed.map_err(|error| error.while_doing("take the next message"))?;
        tx.commit().await?;
        Ok(due)
    }

    fn claims(&self, now: Timestamp) -> Claim<'_> {
        Claim { endpoint: &self.endpoint, form: self.channel.form(), now, lease: LEASE }
    }

    fn write(&self, unwritten: &Unwritten, now: Timestamp) -> String {
        let instead_of = unwritten.instead_of.as_ref();
        let note = instead_of.map(|InsteadOf { endpoint, since, still_tried }| {
            let there = if *still_tried { "It is still tried there." } else { "It is not tried there any more." };
            format!("Sent here because {endpoint} has not taken it since {}. {there}", when::moment(*since))
        });
        let draft = Draft {
            id: unwritten.id,
            events: &unwritten.events,
            recipient: unwritten.recipient.as_deref(),
            instead_of: instead_of.map(|instead_of| instead_of.endpoint.as_str()),
            note: note.as_deref(),
        };
        self.channel.render(&draft, now)
    }

    async fn attempt(&self, due: &Due, now: Timestamp) -> Report {
        let outgoing =
            Outgoing { id: due.id, message: &due.message, recipient: due.recipient.as_deref(), settled: &due.settled };
        tokio::time::timeout(DEADLINE, self.channel.deliver(outgoing, now)).await.unwrap_or_else(|_| Report {
            outcome: Outcome::TryAgain { after: None },
            detail: format!("no end within {}", humantime::format_duration(DEADLINE)),
            settled: due.settled.clone(),
        })
    }

    /// Notes what an attempt came to. While the database refuses, the answer is kept and tried again: what was
    /// accepted must not be sent once more for that. Whoever is told to end does not wait for it for long.
    async fn finish(&self, due: &Due, report: &Report) {
        let mut pause = Duration::from_millis(100);
        let mut ending: Option<Instant> = None;
        while let Err(error) = self.try_finish(due, report).await {
            if self.stop.is_cancelled() && ending.get_or_insert_with(Instant::now).elapsed() >= LAST_TRIES {
                error!(error = &error as &dyn std::error::Error, delivery.id = %due.id, "the outcome of an attempt could not be stored before the end; it is made again at the next start, under the same id");
                return;
            }
            warn!(error = &error as &dyn std::error::Error, delivery.id = %due.id, "the outcome of an attempt cannot be stored yet");
            if self.stop.is_cancelled() {
                tokio::time::sleep(pause.min(Duration::from_millis(500))).await;
            } else {
                self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    async fn try_finish(&self, due: &Due, report: &Report) -> Result<(), store::Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        tx.tick(now).await?;
        let (since, failures) = tx.waits(due.id).await?;
        let waited = Waited { time: now.since(since), attempts: failures.saturating_add(1) };
        let next = self.policy.next(report.outcome, due.rung, waited, now, fastrand::f64());
        let partly = due.settled.values().chain(report.settled.values()).any(|reply| reply.starts_with('5'));
        let finish = match next {
            Next::Delivered => Finish::Delivered { partly },
            Next::At(at) => Finish::Again { at },
            Next::Refused => Finish::Dead { refused: true },
            Next::GivenUp => Finish::Dead { refused: false },
        };
        let finished = tx.finish(due, finish, &report.settled, &report.detail, now).await;
        finished.map_err(|error| error.while_doing("note what became of a message"))?;
        self.note_endpoint(&mut tx, due, report, now).await?;
        tx.commit().await?;
        self.log(due, report, next);
        Ok(())
    }

    /// What an attempt says of the endpoint as a whole.
    async fn note_endpoint(
        &self,
        tx: &mut WriteTx,
        due: &Due,
        report: &Report,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let name = &self.endpoint;
        let probe_at = now.after(self.policy.pause(due.rung, fastrand::f64()).min(LONGEST_PROBE));
        match report.outcome {
            // A refusal of one message is an answer, too: somebody is there.
            Outcome::Accepted | Outcome::Refused => tx.endpoint_accepted(name, now).await,
            Outcome::Unavailable | Outcome::LoginRefused => {
                tx.endpoint_failed(name, now, Some(probe_at), &report.detail).await
            }
            // One mailbox that is full for days must not close the way to the others.
            Outcome::TryAgain { .. } if took_it(due, report) => tx.endpoint_accepted(name, now).await,
            Outcome::TryAgain { .. } => {
                let closes = tx.endpoint_failures(name).await? + 1 >= FAILURES_TO_CLOSE;
                tx.endpoint_failed(name, now, closes.then_some(probe_at), &report.detail).await
            }
            Outcome::Gone => {
                tx.endpoint_failed(name, now, None, &report.detail).await?;
                tx.pause_endpoint(name, &self.settings, now).await
            }
        }
    }

    fn log(&self, due: &Due, report: &Report, next: Next) {
        let (endpoint, id, attempt, detail) = (&self.endpoint, due.id, due.attempt, &report.detail);
        match next {
            Next::Delivered => info!(delivery.id = %id, attempt, "{endpoint} accepted a message: {detail}"),
            Next::At(at) if report.outcome == Outcome::Gone => {
                error!(delivery.id = %id, attempt, %at, "{endpoint} says that it is gone: {detail}; nothing more is sent there until its configuration changes or `vetwatch notifications redrive` is run");
            }
            Next::At(at) => warn!(delivery.id = %id, attempt, %at, "{endpoint} did not take a message: {detail}"),
            Next::Refused | Next::GivenUp => error!(
                delivery.id = %id, attempt,
                "delivery to {endpoint} given up: {detail}; `vetwatch notifications redrive {id}` sends it again"
            ),
        }
    }
}

/// Somebody there has taken the message, in this attempt or before.
fn took_it(due: &Due, report: &Report) -> bool {
    due.settled.values().chain(report.settled.values()).any(|reply| reply.starts_with('2'))
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
