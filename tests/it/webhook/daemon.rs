//! The shipped program with hostile receivers and a hostile environment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use vetwatch::sandbox::webhook_receiver::WebhookAction;

use super::trust::secured;
use crate::peers::Certificates;
use crate::process::DaemonHarness;
use crate::tunnel::Proxy;
use crate::world::SIGNING_SECRET;

const OFTEN: &str = "in_review = \"100ms\"\nsettled = \"100ms\"";

/// A few verdicts to be notified.
async fn verdicts(town: &DaemonHarness, count: usize) {
    for id in town.in_review(count).await {
        town.sandbox.deny(&id, "Not an Education Customer").expect("a customer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_keeps_nobody_else_waiting() {
    let town = DaemonHarness::new(OFTEN, "").await;
    verdicts(&town, 5).await;
    town.hook.script(WebhookAction::Hang, None);
    let daemon = town.running().await;
    // All mails are delivered during the one attempt that the receiver holds.
    town.until("select state, count(*) from v_deliveries where endpoint = 'sales-mail' group by 1", &["delivered | 5"])
        .await;
    assert_eq!(town.hook.hooks().len(), 1);
    assert_eq!(
        town.rows("select state, count(*) from v_deliveries where endpoint = 'crm' group by 1").await,
        ["pending | 5"]
    );
    daemon.kill();
}

/// Requests to the proxy of the environment.
async fn bystander() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, count)
}

/// An endpoint with every possible secret: URL, proxy and client certificate.
const FAR: &str = "
[[endpoint]]
name = 'far'
kind = 'webhook'
url_file = 'far-url'
secret_file = 'signing-secret'
ca_file = 'CA'
client_certificate_file = 'CLIENT'
proxy_url_file = 'far-proxy'
[[route]]
events = ['vetting.denied']
endpoints = ['far']
";

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_names_no_proxy_and_the_longest_log_shows_no_secret() {
    let certificates = Certificates::new();
    let (ca, client) = (certificates.ca().display().to_string(), certificates.client().display().to_string());
    let far = secured(&certificates, true).await;
    let chosen = Proxy::new("200 Connection established", far.port).await;
    let town = DaemonHarness::new(OFTEN, &FAR.replace("CA", &ca).replace("CLIENT", &client)).await;
    let url = format!("{}s/T0KEN-abc?sig=S3CRET-abc", town.hook.url());
    for (name, text) in [
        ("crm-url", url.as_str()),
        ("far-url", "https://crm.example/F4R-T0KEN?sig=S3CRET-abc"),
        ("far-proxy", chosen.url("127.0.0.1").as_str()),
    ] {
        std::fs::write(town.folder.path().join(name), text).unwrap();
    }
    town.change(&format!("url = \"{}\"", town.hook.url()), "url_file = \"crm-url\"");
    verdicts(&town, 2).await;
    town.hook.script(WebhookAction::with_header(500, "x-echo", "T0KEN-abc"), Some(1));
    let (proxy, asked) = bystander().await;
    let environment = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .map(|name| (name, proxy.as_str()));
    let log = town.folder.path().join("everything.log");
    let mut daemon = town.start_into(&log, &[&environment[..], &[("RUST_LOG", "trace")]].concat());
    let delivered = ["crm | delivered | 2", "far | delivered | 2", "sales-mail | delivered | 2"];
    town.until("select endpoint, state, count(*) from v_deliveries group by 1, 2 order by 1, 2", &delivered).await;
    assert!(town.hook.hooks().iter().all(|hook| hook.path.ends_with("/T0KEN-abc?sig=S3CRET-abc")));
    assert_eq!(far.requests()[0].line, "POST /F4R-T0KEN?sig=S3CRET-abc HTTP/1.1");
    daemon.terminate();
    assert!(daemon.ended().await.success());
    assert_eq!(asked.load(Ordering::SeqCst), 0, "a proxy of the environment was asked");

    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("TRACE") && log.contains("HTTP 500"), "{} bytes", log.len());
    let mut said = vec![log, String::from_utf8_lossy(&std::fs::read(&town.database).unwrap()).into_owned()];
    for command in [&["check"][..], &["status"], &["deliveries", "list"], &["history"]] {
        let output = town.run(command);
        said.extend([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    }
    let key = std::fs::read_to_string(&client).unwrap();
    let key = key.lines().find(|line| !line.starts_with('-')).unwrap();
    let client_secret = vetwatch::sandbox::Options::default().client_secret;
    let signing = SIGNING_SECRET.trim_start_matches("whsec_");
    for secret in ["T0KEN", "S3CRET", "bWU6VDBLRU4", signing, &client_secret, key] {
        for text in &said {
            assert_eq!(text.lines().find(|line| line.contains(secret)), None, "{secret} is told");
        }
    }
}
