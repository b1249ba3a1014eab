//! The login server: requests tokens and interprets the responses.

use std::borrow::Cow;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use super::application::{Application, Audience};
use super::credential::ClientAuth;
use super::token_file;
use super::tokens::Token;
use crate::api_error::ApiError;
use crate::error::Error;
use crate::http::{Body, Failure, Http, Reply, SetupError, join_segments};
use crate::json::{Json, Object};
use vetwatch_core::descriptors;
use vetwatch_core::redact::Known;

/// Lifetime of a token that does not name one, and the longest that is accepted.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
const LIFETIME_MAX: Duration = Duration::from_hours(24);
const BODY_MAX_BYTES: usize = 64 * 1024;

/// An application of a tenant at its cloud's login server.
pub(super) struct Login {
    pub(super) http: Http,
    v1: Url,
    v2: Url,
    device_code: Url,
    authorize: Url,
    client_id: String,
    audience: Audience,
    proof: ClientAuth,
    _known: Known,
}

pub(super) struct TokenGrant {
    pub(super) token: Token,
    /// Only a user's grants have one, and not all of them.
    pub(super) refresh_token: Option<SecretString>,
}

pub(super) struct TokenDenied {
    /// OAuth's error code, such as `invalid_grant`, if the server sent one.
    pub(super) word: Option<String>,
    pub(super) error: Error,
}

impl TokenDenied {
    fn failed(why: impl Into<String>) -> Self {
        Self { word: None, error: Error::NoToken(why.into()) }
    }
}

impl Login {
    pub(super) fn new(http: Http, application: &Application) -> Result<Self, SetupError> {
        let Application { login_url, tenant, client_id, audience, proof, proxy: _ } = application.clone();
        let at = |segments: &[&str]| {
            join_segments(&login_url, &[&[&*tenant], segments].concat()).ok_or(SetupError::Address("tenant"))
        };
        Ok(Self {
            http,
            v1: at(&["oauth2", "token"])?,
            v2: at(&["oauth2", "v2.0", "token"])?,
            device_code: at(&["oauth2", "v2.0", "devicecode"])?,
            authorize: at(&["oauth2", "v2.0", "authorize"])?,
            client_id,
            audience,
            _known: Known::of(proof.secret()),
            proof,
        })
    }

    /// Sends one token request of the application for itself.
    pub(super) async fn grant(&self, form: &[(&str, &str)], until: Instant) -> Result<TokenGrant, TokenDenied> {
        let (endpoint, audience) = match &self.audience {
            Audience::Resource(resource) => (&self.v1, ("resource", *resource)),
            Audience::Scope(scope) => (&self.v2, ("scope", scope.as_str())),
        };
        self.grant_at(endpoint, &[form, &[audience]].concat(), until).await
    }

    /// Requests a device code for a user's tokens.
    pub(super) async fn device_code(&self, until: Instant) -> Result<Reply, TokenDenied> {
        self.post(&self.device_code, &[("scope", &self.audience.of_user())], until).await
    }

    /// The page on which a user signs in for an authorization code.
    pub(super) fn authorization_url(&self, parameters: &[(&str, &str)]) -> Url {
        let mut url = self.authorize.clone();
        let scope = self.audience.of_user();
        let ours = [("client_id", self.client_id.as_str()), ("scope", &scope)];
        url.query_pairs_mut().extend_pairs(ours.iter().chain(parameters));
        url
    }

    /// Sends one token request for a user: with a code, or a refresh token. At v2, where the sign-in began, so that what
    /// one endpoint gave out is redeemed by the same one.
    pub(super) async fn grant_user(&self, form: &[(&str, &str)], until: Instant) -> Result<TokenGrant, TokenDenied> {
        self.grant_at(&self.v2, &[form, &[("scope", &self.audience.of_user())]].concat(), until).await
    }

    /// Sends one token request of a person who was shown `device_code`.
    pub(super) async fn grant_device(&self, device_code: &str, until: Instant) -> Result<TokenGrant, TokenDenied> {
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", device_code)];
        self.grant_at(&self.v2, &form, until).await
    }

    async fn grant_at(&self, endpoint: &Url, form: &[(&str, &str)], until: Instant) -> Result<TokenGrant, TokenDenied> {
        let proof = self.proof.fields(&self.client_id, endpoint, self.http.now(), until).await;
        let proof = proof.map_err(TokenDenied::failed)?;
        let proof: Vec<(&str, &str)> = proof.iter().map(|(name, value)| (*name, Cow::as_ref(value))).collect();
        let reply = self.post(endpoint, &[form, &proof].concat(), until).await?;
        read(&reply).ok_or_else(|| TokenDenied::failed("the login server's answer is not a token"))
    }

    /// Posts a form. `Ok` only for a success status.
    async fn post(&self, endpoint: &Url, form: &[(&str, &str)], until: Instant) -> Result<Reply, TokenDenied> {
        let form = [form, &[("client_id", &self.client_id)]].concat();
        let id = Uuid::new_v4();
        let is_secret = |name: &str| {
            matches!(
                name,
                "client_secret" | "client_assertion" | "refresh_token" | "device_code" | "code" | "code_verifier"
            )
        };
        let _known = Known::of(form.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| *value));
        let request = self.http.client().post(endpoint.clone()).form(&form);
        let request = request.header("Accept", "application/json").header("client-request-id", id.to_string());
        let reply =
            self.http.send(request, Body::Whole(BODY_MAX_BYTES), until).await.map_err(|failure| match failure {
                Failure::TimedOut => TokenDenied::failed("the login server did not answer in time"),
                Failure::NoDescriptor => TokenDenied::failed(descriptors::NONE_LEFT),
                Failure::Unreachable(why) => TokenDenied::failed(format!("the login server cannot be reached: {why}")),
                Failure::Broken(why) => TokenDenied::failed(format!("the login server's answer broke off: {why}")),
            })?;
        if reply.is_success() {
            return Ok(reply);
        }
        Err(refused(&reply, id))
    }
}

/// Classifies an error response: temporary (5xx, 408, a redirect, "temporarily unavailable") or permanent.
pub(super) fn refused(reply: &Reply, id: Uuid) -> TokenDenied {
    let answer = ApiError::read(reply.status, &reply.body, Some(id));
    let body = Json::parse(&reply.body);
    let word = body.as_ref().and_then(Json::as_object).and_then(|object| object.get("error").ok().flatten());
    let word = word.and_then(Json::as_text).map(str::to_owned);
    let is_temporary = word.as_deref() == Some("temporarily_unavailable");
    let error = match reply.status {
        429 => Error::Throttled { wait: reply.retry_after(), answer },
        503 if reply.retry_after().is_some() => Error::Throttled { wait: reply.retry_after(), answer },
        400..=499 if reply.status != 408 && !is_temporary => Error::Credential(answer),
        _ => Error::NoToken(answer.to_string()),
    };
    TokenDenied { word, error }
}

/// Reads a token that is valid in a header, and its lifetime: `expires_in`, which v1 writes as a string and v2 as a
/// number.
pub(super) fn read(reply: &Reply) -> Option<TokenGrant> {
    let body = Json::parse(&reply.body)?;
    let object: &Object = body.as_object()?;
    let token = object.get("access_token").ok()??.as_text()?;
    let is_bearer = match object.get("token_type").ok()? {
        Some(kind) => kind.as_text()?.eq_ignore_ascii_case("bearer"),
        None => true,
    };
    if !token_file::is_token(token) || !is_bearer {
        return None;
    }
    let refresh_token = match object.get("refresh_token").ok()? {
        Some(Json::Text(token)) if token_file::is_token(token) => Some(SecretString::from(token.as_str())),
        // To keep the access token and drop a refresh token that we cannot read would lose the sign-in.
        Some(Json::Text(token)) if !token.is_empty() => return None,
        _ => None,
    };
    let life = seconds(object, "expires_in").unwrap_or(DEFAULT_LIFETIME).min(LIFETIME_MAX);
    Some(TokenGrant { token: Token::new(token, reply.began_at, life), refresh_token })
}

/// Reads seconds from a number or a string.
pub(super) fn seconds(object: &Object, key: &str) -> Option<Duration> {
    match object.get(key).ok()? {
        Some(Json::Number(seconds) | Json::Text(seconds)) => seconds.trim().parse().map(Duration::from_secs).ok(),
        _ => None,
    }
}
