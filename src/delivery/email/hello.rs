//! What the client calls itself in EHLO: strict servers refuse a bare host name (RFC 5321 4.1.4).

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use lettre::transport::smtp::extension::ClientId;
use tokio::time::timeout;

/// The lookup asks a name server; the session does not wait long for it.
const LOOKUP: Duration = Duration::from_secs(5);

/// The host's full name, once it was found. A lookup that failed is repeated in the next session.
static FULL_NAME: OnceLock<String> = OnceLock::new();

/// The name for a connection from `local`: the configured one, else the host's full name, else an address literal.
pub(super) async fn client_id(configured: Option<&str>, local: SocketAddr) -> ClientId {
    match configured {
        Some(name) => choose(Some(name), local.ip()),
        None => choose(full_name().await.as_deref(), local.ip()),
    }
}

fn choose(name: Option<&str>, local: IpAddr) -> ClientId {
    match (name, local.to_canonical()) {
        (Some(name), _) => ClientId::Domain(name.to_owned()),
        (None, IpAddr::V4(address)) => ClientId::Ipv4(address),
        (None, IpAddr::V6(address)) => ClientId::Ipv6(address),
    }
}

/// `AI_CANONNAME` of `getaddrinfo`.
const CANONICAL_NAME: i32 = 2;

async fn full_name() -> Option<String> {
    if let Some(known) = FULL_NAME.get() {
        return Some(known.clone());
    }
    let lookup = timeout(LOOKUP, tokio::task::spawn_blocking(look_up)).await;
    let name = lookup.ok()?.ok()??;
    Some(FULL_NAME.get_or_init(|| name).clone())
}

/// As `hostname --fqdn`: the host name itself if it is full, else its canonical name in the hosts file or the DNS.
fn look_up() -> Option<String> {
    let name = hostname::get().ok()?.into_string().ok()?;
    if is_full(&name) {
        return Some(name);
    }
    let hints = dns_lookup::AddrInfoHints { flags: CANONICAL_NAME, ..dns_lookup::AddrInfoHints::default() };
    let found = dns_lookup::getaddrinfo(Some(&name), None, Some(hints)).ok()?;
    found.filter_map(Result::ok).filter_map(|address| address.canonname).find(|name| is_full(name))
}

/// A domain name of several labels, which is not the loopback's.
#[must_use]
pub fn is_full(name: &str) -> bool {
    let is_label = |label: &str| {
        let fit = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        fit && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let labels: Vec<_> = name.split('.').collect();
    let is_loopback = labels[0].eq_ignore_ascii_case("localhost");
    let is_number = labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels.len() > 1 && name.len() <= 253 && labels.iter().all(|label| is_label(label)) && !is_loopback && !is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_full_name_the_client_is_the_address_that_it_connects_from() {
        let hello = |name, local: &str| choose(name, local.parse().unwrap()).to_string();
        assert_eq!(hello(Some("mail.contoso.example"), "192.0.2.1"), "mail.contoso.example");
        assert_eq!(hello(Some("[192.0.2.9]"), "192.0.2.1"), "[192.0.2.9]");
        assert_eq!(hello(None, "192.0.2.1"), "[192.0.2.1]");
        assert_eq!(hello(None, "::ffff:192.0.2.1"), "[192.0.2.1]");
        assert_eq!(hello(None, "2001:db8::1"), "[IPv6:2001:db8::1]");
    }

    #[test]
    fn a_bare_name_is_no_full_name() {
        for full in ["mail.contoso.example", "a.b", "xn--bro-hoa.example", "1.example", "MAIL.Contoso.example"] {
            assert!(is_full(full), "{full}");
        }
        for bare in [
            "",
            "mail",
            "localhost",
            "localhost.localdomain",
            "mail.",
            ".example",
            "a..b",
            "my_host.example",
            "192.0.2.1",
            "-a.example",
            "büro.example",
            "a b.example",
        ] {
            assert!(!is_full(bare), "{bare}");
        }
    }
}
