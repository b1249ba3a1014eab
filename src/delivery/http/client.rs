//! How connections are made: to which addresses, by way of whom, and who has to vouch for the other side.

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
use reqwest::{Certificate, Client, Identity, Proxy, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::describe::{error_chain, origin};
use crate::delivery::egress_policy::{self, EgressPolicy};
use crate::redact;

/// Until there is a connection, TLS included: past it the endpoint counts as unreachable.
const CONNECT: Duration = Duration::from_secs(10);

/// Below what servers and firewalls allow: what they forgot costs an attempt.
const IDLE: Duration = Duration::from_secs(30);

/// Where to post to, and how to get there. Part of the settings of every HTTP kind.
#[derive(Clone)]
pub struct HttpSettings {
    /// May hold a secret: never shown but for scheme and host.
    pub url: Url,
    /// Whoever knows it may write there: it came from a file of its own, or is a chat's.
    pub is_secret: bool,
    /// Private addresses that its name may lead to.
    pub allow_networks: Vec<IpNet>,
    /// PEM; trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// What is shown to a server that wants to know who we are: certificates and the key, PEM.
    pub client_certificate: Option<SecretString>,
    /// May hold a password: never shown but for scheme and host.
    pub proxy: Option<Url>,
}

impl HttpSettings {
    /// Nothing but the address, which is a secret unless somebody says otherwise.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, is_secret: true, allow_networks: Vec::new(), ca_file: None, client_certificate: None, proxy: None }
    }

    /// Host and proxy, as far as they may be shown.
    #[must_use]
    pub fn place(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let proxy = self.proxy.as_ref().map(|proxy| format!(" by the proxy {}", origin(proxy)));
        format!("{host}{}", proxy.unwrap_or_default())
    }

    /// # Errors
    /// Why no connection will ever be made with these settings; nobody is asked.
    pub fn check(&self) -> Result<(), String> {
        client(self, CONNECT, system()).map(drop)
    }

    /// Registers what must not be seen of it.
    pub(super) fn learn_secrets(&self) {
        if self.is_secret {
            redact::learn_url(&self.url);
        } else {
            redact::learn_login_of(&self.url);
        }
        self.proxy.iter().for_each(redact::learn_login_of);
        self.client_certificate.iter().for_each(|pem| redact::learn(pem.expose_secret()));
    }

    fn reach(&self) -> EgressPolicy {
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

/// How names become addresses. Asked once for each connection, which goes to what was answered and checked.
pub type Lookup = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync>;

/// The system's way.
pub(super) fn system() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// The one place where connections of messages are configured.
pub(super) fn client(settings: &HttpSettings, connect: Duration, lookup: Lookup) -> Result<Client, String> {
    let mut builder = builder(&settings.url, settings.reach(), lookup)?.connect_timeout(connect.min(CONNECT));
    if let Some(path) = &settings.ca_file {
        let unreadable = |error: &dyn fmt::Display| format!("ca_file {}: {error}", path.display());
        let text = std::fs::read(path).map_err(|error| unreadable(&error))?;
        let certificates = Certificate::from_pem_bundle(&text).map_err(|error| unreadable(&error_chain(&error)))?;
        builder = builder.tls_certs_merge(certificates);
    }
    if let Some(pem) = &settings.client_certificate {
        let identity = Identity::from_pem(pem.expose_secret().as_bytes());
        builder =
            builder.identity(identity.map_err(|error| format!("the client certificate: {}", error_chain(&error)))?);
    }
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

/// For a heartbeat: to wherever its URL leads, except to what is never reached.
pub(crate) fn client_for_operator_url(url: &Url) -> Result<Client, String> {
    builder(url, EgressPolicy::Chosen, system())?.connect_timeout(CONNECT).build().map_err(|error| error_chain(&error))
}

/// Guarded twice, since a resolver is not asked for an address that a URL spells out.
fn builder(url: &Url, reach: EgressPolicy, lookup: Lookup) -> Result<reqwest::ClientBuilder, String> {
    egress_policy::check_url(url).map_err(|problem| format!("the URL {problem}"))?;
    // Building a client panics without a provider. Whoever installed one already keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Client::builder()
        .user_agent(concat!("vetwatch/", env!("CARGO_PKG_VERSION")))
        .no_proxy() // proxies come from the configuration only
        .redirect(redirect::Policy::none())
        // A connection that died silently takes one attempt along; shared by streams it would take all, until TCP gives up.
        .http1_only()
        .pool_idle_timeout(IDLE)
        .no_gzip() // an answer only explains; nothing is gained by unpacking it
        .dns_resolver(FilteringResolver { reach, lookup }))
}

struct FilteringResolver {
    reach: EgressPolicy,
    lookup: Lookup,
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (name, reach) = (name.as_str().to_owned(), self.reach.clone());
        let found = (self.lookup)(name.clone());
        Box::pin(async move {
            let permitted = reach.permitted(&name, found.await?)?;
            // Port 0 stands for the URL's.
            Ok(Box::new(permitted.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
