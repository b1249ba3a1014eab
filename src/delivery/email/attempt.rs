//! One attempt at a mail: a conversation in which every recipient has an answer of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lettre::address::Address;
use tokio::time::{Instant, timeout_at};

use super::EmailChannel;
use super::replies::{Blame, whose};
use super::session::{Failure, Reply, Session, Step};
use crate::delivery::message::sanitize;
use crate::delivery::{AttemptResult, OutboundMessage, Outcome, took};

/// What an attempt has come to so far.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) step: Step,
    /// Accepted or refused for good, in this attempt.
    final_replies: BTreeMap<String, String>,
    /// Recipients who shall be tried again, and why.
    deferred: Vec<String>,
    /// Somebody was refused for a reason that is not known to be that mailbox's.
    blocked: bool,
    /// Somebody was put off for such a reason.
    put_off: bool,
    /// The last word on the message itself.
    last: String,
}

impl Attempt {
    const fn new() -> Self {
        Self {
            step: Step::Token,
            final_replies: BTreeMap::new(),
            deferred: Vec::new(),
            blocked: false,
            put_off: false,
            last: String::new(),
        }
    }

    fn settle(&mut self, to: &Address, reply: &Reply) {
        self.final_replies.insert(to.to_string(), short(reply));
    }

    fn settle_all(&mut self, recipients: &[Address], reply: &Reply) {
        self.last = short(reply);
        for to in recipients {
            self.settle(to, reply);
        }
    }

    fn defer(&mut self, to: &Address, reply: &Reply) {
        self.deferred.push(format!("{to}: {}", short(reply)));
    }
}

impl EmailChannel {
    /// One attempt at those recipients without a final reply. Each value in `final_replies` begins with the code of the
    /// server's reply: 2xx has taken it, 5xx never will.
    pub async fn deliver(&self, outgoing: OutboundMessage<'_>) -> AttemptResult {
        let mut attempt = Attempt::new();
        let failure = self.attempt(outgoing, &mut attempt).await.err();
        self.report(attempt, failure, outgoing)
    }

    async fn attempt(&self, outgoing: OutboundMessage<'_>, attempt: &mut Attempt) -> Result<(), Failure> {
        let open: Vec<Address> = self.open_recipients(outgoing.recipient, outgoing.final_replies).collect();
        if open.is_empty() {
            return Ok(());
        }
        let international = open.iter().chain([&self.settings.from.email]).any(|a| !a.to_string().is_ascii());
        let opened = timeout_at(Instant::now() + self.deadline, self.session_with_sender(attempt, international)).await;
        let mut session = opened.unwrap_or_else(|_| Err(too_late(self.deadline)))?;
        let result = self.send_message(&mut session, open, international, outgoing, attempt).await;
        if !matches!(result, Err(Failure::Broken(_))) {
            self.keep(session);
        }
        result
    }

    fn open_recipients(
        &self,
        contact: Option<&str>,
        final_replies: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = Address> {
        self.recipients(contact).map(|mailbox| mailbox.email).filter(|a| !final_replies.contains_key(&a.to_string()))
    }

    /// The mail itself, after the sender was accepted. What it fails with is about the whole conversation; what is said
    /// of a recipient or of the message is noted in `attempt`.
    async fn send_message(
        &self,
        session: &mut Session,
        open: Vec<Address>,
        international: bool,
        outgoing: OutboundMessage<'_>,
        attempt: &mut Attempt,
    ) -> Result<(), Failure> {
        let (mut transactions, mut is_first) = (VecDeque::from([open]), true);
        let over = Instant::now() + self.deadline + self.final_reply;
        while let Some(recipients) = transactions.pop_front() {
            // Each command has its own time (RFC 5321 4.5.3.2): a tarpit at many recipients is slow, and no silence.
            let commands = u32::try_from(recipients.len()).unwrap_or(u32::MAX).saturating_add(2);
            let end = over.min(Instant::now() + self.deadline.saturating_mul(commands).min(self.final_reply));
            let begun = timeout_at(end, async {
                if !std::mem::take(&mut is_first) {
                    attempt.step = Step::Sender;
                    session.sender_again(&self.settings.from.email, international).await?;
                }
                let willing = name_recipients(session, recipients, self.deadline, attempt).await?;
                attempt.step = Step::Data;
                let ready = if willing.is_empty() {
                    None
                } else {
                    let ready = timeout_at(Instant::now() + self.deadline, session.announce()).await;
                    Some(ready.unwrap_or_else(|_| Err(too_late(self.deadline))))
                };
                Ok((willing, ready))
            });
            let (willing, ready) = begun.await.unwrap_or_else(|_| Err(too_late(self.deadline)))?;
            let answer = match ready {
                None => continue,
                Some(Err(failure)) => Err(failure),
                Some(Ok(_)) => {
                    attempt.step = Step::Content;
                    let end = over.min(Instant::now() + self.final_reply);
                    let taken = timeout_at(end, session.content(outgoing.message)).await;
                    taken.unwrap_or_else(|_| Err(too_late(self.final_reply)))
                }
            };
            match answer {
                Ok(reply) => attempt.settle_all(&willing, &reply),
                Err(Failure::Refused(reply)) if reply.code >= 500 => match whose(attempt.step, &reply) {
                    Blame::Endpoint => return Err(Failure::Refused(reply)),
                    Blame::MailboxForNow => willing.iter().for_each(|to| attempt.defer(to, &reply)),
                    Blame::Mailbox | Blame::Content if willing.len() == 1 => attempt.settle_all(&willing, &reply),
                    // Said of whom? One mailbox, or its filter, must not end the message of the others.
                    Blame::Mailbox | Blame::Content => transactions.extend(willing.into_iter().map(|to| vec![to])),
                },
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn report(&self, attempt: Attempt, failure: Option<Failure>, outgoing: OutboundMessage<'_>) -> AttemptResult {
        let mut all_settled = outgoing.final_replies.clone();
        all_settled.extend(attempt.final_replies.clone());
        let is_open = self.open_recipients(outgoing.recipient, &all_settled).next().is_some();
        let taken = all_settled.values().any(|reply| took(reply));
        // A customer's contact is anybody's address: what is said of it alone does not close the endpoint at once.
        let mut own = self.settings.to.iter().map(|to| to.email.to_string());
        let contact_alone = outgoing.recipient.is_some() && own.all(|to| all_settled.contains_key(&to));
        let outcome = match outcome(&attempt, failure.as_ref(), is_open, taken) {
            Outcome::Blocked if contact_alone && failure.is_none() => Outcome::Retry { after: None },
            outcome => outcome,
        };
        let Attempt { step, final_replies, deferred, last, .. } = attempt;
        let mut said = Vec::new();
        said.extend(failure.map(|failure| self.failed(step, &failure)));
        if outcome == Outcome::Unconfirmed {
            said.push("whether it has taken the message is not known".to_owned());
        }
        said.extend(Some(last).filter(|last| !last.is_empty()));
        said.extend(deferred);
        said.extend(final_replies.iter().filter(|(_, reply)| !took(reply)).map(|(to, reply)| format!("{to}: {reply}")));
        if said.is_empty() {
            said.push("every recipient was final_replies before".to_owned());
        }
        AttemptResult { outcome, detail: sanitize::line(&said.join("; "), AttemptResult::DETAIL_MAX), final_replies }
    }
}

pub(super) fn too_late(limit: Duration) -> Failure {
    Failure::Broken(format!("no answer within {}", humantime::format_duration(limit)))
}

/// What follows. `is_open`: somebody is neither accepted nor refused for good; `taken`: somebody is accepted.
fn outcome(attempt: &Attempt, failure: Option<&Failure>, is_open: bool, taken: bool) -> Outcome {
    let is_before = attempt.step <= Step::Sender;
    match failure {
        Some(failure) if failure.is_login() => Outcome::AuthRejected,
        // Whatever we are refused for before there is a recipient or a message, it is not that.
        Some(Failure::Refused(reply)) if reply.code >= 500 && is_before => Outcome::AuthRejected,
        Some(_) if is_before => Outcome::Unavailable,
        Some(Failure::Broken(_)) if attempt.step == Step::Content => Outcome::Unconfirmed,
        // The server has taken this message from us for somebody else: it is not we, or not only.
        Some(Failure::Refused(reply)) if reply.code >= 500 && taken => Outcome::Deferred,
        Some(Failure::Refused(reply)) if reply.code >= 500 => Outcome::Blocked,
        Some(_) => Outcome::Retry { after: None },
        None if is_open && taken => Outcome::Deferred,
        None if is_open && attempt.blocked => Outcome::Blocked,
        None if is_open && attempt.put_off => Outcome::Retry { after: None },
        None if is_open => Outcome::Deferred,
        None if taken => Outcome::Accepted,
        None => Outcome::Refused,
    }
}

/// `RCPT TO` each. Those that are accepted are returned, what is said of the others is noted.
async fn name_recipients(
    session: &mut Session,
    recipients: Vec<Address>,
    deadline: Duration,
    attempt: &mut Attempt,
) -> Result<Vec<Address>, Failure> {
    attempt.step = Step::Recipients;
    let mut willing = Vec::new();
    for to in recipients {
        let answer = timeout_at(Instant::now() + deadline, session.recipient(&to)).await;
        let reply = match answer.unwrap_or_else(|_| Err(too_late(deadline))) {
            Ok(_) => {
                willing.push(to);
                continue;
            }
            Err(Failure::Refused(reply)) if reply.code != 421 => reply,
            Err(failure) => return Err(failure),
        };
        match whose(attempt.step, &reply) {
            Blame::Mailbox | Blame::Content if reply.code >= 500 => attempt.settle(&to, &reply),
            Blame::Mailbox | Blame::Content | Blame::MailboxForNow => attempt.defer(&to, &reply),
            Blame::Endpoint => {
                attempt.defer(&to, &reply);
                *(if reply.code >= 500 { &mut attempt.blocked } else { &mut attempt.put_off }) = true;
            }
        }
    }
    Ok(willing)
}

fn short(reply: &Reply) -> String {
    sanitize::line(&reply.text, 200)
}
