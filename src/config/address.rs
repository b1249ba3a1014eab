//! Checks URLs and hosts.

use std::net::IpAddr;

use url::Url;

use super::values;

pub(super) use crate::delivery::egress_policy::{check_url, is_loopback};

/// Parses an API's base URL: https (or loopback), and no query or fragment, so that a path can be appended. Its path
/// ends in `/`.
pub(super) fn base(text: &str) -> Result<Url, String> {
    let mut url = values::url(text)?;
    check_url(&url).map_err(|problem| format!("{} {problem}", quote(&url)))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{} contains more than a host and a path", quote(&url)));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// True for a mail server on this machine: `localhost`, 127.0.0.0/8, `::1`.
pub(super) fn is_loopback_host(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Formats a URL for a problem. Chat and webhook services put their key into user, query or a long path segment, so
/// none of these is shown.
pub(super) fn quote(url: &Url) -> String {
    const SHOWN_SEGMENT_MAX_CHARS: usize = 16;
    let path: Vec<&str> =
        url.path().split('/').map(|piece| if piece.len() > SHOWN_SEGMENT_MAX_CHARS { "…" } else { piece }).collect();
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{}{port}{}{query}", url.scheme(), url.host_str().unwrap_or_default(), path.join("/"))
}
