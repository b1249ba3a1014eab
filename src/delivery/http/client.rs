//! How connections are made: permitted addresses, proxy, and TLS.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Proxy, redirect};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::describe::{error_chain, origin};
use crate::delivery::egress_policy::{self, EgressPolicy};
use crate::partner_center::tls;
use crate::redact;

/// Deadline for connecting, TLS included; after it the endpoint counts as unreachable.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Shorter than the idle limits of servers and firewalls: a connection that they dropped costs an attempt.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// Where to post to, and how to connect. Part of the settings of every HTTP endpoint.
#[derive(Clone)]
pub struct HttpSettings {
    /// May hold a secret: only scheme and host are ever shown.
    pub url: Url,
    /// The URL itself is a secret: it came from a file of its own, or is a chat's.
    pub is_secret: bool,
    /// Private networks that its name may resolve to.
    pub allow_networks: Vec<IpNet>,
    /// A PEM file, trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// For servers that ask for a client certificate: certificates and the key, PEM.
    pub client_certificate: Option<SecretString>,
    /// May hold a password: only scheme and host are ever shown.
    pub proxy: Option<Url>,
}

impl HttpSettings {
    /// Only the URL, which counts as a secret by default.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, is_secret: true, allow_networks: Vec::new(), ca_file: None, client_certificate: None, proxy: None }
    }

    /// Host and proxy, for people; without secrets.
    #[must_use]
    pub fn place(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let proxy = self.proxy.as_ref().map(|proxy| format!(" by the proxy {}", origin(proxy)));
        format!("{host}{}", proxy.unwrap_or_default())
    }

    /// # Errors
    /// Why no client can be built from these settings. Makes no connection.
    pub fn check(&self) -> Result<(), String> {
        client(self, CONNECT_DEADLINE, system()).map(drop)
    }

    /// Registers its secrets for redaction.
    pub(super) fn learn_secrets(&self) {
        if self.is_secret {
            redact::learn_url(&self.url);
        } else {
            redact::learn_login_of(&self.url);
        }
        self.proxy.iter().for_each(redact::learn_login_of);
        self.client_certificate.iter().for_each(|pem| redact::learn(pem.expose_secret()));
    }

    fn egress_policy(&self) -> EgressPolicy {
        match &self.proxy {
            Some(proxy) => EgressPolicy::Proxy(proxy.host_str().unwrap_or_default().to_owned()),
            None => EgressPolicy::Public { and: self.allow_networks.clone() },
        }
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings")
            .field("url", &origin(&self.url))
            .field("is_secret", &self.is_secret)
            .field("allow_networks", &self.allow_networks)
            .field("ca_file", &self.ca_file)
            .field("client_certificate", &self.client_certificate.is_some())
            .field("proxy", &self.proxy.as_ref().map(origin))
            .finish()
    }
}

/// Resolves a name. Called once per connection, which uses an address that was returned and checked.
pub type Lookup = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync>;

/// The system's resolver.
pub(super) fn system() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// The one place where connections for messages are configured.
pub(super) fn client(settings: &HttpSettings, connect: Duration, lookup: Lookup) -> Result<Client, String> {
    let mut builder =
        builder(&settings.url, settings.egress_policy(), lookup)?.connect_timeout(connect.min(CONNECT_DEADLINE));
    let client_certificate = settings.client_certificate.as_ref().map(ExposeSecret::expose_secret);
    let mut tls = tls::config(settings.ca_file.as_deref(), client_certificate)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    builder = builder.tls_backend_preconfigured(tls);
    if let Some(proxy) = &settings.proxy {
        if egress_policy::is_loopback(&settings.url) {
            return Err("the URL leads to this machine, which a proxy would take for itself".into());
        }
        egress_policy::check_host(proxy).map_err(|problem| format!("the proxy {problem}"))?;
        builder =
            builder.proxy(Proxy::all(proxy.clone()).map_err(|error| format!("the proxy: {}", error_chain(&error)))?);
    }
    builder.build().map_err(|error| error_chain(&error))
}

/// A client for a heartbeat: to any address, except those that are never permitted.
pub(crate) fn client_for_operator_url(url: &Url) -> Result<Client, String> {
    builder(url, EgressPolicy::Chosen, system())?
        .connect_timeout(CONNECT_DEADLINE)
        .build()
        .map_err(|error| error_chain(&error))
}

/// Checks the URL too, since a resolver is not called for an address in a URL.
fn builder(url: &Url, egress_policy: EgressPolicy, lookup: Lookup) -> Result<reqwest::ClientBuilder, String> {
    egress_policy::check_url(url).map_err(|problem| format!("the URL {problem}"))?;
    // Building a client panics without a provider. One that is installed already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Client::builder()
        .user_agent(concat!("vetwatch/", env!("CARGO_PKG_VERSION")))
        .no_proxy() // proxies come from the configuration only
        .redirect(redirect::Policy::none())
        // A connection that died silently fails one attempt; with HTTP/2 it would fail all, until TCP gives up.
        .http1_only()
        .pool_idle_timeout(MAX_IDLE)
        .no_gzip() // a response only explains; nothing is gained by unpacking it
        .dns_resolver(FilteringResolver { egress_policy, lookup }))
}

struct FilteringResolver {
    egress_policy: EgressPolicy,
    lookup: Lookup,
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (name, egress_policy) = (name.as_str().to_owned(), self.egress_policy.clone());
        let found = (self.lookup)(name.clone());
        Box::pin(async move {
            let permitted = egress_policy.permitted(&name, found.await?)?;
            // Port 0 stands for the URL's.
            Ok(Box::new(permitted.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
