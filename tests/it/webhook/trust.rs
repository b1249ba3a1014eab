//! Server trust: real TLS with the test's own CA.

use std::sync::Arc;

use vetwatch::delivery::Outcome;
use vetwatch::delivery::http::HttpSettings;

use super::{Receiver, Then, by, deliver};
use crate::peers::Certificates;
use crate::tunnel::acceptor;

const TAKEN: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

pub(super) async fn secured(certificates: &Certificates, demanding: bool) -> Receiver {
    Receiver::behind(Some(acceptor(certificates, demanding)), Then::Answer(TAKEN.to_owned())).await
}

fn settings(host: &str, receiver: &Receiver) -> HttpSettings {
    HttpSettings::new(format!("https://{host}:{}/hooks/T0KEN-abc", receiver.port).parse().unwrap())
}

#[tokio::test]
async fn a_receiver_that_nobody_vouches_for_gets_nothing() {
    let certificates = Certificates::new();
    let receiver = secured(&certificates, false).await;
    let report = deliver(&by(settings("localhost", &receiver))).await;
    assert_eq!(report.outcome, Outcome::Unavailable);
    assert!(report.detail.contains("certificate") && report.detail.contains("ca_file"), "{}", report.detail);

    // Its CA is trusted, but the name is another.
    let ca_file = Some(certificates.ca());
    let mut other = settings("crm.localhost", &receiver);
    other.ca_file.clone_from(&ca_file);
    let here = Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }) as _);
    let report = deliver(&by(other).with_lookup(here)).await;
    assert_eq!(report.outcome, Outcome::Unavailable);
    assert!(report.detail.contains("its certificate is for another name: "), "{}", report.detail);
    assert!(receiver.requests().is_empty());

    for host in ["localhost", "127.0.0.1"] {
        let report = deliver(&by(HttpSettings { ca_file: ca_file.clone(), ..settings(host, &receiver) })).await;
        assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    }
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test]
async fn a_receiver_that_demands_a_certificate_gets_the_configured_one() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let receiver = secured(&certificates, true).await;
    let settings = HttpSettings { ca_file: Some(certificates.ca()), ..settings("localhost", &receiver) };
    let report = deliver(&by(settings.clone())).await;
    assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);
    assert!(report.detail.contains("client_certificate_file"), "{}", report.detail);

    let with = |certificates: &Certificates| {
        let pem = std::fs::read_to_string(certificates.client()).unwrap();
        assert!(pem.contains("PRIVATE KEY"));
        by(HttpSettings { client_certificate: Some(pem.into()), ..settings.clone() })
    };
    let report = deliver(&with(&others)).await;
    assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);
    assert!(receiver.requests().is_empty());
    let report = deliver(&with(&certificates)).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_the_settings_is_what_every_attempt_says() {
    let mut settings = HttpSettings::new("https://crm.example/hooks/T0KEN-abc".parse().unwrap());
    settings.ca_file = Some("/no/such/ca.pem".into());
    let report = deliver(&by(settings)).await;
    assert_eq!(report.outcome, Outcome::Unavailable);
    assert!(report.detail.contains("ca_file /no/such/ca.pem: No such file"), "{}", report.detail);
}
