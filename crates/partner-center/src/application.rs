//! Application tokens for a Microsoft service other than Partner Center: Exchange Online accepts mail with one.
//!
//! They come from the same login server, with the same credentials and error codes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::SetupError;
use super::auth::{Token, Tokens};
use super::budget::Budget;
use super::credential::{ClientAuth, Expiry};
use super::error::Error;
use super::http::Http;
use super::login::Login;
use vetwatch_core::time::Clock;

/// An application without a user, and its scope.
#[derive(Debug, Clone)]
pub struct Application {
    pub login_url: Url,
    pub tenant: String,
    pub client_id: String,
    /// `https://outlook.office365.com/.default`
    pub scope: String,
    pub proof: ClientAuth,
}

impl Application {
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        self.proof.expiry()
    }
}

/// One token shared by all callers, cached until shortly before it expires.
pub struct ServiceTokens(Tokens);

/// Only [`ServiceToken::expose`] shows the token.
pub struct ServiceToken(Arc<Token>);

/// Why there is no token: for people, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTokenError {
    /// A person must act; the text says how, if the login server's code is known.
    #[error("{0}")]
    Refused(String),
    /// The login server fails, is unreachable, or throttles.
    #[error("{0}")]
    NotNow(String),
}

impl ServiceTokens {
    /// Sends nothing.
    ///
    /// # Errors
    /// If the system's certificates cannot be read, or the tenant does not fit into the URL.
    pub fn new(application: &Application, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        // Not limited in effect: a token an hour needs no budget.
        let http = Http::new(Arc::new(Budget::per_minute(1)), clock)?;
        Ok(Self(Tokens::new(Login::of(http, application)?, None)))
    }

    /// Returns the cached token if it is valid by our clock, else a new one. Sends at most one token request and
    /// returns within `patience`.
    ///
    /// # Errors
    /// If no token can be obtained.
    pub async fn current(&self, patience: Duration) -> Result<ServiceToken, ServiceTokenError> {
        let token = self.0.current(self.0.mark(), Instant::now() + patience).await;
        token.map(ServiceToken).map_err(|error| ServiceTokenError::of(&error))
    }

    /// Replaces a token that the service rejected. `None` if another one would not help: the rejected token was itself
    /// a replacement, obtained a moment ago.
    ///
    /// # Errors
    /// If no token can be obtained.
    pub async fn replace_rejected(
        &self,
        refused: &ServiceToken,
        patience: Duration,
    ) -> Result<Option<ServiceToken>, ServiceTokenError> {
        let token = self.0.replace_rejected(&refused.0, self.0.mark(), Instant::now() + patience).await;
        token.map(|token| token.map(ServiceToken)).map_err(|error| ServiceTokenError::of(&error))
    }
}

impl ServiceToken {
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The service accepted the token: if it is rejected later, it has expired, and a new one may help.
    pub fn mark_accepted(&self) {
        self.0.mark_accepted();
    }
}

impl fmt::Debug for ServiceTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceTokens")
    }
}

impl fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceToken")
    }
}

impl ServiceTokenError {
    fn of(error: &Error) -> Self {
        match error {
            // The other hints on a credential are about Partner Center.
            Error::Credential(refusal) if !refusal.is_from_login() => Self::Refused(refusal.to_string()),
            Error::Credential(_) => Self::Refused(error.to_string()),
            _ => Self::NotNow(error.to_string()),
        }
    }
}
