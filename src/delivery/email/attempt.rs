//! One attempt at a mail, with a separate reply for each recipient.

#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "a panic is what a fuzz target finds")]
pub(crate) mod fuzzing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lettre::address::Address;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::EmailChannel;
use super::header;
use super::replies::{Blame, blame, is_too_many};
use super::session::{Failure, Reply, Session, Step};
use crate::delivery::{AttemptResult, Outcome, took};
use crate::store::{ClaimedDelivery, Store};
use crate::text;
use crate::time::Timestamp;

/// The most recipients in one transaction: every server accepts as many (RFC 5321 4.5.3.1.8), some not many more.
const MAX_RECIPIENTS: usize = 100;

/// The progress of an attempt.
#[derive(Debug)]
pub(super) struct Attempt<'s> {
    /// Where final replies are stored before the attempt ends, and when it began.
    store: Option<(&'s Store, Timestamp)>,
    pub(super) step: Step,
    /// The final replies of this attempt, by recipient.
    final_replies: BTreeMap<String, String>,
    /// Recipients to retry, and why.
    deferred: Vec<String>,
    /// A recipient was rejected (5xx) for a reason that is not known to be about that mailbox.
    blocked: bool,
    /// A recipient was deferred (4xx) for such a reason.
    blocked_for_now: bool,
    /// The last reply to the message itself.
    last: String,
}

impl<'s> Attempt<'s> {
    const fn new(store: Option<(&'s Store, Timestamp)>) -> Self {
        Self {
            store,
            step: Step::Token,
            final_replies: BTreeMap::new(),
            deferred: Vec::new(),
            blocked: false,
            blocked_for_now: false,
            last: String::new(),
        }
    }

    fn finalize(&mut self, to: &Address, reply: &Reply) {
        self.final_replies.insert(to.to_string(), short(reply));
    }

    fn finalize_all(&mut self, recipients: &[Address], reply: &Reply) {
        self.last = short(reply);
        for to in recipients {
            self.finalize(to, reply);
        }
    }

    /// Stores the final replies so far. If that fails, a crash in this attempt repeats the message, under its id.
    async fn save(&self, due: &ClaimedDelivery) {
        let Some((store, now)) = self.store else { return };
        let mut all = due.final_replies.clone();
        all.extend(self.final_replies.clone());
        let stored = async {
            let mut tx = store.begin().await?;
            tx.save_replies(due, &all, now).await?;
            tx.commit().await
        };
        if let Err(error) = stored.await {
            warn!(error = &error as &dyn std::error::Error, delivery.id = %due.id, "the recipients that have a message cannot be stored yet");
        }
    }

    fn defer(&mut self, to: &Address, reply: &Reply) {
        self.deferred.push(format!("{to}: {}", short(reply)));
    }
}

impl EmailChannel {
    /// Makes one attempt at the recipients without a final reply. Each value in `final_replies` begins with the code of
    /// the server's reply: 2xx has accepted it, 5xx never will.
    pub async fn deliver(&self, due: &ClaimedDelivery) -> AttemptResult {
        self.deliver_and_save(due, Timestamp::from_millis(0), None).await
    }

    /// As [`deliver`](Self::deliver). After each transaction but the last, all final replies so far are stored: if the
    /// process dies in the next one, these recipients do not get the mail again.
    pub async fn deliver_and_save(
        &self,
        due: &ClaimedDelivery,
        now: Timestamp,
        store: Option<&Store>,
    ) -> AttemptResult {
        let mut attempt = Attempt::new(store.map(|store| (store, now)));
        let failure = self.attempt(due, &mut attempt).await.err();
        self.report(attempt, failure, due)
    }

    async fn attempt(&self, due: &ClaimedDelivery, attempt: &mut Attempt<'_>) -> Result<(), Failure> {
        let open: Vec<Address> = self.open_recipients(due, &due.final_replies).collect();
        if open.is_empty() {
            return Ok(());
        }
        let opened = timeout_at(Instant::now() + self.deadline, self.session_with_sender(attempt)).await;
        let mut session = opened.unwrap_or_else(|_| Err(too_late(self.deadline)))?;
        let result = self.send_message(&mut session, open, due, attempt).await;
        if !matches!(result, Err(Failure::Broken(_))) {
            self.keep(session);
        }
        result
    }

    fn open_recipients(
        &self,
        due: &ClaimedDelivery,
        final_replies: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = Address> {
        self.recipients(due.recipient.as_deref(), due.contact.as_deref())
            .map(|mailbox| mailbox.email)
            .filter(|a| !final_replies.contains_key(&a.to_string()))
    }

    /// Sends the mail after the sender was accepted. Its error is about the whole session; replies about a recipient or
    /// the message are recorded in `attempt`.
    async fn send_message(
        &self,
        session: &mut Session,
        open: Vec<Address>,
        due: &ClaimedDelivery,
        attempt: &mut Attempt<'_>,
    ) -> Result<(), Failure> {
        let recipients: Vec<_> = self.recipients(due.recipient.as_deref(), due.contact.as_deref()).collect();
        let message = header::with_recipients(&due.message, &recipients);
        let mut transactions: VecDeque<_> = open.chunks(MAX_RECIPIENTS).map(<[_]>::to_vec).collect();
        let mut is_first = true;
        let over = Instant::now() + self.deadline + self.final_reply;
        while let Some(recipients) = transactions.pop_front() {
            // Each command has its own limit (RFC 5321 4.5.3.2): with many recipients a tarpit is slow, not silent.
            let commands = u32::try_from(recipients.len()).unwrap_or(u32::MAX).saturating_add(2);
            let end = over.min(Instant::now() + self.deadline.saturating_mul(commands).min(self.final_reply));
            let begun = timeout_at(end, async {
                if !std::mem::take(&mut is_first) {
                    attempt.step = Step::Sender;
                    session.sender_again(&self.settings.from.email).await?;
                }
                let (accepted, left) = send_recipients(session, recipients, self.deadline, attempt).await?;
                if !left.is_empty() {
                    transactions.push_front(left);
                }
                attempt.step = Step::Data;
                let ready = if accepted.is_empty() {
                    None
                } else {
                    let ready = timeout_at(Instant::now() + self.deadline, session.announce()).await;
                    Some(ready.unwrap_or_else(|_| Err(too_late(self.deadline))))
                };
                Ok((accepted, ready))
            });
            let (accepted, ready) = begun.await.unwrap_or_else(|_| Err(too_late(self.deadline)))?;
            let answer = match ready {
                None => continue,
                Some(Err(failure)) => Err(failure),
                Some(Ok(_)) => {
                    attempt.step = Step::Content;
                    let end = over.min(Instant::now() + self.final_reply);
                    let sent = timeout_at(end, session.content(&message)).await;
                    sent.unwrap_or_else(|_| Err(too_late(self.final_reply)))
                }
            };
            match answer {
                Ok(reply) => attempt.finalize_all(&accepted, &reply),
                Err(Failure::Refused(reply)) if reply.code >= 500 => match blame(attempt.step, &reply) {
                    Blame::Endpoint => return Err(Failure::Refused(reply)),
                    Blame::MailboxForNow => accepted.iter().for_each(|to| attempt.defer(to, &reply)),
                    Blame::Mailbox | Blame::Content if accepted.len() == 1 => attempt.finalize_all(&accepted, &reply),
                    // It may be about any of them: one mailbox, or its filter, must not end the message of the others.
                    Blame::Mailbox | Blame::Content => transactions.extend(accepted.into_iter().map(|to| vec![to])),
                },
                Err(failure) => return Err(failure),
            }
            if !transactions.is_empty() {
                attempt.save(due).await;
            }
        }
        Ok(())
    }

    fn report(&self, attempt: Attempt<'_>, failure: Option<Failure>, due: &ClaimedDelivery) -> AttemptResult {
        let mut all_replies = due.final_replies.clone();
        all_replies.extend(attempt.final_replies.clone());
        let is_open = self.open_recipients(due, &all_replies).next().is_some();
        let accepted = all_replies.values().any(|reply| took(reply));
        // A customer's contact can be any address: a rejection of it alone does not make the endpoint back off at once.
        let mut own = self.settings.to.iter().map(|to| to.email.to_string());
        let contact_alone = due.recipient.is_some() && own.all(|to| all_replies.contains_key(&to));
        let outcome = match outcome(&attempt, failure.as_ref(), is_open, accepted) {
            Outcome::Blocked if contact_alone && failure.is_none() => Outcome::Retry { after: None },
            outcome => outcome,
        };
        let Attempt { step, final_replies, deferred, last, .. } = attempt;
        let mut details = Vec::new();
        details.extend(failure.map(|failure| self.failed(step, &failure)));
        if outcome == Outcome::Unconfirmed {
            details.push("whether it has taken the message is not known".to_owned());
        }
        details.extend(Some(last).filter(|last| !last.is_empty()));
        details.extend(deferred);
        details
            .extend(final_replies.iter().filter(|(_, reply)| !took(reply)).map(|(to, reply)| format!("{to}: {reply}")));
        if details.is_empty() {
            details.push("every recipient had a final reply before".to_owned());
        }
        AttemptResult { outcome, detail: text::line(&details.join("; "), AttemptResult::DETAIL_MAX), final_replies }
    }
}

pub(super) fn too_late(limit: Duration) -> Failure {
    Failure::Broken(format!("no answer within {}", humantime::format_duration(limit)))
}

/// The outcome of an attempt. `is_open`: a recipient has no final reply; `accepted`: a recipient has accepted.
fn outcome(attempt: &Attempt<'_>, failure: Option<&Failure>, is_open: bool, accepted: bool) -> Outcome {
    let is_before = attempt.step <= Step::Sender;
    match failure {
        Some(failure) if failure.is_login() => Outcome::AuthRejected,
        // A rejection before RCPT is about us, not about a recipient or the message.
        Some(Failure::Refused(reply)) if reply.code >= 500 && is_before => Outcome::AuthRejected,
        Some(_) if is_before => Outcome::Unavailable,
        Some(Failure::Broken(_)) if attempt.step == Step::Content => Outcome::Unconfirmed,
        // The server has accepted this message for another recipient: the cause is not us, or not only us.
        Some(Failure::Refused(reply)) if reply.code >= 500 && accepted => Outcome::Deferred,
        Some(Failure::Refused(reply)) if reply.code >= 500 => Outcome::Blocked,
        Some(_) => Outcome::Retry { after: None },
        None if is_open && accepted => Outcome::Deferred,
        None if is_open && attempt.blocked => Outcome::Blocked,
        None if is_open && attempt.blocked_for_now => Outcome::Retry { after: None },
        None if is_open => Outcome::Deferred,
        None if accepted => Outcome::Accepted,
        None => Outcome::Refused,
    }
}

/// Sends `RCPT TO` for each. Returns the accepted ones and those that are left for another transaction, and records the
/// replies to the others.
async fn send_recipients(
    session: &mut Session,
    recipients: Vec<Address>,
    deadline: Duration,
    attempt: &mut Attempt<'_>,
) -> Result<(Vec<Address>, Vec<Address>), Failure> {
    attempt.step = Step::Recipients;
    let mut accepted = Vec::new();
    let mut recipients = recipients.into_iter();
    while let Some(to) = recipients.next() {
        let answer = timeout_at(Instant::now() + deadline, session.recipient(&to)).await;
        let reply = match answer.unwrap_or_else(|_| Err(too_late(deadline))) {
            Ok(_) => {
                accepted.push(to);
                continue;
            }
            Err(Failure::Refused(reply)) if reply.code != 421 => reply,
            Err(failure) => return Err(failure),
        };
        if !accepted.is_empty() && is_too_many(&reply) {
            return Ok((accepted, std::iter::once(to).chain(recipients).collect()));
        }
        match blame(attempt.step, &reply) {
            Blame::Mailbox | Blame::Content if reply.code >= 500 => attempt.finalize(&to, &reply),
            Blame::Mailbox | Blame::Content | Blame::MailboxForNow => attempt.defer(&to, &reply),
            Blame::Endpoint => {
                attempt.defer(&to, &reply);
                *(if reply.code >= 500 { &mut attempt.blocked } else { &mut attempt.blocked_for_now }) = true;
            }
        }
    }
    Ok((accepted, Vec::new()))
}

fn short(reply: &Reply) -> String {
    text::line(&reply.text, 200)
}
