//! Sign-in with a browser: the authorization page, and the codes that it gives out (RFC 6749 with PKCE, RFC 7636).
//!
//! Nobody types a password: a person who opens the page is the user, and is signed in or declines at once.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::LOCATION;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use url::Url;

use super::super::errors::Reply;
use super::refusal::Refusal;
use super::sign_in::made_up;
use vetwatch_core::time::Timestamp;

/// Microsoft: about 10 minutes.
const LIFE: Duration = Duration::from_mins(10);
const HTML: &str = "text/html; charset=utf-8";

/// An authorization code that was given out.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) scope: String,
    pub(super) nonce: Option<String>,
    redirect_uri: String,
    challenge: Option<String>,
    expires_at: Timestamp,
    redeemed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Codes(HashMap<String, Code>);

impl Codes {
    /// Responds to `GET …/authorize`. `refusal` is what Entra ID sends back to the application instead of a code.
    pub(super) fn authorize(
        &mut self,
        form: &HashMap<String, String>,
        refusal: Option<Refusal>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let text = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let redirect_uri = text("redirect_uri").unwrap_or_default();
        let target = Url::parse(redirect_uri).ok().filter(|url| url.scheme() == "http" && is_loopback(url));
        let Some(target) = target else {
            let text = format!(
                "The redirect URI '{redirect_uri}' specified in the request does not match the redirect URIs \
                 configured for the application. The sandbox knows http://localhost, with any port."
            );
            return Err(Refusal::new(400, "invalid_request", 50011, text));
        };
        if text("response_type") != Some("code") {
            let text = "The sandbox gives out codes only: response_type must be code.";
            return Err(Refusal::new(400, "unsupported_response_type", 700_054, text));
        }
        let challenge = text("code_challenge").map(str::to_owned);
        if challenge.is_some() && text("code_challenge_method") != Some("S256") {
            let text = "The code_challenge_method must be S256.";
            return Err(Refusal::new(400, "invalid_request", 501_491, text));
        }
        let mut answer: Vec<(&str, String)> = if let Some(refusal) = refusal {
            vec![("error", refusal.word().to_owned()), ("error_description", refusal.description(now))]
        } else {
            let code = format!("1.{}", made_up(600));
            let kept = Code {
                scope: text("scope").unwrap_or_default().to_owned(),
                nonce: text("nonce").map(str::to_owned),
                redirect_uri: redirect_uri.to_owned(),
                challenge,
                expires_at: now.after(LIFE),
                redeemed: false,
            };
            self.0.insert(code.clone(), kept);
            vec![("code", code)]
        };
        answer.extend(text("state").map(|state| ("state", state.to_owned())));
        if text("response_mode") == Some("form_post") {
            return Ok(form_post(redirect_uri, &answer));
        }
        let mut target = target;
        target.query_pairs_mut().extend_pairs(&answer);
        Ok(Reply::empty(StatusCode::FOUND).with(LOCATION, target.as_str()))
    }

    pub(super) fn redeem(&mut self, form: &HashMap<String, String>, now: Timestamp) -> Result<&Code, Refusal> {
        let text = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let Some(code) = self.0.get_mut(text("code")) else {
            return Err(Refusal::of_grant(9_002_313, "Invalid request. Request is malformed or invalid."));
        };
        if code.redeemed {
            return Err(Refusal::of_grant(54005, "OAuth2 Authorization code was already redeemed."));
        }
        if code.expires_at <= now {
            let text = "The provided authorization code or refresh token has expired due to inactivity.";
            return Err(Refusal::of_grant(70008, text));
        }
        if code.redirect_uri != text("redirect_uri") {
            return Err(Refusal::of_grant(500_112, "The reply address does not match the one of the code."));
        }
        let verified = BASE64_URL_SAFE_NO_PAD
            .encode(ring::digest::digest(&ring::digest::SHA256, text("code_verifier").as_bytes()));
        if code.challenge.as_ref().is_some_and(|challenge| *challenge != verified) {
            let text = "The Code_Verifier does not match the code_challenge supplied in the authorization request.";
            return Err(Refusal::of_grant(501_481, text));
        }
        code.redeemed = true;
        Ok(code)
    }
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1"))
}

/// A page whose form a browser sends by itself.
fn form_post(redirect_uri: &str, answer: &[(&str, String)]) -> Reply {
    let escape = |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let field =
        |(name, value): &(&str, String)| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value));
    let fields: String = answer.iter().map(field).collect();
    let action = escape(redirect_uri);
    let body = format!(
        "<html><body onload=\"document.forms[0].submit()\"><form method=\"post\" action=\"{action}\">{fields}\
         <noscript><button>Continue</button></noscript></form></body></html>"
    );
    Reply::new(StatusCode::OK, HTML, body)
}
