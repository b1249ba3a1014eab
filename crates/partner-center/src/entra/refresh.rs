//! Redeems a user's refresh token, under its file's lock; the replacement is stored before anything else happens.

use std::io;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use super::login::{Login, TokenDenied};
use super::token_file::{LockedTokenFile, StoredToken, TokenFile};
use super::tokens::Token;
use crate::api_error::ApiError;
use crate::error::Error;

/// Fetches an access token for the signed-in user.
///
/// Cancellation-safe: what the server issued is stored even if the caller stops waiting. The replacement is on disk
/// before the access token is returned, because redeeming may invalidate the old refresh token. A process killed in
/// between leaves the old one, whose access token was never used.
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

/// Redeems the current token or, if it is worthless, once its predecessor: a replacement may be lost or corrupt, and
/// Entra ID documents that it does not revoke the old one.
async fn redeem_held(
    login: &Login,
    held: &LockedTokenFile,
    kept: &StoredToken,
    until: Instant,
) -> Result<Token, Error> {
    let mut refused = None;
    for token in [Some(&kept.current), kept.previous.as_ref()].into_iter().flatten() {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.expose_secret())];
        let granted = match login.grant_user(&form, until).await {
            Ok(granted) => granted,
            Err(denied) if is_worthless(&denied) => {
                refused = refused.or(Some(denied.error));
                continue;
            }
            Err(denied) => return Err(denied.error),
        };
        let new = match granted.refresh_token {
            Some(replacement) => Some(StoredToken::replaced(token, replacement, login.http.now())),
            // Drop the worthless token, so that it is not tried again.
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

/// True if the token itself is rejected. A fault of the user, the application or its rights would affect any token.
fn is_worthless(denied: &TokenDenied) -> bool {
    const THE_TOKENS: [&str; 6] =
        ["AADSTS70000", "AADSTS70008", "AADSTS70043", "AADSTS700082", "AADSTS50173", "AADSTS9002313"];
    let Error::Credential(refusal) = &denied.error else { return false };
    denied.word.as_deref() == Some("invalid_grant") && refusal.code().is_none_or(|code| THE_TOKENS.contains(&code))
}
