//! The keys of every HTTP endpoint.

use std::path::PathBuf;

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::address;
use super::section::Section;
use super::values::{self, quote};
use crate::delivery::egress_policy::forbidden_reason;
use crate::delivery::http::HttpSettings;
use crate::partner_center::Proxy;
use crate::partner_center::tls::CA_FILE_MAX_BYTES;

/// Reads `url` or `url_file` and the connection's settings. Call it before the kind's own keys, so that problems come
/// in the documentation's order.
pub(super) fn read(section: &mut Section<'_>) -> Option<HttpSettings> {
    if !exclusive(section, "url", "url_file") {
        section.require_or("url", "is missing (or url_file, where the URL itself is a secret)");
    }
    let inline = section.parsed("url", |text| {
        let url = values::url(text)?;
        address::check_url(&url).map_err(|problem| format!("{} {problem}", address::quote(&url)))?;
        without_password(url, "url_file")
    });
    let from_file = url_file(section, "url_file", url_of);
    let allow_networks = networks(section);
    let ca_file = authorities(section);
    let client_certificate = certificate(section);
    let proxy = proxy(section);
    let is_secret = from_file.is_some();
    let mut settings = HttpSettings { is_secret, ..HttpSettings::new(inline.or(from_file)?) };
    if proxy.is_some() && address::is_loopback(&settings.url) {
        section.problem(
            "proxy_url",
            "has no use here: the URL is on this machine, which for a proxy would be the proxy's own",
        );
        return None;
    }
    if !allow_networks.is_empty() && proxy.is_some() {
        section.warning("allow_networks", "has no effect: the proxy looks names up");
    }
    // One at a time, so that the problem names the invalid file.
    settings.ca_file = ca_file;
    check_client(section, "ca_file", &settings)?;
    settings.client_certificate = client_certificate;
    check_client(section, "client_certificate_file", &settings)?;
    Some(HttpSettings { allow_networks, proxy, ..settings })
}

/// Reports it if both keys are present. True if there is at least one.
fn exclusive(section: &mut Section<'_>, inline: &'static str, from_file: &'static str) -> bool {
    if section.has(inline) && section.has(from_file) {
        section.problem(inline, format!("stands beside {from_file}: delete one of the two"));
    }
    section.has(inline) || section.has(from_file)
}

fn without_password(url: Url, file: &str) -> Result<Url, String> {
    if url.username().is_empty() && url.password().is_none() {
        Ok(url)
    } else {
        Err(format!("contains a password: put the URL in a file, and that file's name in {file}"))
    }
}

/// Reads the URL from the file that `key` names.
fn url_file(
    section: &mut Section<'_>,
    key: &'static str,
    check: fn(&SecretString) -> Result<Url, String>,
) -> Option<Url> {
    let checked = check(&section.secret(key)?);
    checked.map_err(|problem| section.problem(key, format!("the text in the file {problem}"))).ok()
}

/// Parses a secret URL. The error holds no part of it.
pub(super) fn url_of(secret: &SecretString) -> Result<Url, String> {
    let url = values::url(secret.expose_secret().trim())?;
    address::check_url(&url)?;
    Ok(url)
}

fn networks(section: &mut Section<'_>) -> Vec<IpNet> {
    let texts = section.strings("allow_networks");
    let mut networks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match network(text) {
            Ok(network) => networks.push(network),
            Err(problem) => section.problem(&format!("allow_networks[{index}]"), problem),
        }
    }
    networks
}

/// Parses a network; a single address is a network of one.
fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
    let network: IpNet = parsed.map_err(|_| format!("{} is not a network such as 10.1.0.0/16", quote(text)))?;
    if network.addr() != network.network() {
        return Err(format!("{network} is an address in a network: write the network, {}", network.trunc()));
    }
    match forbidden_reason(network) {
        Some(kind) => Err(format!("{network} is never talked to: {kind}")),
        None => Ok(network),
    }
}

/// `ca_file`: authorities' certificates in PEM.
pub(super) fn authorities(section: &mut Section<'_>) -> Option<PathBuf> {
    let path = section.path("ca_file")?;
    match values::read_text(&path, CA_FILE_MAX_BYTES, "certificates") {
        Ok(text) if holds_certificates(&text) => {
            section.note_file("ca_file", &text);
            return Some(path);
        }
        Ok(_) => section.problem("ca_file", format!("{} contains no certificate in PEM", path.display())),
        Err(problem) => section.problem("ca_file", format!("{} {problem}", path.display())),
    }
    None
}

fn holds_certificates(text: &str) -> bool {
    let all: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    !all.is_empty() && all.iter().all(Result::is_ok)
}

/// Reads certificates and key, from one file or two.
pub(super) fn certificate(section: &mut Section<'_>) -> Option<SecretString> {
    if section.has("client_key_file") {
        section.require_or("client_certificate_file", "is missing: it goes with client_key_file");
    }
    let certificates = section.secret_text("client_certificate_file");
    let key = if section.has("client_key_file") { section.secret_text("client_key_file")? } else { String::new() };
    let pem = format!("{}\n{key}\n", certificates?);
    let problem = if !pem.contains("-----BEGIN CERTIFICATE-----") {
        "the file contains no certificate in PEM"
    } else if pem.contains("ENCRYPTED") {
        "the key has a passphrase, which vetwatch cannot ask for: store it without"
    } else if !pem.contains("PRIVATE KEY-----") {
        "the file contains no key in PEM; a key in a file of its own needs client_key_file"
    } else {
        return Some(pem.into());
    };
    section.problem("client_certificate_file", problem);
    None
}

/// An endpoint's proxy. vetwatch cannot check the address behind it, so there is a warning.
fn proxy(section: &mut Section<'_>) -> Option<Url> {
    let given = ["proxy_url", "proxy_url_file"].into_iter().find(|key| section.has(key));
    let proxy = proxy_url(section)?;
    let text = "the proxy looks the endpoint's name up, so vetwatch cannot check the address behind it: let the proxy \
                 refuse private ones";
    section.warning(given.unwrap_or_default(), text);
    Some(proxy)
}

/// The proxy to `servers`, none of which may be on this machine.
pub(super) fn proxy_to(section: &mut Section<'_>, servers: &[&Url]) -> Option<Proxy> {
    let proxy = proxy_url(section)?;
    if servers.iter().any(|url| address::is_loopback(url)) {
        let text = "makes no sense here: a URL leads to this machine, and a proxy would take that for itself";
        section.problem("proxy_url", text);
        return None;
    }
    Some(Proxy::new(proxy))
}

/// Reads `proxy_url` or `proxy_url_file`.
fn proxy_url(section: &mut Section<'_>) -> Option<Url> {
    exclusive(section, "proxy_url", "proxy_url_file");
    let inline = section.parsed("proxy_url", |text| {
        let url = values::url(text).map_err(proxies_words)?;
        proxies(&url).map_err(|problem| format!("{} {problem}", address::quote(&url)))?;
        without_password(url, "proxy_url_file")
    });
    let from_file = url_file(section, "proxy_url_file", |secret| {
        let url = values::url(secret.expose_secret().trim()).map_err(proxies_words)?;
        proxies(&url)?;
        Ok(url)
    });
    inline.or(from_file)
}

/// Plain http is common for proxies: what passes through is encrypted.
/// A proxy may be http, unlike what other URLs lead to.
fn proxies_words(problem: &'static str) -> &'static str {
    if problem.contains("https://") { "is not a URL such as http://proxy.example:3128" } else { problem }
}

fn proxies(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("is not a proxy such as http://proxy.example:3128");
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("contains more than a host and a port");
    }
    crate::delivery::egress_policy::check_host(url)
}

fn check_client(section: &Section<'_>, key: &str, settings: &HttpSettings) -> Option<()> {
    if settings.ca_file.is_none() && settings.client_certificate.is_none() {
        return Some(()); // building a client would add nothing
    }
    let report = |problem: String| {
        let unlike = problem.contains("KeyMismatch");
        section.problem(key, if unlike { "the key does not belong to the certificate".into() } else { problem });
    };
    settings.check().map_err(report).ok()
}
