//! Checks how far a server can be reached, for `check --live`: its name, a connection, TLS. The API calls go through
//! the HTTP client, whose errors do not show the stage.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use vetwatch_core::redact;

use crate::tls;

/// For each stage.
const STAGE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Dns,
    Connection,
    Tls,
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connection => "connection",
            Self::Tls => "tls",
        }
    }
}

/// Connects and disconnects. Sends only a TLS handshake, and nothing if `url` is plain http.
///
/// # Errors
/// The stage that failed, and why.
pub async fn reach(url: &Url) -> Result<(), (Stage, String)> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let bare = host.trim_matches(['[', ']']);
    let at = |hop| move |why: String| (hop, why);
    let late = |_| format!("no answer within {}", humantime::format_duration(STAGE_TIMEOUT));
    let found =
        timeout(STAGE_TIMEOUT, tokio::net::lookup_host((bare, port))).await.map_err(late).map_err(at(Stage::Dns))?;
    let addresses: Vec<_> = found.map_err(|error| (Stage::Dns, error.to_string()))?.collect();
    // Tries the addresses in turn.
    let connected = timeout(STAGE_TIMEOUT, TcpStream::connect(addresses.as_slice())).await;
    let tcp = connected.map_err(late).map_err(at(Stage::Connection))?;
    let tcp = tcp.map_err(|error| (Stage::Connection, error.to_string()))?;
    if url.scheme() != "https" {
        return Ok(());
    }
    let tls = tls::config(None, None).map_err(at(Stage::Tls))?;
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| (Stage::Tls, error.to_string()))?;
    let shaken = timeout(STAGE_TIMEOUT, TlsConnector::from(Arc::new(tls)).connect(name, tcp)).await;
    shaken.map_err(late).map_err(at(Stage::Tls))?.map_err(|error| {
        let problem = tls::cause(&error).and_then(tls::problem);
        (Stage::Tls, problem.unwrap_or_else(|| redact::words(&error.to_string())))
    })?;
    Ok(())
}
