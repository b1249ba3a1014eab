//! The program as it is shipped, between receivers and an environment that mean it no good.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use vetwatch::sandbox::receiver::HookAct;

use crate::process::Town;

const OFTEN: &str = "in_review = \"100ms\"\nsettled = \"100ms\"";

/// A few verdicts that are to be told.
async fn verdicts(town: &Town, count: usize) {
    for id in town.in_review(count).await {
        town.sandbox.deny(&id, "Not an Education Customer").expect("a customer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_keeps_nobody_else_waiting() {
    let town = Town::new(OFTEN, "").await;
    verdicts(&town, 5).await;
    town.hook.script(HookAct::Hang, None);
    let daemon = town.running().await;
    // All mails are delivered within the one attempt that the receiver holds.
    town.until("select state, count(*) from v_deliveries where endpoint = 'sales-mail' group by 1", &["delivered | 5"])
        .await;
    assert_eq!(town.hook.hooks().len(), 1);
    assert_eq!(
        town.rows("select state, count(*) from v_deliveries where endpoint = 'crm' group by 1").await,
        ["pending | 5"]
    );
    daemon.kill();
}

/// What a proxy of the environment was asked.
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

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_names_no_proxy_and_the_longest_log_shows_no_secret() {
    let town = Town::new(OFTEN, "").await;
    let secret = format!("{}s/T0KEN-abc?sig=S3CRET-abc", town.hook.url());
    std::fs::write(town.folder.path().join("crm-url"), &secret).unwrap();
    town.change(&format!("url = \"{}\"", town.hook.url()), "url_file = \"crm-url\"");
    verdicts(&town, 2).await;
    town.hook.script(HookAct::with_header(500, "x-echo", "T0KEN-abc"), Some(1));
    let (proxy, asked) = bystander().await;
    let log = town.folder.path().join("everything.log");
    let environment = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .map(|name| (name, proxy.as_str()));
    let mut daemon = town.start_into(&log, &[&environment[..], &[("RUST_LOG", "trace")]].concat());
    town.delivered(2).await;
    assert!(town.hook.hooks().iter().all(|hook| hook.path.ends_with("/T0KEN-abc?sig=S3CRET-abc")));
    daemon.terminate();
    assert!(daemon.ended().await.success());
    assert_eq!(asked.load(Ordering::SeqCst), 0, "a proxy of the environment was asked");

    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("TRACE") && log.contains("HTTP 500"), "{} bytes", log.len());
    let database = std::fs::read(&town.database).unwrap();
    let database = String::from_utf8_lossy(&database);
    let client_secret = vetwatch::sandbox::Options::default().client_secret;
    for secret in ["T0KEN", "S3CRET", crate::world::SIGNING_SECRET.trim_start_matches("whsec_"), &client_secret] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret in the log");
        assert!(!database.contains(secret), "{secret} in the database");
    }
}
