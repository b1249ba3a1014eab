//! `vetwatch demo`: a demonstration on this machine, without configuration.
//!
//! Only Partner Center, the mail server, the chats and the receiver are simulated. The daemon is real: a process of its
//! own, started from a real configuration file. The output shows its database and what arrived; on a terminal as a screen
//! that obeys keys.

mod controls;
mod daemon;
mod environment;
mod fixtures;
mod inbox;
mod observer;
mod pages;
mod renderer;
mod scenario;
mod screen;
mod stats;
mod terminal;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::{Context, Exit, Failure, run};
use crate::daemon::Signals;
use crate::store;
use controls::Controls;
use environment::Stage;
use observer::{DemoEvent, DemoEventKind, Watch};
use renderer::Show;
use scenario::Story;
use screen::Screen;
use stats::{Summary, Tally};
use terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End by itself after this time, 8s or more is best; without it the demo runs until Ctrl-C
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
    let story = Story::prepare(&stage, context.now())?;
    let terminal = if context.json { None } else { Terminal::take() };
    let mut run = Run {
        context,
        show: Show::new(&context.out, context.json, context.now()),
        screen: terminal.map(|terminal| Screen::new(context, terminal)),
        story,
        watch: Watch::from(context.now()),
        tally: Tally::default(),
        controls: Controls::default(),
    };
    let played = run.play_and_count(&mut stage, &mut signals, began, deadline).await;
    // The terminal is as before from here on.
    let story = run.screen.take().map_or(Ok(()), |screen| context.out.write(&screen.end()));
    let (summary, interrupted) = played?;
    story?;
    run.show.summary(&summary, &stage, context.now())?;
    tokio::select! {
        ended = stage.end() => ended?,
        // Another signal drops the rest, the folder included.
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
    if summary.under_two_ids > 0 {
        return failed(format!("{} events arrived under two ids; please report it", summary.under_two_ids));
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
    /// In its place on a terminal, until the end.
    screen: Option<Screen<'c>>,
    story: Story,
    watch: Watch,
    tally: Tally,
    controls: Controls,
}

/// What the loop woke up for.
enum Woken {
    Tick,
    Signal,
    Key(char),
}

impl Run<'_> {
    /// Runs until the end, and counts. Returns true with the totals if a signal or a key ended it.
    async fn play_and_count(
        &mut self,
        stage: &mut Stage,
        signals: &mut Signals,
        began: Instant,
        deadline: Option<Instant>,
    ) -> Result<(Summary, bool), Failure> {
        let interrupted = self.play(stage, signals, began, deadline).await?;
        let again = async {
            loop {
                tokio::select! {
                    () = signals.end() => return,
                    key = next_key(&mut self.screen) => if key == 'q' { return },
                }
            }
        };
        // While the daemon runs, a message that is neither pending nor seen may be on its way.
        stage.end_daemon(again).await?;
        self.observe(stage).await?;
        let mut traces = HashMap::new();
        for event in self.tally.sent() {
            traces.extend(stage.store.proof(event).await?.map(|trace| (event.clone(), trace)));
        }
        Ok((self.tally.summary(&traces, &stage.deliveries().await?), interrupted))
    }

    /// Runs until the end. Returns true if a signal or a key ended it.
    async fn play(
        &mut self,
        stage: &mut Stage,
        signals: &mut Signals,
        began: Instant,
        deadline: Option<Instant>,
    ) -> Result<bool, Failure> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        stage.begin()?;
        if self.screen.is_none() {
            self.show.stage(stage, &self.story, self.context.now())?;
        }
        let mut watching = false;
        // Set at the end: when to stop waiting, and whether a signal came.
        let mut ending: Option<(Instant, bool)> = None;
        loop {
            let woken = tokio::select! {
                _ = ticks.tick() => Woken::Tick,
                () = signals.end() => Woken::Signal,
                key = next_key(&mut self.screen) => Woken::Key(key),
            };
            stage.daemon.check()?;
            let mut interrupted = matches!(woken, Woken::Signal | Woken::Key('q'));
            if interrupted && ending.is_some() {
                stage.daemon.kill();
                return Ok(true);
            }
            interrupted |= self.context.out.is_closed();
            let now = Instant::now();
            let over = deadline.is_some_and(|deadline| now >= deadline);
            if ending.is_none() && (interrupted || over) {
                if stage.bring_mail_up().await? {
                    self.show(DemoEventKind::MailServer(scenario::BACK.to_owned()))?;
                }
                if let Some(screen) = &mut self.screen {
                    screen.ending = true;
                }
                ending = Some((now + if interrupted { GRACE_AFTER_SIGNAL } else { GRACE }, interrupted));
            }
            if let Some(started) = self.controls.start_again(stage, ending.is_some())? {
                self.show(started)?;
            }
            if watching {
                if let (Woken::Key(key), None) = (woken, ending) {
                    self.story.leaves_mail_alone |= key == 'm';
                    for what in self.controls.press(key, stage, &mut self.tally, self.context.now()).await? {
                        self.show(what)?;
                    }
                }
                let pending = stage.pending().await?;
                let settled = ending.is_some() && pending.is_empty();
                self.observe(stage).await?;
                if let Some(arrived) = self.controls.arrived(stage, &pending, &self.tally).await? {
                    self.show(arrived)?;
                }
                match ending {
                    Some((until, interrupted)) => {
                        if now >= until || settled && (interrupted || self.story.is_calm()) {
                            return Ok(interrupted);
                        }
                    }
                    None if self.controls.is_away() => {}
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
                    .advise("with --keep DIR, its log stays as DIR/vetwatch.log"));
            }
            self.draw(stage).await?;
        }
    }

    async fn draw(&mut self, stage: &Stage) -> Result<(), Failure> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        let (rows, pending) = (stage.store.current(None).await?, stage.pending().await?.len());
        screen.draw(stage, &rows, pending, self.context.now())
    }

    async fn observe(&mut self, stage: &Stage) -> Result<(), Failure> {
        for event in self.watch.poll(stage, self.context.now()).await? {
            self.story.note(&event.what);
            self.tally.note(&event.what);
            self.show_event(&event)?;
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
        self.show_event(&DemoEvent { at: self.context.now(), what, number: None })
    }

    fn show_event(&mut self, event: &DemoEvent) -> Result<(), Failure> {
        match &mut self.screen {
            Some(screen) => {
                screen.note(event);
                Ok(())
            }
            None => self.show.happening(event),
        }
    }

    /// Shows the first snapshots, once every customer was polled. Returns false if not yet.
    async fn baseline(&mut self, stage: &Stage) -> Result<bool, Failure> {
        let customers = stage.store.customer_page(None, None, store::reports::Page::default()).await?;
        if customers.len() < scenario::CUSTOMERS || customers.iter().any(|customer| customer.last_seen_at.is_none()) {
            return Ok(false);
        }
        if self.screen.is_some() {
            let text = format!("has looked at {} customers: how they stand is stored, and is no news", customers.len());
            self.show(DemoEventKind::Vetwatch(text))?;
        } else {
            let rows = stage.store.current(None).await?;
            self.show.baseline(&rows, customers.len(), self.context.now())?;
        }
        Ok(true)
    }
}

/// Never returns without a screen.
async fn next_key(screen: &mut Option<Screen<'_>>) -> char {
    match screen {
        Some(screen) => screen.terminal.key().await,
        None => std::future::pending().await,
    }
}
