//! How often a token is requested.

use super::*;

fn is_fresh(request: &Request) -> bool {
    request.header("authorization") != "Bearer token-0"
}

#[tokio::test]
async fn a_token_is_kept_until_five_minutes_before_its_end() {
    let world = World::with_tokens(|_, _| Reply::json(200, "[]")).await;
    for (minutes, tokens) in [(0, 1), (54, 1), (1, 2), (54, 2), (60, 3)] {
        world.clock.advance(Duration::from_secs(minutes * 60));
        world.client.qualifications("c-1").await.unwrap();
        assert_eq!(world.server.token_requests().len(), tokens);
    }
}

#[tokio::test]
async fn a_short_life_is_used_for_four_fifths_and_may_be_a_number_or_missing() {
    for (life, seconds) in [(r#","expires_in":100"#, 80), (r#","expires_in":"100""#, 80), ("", 240)] {
        let world = World::new(move |request, _| {
            if request.is_token() {
                Reply::json(200, &format!(r#"{{"access_token":"t","token_type":"bearer"{life}}}"#))
            } else {
                Reply::json(200, "[]")
            }
        })
        .await;
        for (wait_s, tokens) in [(0, 1), (seconds - 1, 1), (1, 2)] {
            world.clock.advance(Duration::from_secs(wait_s));
            world.client.qualifications("c-1").await.unwrap();
            assert_eq!(world.server.token_requests().len(), tokens, "{life}: after {wait_s}");
        }
    }
}

#[tokio::test]
async fn many_who_ask_at_once_cause_one_token_request() {
    let world = World::with_tokens(|_, _| Reply::json(200, "[]")).await;
    for tokens in [1, 2] {
        for answer in join_all((0..32).map(|_| world.client.qualifications("c-1"))).await {
            answer.unwrap();
        }
        assert_eq!(world.server.token_requests().len(), tokens);
        world.clock.advance(Duration::from_hours(1));
    }
}

#[tokio::test]
async fn many_who_ask_at_once_get_the_one_refusal() {
    let world =
        World::new(|_, _| Reply::json(401, r#"{"error":"x","error_description":"AADSTS7000222: Expired."}"#)).await;
    for outcome in join_all((0..32).map(|_| world.client.qualifications("c-1"))).await {
        assert!(matches!(outcome, Err(Error::Credential(_))), "{outcome:?}");
    }
    assert_eq!(world.server.token_requests().len(), 1);
    assert!(matches!(world.error().await, Error::Credential(_)));
    assert_eq!(world.server.token_requests().len(), 2, "a later call requests a token again");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_all_who_used_it() {
    let world = World::with_tokens(|request, _| Reply::json(if is_fresh(request) { 200 } else { 401 }, "[]")).await;
    for answer in join_all((0..16).map(|_| world.client.qualifications("c-1"))).await {
        answer.unwrap();
    }
    assert_eq!(world.server.token_requests().len(), 2);
    assert_eq!(world.server.polls().len(), 32, "each was sent twice");
}

#[tokio::test]
async fn a_late_refusal_of_an_old_token_asks_for_no_third() {
    let late = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&late);
    let world = World::with_tokens(move |request, _| match (is_fresh(request), request.line.contains("slow")) {
        (true, _) => Reply::json(200, "[]"),
        (false, false) => Reply::json(401, ""),
        (false, true) => Reply::When(Arc::clone(&held), Box::new(Reply::json(401, ""))),
    })
    .await;
    let quick = async {
        world.client.qualifications("c-1").await.unwrap();
        late.add_permits(1);
    };
    let (slow, ()) = tokio::join!(world.client.qualifications("slow"), quick);
    slow.unwrap();
    assert_eq!(world.server.token_requests().len(), 2);
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_is_the_credentials_fault_and_no_loop() {
    let world = World::with_tokens(|_, _| Reply::json(401, "")).await;
    let error = world.error().await;
    assert!(matches!(error, Error::Credential(_)) && error.affects_partner());
    assert!(error.to_string().contains("is the application registered in Partner Center"), "{error}");
    assert_eq!((world.server.polls().len(), world.server.token_requests().len()), (2, 2));

    assert!(matches!(world.error().await, Error::Credential(_)));
    assert_eq!((world.server.polls().len(), world.server.token_requests().len()), (3, 2), "nothing new to try");

    world.clock.advance(Duration::from_secs(301));
    assert!(matches!(world.error().await, Error::Credential(_)));
    assert_eq!((world.server.polls().len(), world.server.token_requests().len()), (5, 3), "now there may be");
}

#[tokio::test]
async fn a_token_that_has_worked_may_be_renewed_again_at_once() {
    let world = World::with_tokens(|_, n| Reply::json(if n % 2 == 0 { 401 } else { 200 }, "[]")).await;
    for tokens in [2, 3, 4] {
        world.client.qualifications("c-1").await.unwrap();
        assert_eq!(world.server.token_requests().len(), tokens);
    }
}

#[tokio::test]
async fn a_login_server_in_trouble_costs_nothing_while_the_token_holds() {
    let world = World::new(|request, n| match (request.is_token(), n) {
        (true, 0) => Reply::token("token-0"),
        (true, _) => Reply::json(503, "down"),
        _ => Reply::json(200, "[]"),
    })
    .await;
    for (minutes, tokens, works) in [(0, 1, true), (56, 2, true), (0, 2, true), (1, 3, true), (3, 4, false)] {
        world.clock.advance(Duration::from_secs(minutes * 60));
        let outcome = world.client.qualifications("c-1").await;
        assert_eq!(outcome.is_ok(), works, "{outcome:?}");
        assert_eq!(world.server.token_requests().len(), tokens);
    }
    assert!(matches!(world.error().await, Error::NoToken(_)));
}

#[tokio::test]
async fn a_login_server_that_hangs_does_not_hold_up_those_whose_token_holds() {
    let world = World::new(|request, n| match (request.is_token(), n) {
        (true, 0) => Reply::token("token-0"),
        (true, _) => Reply::Hang,
        _ => Reply::json(200, "[]"),
    })
    .await;
    world.client.qualifications("c-1").await.unwrap();
    world.clock.advance(Duration::from_mins(56));
    let renewing = world.client.qualifications("c-1");
    let others = async {
        for _ in 0..3 {
            world.client.qualifications("c-1").await.unwrap();
        }
    };
    tokio::select! {
        biased;
        _ = renewing => panic!("the renewal should hang"),
        () = others => {}
    }
}

#[tokio::test]
async fn a_wrong_secret_is_reported_with_its_code_and_what_to_do() {
    let description =
        format!("AADSTS7000215: Invalid client secret provided: {SECRET} s3cret%7Eof%2Bthe%2Fapp%3D.\\r\\n");
    let body = format!(
        r#"{{"error":"invalid_client","error_description":"{description}Trace ID: x","error_codes":[7000215],"correlation_id":"{ID}"}}"#
    );
    let world = World::new(move |_, _| Reply::json(401, &body)).await;
    assert_eq!(
        world.error().await.to_string(),
        format!(
            "the credential was refused: 401 AADSTS7000215: Invalid client secret provided: [hidden] [hidden]. (correlation id \
             {ID}); the client secret is wrong: the file must hold the secret's value, not its id"
        )
    );
}

#[tokio::test]
async fn a_login_server_that_repeats_the_secret_in_another_spelling_does_not_bring_it_to_light() {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let hex = SECRET.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat();
    let all = [SECRET.to_uppercase(), hex, BASE64_STANDARD.encode(format!("c:{SECRET}")), SECRET[3..11].to_owned()];
    for spelling in all {
        let body = format!(r#"{{"error":"invalid_client","error_description":"AADSTS7000215: Not {spelling}."}}"#);
        let world = World::new(move |_, _| Reply::json(401, &body)).await;
        let message = world.error().await.to_string();
        assert!(message.contains("401 AADSTS7000215: Not [hidden]."), "{message}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_not_tried_out() {
    let answers = [
        (200, ""),
        (200, "<html>sign in</html>"),
        (200, r#"{"access_token":""}"#),
        (200, r#"{"access_token":"a b"}"#),
        (200, r#"{"access_token":"é"}"#),
        (200, r#"{"access_token":7}"#),
        (200, r#"{"access_token":"a","token_type":"pop"}"#),
        (500, "{}"),
        (400, r#"{"error":"temporarily_unavailable","error_description":"AADSTS90033: A transient error."}"#),
    ];
    let world = World::new(move |_, n| Reply::json(answers[n].0, answers[n].1)).await;
    for answer in answers {
        let error = world.error().await;
        assert!(matches!(error, Error::NoToken(_)) && error.affects_partner(), "{answer:?}: {error:?}");
    }
    assert!(world.server.polls().is_empty());
}
