//! Delivery through the configured proxy, and no other.

use std::sync::Arc;

use vetwatch::delivery::Outcome;
use vetwatch::delivery::http::HttpSettings;

use super::trust::secured;
use super::{by, deliver};
use crate::peers::Certificates;
use crate::tunnel::{Proxy, acceptor};

#[tokio::test]
async fn a_proxy_that_is_configured_is_the_only_way_and_looks_names_up_itself() {
    let certificates = Certificates::new();
    let receiver = secured(&certificates, false).await;
    let proxy = Proxy::new("200 Connection established", receiver.port).await;
    let mut settings = HttpSettings::new("https://crm.example/hooks/T0KEN-abc".parse().unwrap());
    settings.ca_file = Some(certificates.ca());
    settings.proxy = Some(proxy.url("127.0.0.1"));
    let nobody = Arc::new(|name| panic!("{name} was looked up"));
    let report = deliver(&by(settings.clone()).with_lookup(nobody)).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!(receiver.requests()[0].line, "POST /hooks/T0KEN-abc HTTP/1.1");
    let head = proxy.heads().remove(0);
    assert!(head.starts_with("CONNECT crm.example:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Basic bWU6VDBLRU4tcGFzc3dvcmQ=") && !head.contains("abc"), "{head}");

    // The proxy's own name is resolved, and may be private: the administrator chose it.
    settings.proxy = Some(proxy.url("proxy.example"));
    let lookup = Arc::new(|name| {
        assert_eq!(name, "proxy.example");
        Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }) as _
    });
    let report = deliver(&by(settings.clone()).with_lookup(lookup)).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    let cloud = Arc::new(|_| Box::pin(async { Ok(vec!["169.254.169.254".parse().unwrap()]) }) as _);
    let report = deliver(&by(settings).with_lookup(cloud)).await;
    assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);
    assert!(report.detail.contains("proxy.example is 169.254.169.254"), "{}", report.detail);
    assert_eq!(proxy.heads().len(), 2);
}

#[tokio::test]
async fn a_proxy_may_be_spoken_to_over_tls() {
    let certificates = Certificates::new();
    let receiver = secured(&certificates, false).await;
    let proxy = Proxy::behind(Some(acceptor(&certificates, false)), "200 OK", receiver.port).await;
    let mut settings = HttpSettings::new("https://crm.example/hooks/T0KEN-abc".parse().unwrap());
    settings.proxy = Some(format!("https://localhost:{}", proxy.port).parse().unwrap());
    let report = deliver(&by(settings.clone())).await;
    assert_eq!(report.outcome, Outcome::Unavailable, "nobody vouches for the proxy: {}", report.detail);
    settings.ca_file = Some(certificates.ca());
    let report = deliver(&by(settings)).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!((proxy.heads().len(), receiver.requests().len()), (1, 1));
}

#[tokio::test]
async fn what_goes_wrong_at_the_proxy_is_said_to_be_there_and_leads_nowhere_else() {
    for answer in ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway", "nonsense"] {
        let proxy = Proxy::new(answer, 0).await;
        let mut settings = HttpSettings::new("https://crm.example/hooks/T0KEN-abc".parse().unwrap());
        settings.proxy = Some(proxy.url("127.0.0.1"));
        let report = deliver(&by(settings)).await;
        assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);
        let place = format!("https://crm.example: by the proxy http://127.0.0.1:{}: ", proxy.port);
        assert!(report.detail.starts_with(&place), "{}", report.detail);
        assert_eq!(proxy.heads().len(), 1, "{answer}");
    }
}

#[tokio::test]
async fn what_is_never_reached_is_not_asked_of_a_proxy_either() {
    let proxy = Proxy::new("200 OK", 0).await;
    for url in ["https://169.254.169.254/T0KEN-abc", "https://[fd00:ec2::254]/", "https://localhost/", "https://127.1/"]
    {
        let mut settings = HttpSettings::new(url.parse().unwrap());
        settings.proxy = Some(proxy.url("127.0.0.1"));
        assert_eq!(deliver(&by(settings)).await.outcome, Outcome::Unavailable, "{url}");
    }
    assert!(proxy.heads().is_empty());
}
