//! Credentials for Partner Center: an application, or a user through an application.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::certificate::Certificate;
use super::token_file::TokenFile;
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
}

/// A part of a credential with a known expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Expiry {
    /// `client secret`, `certificate`, `refresh token`
    pub of: &'static str,
    pub at: Timestamp,
}

impl Credential {
    /// An application with a client secret of unknown expiry.
    pub fn client_secret(secret: impl Into<SecretString>) -> Self {
        Self { proof: ClientAuth::ClientSecret { secret: secret.into(), ends_at: None }, user: None }
    }

    /// The known expiries, at most one for each part. Reads the refresh token's file.
    pub fn expiries(&self) -> Vec<Expiry> {
        // An unreadable file has no known expiry; redeeming it reports the error.
        let user = self.user.as_ref().and_then(|file| file.ends_at().ok()?);
        self.proof.expiry().into_iter().chain(user.map(|at| Expiry { of: "refresh token", at })).collect()
    }
}

const ASSERTION: (&str, Cow<'_, str>) =
    ("client_assertion_type", Cow::Borrowed("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
/// Larger than any platform's token; a larger file is the wrong one.
const TOKEN_MAX_BYTES: usize = 64 * 1024;

impl ClientAuth {
    pub(super) fn expiry(&self) -> Option<Expiry> {
        match self {
            Self::ClientSecret { ends_at, .. } => ends_at.map(|at| Expiry { of: "client secret", at }),
            Self::Certificate(certificate) => Some(Expiry { of: "certificate", at: certificate.ends_at() }),
            Self::WorkloadIdentity(_) => None,
        }
    }

    /// Form fields sent beside `client_id`. The last value is the secret.
    ///
    /// # Errors
    /// If there is nothing to send; the next request may succeed.
    pub(super) async fn fields(
        &self,
        client_id: &str,
        endpoint: &Url,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, Cow<'_, str>)>, String> {
        let assertion = match self {
            Self::ClientSecret { secret, .. } => {
                return Ok(vec![("client_secret", Cow::Borrowed(secret.expose_secret()))]);
            }
            Self::Certificate(certificate) => certificate
                .assertion(client_id, endpoint.as_str(), now)
                .ok_or("the system has no random numbers to sign with")?,
            Self::WorkloadIdentity(path) => {
                let failed = |why: &str| format!("the federated token in {} {why}", path.display());
                let bytes = tokio::fs::read(path).await.map_err(|error| match error.kind() {
                    ErrorKind::NotFound => failed("is not there: does the platform still write it?"),
                    _ => failed(&format!("cannot be read: {error}")),
                })?;
                let text = String::from_utf8(bytes).unwrap_or_default();
                let token = text.trim();
                if token.is_empty()
                    || token.len() > TOKEN_MAX_BYTES
                    || !token.bytes().all(|byte| byte.is_ascii_graphic())
                {
                    return Err(failed("is none"));
                }
                token.to_owned()
            }
        };
        Ok(vec![ASSERTION, ("client_assertion", Cow::Owned(assertion))])
    }
}
