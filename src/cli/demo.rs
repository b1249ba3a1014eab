//! `vetwatch demo`: a demonstration on this machine, without configuration.
//!
//! Only Partner Center, the mail server and the receiver are simulated. The daemon is real, started from a real
//! configuration file; the output shows its database and what arrived.

mod fixtures;

mod renderer;
mod environment;
mod scenario;
mod stats;
mod observer;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::{Context, Exit, Failure, run};
use crate::daemon::Signals;
use crate::store;
use environment::Stage;
use observer::{DemoEvent, DemoEventKind, Watch};
use renderer::Show;
use scenario::Story;
use stats::{Summary, Tally};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End by itself after this time, at best 8s or more; without it the demo runs until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Put configuration and database into this new folder, and leave them there
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// How often the demo looks for what happened.
const TICK: Duration = Duration::from_millis(50);
/// Duration of a pass, unless `--duration` is shorter.
const PASS: Duration = Duration::from_secs(24);
/// Timeout of the first poll of eight customers on loopback.
const FIRST_POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long pending messages are still delivered at the end: after the time is over, or after Ctrl-C.
const GRACE: Duration = Duration::from_secs(5);
const GRACE_AFTER_SIGNAL: Duration = Duration::from_secs(2);

pub(super) async fn demo(context: &Context, args: Args) -> Result<Exit, Failure> {
    let began = Instant::now();
    let deadline = args.duration.and_then(|duration| began.checked_add(duration));
    let hurry = args.duration.map_or(PASS, |duration| duration.mul_f64(0.8).min(PASS));
    let pace = (hurry / 40).clamp(Duration::from_millis(200), Duration::from_millis(500));
    let mut signals = Signals::of_program().map_err(|error| run::without_signals(&error))?;
    let mut stage = Stage::set(context.clock.clone(), args.keep.as_deref(), pace).await?;
    let mut run = Run {
        context,
        show: Show::new(&context.out, context.json, context.now()),
        story: Story::prepare(&stage, context.now())?,
        watch: Watch::from(context.now()),
        tally: Tally::default(),
    };
    let interrupted = run.play(&mut stage, &mut signals, began, deadline).await?;
    let summary = run.tally.summary(&run.watch.pending(&stage).await?);
    run.show.summary(&summary, &stage, context.now())?;
    tokio::select! {
        ended = stage.end() => ended?,
        // A second signal drops the rest, the folder included.
        () = signals.end() => {}
    }
    judge(&summary, interrupted)
}

/// The exit code tells whether the messages arrived.
fn judge(summary: &Summary, interrupted: bool) -> Result<Exit, Failure> {
    let failed = |why: String| Err(Failure::new(Exit::Failed, "the demo did not go as it should").because(why));
    if summary.lost > 0 {
        return failed(format!("{} messages were lost; please report it", summary.lost));
    }
    if summary.signatures_not_verified > 0 {
        return failed(format!("{} signatures were not valid; please report it", summary.signatures_not_verified));
    }
    if !interrupted && (summary.approvals_delivered == 0 || summary.denials_delivered == 0) {
        let (approvals, denials) = (summary.approvals_delivered, summary.denials_delivered);
        let why = format!("within the time, {approvals} approvals and {denials} denials were delivered");
        return failed(why).map_err(|failure: Failure| failure.advise("give it more time: --duration 20s"));
    }
    Ok(Exit::Done)
}

struct Run<'c> {
    context: &'c Context,
    show: Show<'c>,
    story: Story,
    watch: Watch,
    tally: Tally,
}

impl Run<'_> {
    /// Runs until the end. Returns true if a signal ended it.
    async fn play(
        &mut self,
        stage: &mut Stage,
        signals: &mut Signals,
        began: Instant,
        deadline: Option<Instant>,
    ) -> Result<bool, Failure> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.show.stage(stage, &self.story, self.context.now())?;
        stage.begin().await?;
        let mut watching = false;
        // Set at the end: when to stop waiting, and whether a signal came.
        let mut ending: Option<(Instant, bool)> = None;
        loop {
            let mut interrupted = tokio::select! {
                _ = ticks.tick() => false,
                () = signals.end() => true,
                failure = stage.broken() => return Err(failure),
            };
            if interrupted && ending.is_some() {
                return Ok(true);
            }
            interrupted |= self.context.out.is_closed();
            let now = Instant::now();
            let over = deadline.is_some_and(|deadline| now >= deadline);
            if ending.is_none() && (interrupted || over) {
                if stage.bring_mail_up().await? {
                    self.show(DemoEventKind::MailServer(scenario::BACK.to_owned()))?;
                }
                ending = Some((now + if interrupted { GRACE_AFTER_SIGNAL } else { GRACE }, interrupted));
            }
            if watching {
                let settled = ending.is_some() && self.watch.pending(stage).await?.is_empty();
                self.observe(stage).await?;
                match ending {
                    Some((until, interrupted)) => {
                        if now >= until || settled && (interrupted || self.story.is_calm()) {
                            return Ok(interrupted);
                        }
                    }
                    None => self.advance(stage).await?,
                }
            } else if let Some((_, interrupted)) = ending {
                return Ok(interrupted);
            } else if self.baseline(stage).await? {
                watching = true;
                let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
                let pass = left.map_or(PASS, |left| left.mul_f64(0.8).min(PASS));
                let last_call = deadline.zip(left).map(|(deadline, left)| deadline - left.mul_f64(0.1));
                self.story.begin(pass, last_call);
            } else if now >= began + FIRST_POLL_TIMEOUT {
                return Err(Failure::new(Exit::Failed, "vetwatch does not get to see its customers")
                    .advise("-v shows what it does"));
            }
        }
    }

    async fn observe(&mut self, stage: &Stage) -> Result<(), Failure> {
        for event in self.watch.poll(stage, self.context.now()).await? {
            self.story.note(&event.what);
            self.tally.note(&event.what);
            self.show.happening(&event)?;
        }
        Ok(())
    }

    async fn advance(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        for what in self.story.step(stage, self.context.now()).await? {
            self.show(what)?;
        }
        Ok(())
    }

    fn show(&mut self, what: DemoEventKind) -> Result<(), Failure> {
        self.show.happening(&DemoEvent { at: self.context.now(), what })
    }

    /// Shows the first snapshots, once every customer was polled. Returns false if not yet.
    async fn baseline(&self, stage: &Stage) -> Result<bool, Failure> {
        let customers = stage.store.customer_page(None, None, store::reports::Page::default()).await?;
        if customers.len() < scenario::CUSTOMERS || customers.iter().any(|customer| customer.last_seen_at.is_none()) {
            return Ok(false);
        }
        let rows = stage.store.current(None).await?;
        self.show.baseline(&rows, customers.len(), self.context.now())?;
        Ok(true)
    }
}
