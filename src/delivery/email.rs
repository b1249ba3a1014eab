//! Mail over SMTP: one conversation for a mail, in which every recipient has an answer of its own.

mod attempt;
mod compose;
mod auth;
mod replies;
mod session;
mod stream;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::message::Mailbox;
use secrecy::SecretString;
use tokio::time::timeout;

use self::attempt::{Attempt, too_late};
use self::auth::SmtpAuthenticator;
use self::session::{Failure, Session, Step};
use crate::delivery::message::sanitize;
use crate::delivery::route::ContactPolicy;
use crate::delivery::{AttemptResult, RenderInput};
use crate::partner_center::Expiry;
use crate::partner_center::application::Application;
use crate::time::{Clock, SystemClock, Timestamp};

/// Until the server is ready for the message, whatever it does.
const DEADLINE: Duration = Duration::from_mins(1);
/// For the message itself, and the answer to its final dot: a server that is cut off here may well have taken it, and
/// would get it once more (RFC 5321 4.5.3.2.6).
const FINAL_REPLY: Duration = Duration::from_mins(10);
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
    pub contact: ContactPolicy,
}

pub struct EmailChannel {
    settings: EmailSettings,
    logins: SmtpAuthenticator,
    deadline: Duration,
    final_reply: Duration,
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
pub struct ProbeError {
    text: String,
    /// The server was there, and did not let us in.
    pub at_login: bool,
}

/// The address in what somebody wrote as a customer's contact: `Jan <jan@contoso.example>`, `jan@contoso.example`.
#[must_use]
pub fn contact_address(contact: &str) -> Option<String> {
    contact.trim().parse::<Mailbox>().ok().map(|mailbox| mailbox.email.to_string())
}

impl EmailChannel {
    #[must_use]
    pub fn new(settings: EmailSettings) -> Self {
        let logins = SmtpAuthenticator::new(settings.smtp.login.as_ref(), Arc::new(SystemClock));
        Self { settings, logins, deadline: DEADLINE, final_reply: FINAL_REPLY, kept: Arc::default() }
    }

    /// Another clock than the system's, by which a token ends.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        let logins = SmtpAuthenticator::new(self.settings.smtp.login.as_ref(), clock);
        Self { logins, ..self }
    }

    /// Another deadline than 60 seconds for all that goes before the message.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Another deadline than 10 minutes for the answer to the message.
    #[must_use]
    pub fn with_final_reply(self, final_reply: Duration) -> Self {
        Self { final_reply, ..self }
    }

    /// The mail, complete: `Message-ID` is `id` at the sender's domain.
    #[must_use]
    pub fn render(&self, draft: &RenderInput<'_>, now: Timestamp) -> String {
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

    /// Gets the token for the login, if one is needed, and says how that went in words. Sends nothing to the server.
    ///
    /// # Errors
    /// Why there is none; without secrets.
    pub async fn probe_token(&self) -> Result<Option<String>, ProbeError> {
        let token = timeout(self.deadline, self.logins.token()).await;
        match token.unwrap_or_else(|_| Err(too_late(self.deadline))) {
            Ok(None) => Ok(None),
            Ok(Some(_)) => Ok(Some("given for the application".to_owned())),
            Err(failure) => Err(ProbeError {
                at_login: failure.is_login(),
                text: sanitize::line(&failure.to_string(), AttemptResult::DETAIL_MAX),
            }),
        }
    }

    /// Speaks to the server up to the login, and says how that went in words.
    ///
    /// # Errors
    /// Which step failed, and why; without secrets.
    pub async fn probe(&self) -> Result<String, ProbeError> {
        let mut step = Step::Token;
        let opened = timeout(self.deadline, self.logins.open(&self.settings.smtp, &mut step)).await;
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
                Ok(sanitize::line(
                    &format!("{}: reached, {secured}, {login}", self.server()),
                    AttemptResult::DETAIL_MAX,
                ))
            }
            Err(failure) => {
                let at_login = failure.is_login() || (step == Step::Login && !matches!(failure, Failure::Broken(_)));
                Err(ProbeError { text: self.failed(step, &failure), at_login })
            }
        }
    }

    fn server(&self) -> String {
        format!("{}:{}", self.settings.smtp.host, self.settings.smtp.port)
    }

    fn failed(&self, step: Step, failure: &Failure) -> String {
        sanitize::line(&format!("{}, {step}: {failure}", self.server()), AttemptResult::DETAIL_MAX)
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
        // Of two that were under way beside each other one is enough.
        if let Some(other) = kept.session.replace(session) {
            tokio::spawn(other.quit());
        }
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
}
