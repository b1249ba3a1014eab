use std::collections::BTreeSet;

use super::*;
use crate::config::TrustedProxy;

const TOKEN: &str = "correct-horse-battery-staple";

fn settings(listen: &str) -> WebSettings {
    WebSettings {
        listen: listen.parse().unwrap(),
        public_url: None,
        hosts: BTreeSet::from(["vetting.contoso.example".to_owned()]),
        token: None,
        trusted_proxy: None,
    }
}

fn with_token() -> WebSettings {
    WebSettings { token: Some(TOKEN.into()), ..settings("0.0.0.0:9464") }
}

fn proxied() -> WebSettings {
    let header = HeaderName::from_static("x-forwarded-user");
    let trusted_proxy = Some(TrustedProxy { header, from: vec!["10.0.0.5/32".parse().unwrap()] });
    WebSettings { trusted_proxy, ..settings("0.0.0.0:9464") }
}

/// What becomes of a request with this head, and these ends of the connection.
fn admit_at(access: &Access, head: &str, peer: &str, local: &str, now: Instant) -> Result<Admitted, Refused> {
    let mut lines = head.lines();
    let (method, uri) = lines.next().unwrap().split_once(' ').unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.trim().split_once(": ").unwrap();
        let name: HeaderName = name.to_lowercase().parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    let asked = Asked {
        method: &method.parse().unwrap(),
        uri: &uri.parse().unwrap(),
        headers: &headers,
        peer: peer.parse().unwrap(),
        local: local.parse().unwrap(),
    };
    access.admit(&asked, now)
}

fn on_loopback(head: &str) -> Result<Admitted, Refused> {
    let access = Access::new(settings("127.0.0.1:9464"));
    admit_at(&access, head, "127.0.0.1:50000", "127.0.0.1:9464", Instant::now())
}

const FINE: Result<Admitted, Refused> = Ok(Admitted::Everything);
const ONE_WORD: Result<Admitted, Refused> = Ok(Admitted::OneWord);

#[test]
fn on_loopback_only_our_own_names_and_only_from_no_other_website() {
    let cases = [
        // Hosts: DNS rebinding gives a foreign name.
        ("GET /\nHost: 127.0.0.1:9464", FINE),
        ("GET /\nHost: localhost:9464", FINE),
        ("GET /\nHost: LOCALHOST.", FINE),
        ("GET /\nHost: [::1]:9464", FINE),
        ("GET /\nHost: localhost:8080", FINE), // a forwarded port
        ("GET /\nHost: Vetting.Contoso.Example", FINE),
        ("GET /\nHost: evil.example:9464", Err(Refused::Host)),
        ("GET /\nHost: localhost.evil.example", Err(Refused::Host)),
        ("GET /\nHost: evillocalhost", Err(Refused::Host)),
        ("GET /\nHost: 127.0.0.1.evil.example", Err(Refused::Host)),
        ("GET /\nHost: vetting.contoso.example.evil.example", Err(Refused::Host)),
        ("GET /\nHost: localhost..", Err(Refused::Host)),
        ("GET /\nHost: localhost:9464@evil.example", Err(Refused::Host)),
        ("GET /\nHost: localhost/", Err(Refused::Host)),
        ("GET /\nHost: 192.168.1.7:9464", Err(Refused::Host)),
        ("GET /\nHost: 0.0.0.0:9464", Err(Refused::Host)),
        ("GET /\nHost: [::1", Err(Refused::Host)),
        ("GET /\nHost: localhost\nHost: evil.example", Err(Refused::Host)),
        ("GET /\nAccept: */*", Err(Refused::Host)),
        ("GET http://evil.example/\nHost: localhost", Err(Refused::Host)),
        ("GET http://localhost/\nHost: localhost", FINE),
        // Other websites.
        ("GET /\nHost: localhost\nSec-Fetch-Site: none\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document", FINE),
        ("GET /\nHost: localhost\nSec-Fetch-Site: same-origin\nSec-Fetch-Mode: no-cors\nSec-Fetch-Dest: style", FINE),
        (
            "GET /\nHost: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document",
            FINE,
        ),
        (
            "GET /\nHost: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: iframe",
            Err(Refused::OtherSite),
        ),
        ("GET /\nHost: localhost\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors", Err(Refused::OtherSite)),
        ("GET /\nHost: localhost\nSec-Fetch-Site: same-site\nSec-Fetch-Mode: cors", Err(Refused::OtherSite)),
        ("GET /\nHost: localhost\nOrigin: https://evil.example", Err(Refused::OtherSite)),
        ("GET /\nHost: localhost\nOrigin: null", Err(Refused::OtherSite)),
        ("GET /\nHost: localhost\nOrigin: http://localhost:9464", FINE),
        // Methods.
        ("HEAD /\nHost: localhost", FINE),
        ("POST /\nHost: localhost", Err(Refused::Method)),
        ("OPTIONS /\nHost: localhost", Err(Refused::Method)),
        ("DELETE /customers\nHost: localhost", Err(Refused::Method)),
        // Monitors name any address, and learn one word.
        ("GET /healthz\nHost: 10.1.2.3:9464", ONE_WORD),
        ("GET /readyz\nHost: evil.example", ONE_WORD),
        ("GET /healthz\nHost: localhost", FINE),
        ("GET /metrics\nHost: evil.example", Err(Refused::Host)),
    ];
    for (head, expected) in cases {
        assert_eq!(on_loopback(head), expected, "{head}");
    }
}

#[test]
fn beyond_loopback_a_token_is_needed() {
    let access = Access::new(with_token());
    let basic = |login: &str| format!("Basic {}", BASE64_STANDARD.encode(login));
    let cases = [
        ("", Err(Refused::NoToken)),
        (&*format!("\nAuthorization: Bearer {TOKEN}"), FINE),
        (&format!("\nAuthorization: bearer  {TOKEN}"), FINE),
        (&format!("\nAuthorization: {}", basic(&format!("anybody:{TOKEN}"))), FINE),
        (&format!("\nAuthorization: {}", basic(&format!(":{TOKEN}"))), FINE),
        (&format!("\nAuthorization: {}", basic(TOKEN)), Err(Refused::WrongToken)),
        ("\nAuthorization: Bearer correct-horse", Err(Refused::WrongToken)),
        ("\nAuthorization: Bearer", Err(Refused::WrongToken)),
        ("\nX-Forwarded-User: ann", Err(Refused::NoToken)),
    ];
    for (headers, expected) in cases {
        let head = format!("GET /\nHost: 10.1.2.3{headers}");
        let found = admit_at(&access, &head, "10.9.9.9:50000", "10.1.2.3:9464", Instant::now());
        assert_eq!(found, expected, "{headers}");
    }
    // An address that is not the one that was connected to may be anybody's.
    let other = format!("GET /\nHost: 10.1.2.4\nAuthorization: Bearer {TOKEN}");
    assert_eq!(admit_at(&access, &other, "10.9.9.9:50000", "10.1.2.3:9464", Instant::now()), Err(Refused::Host),);
    let named = "GET /\nHost: localhost";
    assert_eq!(admit_at(&access, named, "10.9.9.9:1", "10.1.2.3:9464", Instant::now()), Err(Refused::Host));
    let probe = "GET /healthz\nHost: 10.1.2.3:9464";
    assert_eq!(admit_at(&access, probe, "10.9.9.9:1", "10.1.2.3:9464", Instant::now()), ONE_WORD);
}

#[test]
fn a_proxy_is_believed_at_its_address_only() {
    let access = Access::new(proxied());
    let head = "GET /\nHost: vetting.contoso.example\nX-Forwarded-User: ann";
    let from = |peer: &str, head: &str| admit_at(&access, head, peer, "10.0.0.7:9464", Instant::now());
    assert_eq!(from("10.0.0.5:40000", head), FINE);
    assert_eq!(from("[::ffff:10.0.0.5]:40000", head), FINE);
    assert_eq!(from("10.0.0.6:40000", head), Err(Refused::NoToken));
    assert_eq!(from("10.0.0.5:40000", "GET /\nHost: vetting.contoso.example"), Err(Refused::NoToken));
}

#[test]
fn who_guesses_the_token_is_slowed_down() {
    let access = Access::new(with_token());
    let begin = Instant::now();
    let ask = |token: &str, peer: &str, second: u64| {
        let head = format!("GET /\nHost: 10.1.2.3\nAuthorization: Bearer {token}");
        admit_at(&access, &head, peer, "10.1.2.3:9464", begin + Duration::from_secs(second))
    };
    let guesses: Vec<_> = (0..1000).map(|n| ask(&format!("guess-{n}"), "10.9.9.9:50000", n / 100)).collect();
    assert_eq!(guesses.iter().filter(|guess| **guess == Err(Refused::WrongToken)).count(), FAILURES_MAX);
    assert_eq!(ask(TOKEN, "10.9.9.9:50000", 10), Err(Refused::TooManyTokens), "the right one is no way to find out");
    assert_eq!(ask(TOKEN, "10.9.9.8:50000", 10), FINE, "others are not held up");
    assert_eq!(ask(TOKEN, "10.9.9.9:50000", 61), FINE);
    // An address of version 6 is one of very many that a host has.
    let guesses = (0..100).map(|n| ask("guess", &format!("[2001:db8::{n:x}]:1"), 70));
    assert_eq!(guesses.filter(|guess| *guess == Err(Refused::WrongToken)).count(), FAILURES_MAX);
    for n in 0..5000 {
        let _ = ask("guess", &format!("10.{}.{}.1:1", n / 250, n % 250), 80);
    }
    let failures = access.failures.lock().unwrap();
    assert!(failures.0.len() <= ADDRESSES_MAX, "{}", failures.0.len());
}

#[test]
fn a_feed_has_a_secret_address_of_its_own() {
    let access = Access::new(with_token());
    let [atom, calendar] = ["feed.atom", "expected.ics"].map(|feed| access.feed_secret(feed).unwrap());
    assert_ne!(atom, calendar);
    assert!(atom.len() >= 32, "{atom}");
    let ask = |path: &str| {
        admit_at(&access, &format!("GET {path}\nHost: 10.1.2.3"), "10.9.9.9:1", "10.1.2.3:9464", Instant::now())
    };
    assert_eq!(ask(&format!("/feeds/{atom}/feed.atom")), FINE);
    assert_eq!(ask(&format!("/feeds/{calendar}/expected.ics")), FINE);
    for path in [
        format!("/feeds/{atom}/expected.ics"),
        format!("/feeds/{atom}x/feed.atom"),
        format!("/feeds/{atom}"),
        "/feeds//feed.atom".to_owned(),
        "/feed.atom".to_owned(),
    ] {
        assert_eq!(ask(&path), Err(Refused::NoToken), "{path}");
    }
    assert_eq!(Access::new(settings("127.0.0.1:1")).feed_secret("feed.atom"), None);
}
