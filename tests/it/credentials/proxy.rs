//! A partner behind a proxy: real CONNECT, real TLS, Microsoft's own names.

use vetwatch::sandbox::{CustomerDetails, Decision, Kind};

use super::{ACCESS, SCHOOL};
use crate::peers::Certificates;
use crate::process::{DaemonHarness, SOON, complaint, eventually};
use crate::tunnel::{Proxy, tls_in_front_of};

/// A harness for the commercial cloud: the sandbox is behind TLS, and only a proxy leads to it.
async fn town() -> (DaemonHarness, Certificates, u16) {
    let mut town = DaemonHarness::new("activity_log = \"1m\"", "").await;
    town.sandbox.add_customer(CustomerDetails::new(SCHOOL, "Contoso School", "school.example")).unwrap();
    let certificates = Certificates::new();
    town.environment.push(("SSL_CERT_FILE", certificates.ca()));
    let port = tls_in_front_of(town.sandbox.address().port(), &certificates).await;
    let url = town.sandbox.url();
    town.change(&format!("api_url = \"{url}\""), "proxy_url_file = \"proxy\"");
    town.change(&format!("login_url = \"{url}\""), "");
    town.change("[schedule]", "[partner.user_credential]\nkind = \"refresh-token\"\n[schedule]");
    town.change("customers = \"manual\"", "customers = \"synced\"");
    (town, certificates, port)
}

fn lead_by(town: &DaemonHarness, proxy: &str) {
    std::fs::write(town.folder.path().join("proxy"), proxy).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_for_a_partner_goes_through_its_proxy() {
    let (town, certificates, port) = town().await;
    let proxy = Proxy::new("200 Connection established", port).await;
    lead_by(&town, proxy.url("127.0.0.1").as_str());
    let approve = async {
        let code = eventually("a device waits", SOON, async || {
            town.sandbox.devices().into_iter().find(|device| device.asked > 0).ok_or_else(String::new)
        });
        assert!(town.sandbox.decide(&code.await.user_code, Decision::Approved));
    };
    let (login, ()) = tokio::join!(town.run_beside(&["login", "-vv"]), approve);
    let live = town.run_beside(&["check", "--live"]).await;
    let sync = town.run_beside(&["customers", "sync"]).await;
    let poll = town.run_beside(&["poll", "-vv"]).await;
    for output in [&login, &live, &sync, &poll] {
        assert!(output.status.success(), "{}", complaint(output));
        for secret in ["T0KEN", ACCESS] {
            assert!(!complaint(output).contains(secret), "{}", complaint(output));
        }
    }
    let by = format!(
        "login.microsoftonline.com: resolved, connected, certificate trusted, by the proxy http://127.0.0.1:{}",
        proxy.port
    );
    assert!(complaint(&live).contains(&by), "{}", complaint(&live));
    let daemon = town.running().await;
    town.sandbox.wait_for_requests(Kind::AuditRecords, 1, SOON).await.expect("the activity log");
    daemon.stop().await;
    for kind in [Kind::Token, Kind::Customers, Kind::Qualifications] {
        assert!(town.sandbox.count(kind) > 0, "{kind:?}");
    }
    let hosts = ["api.partnercenter.microsoft.com", "login.microsoftonline.com"];
    for head in proxy.heads() {
        assert!(hosts.iter().any(|host| head.starts_with(&format!("CONNECT {host}:443 HTTP/1.1\r\n"))), "{head}");
        assert!(head.contains("Basic bWU6VDBLRU4tcGFzc3dvcmQ="), "{head}");
    }
    // The proxy itself may be spoken to over TLS.
    let acceptor = crate::tunnel::acceptor(&certificates, false);
    let proxy = Proxy::behind(Some(acceptor), "200 OK", port).await;
    lead_by(&town, &format!("https://localhost:{}", proxy.port));
    let live = town.run_beside(&["check", "--live"]).await;
    assert!(live.status.success() && !proxy.heads().is_empty(), "{}", complaint(&live));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_says_what_is_wrong_with_the_proxy() {
    let (town, _certificates, port) = town().await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = unused.local_addr().unwrap().port();
    drop(unused);
    let mut cases = vec![
        (format!("http://127.0.0.1:{closed}"), "Connection refused"),
        ("http://no-such-proxy.invalid:3128".to_owned(), "its name is not found"),
        (format!("https://localhost:{}", town.sandbox.address().port()), "it does not speak TLS at this port"),
        (format!("http://127.0.0.1:{}", town.mail.address().port()), "it is no HTTP proxy; check host and port"),
    ];
    let mut proxies = Vec::new();
    for (answer, words) in [
        ("407 Proxy Authentication Required", "it wants another login"),
        ("403 Forbidden", "it does not let us connect to login.microsoftonline.com"),
        ("404 Not Found", "is it a proxy that knows CONNECT?"),
        ("502 Bad Gateway", "it cannot reach login.microsoftonline.com"),
    ] {
        let proxy = Proxy::new(answer, port).await;
        cases.push((proxy.url("127.0.0.1").to_string(), words));
        proxies.push(proxy);
    }
    for (url, words) in cases {
        lead_by(&town, &url);
        let output = town.run_beside(&["check", "--live"]).await;
        let said = complaint(&output);
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains("proxy         FAILED  login.microsoftonline.com: the proxy http"), "{said}");
        assert!(said.contains(words) && !said.contains("T0KEN"), "{words}: {said}");
        // What a poll says is shorter, and names the proxy as well.
        let output = town.run_beside(&["customers", "sync"]).await;
        let said = complaint(&output);
        assert!(!output.status.success() && said.contains("by the proxy http"), "{said}");
    }
    // A server that says 200 to everything.
    lead_by(&town, &town.hook.url().origin().ascii_serialization());
    let said = complaint(&town.run_beside(&["check", "--live"]).await);
    let place = "tls           FAILED  login.microsoftonline.com: behind the proxy http://127.0.0.1:";
    assert!(said.contains(place), "{said}");
    assert_eq!(town.sandbox.count(Kind::Token), 0);
}
