//! Attempts one claimed delivery, and records the result and what it says about the endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::delivery::retry::{MAX_PROBE_PAUSE, RetryDecision, RetryPolicy, Waited};
use crate::delivery::{AttemptResult, Channel, Outcome, took};
use crate::metrics::Metrics;
use crate::standby::Leadership;
use crate::store::{self, ClaimedDelivery, Store, WriteTx};
use crate::time::{Clock, Timestamp};

/// Deadline of an attempt, whatever the server does: longer than each channel's own deadlines.
const DEADLINE: Duration = Duration::from_mins(12);
/// How long an open attempt may take once vetwatch stops.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long storing a result is retried once vetwatch stops.
const STORE_GRACE: Duration = Duration::from_secs(2);
/// After this many failures in a row even a reachable endpoint backs off.
const FAILURES_TO_BACK_OFF: u32 = 3;

/// An endpoint on the same server: it fails and comes back with this one.
#[derive(Debug, Clone)]
pub struct Neighbour {
    pub endpoint: String,
    /// Wakes its loop.
    pub poke: Arc<Notify>,
}

pub struct Sender {
    pub endpoint: String,
    pub channel: Channel,
    pub policy: RetryPolicy,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// A digest of the endpoint's settings, without secrets: a paused endpoint is resumed when it changes, and what its
    /// template failed on is forgotten.
    pub settings: String,
    /// Other endpoints on the same mail server.
    pub neighbours: Vec<Neighbour>,
    /// Cancelled when the process stops: then an open attempt has a few seconds left.
    pub stop: CancellationToken,
    /// With `[standby]`: whether this host may send.
    pub leadership: Option<Arc<Leadership>>,
}

impl Sender {
    /// Makes one attempt and records it. Returns whether it was accepted.
    pub(super) async fn send(&self, due: &ClaimedDelivery, now: Timestamp) -> bool {
        if !self.may_send(due).await {
            return false;
        }
        let began = Instant::now();
        let result = tokio::select! {
            result = self.attempt(due, now) => result,
            () = self.stop_grace_over() => {
                self.interrupt(due).await;
                return false;
            }
        };
        self.finish(due, &result, began.elapsed()).await;
        result.outcome == Outcome::Accepted
    }

    /// Makes one attempt for a person that waits: a result that cannot be stored is an error, and not retried.
    pub(super) async fn send_once(&self, due: &ClaimedDelivery, now: Timestamp) -> Result<(), store::Error> {
        let began = Instant::now();
        let result = self.attempt(due, now).await;
        self.try_finish(due, &result, began.elapsed()).await
    }

    /// False on a host that does not lead any more: its process ends, and the attempt that it claimed is the next leader's.
    async fn may_send(&self, due: &ClaimedDelivery) -> bool {
        match &self.leadership {
            Some(leadership) => leadership.may_send(due.attempt).await,
            None => true,
        }
    }

    async fn stop_grace_over(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    }

    async fn attempt(&self, due: &ClaimedDelivery, now: Timestamp) -> AttemptResult {
        tokio::time::timeout(DEADLINE, self.channel.deliver(due, now, Some(&self.store))).await.unwrap_or_else(|_| {
            AttemptResult {
                outcome: Outcome::Unconfirmed,
                detail: format!("no end within {}", humantime::format_duration(DEADLINE)),
                // None in this attempt: those of earlier ones are recorded already.
                final_replies: BTreeMap::new(),
            }
        })
    }

    /// Records that vetwatch stops before the reply. The next start repeats the attempt, even if this is not stored.
    async fn interrupt(&self, due: &ClaimedDelivery) {
        warn!(endpoint = self.endpoint, delivery.id = %due.id, "stopped before {} answered; the message is sent again, under the same id, at the next start", self.endpoint);
        let stored = async {
            let mut tx = self.store.begin().await?;
            tx.interrupt(due, self.clock.now()).await?;
            tx.commit().await
        };
        if let Err(error) = stored.await {
            warn!(error = &error as &dyn std::error::Error, endpoint = self.endpoint, delivery.id = %due.id, "that cannot be stored");
        }
    }

    /// Records the result of an attempt. While the database fails, it is retried: an accepted message must not be sent
    /// again for that. Once vetwatch stops, only for [`STORE_GRACE`].
    async fn finish(&self, due: &ClaimedDelivery, result: &AttemptResult, took: Duration) {
        let mut pause = Duration::from_millis(100);
        let mut ending: Option<Instant> = None;
        while let Err(error) = self.try_finish(due, result, took).await {
            if self.stop.is_cancelled() && ending.get_or_insert_with(Instant::now).elapsed() >= STORE_GRACE {
                error!(error = &error as &dyn std::error::Error, endpoint = self.endpoint, delivery.id = %due.id, "the outcome of an attempt could not be stored before the end; it is made again at the next start, under the same id");
                return;
            }
            warn!(error = &error as &dyn std::error::Error, endpoint = self.endpoint, delivery.id = %due.id, "the outcome of an attempt cannot be stored yet");
            if self.stop.is_cancelled() {
                tokio::time::sleep(pause.min(Duration::from_millis(500))).await;
            } else {
                self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    async fn try_finish(
        &self,
        due: &ClaimedDelivery,
        result: &AttemptResult,
        elapsed: Duration,
    ) -> Result<(), store::Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        tx.tick(now).await?;
        let (since, failures) = tx.waits(due.sequence).await?;
        let waited = Waited { time: now.since(since), attempts: failures.saturating_add(1) };
        let state = self.state(&mut tx, due, result, now).await?;
        // If others were accepted lately, the cause is this message, whatever the reply says, and its time can expire.
        // Otherwise not: a quota for all must not end a message.
        let outcome = match result.outcome {
            Outcome::Blocked if state.lately_alone => Outcome::Deferred,
            outcome => outcome,
        };
        let mut next = self.policy.next(outcome, due.retry_index, waited, now, fastrand::f64());
        if let (RetryDecision::At(at), true) = (&mut next, state.backs_off && result.outcome != Outcome::Unavailable) {
            // Leaves the next probe to another delivery, which may fare better.
            *at = (*at).max(state.probe_at.after(Duration::from_millis(1)));
        }
        let finished = tx.finish(due, result, next, now).await;
        finished.map_err(|error| error.while_doing("note what became of a message"))?;
        self.record_endpoint(&mut tx, due, result, &state, now).await?;
        let verdict = if next == RetryDecision::Delivered { tx.verdict_seen_at(due.sequence).await? } else { None };
        tx.commit().await?;
        self.metrics.attempted(&self.endpoint, next, elapsed, verdict.map(|at| now.since(at)));
        if result.outcome == Outcome::Accepted {
            self.neighbours.iter().for_each(|neighbour| neighbour.poke.notify_one());
        }
        self.log(due, result, next);
        Ok(())
    }

    async fn state(
        &self,
        tx: &mut WriteTx,
        due: &ClaimedDelivery,
        result: &AttemptResult,
        now: Timestamp,
    ) -> Result<State, store::Error> {
        let failures = tx.endpoint_failures(&self.endpoint).await?;
        let may_be_alone = matches!(result.outcome, Outcome::Blocked | Outcome::Retry { .. });
        let (alone, lately_alone) =
            if may_be_alone { tx.accepted_others(&self.endpoint, due).await? } else { (false, false) };
        let backs_off = match result.outcome {
            Outcome::Unavailable | Outcome::AuthRejected => true,
            Outcome::Blocked => !alone,
            Outcome::Retry { .. } => !alone && failures + 1 >= FAILURES_TO_BACK_OFF,
            _ => false,
        };
        let probe_at = now.after(self.policy.pause(failures, fastrand::f64()).min(MAX_PROBE_PAUSE));
        Ok(State { alone, lately_alone, backs_off, probe_at })
    }

    /// Records what an attempt says about the endpoint as a whole.
    async fn record_endpoint(
        &self,
        tx: &mut WriteTx,
        due: &ClaimedDelivery,
        result: &AttemptResult,
        state: &State,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let name = &self.endpoint;
        match result.outcome {
            // A rejection of one message is a reply, too. And one mailbox that is full must not hold up the others.
            Outcome::Accepted | Outcome::Refused | Outcome::Deferred => {
                tx.endpoint_answered(name, due, now).await?;
                let accepted =
                    result.outcome == Outcome::Accepted || result.final_replies.values().any(|reply| took(reply));
                if !accepted {
                    return Ok(());
                }
                for neighbour in &self.neighbours {
                    tx.probe_neighbour(name, &neighbour.endpoint, now).await?;
                }
                tx.endpoint_accepted(name, now).await
            }
            Outcome::Unconfirmed => tx.endpoint_unconfirmed(name, due, &result.detail, now).await,
            Outcome::Blocked | Outcome::Retry { .. } if state.alone => tx.schedule_probe(name, state.probe_at).await,
            Outcome::Blocked | Outcome::Unavailable | Outcome::AuthRejected | Outcome::Retry { .. } => {
                let probe_at = state.backs_off.then_some(state.probe_at);
                tx.endpoint_failed(name, now, probe_at, &result.detail).await
            }
            Outcome::Gone => {
                tx.endpoint_failed(name, now, None, &result.detail).await?;
                tx.pause_endpoint(name, &self.settings, now).await
            }
        }
    }

    fn log(&self, due: &ClaimedDelivery, result: &AttemptResult, next: RetryDecision) {
        let (endpoint, id, attempt, detail) = (&self.endpoint, due.id, due.attempt, &result.detail);
        match next {
            RetryDecision::Delivered => {
                info!(endpoint, delivery.id = %id, attempt, "{endpoint} accepted a message: {detail}");
            }
            RetryDecision::At(at) if result.outcome == Outcome::Gone => {
                error!(endpoint, delivery.id = %id, attempt, %at, "{endpoint} says that it is gone: {detail}; nothing more is sent there until its configuration changes or `vetwatch deliveries redrive` is run");
            }
            RetryDecision::At(at) => {
                warn!(endpoint, delivery.id = %id, attempt, %at, "{endpoint} did not take a message: {detail}");
            }
            RetryDecision::Rejected | RetryDecision::Expired => error!(
                endpoint, delivery.id = %id, attempt,
                "delivery to {endpoint} given up: {detail}; `vetwatch deliveries redrive {id}` sends it again"
            ),
        }
        let refused = result.final_replies.iter().filter(|(_, reply)| !took(reply));
        if !matches!(next, RetryDecision::Rejected | RetryDecision::Expired) {
            for (recipient, reply) in refused {
                warn!(
                    endpoint, delivery.id = %id, attempt,
                    "{recipient} of {endpoint} refused a message for good: {reply}; `vetwatch deliveries redrive {id}` sends \
                     it again to that recipient"
                );
            }
        }
    }
}

/// What a failure means, given the endpoint's other deliveries.
struct State {
    /// Other messages were accepted since the first attempt at this one: the endpoint works, and only this one waits.
    alone: bool,
    /// The same since the last attempt at this one.
    lately_alone: bool,
    backs_off: bool,
    /// When to probe an endpoint that backs off, by its failures in a row.
    probe_at: Timestamp,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
