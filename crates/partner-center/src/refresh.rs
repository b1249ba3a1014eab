//! A user's refresh token: redeemed under the lock of its file, and replaced in it before anything else happens.

use std::io;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use super::api_error::ApiError;
use super::auth::Token;
use super::error::Error;
use super::login::{Login, TokenDenied, Version};
use super::token_file::{LockedTokenFile, StoredToken, TokenFile};

/// An access token for the user who signed in.
///
/// Whoever stops waiting stops nothing: what the server gave out is stored all the same. The replacement is on the disk
/// before the access token is given to anybody, because the old refresh token may die of its use. A process that is
/// killed in between has the old one, of which no use was made.
pub(super) async fn redeem(login: Arc<Login>, file: TokenFile, until: Instant) -> Result<Token, Error> {
    let task = tokio::spawn(async move {
        let path = file.path().display();
        let failed = |what: &str, error: &io::Error| Error::NoToken(format!("{what} {path}: {error}"));
        let held = file.lock(until).await.map_err(|error| failed("cannot lock", &error))?;
        let Some(held) = held else {
            return Err(Error::NoToken(format!("another vetwatch holds {path}")));
        };
        let Some(kept) = held.read().map_err(|error| failed("cannot read", &error))? else {
            return Err(Error::Credential(ApiError::ours("nobody has signed in for this partner")));
        };
        held.check_writable(&kept)
            .map_err(|error| failed("no refresh token is redeemed that cannot be stored:", &error))?;
        redeem_held(&login, &held, &kept, until).await
    });
    task.await.unwrap_or_else(|_| Err(Error::NoToken("renewing the token was interrupted".into())))
}

/// The current token or, if it is worth nothing, once the one before it: a replacement may be lost or spoilt, and Entra
/// ID says that it does not revoke the old one.
async fn redeem_held(
    login: &Login,
    held: &LockedTokenFile,
    kept: &StoredToken,
    until: Instant,
) -> Result<Token, Error> {
    let mut refused = None;
    for token in [Some(&kept.current), kept.previous.as_ref()].into_iter().flatten() {
        let form =
            [("grant_type", "refresh_token"), ("refresh_token", token.expose_secret()), ("resource", login.resource)];
        let granted = match login.grant(Version::V1, &form, until).await {
            Ok(granted) => granted,
            Err(denied) if is_worthless(&denied) => {
                refused = refused.or(Some(denied.error));
                continue;
            }
            Err(denied) => return Err(denied.error),
        };
        let new = match granted.refresh_token {
            Some(replacement) => Some(StoredToken::replaced(token, replacement, login.http.now())),
            // The one that is worth nothing need not be tried again.
            None if refused.is_some() => Some(StoredToken { current: token.clone(), previous: None, ..*kept }),
            None => None,
        };
        if let Some(new) = new {
            held.replace(&new).map_err(|error| {
                Error::NoToken(format!("the new refresh token cannot be stored, so nothing is done with it: {error}"))
            })?;
        }
        return Ok(granted.token);
    }
    Err(refused.unwrap_or_else(|| Error::NoToken("there is no refresh token".into())))
}

/// Whether the token itself is refused. What is wrong with the user, the application or its rights is so with any token.
fn is_worthless(denied: &TokenDenied) -> bool {
    const THE_TOKENS: [&str; 6] =
        ["AADSTS70000", "AADSTS70008", "AADSTS70043", "AADSTS700082", "AADSTS50173", "AADSTS9002313"];
    let Error::Credential(refusal) = &denied.error else { return false };
    denied.word.as_deref() == Some("invalid_grant") && refusal.code().is_none_or(|code| THE_TOKENS.contains(&code))
}
