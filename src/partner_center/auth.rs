//! Tokens: one for everybody, asked for by one at a time, renewed before its end, and once when it is refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use url::Url;
use uuid::Uuid;

use super::Credential;
use super::error::Error;
use super::http::{Failure, Http, Reply};
use super::json::{Json, Object};
use super::refusal::Refusal;
use crate::time::Timestamp;

/// A token is renewed this long before its end (after 80 % of its life, if that is later).
const EARLY: Duration = Duration::from_mins(5);

/// When a renewal failed while the token still holds: how long until the next try.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

/// A token that was refused from the start, though it is fresh, is not replaced sooner than this: it is not the
/// token's fault, and each customer's question would cost three requests.
const REFUSED_AFRESH: Duration = Duration::from_mins(5);

/// The life of a token that does not say, and the longest that is believed.
const LIFE_UNSAID: Duration = Duration::from_mins(5);
const LIFE_MAX: Duration = Duration::from_hours(24);

/// Shorter than the deadline of a call, so that the outcome is known to all who wait for it.
const REQUEST: Duration = Duration::from_secs(30);

pub(super) struct Tokens {
    http: Http,
    endpoint: Url,
    client_id: String,
    credential: Credential,
    resource: &'static str,
    kept: StdMutex<Option<Kept>>,
    /// Held by the one who asks for a token; the failure of the latest request, if it failed.
    flight: Mutex<Option<Failed>>,
    /// How many token requests have ended.
    ended: AtomicU64,
}

#[derive(Clone, Copy)]
pub(super) struct Mark(u64);

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
    obtained_at: Timestamp,
    ends_at: Timestamp,
    /// Obtained because Partner Center refused the one before it.
    is_replacement: bool,
    /// Partner Center has taken it at least once.
    worked: AtomicBool,
}

impl Token {
    pub(super) fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    pub(super) fn has_worked(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }
}

impl Tokens {
    pub(super) fn new(
        http: Http,
        endpoint: Url,
        client_id: String,
        credential: Credential,
        resource: &'static str,
    ) -> Self {
        let (kept, flight, ended) = (StdMutex::default(), Mutex::default(), AtomicU64::default());
        Self { http, endpoint, client_id, credential, resource, kept, flight, ended }
    }

    /// Where a call begins: a token request that fails after this mark is not tried again on behalf of this call.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.ended.load(Ordering::SeqCst))
    }

    /// A token that holds, by our clock. However many ask, one request is made; when it fails, all who waited for it
    /// get its error. A token that is due for renewal but has not ended yet is used while somebody renews it, and if
    /// the renewal fails.
    pub(super) async fn current(&self, mark: Mark, until: Instant) -> Result<Arc<Token>, Error> {
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let still_holds = self.unended();
        let mut flight = match (&still_holds, self.flight.try_lock()) {
            (_, Ok(flight)) => flight,
            (Some(token), Err(_)) => return Ok(Arc::clone(token)),
            (None, Err(_)) => timeout_at(until, self.flight.lock()).await.map_err(|_| timed_out())?,
        };
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let outcome = self.ask_unless_failed_since(&mut flight, mark, false, until).await;
        match (outcome, still_holds) {
            (Err(_), Some(token)) => {
                if let Some(kept) = self.kept().as_mut() {
                    kept.renew_at = self.http.now().after(RENEW_AGAIN);
                }
                Ok(token)
            }
            (outcome, _) => outcome,
        }
    }

    /// A token in place of one that Partner Center refused: the one that somebody else got meanwhile, or a new one.
    /// `None` if it makes no sense to ask for one: the refused token was itself such a replacement a moment ago.
    pub(super) async fn instead_of(
        &self,
        refused: &Arc<Token>,
        mark: Mark,
        until: Instant,
    ) -> Result<Option<Arc<Token>>, Error> {
        if let Some(token) = self.replaced(refused) {
            return Ok(Some(token));
        }
        let is_young = self.http.now().since(refused.obtained_at) < REFUSED_AFRESH;
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

    async fn ask_unless_failed_since(
        &self,
        failed: &mut Option<Failed>,
        mark: Mark,
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

    /// One token request.
    async fn ask(&self, is_replacement: bool, until: Instant) -> Result<Token, Error> {
        let Credential::ClientSecret(secret) = &self.credential;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", secret.expose_secret()),
            ("resource", self.resource),
        ];
        let id = Uuid::new_v4();
        let request = self.http.client().post(self.endpoint.clone()).form(&form);
        let request = request.header("Accept", "application/json").header("client-request-id", id.to_string());
        let reply = self.http.exchange(request, 64 * 1024, until).await.map_err(|failure| match failure {
            Failure::TimedOut => Error::NoToken("the login server did not answer in time".into()),
            Failure::Unreachable(why) => Error::NoToken(format!("the login server cannot be reached: {why}")),
            Failure::Broken(why) => Error::NoToken(format!("the login server's answer broke off: {why}")),
        })?;
        if !reply.is_success() {
            return Err(refused(&reply, id, secret.expose_secret()));
        }
        read(&reply, is_replacement).ok_or_else(|| Error::NoToken("the login server's answer is not a token".into()))
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> Option<Arc<Token>> {
        let now = self.http.now();
        self.kept().as_ref().filter(|kept| now < kept.renew_at).map(|kept| Arc::clone(&kept.token))
    }

    fn unended(&self) -> Option<Arc<Token>> {
        let now = self.http.now();
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

/// The login server's no: for now (5xx, 408, a redirect, "temporarily unavailable"), or for good.
fn refused(reply: &Reply, id: Uuid, secret: &str) -> Error {
    let answer = Refusal::read(reply.status, &reply.body, Some(id), &[secret]);
    let body = Json::parse(&reply.body);
    let error = body.as_ref().and_then(Json::as_object).and_then(|object| object.get("error").ok().flatten());
    let is_temporary = error.and_then(Json::as_text) == Some("temporarily_unavailable");
    match reply.status {
        429 => Error::Throttled { wait: reply.retry_after(), answer },
        503 if reply.retry_after().is_some() => Error::Throttled { wait: reply.retry_after(), answer },
        400..=499 if reply.status != 408 && !is_temporary => Error::Credential(answer),
        _ => Error::NoToken(answer.to_string()),
    }
}

/// A token that can be put into a header, and its life: `expires_in`, which v1 writes as a string and v2 as a number.
fn read(reply: &Reply, is_replacement: bool) -> Option<Token> {
    let body = Json::parse(&reply.body)?;
    let object: &Object = body.as_object()?;
    let token = object.get("access_token").ok()??.as_text()?;
    let is_bearer = match object.get("token_type").ok()? {
        Some(kind) => kind.as_text()?.eq_ignore_ascii_case("bearer"),
        None => true,
    };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) || !is_bearer {
        return None;
    }
    let life = match object.get("expires_in").ok()? {
        Some(Json::Number(seconds) | Json::Text(seconds)) => seconds.trim().parse().map(Duration::from_secs).ok(),
        _ => None,
    };
    let obtained_at = reply.began_at;
    let ends_at = obtained_at.after(life.unwrap_or(LIFE_UNSAID).min(LIFE_MAX));
    let secret = SecretString::from(token);
    Some(Token { secret, obtained_at, ends_at, is_replacement, worked: AtomicBool::new(false) })
}
