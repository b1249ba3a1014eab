//! The page over HTTP: what every response says, who is refused, and that nobody keeps others out.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::process::{DaemonHarness, SOON, complaint, eventually};

const TOKEN: &str = "correct-horse-battery-staple";
/// Basic, with the token as the password.
const BASIC: &str = "Authorization: Basic YW55Ym9keTpjb3JyZWN0LWhvcnNlLWJhdHRlcnktc3RhcGxl\r\n";

/// An address that is free now.
async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn with_page(address: SocketAddr, more: &str) -> DaemonHarness {
    DaemonHarness::new("in_review = \"1h\"", &format!("[web]\nlisten = \"{address}\"\n{more}")).await
}

/// The whole response to a request for `path` with these header lines.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut response = Vec::new();
    timeout(SOON, stream.read_to_end(&mut response)).await.expect("a response")?;
    Ok(String::from_utf8(response).expect("a text"))
}

fn host(address: SocketAddr) -> String {
    format!("Host: {address}\r\n")
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or("none")
}

/// Waits until the page responds with this status.
async fn until(address: SocketAddr, headers: &str, expected: &str) {
    eventually("the page", SOON, async || match ask(address, "GET", "/", headers).await {
        Ok(response) if status(&response) == expected => Ok(()),
        Ok(response) => Err(response),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

async fn reload(town: &DaemonHarness) {
    let output = town.run_beside(&["reload"]).await;
    assert!(output.status.success(), "{}", complaint(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_has_the_headers_and_only_reading_is_allowed() {
    let address = free_address().await;
    let town = with_page(address, "").await;
    let daemon = town.running().await;
    until(address, &host(address), "200").await;
    let ours = host(address);
    let foreign = "Host: evil.example\r\n".to_owned();
    let elsewhere = format!("{ours}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n");
    for (method, path, headers, expected) in [
        ("GET", "/", &ours, "200"),
        ("GET", "/decided", &ours, "200"),
        ("GET", "/customers?q=%FF%00&after=x", &ours, "200"),
        ("GET", "/deliveries", &ours, "200"),
        ("GET", "/health", &ours, "200"),
        ("GET", "/style.css", &ours, "200"),
        ("GET", "/customer/emea/%00", &ours, "404"),
        ("GET", "/delivery/none", &ours, "404"),
        ("GET", "/none", &ours, "404"),
        ("POST", "/", &ours, "405"),
        ("OPTIONS", "/", &ours, "405"),
        ("DELETE", "/customers", &ours, "405"),
        ("GET", "/", &foreign, "421"),
        ("GET", "/", &String::new(), "421"),
        ("GET", "/", &elsewhere, "403"),
    ] {
        let response = ask(address, method, path, headers).await.unwrap();
        assert_eq!(status(&response), expected, "{method} {path} {headers}: {response}");
        let head = response.split("\r\n\r\n").next().unwrap().to_lowercase();
        for line in [
            "content-security-policy: default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-origin",
            "x-frame-options: deny",
            "cache-control: no-store",
        ] {
            assert_eq!(head.lines().filter(|found| *found == line).count(), 1, "{method} {path}: {line} in {head}");
        }
        assert!(!head.contains("set-cookie"), "{head}");
    }
    let whole = ask(address, "GET", "/customers", &ours).await.unwrap();
    let head = ask(address, "HEAD", "/customers", &ours).await.unwrap();
    let length = whole.split_once("\r\n\r\n").unwrap().1.len();
    assert!(head.to_lowercase().contains(&format!("content-length: {length}\r\n")), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_needed_and_cannot_be_guessed_fast_and_a_reload_replaces_it() {
    let address = free_address().await;
    let town = with_page(address, "token_file = \"web-token\"\n").await;
    std::fs::write(town.folder.path().join("web-token"), TOKEN).unwrap();
    let daemon = town.running().await;
    let ours = host(address);
    until(address, &ours, "401").await;
    let response = ask(address, "GET", "/", &ours).await.unwrap();
    assert!(response.to_lowercase().contains("www-authenticate: basic"), "{response}");
    let bearer = format!("{ours}Authorization: Bearer {TOKEN}\r\n");
    for right in [&bearer, &format!("{ours}{BASIC}")] {
        assert_eq!(status(&ask(address, "GET", "/", right).await.unwrap()), "200");
    }

    // A reload with another token.
    let other = "another-token-of-the-page";
    std::fs::write(town.folder.path().join("web-token"), other).unwrap();
    reload(&town).await;
    until(address, &format!("{ours}Authorization: Bearer {other}\r\n"), "200").await;
    assert_eq!(status(&ask(address, "GET", "/", &bearer).await.unwrap()), "401");

    let mut seen = Vec::new();
    for guess in 0..30 {
        let headers = format!("{ours}Authorization: Bearer guess-number-{guess:04}\r\n");
        seen.push(status(&ask(address, "GET", "/", &headers).await.unwrap()).to_owned());
    }
    assert!(seen.iter().all(|status| status == "401" || status == "429"), "{seen:?}");
    assert!(seen.iter().filter(|status| *status == "401").count() <= 10, "{seen:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_keep_nobody_out_and_two_hundred_read_at_once() {
    let address = free_address().await;
    let town = with_page(address, "").await;
    let daemon = town.running().await;
    let ours = host(address);
    until(address, &ours, "200").await;
    let mut slow = Vec::new();
    for n in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = if n % 2 == 0 { "GET / HTTP/1.1\r\nHo".to_owned() } else { format!("GET / HTTP/1.1\r\n{ours}\r\n") };
        stream.write_all(text.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(status(&ask(address, "GET", "/", &ours).await.unwrap()), "200");
    let mut readers = JoinSet::new();
    for _ in 0..200 {
        let ours = ours.clone();
        readers.spawn(async move { ask(address, "GET", "/customers", &ours).await.unwrap() });
    }
    let responses = readers.join_all().await;
    // Who has to wait for too long is told to try again.
    assert!(responses.iter().all(|response| ["200", "503"].contains(&status(response))), "{responses:?}");
    assert!(responses.iter().any(|response| status(response) == "200"));
    assert_eq!(status(&ask(address, "GET", "/", &ours).await.unwrap()), "200");
    drop(slow);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_in_the_status_and_a_reload_moves_the_page() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let town = with_page(address, "").await;
    let daemon = town.running().await;
    town.logged("the page is not served").await;
    eventually("the status", SOON, async || {
        let output = town.run_beside(&["status", "--json"]).await;
        let text = complaint(&output);
        if text.contains("page_not_served") { Ok(()) } else { Err(text) }
    })
    .await;

    let other = free_address().await;
    town.change(&format!("listen = \"{address}\""), &format!("listen = \"{other}\""));
    reload(&town).await;
    until(other, &host(other), "200").await;
    let output = town.run_beside(&["status", "--json"]).await;
    assert!(!complaint(&output).contains("page_not_served"), "{}", complaint(&output));
    drop(taken);
    daemon.stop().await;
}
