//! Who we are to a mail server: a password, or a token that is got anew before it ends and once when it is refused.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;

use super::session::{Failure, Reply, Session, Step};
use super::{Login, LoginBy, SmtpSettings};
use crate::delivery::message::clean;
use crate::partner_center::application::{NoServiceToken, ServiceToken, ServiceTokens};
use crate::time::Clock;

/// For a token. Less than an attempt, so that what is wrong with it is known before the attempt ends.
const TOKEN: Duration = Duration::from_secs(30);
/// What Exchange Online answers to a token that has ended, and to one that never was any good.
const BAD_CREDENTIALS: u16 = 535;
/// Of a token that the login server gave, and the mail server refuses.
const RIGHTS: &str = "the token is fresh: has the application the right SMTP.SendAsApp, may its service principal use this \
                      mailbox, and is SMTP AUTH enabled for it?";
/// Shorter pieces of a secret are of no use to anybody, and black out words.
const PIECE: usize = 16;

/// The login of a mail server, and its tokens.
pub(super) enum Logins {
    None,
    Password(Login),
    Token {
        username: String,
        tokens: Box<ServiceTokens>,
    },
    /// Its client cannot be set up; each attempt says so.
    Unusable(String),
}

/// What a session logs in with: a name, and a password or a token.
#[derive(Clone, Copy)]
pub(super) enum Key<'k> {
    Password(&'k str, &'k str),
    Token(&'k str, &'k str),
}

impl Logins {
    pub(super) fn new(login: Option<&Login>, clock: Arc<dyn Clock>) -> Self {
        match login {
            None => Self::None,
            Some(Login { username, by: LoginBy::Token(application) }) => match ServiceTokens::new(application, clock) {
                Ok(tokens) => Self::Token { username: username.clone(), tokens: Box::new(tokens) },
                Err(error) => Self::Unusable(error.to_string()),
            },
            Some(login) => Self::Password(login.clone()),
        }
    }

    /// The token for the login; `None` if it needs none.
    pub(super) async fn token(&self) -> Result<Option<ServiceToken>, Failure> {
        match self {
            Self::Token { tokens, .. } => Ok(Some(tokens.current(TOKEN).await?)),
            Self::Unusable(why) => Err(Failure::Broken(why.clone())),
            Self::None | Self::Password(_) => Ok(None),
        }
    }

    /// A session that is logged in. A token that the server refuses is replaced once: it may have been revoked, or have
    /// ended earlier than it said. That takes a new connection, because servers differ in what they allow after a refusal.
    pub(super) async fn open(&self, smtp: &SmtpSettings, step: &mut Step) -> Result<Session, Failure> {
        let (username, tokens) = match self {
            Self::Token { username, tokens } => (username, tokens),
            Self::Unusable(why) => return Err(Failure::Broken(why.clone())),
            Self::None => return Session::open(smtp, None, step).await,
            Self::Password(Login { username, by }) => {
                let key = match by {
                    LoginBy::Password(password) => Some(Key::Password(username, password.expose_secret())),
                    LoginBy::Token(_) => None,
                };
                return Session::open(smtp, key, step).await;
            }
        };
        *step = Step::Token;
        let mut token = tokens.current(TOKEN).await?;
        let mut opened = Session::open(smtp, Some(Key::Token(username, token.expose())), step).await;
        if matches!(&opened, Err(Failure::Refused(reply)) if reply.code == BAD_CREDENTIALS && *step == Step::Login) {
            *step = Step::Token;
            match tokens.instead_of(&token, TOKEN).await? {
                Some(another) => {
                    token = another;
                    opened = Session::open(smtp, Some(Key::Token(username, token.expose())), step).await;
                }
                None => *step = Step::Login,
            }
        }
        match opened {
            Ok(session) => {
                token.has_worked();
                Ok(session)
            }
            Err(Failure::Refused(reply)) if reply.code == BAD_CREDENTIALS => {
                Err(Failure::Refused(Reply { text: format!("{}; {RIGHTS}", reply.text), ..reply }))
            }
            failed => failed,
        }
    }
}

impl From<NoServiceToken> for Failure {
    fn from(error: NoServiceToken) -> Self {
        match error {
            NoServiceToken::Refused(why) => Self::NoToken(why),
            NoServiceToken::NotNow(why) => Self::Broken(why),
        }
    }
}

/// The one message of XOAUTH2, as it is sent.
pub(super) fn xoauth2(username: &str, token: &str) -> String {
    STANDARD.encode(format!("user={username}\u{1}auth=Bearer {token}\u{1}\u{1}"))
}

/// What the challenge says that comes before a refusal: JSON in base64. `None` if it is anything else.
pub(super) fn refusal(challenge: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(&STANDARD.decode(challenge).ok()?).ok()?;
    let status = json.get("status")?;
    let status = status.as_str().map_or_else(|| status.to_string(), str::to_owned);
    Some(format!("the server says: status {}", clean::line(&status, 100)))
}

/// What must not be seen of a login, in the forms in which a server may repeat it.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn of(key: Key<'_>) -> Self {
        let forms = match key {
            Key::Password(username, password) => {
                vec![
                    STANDARD.encode(format!("\0{username}\0{password}")),
                    STANDARD.encode(password),
                    password.to_owned(),
                ]
            }
            Key::Token(username, token) => vec![xoauth2(username, token), STANDARD.encode(token), token.to_owned()],
        };
        Self(forms.into_iter().filter(|form| !form.is_empty()).collect())
    }

    /// `text` without them, and without pieces of them: a long line may be repeated in part.
    pub(super) fn hide(&self, text: &str) -> String {
        const HIDDEN: &str = "[hidden]";
        let whole = self.0.iter().fold(text.to_owned(), |text, form| text.replace(form, HIDDEN));
        let fits = |c: char| c.is_ascii_alphanumeric() || "+/=-_.~".contains(c);
        let mut hidden = String::new();
        for run in whole.split_inclusive(|c| !fits(c)) {
            let word = run.trim_end_matches(|c| !fits(c)).trim_matches('.');
            if word.len() >= PIECE && self.0.iter().any(|form| form.contains(word)) {
                hidden.push_str(&run.replace(word, HIDDEN));
            } else {
                hidden.push_str(run);
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_is_repeated_is_hidden_whole_or_in_part() {
        let token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJvdXRsb29rIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ";
        let sent = xoauth2("vetting@contoso.example", token);
        let secrets = Secrets::of(Key::Token("vetting@contoso.example", token));
        for echoed in [&sent, token, &sent[..60], &sent[40..], &token[..50], &format!("{}...", &token[..50])] {
            let text = secrets.hide(&format!("500 5.5.2 unknown: AUTH XOAUTH2 {echoed}, (again: \"{echoed}\")"));
            assert!(text.starts_with("500 5.5.2 unknown: AUTH XOAUTH2 [hidden]"), "{text}");
            assert!((0..token.len() - PIECE).all(|at| !text.contains(&token[at..at + PIECE])), "{text}");
            assert!((0..sent.len() - PIECE).all(|at| !text.contains(&sent[at..at + PIECE])), "{text}");
        }
        let harmless = "535 5.7.3 Authentication unsuccessful [AM0PR01CA0137.eurprd01.prod.exchangelabs.com]";
        assert_eq!(secrets.hide(harmless), harmless);
    }

    #[test]
    fn a_challenge_that_says_why_is_told_and_any_other_is_not() {
        let said = |text: &str| refusal(&STANDARD.encode(text));
        assert_eq!(said(r#"{"status":"401","schemes":"bearer"}"#).as_deref(), Some("the server says: status 401"));
        assert_eq!(said("{\"status\":\"4\u{1b}[31m\"}").as_deref(), None); // no JSON
        assert_eq!(said(r#"{"status":"4\u001b[31m1"}"#).as_deref(), Some("the server says: status 4[31m1"));
        assert_eq!((said("401"), refusal("***")), (None, None));
    }
}
