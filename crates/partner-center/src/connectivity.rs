//! Checks how far a server can be reached, for `check --live`: the proxy, its name, a connection, TLS. The API calls go
//! through the HTTP client, whose errors do not show the stage.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use vetwatch_core::redact;
use vetwatch_core::text::short_line;

use crate::proxy::Proxy;
use crate::tls;

/// For each stage.
const STAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer head of a response is not a proxy's.
const HEAD_MAX_BYTES: usize = 16 * 1024;
const STATUS_LINE_MAX_CHARS: usize = 100;

/// A connection, whatever is below it.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The way through the proxy, up to its answer.
    Proxy,
    Dns,
    Connection,
    Tls,
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Dns => "dns",
            Self::Connection => "connection",
            Self::Tls => "tls",
        }
    }
}

/// Connects and disconnects. Sends only a TLS handshake, and nothing if `url` is plain http; to the proxy a CONNECT.
///
/// # Errors
/// The stage that failed, and why.
pub async fn reach(url: &Url, proxy: Option<&Proxy>) -> Result<(), (Stage, String)> {
    let host = url.host_str().unwrap_or_default();
    let stream = match proxy {
        Some(proxy) => {
            let port = url.port_or_known_default().unwrap_or(443);
            tunnel(proxy, host, port).await.map_err(|why| (Stage::Proxy, why))?
        }
        None => connect(url).await?,
    };
    if url.scheme() == "https" {
        let by = proxy.map(|proxy| format!("behind the proxy {proxy}: ")).unwrap_or_default();
        handshake(stream, host).await.map_err(|why| (Stage::Tls, format!("{by}{why}")))?;
    }
    Ok(())
}

/// Opens a tunnel to a server, as an HTTP client does for https. The error names the proxy.
async fn tunnel(proxy: &Proxy, host: &str, port: u16) -> Result<Box<dyn Stream>, String> {
    let failed = |why: String| format!("the proxy {proxy}: {why}");
    let mut stream = connect(proxy.url()).await.map_err(|(stage, why)| match stage {
        Stage::Dns => failed(format!("its name is not found: {why}")),
        _ => failed(why),
    })?;
    if proxy.url().scheme() == "https" {
        stream = handshake(stream, proxy.url().host_str().unwrap_or_default()).await.map_err(failed)?;
    }
    let login = proxy.authorization();
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n");
    let exchange = async {
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut head = Vec::new();
        // A byte at a time: what follows the head is the server's.
        while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX_BYTES {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) if head.is_empty() => return Err("it closes the connection without an answer".to_owned()),
                Err(_) => break,
            }
            // Another protocol's greeting may have no empty line.
            if head.ends_with(b"\n") && !head.starts_with(b"HTTP/") {
                break;
            }
        }
        answered(&head, host)
    };
    timeout(STAGE_TIMEOUT, exchange).await.map_err(|_| failed(late()))?.map_err(failed)?;
    Ok(stream)
}

/// Reads the response to CONNECT.
fn answered(head: &[u8], host: &str) -> Result<(), String> {
    let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let line = redact::words(&short_line(&line, STATUS_LINE_MAX_CHARS));
    let status: Option<u16> = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let meaning = match status {
        Some(200..=299) => return Ok(()),
        Some(401 | 407) => "it wants another login: check the user and password in proxy_url_file".to_owned(),
        Some(403 | 405) => format!("it does not let us connect to {host}: have it permitted there"),
        Some(502..=504) => format!("it cannot reach {host}"),
        Some(_) => format!("it does not connect to {host}; is it a proxy that knows CONNECT?"),
        None => "it is no HTTP proxy; check host and port".to_owned(),
    };
    Err(format!("{meaning} (it said: {line})"))
}

/// Looks the URL's host up and connects to it.
async fn connect(url: &Url) -> Result<Box<dyn Stream>, (Stage, String)> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let late = |_| late();
    let found = timeout(STAGE_TIMEOUT, tokio::net::lookup_host((host.trim_matches(['[', ']']), port))).await;
    let found = found.map_err(late).map_err(|why| (Stage::Dns, why))?;
    let addresses: Vec<_> = found.map_err(|error| (Stage::Dns, error.to_string()))?.collect();
    // Tries the addresses in turn.
    let connected = timeout(STAGE_TIMEOUT, TcpStream::connect(addresses.as_slice())).await;
    let tcp = connected.map_err(late).map_err(|why| (Stage::Connection, why))?;
    Ok(Box::new(tcp.map_err(|error| (Stage::Connection, error.to_string()))?))
}

/// Speaks TLS to the host at the other end.
async fn handshake(stream: Box<dyn Stream>, host: &str) -> Result<Box<dyn Stream>, String> {
    let tls = tls::config(None, None)?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| error.to_string())?;
    let shaken = timeout(STAGE_TIMEOUT, TlsConnector::from(Arc::new(tls)).connect(name, stream)).await;
    let stream = shaken.map_err(|_| late())?.map_err(|error| {
        let problem = tls::cause(&error).and_then(tls::problem);
        problem.unwrap_or_else(|| redact::words(&error.to_string()))
    })?;
    Ok(Box::new(stream))
}

fn late() -> String {
    format!("no answer within {}", humantime::format_duration(STAGE_TIMEOUT))
}
