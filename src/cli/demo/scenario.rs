//! The scenario: what happens in the simulated Partner Center, and when. Each step waits for the effects of the
//! previous one, so that a slow machine shows the same, later.

use std::time::Duration;

use tokio::time::Instant;

use super::environment::{MAIL_ENDPOINT, Stage};
use super::fixtures::{self, DemoCustomer};
use super::observer::DemoEventKind;
use crate::changes::ABSENT;
use crate::cli::Failure;
use crate::sandbox::{Fault, FaultRule, Kind, Operation, entry};
use crate::time::Timestamp;

/// Maximum wait for a step's effects.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of passes, each with new customers. Then it is the spectator's turn.
const PASSES_MAX: usize = 16;

/// Number of customers at the start.
pub(super) const CUSTOMERS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Join,
    Approve,
    Deny,
    Throttle,
    Outage,
    Back,
    Vanish,
    Resubmit,
    ApproveAtLast,
    Revoke,
}

/// Each step's time, as a fraction of a pass.
const SCRIPT: &[(f64, Step)] = &[
    (0.0, Step::Join),
    (0.07, Step::Approve),
    (0.20, Step::Deny),
    (0.34, Step::Throttle),
    (0.48, Step::Outage),
    (0.62, Step::Back),
    (0.70, Step::Vanish),
    (0.78, Step::Resubmit),
    (0.88, Step::ApproveAtLast),
    (0.97, Step::Revoke),
];

/// From the start of a pass to that of the next, in passes: no flood of verdicts, which would be gathered.
const NEXT_PASS: f64 = 1.5;

#[derive(Debug, Clone)]
struct Cast {
    approved: DemoCustomer,
    denied: DemoCustomer,
    /// Approved while the mail server is down; an office, for the government's cloud.
    late: DemoCustomer,
    /// Approved in an earlier pass.
    revoked: DemoCustomer,
}

/// The effects of a step that have not been seen yet.
#[derive(Debug)]
enum Awaited {
    Change {
        player: DemoCustomer,
        to: Option<&'static str>,
        mail: bool,
        webhook: bool,
        /// True until the mail's first failed attempt.
        waits: bool,
    },
    /// Polls after the requested pause. Requests after this one count.
    Resumption(u64),
    /// The first poll of these customers.
    FirstPoll(Vec<DemoCustomer>),
}

#[derive(Debug)]
pub(super) struct Story {
    pass_length: Duration,
    /// No step starts after this.
    last_call: Option<Instant>,
    pass: usize,
    pass_began: Instant,
    step: usize,
    cast: Cast,
    awaited: Option<Awaited>,
    effects_due_at: Instant,
    /// The mail server is down because the scenario took it down.
    outage: bool,
    /// The spectator switches it.
    pub(super) leaves_mail_alone: bool,
    /// In review until the spectator decides.
    pub(super) yours: DemoCustomer,
    end_was_shown: bool,
}

impl Story {
    /// Creates the customers in Partner Center: settled, in review, and without qualification.
    pub(super) fn prepare(stage: &Stage, now: Timestamp) -> Result<Self, Failure> {
        let add = |name, past: Vec<(u64, Operation)>| fixtures::add(&stage.sandbox, name, now, past);
        let (submit, approve) = (Operation::submit, Operation::approve);
        let cast = Cast {
            approved: add(fixtures::school(0), vec![(75, submit())])?,
            denied: add(fixtures::school(1), vec![(52, submit())])?,
            late: add(fixtures::office(0), vec![(126, government())])?,
            revoked: add(fixtures::school(2), vec![(24 * 210, submit()), (24 * 206, approve())])?,
        };
        let yours = add(fixtures::school(3), vec![(2, submit())])?;
        let denied = Operation::deny("Not an Education Customer - After Review");
        add(fixtures::school(4), vec![(24 * 40, submit()), (24 * 31, denied)])?;
        add(fixtures::school(5), vec![(24 * 90, submit()), (24 * 88, approve())])?;
        add(fixtures::school(6), Vec::new())?;
        let now = Instant::now();
        Ok(Self {
            pass_length: Duration::ZERO,
            last_call: None,
            pass: 0,
            pass_began: now,
            step: 1, // the customers exist already
            cast,
            awaited: None,
            effects_due_at: now,
            outage: false,
            leaves_mail_alone: false,
            yours,
            end_was_shown: false,
        })
    }

    /// Starts the scenario; a pass lasts `pass_length`, and no step starts after `last_call`.
    pub(super) fn begin(&mut self, pass_length: Duration, last_call: Option<Instant>) {
        (self.pass_length, self.last_call, self.pass_began) = (pass_length, last_call, Instant::now());
    }

    /// True if all expected effects were seen.
    pub(super) fn is_calm(&self) -> bool {
        self.awaited.is_none()
    }

    /// Notes an observed event.
    pub(super) fn note(&mut self, what: &DemoEventKind) {
        let Some(Awaited::Change { player, to, mail, webhook, waits }) = &mut self.awaited else { return };
        match what {
            DemoEventKind::Transition(row) if row.customer_id == player.id && row.to_status.as_deref() == *to => {
                *to = None;
            }
            DemoEventKind::Mail { mail: decoded, .. } if decoded.text.contains(&player.id) => *mail = false,
            DemoEventKind::Webhook(hook) if hook.json()["data"]["customer"]["id"] == player.id => *webhook = false,
            DemoEventKind::Waits(row) if row.endpoint == MAIL_ENDPOINT => *waits = false,
            _ => {}
        }
        if to.is_none() && !*mail && !*webhook && !*waits {
            self.awaited = None;
        }
    }

    /// Runs the next step if it is due. Returns what happened.
    pub(super) async fn step(&mut self, stage: &mut Stage, now: Timestamp) -> Result<Vec<DemoEventKind>, Failure> {
        let mut events = Vec::from_iter(self.check_effects(stage).await?);
        let instant = Instant::now();
        if self.awaited.is_some() && instant < self.effects_due_at {
            return Ok(events);
        }
        self.awaited = None;
        if self.last_call.is_some_and(|last| instant >= last) {
            return Ok(events);
        }
        let Some((part, step)) = SCRIPT.get(self.step).copied() else {
            events.extend(self.next_pass(instant));
            return Ok(events);
        };
        if instant >= self.pass_began + self.pass_length.mul_f64(part) {
            self.step += 1;
            self.effects_due_at = instant + EFFECT_TIMEOUT;
            events.extend(self.act(step, stage, now).await?);
        }
        Ok(events)
    }

    /// Starts the next pass, if there is one.
    fn next_pass(&mut self, instant: Instant) -> Option<DemoEventKind> {
        let next = self.pass_began + self.pass_length.mul_f64(NEXT_PASS);
        let whole = self.last_call.is_none_or(|last| next.max(instant) + self.pass_length <= last);
        if self.pass + 1 < PASSES_MAX && whole {
            if instant >= next {
                (self.pass, self.step, self.pass_began) = (self.pass + 1, 0, instant);
            }
            return None;
        }
        let first = !std::mem::replace(&mut self.end_was_shown, true);
        let endless = self.last_call.is_none();
        (first && endless).then(|| DemoEventKind::Partner("nothing more happens by itself; Ctrl-C ends".to_owned()))
    }

    /// Checks for effects that cause no event.
    async fn check_effects(&mut self, stage: &Stage) -> Result<Option<DemoEventKind>, Failure> {
        let seen = match &self.awaited {
            Some(Awaited::Resumption(since)) => resumed(stage, *since).map(|pause| {
                let pause = pause.as_secs_f64();
                format!("left it alone for {pause:.1} s, as told, then went on; nothing of it is news")
            }),
            Some(Awaited::FirstPoll(players)) => {
                let rows = stage.store.in_review().await?;
                let is_seen = |player: &DemoCustomer| rows.iter().any(|row| row.customer_id == player.id);
                players.iter().all(is_seen).then(|| "sees them for the first time, which is no news".to_owned())
            }
            _ => return Ok(None),
        };
        if seen.is_some() {
            self.awaited = None;
        }
        Ok(seen.map(DemoEventKind::Vetwatch))
    }

    async fn act(&mut self, step: Step, stage: &mut Stage, now: Timestamp) -> Result<Vec<DemoEventKind>, Failure> {
        if step == Step::Join {
            return self.join(stage, now);
        }
        let Cast { approved, denied, late, revoked } = self.cast.clone();
        let (player, operation, to, text) = match step {
            Step::Throttle => return Ok(self.throttle(stage)),
            Step::Back => {
                // A spectator may have taken it down or brought it up meanwhile.
                if !std::mem::take(&mut self.outage) || !stage.bring_mail_up().await? {
                    return Ok(Vec::new());
                }
                let (to, mail, webhook, waits) = (None, true, false, false);
                self.awaited = Some(Awaited::Change { player: late, to, mail, webhook, waits });
                return Ok(vec![DemoEventKind::MailServer(BACK.to_owned())]);
            }
            Step::Approve => approve(approved, ""),
            Step::Deny => {
                let reason = "Not an Academic Domain";
                let text = format!("denies {} Education: {reason}", denied.name);
                (denied, Operation::deny(reason), "Denied", text)
            }
            Step::Outage => {
                let text = format!("approves {} for {}", late.name, entry::GOVERNMENT);
                let operation = Operation::Approve { qualification: entry::GOVERNMENT.to_owned() };
                (late, operation, "Approved", text)
            }
            Step::Vanish => {
                let text = format!("lists nothing for {} any more, as it does after a denial", denied.name);
                (denied, Operation::withdraw(), ABSENT, text)
            }
            Step::Resubmit => {
                let text = format!("reviews {} again, with better data", denied.name);
                (denied, Operation::submit(), "InReview", text)
            }
            Step::ApproveAtLast => approve(denied, ", at the second attempt"),
            Step::Revoke | Step::Join => {
                let reason = "No longer an Education Customer";
                let text = format!("denies {} after all: {reason}", revoked.name);
                (revoked, Operation::deny(reason), "Denied", text)
            }
        };
        // A spectator may have decided, or removed the customer.
        let before = match step {
            Step::Vanish => Some("Denied"),
            Step::Resubmit => None,
            Step::Revoke | Step::Join => Some("Approved"),
            _ => Some("InReview"),
        };
        if stage.status(&player.id).as_deref() != before {
            return Ok(Vec::new());
        }
        let mut events = Vec::new();
        let (mail, webhook, waits) = match step {
            Step::Outage => {
                self.outage = !self.leaves_mail_alone && !stage.mail_is_down();
                if self.outage {
                    stage.take_mail_down().await?;
                    events.push(DemoEventKind::MailServer("goes down".to_owned()));
                }
                (false, true, true)
            }
            Step::Vanish | Step::Resubmit => (false, false, false),
            _ => (true, true, false),
        };
        if stage.sandbox.apply(&player.id, operation).is_ok() {
            events.push(DemoEventKind::Partner(text));
            self.awaited = Some(Awaited::Change { player, to: Some(to), mail, webhook, waits });
        }
        Ok(events)
    }

    /// Adds new customers; the one approved in the last pass is revoked.
    fn join(&mut self, stage: &Stage, now: Timestamp) -> Result<Vec<DemoEventKind>, Failure> {
        let school = 5 + 2 * self.pass;
        let add = |name, hours, submitted| fixtures::add(&stage.sandbox, name, now, [(hours, submitted)]);
        self.cast = Cast {
            revoked: self.cast.approved.clone(),
            approved: add(fixtures::school(school), 50, Operation::submit())?,
            denied: add(fixtures::school(school + 1), 29, Operation::submit())?,
            late: add(fixtures::office(self.pass), 100, government())?,
        };
        let Cast { approved, denied, late, .. } = &self.cast;
        let text = format!("has new customers in review: {}, {}, {}", approved.name, denied.name, late.name);
        self.awaited = Some(Awaited::FirstPoll(vec![approved.clone(), denied.clone(), late.clone()]));
        Ok(vec![DemoEventKind::Partner(text)])
    }

    fn throttle(&mut self, stage: &Stage) -> Vec<DemoEventKind> {
        let last = stage.sandbox.log(crate::sandbox::RequestLog::last);
        stage.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::status(500)).times(1));
        stage.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::throttled(PAUSE)).times(1));
        self.awaited = Some(Awaited::Resumption(last));
        vec![DemoEventKind::Partner("answers 500 to one question, and 429 \"come back in 1 s\" to another".to_owned())]
    }
}

/// Text for the end of the outage.
pub(super) const BACK: &str = "is back";

/// `Retry-After` of the throttled request.
const PAUSE: Duration = Duration::from_secs(1);

fn government() -> Operation {
    Operation::Submit { qualification: entry::GOVERNMENT.to_owned() }
}

fn approve(player: DemoCustomer, how: &str) -> (DemoCustomer, Operation, &'static str, String) {
    let text = format!("approves {} for Education{how}", player.name);
    (player, Operation::approve(), "Approved", text)
}

/// The pause between the 429 and the next poll. Polls in flight do not count.
fn resumed(stage: &Stage, since: u64) -> Option<Duration> {
    stage.sandbox.log(|log| {
        let mut questions = log.after(since).filter(|record| record.kind == Kind::Qualifications);
        let refused = questions.find(|record| record.status == Some(429))?.at;
        let mut pauses = questions.map(|record| record.at.since(refused));
        pauses.find(|pause| *pause >= PAUSE / 2)
    })
}

#[cfg(test)]
mod tests {
    use super::super::PASS;
    use super::*;

    #[test]
    fn no_eleven_verdicts_fall_into_a_minute() {
        let verdicts = |(_, step): &&(f64, Step)| {
            matches!(step, Step::Approve | Step::Deny | Step::Outage | Step::ApproveAtLast | Step::Revoke)
        };
        let parts: Vec<_> = SCRIPT.iter().filter(verdicts).map(|(part, _)| *part).collect();
        let passes = std::iter::successors(Some(0.0), |began| Some(began + NEXT_PASS)).take(PASSES_MAX);
        let times: Vec<_> = passes.flat_map(|began| parts.iter().map(move |part| PASS.mul_f64(began + part))).collect();
        assert_eq!(times.len(), 5 * PASSES_MAX);
        assert!(times.windows(11).all(|eleven| eleven[10] > eleven[0] + Duration::from_mins(1)), "{times:?}");
    }
}
