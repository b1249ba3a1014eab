//! A mail server on loopback that stores messages and fails on demand: plain SMTP, no TLS, no AUTH.

mod session;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use super::inbox::Missing;
use super::inbox::{Collection, Script};
use super::listener::{FREE_PORT, Port};
use vetwatch_core::time::{Clock, Timestamp};

/// An accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub received_at: Timestamp,
    /// The envelope sender.
    pub from: String,
    /// The accepted envelope recipients.
    pub to: Vec<String>,
    /// As sent, without SMTP's dot-stuffing.
    pub raw: Vec<u8>,
    /// True once the positive reply was written.
    pub acknowledged: bool,
}

impl Mail {
    /// Header and body as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }
}

/// The point in the session where an action happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the greeting.
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

/// What the server does instead of replying positively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmtpAction {
    /// Replies with this, for example `451 4.7.1 later`. Without a 2xx reply, a message is not accepted.
    Reply(String),
    /// Stays silent until the client disconnects.
    Hang,
    Close,
    Reset,
    /// Replies positively after a delay.
    Delay(Duration),
    /// At [`Stage::Message`]: accepts the message, then stays silent.
    TakeThenHang,
    /// At [`Stage::Message`]: accepts the message, then closes without a reply.
    TakeThenClose,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailRule {
    pub stage: Stage,
    /// Only for this recipient (at [`Stage::Message`]: for messages to it).
    pub recipient: Option<String>,
    /// Number of times it applies; `None`: until cleared.
    pub times: Option<u64>,
    pub act: SmtpAction,
}

impl MailRule {
    /// A rule that applies until cleared.
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

/// State shared by the sessions.
pub(super) struct ServerState {
    clock: Arc<dyn Clock>,
    mails: Collection<Mail>,
    script: Script<MailRule>,
    /// Lines that clients sent, except messages.
    commands: Mutex<Vec<String>>,
}

/// Maximum stored commands: a benchmark sends millions.
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

/// A running mail server. Dropping it stops it.
pub struct SmtpServer {
    port: Port,
    server: Arc<ServerState>,
}

impl SmtpServer {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let server = Arc::new(ServerState {
            clock,
            mails: Collection::new(),
            script: Script::new(),
            commands: Mutex::default(),
        });
        let shared = Arc::clone(&server);
        let port = Port::open(FREE_PORT, move |acceptor| {
            let server = Arc::clone(&shared);
            async move {
                loop {
                    tokio::spawn(session::serve(acceptor.next().await, Arc::clone(&server)));
                }
            }
        })
        .await?;
        Ok(Self { port, server })
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The messages accepted so far, in order.
    pub fn mails(&self) -> Vec<Mail> {
        self.server.mails.all()
    }

    /// Waits for `count` messages since the start (or [`Self::clear`]), and returns all.
    pub async fn wait_for(&self, count: usize, within: Duration) -> Result<Vec<Mail>, Missing> {
        self.server.mails.wait_for(count, within, |_| true).await
    }

    /// Like [`Self::wait_for`], for messages that satisfy `counts`.
    pub async fn wait_for_those(
        &self,
        count: usize,
        within: Duration,
        counts: impl Fn(&Mail) -> bool,
    ) -> Result<Vec<Mail>, Missing> {
        self.server.mails.wait_for(count, within, counts).await
    }

    /// Drops the accepted messages.
    pub fn clear(&self) {
        self.server.mails.clear();
    }

    /// Adds a rule; the first one that matches applies.
    pub fn script(&self, rule: MailRule) {
        let times = rule.times;
        self.server.script.add(rule, times);
    }

    /// Clears the rules.
    pub fn clear_script(&self) {
        self.server.script.clear();
    }

    /// Lines that clients have sent, except messages.
    pub fn commands(&self) -> Vec<String> {
        self.server.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.port.accepted()
    }

    /// Closes every connection and refuses new ones.
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
