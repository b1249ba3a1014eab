//! The feeds of the shipped daemon, read as programs that subscribe do, and the addresses that `vetwatch feeds` shows.

use serde_json::Value;

use crate::peers;
use crate::process::{DaemonHarness, SOON, complaint, eventually};

const TOKEN: &str = "a-token-of-more-than-16-characters";
/// As SQL: markup, an encoded word, a comma and a backslash, right to left, controls, what XML forbids, and length.
const HOSTILE: &str = "'<script>alert(1)</script> ]]> &amp; =?utf-8?q?x?= a;b,c\\n \" ' || char(8238, 27, 0x202e, 7, 65534, 13, 10) \
                       || 'مدرسة ' || printf('%.10000c', 'x')";

fn read(address: impl Fn(&str) -> String) -> Value {
    let mut tool = peers::tool("read_feeds.py");
    let output = tool.args([address("feed.atom"), address("expected.ics")]).output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn served(page: &str, token: Option<&str>) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    eventually("the page", SOON, async || {
        let mut request = client.get(page);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        match request.send().await {
            Ok(response) if response.status() == 200 => Ok(()),
            Ok(response) => Err(response.status().to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn feeds_can_be_read_whatever_customers_are_called() {
    let port = free_port();
    let town = DaemonHarness::new("in_review = \"1h\"", &format!("[web]\nlisten = \"127.0.0.1:{port}\"\n")).await;
    let ids = town.in_review(3).await;
    town.sandbox.deny(&ids[0], "Not an <Education> Customer & more").unwrap();
    town.tell(&["poll"]);
    let renamed = std::process::Command::new("sqlite3")
        .arg(&town.database)
        .arg(format!("update customer set name = {HOSTILE} where customer_id in ('{}', '{}')", ids[0], ids[1]))
        .output()
        .unwrap();
    assert!(renamed.status.success(), "{}", complaint(&renamed));
    let daemon = town.running().await;
    let page = format!("http://127.0.0.1:{port}/");
    served(&page, None).await;

    let shown = read(|feed| format!("{page}{feed}"));
    let entries = shown["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{shown}");
    let event = town.rows("select id from event where type = 'vetting.denied'").await;
    assert_eq!(entries[0]["id"], format!("urn:uuid:{}", event[0]));
    let (title, text) = (entries[0]["title"].as_str().unwrap(), entries[0]["text"].as_str().unwrap());
    assert!(title.starts_with("Denied: ") && title.contains("مدرسة") && title.len() < 400, "{title}");
    assert!(text.contains("Not an") && !title.contains(['\u{202e}', '\u{1b}', '\u{7}']), "{title} {text}");
    assert!(entries[0]["link"].as_str().unwrap().starts_with(&format!("{page}customer/emea/{}", ids[0])), "{shown}");

    let events = shown["events"].as_array().unwrap();
    assert_eq!(events.len(), 2, "{shown}");
    let uids: std::collections::BTreeSet<_> = events.iter().map(|event| event["uid"].as_str().unwrap()).collect();
    assert_eq!(uids.len(), 2);
    assert!(events.iter().all(|event| event["description"].as_str().unwrap().contains("business days")), "{shown}");
    let status: Value = serde_json::from_slice(&town.run_beside(&["status", "--json"]).await.stdout).unwrap();
    let days: Vec<_> = status["in_review"].as_array().unwrap().iter().map(|row| &row["expected_by"]).collect();
    for (event, day) in events.iter().zip(days) {
        assert_eq!(event["day"].as_str(), day.as_str().map(|day| &day[..10]), "{shown}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_has_a_secret_address_where_the_page_needs_a_token() {
    let port = free_port();
    let more = format!("[web]\nlisten = \"127.0.0.1:{port}\"\ntoken_file = \"page-token\"\n");
    let town = DaemonHarness::new("in_review = \"1h\"", &more).await;
    std::fs::write(town.folder.path().join("page-token"), TOKEN).unwrap();
    town.in_review(1).await;
    let daemon = town.running().await;
    let page = format!("http://127.0.0.1:{port}/");
    served(&page, Some(TOKEN)).await;

    let printed = town.run_beside(&["feeds", "--json"]).await;
    let addresses: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    let address = |feed: &str| {
        let key = if feed == "feed.atom" { "verdicts" } else { "expected" };
        addresses[key].as_str().unwrap().to_owned()
    };
    assert_eq!(read(address)["events"].as_array().unwrap().len(), 1);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for refused in [format!("{page}feed.atom"), address("feed.atom").replace("feed.atom", "expected.ics")] {
        assert_eq!(client.get(&refused).send().await.unwrap().status(), 401, "{refused}");
    }
    // No page shows the secret.
    let secret = address("feed.atom").rsplit('/').nth(1).unwrap().to_owned();
    for path in ["", "health", "decided"] {
        let shown = client.get(format!("{page}{path}")).bearer_auth(TOKEN).send().await.unwrap().text().await.unwrap();
        assert!(!shown.contains(&secret), "{path}");
    }
    daemon.stop().await;
    assert!(!town.log().contains(&secret), "{}", town.log());
}
