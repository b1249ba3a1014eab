//! What the ways of signing in a user have in common: the result, the errors, and that the refresh token is stored.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio::time::Instant;

use super::login::{Login, TokenGrant};
use super::token_file::{StoredToken, TokenFile};
use super::tokens::Token;
use crate::error::Error;
use crate::http::SetupError;
use crate::json::Json;
use vetwatch_core::redact;
use vetwatch_core::text::short_line;

/// One request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// From the token; for display only.
    pub user: Option<String>,
    /// Whether the token shows a second factor. `None` if it does not say.
    pub mfa: Option<bool>,
}

/// Why the sign-in failed. What was stored before is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("no user signs in for this partner")]
    NoUser,
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("nobody signed in in time")]
    Expired,
    #[error("the person has declined")]
    Declined,
    /// An error of OAuth that has no code of Entra ID.
    #[error("the login server sent the browser back without a code: {0}")]
    SentBack(String),
    #[error("the login server gave no refresh token")]
    NoRefreshToken,
    #[error("the refresh token cannot be stored in {path}")]
    Store { path: String, source: io::Error },
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen { port: u16, source: io::Error },
}

/// Stores the refresh token. The previous one is dropped: it may be another user's.
pub(super) async fn store(login: &Login, file: &TokenFile, granted: TokenGrant) -> Result<SignedIn, SignInError> {
    let signed_in = SignedIn::of(&granted.token);
    let current = granted.refresh_token.ok_or(SignInError::NoRefreshToken)?;
    let kept = StoredToken { current, previous: None, obtained_at: login.http.now() };
    let failed = |source| SignInError::Store { path: file.path().display().to_string(), source };
    // The daemon holds the lock for one or two requests.
    let held = file.lock(Instant::now() + 3 * REQUEST_TIMEOUT).await.map_err(failed)?;
    let held = held.ok_or_else(|| failed(io::Error::other("another vetwatch holds it")))?;
    held.replace(&kept).map_err(failed)?;
    Ok(signed_in)
}

impl SignedIn {
    /// Reads the access token's claims. Microsoft warns against relying on them, and nothing here does.
    pub(super) fn of(token: &Token) -> Self {
        let claims = token.expose().split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
        let claims = claims.and_then(|claims| Json::parse(&claims));
        let object = claims.as_ref().and_then(Json::as_object);
        let get = |key| object.and_then(|object| object.get(key).ok().flatten());
        let user = ["upn", "unique_name"].into_iter().find_map(|key| get(key).and_then(Json::as_text));
        let mfa = match get("amr") {
            Some(Json::List(methods)) => {
                Some(methods.iter().filter_map(Json::as_text).any(|method| method.ends_with("mfa")))
            }
            _ => None,
        };
        Self { user: user.map(|user| redact::words(&short_line(user, 100))).filter(|user| !user.is_empty()), mfa }
    }
}
