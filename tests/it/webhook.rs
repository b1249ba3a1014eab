//! Webhooks to a scripted server, verified by an independent library.

mod addresses;
mod daemon;
mod echo;
mod proxy;
mod trust;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;
use vetwatch::delivery::http::HttpSettings;
use vetwatch::delivery::message::sample;
use vetwatch::delivery::webhook::{SigningSecret, WebhookChannel, WebhookSettings};
use vetwatch::delivery::{AttemptResult, Outcome};
use vetwatch::event::EventType;
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::store::{ClaimedDelivery, UnrenderedDelivery};
use vetwatch::time::{Clock as _, SystemClock, Timestamp};

use crate::peers::{Certificates, MailServer, run, verify_webhook};

const ID: Uuid = Uuid::from_u128(0x0193_4a5b_6c7d_7000_8000_0000_0000_0003);
const TRY_AGAIN: Outcome = Outcome::Retry { after: None };

/// A received request.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// How the receiver responds.
#[derive(Debug, Clone)]
enum Then {
    Answer(String),
    /// The start of a response, then nothing.
    Silence(String),
    HangUp,
    /// The start of a response, then the same endlessly.
    Endless(String, &'static str),
    /// The start of a response, then a byte now and then, endlessly.
    Drip(String),
}

struct Receiver {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    /// Bytes sent of endless responses.
    sent: Arc<AtomicUsize>,
}

impl Receiver {
    async fn new(then: Then) -> Self {
        Self::behind(None, then).await
    }

    /// With TLS, if an acceptor is given.
    async fn behind(tls: Option<TlsAcceptor>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let sent = Arc::<AtomicUsize>::default();
        let (seen, count) = (Arc::clone(&requests), Arc::clone(&sent));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, then, seen, count) = (tls.clone(), then.clone(), Arc::clone(&seen), Arc::clone(&count));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, then, seen, count).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, then, seen, count).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, requests, sent }
    }

    async fn answering(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}");
        Self::new(Then::Answer(answer)).await
    }

    fn channel(&self) -> WebhookChannel {
        channel(&format!("http://127.0.0.1:{}/hooks/T0KEN-abc?sig=S3CRET", self.port), &[])
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    then: Then,
    seen: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicUsize>,
) {
    let mut bytes = Vec::new();
    let request = loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap_or(0);
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(request) = parse(&bytes) {
            break request;
        }
        if read == 0 {
            return;
        }
    };
    seen.lock().unwrap().push(request);
    match then {
        Then::Answer(answer) => {
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Then::HangUp => (),
        Then::Silence(beginning) => {
            let _ = stream.write_all(beginning.as_bytes()).await;
            std::future::pending::<()>().await;
        }
        Then::Endless(beginning, more) => {
            let _ = stream.write_all(beginning.as_bytes()).await;
            let more = more.repeat(8192 / more.len());
            while let Ok(written) = stream.write(more.as_bytes()).await {
                sent.fetch_add(written, Ordering::Relaxed);
            }
        }
        Then::Drip(beginning) => {
            let _ = stream.write_all(beginning.as_bytes()).await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines().map(str::to_owned);
    let line = lines.next()?;
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
        .collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    (body.len() >= length).then(|| Request { line, headers, body: body.to_owned() })
}

/// Unsigned.
fn by(http: HttpSettings) -> WebhookChannel {
    WebhookChannel::new(WebhookSettings::signed(http, Vec::new()))
}

fn channel(url: &str, secrets: &[&str]) -> WebhookChannel {
    let secrets = secrets.iter().map(|secret| SigningSecret::parse(secret).unwrap()).collect();
    WebhookChannel::new(WebhookSettings::signed(HttpSettings::new(url.parse().unwrap()), secrets))
}

fn now() -> Timestamp {
    serde_json::from_value("2026-11-21T09:00:00.000Z".into()).unwrap()
}

async fn deliver(channel: &WebhookChannel) -> AttemptResult {
    deliver_at(channel, now()).await
}

async fn deliver_at(channel: &WebhookChannel, now: Timestamp) -> AttemptResult {
    let mut event = sample::event(EventType::Denied, Uuid::from_u128(1), "emea", now);
    if let vetwatch::event::EventPayload::Vetting(news) = &mut event.data.subject {
        "École \"大学\"\r\n</script>".clone_into(&mut news.customer.name);
    }
    let message = channel.render(&UnrenderedDelivery::new(ID, vec![event], chrono_tz::UTC)).message;
    let report = channel.deliver(&ClaimedDelivery::without_row(ID, message), now).await;
    let shown = format!("{report:?} {channel:?}");
    assert!(!shown.contains("T0KEN") && !shown.contains("S3CRET"), "{shown}");
    assert!(
        report.detail.len() <= AttemptResult::DETAIL_MAX && !report.detail.contains(char::is_control),
        "{report:?}"
    );
    report
}

#[tokio::test]
async fn signatures_hold_before_the_eyes_of_an_independent_library() {
    let receiver = Receiver::answering("204 No Content", "", "").await;
    let secret = |byte| format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode([byte; 32]));
    let (new, old) = (secret(1), secret(2));
    let channel = channel(&format!("http://127.0.0.1:{}/", receiver.port), &[&new, &old]);
    let first = SystemClock.now();
    assert_eq!(deliver_at(&channel, first).await.outcome, Outcome::Accepted);
    assert_eq!(deliver_at(&channel, first.after(Duration::from_secs(90))).await.outcome, Outcome::Accepted);

    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.line, "POST / HTTP/1.1");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["webhook-id"], ID.to_string());
        assert_eq!(request.headers["user-agent"], concat!("vetwatch/", env!("CARGO_PKG_VERSION")));
        for secret in [&new, &old] {
            let understood = verify_webhook(secret, &request.headers, &request.body).unwrap();
            assert_eq!(understood["type"], "vetting.denied");
            assert_eq!(understood["data"]["customer"]["name"], "École \"大学\"\r\n</script>");
        }
        let error = verify_webhook(&secret(3), &request.headers, &request.body).unwrap_err();
        assert!(error.contains("not verified"), "{error}");
        let changed = request.body.replace("Denied", "Approved");
        assert!(verify_webhook(&new, &request.headers, &changed).is_err());
    }
    assert_ne!(requests[0].headers["webhook-timestamp"], requests[1].headers["webhook-timestamp"]);
    assert_ne!(requests[0].headers["webhook-signature"], requests[1].headers["webhook-signature"]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Receiver::answering("200 OK", "", "").await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("location: http://127.0.0.1:{}/elsewhere?T0KEN\r\n", target.port);
        let receiver = Receiver::answering(status, &location, "").await;
        let report = deliver(&receiver.channel()).await;
        assert_eq!(report.outcome, TRY_AGAIN);
        assert!(report.detail.contains("redirects are not followed"), "{}", report.detail);
        assert!(report.detail.contains(&format!("to http://127.0.0.1:{}", target.port)), "{}", report.detail);
    }
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn each_status_has_its_consequence() {
    let wait = |seconds| Outcome::Retry { after: Some(Duration::from_secs(seconds)) };
    for (status, headers, outcome) in [
        ("200 OK", "", Outcome::Accepted),
        ("202 Accepted", "", Outcome::Accepted),
        ("410 Gone", "", Outcome::Gone),
        ("429 Too Many Requests", "retry-after: 120\r\n", wait(120)),
        ("429 Too Many Requests", "retry-after: 999999\r\n", wait(3600)),
        ("429 Too Many Requests", "", TRY_AGAIN),
        ("429 Too Many Requests", "retry-after: Sat, 21 Nov 2026 09:05:00 GMT\r\n", wait(300)),
        ("503 Service Unavailable", "retry-after: Sat, 21 Nov 2026 09:05:00 GMT\r\n", wait(300)),
        ("503 Service Unavailable", "retry-after: soon\r\n", TRY_AGAIN),
        ("413 Payload Too Large", "", Outcome::Refused),
        ("408 Request Timeout", "", TRY_AGAIN),
        ("504 Gateway Timeout", "", Outcome::Unconfirmed),
        ("425 Too Early", "", TRY_AGAIN),
        ("400 Bad Request", "", TRY_AGAIN),
        ("404 Not Found", "", TRY_AGAIN),
        ("500 Internal Server Error", "", TRY_AGAIN),
    ] {
        let receiver = Receiver::answering(status, headers, "why\u{1b}[31m: /hooks/T0KEN-abc?sig=S3CRET").await;
        let report = deliver(&receiver.channel()).await;
        assert_eq!(report.outcome, outcome, "{status} {headers}");
        assert!(
            report.detail.contains(&format!("HTTP {status}: why[31m: /[hidden]?sig=[hidden]")),
            "{}",
            report.detail
        );
    }
}

#[tokio::test]
async fn a_receiver_that_cannot_be_reached_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let report = deliver(&channel(&format!("http://127.0.0.1:{port}/hooks/T0KEN-abc"), &[])).await;
    assert_eq!(report.outcome, Outcome::Unavailable);
    assert!(report.detail.contains("refused"), "{}", report.detail);

    let report = deliver(&channel("https://no-such-host.invalid/hooks/T0KEN-abc", &[])).await;
    assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);

    // Its certificate is from an untrusted CA; that it speaks SMTP does not matter.
    let server = MailServer::secured("implicit", &Certificates::new());
    let report = deliver(&channel(&format!("https://localhost:{}/hooks/T0KEN-abc", server.port), &[])).await;
    assert_eq!(report.outcome, Outcome::Unavailable);
    assert!(report.detail.contains("certificate"), "{}", report.detail);
}

#[tokio::test]
async fn a_receiver_that_falls_silent_or_hangs_up_gets_the_message_again() {
    let receiver = Receiver::new(Then::Silence(String::new())).await;
    let begun = Instant::now();
    let report = deliver(&receiver.channel().with_deadline(Duration::from_millis(400))).await;
    assert_eq!(report.outcome, Outcome::Unconfirmed);
    assert!(report.detail.contains("no answer within 400ms"), "{}", report.detail);
    assert!(begun.elapsed() < Duration::from_secs(5));

    let receiver = Receiver::new(Then::HangUp).await;
    let report = deliver(&receiver.channel()).await;
    assert_eq!(report.outcome, Outcome::Unconfirmed, "{}", report.detail);
    let receiver = Receiver::new(Then::Answer("HTTP/1.1 2".to_owned())).await;
    assert_eq!(deliver(&receiver.channel()).await.outcome, Outcome::Unconfirmed);
}

#[tokio::test]
async fn an_answer_without_end_is_read_no_further_than_it_helps() {
    let before = resident();
    let head = "HTTP/1.1 500 Internal Server Error\r\ntransfer-encoding: identity\r\n\r\n";
    let chunked = "HTTP/1.1 500 Internal Server Error\r\ntransfer-encoding: chunked\r\n\r\n";
    for (beginning, more, outcome) in [
        (head.to_owned(), "x", TRY_AGAIN),
        (chunked.to_owned(), "8\r\nxxxxxxxx\r\n", TRY_AGAIN),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_owned(), "x", Outcome::Accepted),
        ("HTTP/1.1 200 OK\r\nx: ".to_owned(), "x", Outcome::Unconfirmed), // a header without end
        ("HTTP/1.1 200 OK\r\n".to_owned(), "x: y\r\n", Outcome::Unconfirmed), // headers without end
        ("HTTP/1.1 200 OK\r\n".to_owned(), " ", Outcome::Unconfirmed),
        (String::new(), "\r\n", Outcome::Unconfirmed),
        ("HTTP/1.1 100 Continue\r\n\r\n".to_owned(), "HTTP/1.1 100 Continue\r\n\r\n", Outcome::Unconfirmed),
    ] {
        let receiver = Receiver::new(Then::Endless(beginning.clone(), more)).await;
        let report = deliver(&receiver.channel().with_deadline(Duration::from_secs(3))).await;
        assert_eq!(report.outcome, outcome, "{beginning}: {}", report.detail);
        let sent = receiver.sent.load(Ordering::Relaxed);
        // Sockets hold a few MiB. Interim responses are read until the deadline, each dropped at once.
        assert!(sent < 64 << 20 || more.contains(" 100 "), "{beginning}: {sent} bytes were read or waited for");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more are resident");
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_tarpit_holds_an_attempt_no_longer_than_its_deadline() {
    for (beginning, outcome) in [
        ("HTTP/1.1 200 OK\r\nx: ", Outcome::Unconfirmed),
        ("", Outcome::Unconfirmed),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", Outcome::Accepted),
        ("HTTP/1.1 410 Gone\r\n\r\n", Outcome::Gone),
    ] {
        let receiver = Receiver::new(Then::Drip(beginning.to_owned())).await;
        let begun = Instant::now();
        let report = deliver(&receiver.channel().with_deadline(Duration::from_millis(500))).await;
        assert_eq!(report.outcome, outcome, "{beginning}: {}", report.detail);
        assert!(begun.elapsed() < Duration::from_secs(10), "{beginning}");
    }
}

#[tokio::test]
async fn a_receiver_that_resets_the_connection_gets_the_message_again() {
    let clock = Arc::new(SystemClock);
    let receiver = vetwatch::sandbox::webhook_receiver::Receiver::start(None, clock).await.unwrap();
    for act in [WebhookAction::ResetAfter, WebhookAction::CloseAfter] {
        receiver.script(act, Some(1));
        let report = deliver(&channel(receiver.url().as_str(), &[])).await;
        assert_eq!(report.outcome, Outcome::Unconfirmed, "{}", report.detail);
    }
    assert_eq!(deliver(&channel(receiver.url().as_str(), &[])).await.outcome, Outcome::Accepted);
    assert_eq!(receiver.hooks().len(), 3);
}

#[tokio::test]
async fn a_connection_that_died_silently_costs_one_attempt() {
    // One response per connection.
    let receiver = Receiver::new(Then::Silence("HTTP/1.1 204 No Content\r\n\r\n".to_owned())).await;
    let channel = receiver.channel().with_deadline(Duration::from_millis(400));
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(deliver(&channel).await.outcome);
    }
    assert_eq!(outcomes, [Outcome::Accepted, Outcome::Unconfirmed, Outcome::Accepted, Outcome::Unconfirmed]);
}

#[tokio::test]
async fn a_body_that_never_comes_does_not_undo_the_status() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthe beginning";
    for then in [Then::Answer(answer.to_owned()), Then::Silence(answer.to_owned())] {
        let receiver = Receiver::new(then).await;
        let begun = Instant::now();
        let report = deliver(&receiver.channel().with_deadline(Duration::from_millis(500))).await;
        assert_eq!(report.outcome, Outcome::Accepted);
        assert!(begun.elapsed() < Duration::from_secs(10), "the deadline holds for the body, too");
        assert!(report.detail.contains("HTTP 200 OK: the beginning"), "{}", report.detail);
    }
}

#[test]
fn the_published_schema_describes_the_published_examples() {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let checked = run("check_schema.py", &schemas, &serde_json::Value::Null).unwrap();
    assert!(checked.as_str().is_some_and(|text| text.trim().ends_with("examples")), "{checked}");
}
