//! Signs in a user: this machine shows a code, a person enters it in any browser and signs in there, with a second
//! factor. vetwatch sees neither password nor factor, only the refresh token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep};

use super::application::Application;
use super::login::{Login, seconds};
use super::sign_in::{REQUEST_TIMEOUT, SignInError, SignedIn, store};
use super::token_file::TokenFile;
use crate::error::Error;
use crate::http::Http;
use crate::json::Json;
use vetwatch_core::redact;
use vetwatch_core::text::short_line;
use vetwatch_core::time::Clock;

/// RFC 8628: the default poll interval, and its increase after each `slow_down`.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const SLOW_DOWN_BY: Duration = Duration::from_secs(5);
/// Bounds on what the server says: the interval, and the lifetime of a code.
const INTERVAL_MAX: Duration = Duration::from_mins(1);
const DEFAULT_LIFETIME: Duration = Duration::from_mins(15);
const LIFETIME_MAX: Duration = Duration::from_hours(1);

pub struct DeviceLogin {
    login: Login,
    file: TokenFile,
    device_code: SecretString,
    interval: Duration,
    until: Instant,
}

/// Instructions for the person. From the server, cleaned for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub url: String,
    pub code: String,
    /// Lifetime of the code.
    pub life: Duration,
}

impl DeviceLogin {
    /// Requests a code. The refresh token will be stored in `file`.
    ///
    /// # Errors
    /// If there is no code.
    pub async fn begin(
        application: &Application,
        file: TokenFile,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Prompt), SignInError> {
        let login = Login::new(Http::new(None, application.proxy.as_ref(), clock)?, application)?;
        let reply = login.device_code(Instant::now() + REQUEST_TIMEOUT).await.map_err(|denied| denied.error)?;
        let (prompt, device_code, interval) =
            read(&reply.body).ok_or_else(|| Error::NoToken("the login server's answer is not a code".into()))?;
        Ok((Self { login, file, device_code, interval, until: Instant::now() + prompt.life }, prompt))
    }

    /// Polls at the server's interval until the person has signed in, and stores the refresh token.
    ///
    /// # Errors
    /// If the person declined, was too late, or is not allowed to.
    pub async fn wait(mut self) -> Result<SignedIn, SignInError> {
        loop {
            if Instant::now() + self.interval > self.until {
                return Err(SignInError::Expired);
            }
            sleep(self.interval).await;
            let until = Instant::now() + REQUEST_TIMEOUT;
            let denied = match self.login.grant_device(self.device_code.expose_secret(), until).await {
                Ok(granted) => return store(&self.login, &self.file, granted).await,
                Err(denied) => denied,
            };
            match (denied.word.as_deref(), denied.error) {
                (Some("authorization_pending"), _) => {}
                (Some("slow_down"), _) => self.interval = (self.interval + SLOW_DOWN_BY).min(INTERVAL_MAX),
                (Some("expired_token" | "code_expired"), _) => return Err(SignInError::Expired),
                (Some("access_denied" | "authorization_declined"), _) => return Err(SignInError::Declined),
                // The code is still valid; the network may be back before it expires.
                (_, Error::NoToken(_)) => self.interval = (self.interval * 2).min(INTERVAL_MAX),
                (_, Error::Throttled { wait, .. }) => {
                    self.interval = wait.unwrap_or(self.interval * 2).clamp(self.interval, INTERVAL_MAX);
                }
                (_, error) => return Err(error.into()),
            }
        }
    }
}

/// Reads what the person is told, the device code, and the interval.
pub(super) fn read(body: &[u8]) -> Option<(Prompt, SecretString, Duration)> {
    let body = Json::parse(body)?;
    let object = body.as_object()?;
    let text = |key| object.get(key).ok().flatten().and_then(Json::as_text);
    let url = text("verification_uri").or_else(|| text("verification_url"))?;
    let life = seconds(object, "expires_in").unwrap_or(DEFAULT_LIFETIME).min(LIFETIME_MAX);
    let interval = seconds(object, "interval").unwrap_or(DEFAULT_INTERVAL).clamp(Duration::from_secs(1), INTERVAL_MAX);
    let prompt = Prompt {
        url: redact::words(&short_line(url, 200)),
        code: redact::words(&short_line(text("user_code")?, 40)),
        life,
    };
    Some((prompt, SecretString::from(text("device_code")?), interval))
}

impl fmt::Debug for DeviceLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceLogin").field("file", &self.file).finish_non_exhaustive()
    }
}
