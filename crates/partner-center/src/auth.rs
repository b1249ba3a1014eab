//! Tokens: one for everybody, asked for by one at a time, renewed before its end, and once when it is refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::error::Error;
use super::login::{Login, Version};
use super::refresh;
use super::token_file::TokenFile;
use vetwatch_core::redact::Known;
use vetwatch_core::time::Timestamp;

/// A token is renewed this long before its end (after 80 % of its life, if that is later).
const EARLY: Duration = Duration::from_mins(5);

/// When a renewal failed while the token still holds: how long until the next try.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

/// A token that was refused from the start, though it is fresh, is not replaced sooner than this: it is not the
/// token's fault, and each customer's question would cost three requests.
const MIN_REPLACEMENT_INTERVAL: Duration = Duration::from_mins(5);

/// Shorter than the deadline of a call, so that the outcome is known to all who wait for it.
const REQUEST: Duration = Duration::from_secs(30);
/// While the old token holds, the one call that renews it does not wait longer than this.
const RENEWAL: Duration = Duration::from_secs(10);

pub(super) struct Tokens {
    login: Arc<Login>,
    /// `None`: the application asks for itself.
    user: Option<TokenFile>,
    kept: StdMutex<Option<Kept>>,
    /// Held by the one who asks for a token; the failure of the latest request, if it failed.
    flight: Mutex<Option<Failed>>,
    /// How many token requests have ended.
    ended: AtomicU64,
}

#[derive(Clone, Copy)]
pub(super) struct RequestEpoch(u64);

struct Kept {
    token: Arc<Token>,
    renew_at: Timestamp,
}

struct Failed {
    /// Which token request it was, counted from 1.
    number: u64,
    error: Error,
}

pub(super) struct Token {
    secret: SecretString,
    _known: Known,
    obtained_at: Timestamp,
    ends_at: Timestamp,
    /// Obtained because Partner Center refused the one before it.
    is_replacement: bool,
    /// Partner Center has taken it at least once.
    worked: AtomicBool,
}

impl Token {
    pub(super) fn new(token: &str, obtained_at: Timestamp, life: Duration) -> Self {
        let (secret, ends_at) = (SecretString::from(token), obtained_at.after(life));
        let known = Known::of([token]);
        Self { secret, _known: known, obtained_at, ends_at, is_replacement: false, worked: AtomicBool::new(false) }
    }

    pub(super) fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    pub(super) fn mark_accepted(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }
}

impl Tokens {
    pub(super) fn new(login: Login, user: Option<TokenFile>) -> Self {
        let (kept, flight, ended) = (StdMutex::default(), Mutex::default(), AtomicU64::default());
        Self { login: Arc::new(login), user, kept, flight, ended }
    }

    /// Where a call begins: a token request that fails after this mark is not tried again on behalf of this call.
    pub(super) fn mark(&self) -> RequestEpoch {
        RequestEpoch(self.ended.load(Ordering::SeqCst))
    }

    /// A token that holds, by our clock. However many ask, one request is made; when it fails, all who waited for it
    /// get its error. A token that is due for renewal but has not ended yet is used while somebody renews it, and if
    /// the renewal fails.
    pub(super) async fn current(&self, mark: RequestEpoch, until: Instant) -> Result<Arc<Token>, Error> {
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let still_holds = self.unexpired();
        let mut flight = match (&still_holds, self.flight.try_lock()) {
            (_, Ok(flight)) => flight,
            (Some(token), Err(_)) => return Ok(Arc::clone(token)),
            (None, Err(_)) => timeout_at(until, self.flight.lock()).await.map_err(|_| timed_out())?,
        };
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let until = if still_holds.is_some() { until.min(Instant::now() + RENEWAL) } else { until };
        let outcome = self.ask_unless_failed_since(&mut flight, mark, false, until).await;
        match (outcome, still_holds) {
            (Err(error), Some(token)) => {
                warn!("a token could not be renewed; the old one holds until {}: {error}", token.ends_at);
                if let Some(kept) = self.kept().as_mut() {
                    kept.renew_at = self.login.http.now().after(RENEW_AGAIN);
                }
                Ok(token)
            }
            (outcome, _) => outcome,
        }
    }

    /// A token in place of one that Partner Center refused: the one that somebody else got meanwhile, or a new one.
    /// `None` if it makes no sense to ask for one: the refused token was itself such a replacement a moment ago.
    pub(super) async fn replace_rejected(
        &self,
        refused: &Arc<Token>,
        mark: RequestEpoch,
        until: Instant,
    ) -> Result<Option<Arc<Token>>, Error> {
        if let Some(token) = self.replaced(refused) {
            return Ok(Some(token));
        }
        let is_young = self.login.http.now().since(refused.obtained_at) < MIN_REPLACEMENT_INTERVAL;
        if refused.is_replacement && is_young && !refused.worked.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut flight = timeout_at(until, self.flight.lock()).await.map_err(|_| timed_out())?;
        if let Some(token) = self.replaced(refused) {
            return Ok(Some(token));
        }
        // Nobody is to be given it again, whatever becomes of the request.
        self.kept().take();
        self.ask_unless_failed_since(&mut flight, mark, true, until).await.map(Some)
    }

    /// Nobody is to be given this one again.
    pub(super) fn forget(&self, token: &Arc<Token>) {
        self.kept().take_if(|kept| Arc::ptr_eq(&kept.token, token));
    }

    async fn ask_unless_failed_since(
        &self,
        failed: &mut Option<Failed>,
        mark: RequestEpoch,
        is_replacement: bool,
        until: Instant,
    ) -> Result<Arc<Token>, Error> {
        if let Some(failed) = failed.as_ref().filter(|failed| failed.number > mark.0) {
            return Err(failed.error.clone());
        }
        let outcome = self.ask(is_replacement, until.min(Instant::now() + REQUEST)).await;
        let number = self.ended.fetch_add(1, Ordering::SeqCst) + 1;
        *failed = outcome.as_ref().err().map(|error| Failed { number, error: error.clone() });
        let token = Arc::new(outcome?);
        let life = token.ends_at.since(token.obtained_at);
        let renew_at = token.obtained_at.after(life.saturating_sub(EARLY).max(life * 4 / 5));
        *self.kept() = Some(Kept { token: Arc::clone(&token), renew_at });
        Ok(token)
    }

    /// One token request; of a user at most two, of which the first redeems the refresh token.
    async fn ask(&self, is_replacement: bool, until: Instant) -> Result<Token, Error> {
        let token = if let Some(file) = &self.user {
            refresh::redeem(Arc::clone(&self.login), file.clone(), until).await
        } else {
            let (version, what) = match &self.login.scope {
                Some(scope) => (Version::V2, ("scope", scope.as_str())),
                None => (Version::V1, ("resource", self.login.resource)),
            };
            let form = [("grant_type", "client_credentials"), what];
            let granted = self.login.grant(version, &form, until).await;
            granted.map(|granted| granted.token).map_err(|denied| denied.error)
        };
        token.map(|token| Token { is_replacement, ..token })
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> Option<Arc<Token>> {
        let now = self.login.http.now();
        self.kept().as_ref().filter(|kept| now < kept.renew_at).map(|kept| Arc::clone(&kept.token))
    }

    fn unexpired(&self) -> Option<Arc<Token>> {
        let now = self.login.http.now();
        self.kept().as_ref().map(|kept| &kept.token).filter(|token| now < token.ends_at).cloned()
    }

    fn replaced(&self, refused: &Arc<Token>) -> Option<Arc<Token>> {
        self.kept().as_ref().map(|kept| &kept.token).filter(|token| !Arc::ptr_eq(token, refused)).cloned()
    }
}

/// The caller's deadline passed while somebody else was asking for the token.
fn timed_out() -> Error {
    Error::NoToken("the login server did not answer in time".into())
}
