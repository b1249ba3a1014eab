//! The fuzz target of the answers of webhooks' receivers and chat services.

use std::sync::LazyLock;

use axum::http;
use uuid::Uuid;

use super::*;
use crate::delivery::chat::{ntfy, slack, teams};
use crate::delivery::retry::MAX_RETRY_AFTER;
use crate::fuzzing::{RUNTIME, SECRET, is_line, shows_secret};
use crate::redact::Known;

static SENDER: LazyLock<HttpSender> = LazyLock::new(|| {
    let url = format!("https://crm.example/hooks/{SECRET}?id={}", Uuid::nil());
    HttpSender::new(HttpSettings::new(url.parse().unwrap())).with_credentials(vec!["secret_file"])
});

/// An answer: its first line is the service (`teams`, `slack`, `ntfy`; any other is a webhook), the status, and the value of
/// `Retry-After` and `Location` if there are such; the rest is the body.
pub(crate) fn http_answers(input: &[u8]) {
    let _known = Known::of([SECRET]);
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let Ok(line) = std::str::from_utf8(&input[..end]) else { return };
    let mut words = line.splitn(3, ' ');
    let (service, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some(status) = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok()) else { return };
    let mut answer = http::Response::new(input.get(end + 1..).unwrap_or_default().to_vec());
    *answer.status_mut() = status;
    if let Some(value) = words.next().and_then(|value| HeaderValue::from_str(value).ok()) {
        answer.headers_mut().extend([(RETRY_AFTER, value.clone()), (LOCATION, value)]);
    }
    let classify = |status, body: &str| match service {
        "teams" => (teams::SERVICE.classify_response)(status, body),
        "slack" => (slack::SERVICE.classify_response)(status, body),
        "ntfy" => (ntfy::SERVICE.classify_response)(status, body),
        _ => None,
    };
    let (now, until) = (Timestamp::from_millis(1_795_262_400_000), Instant::now() + DEADLINE);
    let result = RUNTIME.block_on(async { SENDER.answered(answer.into(), now, until, classify).await });
    assert!(result.detail.len() <= AttemptResult::DETAIL_MAX && is_line(&result.detail), "{}", result.detail);
    assert!(!shows_secret(&format!("{result:?}")), "{result:?}");
    assert!(result.outcome != Outcome::Accepted || status.is_success(), "{result:?}");
    if let Outcome::Retry { after: Some(after) } = result.outcome {
        assert!(after <= MAX_RETRY_AFTER, "{result:?}");
    }
}
