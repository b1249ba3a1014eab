//! Who may read the page. Pure but for the count of wrong tokens.
//!
//! A browser sends whatever a website asks it to send, to loopback addresses as well. So a request must name a host that is
//! ours (a website whose name is rebound to this address does not), and must not come from another website's page.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::hmac::{self, HMAC_SHA256};
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::WebSettings;
use crate::redact;

/// Wrong tokens that an address may send in [`WINDOW`].
const FAILURES_MAX: usize = 10;
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses whose wrong tokens are counted.
const ADDRESSES_MAX: usize = 1000;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Paths that monitors ask without a token. They learn one word.
pub(super) const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// How much a request is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    Everything,
    /// Whether it is well, without reasons.
    OneWord,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Method,
    /// Not a host of ours.
    Host,
    /// From another website's page.
    OtherSite,
    NoToken,
    WrongToken,
    TooManyTokens,
}

impl Refused {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::OtherSite => StatusCode::FORBIDDEN,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::TooManyTokens => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// For the person who sees it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Method => "This page is only read: GET and HEAD.\n",
            Self::Host => {
                "vetwatch does not serve this host. Name it in [web] hosts of the configuration, or open the page by an \
                 address of this machine.\n"
            }
            Self::OtherSite => "Another website asked for this page. Open it by itself.\n",
            Self::NoToken => "Sign in: the token of [web] token_file, as the password; any user name.\n",
            Self::WrongToken => "That is not the token of [web] token_file.\n",
            Self::TooManyTokens => "Too many wrong tokens from this address. Try again in a minute.\n",
        }
    }
}

/// A request, as far as it matters here.
#[derive(Debug)]
pub struct Asked<'r> {
    pub method: &'r Method,
    pub uri: &'r Uri,
    pub headers: &'r HeaderMap,
    /// Who connected, and to which address of ours.
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

#[derive(Debug)]
pub struct Access {
    settings: WebSettings,
    token: Option<Token>,
    failures: Mutex<Failures>,
}

impl Access {
    #[must_use]
    pub fn new(settings: WebSettings) -> Self {
        let token = settings.token.as_ref().map(Token::new);
        for feed in [super::feeds::ATOM, super::feeds::CALENDAR] {
            settings.token.iter().for_each(|token| redact::learn(&feed_secret(token, feed)));
        }
        Self { settings, token, failures: Mutex::default() }
    }

    /// True if nobody needs to say who they are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.settings.is_open()
    }

    /// Decides on a request.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit(&self, asked: &Asked<'_>, now: Instant) -> Result<Admitted, Refused> {
        if !matches!(*asked.method, Method::GET | Method::HEAD) {
            return Err(Refused::Method);
        }
        let is_probe = PROBES.contains(&asked.uri.path());
        if !self.is_our_host(asked) {
            // A monitor names whatever address it found.
            return if is_probe { Ok(Admitted::OneWord) } else { Err(Refused::Host) };
        }
        if is_of_another_site(asked.headers) || !self.is_our_origin(asked) {
            return Err(Refused::OtherSite);
        }
        if self.is_feed_address(asked.uri.path()) {
            return Ok(Admitted::Everything);
        }
        match self.identify(asked, now) {
            Ok(()) => Ok(Admitted::Everything),
            Err(Refused::NoToken) if is_probe => Ok(Admitted::OneWord),
            Err(refused) => Err(refused),
        }
    }

    /// The secret part of a feed's address, for a subscription that cannot send the token; `None` without one. Each feed has
    /// its own: who was given one cannot guess the other.
    #[must_use]
    pub fn feed_secret(&self, feed: &str) -> Option<String> {
        self.settings.token.as_ref().map(|token| feed_secret(token, feed))
    }

    /// `/feeds/SECRET/feed.atom`
    fn is_feed_address(&self, path: &str) -> bool {
        let Some((secret, feed)) = path.strip_prefix("/feeds/").and_then(|rest| rest.split_once('/')) else {
            return false;
        };
        self.feed_secret(feed).is_some_and(|expected| Token::new(&expected.into()).is(secret))
    }

    fn is_our_host(&self, asked: &Asked<'_>) -> bool {
        let mut hosts = asked.headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let named = host.to_str().is_ok_and(|host| self.is_ours(host, asked.local.ip()));
        // `GET http://other/`
        named && asked.uri.authority().is_none_or(|named| self.is_ours(named.as_str(), asked.local.ip()))
    }

    /// Compares the name exactly. The port says nothing: a rebound name has ours.
    fn is_ours(&self, authority: &str, local: IpAddr) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let local = local.to_canonical();
        match host.parse::<IpAddr>() {
            Ok(address) => {
                let address = address.to_canonical();
                address == local
                    || address.is_loopback() && local.is_loopback()
                    || self.settings.hosts.contains(&address.to_string())
            }
            Err(_) => host == "localhost" && local.is_loopback() || self.settings.hosts.contains(&host),
        }
    }

    /// Old browsers send no `Sec-Fetch-Site`, but an `Origin` if a script asks.
    fn is_our_origin(&self, asked: &Asked<'_>) -> bool {
        let mut origins = asked.headers.get_all(ORIGIN).iter();
        origins.all(|origin| {
            let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
            authority.is_some_and(|authority| self.is_ours(authority, asked.local.ip()))
        })
    }

    fn identify(&self, asked: &Asked<'_>, now: Instant) -> Result<(), Refused> {
        let peer = asked.peer.ip().to_canonical();
        if self.settings.is_open() {
            return Ok(());
        }
        if let Some(proxy) = &self.settings.trusted_proxy
            && proxy.from.iter().any(|network| network.contains(&peer))
            && asked.headers.get(&proxy.header).is_some_and(|person| !person.is_empty())
        {
            return Ok(());
        }
        let Some(token) = &self.token else { return Err(Refused::NoToken) };
        let Some(given) = asked.headers.get(AUTHORIZATION) else { return Err(Refused::NoToken) };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.are_too_many(peer, now) {
            return Err(Refused::TooManyTokens);
        }
        if given_token(given).is_some_and(|given| token.is(&given)) {
            return Ok(());
        }
        failures.note(peer, now);
        Err(Refused::WrongToken)
    }
}

/// The secret part of a feed's address.
#[must_use]
pub fn feed_secret(token: &SecretString, feed: &str) -> String {
    let key = hmac::Key::new(HMAC_SHA256, token.expose_secret().as_bytes());
    let tag = hmac::sign(&key, format!("feed {feed}").as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref().get(..24).unwrap_or_default())
}

/// The host of `host:port`, in lower case, without the dot at its end.
fn host_of(authority: &str) -> Option<String> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    let port = rest.strip_prefix(':').unwrap_or(rest);
    let is_port = port.chars().all(|c| c.is_ascii_digit());
    (is_port && !host.is_empty()).then(|| host.strip_suffix('.').unwrap_or(host).to_lowercase())
}

/// True if a page of another website asks, unless a person followed a link.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let is = |name, value: &str| headers.get(name).is_some_and(|found: &HeaderValue| found == value);
    let is_link = is(MODE, "navigate") && is(DEST, "document");
    (is(SITE, "cross-site") || is(SITE, "same-site")) && !is_link
}

/// The token of `Bearer TOKEN`, or of the password in `Basic …`.
fn given_token(header: &HeaderValue) -> Option<String> {
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    let login = scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(rest).ok())??;
    Some(String::from_utf8(login).ok()?.split_once(':')?.1.to_owned())
}

/// Compares tokens in constant time.
struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Token {
    fn new(token: &SecretString) -> Self {
        let key = hmac::Key::new(HMAC_SHA256, uuid::Uuid::new_v4().as_bytes());
        let tag = hmac::sign(&key, token.expose_secret().as_bytes());
        Self { key, tag }
    }

    fn is(&self, given: &str) -> bool {
        hmac::verify(&self.key, given.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Wrong tokens, by address.
#[derive(Debug, Default)]
struct Failures(BTreeMap<IpAddr, Vec<Instant>>);

impl Failures {
    fn are_too_many(&self, peer: IpAddr, now: Instant) -> bool {
        let recent = |at: &&Instant| now.duration_since(**at) < WINDOW;
        self.0.get(&network_of(peer)).is_some_and(|times| times.iter().filter(recent).count() >= FAILURES_MAX)
    }

    fn note(&mut self, peer: IpAddr, now: Instant) {
        if self.0.len() >= ADDRESSES_MAX {
            self.0.retain(|_, times| times.last().is_some_and(|at| now.duration_since(*at) < WINDOW));
        }
        if self.0.len() >= ADDRESSES_MAX {
            self.0.pop_first();
        }
        let times = self.0.entry(network_of(peer)).or_default();
        times.retain(|at| now.duration_since(*at) < WINDOW);
        times.push(now);
    }
}

/// A host with an address of version 6 has all of its 64 bits at the end.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => IpAddr::from((u128::from(address) & !u128::from(u64::MAX)).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests;
