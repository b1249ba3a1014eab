//! Submissions and validation codes.

use super::*;

const K12: &str = r#"{"qualification":"Education","educationSegment":"K12"}"#;

impl Setup {
    async fn user(&self) -> String {
        let refresh = self.sandbox.sign_in();
        let changes = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
        let (status, answer) = self.ask_token("5a4d0b1e-0c5c-4c8e-9f0e-2f6d3b1a7c11/oauth2/token", &changes).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn submit(&self, token: &str, path: &str, body: &str, id: Uuid) -> (u16, Value) {
        let request = self.client.post(self.at(path)).bearer_auth(token).body(body.to_owned());
        let request = request.header("accept", "application/json").header("content-type", "application/json");
        let request = request.header("ms-requestid", id.to_string()).header("ms-correlationid", id.to_string());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

fn school(setup: &Setup, n: u32) -> (String, String) {
    let id = format!("{n:08x}-0000-4000-8000-000000000000");
    let id = setup.sandbox.add_customer(CustomerDetails::new(id, "School", "school.example")).unwrap();
    let path = format!("v1/customers/{id}/qualifications");
    (id, path)
}

#[tokio::test]
async fn a_submission_by_the_old_contract_is_refused_and_noted() {
    let setup = Setup::new().await;
    let (id, path) = school(&setup, 1);
    let user = setup.user().await;
    for (path, body, refusal, problem) in [
        (format!("{path}?code=123456"), r#"{"qualification":"GovernmentCommunityCloud"}"#, "800002", "take no query"),
        (path.clone(), r#"{"Qualification":"Education"}"#, "3000", "educationSegment is missing"),
        (path.clone(), r#"{"qualification":"Education","educationSegment":"K13"}"#, "3000", ""),
        (path.clone(), r#"{"qualification":"GovernmentCommunityCloud","validationCode":"1"}"#, "3000", ""),
        (path.clone(), r#"{"qualification":"Education","educationSegment":"K12","website":null}"#, "", "no place"),
        (path.clone(), r#"{"qualification":"Nonprofit"}"#, "900126", "cannot be submitted"),
        (path.clone(), r#"["Qualification":"Education"]"#, "3000", "no JSON object"),
    ] {
        let before = setup.sandbox.violations().len();
        let (status, answer) = setup.submit(&user, &path, body, Uuid::new_v4()).await;
        assert_eq!(
            (status, answer["code"].as_str()),
            if refusal.is_empty() { (201, None) } else { (400, Some(refusal)) }
        );
        let said: Vec<_> = setup.sandbox.violations().split_off(before).into_iter().map(|v| v.problem).collect();
        assert_eq!(said.iter().any(|said| said.contains(problem)), !problem.is_empty(), "{body}: {said:?}");
    }
    assert_eq!(setup.sandbox.attempts_of(&id), 1);
    let app = setup.ask_token("5a4d0b1e-0c5c-4c8e-9f0e-2f6d3b1a7c11/oauth2/token", &[]).await.1;
    let (status, answer) = setup.submit(app["access_token"].as_str().unwrap(), &path, K12, Uuid::new_v4()).await;
    assert_eq!((status, answer["code"].as_str()), (403, Some("900329")));
}

#[tokio::test]
async fn a_repetition_under_the_same_id_is_no_second_attempt_and_one_after_an_answer_is_noted() {
    let setup = Setup::new().await;
    let (id, path) = school(&setup, 1);
    let (user, request) = (setup.user().await, Uuid::new_v4());
    let first = setup.submit(&user, &path, K12, request).await;
    assert_eq!(first.0, 201);
    assert_eq!(first.1["vettingStatus"], "InReview");
    assert_eq!(first.1["vettingCreateDate"], "2026-11-21T09:14:03Z");
    assert_eq!(setup.sandbox.violations(), []);
    assert_eq!(setup.submit(&user, &path, K12, request).await, first);
    assert_eq!((setup.sandbox.attempts_of(&id), setup.sandbox.violations().len()), (1, 1));

    let (status, answer) = setup.submit(&user, &path, K12, Uuid::new_v4()).await;
    assert_eq!((status, answer["code"].as_str()), (409, Some("900600")));
    let government = r#"{"qualification":"GovernmentCommunityCloud","validationCode":"123456"}"#;
    let (status, answer) = setup.submit(&user, &path, government, Uuid::new_v4()).await;
    assert_eq!((status, answer["code"].as_str()), (409, Some("900602")));
    for _ in 0..2 {
        setup.sandbox.deny(&id, "Not an Education Customer").unwrap();
        assert_eq!(setup.submit(&user, &path, K12, Uuid::new_v4()).await.0, 201);
    }
    setup.sandbox.deny(&id, "Not an Education Customer").unwrap();
    let (status, answer) = setup.submit(&user, &path, K12, Uuid::new_v4()).await;
    assert_eq!((status, answer["code"].as_str()), (409, Some("900601")));

    // A submission whose response was lost may be repeated.
    let (other, path) = school(&setup, 2);
    setup.sandbox.fault(FaultRule::on(Kind::Submissions, Fault::Lost).times(1));
    let noted = setup.sandbox.violations().len();
    let lost = setup.client.post(setup.at(&path)).bearer_auth(&user).body(K12).header("accept", "application/json");
    let lost = lost.header("content-type", "application/json").header("ms-requestid", request_id(2));
    lost.header("ms-correlationid", request_id(2)).send().await.unwrap_err();
    let again = setup.submit(&user, &path, K12, Uuid::parse_str(&request_id(2)).unwrap()).await;
    assert_eq!((again.0, setup.sandbox.attempts_of(&other)), (201, 1));
    assert_eq!(setup.sandbox.violations().len(), noted);
}

fn request_id(n: u32) -> String {
    format!("{n:08x}-1111-4000-8000-000000000000")
}
