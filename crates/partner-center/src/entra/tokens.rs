//! Access tokens: one shared by all calls, fetched by one request at a time, renewed before it expires and once when it
//! is rejected.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::application::Application;
use super::login::Login;
use super::refresh;
use super::token_file::TokenFile;
use crate::error::Error;
use crate::http::{Http, SetupError};
use vetwatch_core::redact::Known;
use vetwatch_core::retry::is_logged;
use vetwatch_core::time::{Clock, Timestamp};

/// How long before its expiry a token is renewed (or at 80 % of its lifetime, if that is later).
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_mins(5);

/// Pause after a failed renewal while the token is still valid.
const RENEWAL_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Minimum age of a replacement token before it is replaced in turn, if it was never accepted: the token is not at
/// fault, and each customer's poll would cost three requests.
const MIN_REPLACEMENT_INTERVAL: Duration = Duration::from_mins(5);

/// Shorter than a call's timeout, so that all waiters learn the outcome.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of a renewal while the old token is valid.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The tokens of one application: one shared by all callers, cached until shortly before it expires.
pub struct Tokens {
    login: Arc<Login>,
    /// `None` for the application's own tokens.
    user: Option<TokenFile>,
    cached: StdMutex<Option<Cached>>,
    /// Held during a token request; holds the failure of the latest one, if it failed.
    in_flight: Mutex<Option<Failed>>,
    /// Number of completed token requests.
    completed: AtomicU64,
}

/// When a call began, counted in token requests.
#[derive(Debug, Clone, Copy)]
pub struct RequestEpoch(u64);

struct Cached {
    token: Arc<Token>,
    renew_at: Timestamp,
    /// Renewals that failed since it was obtained.
    failures: u32,
}

struct Failed {
    /// Sequence number of the token request, from 1.
    number: u64,
    error: Error,
}

/// Only [`Token::expose`] shows it.
pub struct Token {
    secret: SecretString,
    _known: Known,
    obtained_at: Timestamp,
    pub(super) ends_at: Timestamp,
    /// Obtained because the service rejected its predecessor.
    is_replacement: bool,
    /// The service accepted it at least once.
    accepted: AtomicBool,
}

impl Token {
    pub(super) fn new(token: &str, obtained_at: Timestamp, life: Duration) -> Self {
        let (secret, ends_at) = (SecretString::from(token), obtained_at.after(life));
        let known = Known::of([token]);
        Self { secret, _known: known, obtained_at, ends_at, is_replacement: false, accepted: AtomicBool::new(false) }
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// The service accepted the token: if it is rejected later, it has expired, and a new one may help.
    pub fn mark_accepted(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }
}

impl Tokens {
    /// The application's own tokens, counted against no budget. Sends nothing.
    ///
    /// # Errors
    /// If the system's certificates cannot be read, or the tenant does not fit into the URL.
    pub fn of_application(application: &Application, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        Self::new(Http::new(None, application.proxy.as_ref(), clock)?, application, None)
    }

    pub(crate) fn new(http: Http, application: &Application, user: Option<TokenFile>) -> Result<Self, SetupError> {
        let (cached, in_flight, completed) = (StdMutex::default(), Mutex::default(), AtomicU64::default());
        Ok(Self { login: Arc::new(Login::new(http, application)?), user, cached, in_flight, completed })
    }

    /// Marks the start of a call: a token request that fails later is not repeated for this call.
    pub fn mark(&self) -> RequestEpoch {
        RequestEpoch(self.completed.load(Ordering::SeqCst))
    }

    /// Returns a token that is valid by our clock. Concurrent callers share one request, and its error if it fails. A
    /// token due for renewal but not expired is used while the renewal runs, and if it fails.
    ///
    /// # Errors
    /// If no token can be obtained.
    pub async fn current(&self, epoch: RequestEpoch, until: Instant) -> Result<Arc<Token>, Error> {
        if let Some(token) = self.valid() {
            return Ok(token);
        }
        let old_token = self.unexpired();
        let mut in_flight = match (&old_token, self.in_flight.try_lock()) {
            (_, Ok(in_flight)) => in_flight,
            (Some(token), Err(_)) => return Ok(Arc::clone(token)),
            (None, Err(_)) => timeout_at(until, self.in_flight.lock()).await.map_err(|_| timed_out())?,
        };
        if let Some(token) = self.valid() {
            return Ok(token);
        }
        let until = if old_token.is_some() { until.min(Instant::now() + RENEWAL_TIMEOUT) } else { until };
        let outcome = self.request_unless_failed_since(&mut in_flight, epoch, false, until).await;
        match (outcome, old_token) {
            (Err(error), Some(token)) => {
                if let Some(cached) = self.cached().as_mut() {
                    cached.renew_at = self.login.http.now().after(RENEWAL_RETRY_AFTER);
                    cached.failures += 1;
                    if is_logged(cached.failures) {
                        let (failures, until) = (cached.failures, token.ends_at);
                        warn!(failures, "a token could not be renewed; the old one holds until {until}: {error}");
                    }
                }
                Ok(token)
            }
            (outcome, _) => outcome,
        }
    }

    /// Replaces a token that the service rejected: by one fetched meanwhile, or by a new one. `None` if another one
    /// would not help: the rejected token was itself a replacement, obtained a moment ago.
    ///
    /// # Errors
    /// If no token can be obtained.
    pub async fn replace_rejected(
        &self,
        rejected: &Arc<Token>,
        epoch: RequestEpoch,
        until: Instant,
    ) -> Result<Option<Arc<Token>>, Error> {
        if let Some(token) = self.replaced(rejected) {
            return Ok(Some(token));
        }
        let is_young = self.login.http.now().since(rejected.obtained_at) < MIN_REPLACEMENT_INTERVAL;
        if rejected.is_replacement && is_young && !rejected.accepted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut in_flight = timeout_at(until, self.in_flight.lock()).await.map_err(|_| timed_out())?;
        if let Some(token) = self.replaced(rejected) {
            return Ok(Some(token));
        }
        // Do not hand it out again, even if the request fails.
        self.cached().take();
        self.request_unless_failed_since(&mut in_flight, epoch, true, until).await.map(Some)
    }

    /// Never returns this token again.
    pub(crate) fn forget(&self, token: &Arc<Token>) {
        self.cached().take_if(|cached| Arc::ptr_eq(&cached.token, token));
    }

    async fn request_unless_failed_since(
        &self,
        failed: &mut Option<Failed>,
        epoch: RequestEpoch,
        is_replacement: bool,
        until: Instant,
    ) -> Result<Arc<Token>, Error> {
        if let Some(failed) = failed.as_ref().filter(|failed| failed.number > epoch.0) {
            return Err(failed.error.clone());
        }
        let outcome = self.request(is_replacement, until.min(Instant::now() + REQUEST_TIMEOUT)).await;
        let number = self.completed.fetch_add(1, Ordering::SeqCst) + 1;
        *failed = outcome.as_ref().err().map(|error| Failed { number, error: error.clone() });
        let token = Arc::new(outcome?);
        let life = token.ends_at.since(token.obtained_at);
        let renew_at = token.obtained_at.after(life.saturating_sub(RENEW_BEFORE_EXPIRY).max(life * 4 / 5));
        *self.cached() = Some(Cached { token: Arc::clone(&token), renew_at, failures: 0 });
        Ok(token)
    }

    /// Sends one token request; for a user at most two, the first of which redeems the refresh token.
    async fn request(&self, is_replacement: bool, until: Instant) -> Result<Token, Error> {
        let token = if let Some(file) = &self.user {
            refresh::redeem(Arc::clone(&self.login), file.clone(), until).await
        } else {
            let granted = self.login.grant(&[("grant_type", "client_credentials")], until).await;
            granted.map(|granted| granted.token).map_err(|denied| denied.error)
        };
        token.map(|token| Token { is_replacement, ..token })
    }

    fn cached(&self) -> MutexGuard<'_, Option<Cached>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn valid(&self) -> Option<Arc<Token>> {
        let now = self.login.http.now();
        self.cached().as_ref().filter(|cached| now < cached.renew_at).map(|cached| Arc::clone(&cached.token))
    }

    fn unexpired(&self) -> Option<Arc<Token>> {
        let now = self.login.http.now();
        self.cached().as_ref().map(|cached| &cached.token).filter(|token| now < token.ends_at).cloned()
    }

    fn replaced(&self, rejected: &Arc<Token>) -> Option<Arc<Token>> {
        self.cached().as_ref().map(|cached| &cached.token).filter(|token| !Arc::ptr_eq(token, rejected)).cloned()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The caller's deadline passed while another request for the token was in flight.
fn timed_out() -> Error {
    Error::NoToken("the login server did not answer in time".into())
}
