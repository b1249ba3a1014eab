//! What a spectator does with keys: decides about customers, switches the mail server, kills the daemon.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::environment::Stage;
use super::fixtures;
use super::observer::DemoEventKind;
use super::stats::Tally;
use crate::cli::Failure;
use crate::sandbox::Operation;
use crate::store::reports::{DeliveryFilter, DeliveryRow};
use crate::time::Timestamp;

/// How long a killed daemon stays away: long enough to be seen.
const AWAY: Duration = Duration::from_secs(2);
/// The scenario's own customers are other schools.
const FIRST_ADDED: usize = 40;
/// Reasons that Microsoft documents.
const REASONS: [&str; 3] = ["Not an Academic Domain", "Not an Education Customer", "Not an eligible Library"];

#[derive(Debug, Default)]
pub(super) struct Controls {
    denials: usize,
    added: usize,
    starts_at: Option<Instant>,
    /// The messages that waited at the last kill, by sequence: an event that joins one changes its id.
    pending: Option<HashMap<i64, String>>,
}

impl Controls {
    /// Does what a key asks for. Returns what happened.
    pub(super) async fn press(
        &mut self,
        key: char,
        stage: &mut Stage,
        tally: &mut Tally,
        now: Timestamp,
    ) -> Result<Vec<DemoEventKind>, Failure> {
        let happened = match key {
            'a' | 'd' => self.decide(key == 'a', stage, now).await?,
            'm' if stage.bring_mail_up().await? => DemoEventKind::MailServer("is on again".to_owned()),
            'm' => {
                stage.take_mail_down().await?;
                DemoEventKind::MailServer("is off: it refuses every connection".to_owned())
            }
            'k' if self.starts_at.is_none() => {
                stage.daemon.kill();
                tally.note_kill();
                self.starts_at = Some(Instant::now() + AWAY);
                // Read after the kill: nothing changes any more.
                let pending = stage.pending().await?;
                let text = format!("killed (SIGKILL); {} in its database", waiting(pending.len()));
                self.pending = Some(pending.into_iter().map(|row| (row.sequence, row.delivery_id)).collect());
                DemoEventKind::Daemon(text)
            }
            'o' if browser() => {
                open(stage.page.as_str());
                return Ok(Vec::new());
            }
            _ => return Ok(Vec::new()),
        };
        Ok(vec![happened])
    }

    /// Approves or denies what was submitted first and is not decided yet.
    async fn decide(&mut self, approves: bool, stage: &Stage, now: Timestamp) -> Result<DemoEventKind, Failure> {
        let in_review = stage.store.in_review().await?;
        // The daemon may not have seen a decision yet.
        let oldest = in_review.into_iter().find(|row| stage.status(&row.customer_id).as_deref() == Some("InReview"));
        let Some(row) = oldest else { return self.add_customer(stage, now) };
        let (name, qualification) = (row.customer_name, row.qualification);
        let (operation, text) = if approves {
            (
                Operation::Approve { qualification: qualification.clone() },
                format!("approves {name} for {qualification}"),
            )
        } else {
            let reason = REASONS[self.denials % REASONS.len()].to_owned();
            self.denials += 1;
            let text = format!("denies {name} {qualification}: {reason}");
            (Operation::Deny { qualification, reason }, text)
        };
        Ok(match stage.sandbox.apply(&row.customer_id, operation) {
            Ok(()) => DemoEventKind::Partner(text),
            Err(error) => DemoEventKind::Partner(format!("does not know {name} any more: {error}")),
        })
    }

    /// So that there is somebody to decide about.
    fn add_customer(&mut self, stage: &Stage, now: Timestamp) -> Result<DemoEventKind, Failure> {
        let name = fixtures::school(FIRST_ADDED + self.added);
        self.added += 1;
        let added = fixtures::add(&stage.sandbox, name, now, [(26, Operation::submit())])?;
        Ok(DemoEventKind::Partner(format!("had nobody in review; now {} is, to decide about", added.name)))
    }

    /// True while the daemon is killed.
    pub(super) fn is_away(&self) -> bool {
        self.starts_at.is_some()
    }

    /// Starts the daemon again if it is time, or `at_once`.
    pub(super) fn start_again(&mut self, stage: &mut Stage, at_once: bool) -> Result<Option<DemoEventKind>, Failure> {
        if self.starts_at.is_none_or(|starts_at| !at_once && Instant::now() < starts_at) {
            return Ok(None);
        }
        self.starts_at = None;
        stage.daemon.start()?;
        let pid = stage.daemon.pid().unwrap_or_default();
        Ok(Some(DemoEventKind::Daemon(format!("started again, pid {pid}"))))
    }

    /// Tells once that everything that waited at the last kill has arrived.
    pub(super) async fn arrived(
        &mut self,
        stage: &Stage,
        pending: &[DeliveryRow],
        tally: &Tally,
    ) -> Result<Option<DemoEventKind>, Failure> {
        let is_over = |waited: &HashMap<_, _>| pending.iter().all(|row| !waited.contains_key(&row.sequence));
        if self.is_away() || !self.pending.as_ref().is_some_and(is_over) {
            return Ok(None);
        }
        let waited = self.pending.take().unwrap_or_default();
        let mut repeated = 0;
        for former in waited.values() {
            let filter = DeliveryFilter { id: Some(former), ..DeliveryFilter::default() };
            let row = stage.store.deliveries(filter).await?.pop();
            repeated += usize::from(row.is_some_and(|row| tally.arrivals(&row.delivery_id) > 1));
        }
        let text = match (waited.len(), repeated) {
            (0, _) => return Ok(None),
            (1, 0) => "the message that waited at the kill has arrived, once".to_owned(),
            (all, 0) => format!("the {all} messages that waited at the kill have arrived, each once"),
            (all, repeated) => {
                format!("of {all} messages that waited at the kill all arrived, {repeated} twice, under the same id")
            }
        };
        Ok(Some(DemoEventKind::Vetwatch(text)))
    }
}

fn waiting(messages: usize) -> String {
    match messages {
        0 => "no message waits".to_owned(),
        1 => "a message waits".to_owned(),
        many => format!("{many} messages wait"),
    }
}

/// True if a desktop could open a page.
pub(super) fn browser() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let path = std::env::var_os("PATH").unwrap_or_default();
    (set("DISPLAY") || set("WAYLAND_DISPLAY")) && std::env::split_paths(&path).any(|dir| dir.join("xdg-open").is_file())
}

/// Best effort: the address is on the screen.
fn open(url: &str) {
    let mut command = Command::new("xdg-open");
    let started = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Ok(mut child) = started {
        std::thread::spawn(move || child.wait());
    }
}
