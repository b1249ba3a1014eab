//! A mail server on loopback that stores messages and fails on demand: plain SMTP, no TLS, no AUTH.

mod session;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use super::inbox::Missing;
use super::inbox::{Inbox, Peer};
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

/// A mail server on a free port of 127.0.0.1.
pub type SmtpServer = Peer<Mail, MailRule>;

impl SmtpServer {
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let inbox = Inbox::new(clock);
        let shared = Arc::clone(&inbox);
        let port = Port::open(FREE_PORT, move |acceptor| {
            let inbox = Arc::clone(&shared);
            async move {
                loop {
                    tokio::spawn(session::serve(acceptor.next().await, Arc::clone(&inbox)));
                }
            }
        })
        .await?;
        Ok(Self { port, inbox })
    }

    /// The messages accepted so far, in order.
    pub fn mails(&self) -> Vec<Mail> {
        self.inbox.all()
    }

    /// Adds a rule; the first one that matches applies.
    pub fn script(&self, rule: MailRule) {
        let times = rule.times;
        self.inbox.add_rule(rule, times);
    }
}

impl Inbox<Mail, MailRule> {
    fn act(&self, stage: Stage, recipients: &[String]) -> Option<SmtpAction> {
        let concerns = |rule: &MailRule| {
            rule.stage == stage
                && rule.recipient.as_ref().is_none_or(|who| recipients.iter().any(|to| to.eq_ignore_ascii_case(who)))
        };
        self.next_rule(concerns).map(|rule| rule.act)
    }
}
