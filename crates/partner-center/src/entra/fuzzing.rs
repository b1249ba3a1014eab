//! The fuzz target of what Entra ID, the metadata service and a browser say in a sign-in.

use secrecy::ExposeSecret;
use uuid::Uuid;

use super::sign_in::SignedIn;
use super::{browser_login, device_login, login, managed_identity, token_file};
use crate::fuzzing::{SECRET, is_line, reply, shows_secret};
use vetwatch_core::redact::Known;

/// As [`reply`]; the body is also read as a browser's request.
pub(crate) fn sign_in(input: &[u8]) {
    let _known = Known::of([SECRET]);
    let Some(reply) = reply(input) else { return };
    if let Some(granted) = login::read(&reply) {
        let tokens = [Some(granted.token.expose()), granted.refresh_token.as_ref().map(ExposeSecret::expose_secret)];
        assert!(tokens.into_iter().flatten().all(token_file::is_token), "a token that fits no header");
        assert!(granted.token.ends_at >= reply.began_at, "a token that ends before it begins");
        let user = SignedIn::of(&granted.token).user;
        assert!(user.is_none_or(|user| is_line(&user, 200)), "the user's name is no line");
    }
    let denied = login::refused(&reply, Uuid::nil()).error;
    assert!(is_line(&denied.to_string(), 1000), "{denied}");
    assert!(!shows_secret(&format!("{denied} {denied:?}")), "{denied:?}");
    if let Some((prompt, _, interval)) = device_login::read(&reply.body) {
        assert!(is_line(&prompt.url, 200) && is_line(&prompt.code, 40), "{prompt:?}");
        assert!(!shows_secret(&format!("{prompt:?}")), "{prompt:?}");
        assert!((1..=60).contains(&interval.as_secs()) && prompt.life.as_secs() <= 3600, "{interval:?} {prompt:?}");
    }
    assert!(managed_identity::read(&reply.body).is_none_or(|token| token_file::is_token(&token)));
    if let Some(browser_login::Returned::Error { word, description }) = browser_login::read(&reply.body, "state") {
        let refused = browser_login::refused(&word, &description).to_string();
        assert!(is_line(&refused, 1000) && !shows_secret(&refused), "{refused}");
    }
}
