use super::super::testing::{Reply, Request, Server};
use super::*;
use crate::{Budget, Credential, Customers, PartnerSettings, RESOURCE};
use vetwatch_core::time::{Clock, ManualClock};

const K12: &str = r#"{"qualification":"Education","educationSegment":"K12","website":"contoso.edu"}"#;
const CREATED: &str =
    r#"{"qualification":"Education","vettingStatus":"InReview","vettingCreateDate":"2026-11-20T20:54:24Z"}"#;

fn education() -> Submission {
    Submission::Education { segment: Segment::K12, website: Some("contoso.edu".into()) }
}

fn is_token(request: &Request) -> bool {
    request.line.contains("/oauth2/")
}

/// A server that grants tokens and records submissions.
struct TestServer {
    server: Server,
    client: PartnerCenter,
    budget: Arc<Budget>,
    clock: Arc<ManualClock>,
}

impl TestServer {
    /// `answer` gets the number of earlier submissions.
    async fn new(answer: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let submissions = std::sync::atomic::AtomicUsize::new(0);
        let server = Server::start(move |request, n| {
            if is_token(request) {
                Reply::token(&format!("token-{n}"))
            } else {
                answer(submissions.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
            }
        })
        .await;
        let settings = PartnerSettings {
            name: "emea".into(),
            tenant: "contoso.onmicrosoft.example".into(),
            client_id: "app".into(),
            api_url: server.url.clone(),
            login_url: server.url.clone(),
            resource: RESOURCE,
            proxy: None,
            credential: Credential::client_secret("s3cret"),
            user_credential: None,
            requests_per_minute: 3000,
            max_in_flight: 8,
            customers: Customers::Synced,
        };
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_262_400_000)));
        let budget = Arc::new(Budget::per_minute(3000));
        let client = PartnerCenter::new(settings, Arc::clone(&budget), Arc::clone(&clock) as _).unwrap();
        Self { server, client: client.with_deadline(Duration::from_secs(8)), budget, clock }
    }

    fn sent(&self) -> Vec<Request> {
        self.server.token_requests().into_iter().filter(|request| !is_token(request)).collect()
    }

    fn ids(&self) -> Vec<String> {
        self.sent().iter().map(|request| request.header("ms-requestid").to_owned()).collect()
    }
}

fn cut() -> Reply {
    Reply::Cut(Vec::new())
}

#[tokio::test]
async fn a_submission_is_sent_by_the_contract_of_2023_with_nothing_that_is_not_used() {
    let server = TestServer::new(|_| Reply::json(201, CREATED)).await;
    let before = server.budget.available(server.clock.now());
    let code = || SecretString::from("s3cret-c0de");
    let higher = Submission::Education { segment: Segment::HigherEducation, website: None };
    let government = Submission::GovernmentCommunityCloud { validation_code: code() };
    for submission in [&education(), &higher, &government, &Submission::StateOwnedEntity] {
        server.client.submit("c-1", submission).await.unwrap();
    }
    let sent = server.sent();
    let bodies: Vec<_> = sent.iter().map(|request| request.body.as_str()).collect();
    assert_eq!(
        bodies,
        [
            K12,
            r#"{"qualification":"Education","educationSegment":"HigherEducation"}"#,
            r#"{"qualification":"GovernmentCommunityCloud","validationCode":"s3cret-c0de"}"#,
            r#"{"qualification":"StateOwnedEntity"}"#,
        ]
    );
    assert!(sent.iter().all(|request| request.line == "POST /v1/customers/c-1/qualifications"), "{sent:?}");
    assert!(sent.iter().all(|request| request.header("content-type") == "application/json"), "{sent:?}");
    let ids: std::collections::BTreeSet<_> = server.ids().into_iter().collect();
    assert_eq!(ids.len(), 4, "a new id after any answer");
    // One token, four submissions.
    assert_eq!(before - server.budget.available(server.clock.now()), 5);
    assert!(!format!("{government:?}").contains("c0de"));
}

#[tokio::test]
async fn any_2xx_is_a_success_whatever_it_says() {
    let wrapper = format!(r#"{{"qualifications":[{CREATED},{{"qualification":"StateOwnedEntity"}}]}}"#);
    let head = b"HTTP/1.1 201 x\r\ncontent-length: 90\r\n\r\n{\"qualif".to_vec();
    for (answer, understood) in [
        (Reply::json(201, CREATED), true),
        (Reply::json(200, CREATED), true),
        (Reply::json(202, &format!("[{CREATED}]")), true),
        (Reply::json(200, &wrapper), true),
        (Reply::json(201, ""), false),
        (Reply::json(204, ""), false),
        (Reply::json(200, "null"), false),
        (Reply::json(200, "[]"), false),
        (Reply::json(200, r#"[{"qualification":"StateOwnedEntity"}]"#), false),
        (Reply::json(200, "<html>fine</html>"), false),
        (Reply::Cut(head), false),
    ] {
        let server = TestServer::new(move |_| answer.clone()).await;
        let submitted = server.client.submit("c-1", &education()).await.unwrap();
        assert_eq!(submitted.answer.is_some(), understood, "{submitted:?}");
        assert_eq!(server.sent().len(), 1, "an answer is an answer");
        assert_eq!(server.ids(), [submitted.request_id.to_string()]);
    }
}

#[tokio::test]
async fn an_id_is_kept_until_there_is_an_answer_and_new_after_it() {
    for lost in
        [cut(), Reply::Hang, Reply::json(502, ""), Reply::json(503, "busy"), Reply::json(504, ""), Reply::json(408, "")]
    {
        let server = TestServer::new(move |n| if n == 0 { lost.clone() } else { Reply::json(201, CREATED) }).await;
        let client = server.client.with_deadline(Duration::from_secs(2));
        let server = TestServer { client, ..server };
        server.client.submit("c-1", &education()).await.unwrap();
        let (ids, sent) = (server.ids(), server.sent());
        assert_eq!((ids.len(), &ids[0]), (2, &ids[1]), "{sent:?}");
        assert_eq!(sent[0].body, sent[1].body);
        assert_ne!(sent[0].header("ms-correlationid"), sent[1].header("ms-correlationid"));
    }
    // A rejected token is a response.
    let server = TestServer::new(|n| if n == 0 { Reply::json(401, "") } else { Reply::json(201, CREATED) }).await;
    server.client.submit("c-1", &education()).await.unwrap();
    let (ids, sent) = (server.ids(), server.sent());
    assert_ne!(ids[0], ids[1]);
    assert_ne!(sent[0].header("authorization"), sent[1].header("authorization"));
}

#[tokio::test]
async fn an_answer_ends_a_submission_and_an_unclear_end_is_reported() {
    for (answer, times, may_have_arrived) in [
        (Reply::json(400, r#"{"code":"3000","description":"no"}"#), 1, false),
        (Reply::json(409, "\"Customer tagging denied.\""), 1, false),
        (Reply::json(403, r#"{"code":"900329","description":"no"}"#), 1, false),
        (Reply::Full(429, vec![("retry-after", "57".into())], Vec::new()), 1, false),
        (Reply::json(401, ""), 2, false),
        (Reply::Full(503, vec![("retry-after", "57".into())], Vec::new()), 1, false),
        (Reply::json(500, ""), 1, true),
        (cut(), 3, true),
        (Reply::json(504, ""), 3, true),
    ] {
        let server = TestServer::new(move |_| answer.clone()).await;
        let error = server.client.submit("c-1", &education()).await.unwrap_err();
        assert_eq!((server.sent().len(), error.may_have_arrived), (times, may_have_arrived), "{error}");
        assert!(times < 3 || server.ids().iter().all(|id| *id == server.ids()[0]));
    }
    // A rejection after a lost request is still unclear, and no token is worth another attempt.
    for answer in [Reply::json(409, ""), Reply::json(401, "")] {
        let server = TestServer::new(move |n| if n == 0 { cut() } else { answer.clone() }).await;
        let error = server.client.submit("c-1", &education()).await.unwrap_err();
        assert!(error.may_have_arrived, "{error}");
        assert_eq!(server.sent().len(), 2);
    }
    let server = TestServer::new(|_| Reply::json(201, CREATED)).await;
    assert!(!server.client.submit("..", &education()).await.unwrap_err().may_have_arrived);
    assert_eq!(server.sent().len(), 0);
}
