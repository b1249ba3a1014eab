//! Credentials: an application, or a user through an application.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tokio::time::Instant;
use url::Url;

use super::certificate::Certificate;
use super::managed_identity::ManagedIdentity;
use super::token_file::{TokenFile, is_token};
use crate::file;
use vetwatch_core::time::Timestamp;

/// `[partner.credential]`, or `[partner.user_credential]`.
#[derive(Debug, Clone)]
pub struct Credential {
    pub proof: ClientAuth,
    /// The refresh token's file. `None` if the application acts for itself.
    pub user: Option<TokenFile>,
}

/// How the application authenticates.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    ClientSecret {
        secret: SecretString,
        /// From the configuration; the login server does not tell.
        ends_at: Option<Timestamp>,
    },
    Certificate(Arc<Certificate>),
    /// The file in which a platform (Kubernetes, …) keeps its token; read for each request, because the platform
    /// replaces it.
    WorkloadIdentity(PathBuf),
    /// A token of the machine's own identity in Azure, requested for each request.
    ManagedIdentity(ManagedIdentity),
}

/// A part of a credential with a known expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Expiry {
    pub of: CredentialPart,
    pub at: Timestamp,
}

/// Shown and serialized as words: `client secret`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum CredentialPart {
    #[serde(rename = "certificate")]
    Certificate,
    #[serde(rename = "client secret")]
    ClientSecret,
    #[serde(rename = "refresh token")]
    RefreshToken,
}

impl CredentialPart {
    /// What a person does before it ends. `owner` is the partner whose user signs in.
    #[must_use]
    pub fn remedy(self, owner: &str) -> String {
        match self {
            Self::Certificate => "Make a new one, register it with the application in Entra ID beside the old one, \
                                  put it into the credential file and restart vetwatch."
                .to_owned(),
            Self::ClientSecret => "Make a new one in Entra ID, put it into the credential file, set \
                                   `client_secret_expires` to its end and restart vetwatch."
                .to_owned(),
            Self::RefreshToken => format!("Sign in anew: `vetwatch login {owner}`."),
        }
    }
}

impl fmt::Display for CredentialPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Credential {
    /// An application with a client secret of unknown expiry.
    pub fn client_secret(secret: impl Into<SecretString>) -> Self {
        Self { proof: ClientAuth::ClientSecret { secret: secret.into(), ends_at: None }, user: None }
    }

    /// The known expiries, at most one for each part. Reads the refresh token's file.
    pub fn expiries(&self) -> Vec<Expiry> {
        let user = self.refresh_token_ends_at().map(|at| Expiry { of: CredentialPart::RefreshToken, at });
        self.proof.expiry().into_iter().chain(user).collect()
    }

    /// When the user's sign-in expires. An unreadable file has no known expiry; redeeming it reports the error.
    pub fn refresh_token_ends_at(&self) -> Option<Timestamp> {
        self.user.as_ref()?.ends_at().ok()?
    }
}

const ASSERTION: (&str, Cow<'_, str>) =
    ("client_assertion_type", Cow::Borrowed("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
/// Larger than any platform's token; a larger file is the wrong one.
const TOKEN_MAX_BYTES: u64 = 64 * 1024;

impl ClientAuth {
    /// When it expires, if known.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        let (of, at) = match self {
            Self::ClientSecret { ends_at, .. } => (CredentialPart::ClientSecret, (*ends_at)?),
            Self::Certificate(certificate) => (CredentialPart::Certificate, certificate.ends_at()),
            Self::WorkloadIdentity(_) | Self::ManagedIdentity(_) => return None,
        };
        Some(Expiry { of, at })
    }

    /// What is sent as it is, and must not show as long as it is in use.
    pub(super) fn secret(&self) -> Option<&str> {
        match self {
            Self::ClientSecret { secret, .. } => Some(secret.expose_secret()),
            Self::Certificate(_) | Self::WorkloadIdentity(_) | Self::ManagedIdentity(_) => None,
        }
    }

    /// Form fields sent beside `client_id`.
    ///
    /// # Errors
    /// If there is nothing to send; the next request may succeed.
    pub(super) async fn fields(
        &self,
        client_id: &str,
        endpoint: &Url,
        now: Timestamp,
        until: Instant,
    ) -> Result<Vec<(&'static str, Cow<'_, str>)>, String> {
        let assertion = match self {
            Self::ClientSecret { secret, .. } => {
                return Ok(vec![("client_secret", Cow::Borrowed(secret.expose_secret()))]);
            }
            Self::Certificate(certificate) => certificate
                .assertion(client_id, endpoint.as_str(), now)
                .ok_or("the system has no random numbers to sign with")?,
            Self::WorkloadIdentity(path) => federated_token(path).await?,
            Self::ManagedIdentity(identity) => identity.token(endpoint, until).await?,
        };
        Ok(vec![ASSERTION, ("client_assertion", Cow::Owned(assertion))])
    }
}

async fn federated_token(path: &Path) -> Result<String, String> {
    let failed = |why: &str| format!("the federated token in {} {why}", path.display());
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || file::read(&owned, TOKEN_MAX_BYTES)).await;
    let bytes = read.map_err(io::Error::other).flatten().map_err(|error| match error.kind() {
        ErrorKind::NotFound => failed("is not there: does the platform still write it?"),
        _ => failed(&format!("cannot be read: {error}")),
    })?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let token = text.trim();
    if !is_token(token) {
        return Err(failed("is none"));
    }
    Ok(token.to_owned())
}
