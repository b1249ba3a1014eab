//! SMTP authentication: a password, or an OAuth token that is refreshed before it expires and once when it is rejected.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::session::{Failure, Reply, Session, Step};
use super::{Login, LoginBy, SmtpSettings};
use crate::partner_center::{Error, Token, Tokens};
use crate::redact::{self, Known};
use crate::text;
use crate::time::Clock;

/// Deadline for a token. Shorter than an attempt's, so that its error is known before the attempt ends.
const TOKEN_DEADLINE: Duration = Duration::from_secs(30);
/// Exchange Online's reply to a token that has expired, and to one that was never valid.
const BAD_CREDENTIALS: u16 = 535;
/// Added to the error if the login server issued the token and the mail server rejects it.
const REJECTED_TOKEN_HINT: &str = "the token is fresh: has the application the right SMTP.SendAsApp, may its service principal use this \
                      mailbox, and is SMTP AUTH enabled for it?";

/// The login of a mail server, and its tokens.
pub(super) enum SmtpAuthenticator {
    None,
    /// Registered for redaction, as encoded, as long as it is used: a server may repeat it in any session.
    Password {
        username: String,
        password: SecretString,
        _known: Known,
    },
    Token {
        username: String,
        tokens: Box<Tokens>,
    },
    /// The client certificate is unusable; each attempt reports it.
    CertificateError(String),
}

/// The credentials of a session: a name, and a password or a token.
#[derive(Clone, Copy)]
pub(super) enum SmtpAuth<'k> {
    Password(&'k str, &'k str),
    Token(&'k str, &'k str),
}

impl SmtpAuth<'_> {
    /// Registers a token for redaction, as encoded: a server that does not understand a command may repeat it.
    pub(super) fn known(self) -> Option<Known> {
        match self {
            Self::Password(..) => None,
            Self::Token(name, token) => Some(Known::login(name, token)),
        }
    }
}

impl SmtpAuthenticator {
    pub(super) fn new(login: Option<&Login>, clock: Arc<dyn Clock>) -> Self {
        match login {
            None => Self::None,
            Some(Login { username, by: LoginBy::Password(password) }) => {
                let known = Known::login(username, password.expose_secret());
                Self::Password { username: username.clone(), password: password.clone(), _known: known }
            }
            Some(Login { username, by: LoginBy::Token(application) }) => {
                match Tokens::of_application(application, clock) {
                    Ok(tokens) => Self::Token { username: username.clone(), tokens: Box::new(tokens) },
                    Err(error) => Self::CertificateError(error.to_string()),
                }
            }
        }
    }

    /// The token for the login; `None` if it needs none.
    pub(super) async fn token(&self) -> Result<Option<Arc<Token>>, Failure> {
        match self {
            Self::Token { tokens, .. } => {
                Ok(Some(tokens.current(tokens.mark(), Instant::now() + TOKEN_DEADLINE).await?))
            }
            Self::CertificateError(why) => Err(Failure::Broken(why.clone())),
            Self::None | Self::Password { .. } => Ok(None),
        }
    }

    /// Opens a session and logs in. A rejected token is replaced once: it may have been revoked, or have expired early.
    /// That takes a new connection, because servers differ in what they allow after a rejection.
    pub(super) async fn open(&self, smtp: &SmtpSettings, step: &mut Step) -> Result<Session, Failure> {
        let (username, tokens) = match self {
            Self::Token { username, tokens } => (username, tokens),
            Self::CertificateError(why) => return Err(Failure::Broken(why.clone())),
            Self::None => return Session::open(smtp, None, step).await,
            Self::Password { username, password, .. } => {
                let key = SmtpAuth::Password(username, password.expose_secret());
                return Session::open(smtp, Some(key), step).await;
            }
        };
        *step = Step::Token;
        let mut token = tokens.current(tokens.mark(), Instant::now() + TOKEN_DEADLINE).await?;
        let mut opened = Session::open(smtp, Some(SmtpAuth::Token(username, token.expose())), step).await;
        if matches!(&opened, Err(Failure::Refused(reply)) if reply.code == BAD_CREDENTIALS && *step == Step::Login) {
            *step = Step::Token;
            match tokens.replace_rejected(&token, tokens.mark(), Instant::now() + TOKEN_DEADLINE).await? {
                Some(replacement) => {
                    token = replacement;
                    opened = Session::open(smtp, Some(SmtpAuth::Token(username, token.expose())), step).await;
                }
                None => *step = Step::Login,
            }
        }
        match opened {
            Ok(session) => {
                token.mark_accepted();
                Ok(session)
            }
            Err(Failure::Refused(reply)) if reply.code == BAD_CREDENTIALS => {
                Err(Failure::Refused(Reply { text: format!("{}; {REJECTED_TOKEN_HINT}", reply.text), ..reply }))
            }
            failed => failed,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // The hint of a refusal without the login server's code is about Partner Center.
            Error::Credential(refusal) if !refusal.is_from_login() => Self::NoToken(refusal.to_string()),
            Error::Credential(_) => Self::NoToken(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// The one message of XOAUTH2, as it is sent.
pub(super) fn xoauth2(username: &str, token: &str) -> String {
    STANDARD.encode(redact::xoauth2(username, token))
}

/// The reason in the challenge that precedes a rejection: JSON in base64. `None` if it is anything else.
pub(super) fn refusal(challenge: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(&STANDARD.decode(challenge).ok()?).ok()?;
    let status = json.get("status")?;
    let status = status.as_str().map_or_else(|| status.to_string(), str::to_owned);
    Some(format!("the server says: status {}", text::line(&redact::words(&status), 100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_that_says_why_is_told_and_any_other_is_not() {
        let reason = |text: &str| refusal(&STANDARD.encode(text));
        assert_eq!(reason(r#"{"status":"401","schemes":"bearer"}"#).as_deref(), Some("the server says: status 401"));
        assert_eq!(reason("{\"status\":\"4\u{1b}[31m\"}").as_deref(), None); // no JSON
        assert_eq!(reason(r#"{"status":"4\u001b[31m1"}"#).as_deref(), Some("the server says: status 4[31m1"));
        assert_eq!((reason("401"), refusal("***")), (None, None));
    }
}
