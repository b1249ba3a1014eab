use super::super::testing::{Asked, Say, Server};
use super::super::{Budget, Credential, Customers, PartnerSettings, RESOURCE};
use super::*;
use vetwatch_core::time::{Clock, ManualClock};

const K12: &str = r#"{"qualification":"Education","educationSegment":"K12","website":"contoso.edu"}"#;
const CREATED: &str =
    r#"{"qualification":"Education","vettingStatus":"InReview","vettingCreateDate":"2026-11-20T20:54:24Z"}"#;

fn education() -> Submission {
    Submission::Education { segment: Segment::K12, website: Some("contoso.edu".into()) }
}

fn is_token(asked: &Asked) -> bool {
    asked.line.contains("/oauth2/")
}

/// A server whose tokens are granted, and the submissions it was sent.
struct Office {
    server: Server,
    client: PartnerCenter,
    budget: Arc<Budget>,
    clock: Arc<ManualClock>,
}

impl Office {
    /// `answer` sees how many submissions came before.
    async fn new(answer: impl Fn(usize) -> Say + Send + Sync + 'static) -> Self {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let server = Server::start(move |request, n| {
            if is_token(request) {
                Say::token(&format!("token-{n}"))
            } else {
                answer(asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
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

    fn sent(&self) -> Vec<Asked> {
        self.server.token_requests().into_iter().filter(|asked| !is_token(asked)).collect()
    }

    fn ids(&self) -> Vec<String> {
        self.sent().iter().map(|asked| asked.header("ms-requestid").to_owned()).collect()
    }
}

fn cut() -> Say {
    Say::Cut(Vec::new())
}

#[tokio::test]
async fn a_submission_is_sent_by_the_contract_of_2023_with_nothing_that_is_not_used() {
    let office = Office::new(|_| Say::json(201, CREATED)).await;
    let before = office.budget.available(office.clock.now());
    let code = || SecretString::from("s3cret-c0de");
    let higher = Submission::Education { segment: Segment::HigherEducation, website: None };
    let government = Submission::GovernmentCommunityCloud { validation_code: code() };
    for submission in [&education(), &higher, &government, &Submission::StateOwnedEntity] {
        office.client.submit("c-1", submission).await.unwrap();
    }
    let sent = office.sent();
    let bodies: Vec<_> = sent.iter().map(|asked| asked.body.as_str()).collect();
    assert_eq!(
        bodies,
        [
            K12,
            r#"{"qualification":"Education","educationSegment":"HigherEducation"}"#,
            r#"{"qualification":"GovernmentCommunityCloud","validationCode":"s3cret-c0de"}"#,
            r#"{"qualification":"StateOwnedEntity"}"#,
        ]
    );
    assert!(sent.iter().all(|asked| asked.line == "POST /v1/customers/c-1/qualifications"), "{sent:?}");
    assert!(sent.iter().all(|asked| asked.header("content-type") == "application/json"), "{sent:?}");
    let ids: std::collections::BTreeSet<_> = office.ids().into_iter().collect();
    assert_eq!(ids.len(), 4, "a new id after any answer");
    // One token, four submissions.
    assert_eq!(before - office.budget.available(office.clock.now()), 5);
    assert!(!format!("{government:?}").contains("c0de"));
}

#[tokio::test]
async fn any_2xx_is_a_success_whatever_it_says() {
    let wrapper = format!(r#"{{"qualifications":[{CREATED},{{"qualification":"StateOwnedEntity"}}]}}"#);
    let head = b"HTTP/1.1 201 x\r\ncontent-length: 90\r\n\r\n{\"qualif".to_vec();
    for (answer, understood) in [
        (Say::json(201, CREATED), true),
        (Say::json(200, CREATED), true),
        (Say::json(202, &format!("[{CREATED}]")), true),
        (Say::json(200, &wrapper), true),
        (Say::json(201, ""), false),
        (Say::json(204, ""), false),
        (Say::json(200, "null"), false),
        (Say::json(200, "[]"), false),
        (Say::json(200, r#"[{"qualification":"StateOwnedEntity"}]"#), false),
        (Say::json(200, "<html>fine</html>"), false),
        (Say::Cut(head), false),
    ] {
        let office = Office::new(move |_| answer.clone()).await;
        let submitted = office.client.submit("c-1", &education()).await.unwrap();
        assert_eq!(submitted.answer.is_some(), understood, "{submitted:?}");
        assert_eq!(office.sent().len(), 1, "an answer is an answer");
        assert_eq!(office.ids(), [submitted.request_id.to_string()]);
    }
}

#[tokio::test]
async fn an_id_is_kept_until_somebody_answers_and_new_after_any_answer() {
    for lost in [cut(), Say::Hang, Say::json(502, ""), Say::json(503, "busy"), Say::json(504, ""), Say::json(408, "")] {
        let office = Office::new(move |n| if n == 0 { lost.clone() } else { Say::json(201, CREATED) }).await;
        let client = office.client.with_deadline(Duration::from_secs(2));
        let office = Office { client, ..office };
        office.client.submit("c-1", &education()).await.unwrap();
        let (ids, sent) = (office.ids(), office.sent());
        assert_eq!((ids.len(), &ids[0]), (2, &ids[1]), "{sent:?}");
        assert_eq!(sent[0].body, sent[1].body);
        assert_ne!(sent[0].header("ms-correlationid"), sent[1].header("ms-correlationid"));
    }
    // A token that is refused is an answer.
    let office = Office::new(|n| if n == 0 { Say::json(401, "") } else { Say::json(201, CREATED) }).await;
    office.client.submit("c-1", &education()).await.unwrap();
    let (ids, sent) = (office.ids(), office.sent());
    assert_ne!(ids[0], ids[1]);
    assert_ne!(sent[0].header("authorization"), sent[1].header("authorization"));
}

#[tokio::test]
async fn an_answer_ends_a_submission_and_an_unclear_end_is_told() {
    for (answer, times, may_have_arrived) in [
        (Say::json(400, r#"{"code":"3000","description":"no"}"#), 1, false),
        (Say::json(409, "\"Customer tagging denied.\""), 1, false),
        (Say::json(403, r#"{"code":"900329","description":"no"}"#), 1, false),
        (Say::This(429, vec![("retry-after", "57".into())], Vec::new()), 1, false),
        (Say::json(401, ""), 2, false),
        (Say::This(503, vec![("retry-after", "57".into())], Vec::new()), 1, false),
        (Say::json(500, ""), 1, true),
        (cut(), 3, true),
        (Say::json(504, ""), 3, true),
    ] {
        let office = Office::new(move |_| answer.clone()).await;
        let error = office.client.submit("c-1", &education()).await.unwrap_err();
        assert_eq!((office.sent().len(), error.may_have_arrived), (times, may_have_arrived), "{error}");
        assert!(times < 3 || office.ids().iter().all(|id| *id == office.ids()[0]));
    }
    // What is refused behind a request that got lost is still unclear, and no token is worth another attempt.
    for answer in [Say::json(409, ""), Say::json(401, "")] {
        let office = Office::new(move |n| if n == 0 { cut() } else { answer.clone() }).await;
        let error = office.client.submit("c-1", &education()).await.unwrap_err();
        assert!(error.may_have_arrived, "{error}");
        assert_eq!(office.sent().len(), 2);
    }
    let office = Office::new(|_| Say::json(201, CREATED)).await;
    assert!(!office.client.submit("..", &education()).await.unwrap_err().may_have_arrived);
    assert_eq!(office.sent().len(), 0);
}
