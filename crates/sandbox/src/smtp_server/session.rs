//! One SMTP session.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{Mail, MailRule, SmtpAction, Stage};
use crate::inbox::Inbox;
use crate::listener::{ConnectionControl, Disconnect, Wire};

const LARGEST_MESSAGE: usize = 10 * 1024 * 1024;
const LONGEST_LINE: u64 = 64 * 1024;
/// Maximum time that a silent session is held.
const LONGEST_HANG: Duration = Duration::from_mins(10);

/// Whether the session continues or the connection closes.
type Next = ControlFlow<()>;

struct Session {
    stream: BufReader<Wire>,
    line: ConnectionControl,
    inbox: Arc<Inbox<Mail, MailRule>>,
    from: Option<String>,
    to: Vec<String>,
}

pub(super) async fn serve(wire: Wire, inbox: Arc<Inbox<Mail, MailRule>>) {
    let line = wire.line.clone();
    let mut session = Session { stream: BufReader::new(wire), line, inbox, from: None, to: Vec::new() };
    // Errors just end the connection; handling that is the client's task.
    let _ = session.run().await;
}

impl Session {
    async fn run(&mut self) -> io::Result<()> {
        let greeting = self.inbox.act(Stage::Greeting, &[]);
        if self.perform(greeting, "220 mail.sandbox.example ESMTP").await?.is_break() {
            return Ok(());
        }
        while let Some(command) = self.read_line().await? {
            let command = String::from_utf8_lossy(&command).trim_end().to_owned();
            if self.obey(&command).await?.is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn obey(&mut self, command: &str) -> io::Result<Next> {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" => {
                let act = self.inbox.act(Stage::Ehlo, &[]);
                self.forget();
                let agreed = if verb.eq_ignore_ascii_case("ehlo") {
                    format!("250-mail.sandbox.example\r\n250-SIZE {LARGEST_MESSAGE}\r\n250 8BITMIME")
                } else {
                    "250 mail.sandbox.example".to_owned()
                };
                self.perform(act, &agreed).await
            }
            "MAIL" => {
                let Some(from) = address(rest, "FROM:") else { return self.say("501 5.5.4 MAIL FROM:<address>").await };
                if self.from.is_some() {
                    return self.say("503 5.5.1 there is a sender already").await;
                }
                let act = self.inbox.act(Stage::Mail, &[]);
                if agrees(act.as_ref()) {
                    self.from = Some(from);
                }
                self.perform(act, "250 2.1.0 ok").await
            }
            "RCPT" => {
                let Some(to) = address(rest, "TO:") else { return self.say("501 5.5.4 RCPT TO:<address>").await };
                if self.from.is_none() {
                    return self.say("503 5.5.1 MAIL first").await;
                }
                let act = self.inbox.act(Stage::Rcpt, std::slice::from_ref(&to));
                if agrees(act.as_ref()) {
                    self.to.push(to);
                }
                self.perform(act, "250 2.1.5 ok").await
            }
            "DATA" => self.data().await,
            "RSET" => {
                self.forget();
                self.say("250 2.0.0 ok").await
            }
            "NOOP" => self.say("250 2.0.0 ok").await,
            "VRFY" => self.say("252 2.1.5 try it").await,
            "QUIT" => {
                let act = self.inbox.act(Stage::Quit, &[]);
                self.perform(act, "221 2.0.0 bye").await.map(|_| Next::Break(()))
            }
            _ => self.say("502 5.5.1 not implemented").await,
        }
    }

    async fn data(&mut self) -> io::Result<Next> {
        if self.from.is_none() || self.to.is_empty() {
            return self.say("503 5.5.1 MAIL and RCPT first").await;
        }
        let act = self.inbox.act(Stage::Data, &self.to);
        let agreed = agrees(act.as_ref());
        let next = self.perform(act, "354 end with a dot").await?;
        if next.is_break() || !agreed {
            return Ok(next);
        }
        let Some(raw) = self.read_message().await? else { return Ok(Next::Break(())) };
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        if raw.len() > LARGEST_MESSAGE {
            return self.say("552 5.3.4 too large").await;
        }
        let act = self.inbox.act(Stage::Message, &to);
        if let Some(SmtpAction::Delay(wait)) = act {
            // Accepted with the reply, so that a client that disconnected before has not delivered it.
            tokio::time::sleep(wait).await;
        }
        let taken = match &act {
            Some(SmtpAction::TakeThenClose | SmtpAction::TakeThenHang | SmtpAction::Delay(_)) | None => true,
            Some(SmtpAction::Reply(reply)) => reply.starts_with('2'),
            Some(SmtpAction::Hang | SmtpAction::Close | SmtpAction::Reset) => false,
        };
        let received_at = self.inbox.clock.now();
        let mail = Mail { received_at, from, to, raw, acknowledged: false };
        let index = taken.then(|| self.inbox.push(mail));
        let act = if let Some(SmtpAction::Delay(_)) = act { None } else { act };
        let said = matches!(act, None | Some(SmtpAction::Reply(_)));
        let next = self.perform(act, "250 2.0.0 taken").await?;
        if let Some(index) = index.filter(|_| said) {
            self.inbox.change(index, |mail| mail.acknowledged = true);
        }
        Ok(next)
    }

    /// Applies the first rule that matches, or replies `agreed`.
    async fn perform(&mut self, act: Option<SmtpAction>, agreed: &str) -> io::Result<Next> {
        match act {
            None => self.say(agreed).await,
            Some(SmtpAction::Reply(reply)) => self.say(&reply).await,
            Some(SmtpAction::Delay(wait)) => {
                tokio::time::sleep(wait).await;
                self.say(agreed).await
            }
            Some(SmtpAction::Close | SmtpAction::TakeThenClose) => Ok(Next::Break(())),
            Some(SmtpAction::Reset) => {
                self.line.sever(Disconnect::Reset);
                self.say(agreed).await
            }
            Some(SmtpAction::Hang | SmtpAction::TakeThenHang) => {
                // Ends when the client disconnects or the server stops.
                let mut nowhere = tokio::io::sink();
                let gone = tokio::io::copy_buf(&mut self.stream, &mut nowhere);
                let _ = tokio::time::timeout(LONGEST_HANG, gone).await;
                Ok(Next::Break(()))
            }
        }
    }

    async fn say(&mut self, reply: &str) -> io::Result<Next> {
        self.stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        // After 421 the server closes the connection.
        Ok(if reply.starts_with("421") { Next::Break(()) } else { Next::Continue(()) })
    }

    fn forget(&mut self) {
        self.from = None;
        self.to.clear();
    }

    /// A line including its end; `None` if the client disconnected.
    async fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        (&mut self.stream).take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
        Ok(if line.ends_with(b"\n") { Some(line) } else { None })
    }

    /// The message up to the terminating dot, which is not part of it.
    async fn read_message(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        loop {
            let Some(line) = self.read_line().await? else { return Ok(None) };
            if line == b".\r\n" {
                return Ok(Some(message));
            }
            // Bytes beyond the limit are read and dropped: the rejection follows at the end.
            if message.len() <= LARGEST_MESSAGE {
                message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            }
        }
    }
}

/// True if the sender or recipient is accepted.
fn agrees(act: Option<&SmtpAction>) -> bool {
    match act {
        None | Some(SmtpAction::Delay(_)) => true,
        Some(SmtpAction::Reply(reply)) => reply.starts_with(['2', '3']),
        Some(_) => false,
    }
}

/// `FROM:<a@b.example> SIZE=1` → `a@b.example`; `<>` is the empty sender.
fn address(rest: &str, keyword: &str) -> Option<String> {
    let (name, rest) = rest.split_at_checked(keyword.len())?;
    let rest = rest.trim_start().strip_prefix('<').filter(|_| name.eq_ignore_ascii_case(keyword))?;
    rest.split_once('>').map(|(address, _)| address.to_owned())
}
