//! Mail over SMTP: one conversation for a mail, in which every recipient has an answer of its own.

mod compose;
mod login;
mod session;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::address::Address;
use lettre::message::Mailbox;
use secrecy::SecretString;
use tokio::time::timeout;

use self::login::Logins;
use self::session::{Failure, Reply, Session, Step};
use crate::delivery::message::clean;
use crate::delivery::route::Contact;
use crate::delivery::{Draft, Outcome, Outgoing, Report};
use crate::partner_center::Expiry;
use crate::partner_center::application::Application;
use crate::time::{Clock, SystemClock, Timestamp};

/// The whole attempt, whatever the server does.
const DEADLINE: Duration = Duration::from_mins(1);
/// How long a session is kept for the next mail.
const KEPT: Duration = Duration::from_secs(20);

/// A mail server: `[smtp.NAME]`.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub login: Option<Login>,
    /// PEM; trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Starttls,
    Implicit,
    /// Only to loopback.
    None,
}

#[derive(Debug, Clone)]
pub struct Login {
    /// Of a token: the mailbox that the application sends as.
    pub username: String,
    pub by: LoginBy,
}

impl Login {
    /// When what it is made of ends, if that is known.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        match &self.by {
            LoginBy::Password(_) => None,
            LoginBy::Token(application) => application.expiry(),
        }
    }
}

#[derive(Debug, Clone)]
pub enum LoginBy {
    /// AUTH PLAIN or LOGIN.
    Password(SecretString),
    /// AUTH XOAUTH2 with a token that an application asks for: what Exchange Online takes.
    Token(Box<Application>),
}

#[derive(Debug, Clone)]
pub struct EmailSettings {
    pub smtp: SmtpSettings,
    pub from: Mailbox,
    /// May be empty where each customer's contact gets it.
    pub to: Vec<Mailbox>,
    pub contact: Contact,
}

pub struct EmailChannel {
    settings: EmailSettings,
    logins: Logins,
    deadline: Duration,
    /// The session of the last mail, for the next one.
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    session: Option<Session>,
    /// Counts the sessions that were put here: whoever ends one after a while must not end a later one.
    turn: u64,
}

impl fmt::Debug for EmailChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailChannel").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// How far [`EmailChannel::probe`] got, and why no farther.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Unreached {
    text: String,
    /// The server was there, and did not let us in.
    pub at_login: bool,
}

/// What an attempt has come to so far. It lives outside of the conversation, so that it is known when the deadline
/// cuts that off.
struct Attempt {
    step: Step,
    /// Accepted or refused for good, in this attempt.
    settled: BTreeMap<String, String>,
    /// Recipients who shall be tried again, and why.
    deferred: Vec<String>,
    /// The last word on the message itself.
    last: String,
}

impl EmailChannel {
    #[must_use]
    pub fn new(settings: EmailSettings) -> Self {
        let logins = Logins::new(settings.smtp.login.as_ref(), Arc::new(SystemClock));
        Self { settings, logins, deadline: DEADLINE, kept: Arc::default() }
    }

    /// Another clock than the system's, by which a token ends.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        let logins = Logins::new(self.settings.smtp.login.as_ref(), clock);
        Self { logins, ..self }
    }

    /// Another hard deadline for an attempt than 60 seconds.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The mail, complete: `Message-ID` is `id` at the sender's domain.
    #[must_use]
    pub fn render(&self, draft: &Draft<'_>, now: Timestamp) -> String {
        let to: Vec<_> = self.recipients(draft.recipient).collect();
        compose::mail(&self.settings.from, &to, draft, now)
    }

    /// The endpoint's own, and the customer's contact unless that is one of them.
    fn recipients(&self, contact: Option<&str>) -> impl Iterator<Item = Mailbox> {
        let contact = contact.and_then(|contact| contact.parse::<Mailbox>().ok());
        let same = |one: &Mailbox, other: &Mailbox| {
            one.email.to_string().to_lowercase() == other.email.to_string().to_lowercase()
        };
        let contact = contact.filter(|contact| !self.settings.to.iter().any(|to| same(to, contact)));
        self.settings.to.iter().cloned().chain(contact)
    }

    /// One attempt at those recipients that are not settled. Each value in `settled` begins with the code of the
    /// server's reply: 2xx has taken it, 5xx never will.
    pub async fn deliver(&self, outgoing: Outgoing<'_>) -> Report {
        let mut attempt =
            Attempt { step: Step::Token, settled: BTreeMap::new(), deferred: Vec::new(), last: String::new() };
        let failure = match timeout(self.deadline, self.attempt(outgoing, &mut attempt)).await {
            Ok(result) => result.err(),
            Err(_) => Some(self.too_late()),
        };
        self.report(attempt, failure, outgoing)
    }

    /// Gets the token for the login, if one is needed, and says how that went in words. Sends nothing to the server.
    ///
    /// # Errors
    /// Why there is none; without secrets.
    pub async fn probe_token(&self) -> Result<Option<String>, Unreached> {
        let token = timeout(self.deadline, self.logins.token()).await;
        match token.unwrap_or_else(|_| Err(self.too_late())) {
            Ok(None) => Ok(None),
            Ok(Some(_)) => Ok(Some("given for the application".to_owned())),
            Err(failure) => Err(Unreached {
                at_login: failure.is_login(),
                text: clean::line(&failure.to_string(), Report::DETAIL_MAX),
            }),
        }
    }

    /// Speaks to the server up to the login, and says how that went in words.
    ///
    /// # Errors
    /// Which step failed, and why; without secrets.
    pub async fn probe(&self) -> Result<String, Unreached> {
        let mut step = Step::Token;
        let opened = timeout(self.deadline, self.logins.open(&self.settings.smtp, &mut step)).await;
        match opened.unwrap_or_else(|_| Err(self.too_late())) {
            Ok(session) => {
                session.quit().await;
                let SmtpSettings { tls, login, .. } = &self.settings.smtp;
                let secured = match tls {
                    Tls::Starttls => "STARTTLS",
                    Tls::Implicit => "TLS",
                    Tls::None => "no TLS",
                };
                let login = login.as_ref().map_or("without login".to_owned(), |login| match login.by {
                    LoginBy::Password(_) => format!("logged in as {}", login.username),
                    LoginBy::Token(_) => format!("logged in as {} with a token", login.username),
                });
                Ok(clean::line(&format!("{}: reached, {secured}, {login}", self.server()), Report::DETAIL_MAX))
            }
            Err(failure) => {
                let at_login = failure.is_login() || (step == Step::Login && !matches!(failure, Failure::Broken(_)));
                Err(Unreached { text: self.failed(step, &failure), at_login })
            }
        }
    }

    fn server(&self) -> String {
        format!("{}:{}", self.settings.smtp.host, self.settings.smtp.port)
    }

    fn too_late(&self) -> Failure {
        Failure::Broken(format!("no answer within {}", humantime::format_duration(self.deadline)))
    }

    fn failed(&self, step: Step, failure: &Failure) -> String {
        clean::line(&format!("{}, {step}: {failure}", self.server()), Report::DETAIL_MAX)
    }

    async fn attempt(&self, outgoing: Outgoing<'_>, attempt: &mut Attempt) -> Result<(), Failure> {
        let open: Vec<Address> = self.open_recipients(outgoing.recipient, outgoing.settled).collect();
        if open.is_empty() {
            return Ok(());
        }
        let international = open.iter().chain([&self.settings.from.email]).any(|a| !a.to_string().is_ascii());
        let mut session = self.session_with_sender(attempt, international).await?;
        let result = transact(&mut session, &open, outgoing, attempt).await;
        self.keep(session);
        result
    }

    fn open_recipients(
        &self,
        contact: Option<&str>,
        settled: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = Address> {
        self.recipients(contact).map(|mailbox| mailbox.email).filter(|a| !settled.contains_key(&a.to_string()))
    }

    /// A session in which the sender was accepted: the kept one, or a new one if that fails in any way. A server
    /// may well want no more on an old connection.
    async fn session_with_sender(&self, attempt: &mut Attempt, international: bool) -> Result<Session, Failure> {
        let from = &self.settings.from.email;
        if let Some(mut session) = self.take_kept()
            && session.is_alive().await
            && session.sender(from, international).await.is_ok()
        {
            attempt.step = Step::Sender;
            return Ok(session);
        }
        let mut session = self.logins.open(&self.settings.smtp, &mut attempt.step).await?;
        attempt.step = Step::Sender;
        session.sender(from, international).await?;
        Ok(session)
    }

    fn take_kept(&self) -> Option<Session> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).session.take()
    }

    /// Keeps the session for the next mail, and says goodbye to the server if none comes for a while.
    fn keep(&self, session: Session) {
        if session.broken {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.session = Some(session);
        kept.turn += 1;
        let (turn, kept) = (kept.turn, Arc::downgrade(&self.kept));
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            let idle = kept.upgrade().and_then(|kept| {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.turn == turn { kept.session.take() } else { None }
            });
            if let Some(session) = idle {
                session.quit().await;
            }
        });
    }

    fn report(&self, attempt: Attempt, failure: Option<Failure>, outgoing: Outgoing<'_>) -> Report {
        let Attempt { step, settled, deferred, last } = attempt;
        let took = |replies: &BTreeMap<String, String>| replies.values().any(|reply| reply.starts_with('2'));
        let mut all_settled = outgoing.settled.clone();
        all_settled.extend(settled.clone());
        let outcome = match &failure {
            Some(failure) if failure.is_login() => Outcome::LoginRefused,
            // Whatever we are refused for before there is a recipient or a message, it is not that.
            Some(Failure::Refused(reply)) if reply.code >= 500 && [Step::Login, Step::Sender].contains(&step) => {
                Outcome::LoginRefused
            }
            Some(Failure::Refused(reply))
                if reply.code >= 500 && (reply.is_about_us() || reply.is_policy() || reply.is_about_sender()) =>
            {
                Outcome::LoginRefused
            }
            Some(_) if step <= Step::Sender => Outcome::Unavailable,
            Some(_) => Outcome::TryAgain { after: None },
            None if self.open_recipients(outgoing.recipient, &all_settled).next().is_some() => {
                Outcome::TryAgain { after: None }
            }
            None if took(&all_settled) => Outcome::Accepted,
            None => Outcome::Refused,
        };
        let mut said = Vec::new();
        said.extend(failure.map(|failure| self.failed(step, &failure)));
        said.extend(Some(last).filter(|last| !last.is_empty()));
        said.extend(deferred);
        said.extend(
            settled.iter().filter(|(_, reply)| !reply.starts_with('2')).map(|(to, reply)| format!("{to}: {reply}")),
        );
        if said.is_empty() {
            said.push("every recipient was settled before".to_owned());
        }
        Report { outcome, detail: clean::line(&said.join("; "), Report::DETAIL_MAX), settled }
    }
}

/// The mail itself, after the sender was accepted. What it fails with is about the whole conversation; what is said
/// of a recipient or of the message is noted in `attempt`.
async fn transact(
    session: &mut Session,
    open: &[Address],
    outgoing: Outgoing<'_>,
    attempt: &mut Attempt,
) -> Result<(), Failure> {
    attempt.step = Step::Recipients;
    let mut willing = Vec::new();
    let mut refusals: Vec<(&Address, Reply)> = Vec::new();
    for to in open {
        match session.recipient(to).await {
            Ok(_) => willing.push(to),
            Err(Failure::Refused(reply)) if reply.code >= 500 && !reply.wants_login() => refusals.push((to, reply)),
            Err(Failure::Refused(reply)) if reply.code < 500 && reply.code != 421 => {
                attempt.deferred.push(format!("{to}: {}", short(&reply)));
            }
            Err(failure) => {
                attempt.settle(&refusals);
                return Err(failure);
            }
        }
    }
    // A server that will not relay for us, or does not understand us, says so of each recipient. That is the endpoint's
    // trouble, unless it has taken the message for somebody else.
    let taken_before = outgoing.settled.values().any(|reply| reply.starts_with('2'));
    let of_everybody = |reply: &Reply| (reply.is_policy() && !reply.is_about_recipient()) || reply.is_about_us();
    // A customer's contact is anybody's address: what a server says of it alone is not about the endpoint.
    let alone = matches!(open, [one] if outgoing.recipient.is_some_and(|contact| is_address_of(one, contact)));
    let all_for_policy =
        !alone && refusals.len() == open.len() && refusals.iter().all(|(_, reply)| of_everybody(reply));
    if let (false, true, Some((_, reply))) = (taken_before, all_for_policy, refusals.first()) {
        return Err(Failure::Refused(reply.clone()));
    }
    attempt.settle(&refusals);
    if willing.is_empty() {
        return Ok(());
    }
    attempt.step = Step::Data;
    let mut answer = session.announce().await;
    if answer.is_ok() {
        attempt.step = Step::Content;
        answer = session.content(outgoing.message).await;
    }
    match answer {
        Ok(reply) => attempt.settle_all(&willing, &reply),
        Err(Failure::Refused(reply)) if reply.code >= 500 && !reply.is_about_us() && !reply.is_about_sender() => {
            attempt.settle_all(&willing, &reply);
        }
        Err(failure) => return Err(failure),
    }
    Ok(())
}

impl Attempt {
    fn settle(&mut self, refusals: &[(&Address, Reply)]) {
        self.settled.extend(refusals.iter().map(|(to, reply)| (to.to_string(), short(reply))));
    }

    fn settle_all(&mut self, recipients: &[&Address], reply: &Reply) {
        self.last = short(reply);
        self.settled.extend(recipients.iter().map(|to| (to.to_string(), short(reply))));
    }
}

fn is_address_of(address: &Address, mailbox: &str) -> bool {
    mailbox.parse::<Mailbox>().is_ok_and(|mailbox| mailbox.email == *address)
}

fn short(reply: &Reply) -> String {
    clean::line(&reply.text, 200)
}
