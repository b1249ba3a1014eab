//! A receiver that echoes requests, verbatim or encoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use vetwatch::delivery::http::HttpSettings;
use vetwatch::delivery::webhook::{SigningSecret, Template, WebhookChannel, WebhookSettings};

use super::{Receiver, deliver};

const URL: &str = "hooks/T0KEN%7Eabc-Def?sig=S3CRET%2Bxyz%3D%3D";
const PASSWORD: &str = "pa55~Word/with+signs";
const TEMPLATE: &str = "k3y \"of\" the\\template/<&>";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A response with this body.
async fn said(status: &str, headers: &str, body: &str) -> String {
    let receiver = Receiver::answering(status, headers, body).await;
    let url = format!("http://127.0.0.1:{}/{URL}", receiver.port);
    let template = Template::parse(
        "{\"text\": \"{{ message.subject }}\", \"key\": {{ secret }}}".to_owned(),
        HeaderValue::from_static("application/json"),
        Some(TEMPLATE.into()),
    );
    let basic = STANDARD.encode(format!("me:{PASSWORD}"));
    let settings = WebhookSettings {
        template: template.ok(),
        authorization: Some(format!("Basic {basic}").into()),
        ..WebhookSettings::signed(HttpSettings::new(url.parse().unwrap()), vec![SigningSecret::parse(SIGNING).unwrap()])
    };
    deliver(&WebhookChannel::new(settings)).await.detail
}

/// Asserts that no eight consecutive characters of a secret appear.
#[track_caller]
fn shows_nothing(said: &str, of: &str) {
    let small = said.to_lowercase();
    let basic = STANDARD.encode(format!("me:{PASSWORD}"));
    for secret in ["T0KEN~abc-Def", "T0KEN%7Eabc-Def", "S3CRET+xyz==", PASSWORD, TEMPLATE, &SIGNING[6..], &basic] {
        let secret: Vec<char> = secret.to_lowercase().chars().collect();
        for part in secret.windows(8).map(|part| part.iter().collect::<String>()) {
            assert!(!small.contains(&part), "{part} of {of} is in: {said}");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_repeats_what_it_was_sent_in_another_spelling_brings_no_secret_to_light() {
    let json = serde_json::to_string(TEMPLATE).unwrap();
    let html = TEMPLATE.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    let echoes = [
        format!("you are me:{PASSWORD}"),
        format!("you are me:{}", PASSWORD.to_uppercase()),
        format!("wrong key {json}"),
        format!("wrong key {}", json.replace('/', "\\/")),
        format!("wrong key {html}"),
        format!("wrong key {}", percent(TEMPLATE)),
        format!("wrong key {}", STANDARD.encode(TEMPLATE)),
        format!("wrong key {}", hex(TEMPLATE)),
        "Cannot POST /hooks/T0KEN%7eabc-Def".to_owned(),
        "Cannot POST /hooks/t0ken%7Eabc-def".to_owned(),
        "Cannot POST /hooks/T0KEN~abc-Def?sig=S3CRET+xyz==".to_owned(),
        "a part: EN~abc-D, and S3CRET+x".to_owned(),
        format!("a part: {}", &PASSWORD[6..14]),
        format!("{{\"echo\":\"{}\"}}", STANDARD.encode(percent(PASSWORD))),
        format!("signed with {} or {}", &SIGNING[6..], &SIGNING[6..].to_lowercase()),
        format!("Authorization: Basic {}", STANDARD.encode(format!("me:{PASSWORD}"))),
        PASSWORD.chars().map(|c| format!("{c}\u{200b}")).collect::<Vec<_>>().concat(),
        format!("credentials {}", hex(&format!("me:{PASSWORD}"))),
    ];
    for echo in echoes {
        let told = said("500 Oh", "", &echo).await;
        assert!(told.contains("HTTP 500 Internal Server Error: ") && told.contains("[hidden]"), "{echo}: {told}");
        shows_nothing(&told, &echo);
    }
    // A redirect's target also comes from the server.
    let told = said("302 Found", "location: https://t0ken-abc-def.evil.example/\r\n", "").await;
    shows_nothing(&told, "a redirect");
    let harmless =
        "{\"error\":\"no such project: vetting\",\"hint\":\"see https://docs.example/api/hooks?page=2%20of\"}";
    assert!(said("400 Bad Request", "", harmless).await.ends_with(harmless), "what is no secret is told as it was");
}
