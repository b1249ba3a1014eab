//! The token of an Azure virtual machine's managed identity, from the instance metadata service (IMDS).
//!
//! IMDS has a link-local address, which nothing else here may reach. Its client is apart for that reason: it has one
//! address and one path, sends only GET, knows no proxy, and follows no redirect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::token_file::is_token;
use crate::api_error::{ApiError, clean};
use crate::http::{Body, Failure, Http, SetupError};
use crate::json::Json;
use vetwatch_core::descriptors;
use vetwatch_core::text::short_line;
use vetwatch_core::time::SystemClock;

const ADDRESS: &str = "http://169.254.169.254/";
const PATH: &str = "/metadata/identity/oauth2/token";
const API_VERSION: &str = "2018-02-01";

/// Outside of Azure nothing answers. Shorter than a token request's timeout, so that the reason is known.
const TIMEOUT: Duration = Duration::from_secs(8);
const BODY_MAX_BYTES: usize = 64 * 1024;

/// A managed identity of this machine. The service keeps the token, so it is requested anew for each token request.
#[derive(Clone)]
pub struct ManagedIdentity {
    http: Http,
    url: Url,
    /// The client id of a user-assigned identity; without it the service chooses.
    client_id: Option<Arc<str>>,
}

impl ManagedIdentity {
    /// `origin` is a stand-in for the service on this machine; its path is ignored.
    ///
    /// # Errors
    /// If `origin` is not on this machine, or the client cannot be set up.
    pub fn new(client_id: Option<&str>, origin: Option<&Url>) -> Result<Self, SetupError> {
        let mut url = match origin {
            Some(origin) if vetwatch_core::egress_policy::is_loopback(origin) => origin.clone(),
            Some(_) => return Err(SetupError::Address("imds_url")),
            None => Url::parse(ADDRESS).map_err(|_| SetupError::Address("imds_url"))?,
        };
        url.set_path(PATH);
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { http: Http::new(None, None, Arc::new(SystemClock))?, url, client_id: client_id.map(Into::into) })
    }

    /// Requests a token with which `login_url`'s Entra ID accepts an application.
    ///
    /// # Errors
    /// In words; the next request may succeed.
    pub(super) async fn token(&self, login_url: &Url, until: Instant) -> Result<String, String> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("api-version", API_VERSION).append_pair("resource", audience(login_url));
        if let Some(client_id) = &self.client_id {
            url.query_pairs_mut().append_pair("client_id", client_id);
        }
        let request = self.http.client().get(url).header("Metadata", "true");
        let until = until.min(Instant::now() + TIMEOUT);
        let reply = self.http.send(request, Body::Whole(BODY_MAX_BYTES), until).await;
        let reply = reply.map_err(|failure| match failure {
            Failure::TimedOut => self.absent("no answer in time"),
            Failure::Unreachable(why) => self.absent(&why),
            Failure::NoDescriptor => descriptors::NONE_LEFT.to_owned(),
            Failure::Broken(why) => self.failed(&format!("its answer broke off: {why}")),
        })?;
        if !reply.is_success() {
            return Err(self.refused(reply.status, &reply.body));
        }
        read(&reply.body).ok_or_else(|| self.failed("its answer is not a token"))
    }

    fn failed(&self, why: &str) -> String {
        format!("the managed identity: the metadata service at {}: {why}", self.url.host_str().unwrap_or_default())
    }

    fn absent(&self, why: &str) -> String {
        let advice = "only a virtual machine in Azure has one; elsewhere choose another kind of credential";
        self.failed(&format!("it cannot be reached ({}): {advice}", short_line(&clean(why), 200)))
    }

    fn refused(&self, status: u16, body: &[u8]) -> String {
        let advice = match (status, &self.client_id) {
            (300..=399, _) => "it redirects, which is not followed: something else answers in its place".to_owned(),
            (404 | 408 | 410 | 429 | 500..=599, _) => "this passes by itself, and it is asked again".to_owned(),
            (_, Some(id)) => format!("is the user-assigned identity with the client id {id} assigned to this machine?"),
            (_, None) => "assign a user-assigned identity to this machine, and name its client id in \
                          managed_identity_client_id"
                .to_owned(),
        };
        self.failed(&format!("{}; {advice}", ApiError::read(status, body, None)))
    }
}

/// Reads the token.
pub(super) fn read(body: &[u8]) -> Option<String> {
    let body = Json::parse(body)?;
    let token = body.as_object()?.get("access_token").ok()??.as_text()?;
    is_token(token).then(|| token.to_owned())
}

/// The audience that Entra ID of this cloud expects of a federated token.
fn audience(login_url: &Url) -> &'static str {
    match login_url.host_str().unwrap_or_default().rsplit('.').next() {
        Some("us") => "api://AzureADTokenExchangeUSGov",
        Some("cn") => "api://AzureADTokenExchangeChina",
        _ => "api://AzureADTokenExchange",
    }
}

impl fmt::Debug for ManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedIdentity").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_has_its_audience() {
        for (login, expected) in [
            ("https://login.microsoftonline.com/", "api://AzureADTokenExchange"),
            ("https://login.microsoftonline.us/", "api://AzureADTokenExchangeUSGov"),
            ("https://login.partner.microsoftonline.cn/", "api://AzureADTokenExchangeChina"),
            ("http://127.0.0.1:8765/", "api://AzureADTokenExchange"),
        ] {
            assert_eq!(audience(&Url::parse(login).unwrap()), expected, "{login}");
        }
    }

    #[test]
    fn it_has_one_address_and_a_stand_in_is_on_this_machine() {
        let url = |origin: Option<&str>| {
            let origin = origin.map(|origin| Url::parse(origin).unwrap());
            ManagedIdentity::new(None, origin.as_ref()).map(|identity| identity.url.to_string())
        };
        assert_eq!(url(None).unwrap(), "http://169.254.169.254/metadata/identity/oauth2/token");
        let stand_in = url(Some("http://127.0.0.1:8765/other?path#x")).unwrap();
        assert_eq!(stand_in, "http://127.0.0.1:8765/metadata/identity/oauth2/token");
        for elsewhere in ["http://169.254.169.253/", "http://10.0.0.1/", "https://imds.example/"] {
            assert!(url(Some(elsewhere)).is_err(), "{elsewhere}");
        }
    }
}
