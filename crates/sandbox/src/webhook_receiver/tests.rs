//! The webhook receiver from a sender's view.

use reqwest::Client;

use super::*;
use vetwatch_core::time::ManualClock;

const SOON: Duration = Duration::from_secs(10);
/// From the example in the specification.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SIGNED_S: i64 = 1_614_265_330;
const BODY: &str = r#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

async fn receiver() -> (Receiver, Arc<ManualClock>, Client) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(SIGNED_S * 1000)));
    let receiver = Receiver::start(Some(SECRET), Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    let redirect = reqwest::redirect::Policy::none();
    (receiver, clock, Client::builder().no_proxy().redirect(redirect).build().unwrap())
}

async fn send(client: &Client, receiver: &Receiver, signature: &str, body: &'static str) -> Option<reqwest::Response> {
    let request = client
        .post(receiver.url())
        .header("webhook-id", ID)
        .header("webhook-timestamp", SIGNED_S.to_string())
        .header("webhook-signature", signature);
    request.body(body).send().await.ok()
}

#[tokio::test]
async fn signatures_are_checked_as_the_specification_says() {
    let (receiver, clock, client) = receiver().await;
    let rotated = format!("v1,AAAA v2,x {SIGNATURE}");
    for (signature, body, expected) in [
        (SIGNATURE, BODY, Signature::Valid),
        (&rotated, BODY, Signature::Valid),
        (SIGNATURE, "{}", Signature::Wrong),
        ("v1,AAAA", BODY, Signature::Wrong),
        ("", BODY, Signature::Wrong),
    ] {
        assert_eq!(send(&client, &receiver, signature, body).await.unwrap().status(), 200);
        assert_eq!(receiver.hooks().last().unwrap().signature, expected, "{signature:?}");
    }
    client.post(receiver.url()).body(BODY).send().await.unwrap();
    assert_eq!(receiver.hooks().last().unwrap().signature, Signature::Missing);
    clock.advance(Duration::from_secs(301));
    send(&client, &receiver, SIGNATURE, BODY).await;
    let last = receiver.hooks().pop().unwrap();
    assert_eq!((last.signature, last.id(), last.answered), (Signature::Stale, Some(ID), Some(200)));
    assert_eq!(last.json()["test"], 2_432_232_314_u64);
}

#[tokio::test]
async fn it_answers_as_scripted_and_then_agrees_again() {
    let (receiver, _clock, client) = receiver().await;
    receiver.script(WebhookAction::with_header(503, "Retry-After", "30"), Some(1));
    receiver.script(WebhookAction::with_header(302, "Location", "http://127.0.0.1:1/"), Some(1));
    let answer = send(&client, &receiver, SIGNATURE, BODY).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &HeaderValue::from_static("30")));
    let answer = send(&client, &receiver, SIGNATURE, BODY).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].len()), (302, 19));
    for (act, read) in
        [(WebhookAction::CloseBefore, false), (WebhookAction::CloseAfter, true), (WebhookAction::ResetAfter, true)]
    {
        receiver.clear();
        // A client may retry on a new connection if an old one breaks.
        receiver.script(act.clone(), None);
        assert!(send(&client, &receiver, SIGNATURE, BODY).await.is_none(), "{act:?}");
        let hook = receiver.wait_for(1, SOON).await.unwrap().remove(0);
        assert_eq!((hook.body.is_empty(), hook.answered), (!read, None), "{act:?}");
        receiver.clear_script();
    }
    assert_eq!(send(&client, &receiver, SIGNATURE, BODY).await.unwrap().status(), 200);
}

#[tokio::test]
async fn it_can_hang_be_away_and_come_back() {
    let (receiver, _clock, client) = receiver().await;
    receiver.script(WebhookAction::Hang, Some(1));
    let hanging = tokio::spawn(client.post(receiver.url()).body(BODY).send());
    receiver.wait_for(1, SOON).await.unwrap();
    receiver.stop().await.unwrap();
    assert!(tokio::time::timeout(SOON, hanging).await.unwrap().unwrap().is_err());
    assert!(client.post(receiver.url()).send().await.unwrap_err().is_connect());
    receiver.start_again().await.unwrap();
    assert_eq!(send(&client, &receiver, SIGNATURE, BODY).await.unwrap().status(), 200);
    receiver.wait_for_those(1, SOON, |hook| hook.answered.is_some()).await.unwrap();
}
