//! Mail over SMTP: one session per mail, with a separate reply for each recipient.

pub mod address;
mod attempt;
mod compose;
mod auth;
#[cfg(any(test, fuzzing))]
pub(crate) use attempt::fuzzing;
mod header;
mod hello;
mod replies;
mod session;
mod stream;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::address::Address;
use lettre::message::Mailbox;
use secrecy::SecretString;
use tokio::time::timeout;

use self::address::{Contact, is_same};
use self::attempt::{Attempt, too_late};
use self::auth::SmtpAuthenticator;
pub use self::hello::is_full as is_full_name;
use self::session::{Failure, Session, Step};
use crate::delivery::AttemptResult;
use crate::delivery::route::ContactPolicy;
use crate::partner_center::{Application, Expiry};
use crate::store::UnrenderedDelivery;
use crate::text;
use crate::time::{Clock, SystemClock, Timestamp};

/// Deadline until the server is ready for the message, whatever it does.
const DEADLINE: Duration = Duration::from_mins(1);
/// Deadline for the message and the reply to its final dot: a server that is cut off here may well have accepted it,
/// and would get it twice (RFC 5321 4.5.3.2.6).
const FINAL_REPLY: Duration = Duration::from_mins(10);
/// The most events in one mail: their list fits into a mail of 100 KB.
pub const MAX_EVENTS: u32 = 100;
/// How long an idle session is kept for the next mail.
const KEEP_IDLE_FOR: Duration = Duration::from_secs(20);

/// A mail server: `[smtp.NAME]`.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// What the client calls itself; `None`: the host's full name, or the address that it connects from.
    pub hello: Option<String>,
    pub login: Option<Login>,
    /// A PEM file, trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Starttls,
    Implicit,
    /// Only for loopback.
    None,
}

#[derive(Debug, Clone)]
pub struct Login {
    /// With a token, the mailbox that the application sends as.
    pub username: String,
    pub by: LoginBy,
}

impl Login {
    /// When its credential expires, if known.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        match &self.by {
            LoginBy::Password(_) => None,
            LoginBy::Token(application) => application.proof.expiry(),
        }
    }
}

#[derive(Debug, Clone)]
pub enum LoginBy {
    /// AUTH PLAIN or LOGIN.
    Password(SecretString),
    /// AUTH XOAUTH2 with an application's token: what Exchange Online accepts.
    Token(Box<Application>),
}

#[derive(Debug, Clone)]
pub struct EmailSettings {
    pub smtp: SmtpSettings,
    pub from: Mailbox,
    /// May be empty if each customer's contact gets it.
    pub to: Vec<Mailbox>,
    pub contact: ContactPolicy,
}

pub struct EmailChannel {
    settings: EmailSettings,
    auth: SmtpAuthenticator,
    deadline: Duration,
    final_reply: Duration,
    /// The session of the last mail, kept for the next one.
    kept: Arc<Mutex<IdleSession>>,
}

#[derive(Default)]
struct IdleSession {
    session: Option<Session>,
    /// Counts the sessions that were kept, so that the timer of one does not end a later one.
    generation: u64,
}

impl fmt::Debug for EmailChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailChannel").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Why [`EmailChannel::probe`] failed, and at which step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ProbeError {
    text: String,
    /// The server was reached and rejected the login.
    pub at_login: bool,
    /// A mail server speaks at this port, with this encryption: its certificate or the login is what is wrong.
    pub answers: bool,
}

impl EmailChannel {
    #[must_use]
    pub fn new(mut settings: EmailSettings) -> Self {
        for mailbox in settings.to.iter_mut().chain([&mut settings.from]) {
            address::make_ascii(mailbox);
        }
        let auth = SmtpAuthenticator::new(settings.smtp.login.as_ref(), Arc::new(SystemClock));
        Self { settings, auth, deadline: DEADLINE, final_reply: FINAL_REPLY, kept: Arc::default() }
    }

    /// Replaces the system clock, by which a token expires.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        let auth = SmtpAuthenticator::new(self.settings.smtp.login.as_ref(), clock);
        Self { auth, ..self }
    }

    /// Replaces the deadline of 60 seconds for everything before the message.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Replaces the deadline of 10 minutes for the final reply.
    #[must_use]
    pub fn with_final_reply(self, final_reply: Duration) -> Self {
        Self { final_reply, ..self }
    }

    /// Renders the complete mail; its `Message-ID` is the delivery's id at the sender's domain.
    #[must_use]
    pub fn render(&self, delivery: &UnrenderedDelivery, now: Timestamp) -> String {
        let to: Vec<_> = self.recipients(delivery.recipient.as_deref(), delivery.contact.as_deref()).collect();
        compose::mail(&self.settings.from, &to, delivery, now)
    }

    /// The endpoint's own recipients, and those of the customer's contact that are none of them. `enqueued` are the
    /// contact's addresses when the message was enqueued; it may have been corrected since.
    fn recipients(&self, enqueued: Option<&str>, contact: Option<&str>) -> impl Iterator<Item = Mailbox> {
        let now = contact.map(Contact::parse).filter(|contact| !contact.addresses.is_empty());
        let contact = enqueued.map(|enqueued| now.unwrap_or_else(|| Contact::parse(enqueued)));
        let contact = contact.unwrap_or_default().addresses;
        let is_own = |address: &Address| self.settings.to.iter().any(|to| is_same(&to.email, address));
        let contacts = contact.into_iter().filter(move |address| !is_own(address)).map(Mailbox::from);
        self.settings.to.iter().cloned().chain(contacts)
    }

    /// Gets the token for the login and describes the result; `None` if none is needed. No mail is sent.
    ///
    /// # Errors
    /// Why there is no token; without secrets.
    pub async fn probe_token(&self) -> Result<Option<String>, ProbeError> {
        let token = timeout(self.deadline, self.auth.token()).await;
        match token.unwrap_or_else(|_| Err(too_late(self.deadline))) {
            Ok(None) => Ok(None),
            Ok(Some(_)) => Ok(Some("received for the application".to_owned())),
            Err(failure) => Err(ProbeError {
                at_login: failure.is_login(),
                answers: false,
                text: text::line(&failure.to_string(), AttemptResult::DETAIL_MAX),
            }),
        }
    }

    /// Connects and logs in to the server, and describes the result.
    ///
    /// # Errors
    /// Which step failed, and why; without secrets.
    pub async fn probe(&self) -> Result<String, ProbeError> {
        let mut step = Step::Token;
        let opened = tokio::select! {
            opened = timeout(self.deadline, self.auth.open(&self.settings.smtp, &mut step)) => opened,
            failure = session::wants_implicit_tls(&self.settings.smtp) => Ok(Err(failure)),
        };
        match opened.unwrap_or_else(|_| Err(too_late(self.deadline))) {
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
                Ok(text::line(&format!("{}: reached, {secured}, {login}", self.server()), AttemptResult::DETAIL_MAX))
            }
            Err(failure) => {
                let at_login = failure.is_login() || (step == Step::Login && !matches!(failure, Failure::Broken(_)));
                let text = self.failed(step, &failure);
                // After STARTTLS was accepted, or if there is a certificate to complain about.
                let spoke_tls = step == Step::Handshake
                    && (self.settings.smtp.tls == Tls::Starttls || text.contains("certificate"));
                Err(ProbeError { answers: at_login || spoke_tls, text, at_login })
            }
        }
    }

    fn server(&self) -> String {
        format!("{}:{}", self.settings.smtp.host, self.settings.smtp.port)
    }

    fn failed(&self, step: Step, failure: &Failure) -> String {
        text::line(&format!("{}, {step}: {failure}", self.server()), AttemptResult::DETAIL_MAX)
    }

    /// A session in which the sender was accepted: the idle one, or a new one if that fails in any way. A server may
    /// well reject further mails on an old connection.
    async fn session_with_sender(&self, attempt: &mut Attempt<'_>) -> Result<Session, Failure> {
        let from = &self.settings.from.email;
        if let Some(mut session) = self.take_idle()
            && session.is_alive().await
            && session.sender(from).await.is_ok()
        {
            attempt.step = Step::Sender;
            return Ok(session);
        }
        let mut session = self.auth.open(&self.settings.smtp, &mut attempt.step).await?;
        attempt.step = Step::Sender;
        session.sender(from).await?;
        Ok(session)
    }

    fn take_idle(&self) -> Option<Session> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).session.take()
    }

    /// Keeps the session for the next mail, and ends it if none comes for a while.
    fn keep(&self, session: Session) {
        if session.broken {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // After two concurrent mails one session is enough.
        if let Some(other) = kept.session.replace(session) {
            tokio::spawn(other.quit());
        }
        kept.generation += 1;
        let (generation, kept) = (kept.generation, Arc::downgrade(&self.kept));
        tokio::spawn(async move {
            tokio::time::sleep(KEEP_IDLE_FOR).await;
            let idle = kept.upgrade().and_then(|kept| {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.generation == generation { kept.session.take() } else { None }
            });
            if let Some(session) = idle {
                session.quit().await;
            }
        });
    }
}
