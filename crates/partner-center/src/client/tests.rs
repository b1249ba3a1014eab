//! The client against servers with scripted responses.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::testing::{Reply, Request, Server};
use super::*;
use crate::{Credential, Customers, RESOURCE};
use vetwatch_core::redact;
use vetwatch_core::time::ManualClock;

const SECRET: &str = "s3cret~of+the/app=";
const APPROVED: &str = r#"[{"qualification":"Education","vettingStatus":"Approved"}]"#;
const ID: &str = "7d240000-0000-4000-8000-000000000001";

struct World {
    server: Server,
    clock: Arc<ManualClock>,
    budget: Arc<Budget>,
    client: PartnerCenter,
}

fn settings(api_url: &Url, login_url: &Url) -> PartnerSettings {
    PartnerSettings {
        name: "emea".into(),
        tenant: "contoso.onmicrosoft.example".into(),
        client_id: "app".into(),
        api_url: api_url.clone(),
        login_url: login_url.clone(),
        resource: RESOURCE,
        proxy: None,
        credential: Credential::client_secret(SECRET),
        user_credential: None,
        requests_per_minute: 3000,
        max_in_flight: 8,
        customers: Customers::Synced,
    }
}

impl World {
    async fn new(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let server = Server::start(answer).await;
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_262_400_000)));
        let budget = Arc::new(Budget::per_minute(3000));
        let settings = settings(&server.url, &server.url);
        let client = PartnerCenter::new(settings, Arc::clone(&budget), Arc::clone(&clock) as _).unwrap();
        Self { server, clock, budget, client }
    }

    /// Grants tokens `token-0`, `token-1`, …; `answer` gets the polls only.
    async fn with_tokens(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::new(move |r, n| if r.is_token() { Reply::token(&format!("token-{n}")) } else { answer(r, n) }).await
    }

    async fn error(&self) -> Error {
        let error = self.client.qualifications("c-1").await.expect_err("an error");
        for text in [error.to_string(), format!("{error:?}"), format!("{:?}", self.client)] {
            assert!(!text.contains("token-") && !text.contains("s3cret"), "a secret in {text}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
        error
    }
}

#[tokio::test]
async fn a_question_carries_what_partner_center_asks_for_and_the_answer_what_support_asks_for() {
    let world = World::with_tokens(|request, _| match request.header("ms-requestid") {
        "" => Reply::json(400, ""),
        _ => Reply::Full(200, vec![("MS-CorrelationId", ID.into())], APPROVED.into()),
    })
    .await;
    let answer = world.client.qualifications("a/../b?c#d%2e é").await.unwrap();
    assert_eq!(answer.snapshot.get("education").unwrap().vetting_status.as_deref(), Some("Approved"));
    assert_eq!((answer.raw.as_str(), answer.correlation_id.to_string().as_str()), (APPROVED, ID));
    world.client.qualifications("c-1").await.unwrap();

    let requests = world.server.polls();
    assert_eq!(requests[0].line, "GET /v1/customers/a%2F..%2Fb%3Fc%23d%252e%20%C3%A9/qualifications");
    assert_eq!(requests[0].header("ms-requestid"), answer.request_id.to_string());
    for (name, value) in [
        ("authorization", "Bearer token-0"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip"),
        ("x-locale", "en-US"),
        ("ms-partnercenter-application", "vetwatch"),
        ("user-agent", concat!("vetwatch/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(requests[0].header(name), value, "{name}");
    }
    for id in ["ms-requestid", "ms-correlationid"] {
        assert_ne!(requests[0].header(id), requests[1].header(id), "{id} is new for each request");
        assert!(Uuid::parse_str(requests[1].header(id)).is_ok());
    }
    let login = &world.server.token_requests()[0];
    assert_eq!(login.line, "POST /contoso.onmicrosoft.example/oauth2/token");
    assert_eq!(
        login.body,
        "grant_type=client_credentials&resource=https%3A%2F%2Fapi.partnercenter.microsoft.com&\
         client_secret=s3cret%7Eof%2Bthe%2Fapp%3D&client_id=app"
    );
    let now = world.clock.now();
    assert_eq!(world.budget.available(now), 100 - 3, "a token request counts like a question");
}

#[tokio::test]
async fn a_correlation_id_that_is_no_guid_is_not_believed() {
    let world =
        World::with_tokens(|_, _| Reply::Full(200, vec![("MS-CorrelationId", "<b>x".into())], "[]".into())).await;
    let answer = world.client.qualifications("c-1").await.unwrap();
    assert_eq!(world.server.polls()[0].header("ms-correlationid"), answer.correlation_id.to_string());
}

#[tokio::test]
async fn customer_ids_that_make_no_address_ask_nothing() {
    let world = World::with_tokens(|_, _| Reply::json(200, "[]")).await;
    for id in ["", ".", ".."] {
        assert!(matches!(world.client.qualifications(id).await, Err(Error::Refused(_))), "{id:?}");
    }
    assert!(world.server.polls().is_empty());
}

#[tokio::test]
async fn statuses_are_classified_by_what_follows_from_them() {
    let cases: [(u16, &str, &str, &str); 12] = [
        (400, "900118", "Refused", "400 900118: no"),
        (403, "20002", "NoRelationship", "403 20002: no"),
        (403, "2032", "Forbidden", "403 2032: no"),
        (403, "900124", "Forbidden", "403 900124: no"),
        (404, "1000", "NotFound", "404 1000: no"),
        (408, "1", "Server", "408 1: no"),
        (409, "1", "Refused", "409 1: no"),
        (429, "1", "Throttled", "429 1: no"),
        (500, "800003", "Server", "500 800003: no"),
        (503, "1", "Server", "503 1: no"),
        (302, "1", "Refused", "302 1: no"),
        (401, "900421", "Credential", "the credential was refused: 401 900421: no"),
    ];
    let world = World::with_tokens(move |_, n| {
        let (status, code, ..) = cases[n];
        let body = format!(r#"{{"code":"{code}","description":"no"}}"#).into_bytes();
        Reply::Full(status, vec![("MS-CorrelationId", ID.into())], body)
    })
    .await;
    for (_, code, variant, text) in cases {
        let error = world.error().await;
        assert!(format!("{error:?}").starts_with(variant), "{error:?} should be {variant}");
        assert!(error.to_string().starts_with(&format!("{text} (correlation id {ID})")), "{error}");
        let one_customer = ["1000", "900118", "20002", "2032", "800003"].contains(&code) || variant == "Server";
        assert_eq!(error.affects_partner(), !one_customer && variant != "Refused", "{error}");
    }
    assert_eq!(world.server.polls().len(), cases.len(), "nothing is retried, not even after a 401 for MFA");
}

#[tokio::test]
async fn retry_after_reaches_the_caller() {
    let world = World::with_tokens(|_, n| {
        let (status, after) = [(429, "57"), (429, "Sat, 21 Nov 2026 12:00:30 GMT"), (503, "7"), (429, "later")][n];
        Reply::Full(status, vec![("Retry-After", after.into())], r#"{"statusCode":429,"message":"Busy."}"#.into())
    })
    .await;
    for seconds in [Some(57), Some(30), Some(7), None] {
        match world.error().await {
            Error::Throttled { wait, .. } => assert_eq!(wait, seconds.map(Duration::from_secs)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_deadline_and_no_more() {
    for hang_at_login in [false, true] {
        let mut world = World::new(move |request, _| match (request.is_token(), hang_at_login) {
            (true, false) => Reply::token("token-0"),
            _ => Reply::Hang,
        })
        .await;
        world.client = world.client.with_deadline(Duration::from_millis(100));
        let began = Instant::now();
        let error = world.error().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        match error {
            Error::TimedOut { after, correlation_id } if !hang_at_login => {
                assert_eq!(after, Duration::from_millis(100));
                let sent = world.server.polls()[0].header("ms-correlationid").to_owned();
                assert_eq!(correlation_id.map(|id| id.to_string()), Some(sent));
            }
            Error::NoToken(_) if hang_at_login => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_body_that_never_ends_costs_the_deadline_or_the_limit() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
    let bomb = {
        let spaces = "ecc18100000000802095fd2917a90a".to_owned() + &"00".repeat(63) + "6a000000ffff"; // 64 KiB of them
        let bytes = |hex: &str| -> Vec<u8> {
            hex.as_bytes()
                .chunks(2)
                .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
                .collect()
        };
        let gzip = [bytes("1f8b0800000000000203"), bytes(&spaces).repeat(64)].concat();
        Reply::Full(200, vec![("Content-Encoding", "gzip".into())], gzip)
    };
    let announced = Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n[]".to_vec());
    for say in [Reply::Endless(head, chunk), bomb, announced] {
        let world = World::with_tokens(move |_, _| say.clone()).await;
        match world.error().await {
            Error::Unreadable { what, .. } => assert_eq!(what, "the answer is larger than 1024 KiB"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_cut_answer_is_no_answer_and_a_cut_refusal_is_still_one() {
    let cut = |head: &str| Reply::Cut(format!("HTTP/1.1 {head}\r\nContent-Length: 900\r\n\r\n{APPROVED}").into_bytes());
    let world = World::with_tokens(move |_, n| match n {
        0 => cut("200 OK"),
        1 => cut("429 x\r\nRetry-After: 9"),
        2 => Reply::Cut(b"HTTP/1.1 200 O".to_vec()),
        3 => Reply::Cut(b"SMTP ready\r\n\r\n".to_vec()),
        _ => Reply::Cut(Vec::new()),
    })
    .await;
    assert!(matches!(world.error().await, Error::Unreadable { .. }));
    assert!(matches!(world.error().await, Error::Throttled { wait: Some(_), .. }));
    for _ in 2..5 {
        let error = world.error().await;
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn no_connection_affects_the_whole_partner() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let garbage = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_tls = garbage.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = garbage.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 not TLS\r\n").await;
        }
    });
    for api_url in [format!("http://{closed}/?token-in-query"), format!("https://{no_tls}")] {
        let mut world = World::with_tokens(|_, _| Reply::Hang).await;
        let settings = settings(&api_url.parse().unwrap(), &world.server.url);
        world.client = PartnerCenter::new(settings, Arc::clone(&world.budget), Arc::clone(&world.clock) as _).unwrap();
        let error = world.error().await;
        assert!(matches!(error, Error::Unreachable(_)) && error.affects_partner(), "{api_url}: {error:?}");
        assert!(!error.to_string().contains("/customers"), "an address may hold what is secret: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(|_, _| Reply::json(200, APPROVED)).await;
    let target = elsewhere.url.to_string();
    for status in [301, 302, 307, 308] {
        let target = target.clone();
        let redirect = move || Reply::Full(status, vec![("Location", format!("{target}?token-x"))], Vec::new());
        let again = redirect.clone();
        let world = World::with_tokens(move |_, _| redirect()).await;
        assert!(matches!(world.error().await, Error::Refused(_)));
        let world = World::new(move |_, _| again()).await;
        assert!(matches!(world.error().await, Error::NoToken(_)));
    }
    assert!(elsewhere.polls().is_empty() && elsewhere.token_requests().is_empty());
}

#[tokio::test]
async fn gzip_is_understood() {
    let body: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x8b\xaeV*,M\xcc\xc9L\xcbLN,\xc9\xcc\xcfS\xb2RrM)\x85\xb2u\x94\xcaRKJ2\xf3\xd2\x83K\x12KJ\x8b\x81r\x8e\x05\x05E\xf9e\xa9)J\xb5\xb1\0r\xf7E\xfb:\0\0\0";
    let world =
        World::with_tokens(move |_, _| Reply::Full(200, vec![("Content-Encoding", "gzip".into())], body.to_vec()))
            .await;
    assert_eq!(world.client.qualifications("c-1").await.unwrap().raw, APPROVED);
}

#[tokio::test]
async fn an_echoed_token_is_stored_nowhere() {
    let world = World::with_tokens(|request, n| {
        let echo = format!(r#"{{"qualification":"E","code":"1","description":"{}"}}"#, request.header("authorization"));
        match n {
            0 => Reply::json(200, &echo),
            1 => Reply::json(200, &echo.replace("qualification", "x")),
            2 => Reply::Full(401, vec![("WWW-Authenticate", "Bearer token-0".into())], Vec::new()),
            _ => Reply::Full(401, vec![("WWW-Authenticate", "Bearer token-1".into())], Vec::new()),
        }
    })
    .await;
    let raw = world.client.qualifications("c-1").await.unwrap().raw;
    assert!(redact::words(&raw).contains("Bearer [hidden]"), "as it is stored");
    for _ in 0..2 {
        assert!(world.error().await.to_string().contains("Bearer [hidden]"));
    }
}

#[tokio::test]
async fn pages_are_asked_for_by_header_and_only_from_the_configured_host() {
    let item = r#"{"id":"c-1","companyProfile":{"companyName":"Contoso","domain":"contoso.example"}}"#;
    let next = move |token: &str| {
        let headers = format!(r#"[{{"key":"MS-ContinuationToken","value":"{token}"}}]"#);
        format!(
            r#"{{"items":[{item}],"links":{{"next":{{"uri":"http://x.invalid/v1//v1","headers":{headers}}}}},"continuationToken":"{token}"}}"#
        )
    };
    let world = World::with_tokens(move |_, n| match n {
        0 => Reply::json(400, r#"{"code":2000,"message":"on the first page this is an error"}"#),
        2 => Reply::json(200, &next("page/3")),
        3 => Reply::json(400, r#"{"code":"2000","description":"no more"}"#),
        _ => Reply::json(200, &next("page/2")),
    })
    .await;
    assert!(matches!(world.client.customers(None).await, Err(Error::Refused(_))));
    let first = world.client.customers(None).await.unwrap();
    assert_eq!(first.customers[0].name, "Contoso");
    let second = world.client.customers(first.next.as_ref()).await.unwrap();
    let last = world.client.customers(second.next.as_ref()).await.unwrap();
    assert_eq!(last, CustomerPage { customers: vec![], next: None });
    let circle = world.client.customers(first.next.as_ref()).await;
    assert!(matches!(circle, Err(Error::Unreadable { .. })), "{circle:?}");

    let requests = world.server.polls();
    assert_eq!(requests[1].line, "GET /v1/customers?size=500");
    assert_eq!(requests[2].line, "GET /v1/customers?size=500&seekOperation=Next");
    assert_eq!(
        [requests[1].header("ms-continuationtoken"), requests[2].header("ms-continuationtoken")],
        ["", "page/2"]
    );
}

#[test]
fn addresses_keep_their_base_and_never_double_the_version() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for (api_url, expected) in [
        ("https://api.example", "https://api.example/v1/customers/c-1"),
        ("https://api.example/", "https://api.example/v1/customers/c-1"),
        ("https://api.example/v1/", "https://api.example/v1/customers/c-1"),
        ("https://api.example/pc/v1", "https://api.example/pc/v1/customers/c-1"),
        ("https://api.example/pc?x=1#y", "https://api.example/pc/v1/customers/c-1"),
    ] {
        let url: Url = api_url.parse().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let client = PartnerCenter::new(settings(&url, &url), Arc::new(Budget::per_minute(1)), clock).unwrap();
        assert_eq!(join_segments(&client.api_url, &["v1", "customers", "c-1"]).unwrap().as_str(), expected);
    }
}

mod tokens;
