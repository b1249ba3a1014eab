use std::sync::Arc;

use super::*;

#[test]
fn of_a_url_only_scheme_and_host_are_shown() {
    let url = "https://me:s3cr3t-pw@crm.example:8443/hooks/T0KEN-abc/v1?sig=QUERYSECRET%2Bx";
    let poster = HttpSender::new(HttpSettings::new(url.parse().unwrap()));
    let shown = format!("{poster:?} {:?}", poster.settings);
    assert!(shown.contains("https://crm.example:8443"), "{shown}");
    let echo = format!("{url}: Cannot POST /hooks/T0KEN-abc/v1 (sig=QUERYSECRET+x, T0KEN-abc) as me:s3cr3t-pw");
    let text = redact::words(&echo);
    for secret in ["T0KEN", "QUERYSECRET", "s3cr3t"] {
        assert!(!shown.contains(secret) && !text.contains(secret), "{shown}\n{text}");
    }
}

#[test]
fn our_own_sentence_is_told_whole_whatever_the_url_is_made_of() {
    let url = "https://crm.example/redirect/follows";
    let poster = HttpSender::new(HttpSettings::new(url.parse().unwrap()));
    let text = poster.reported(Outcome::Refused, "it redirects, and no redirect is followed").detail;
    assert_eq!(text, "https://crm.example: it redirects, and no redirect is followed");
    // A path that the configuration shows is not secret; a password always is.
    let known =
        HttpSettings { is_secret: false, ..HttpSettings::new("https://crm.example/hooks/known".parse().unwrap()) };
    let _ = HttpSender::new(known);
    assert_eq!(redact::words("Cannot POST /hooks/known"), "Cannot POST /hooks/known");
}

#[tokio::test]
async fn why_an_address_is_refused_is_told_whole_whatever_the_url_is_made_of() {
    let url = "https://crm.example/networks/allow_networks/private/reached/loopback/localhost/lookup/connect";
    let here: Lookup = Arc::new(|_| Box::pin(async { Ok(vec!["10.0.0.1".parse().unwrap()]) }));
    let poster = HttpSender::new(HttpSettings::new(url.parse().unwrap())).with_lookup(here);
    let result = poster.post(HeaderMap::new(), "", Timestamp::from_millis(0), |_, _| None).await;
    assert!(result.detail.contains("crm.example is 10.0.0.1, "), "{}", result.detail);
    assert!(result.detail.contains("only if allow_networks or the URL itself names it"), "{}", result.detail);
    assert!(!result.detail.contains("[hidden]"), "{}", result.detail);
}

#[test]
fn a_heartbeat_goes_wherever_its_url_leads_but_to_what_is_never_reached() {
    for (url, good) in [
        ("https://10.0.0.1/ping", true),
        ("https://checks.example/ping", true),
        ("http://localhost/ping", true),
        ("https://169.254.169.254/ping", false),
        ("http://checks.example/ping", false),
    ] {
        assert_eq!(client_for_operator_url(&url.parse().unwrap()).is_ok(), good, "{url}");
    }
}
