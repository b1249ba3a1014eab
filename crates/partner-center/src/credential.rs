//! Who asks Partner Center: an application, or a user by an application.

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
    /// Where the refresh token is, if a user signed in. `None`: the application asks for itself.
    pub user: Option<TokenFile>,
}

/// How the application proves that it is the one.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    ClientSecret {
        secret: SecretString,
        /// As the configuration says; the login server does not.
        ends_at: Option<Timestamp>,
    },
    Certificate(Arc<Certificate>),
    /// The file in which a platform (Kubernetes, …) keeps a token of its own; read again for each request, because the
    /// platform replaces it.
    WorkloadIdentity(PathBuf),
}

/// Something that ends on a day that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Expiry {
    /// `client secret`, `certificate`, `refresh token`
    pub of: &'static str,
    pub at: Timestamp,
}

impl Credential {
    /// An application with a secret of which nobody said when it ends.
    pub fn client_secret(secret: impl Into<SecretString>) -> Self {
        Self { proof: ClientAuth::ClientSecret { secret: secret.into(), ends_at: None }, user: None }
    }

    /// What of it ends, where that is known: at most one entry for each part. Reads the refresh token's file.
    pub fn expiries(&self) -> Vec<Expiry> {
        // One that cannot be read has no known end; whoever redeems it says what is wrong.
        let user = self.user.as_ref().and_then(|file| file.ends_at().ok()?);
        self.proof.expiry().into_iter().chain(user.map(|at| Expiry { of: "refresh token", at })).collect()
    }
}

const ASSERTION: (&str, Cow<'_, str>) =
    ("client_assertion_type", Cow::Borrowed("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
/// More than any token of a platform; what is larger is the wrong file.
const LARGEST: usize = 64 * 1024;

impl ClientAuth {
    /// When it ends, if that is known.
    pub(super) fn expiry(&self) -> Option<Expiry> {
        match self {
            Self::ClientSecret { ends_at, .. } => ends_at.map(|at| Expiry { of: "client secret", at }),
            Self::Certificate(certificate) => Some(Expiry { of: "certificate", at: certificate.ends_at() }),
            Self::WorkloadIdentity(_) => None,
        }
    }

    /// What is sent beside `client_id`. The last of the values is the one that is secret.
    ///
    /// # Errors
    /// Why there is nothing to send; the next request may do better.
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
                if token.is_empty() || token.len() > LARGEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(failed("is none"));
                }
                token.to_owned()
            }
        };
        Ok(vec![ASSERTION, ("client_assertion", Cow::Owned(assertion))])
    }
}
