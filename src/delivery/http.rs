//! One POST to a server that may be slow, broken or hostile: the way of every channel that speaks HTTP.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::delivery::message::clean;
use crate::delivery::{Outcome, Report};
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

/// Where to post to, and how to get there. Part of the settings of every HTTP kind.
#[derive(Clone)]
pub struct HttpSettings {
    /// May hold a secret: never shown but for scheme and host.
    pub url: Url,
}

impl HttpSettings {
    /// Nothing but the address.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url }
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings").field("url", &origin(&self.url)).finish_non_exhaustive()
    }
}

/// What of a URL may be shown: scheme, host and port.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Posts to one URL. Its connections are kept and used again.
pub struct Poster {
    settings: HttpSettings,
    deadline: Duration,
    /// What else of a request may be repeated in its answer, and must not be shown.
    hidden: Vec<SecretString>,
    /// Or why there is none; every attempt says so then.
    client: Result<Client, String>,
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Poster {
    /// # Panics
    /// Where the process has no default TLS provider (`rustls::crypto::ring::default_provider().install_default()`).
    #[must_use]
    pub fn new(settings: HttpSettings) -> Self {
        Self { settings, deadline: DEADLINE, hidden: Vec::new(), client: client(DEADLINE) }
    }

    /// Another hard deadline for an attempt than 30 seconds.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, client: client(deadline), ..self }
    }

    /// Shows none of these in a report, either.
    #[must_use]
    pub fn hiding(self, hidden: Vec<SecretString>) -> Self {
        Self { hidden, ..self }
    }

    /// One attempt. Ends within the deadline, and shows nothing of the URL but scheme and host, whatever the other
    /// side does and says.
    ///
    /// `judge` sees the answer's status and the beginning of its body (4 KiB at most, or what of it came in time; of a
    /// redirect nothing), and may overrule what usually follows from the status.
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: &str,
        now: Timestamp,
        judge: impl Fn(StatusCode, &str) -> Option<Outcome>,
    ) -> Report {
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => return self.reported(Outcome::Unavailable, &format!("there is no HTTP client: {why}")),
        };
        let end = Instant::now() + self.deadline;
        let sent = client.post(self.settings.url.clone()).headers(headers).body(body.to_owned()).send();
        match timeout_at(end, sent).await {
            Ok(Ok(answer)) => self.answered(answer, now, end, judge).await,
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
    async fn answered(
        &self,
        answer: Response,
        now: Timestamp,
        end: Instant,
        judge: impl Fn(StatusCode, &str) -> Option<Outcome>,
    ) -> Report {
        let status = answer.status();
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let after = header(RETRY_AFTER).and_then(|text| retry_after(text, now));
        let usual = usual(status, after);
        let mut said = format!("HTTP {status}");
        if status.is_redirection() {
            let target = header(LOCATION).and_then(|to| self.settings.url.join(to).ok()).map(|to| origin(&to));
            let to = target.map(|origin| format!(" to {origin}")).unwrap_or_default();
            said = format!("{said}: it redirects{to}, and redirects are not followed; configure the final URL");
            return self.reported(judge(status, "").unwrap_or(usual), &said);
        }
        let mut body = Vec::new();
        let _ = timeout_at(end.min(Instant::now() + BODY), read_beginning(answer, &mut body)).await; // or what has come
        let body = String::from_utf8_lossy(&body);
        if !body.trim().is_empty() {
            said.push_str(": ");
            said.push_str(&body);
        }
        self.reported(judge(status, &body).unwrap_or(usual), &said)
    }

    fn reported(&self, outcome: Outcome, said: &str) -> Report {
        let said = redact(said, &self.settings.url);
        let hide = |said: String, secret: &SecretString| said.replace(secret.expose_secret(), "[hidden]");
        let said = self.hidden.iter().filter(|secret| !secret.expose_secret().is_empty()).fold(said, hide);
        let detail = clean::line(&format!("{}: {said}", origin(&self.settings.url)), Report::DETAIL_MAX);
        Report { outcome, detail, settled: BTreeMap::new() }
    }
}

/// What follows from a status alone.
fn usual(status: StatusCode, after: Option<Duration>) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Accepted,
        StatusCode::GONE => Outcome::Gone,
        // The same message will be as large the next time, and would hold up smaller ones as the endpoint's probe.
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::Refused,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::TryAgain { after },
        _ => Outcome::TryAgain { after: None },
    }
}

/// The one place where these connections are configured.
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
