//! Records responses as they arrive.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use vetwatch_core::retry::is_logged;

use super::backoff::doubled;
use super::batch::{Batch, Changed};
use super::flight::{Answered, Flight, PollOutcome};
use super::{PollRound, Poller};
use crate::attention::Reason;
use crate::partner_center::{Answer, Error};
use crate::qualification::Snapshot;
use crate::recording::{self, Recorder};
use crate::schedule::PollClass;
use crate::store::{self, DueCustomer, Failed, Unchanged};

/// A turn returns at least this often: the watchdog wants progress, and the clock may have jumped.
const MAX_TURN: Duration = Duration::from_secs(20);

/// How long to wait for responses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until<'a> {
    AllAnswered,
    /// Until another customer can be polled (`round.next`).
    NextDue,
    /// The same, or until poked.
    Poked(&'a Notify),
}

/// Whether any response was good, or else the last failure.
#[derive(Debug, Default)]
struct Health {
    good: bool,
    failure: Option<String>,
}

impl Poller {
    /// Starts the waiting polls as there is room, and records responses as they arrive.
    ///
    /// # Errors
    /// When the database fails. What could not be recorded stays in `flight`.
    pub(super) async fn take_answers(
        &self,
        flight: &mut Flight,
        round: &mut PollRound,
        until: Until<'_>,
    ) -> Result<(), store::Error> {
        let began = Instant::now();
        let next = round.next.map_or(MAX_TURN, |next| next.since(self.clock.now()).min(MAX_TURN));
        let (next, end) = (began + next, began + MAX_TURN);
        let mut health = Health::default();
        loop {
            while let Some(answered) = flight.answered.pop_front() {
                if let Err(error) = self.follow_backoff(flight, round, &answered).await {
                    flight.answered.push_front(answered);
                    return Err(error);
                }
                self.take_answer(flight, round, &mut health, answered);
            }
            self.begin(flight, round); // only now: the responses may forbid it
            let written = self.write(flight, round).await?;
            let waits = !matches!(until, Until::AllAnswered);
            if !flight.is_under_way() && flight.batch.is_empty() {
                break;
            }
            let room = self.has_room(flight);
            if waits && (room && flight.has_recorded || Instant::now() >= end) {
                break;
            }
            if written {
                continue; // responses may have arrived meanwhile
            }
            let poked = async {
                match until {
                    Until::Poked(poke) => poke.notified().await,
                    Until::AllAnswered | Until::NextDue => std::future::pending().await,
                }
            };
            let full_at = flight.batch.full_at();
            tokio::select! {
                Some(answered) = flight.running.join_next() => {
                    flight.arrived(answered.ok());
                    while let Some(answered) = flight.running.try_join_next() {
                        flight.arrived(answered.ok());
                    }
                }
                () = sleep_until(full_at.unwrap_or(end)), if full_at.is_some() => {}
                () = sleep_until(next), if waits && room => break,
                () = sleep_until(end), if waits => break,
                () = poked => break,
            }
        }
        self.record_health(health.good, health.failure).await
    }

    /// Ends a backoff after a good response, and starts one after a failure that every other customer would meet too.
    async fn follow_backoff(
        &self,
        flight: &mut Flight,
        round: &mut PollRound,
        answered: &Answered,
    ) -> Result<(), store::Error> {
        match &answered.outcome {
            // A poll started before the backoff does not show that the fault is over.
            PollOutcome::Response(_) if flight.was_backing_off && answered.pauses_before == flight.pauses => {
                self.end_backoff().await?;
                flight.was_backing_off = false;
            }
            PollOutcome::Failed(error) if error.affects_partner() => {
                self.start_backoff(flight, answered, error).await?;
                self.pause_polling(flight, round);
            }
            _ => {}
        }
        Ok(())
    }

    /// Sorts a result into the batch.
    fn take_answer(&self, flight: &mut Flight, round: &mut PollRound, health: &mut Health, answered: Answered) {
        let Answered { customer, outcome, is_second, .. } = answered;
        match outcome {
            PollOutcome::Response(answer) => {
                if held_entry(&customer, &answer) {
                    self.recent_polls.count(customer.row, answer.ended_at);
                }
                if is_unchanged(&customer, &answer) {
                    flight.batch.unchanged(self.unchanged(&customer, &answer));
                    round.unchanged += 1;
                } else {
                    flight.batch.changed(Changed { customer, answer, is_second });
                }
                health.good = true;
            }
            PollOutcome::Failed(error) => {
                health.failure = Some(error.to_string());
                round.failed += 1;
                if error.affects_partner() {
                    round.refused |= matches!(error, Error::Credential(_) | Error::Forbidden(_));
                } else {
                    let no_relationship = matches!(error, Error::NoRelationship(_));
                    flight.batch.failed(self.failed(&customer, &error, no_relationship, is_second));
                }
            }
            PollOutcome::Skipped => {
                flight.batch.release(customer.row, customer.due_at);
                round.released += 1;
            }
        }
    }

    /// Writes what is due: responses that may change something; the others if they are many, or nothing else is under way.
    /// Polls go on meanwhile. False if nothing was due.
    async fn write(&self, flight: &mut Flight, round: &mut PollRound) -> Result<bool, store::Error> {
        let group = flight.batch.take_group();
        let records = !group.is_empty();
        if records {
            self.record_group(flight, round, group).await?;
        }
        let is_due = !flight.is_under_way() || flight.batch.is_full();
        let commits = is_due && !flight.batch.is_empty();
        if commits {
            let waiting = flight.batch.take_waiting();
            if let Err(error) = self.while_polling(flight, round, self.commit(&waiting)).await {
                flight.batch.add(waiting);
                return Err(error);
            }
        }
        flight.has_recorded |= records || commits;
        Ok(records || commits)
    }

    /// Records responses in one transaction; if one of them cannot be recorded, each in its own.
    async fn record_group(
        &self,
        flight: &mut Flight,
        round: &mut PollRound,
        group: Vec<Changed>,
    ) -> Result<(), store::Error> {
        let mut groups = VecDeque::from([group]);
        while let Some(group) = groups.pop_front() {
            match self.while_polling(flight, round, self.record(&group)).await {
                Ok(transitions) => {
                    round.changed += u32::try_from(group.len()).unwrap_or(u32::MAX);
                    round.transitions += transitions;
                }
                Err(error) if error.is_data_error() && group.len() > 1 => {
                    groups.extend(group.into_iter().map(|changed| vec![changed]));
                }
                // Costs only this response.
                Err(error) if error.is_data_error() => {
                    for Changed { customer, is_second, .. } in &group {
                        flight.batch.failed(self.failed(customer, &error, false, *is_second));
                        round.failed += 1;
                    }
                }
                Err(error) => {
                    groups.push_front(group);
                    flight.batch.put_back(groups.into_iter().flatten());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Returns the number of transitions.
    async fn record(&self, group: &[Changed]) -> Result<u32, store::Error> {
        let recorder = Recorder {
            store: &self.store,
            partner: &self.partner,
            routes: &self.routes,
            intervals: &self.intervals(),
            calendar: &self.reminders.calendar,
        };
        let responses = group.iter().map(|Changed { customer, answer, .. }| recording::Response {
            customer: customer.row,
            answer,
            recently_polled: self.recent_polls.within_hour(answer.ended_at),
        });
        let outcomes = recorder
            .record(&responses.collect::<Vec<_>>())
            .await
            .map_err(|error| error.while_doing("record an answer"))?;
        self.poke_outbox(outcomes.iter().map(|outcome| outcome.queued).sum());
        let mut transitions = 0;
        for (Changed { customer, answer, .. }, outcome) in group.iter().zip(outcomes) {
            for (change, event) in &outcome.changes {
                transitions += 1;
                self.metrics.changed(&self.partner.name, *event);
                let word = |status: &Option<String>| status.clone().unwrap_or_else(|| "no status".to_owned());
                info!(
                    partner = self.partner.name, customer.id = customer.customer_id, customer.name, qualification = change.qualification,
                    attempt = change.review.attempt, correlation_id = %answer.correlation_id,
                    "{event}: from {} to {}", word(&change.from), word(&change.to)
                );
            }
        }
        Ok(transitions)
    }

    fn unchanged(&self, customer: &DueCustomer, answer: &Answer) -> Unchanged {
        let next = if customer.left && customer.class == PollClass::Unqualified {
            self.intervals().next_rare_poll(answer.ended_at, fastrand::f64())
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

    /// The second of two polls, `is_second`, does not know of the first one's failure, and logs none.
    fn failed(
        &self,
        customer: &DueCustomer,
        error: &dyn std::error::Error,
        no_relationship: bool,
        is_second: bool,
    ) -> Failed {
        let now = self.clock.now();
        let error = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        let usual = self.intervals().of(customer.class);
        let pause = if no_relationship && (customer.refused || customer.left) {
            self.intervals().unqualified
        } else if no_relationship {
            self.intervals().first_confirmation.min(usual) // for once, it may be a mistake
        } else {
            doubled(Duration::from_secs(30), customer.poll_failures).min(usual)
        };
        let failures = customer.poll_failures.saturating_add(1);
        macro_rules! say {
            ($level:ident) => {
                $level!(
                    partner = self.partner.name,
                    customer.id = customer.customer_id,
                    customer.name,
                    failures,
                    "a customer could not be polled: {error}"
                )
            };
        }
        if is_logged(failures) && !is_second {
            say!(warn);
        } else {
            say!(debug);
        }
        Failed {
            row: customer.row,
            at: now.as_millis(),
            next_poll_at: now.after(pause.mul_f64(1.0 - 0.05 * fastrand::f64())).as_millis(),
            error,
            no_relationship,
            failing_after_ms: i64::try_from(Reason::CustomersFailing.after().as_millis()).unwrap_or(i64::MAX),
        }
    }

    async fn commit(&self, batch: &Batch) -> Result<(), store::Error> {
        let mut tx = self.store.begin().await?;
        tx.unchanged(&batch.unchanged).await?;
        tx.failed(&batch.failed).await?;
        tx.release_polls(&batch.released).await?;
        tx.commit().await
    }
}

/// True if the customer has an entry in this response or had one in the last.
fn held_entry(customer: &DueCustomer, answer: &Answer) -> bool {
    let nothing = Snapshot::default().fingerprint();
    customer.class == PollClass::Confirming
        || !answer.snapshot.entries().is_empty()
        || customer.answer.as_ref().is_some_and(|last| !last.is_empty() && *last != nothing)
}

/// True if the response equals the stored state and no timer has expired.
fn is_unchanged(customer: &DueCustomer, answer: &Answer) -> bool {
    customer.class != PollClass::Confirming
        && customer.poll_failures == 0 // a failure may have moved it to another class
        && !recording::watch_window_expired(customer.watch_closely_until, customer.class, answer.ended_at)
        && customer.answer.as_deref() == Some(answer.snapshot.fingerprint().as_str())
}
