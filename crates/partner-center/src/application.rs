//! Tokens of an application for another of Microsoft's services than Partner Center: Exchange Online takes mail for one.
//!
//! They come from the same login server, for the same proofs, and are refused with the same codes.

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

/// An application that asks for itself, and what it asks for.
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
    /// When its proof ends, if that is known.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        self.proof.expiry()
    }
}

/// One token for everybody who asks, kept until shortly before its end.
pub struct ServiceTokens(Tokens);

/// The token itself is shown by [`ServiceToken::expose`] alone.
pub struct ServiceToken(Arc<Token>);

/// Why there is none: for people, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTokenError {
    /// A person must act; the text says how, if the login server's code is known.
    #[error("{0}")]
    Refused(String),
    /// The login server is in trouble, unreachable, or asks to be left alone for a while.
    #[error("{0}")]
    NotNow(String),
}

impl ServiceTokens {
    /// Sends nothing.
    ///
    /// # Errors
    /// When the system's certificates cannot be read, or the tenant cannot be put into the URL.
    pub fn new(application: &Application, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        // Counts requests for nobody: a token an hour needs no budget.
        let http = Http::new(Arc::new(Budget::per_minute(1)), clock)?;
        Ok(Self(Tokens::new(Login::of(http, application)?, None)))
    }

    /// A token that holds, by our clock: the kept one, or a new one. At most one token request, which ends in time.
    ///
    /// # Errors
    /// When there is none.
    pub async fn current(&self, patience: Duration) -> Result<ServiceToken, ServiceTokenError> {
        let token = self.0.current(self.0.mark(), Instant::now() + patience).await;
        token.map(ServiceToken).map_err(|error| ServiceTokenError::of(&error))
    }

    /// Another token than one that the service refused. `None` if that makes no sense: it was itself got in place of
    /// another, a moment ago.
    ///
    /// # Errors
    /// When there is none.
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

    /// The service has taken it: should it be refused later, it has ended, and a new one may help.
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
            // The other advice on a credential is about Partner Center.
            Error::Credential(refusal) if !refusal.is_from_login() => Self::Refused(refusal.to_string()),
            Error::Credential(_) => Self::Refused(error.to_string()),
            _ => Self::NotNow(error.to_string()),
        }
    }
}
