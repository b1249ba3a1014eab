//! `[web]`: where the page is served, and who may read it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use hyper::header::HeaderName;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::address::is_loopback;
use super::section::Section;
use super::values::{self, quote};

/// A shorter token can be guessed.
const TOKEN_MIN_CHARS: usize = 16;

/// `[web]`.
#[derive(Debug, Clone)]
pub struct WebSettings {
    pub listen: SocketAddr,
    /// Where people open the page; ends with a slash.
    pub public_url: Option<Url>,
    /// Names that a request may give as its host, in lower case, beside those of this machine.
    pub hosts: BTreeSet<String>,
    pub token: Option<SecretString>,
    pub trusted_proxy: Option<TrustedProxy>,
}

/// A proxy that signs people in.
#[derive(Debug, Clone)]
pub struct TrustedProxy {
    /// Names the person. Believed from these addresses only.
    pub header: HeaderName,
    pub from: Vec<IpNet>,
}

impl WebSettings {
    /// True if nobody needs to say who they are: only this machine can connect.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.token.is_none() && self.trusted_proxy.is_none()
    }
}

pub(super) fn web(root: &mut Section<'_>) -> Option<WebSettings> {
    let given = root.has("web");
    let mut section = root.section("web");
    if given {
        section.require(&["listen"]);
    }
    let listen = section.parsed("listen", |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("{} is not an address with a port, such as 127.0.0.1:9464", quote(text)))
    });
    let public_url = section.parsed("public_url", public_url);
    let mut hosts: BTreeSet<String> = BTreeSet::new();
    for (index, text) in section.strings("hosts").iter().enumerate() {
        match host(text) {
            Ok(host) => {
                hosts.insert(host);
            }
            Err(problem) => section.problem(&format!("hosts[{index}]"), problem),
        }
    }
    hosts.extend(public_url.as_ref().and_then(Url::host_str).map(str::to_lowercase));
    let wants_token = section.has("token_file");
    let token = section.secret("token_file").filter(|token| {
        let is_long = token.expose_secret().chars().count() >= TOKEN_MIN_CHARS;
        if !is_long {
            let text = format!(
                "the token has fewer than {TOKEN_MIN_CHARS} characters; `openssl rand -hex 24` makes a good one"
            );
            section.problem("token_file", text);
        }
        is_long
    });
    let wants_proxy = section.has("trusted_proxy");
    let trusted_proxy = trusted_proxy(section.section("trusted_proxy"), wants_proxy);
    let listen = listen?;
    if !listen.ip().to_canonical().is_loopback() && !wants_token && !wants_proxy {
        let text = format!(
            "{} can be reached from other machines: say who may read the page, with token_file or trusted_proxy",
            listen.ip()
        );
        section.problem("listen", text);
    }
    Some(WebSettings { listen, public_url, hosts, token, trusted_proxy })
}

fn public_url(text: &str) -> Result<Url, String> {
    let mut url = values::url(text)?;
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
        return Err("must begin with https://, because people open it from other machines".into());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("must be a plain address, without login, `?` or `#`".into());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// A host's name or address as a request gives it, without the port.
fn host(text: &str) -> Result<String, String> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let host = text.trim_end_matches('.').to_lowercase();
    let is_name = !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        });
    if is_name {
        Ok(host)
    } else {
        Err(format!("{} is not a host's name, such as vetting.contoso.example", quote(text)))
    }
}

fn trusted_proxy(mut section: Section<'_>, given: bool) -> Option<TrustedProxy> {
    if given {
        section.require(&["header", "from"]);
    }
    let header = section.parsed("header", |text| {
        text.to_lowercase().parse().map_err(|_| format!("{} is not the name of a header", quote(text)))
    });
    let mut from = Vec::new();
    for (index, text) in section.non_empty_strings("from").iter().enumerate() {
        let network = text.parse().or_else(|_| text.parse().map(|address: IpAddr| IpNet::from(address)));
        let problem = match network {
            Ok(network) if network.prefix_len() == 0 => {
                "is every address: anybody could claim to be signed in".to_owned()
            }
            Ok(network) => {
                from.push(network);
                continue;
            }
            Err(_) => format!("{} is not an address or network such as 10.0.0.5/32", quote(text)),
        };
        section.problem(&format!("from[{index}]"), problem);
    }
    Some(TrustedProxy { header: header?, from })
}
