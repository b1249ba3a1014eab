//! Signed JSON over HTTPS: Standard Webhooks.

mod signature;

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use self::signature::{SecretError, SigningSecret};
use crate::delivery::message::{DIGEST, clean};
use crate::delivery::{Draft, Outcome, Outgoing, Report};
use crate::event::{Event, EventData};
use crate::time::Timestamp;

/// The whole attempt, whatever the other side does.
const DEADLINE: Duration = Duration::from_secs(30);
/// Of that, until there is a connection: past it the endpoint counts as unreachable.
const CONNECT: Duration = Duration::from_secs(10);
/// For the answer's body, which only explains.
const BODY: Duration = Duration::from_secs(3);
const BODY_MAX: usize = 4096;
/// What `Retry-After` may ask for at most: a mistake there must not silence an endpoint for days.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

#[derive(Clone)]
pub struct WebhookSettings {
    /// May hold a secret: never shown but for scheme and host.
    pub url: Url,
    /// One for each `v1,` signature; the newest first.
    pub secrets: Vec<SigningSecret>,
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings").field("url", &origin(&self.url)).field("secrets", &self.secrets).finish()
    }
}

/// What of a URL may be shown: scheme, host and port.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

pub struct WebhookChannel {
    settings: WebhookSettings,
    deadline: Duration,
    /// Or why there is none; every attempt says so then.
    client: Result<Client, String>,
}

impl fmt::Debug for WebhookChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookChannel").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl WebhookChannel {
    /// # Panics
    /// Where the process has no default TLS provider (`rustls::crypto::ring::default_provider().install_default()`).
    #[must_use]
    pub fn new(settings: WebhookSettings) -> Self {
        Self { settings, deadline: DEADLINE, client: client(DEADLINE) }
    }

    /// Another hard deadline for an attempt than 30 seconds.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, client: client(deadline), ..self }
    }

    /// The request's body. One event is told as itself; several (or none) as a digest of them.
    #[must_use]
    pub fn render(&self, draft: &Draft<'_>) -> String {
        // Names, texts and times: all of it can be JSON.
        serde_json::to_string(&body(draft)).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// One attempt, signed for `now`.
    pub async fn deliver(&self, outgoing: Outgoing<'_>, now: Timestamp) -> Report {
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => return self.reported(Outcome::Unavailable, &format!("there is no HTTP client: {why}")),
        };
        let end = Instant::now() + self.deadline;
        let sent = client
            .post(self.settings.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", outgoing.id.to_string())
            .header("webhook-timestamp", now.as_secs().to_string())
            .header("webhook-signature", signature::header(&self.settings.secrets, outgoing.id, now, outgoing.message))
            .body(outgoing.message.to_owned())
            .send();
        match timeout_at(end, sent).await {
            Ok(Ok(answer)) => self.answered(answer, now, end).await,
            Ok(Err(error)) => {
                let outcome = if error.is_connect() { Outcome::Unavailable } else { Outcome::TryAgain { after: None } };
                self.reported(outcome, &chain(&error.without_url()))
            }
            // Connecting has a deadline of its own, so there was a connection.
            Err(_) => {
                let limit = humantime::format_duration(self.deadline);
                self.reported(Outcome::TryAgain { after: None }, &format!("no answer within {limit}"))
            }
        }
    }

    /// What follows from an answer. Its status has come by now, so nothing that its body does can change that.
    async fn answered(&self, answer: Response, now: Timestamp, end: Instant) -> Report {
        let status = answer.status();
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let after = header(RETRY_AFTER).and_then(|text| retry_after(text, now));
        let outcome = match status {
            status if status.is_success() => Outcome::Accepted,
            StatusCode::GONE => Outcome::Gone,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::TryAgain { after },
            _ => Outcome::TryAgain { after: None },
        };
        let mut said = format!("HTTP {status}");
        if status.is_redirection() {
            let target = header(LOCATION).and_then(|to| self.settings.url.join(to).ok()).map(|to| origin(&to));
            let to = target.map(|origin| format!(" to {origin}")).unwrap_or_default();
            said = format!("{said}: it redirects{to}, and redirects are not followed; configure the final URL");
        } else {
            let mut body = Vec::new();
            let _ = timeout_at(end.min(Instant::now() + BODY), read_beginning(answer, &mut body)).await; // or what has come
            let body = String::from_utf8_lossy(&body);
            if !body.trim().is_empty() {
                said.push_str(": ");
                said.push_str(&body);
            }
        }
        self.reported(outcome, &said)
    }

    fn reported(&self, outcome: Outcome, said: &str) -> Report {
        let said = redact(said, &self.settings.url);
        let detail = clean::line(&format!("{}: {said}", origin(&self.settings.url)), Report::DETAIL_MAX);
        Report { outcome, detail, settled: std::collections::BTreeMap::new() }
    }
}

/// The one place where webhooks' connections are configured.
fn client(deadline: Duration) -> Result<Client, String> {
    Client::builder()
        .user_agent(concat!("vetwatch/", env!("CARGO_PKG_VERSION")))
        .no_proxy() // proxies come from the configuration only
        .redirect(redirect::Policy::none())
        .no_gzip() // an answer only explains; nothing is gained by unpacking it
        .connect_timeout(CONNECT.min(deadline / 2))
        .build() // a guard over addresses would enter here, as `dns_resolver`
        .map_err(|error| chain(&error))
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: Option<Timestamp>,
    /// The endpoint that has not taken it; this one stands in for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<&'a str>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    One(&'a EventData),
    Several { events: Vec<Typed<'a>> },
}

/// An event within a digest.
#[derive(Serialize)]
struct Typed<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    data: &'a EventData,
}

fn body<'a>(draft: &Draft<'a>) -> Body<'a> {
    let (events, instead_of) = (draft.events, draft.instead_of);
    if let [event] = events {
        let Event { kind, occurred_at, data } = event;
        return Body { r#type: kind.as_str(), timestamp: Some(*occurred_at), instead_of, data: Data::One(data) };
    }
    let typed = |event: &'a Event| {
        let Event { kind, data, .. } = event;
        Typed { r#type: kind.as_str(), data }
    };
    Body {
        r#type: DIGEST,
        timestamp: events.iter().map(|event| event.occurred_at).max(),
        instead_of,
        data: Data::Several { events: events.iter().map(typed).collect() },
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Timestamp::from(chrono::DateTime::parse_from_rfc2822(text).ok()?.to_utc()).since(now),
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The first bytes of an answer's body. The rest is not read: it may have no end.
async fn read_beginning(mut answer: Response, bytes: &mut Vec<u8>) {
    while bytes.len() < BODY_MAX {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(BODY_MAX - bytes.len())]),
            Ok(None) | Err(_) => break,
        }
    }
}

/// An error and its causes, each once: reqwest's own text says little more than "error sending request".
fn chain(error: &reqwest::Error) -> String {
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.iter().any(|known| known.contains(&text)) {
            said.push(text);
        }
        cause = error.source();
    }
    said.join(": ")
}

/// `text` without what may be secret in `url`. Servers like to repeat it: "Cannot POST /hooks/…".
fn redact(text: &str, url: &Url) -> String {
    /// Shorter parts are words such as `api` or `v1`.
    const TELLING: usize = 6;
    let mut parts = vec![url.path().to_owned()];
    parts.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
    parts.extend(url.query().map(str::to_owned));
    parts.extend(url.query().into_iter().flat_map(|query| query.split(['&', '='])).map(str::to_owned));
    parts.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    parts.extend(url.password().map(str::to_owned));
    parts.extend(Some(url.username().to_owned()));
    parts.retain(|part| part.len() >= TELLING);
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.iter().fold(text.to_owned(), |text, part| text.replace(part.as_str(), "[hidden]"))
}

#[cfg(test)]
mod tests;
