//! Microsoft Entra's token endpoint, v1 and v2, for client credentials.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::errors::Reply;
use crate::time::Timestamp;

/// What tokens for the API are asked for.
pub const RESOURCE: &str = "https://api.partnercenter.microsoft.com";
/// Entra still gives tokens for it; Partner Center has refused them since 2025-08-31.
const RETIRED_RESOURCE: &str = "https://graph.windows.net";
/// Beyond this many, tokens that have expired are forgotten.
const MANY: usize = 10_000;

/// What is right with a request's `Authorization`, or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Authorization {
    Valid,
    Missing,
    /// Not a token that this sandbox gave out.
    Unknown,
    Expired,
    Revoked,
    /// A good token for something else, such as graph.windows.net.
    WrongAudience,
    /// The token endpoint asks for none.
    NotNeeded,
}

#[derive(Debug)]
struct Token {
    expires_at: Timestamp,
    revoked: bool,
    for_partner_center: bool,
}

#[derive(Debug)]
pub(super) struct Entra {
    tenant: String,
    client_id: String,
    client_secret: String,
    secret_expired: bool,
    lifetime: Duration,
    tokens: HashMap<String, Token>,
}

impl Entra {
    pub(super) fn new(tenant: String, client_id: String, client_secret: String, lifetime: Duration) -> Self {
        Self { tenant, client_id, client_secret, secret_expired: false, lifetime, tokens: HashMap::new() }
    }

    pub(super) fn set_secret(&mut self, secret: String) {
        (self.client_secret, self.secret_expired) = (secret, false);
    }

    pub(super) fn expire_secret(&mut self) {
        self.secret_expired = true;
    }

    /// Of tokens given out from now on.
    pub(super) fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
    }

    /// Makes every token given out so far worthless; returns how many there were.
    pub(super) fn revoke(&mut self) -> usize {
        self.tokens.values_mut().for_each(|token| token.revoked = true);
        self.tokens.len()
    }

    pub(super) fn check(&self, header: Option<&str>, now: Timestamp) -> Authorization {
        let Some(header) = header else { return Authorization::Missing };
        let Some((scheme, token)) = header.split_once(' ') else { return Authorization::Unknown };
        match self.tokens.get(token.trim()) {
            Some(_) if !scheme.eq_ignore_ascii_case("bearer") => Authorization::Unknown,
            None => Authorization::Unknown,
            Some(token) if token.revoked => Authorization::Revoked,
            Some(token) if token.expires_at <= now => Authorization::Expired,
            Some(token) if !token.for_partner_center => Authorization::WrongAudience,
            Some(_) => Authorization::Valid,
        }
    }

    /// Answers `POST /{tenant}/oauth2/token` or, if `v2`, `…/oauth2/v2.0/token`.
    pub(super) fn answer(&mut self, tenant: &str, v2: bool, form: &[u8], now: Timestamp) -> Reply {
        let form: HashMap<String, String> = url::form_urlencoded::parse(form).into_owned().collect();
        self.grant(tenant, v2, &form, now).unwrap_or_else(|refusal| refusal.into_reply(now))
    }

    fn grant(
        &mut self,
        tenant: &str,
        v2: bool,
        form: &HashMap<String, String>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let parameter = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let required = |name: &str| {
            let text = || format!("The request body must contain the following parameter: '{name}'.");
            parameter(name).ok_or_else(|| Refusal::new(400, "invalid_request", 900_144, text()))
        };
        if !tenant.eq_ignore_ascii_case(&self.tenant) {
            let text = format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into \
                 the correct cloud. Check with your subscription administrator, this may happen if there are no \
                 active subscriptions for the tenant."
            );
            return Err(Refusal::new(400, "invalid_request", 90002, text));
        }
        let grant = required("grant_type")?;
        if grant != "client_credentials" {
            let text = format!("The app requested an unsupported grant type '{grant}'.");
            return Err(Refusal::new(400, "unsupported_grant_type", 70003, text));
        }
        let client_id = required("client_id")?;
        if !client_id.eq_ignore_ascii_case(&self.client_id) {
            let text = format!(
                "Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can \
                 happen if the application has not been installed by the administrator of the tenant or consented \
                 to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
            );
            return Err(Refusal::new(400, "unauthorized_client", 700_016, text));
        }
        let resource = if v2 {
            let scope = required("scope")?;
            scope.strip_suffix("/.default").ok_or_else(|| {
                let text = format!(
                    "The provided value for scope {scope} is not valid. Client credential flows must have a scope \
                     value with /.default suffixed to the resource identifier (application ID URI)."
                );
                Refusal::new(400, "invalid_scope", 1_002_012, text)
            })?
        } else {
            required("resource")?
        };
        let resource = resource.trim_end_matches('/');
        if resource != RESOURCE && resource != RETIRED_RESOURCE {
            let text = format!(
                "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen \
                 if the application has not been installed by the administrator of the tenant or consented to by any \
                 user in the tenant. You might have sent your authentication request to the wrong tenant."
            );
            return Err(Refusal::new(400, "invalid_resource", 500_011, text));
        }
        let Some(secret) = parameter("client_secret") else {
            let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
            return Err(Refusal::new(401, "invalid_client", 7_000_218, text.into()));
        };
        if secret != self.client_secret {
            let text = format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
                 value, not the client secret ID, for a secret added to app '{client_id}'."
            );
            return Err(Refusal::new(401, "invalid_client", 7_000_215, text));
        }
        if self.secret_expired {
            let text = format!(
                "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create \
                 new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials \
                 for added security: https://aka.ms/certCreds."
            );
            return Err(Refusal::new(401, "invalid_client", 7_000_222, text));
        }
        Ok(self.issue(v2, resource, now))
    }

    fn issue(&mut self, v2: bool, resource: &str, now: Timestamp) -> Reply {
        if self.tokens.len() >= MANY {
            self.tokens.retain(|_, token| token.expires_at > now && !token.revoked);
        }
        let access_token = made_up_token();
        let expires_at = now.after(self.lifetime);
        let token = Token { expires_at, revoked: false, for_partner_center: resource == RESOURCE };
        self.tokens.insert(access_token.clone(), token);
        let seconds = self.lifetime.as_secs();
        let body = if v2 {
            json!({
                "token_type": "Bearer",
                "expires_in": seconds,
                "ext_expires_in": seconds,
                "access_token": access_token,
            })
        } else {
            // v1 writes its numbers as strings.
            json!({
                "token_type": "Bearer",
                "expires_in": seconds.to_string(),
                "ext_expires_in": seconds.to_string(),
                "expires_on": expires_at.as_secs().to_string(),
                "not_before": now.before(Duration::from_mins(5)).as_secs().to_string(),
                "resource": resource,
                "access_token": access_token,
            })
        };
        sealed(Reply::json(StatusCode::OK, &body), Uuid::new_v4())
    }
}

/// Shaped like a JWT, as long as one, and as opaque as a client must take it.
fn made_up_token() -> String {
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"RS256","x5t":"sandbox","kid":"sandbox"}"#);
    let random = |length| BASE64_URL_SAFE_NO_PAD.encode((0..length).map(|_| fastrand::u8(..)).collect::<Vec<_>>());
    format!("{header}.{}.{}", random(600), random(256))
}

#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: &'static str,
    code: u32,
    text: String,
}

impl Refusal {
    fn new(status: u16, error: &'static str, code: u32, text: String) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap_or_default(), error, code, text }
    }

    fn into_reply(self, now: Timestamp) -> Reply {
        let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
        let timestamp = now.to_utc().format("%Y-%m-%d %H:%M:%SZ").to_string();
        let Self { status, error, code, text } = self;
        let body = json!({
            "error": error,
            "error_description": format!(
                "AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
            ),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
        });
        sealed(Reply::json(status, &body), trace)
    }
}

fn sealed(reply: Reply, trace: Uuid) -> Reply {
    reply
        .with(CACHE_CONTROL, "no-store, no-cache")
        .with(PRAGMA, "no-cache")
        .with(HeaderName::from_static("x-ms-request-id"), &trace.to_string())
}
