//! Hands one claimed message over, and notes what became of it and what that says of its endpoint.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::delivery::retry::{LONGEST_PROBE, RetryDecision, RetryPolicy, Waited};
use crate::delivery::{AttemptResult, Channel, OutboundMessage, Outcome, took};
use crate::store::{self, ClaimedDelivery, Completion, Store, WriteTx};
use crate::time::{Clock, Timestamp};

/// No attempt lasts longer than this, whatever the other side does: longer than each channel's own deadlines.
const DEADLINE: Duration = Duration::from_mins(12);
/// Who stops waits for an answer no longer than this.
const GRACE: Duration = Duration::from_secs(10);
/// Once it is to end, the outcome of an attempt is tried to be stored for so long.
const LAST_TRIES: Duration = Duration::from_secs(2);
/// After so many failures in a row even an endpoint that can be reached is only probed.
const FAILURES_TO_CLOSE: u32 = 3;

pub struct Sender {
    pub endpoint: String,
    pub channel: Channel,
    pub policy: RetryPolicy,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    /// What the endpoint's settings come to, without secrets: a paused endpoint is tried again when it changes.
    pub settings: String,
    /// No new attempt is begun once this is cancelled.
    pub stop: CancellationToken,
}

impl Sender {
    /// One attempt, to its end. Whether it was accepted.
    pub(super) async fn send(&self, due: &ClaimedDelivery, now: Timestamp) -> bool {
        let report = tokio::select! {
            report = self.attempt(due, now) => report,
            () = self.no_more_patience() => {
                self.interrupt(due).await;
                return false;
            }
        };
        self.finish(due, &report).await;
        report.outcome == Outcome::Accepted
    }

    /// One attempt, for somebody who waits: an outcome that cannot be stored is an error, and not tried for ever.
    pub(super) async fn send_once(&self, due: &ClaimedDelivery, now: Timestamp) -> Result<(), store::Error> {
        let report = self.attempt(due, now).await;
        self.try_finish(due, &report).await
    }

    async fn no_more_patience(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    }

    async fn attempt(&self, due: &ClaimedDelivery, now: Timestamp) -> AttemptResult {
        let outgoing = OutboundMessage {
            id: due.id,
            message: &due.message,
            recipient: due.recipient.as_deref(),
            final_replies: &due.final_replies,
        };
        tokio::time::timeout(DEADLINE, self.channel.deliver(outgoing, now)).await.unwrap_or_else(|_| AttemptResult {
            outcome: Outcome::Unconfirmed,
            detail: format!("no end within {}", humantime::format_duration(DEADLINE)),
            final_replies: due.final_replies.clone(),
        })
    }

    /// vetwatch stops, and the answer has not come. The next start repeats the attempt; if this cannot be stored, it
    /// sees that for itself.
    async fn interrupt(&self, due: &ClaimedDelivery) {
        warn!(delivery.id = %due.id, "stopped before {} answered; the message is sent again, under the same id, at the next start", self.endpoint);
        let noted = async {
            let mut tx = self.store.begin().await?;
            tx.interrupt(due, self.clock.now()).await?;
            tx.commit().await
        };
        if let Err(error) = noted.await {
            warn!(error = &error as &dyn std::error::Error, delivery.id = %due.id, "that cannot be stored");
        }
    }

    /// Notes what an attempt came to. While the database refuses, the answer is kept and tried again: what was
    /// accepted must not be sent once more for that. Whoever is told to end does not wait for it for long.
    async fn finish(&self, due: &ClaimedDelivery, report: &AttemptResult) {
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

    async fn try_finish(&self, due: &ClaimedDelivery, report: &AttemptResult) -> Result<(), store::Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        tx.tick(now).await?;
        let (since, failures) = tx.waits(due.sequence).await?;
        let waited = Waited { time: now.since(since), attempts: failures.saturating_add(1) };
        let state = self.state(&mut tx, due, report, now).await?;
        // While others are taken it is this message, whatever the words were: its time can be over. Not while nobody is:
        // a quota of everybody ends nobody's message.
        let outcome = match report.outcome {
            Outcome::Blocked if state.lately_alone => Outcome::Deferred,
            outcome => outcome,
        };
        let mut next = self.policy.next(outcome, due.retry_index, waited, now, fastrand::f64());
        if let (RetryDecision::At(at), true) = (&mut next, state.closes && report.outcome != Outcome::Unavailable) {
            // Another one that waits is the probe: it may fare better.
            *at = (*at).max(state.probe_at.after(Duration::from_millis(1)));
        }
        let partial = due.final_replies.values().chain(report.final_replies.values()).any(|reply| !took(reply));
        let finish = match next {
            RetryDecision::Delivered => Completion::Delivered { partial },
            RetryDecision::At(at) => Completion::Retry { at },
            RetryDecision::Refused => Completion::Dead { rejected: true },
            RetryDecision::GivenUp => Completion::Dead { rejected: false },
        };
        let finished = tx.finish(due, finish, &report.final_replies, &report.detail, now).await;
        finished.map_err(|error| error.while_doing("note what became of a message"))?;
        self.note_endpoint(&mut tx, due, report, &state, now).await?;
        tx.commit().await?;
        self.log(due, report, next);
        Ok(())
    }

    async fn state(
        &self,
        tx: &mut WriteTx,
        due: &ClaimedDelivery,
        report: &AttemptResult,
        now: Timestamp,
    ) -> Result<State, store::Error> {
        let failures = tx.endpoint_failures(&self.endpoint).await?;
        let may_be_alone = matches!(report.outcome, Outcome::Blocked | Outcome::Retry { .. });
        let (ever, lately) = if may_be_alone { tx.accepted_others(&self.endpoint, due).await? } else { (false, false) };
        let alone = ever;
        let closes = match report.outcome {
            Outcome::Unavailable | Outcome::AuthRejected => true,
            Outcome::Blocked => !alone,
            Outcome::Retry { .. } => !alone && failures + 1 >= FAILURES_TO_CLOSE,
            _ => false,
        };
        let probe_at = now.after(self.policy.pause(failures, fastrand::f64()).min(LONGEST_PROBE));
        Ok(State { alone, lately_alone: lately, closes, probe_at })
    }

    /// What an attempt says of the endpoint as a whole.
    async fn note_endpoint(
        &self,
        tx: &mut WriteTx,
        due: &ClaimedDelivery,
        report: &AttemptResult,
        state: &State,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let name = &self.endpoint;
        match report.outcome {
            // A refusal of one message is an answer, too: somebody is there. And one mailbox that is full for days must
            // not close the way to the others.
            Outcome::Accepted | Outcome::Refused | Outcome::Deferred => {
                tx.endpoint_answered(name, due, now).await?;
                let accepted =
                    report.outcome == Outcome::Accepted || report.final_replies.values().any(|reply| took(reply));
                if accepted { tx.endpoint_accepted(name, now).await } else { Ok(()) }
            }
            Outcome::Unconfirmed => tx.endpoint_unconfirmed(name, due, &report.detail, now).await,
            Outcome::Blocked | Outcome::Retry { .. } if state.alone => tx.schedule_probe(name, state.probe_at).await,
            Outcome::Blocked | Outcome::Unavailable | Outcome::AuthRejected | Outcome::Retry { .. } => {
                let probe_at = state.closes.then_some(state.probe_at);
                tx.endpoint_failed(name, now, probe_at, &report.detail).await
            }
            Outcome::Gone => {
                tx.endpoint_failed(name, now, None, &report.detail).await?;
                tx.pause_endpoint(name, &self.settings, now).await
            }
        }
    }

    fn log(&self, due: &ClaimedDelivery, report: &AttemptResult, next: RetryDecision) {
        let (endpoint, id, attempt, detail) = (&self.endpoint, due.id, due.attempt, &report.detail);
        match next {
            RetryDecision::Delivered => info!(delivery.id = %id, attempt, "{endpoint} accepted a message: {detail}"),
            RetryDecision::At(at) if report.outcome == Outcome::Gone => {
                error!(delivery.id = %id, attempt, %at, "{endpoint} says that it is gone: {detail}; nothing more is sent there until its configuration changes or `vetwatch deliveries redrive` is run");
            }
            RetryDecision::At(at) => {
                warn!(delivery.id = %id, attempt, %at, "{endpoint} did not take a message: {detail}");
            }
            RetryDecision::Refused | RetryDecision::GivenUp => error!(
                delivery.id = %id, attempt,
                "delivery to {endpoint} given up: {detail}; `vetwatch deliveries redrive {id}` sends it again"
            ),
        }
        let refused = report.final_replies.iter().filter(|(_, reply)| !took(reply));
        if !matches!(next, RetryDecision::Refused | RetryDecision::GivenUp) {
            for (recipient, reply) in refused {
                warn!(
                    delivery.id = %id, attempt,
                    "{recipient} of {endpoint} refused a message for good: {reply}; `vetwatch deliveries redrive {id}` sends \
                     it again to whoever refused it"
                );
            }
        }
    }
}

/// What a failure means beside what else is known of the endpoint.
struct State {
    /// Other messages were accepted since this one was first tried: the endpoint works, this one waits alone.
    alone: bool,
    /// So they were since this one's last attempt.
    lately_alone: bool,
    closes: bool,
    /// When a closed endpoint is asked next, by its failures in a row.
    probe_at: Timestamp,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
