//! Which URLs and hosts are fit to be talked to.

use std::net::{IpAddr, Ipv6Addr};

use url::{Host, Url};

/// A base URL of an API: https (or loopback), without anything that a path could not be added to. Its path ends in `/`.
pub(super) fn base(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    transport(&url).map_err(|problem| format!("{} {problem}", shown(&url)))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{} holds more than a host and a path", shown(&url)));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// https, plain http to loopback only, and an address that is one host's.
pub(super) fn transport(url: &Url) -> Result<(), &'static str> {
    match (url.scheme(), is_loopback(url)) {
        ("https", _) | ("http", true) => {}
        _ => return Err("is not https"),
    }
    let address = match url.host() {
        Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
        Some(Host::Ipv6(v6)) => v6.to_canonical(),
        Some(Host::Domain(_)) => return Ok(()),
        None => return Err("names no host"),
    };
    if is_forbidden(address) { Err("names an address that vetwatch never talks to") } else { Ok(()) }
}

/// Link-local (where clouds keep their metadata), multicast and unspecified addresses.
fn is_forbidden(address: IpAddr) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let special = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == METADATA,
    };
    special || address.is_multicast() || address.is_unspecified()
}

/// `localhost`, 127.0.0.0/8, `::1`: what cannot leave this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(v4)) => v4.is_loopback(),
        Some(Host::Ipv6(v6)) => v6.to_canonical().is_loopback(),
        None => false,
    }
}

/// The same for a mail server's host.
pub(super) fn is_loopback_host(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A URL in a problem. Chat and webhook services put their key into user, query or a long piece of the path, so
/// none of these is shown.
pub(super) fn shown(url: &Url) -> String {
    const LONGEST_WORD: usize = 16;
    let path: Vec<&str> =
        url.path().split('/').map(|piece| if piece.len() > LONGEST_WORD { "…" } else { piece }).collect();
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{}{port}{}{query}", url.scheme(), url.host_str().unwrap_or_default(), path.join("/"))
}
