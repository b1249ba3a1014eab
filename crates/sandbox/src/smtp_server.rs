//! A mail server on loopback that keeps what it is given, and fails as told: plain SMTP, no TLS, no AUTH.

mod session;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use super::inbox::Missing;
use super::inbox::{Collection, Script};
use super::listener::{Acceptor, Port};
use vetwatch_core::time::{Clock, Timestamp};

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub received_at: Timestamp,
    /// Of the envelope.
    pub from: String,
    /// Recipients of the envelope that were accepted.
    pub to: Vec<String>,
    /// As sent, without the dots of SMTP.
    pub raw: Vec<u8>,
    /// The sender was told that it is accepted, as far as the server could tell it.
    pub acknowledged: bool,
}

impl Mail {
    /// Header and body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    pub fn is_to(&self, address: &str) -> bool {
        self.to.iter().any(|to| to.eq_ignore_ascii_case(address))
    }
}

/// Where in the dialogue something is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the server has said anything.
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    /// `DATA`, before the text of the message.
    Data,
    /// After the text of the message.
    Message,
    Quit,
}

/// What the server does instead of agreeing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmtpAction {
    /// Says this, for example `451 4.7.1 later`. A message that is answered with anything but 2xx is not taken.
    Reply(String),
    /// Says nothing more, until the client goes away.
    Hang,
    Close,
    Reset,
    /// Agrees, late.
    Delay(Duration),
    /// At [`Stage::Message`]: takes the message, and says nothing more.
    TakeThenHang,
    /// At [`Stage::Message`]: takes the message, and closes without a word.
    TakeThenClose,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailRule {
    pub stage: Stage,
    /// Only for this recipient (at [`Stage::Message`]: for messages to it).
    pub recipient: Option<String>,
    /// How often; `None`: until cleared.
    pub times: Option<u64>,
    pub act: SmtpAction,
}

impl MailRule {
    /// Each time, until cleared.
    pub fn at(stage: Stage, act: SmtpAction) -> Self {
        Self { stage, recipient: None, times: None, act }
    }

    #[must_use]
    pub fn to(mut self, recipient: impl Into<String>) -> Self {
        self.recipient = Some(recipient.into());
        self
    }

    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

/// What sessions share.
pub(super) struct ServerState {
    clock: Arc<dyn Clock>,
    mails: Collection<Mail>,
    script: Script<MailRule>,
    /// Lines that clients sent, but for messages.
    commands: Mutex<Vec<String>>,
}

/// Commands beyond this many are forgotten: a benchmark sends millions.
const KEPT_COMMANDS: usize = 100_000;

impl ServerState {
    fn act(&self, stage: Stage, recipients: &[String]) -> Option<SmtpAction> {
        let concerns = |rule: &MailRule| {
            rule.stage == stage
                && rule.recipient.as_ref().is_none_or(|who| recipients.iter().any(|to| to.eq_ignore_ascii_case(who)))
        };
        self.script.next(concerns).map(|rule| rule.act)
    }

    fn note(&self, command: &str) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if commands.len() < KEPT_COMMANDS {
            commands.push(command.to_owned());
        }
    }
}

/// A running mail server. Dropping it ends it.
pub struct SmtpServer {
    port: Port,
    desk: Arc<ServerState>,
}

impl SmtpServer {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), clock).await
    }

    /// Listens on this address, which must be a loopback address.
    pub async fn start_on(address: SocketAddr, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let desk = Arc::new(ServerState {
            clock,
            mails: Collection::new(),
            script: Script::new(),
            commands: Mutex::default(),
        });
        let shared = Arc::clone(&desk);
        let port = Port::open(address, move |door| accept(door, Arc::clone(&shared))).await?;
        Ok(Self { port, desk })
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// What has been taken so far, in order.
    pub fn mails(&self) -> Vec<Mail> {
        self.desk.mails.all()
    }

    /// Waits until `count` messages have been taken since the start (or [`Self::clear`]), and returns all.
    pub async fn wait_for(&self, count: usize, within: Duration) -> Result<Vec<Mail>, Missing> {
        self.desk.mails.wait_for(count, within, |_| true).await
    }

    /// As [`Self::wait_for`], of messages that `counts` says yes to.
    pub async fn wait_for_those(
        &self,
        count: usize,
        within: Duration,
        counts: impl Fn(&Mail) -> bool,
    ) -> Result<Vec<Mail>, Missing> {
        self.desk.mails.wait_for(count, within, counts).await
    }

    /// Forgets what was taken.
    pub fn clear(&self) {
        self.desk.mails.clear();
    }

    /// Adds a rule; the first one that matches counts.
    pub fn script(&self, rule: MailRule) {
        let times = rule.times;
        self.desk.script.add(rule, times);
    }

    /// Agrees to everything again.
    pub fn clear_script(&self) {
        self.desk.script.clear();
    }

    /// Lines that clients have sent, but for messages.
    pub fn commands(&self) -> Vec<String> {
        self.desk.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.port.accepted()
    }

    /// Ends every connection and refuses new ones.
    pub async fn stop(&self) -> io::Result<()> {
        self.port.stop().await
    }

    /// Listens again on the same port.
    pub async fn start_again(&self) -> io::Result<()> {
        self.port.start_again().await
    }
}

impl std::fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("address", &self.address()).finish_non_exhaustive()
    }
}

async fn accept(door: Acceptor, desk: Arc<ServerState>) {
    loop {
        tokio::select! {
            wire = door.next() => {
                tokio::spawn(session::serve(wire, Arc::clone(&desk)));
            }
            () = door.stopped() => return,
        }
    }
}
