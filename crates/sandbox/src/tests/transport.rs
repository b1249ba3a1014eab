//! How responses are sent, read byte by byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::response_options::{Framing, Ids};
use super::*;

impl Setup {
    /// A complete raw response, on a new connection.
    async fn raw(&self, path: &str, token: &str, connection: &str) -> (String, Vec<u8>) {
        let mut tcp = TcpStream::connect(self.sandbox.address()).await.unwrap();
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n\
             Accept-Encoding: gzip\r\nMS-RequestId: {a}\r\nMS-CorrelationId: {b}\r\nConnection: {connection}\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, tcp.read_to_end(&mut answer)).await.unwrap().unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end + 4..].to_vec())
    }
}

#[tokio::test]
async fn an_answer_is_sent_as_asked_for() {
    let setup = Setup::new().await;
    let (id, token) = (setup.customer(), setup.token().await);
    setup.sandbox.deny(&id, "Not an Education Customer - After Review").unwrap();
    let plain = setup.request(&about(&id), &token).send().await.unwrap().bytes().await.unwrap();
    let once = |sending| setup.sandbox.quirk(QuirkRule::on(Kind::Qualifications, Quirk::Sending(sending)).times(1));
    let usual = TransportOptions::default;

    once(TransportOptions { framing: Some(Framing::Http10), ..usual() });
    let (head, body) = setup.raw(&about(&id), &token, "keep-alive").await;
    assert!(head.starts_with("http/1.0 200") && !head.contains("content-length"), "{head}");
    assert_eq!(body, plain, "it ends with the connection");

    once(TransportOptions { framing: Some(Framing::Chunked), drip: Some(100), ..usual() });
    let (head, body) = setup.raw(&about(&id), &token, "close").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("transfer-encoding: chunked"), "{head}");
    assert!(body.starts_with(b"64\r\n") && body.ends_with(b"\r\n0\r\n\r\n"), "{}", String::from_utf8_lossy(&body));

    once(TransportOptions {
        bom: true,
        gzip: true,
        content_type: Some("text/html".into()),
        ids: Some(Ids::Other),
        ..usual()
    });
    let request = setup.request(&about(&id), &token).build().unwrap();
    let sent = request.headers()["ms-correlationid"].clone();
    let answer = setup.client.execute(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html");
    assert_ne!(answer.headers()["ms-correlationid"], sent);
    assert_eq!(answer.bytes().await.unwrap(), [b"\xef\xbb\xbf", plain.as_ref()].concat(), "unpacked");
    once(TransportOptions { gzip: true, content_type: Some(String::new()), ids: Some(Ids::None), ..usual() });
    let (head, body) = setup.raw(&about(&id), &token, "close").await;
    assert!(head.contains("content-encoding: gzip") && !head.contains("content-type"), "{head}");
    assert!(!head.contains("ms-requestid") && body.starts_with(b"\x1f\x8b"), "{head}");

    let drip = json!({"quirk": "sending", "on": "qualifications", "times": 1, "drip": 9, "every": "1ms"});
    assert_eq!(setup.control("POST", "quirks", &drip).await.0, 200);
    let mut answer = setup.request(&about(&id), &token).send().await.unwrap();
    let (mut pieces, mut dripped) = (0, Vec::new());
    while let Some(piece) = answer.chunk().await.unwrap() {
        pieces += 1;
        dripped.extend(piece);
    }
    assert!(dripped == plain && pieces > 2, "{pieces} pieces");

    // A transport quirk and a fault combined: half a response without a length looks complete.
    once(TransportOptions { framing: Some(Framing::Http10), ..usual() });
    setup.sandbox.fault(FaultRule::about(&id, Fault::Cut).times(1));
    let half = setup.raw(&about(&id), &token, "close").await.1;
    assert_eq!(half, plain[..plain.len() / 2]);
    assert_eq!(setup.sandbox.violations(), []);
}

#[tokio::test]
async fn a_body_without_an_end_flows_until_nobody_listens() {
    let setup = Setup::new().await;
    let (id, token) = (setup.customer(), setup.token().await);
    setup.sandbox.fault(FaultRule::about(&id, Fault::Endless).times(1));
    let mut answer = setup.request(&about(&id), &token).send().await.unwrap();
    let mut read = 0;
    while read < 5_000_000 {
        read += timeout(SOON, answer.chunk()).await.unwrap().unwrap().unwrap().len();
    }
    drop(answer);
    setup.sandbox.fault(FaultRule::about(&id, Fault::Bomb).times(1));
    let (head, body) = setup.raw(&about(&id), &token, "close").await;
    assert!(head.contains("content-encoding: gzip") && body.len() < 1_000_000, "{} {head}", body.len());
    setup.sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn when_to_come_again_is_said_in_seconds_or_as_a_date() {
    let throttle = ThrottleSettings { requests_per_minute: 1, window: Window::Fixed, retry_after: RetryAfter::Date };
    let setup = Setup::with(Options { throttle: Some(throttle), ..Options::default() }).await;
    let (path, token) = (about(&setup.customer()), setup.token().await);
    let retry_after = async || {
        let answer = setup.request(&path, &token).send().await.unwrap();
        assert_eq!(answer.status(), 429);
        answer.headers()["retry-after"].to_str().unwrap().to_owned()
    };
    assert_eq!(setup.get(&path, &token).await.0, 200);
    // The time is 09:14:03.120.
    assert_eq!(retry_after().await, "Sat, 21 Nov 2026 09:15:04 GMT");
    setup.sandbox.throttle(None);
    setup.sandbox.fault(FaultRule::all(Fault::throttled_with_a_date(20 * SECOND)).times(1));
    assert_eq!(retry_after().await, "Sat, 21 Nov 2026 09:14:24 GMT");
    setup.sandbox.fault(FaultRule::all(Fault::throttled(20 * SECOND)).times(1));
    assert_eq!(retry_after().await, "20");
}
