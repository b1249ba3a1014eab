//! What happens in the simulated Partner Center, and when. Each beat waits for what the one before it led to, so that
//! a slow machine tells the same story, later.

use std::time::Duration;

use tokio::time::Instant;

use super::environment::{MAIL_ENDPOINT, Stage};
use super::fixtures::{self, DemoCustomer};
use super::observer::DemoEventKind;
use crate::changes::ABSENT;
use crate::cli::Failure;
use crate::sandbox::{Fault, FaultRule, Kind, Operation, entry};
use crate::time::Timestamp;

/// What did not come after so long does not hold up the story.
const PATIENCE: Duration = Duration::from_secs(5);
/// With new customers each time. Then it is the spectator's turn.
const LONGEST_PASSES: usize = 16;

/// How many there are at the beginning.
pub(super) const CUSTOMERS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Join,
    Approve,
    Deny,
    Hiccup,
    Outage,
    Back,
    Vanish,
    Resubmit,
    ApproveAtLast,
    Revoke,
}

/// When, as a part of a pass.
const SCRIPT: &[(f64, Step)] = &[
    (0.0, Step::Join),
    (0.07, Step::Approve),
    (0.20, Step::Deny),
    (0.34, Step::Hiccup),
    (0.48, Step::Outage),
    (0.62, Step::Back),
    (0.70, Step::Vanish),
    (0.78, Step::Resubmit),
    (0.88, Step::ApproveAtLast),
    (0.97, Step::Revoke),
];

/// From the beginning of a pass to that of the next one.
const NEXT_PASS: f64 = 1.25;

/// Who plays in a pass.
#[derive(Debug, Clone)]
struct Cast {
    approved: DemoCustomer,
    denied: DemoCustomer,
    /// Approved while the mail server is away; an office, for the government's cloud.
    late: DemoCustomer,
    /// Approved so far.
    revoked: DemoCustomer,
}

/// What a beat leads to, as far as it has not been seen yet.
#[derive(Debug)]
enum Awaited {
    News {
        player: DemoCustomer,
        to: Option<&'static str>,
        mail: bool,
        webhook: bool,
        /// The mail could not be delivered yet.
        waits: bool,
    },
    /// Questions after the pause that was asked for. Requests after this one count.
    Resumption(u64),
    /// That vetwatch has seen these.
    Sight(Vec<DemoCustomer>),
}

#[derive(Debug)]
pub(super) struct Story {
    pass_length: Duration,
    /// Nothing new begins after this.
    last_call: Option<Instant>,
    pass: usize,
    pass_began: Instant,
    beat: usize,
    cast: Cast,
    awaited: Option<Awaited>,
    patience_ends: Instant,
    /// In review until the spectator decides.
    pub(super) yours: DemoCustomer,
    over_was_told: bool,
}

impl Story {
    /// Puts the customers into Partner Center: who is settled, who is in review, who has nothing.
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
            beat: 1, // everybody is there already
            cast,
            awaited: None,
            patience_ends: now,
            yours,
            over_was_told: false,
        })
    }

    /// The story begins now; a pass lasts `pass_length`, and nothing new begins after `last_call`.
    pub(super) fn begin(&mut self, pass_length: Duration, last_call: Option<Instant>) {
        (self.pass_length, self.last_call, self.pass_began) = (pass_length, last_call, Instant::now());
    }

    /// Everything that was done has been seen and told, as far as it was to be.
    pub(super) fn is_calm(&self) -> bool {
        self.awaited.is_none()
    }

    /// Takes notice of what was seen.
    pub(super) fn note(&mut self, what: &DemoEventKind) {
        let Some(Awaited::News { player, to, mail, webhook, waits }) = &mut self.awaited else { return };
        match what {
            DemoEventKind::Transition(row) if row.customer_id == player.id && row.to_status.as_deref() == *to => {
                *to = None;
            }
            DemoEventKind::Mail(letter, ..) if letter.text.contains(&player.id) => *mail = false,
            DemoEventKind::Webhook(hook) if hook.json()["data"]["customer"]["id"] == player.id => *webhook = false,
            DemoEventKind::Waits(row) if row.endpoint == MAIL_ENDPOINT => *waits = false,
            _ => {}
        }
        if to.is_none() && !*mail && !*webhook && !*waits {
            self.awaited = None;
        }
    }

    /// Goes on with the story if it is time to. Returns what happened.
    pub(super) async fn step(&mut self, stage: &mut Stage, now: Timestamp) -> Result<Vec<DemoEventKind>, Failure> {
        let mut told = self.look(stage).await?;
        let instant = Instant::now();
        if self.awaited.is_some() && instant < self.patience_ends {
            return Ok(told);
        }
        self.awaited = None;
        if self.last_call.is_some_and(|last| instant >= last) {
            return Ok(told);
        }
        let Some((part, beat)) = SCRIPT.get(self.beat).copied() else {
            told.extend(self.turn_over(instant));
            return Ok(told);
        };
        if instant >= self.pass_began + self.pass_length.mul_f64(part) {
            self.beat += 1;
            self.patience_ends = instant + PATIENCE;
            told.extend(self.act(beat, stage, now).await?);
        }
        Ok(told)
    }

    /// After a pass: the next one, if there is to be one.
    fn turn_over(&mut self, instant: Instant) -> Option<DemoEventKind> {
        let next = self.pass_began + self.pass_length.mul_f64(NEXT_PASS);
        let whole = self.last_call.is_none_or(|last| next.max(instant) + self.pass_length <= last);
        if self.pass + 1 < LONGEST_PASSES && whole {
            if instant >= next {
                (self.pass, self.beat, self.pass_began) = (self.pass + 1, 0, instant);
            }
            return None;
        }
        let first = !std::mem::replace(&mut self.over_was_told, true);
        let endless = self.last_call.is_none();
        (first && endless).then(|| {
            DemoEventKind::Partner(
                "nothing more happens by itself; the commands above still work, and Ctrl-C ends".to_owned(),
            )
        })
    }

    /// What can only be found out by asking the stage.
    async fn look(&mut self, stage: &Stage) -> Result<Vec<DemoEventKind>, Failure> {
        match &self.awaited {
            Some(Awaited::Resumption(since)) => {
                let Some(pause) = resumed(stage, *since) else { return Ok(Vec::new()) };
                self.awaited = None;
                let pause = pause.as_secs_f64();
                Ok(vec![DemoEventKind::Vetwatch(format!(
                    "left it alone for {pause:.1} s, as told, then went on; nothing of it is news"
                ))])
            }
            Some(Awaited::Sight(players)) => {
                let seen = stage.store.in_review().await?;
                if players.iter().all(|player| seen.iter().any(|row| row.customer_id == player.id)) {
                    self.awaited = None;
                    return Ok(vec![DemoEventKind::Vetwatch(
                        "sees them for the first time, which is no news".to_owned(),
                    )]);
                }
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn act(&mut self, beat: Step, stage: &mut Stage, now: Timestamp) -> Result<Vec<DemoEventKind>, Failure> {
        if beat == Step::Join {
            return self.join(stage, now);
        }
        let Cast { approved, denied, late, revoked } = self.cast.clone();
        let (player, operation, to, text) = match beat {
            Step::Hiccup => return Ok(self.hiccup(stage)),
            Step::Back => {
                stage.bring_mail_up().await?;
                self.awaited = news(late, None, Expected::Mail);
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
        let mut told = Vec::new();
        let expected = match beat {
            Step::Outage => {
                stage.take_mail_down().await?;
                told.push(DemoEventKind::MailServer("goes down".to_owned()));
                Expected::WebhookOnly
            }
            Step::Vanish | Step::Resubmit => Expected::Nothing,
            _ => Expected::Both,
        };
        // A spectator may have removed the customer: then there is nothing to tell.
        if stage.sandbox.apply(&player.id, operation).is_ok() {
            told.push(DemoEventKind::Partner(text));
            self.awaited = news(player, Some(to), expected);
        }
        Ok(told)
    }

    /// New customers, and who was approved in the last pass is the one to lose it.
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
        self.awaited = Some(Awaited::Sight(vec![approved.clone(), denied.clone(), late.clone()]));
        Ok(vec![DemoEventKind::Partner(text)])
    }

    fn hiccup(&mut self, stage: &Stage) -> Vec<DemoEventKind> {
        let last = stage.sandbox.log(crate::sandbox::RequestLog::last);
        stage.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::status(500)).times(1));
        stage.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::throttled(PAUSE)).times(1));
        self.awaited = Some(Awaited::Resumption(last));
        vec![DemoEventKind::Partner("answers 500 to one question, and 429 \"come back in 1 s\" to another".to_owned())]
    }
}

/// What is said when the outage is over.
pub(super) const BACK: &str = "is back";

/// What the hiccup asks for.
const PAUSE: Duration = Duration::from_secs(1);

fn government() -> Operation {
    Operation::Submit { qualification: entry::GOVERNMENT.to_owned() }
}

fn approve(player: DemoCustomer, how: &str) -> (DemoCustomer, Operation, &'static str, String) {
    let text = format!("approves {} for Education{how}", player.name);
    (player, Operation::approve(), "Approved", text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    Both,
    Mail,
    /// And a mail that has to wait.
    WebhookOnly,
}

#[expect(clippy::unnecessary_wraps, reason = "it is what the caller keeps")]
fn news(player: DemoCustomer, to: Option<&'static str>, expected: Expected) -> Option<Awaited> {
    Some(Awaited::News {
        player,
        to,
        mail: matches!(expected, Expected::Both | Expected::Mail),
        webhook: matches!(expected, Expected::Both | Expected::WebhookOnly),
        waits: expected == Expected::WebhookOnly,
    })
}

/// How long nothing was asked after the 429, once something is asked again. Questions that were under way do not count.
fn resumed(stage: &Stage, since: u64) -> Option<Duration> {
    stage.sandbox.log(|log| {
        let mut questions = log.after(since).filter(|record| record.kind == Kind::Qualifications);
        let refused = questions.find(|record| record.status == Some(429))?.at;
        let mut pauses = questions.map(|record| record.at.since(refused));
        pauses.find(|pause| *pause >= PAUSE / 2)
    })
}
