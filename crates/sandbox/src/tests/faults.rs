//! Injected faults.

use reqwest::Response;
use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn faults_apply_to_the_intended_requests_as_often_as_configured() {
    let setup = Setup::new().await;
    let (id, other, token) = (setup.customer(), setup.customer(), setup.token().await);
    setup.sandbox.submit(&id).unwrap();
    let ask = async |fault: Fault| {
        setup.sandbox.fault(FaultRule::about(id.to_uppercase(), fault).times(1));
        assert_eq!(setup.get(&about(&other), &token).await, (200, json!([])));
        setup.request(&about(&id), &token).send().await
    };
    let text = async |answer: Result<Response, reqwest::Error>| answer.unwrap().text().await;

    let answer = ask(Fault::throttled(20 * SECOND)).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "20"));
    assert!(answer.text().await.unwrap().contains("Try again in 20 seconds."));
    let body: Value = ask(Fault::error(403, 900_124)).await.unwrap().json().await.unwrap();
    assert_eq!(body["code"], "900124");
    assert_eq!(text(ask(Fault::Null).await).await.unwrap(), "null");
    assert_eq!(text(ask(Fault::Empty).await).await.unwrap(), "");
    assert_eq!(text(ask(Fault::Object).await).await.unwrap(), "{}");
    assert!(ask(Fault::Garbage).await.unwrap().json::<Value>().await.is_err());
    let answer = ask(Fault::Cut).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.is_err(), "half of an answer must not look like a whole one");
    let was_reset = |error: reqwest::Error| format!("{error:?}").contains("ConnectionReset");
    assert!(!was_reset(ask(Fault::Close).await.unwrap_err()));
    assert!(was_reset(ask(Fault::Reset).await.unwrap_err()));
    assert_eq!(setup.get(&about(&id), &token).await.1[0]["vettingStatus"], "InReview");
    assert_eq!(setup.control("GET", "faults", &Value::Null).await.1["faults"], json!([]));
}

#[tokio::test]
async fn a_held_request_is_answered_when_released_and_an_old_answer_stays_old() {
    let setup = Setup::new().await;
    let (id, token) = (setup.customer(), setup.token().await);
    setup.sandbox.submit(&id).unwrap();
    for (stale, expected) in [(false, "Approved"), (true, "InReview")] {
        setup.sandbox.submit(&id).unwrap();
        let fault = setup.sandbox.fault(FaultRule::about(&id, Fault::Hold { stale }).times(1));
        let asked = setup.sandbox.count_of(&id);
        let held = tokio::spawn(setup.request(&about(&id), &token).send());
        setup.sandbox.wait_for_customer(&id, asked + 1, SOON).await.unwrap();
        setup.sandbox.approve(&id).unwrap();
        assert_eq!(setup.sandbox.requests_about(&id).last().unwrap().progress, Progress::Open);
        assert!(setup.sandbox.release(fault));
        let body: Value = timeout(SOON, held).await.unwrap().unwrap().unwrap().json().await.unwrap();
        assert_eq!(body[0]["vettingStatus"], expected);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed() {
    let setup = Setup::new().await;
    let (id, token) = (setup.customer(), setup.token().await);
    setup.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::Hang).times(1));
    let hanging = tokio::spawn(setup.request(&about(&id), &token).send());
    setup.sandbox.wait_for_customer(&id, 1, SOON).await.unwrap();
    hanging.abort();
    let abandoned = |log: &RequestLog| {
        log.after(0).find(|record| record.progress == Progress::Abandoned).map(|record| record.fault.clone())
    };
    assert_eq!(setup.sandbox.wait_for(SOON, abandoned).await.unwrap().as_deref(), Some("hang"));
}

#[tokio::test]
async fn the_throttle_says_how_long_and_keeps_its_word() {
    for window in [Window::Fixed, Window::Sliding] {
        let throttle = Some(ThrottleSettings { requests_per_minute: 3, window, retry_after: RetryAfter::Seconds });
        let setup = Setup::with(Options { throttle, ..Options::default() }).await;
        let (path, token) = (about(&setup.customer()), setup.token().await);
        for _ in 0..3 {
            assert_eq!(setup.get(&path, &token).await.0, 200);
        }
        setup.clock.advance(2 * SECOND);
        let answer = setup.request(&path, &token).send().await.unwrap();
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["retry-after"], "58");
        setup.clock.advance(57 * SECOND);
        assert_eq!(setup.get(&path, &token).await.0, 429, "{window:?}");
        setup.clock.advance(SECOND);
        assert_eq!(setup.get(&path, &token).await.0, 200, "{window:?}");
        assert_eq!(setup.sandbox.counts()[&Kind::Qualifications].throttled, 2);
    }
}

#[tokio::test]
async fn an_outage_refuses_connections_and_ends() {
    let setup = Setup::new().await;
    let (path, token) = (about(&setup.customer()), setup.token().await);
    setup.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::Hang).times(1));
    let hanging = tokio::spawn(setup.request(&path, &token).send());
    setup.sandbox.wait_for_requests(Kind::Qualifications, 1, SOON).await.unwrap();
    setup.sandbox.stop().await.unwrap();
    assert!(timeout(SOON, hanging).await.unwrap().unwrap().is_err());
    assert!(setup.request(&path, &token).send().await.unwrap_err().is_connect());
    setup.sandbox.start_again().await.unwrap();
    assert_eq!(setup.get(&path, &token).await.0, 200);
    setup.sandbox.shutdown().await;
}
