//! Microsoft Entra's token endpoint, v1 and v2, for applications and for users signed in to them.

mod browser;
mod client_auth;
mod jwt;
mod refusal;
mod sign_in;

use std::collections::HashMap;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use self::browser::Codes;
use self::client_auth::Proofs;
use self::jwt::Signer;
use self::refusal::{Refusal, sealed};
pub use self::sign_in::{Decision, Device, MfaRefusal, Rotation, SignIns};
use self::sign_in::{OfUser, Users};
use super::errors::Reply;
use vetwatch_core::time::Timestamp;

/// Of tokens with which an application sends mail.
const MAIL_RESOURCE: &str = "https://outlook.office365.com";
/// The resource of tokens for the API.
pub(super) const RESOURCE: &str = "https://api.partnercenter.microsoft.com";
/// Entra still issues tokens for it; Partner Center has rejected them since 2025-08-31.
const RETIRED_RESOURCE: &str = "https://graph.windows.net";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Every sign-in is by the same user.
const USER: &str = "admin.agent@contoso.example";
const USER_ID: &str = "7f1c6a52-90d3-4f5e-8a0b-3c2d1e0f9a88";
/// Beyond this many tokens, expired ones are dropped.
const MANY: usize = 10_000;

/// What anybody may read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Document<'a> {
    /// The endpoints of a tenant.
    Configuration { tenant: &'a str, v2: bool },
    /// The keys that sign tokens.
    Keys { tenant: &'a str },
    /// The names of the login server.
    Instance,
}

/// Result of checking a request's `Authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Authorization {
    Valid,
    Missing,
    /// Not a token that this sandbox issued.
    Unknown,
    Expired,
    Revoked,
    /// A valid token for another resource, such as graph.windows.net.
    WrongAudience,
    /// A user's token, without a second factor.
    NoMfa,
    /// The token endpoint needs none.
    NotNeeded,
}

#[derive(Debug)]
struct Token {
    expires_at: Timestamp,
    revoked: bool,
    for_partner_center: bool,
    /// `None` for an application's own token.
    user: Option<OfUser>,
}

#[derive(Debug)]
pub(super) struct Entra {
    tenant: String,
    client_id: String,
    pub(super) proofs: Proofs,
    pub(super) users: Users,
    /// Of tokens issued from now on.
    pub(super) lifetime: Duration,
    tokens: HashMap<String, Token>,
    codes: Codes,
    signer: Signer,
}

impl Entra {
    pub(super) fn new(tenant: String, client_id: String, client_secret: String, lifetime: Duration) -> Self {
        Self {
            tenant,
            client_id,
            proofs: Proofs::new(client_secret),
            users: Users::default(),
            lifetime,
            tokens: HashMap::new(),
            codes: Codes::default(),
            signer: Signer::new(),
        }
    }

    /// The access tokens issued so far, except dropped ones.
    pub(super) fn access_tokens(&self) -> Vec<String> {
        self.tokens.keys().cloned().collect()
    }

    /// Revokes every token issued so far; returns how many there were.
    pub(super) fn revoke(&mut self) -> usize {
        self.tokens.values_mut().for_each(|token| token.revoked = true);
        self.tokens.len()
    }

    pub(super) fn check(&mut self, header: Option<&str>, now: Timestamp) -> Authorization {
        let Some(header) = header else { return Authorization::Missing };
        let Some((scheme, token)) = header.split_once(' ') else { return Authorization::Unknown };
        match self.tokens.get(token.trim()) {
            Some(_) if !scheme.eq_ignore_ascii_case("bearer") => Authorization::Unknown,
            None => Authorization::Unknown,
            Some(token) if token.revoked => Authorization::Revoked,
            Some(token) if token.expires_at <= now => Authorization::Expired,
            Some(token) if !token.for_partner_center => Authorization::WrongAudience,
            Some(Token { user: Some(user), .. }) => {
                self.users.used(user);
                if user.mfa { Authorization::Valid } else { Authorization::NoMfa }
            }
            Some(_) => Authorization::Valid,
        }
    }

    /// True if the token is a user's rather than an application's own.
    pub(super) fn is_user(&self, header: Option<&str>) -> bool {
        let token =
            header.and_then(|header| header.split_once(' ')).and_then(|(_, token)| self.tokens.get(token.trim()));
        token.is_some_and(|token| token.user.is_some())
    }

    /// Responds to `POST /{tenant}/oauth2/token` or, if `v2`, `…/oauth2/v2.0/token`. `host` is the request's host.
    pub(super) fn answer(&mut self, tenant: &str, v2: bool, host: &str, form: &[u8], now: Timestamp) -> Reply {
        let form: HashMap<String, String> = url::form_urlencoded::parse(form).into_owned().collect();
        self.grant(tenant, v2, host, &form, now).unwrap_or_else(|refusal| refusal.into_reply(now))
    }

    /// Responds to `POST /{tenant}/oauth2/v2.0/devicecode`.
    pub(super) fn device_code(&mut self, tenant: &str, host: &str, form: &[u8], now: Timestamp) -> Reply {
        let form: HashMap<String, String> = url::form_urlencoded::parse(form).into_owned().collect();
        let answer = self.application(tenant, &form).and_then(|_| {
            let scope = form.get("scope").map(String::as_str).unwrap_or_default();
            if !scope.split(' ').any(is_of_partner_center) {
                return Err(unknown_resource(scope, tenant));
            }
            let body = self.users.device_code(scope, &format!("{}/control/devices", jwt::base(host)), now);
            Ok(sealed(Reply::json(StatusCode::OK, &body), Uuid::new_v4()))
        });
        answer.unwrap_or_else(|refusal| refusal.into_reply(now))
    }

    /// Responds to `GET /{tenant}/oauth2/v2.0/authorize`: a page on which a person would sign in.
    pub(super) fn authorize(&mut self, tenant: &str, query: &str, now: Timestamp) -> Reply {
        let form: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let refusal = self.users.refuses_browsers();
        let answer = self.application(tenant, &form).and_then(|_| {
            let scope = form.get("scope").map(String::as_str).unwrap_or_default();
            if !scope.split(' ').any(is_of_partner_center) {
                return Err(unknown_resource(scope, tenant));
            }
            self.codes.authorize(&form, refusal, now)
        });
        answer.unwrap_or_else(|refusal| refusal.into_page(now))
    }

    /// Responds to the requests for documents that anybody may read.
    pub(super) fn document(&self, document: Document<'_>, host: &str) -> Reply {
        let body = match document {
            Document::Configuration { tenant, .. } | Document::Keys { tenant }
                if !tenant.eq_ignore_ascii_case(&self.tenant) =>
            {
                return unknown_tenant(tenant).into_reply(Timestamp::from_millis(0));
            }
            Document::Configuration { tenant, v2 } => jwt::configuration(tenant, v2, host),
            Document::Keys { .. } => self.signer.keys(),
            Document::Instance => jwt::instance(&self.tenant, host),
        };
        Reply::json(StatusCode::OK, &body)
    }

    /// The application's id, if both the tenant and the application are known.
    fn application<'f>(&self, tenant: &str, form: &'f HashMap<String, String>) -> Result<&'f str, Refusal> {
        if !tenant.eq_ignore_ascii_case(&self.tenant) {
            return Err(unknown_tenant(tenant));
        }
        let client_id = required(form, "client_id")?;
        if !client_id.eq_ignore_ascii_case(&self.client_id) {
            let text = format!(
                "Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can \
                 happen if the application has not been installed by the administrator of the tenant or consented \
                 to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
            );
            return Err(Refusal::new(400, "unauthorized_client", 700_016, text));
        }
        Ok(client_id)
    }

    fn grant(
        &mut self,
        tenant: &str,
        v2: bool,
        host: &str,
        form: &HashMap<String, String>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let client_id = self.application(tenant, form)?;
        let grant = required(form, "grant_type")?;
        let resource = match (grant, v2) {
            ("client_credentials", true) => {
                let scope = required(form, "scope")?;
                scope.strip_suffix("/.default").ok_or_else(|| {
                    let text = format!(
                        "The provided value for scope {scope} is not valid. Client credential flows must have a \
                         scope value with /.default suffixed to the resource identifier (application ID URI)."
                    );
                    Refusal::new(400, "invalid_scope", 1_002_012, text)
                })?
            }
            ("client_credentials" | "refresh_token", false) => required(form, "resource")?,
            ("refresh_token", true) => {
                let scope = required(form, "scope")?;
                if scope.split(' ').any(is_of_partner_center) { RESOURCE } else { scope }
            }
            // The scope was given when the code was requested.
            (DEVICE_CODE | "authorization_code", true) => RESOURCE,
            _ => {
                let text = format!("The app requested an unsupported grant type '{grant}'.");
                return Err(Refusal::new(400, "unsupported_grant_type", 70003, text));
            }
        };
        let resource = resource.trim_end_matches('/');
        if ![RESOURCE, RETIRED_RESOURCE, MAIL_RESOURCE].contains(&resource) {
            return Err(unknown_resource(resource, tenant));
        }
        let endpoint = format!("//{host}/{tenant}/oauth2/{}token", if v2 { "v2.0/" } else { "" });
        let proves = ["client_secret", "client_assertion"].iter().any(|name| form.contains_key(*name));
        let is_public = self.users.settings.public_clients && grant != "client_credentials" && !proves;
        if !is_public {
            self.proofs.check(form, client_id, &endpoint, now)?;
        }
        let (user, scope, nonce) = match grant {
            "refresh_token" => {
                let user = self.users.redeem(required(form, "refresh_token")?, now)?;
                (Some(user), form.get("scope").cloned(), None)
            }
            DEVICE_CODE => {
                let (user, scope) = self.users.redeem_device(required(form, "device_code")?, now)?;
                (Some(user), Some(scope), None)
            }
            "authorization_code" => {
                required(form, "code")?;
                let code = self.codes.redeem(form, now)?;
                (Some(self.users.sign_in_for(&code.scope, now)), Some(code.scope.clone()), code.nonce.clone())
            }
            _ => (None, None, None),
        };
        let wants_id = v2 && scope.is_some_and(|scope| scope.split(' ').any(|scope| scope == "openid"));
        let id_token = wants_id.then(|| self.id_token(host, nonce.as_deref(), now));
        Ok(self.issue(v2, resource, user, id_token, now))
    }

    fn issue(
        &mut self,
        v2: bool,
        resource: &str,
        user: Option<(OfUser, Option<String>)>,
        id_token: Option<String>,
        now: Timestamp,
    ) -> Reply {
        if self.tokens.len() >= MANY {
            self.tokens.retain(|_, token| token.expires_at > now && !token.revoked);
        }
        let (user, refresh_token) = user.unzip();
        let expires_at = now.after(self.lifetime);
        let access_token = self.signer.sign(&self.access_claims(resource, user.as_ref(), now));
        let token = Token { expires_at, revoked: false, for_partner_center: resource == RESOURCE, user };
        self.tokens.insert(access_token.clone(), token);
        let seconds = self.lifetime.as_secs();
        let mut body = if v2 {
            json!({
                "token_type": "Bearer",
                "expires_in": seconds,
                "ext_expires_in": seconds,
                "access_token": access_token,
            })
        } else {
            // v1 writes numbers as strings.
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
        if let Some(refresh_token) = refresh_token.flatten() {
            body["scope"] = "user_impersonation".into();
            body["refresh_token"] = refresh_token.into();
        }
        if let Some(id_token) = id_token {
            let client_info = json!({"uid": USER_ID, "utid": self.tenant}).to_string();
            body["client_info"] = BASE64_URL_SAFE_NO_PAD.encode(client_info).into();
            body["id_token"] = id_token.into();
        }
        sealed(Reply::json(StatusCode::OK, &body), Uuid::new_v4())
    }

    /// The claims of an access token: the application's own, or a user's, which says how the user signed in.
    fn access_claims(&self, resource: &str, user: Option<&OfUser>, now: Timestamp) -> Value {
        let issued_at = now.as_secs();
        let mut claims = json!({
            "aud": resource,
            "iss": jwt::issuer(&self.tenant, false, ""),
            "iat": issued_at,
            "nbf": issued_at - 300,
            "exp": now.after(self.lifetime).as_secs(),
            "appid": self.client_id,
            "tid": self.tenant,
            "ver": "1.0",
            // Each token is another one.
            "uti": Uuid::new_v4(),
        });
        let more = match user {
            Some(user) => json!({
                "amr": if user.mfa { json!(["pwd", "mfa"]) } else { json!(["pwd"]) },
                "idtyp": "user",
                "oid": USER_ID,
                "scp": "user_impersonation",
                "unique_name": USER,
                "upn": USER,
            }),
            None => json!({"idtyp": "app", "oid": self.client_id}),
        };
        if let (Some(claims), Value::Object(more)) = (claims.as_object_mut(), more) {
            claims.extend(more);
        }
        claims
    }

    /// Says who signed in, to the application alone.
    fn id_token(&self, host: &str, nonce: Option<&str>, now: Timestamp) -> String {
        let issued_at = now.as_secs();
        self.signer.sign(&json!({
            "aud": self.client_id,
            "iss": jwt::issuer(&self.tenant, true, host),
            "iat": issued_at,
            "nbf": issued_at,
            "exp": now.after(self.lifetime).as_secs(),
            "name": "Admin Agent",
            "nonce": nonce,
            "oid": USER_ID,
            "preferred_username": USER,
            "sub": USER_ID,
            "tid": self.tenant,
            "ver": "2.0",
        }))
    }
}

fn unknown_tenant(tenant: &str) -> Refusal {
    let text = format!(
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the \
         correct cloud. Check with your subscription administrator, this may happen if there are no active \
         subscriptions for the tenant."
    );
    Refusal::new(400, "invalid_request", 90002, text)
}

fn required<'f>(form: &'f HashMap<String, String>, name: &str) -> Result<&'f str, Refusal> {
    let text = || format!("The request body must contain the following parameter: '{name}'.");
    let value = form.get(name).map(String::as_str).filter(|value| !value.is_empty());
    value.ok_or_else(|| Refusal::new(400, "invalid_request", 900_144, text()))
}

fn is_of_partner_center(scope: &str) -> bool {
    scope.strip_prefix(RESOURCE).is_some_and(|rest| matches!(rest, "/.default" | "/user_impersonation"))
}

fn unknown_resource(resource: &str, tenant: &str) -> Refusal {
    let text = format!(
        "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the \
         application has not been installed by the administrator of the tenant or consented to by any user in the \
         tenant. You might have sent your authentication request to the wrong tenant."
    );
    Refusal::new(400, "invalid_resource", 500_011, text)
}
