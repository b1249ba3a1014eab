//! One POST to a server that may be slow, broken or hostile; shared by all channels over HTTP.

mod client;
mod describe;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "a panic is what a fuzz target finds")]
pub(crate) mod fuzzing;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

pub(crate) use client::client_for_operator_url;
pub use client::{HttpSettings, Lookup};
use describe::error_chain;
pub(crate) use describe::origin;

use crate::delivery::retry::retry_after;
use crate::delivery::{AttemptResult, Outcome};
use crate::partner_center::tls;
use crate::redact;
use crate::text;
use crate::time::Timestamp;
use vetwatch_core::descriptors;

/// Deadline of an attempt, whatever the server does.
const DEADLINE: Duration = Duration::from_secs(30);
/// Deadline for the response body, which only explains.
const BODY_DEADLINE: Duration = Duration::from_secs(3);
const MAX_BODY_BYTES: usize = 4096;
/// Added to the result of a message that was sent and not answered.
const UNKNOWN: &str = "; whether it has taken the message is not known";

/// Posts to one URL, with a connection pool.
pub struct HttpSender {
    settings: HttpSettings,
    deadline: Duration,
    lookup: Lookup,
    /// The configuration's keys of what it logs in with; the URL has keys of its own.
    credentials: Vec<&'static str>,
    /// Or why there is none, which every attempt reports.
    client: Result<Client, String>,
}

impl fmt::Debug for HttpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl HttpSender {
    /// Never fails: an error in the settings is what every attempt reports.
    #[must_use]
    pub fn new(settings: HttpSettings) -> Self {
        Self::with(settings, DEADLINE, client::system())
    }

    /// The configuration's keys of what it logs in with, which a refusal of the login names.
    #[must_use]
    pub fn with_credentials(self, credentials: Vec<&'static str>) -> Self {
        Self { credentials, ..self }
    }

    /// Replaces the deadline of 30 seconds.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        let credentials = self.credentials;
        Self::with(self.settings, deadline, self.lookup).with_credentials(credentials)
    }

    /// Replaces the system's resolver. Its results are checked all the same.
    #[must_use]
    pub fn with_lookup(self, lookup: Lookup) -> Self {
        let credentials = self.credentials;
        Self::with(self.settings, self.deadline, lookup).with_credentials(credentials)
    }

    fn with(settings: HttpSettings, deadline: Duration, lookup: Lookup) -> Self {
        settings.learn_secrets();
        let client = client::client(&settings, deadline / 2, lookup.clone());
        Self { settings, deadline, lookup, credentials: Vec::new(), client }
    }

    /// Makes one attempt. Ends within the deadline, and shows only scheme and host of the URL.
    ///
    /// `classify_response` gets the status and the beginning of the body (at most 4 KiB, or what arrived in time; empty
    /// for a redirect), and may overrule the default outcome of the status.
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: &str,
        now: Timestamp,
        classify_response: impl Fn(StatusCode, &str) -> Option<Outcome>,
    ) -> AttemptResult {
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => return self.reported(Outcome::Unavailable, &format!("nothing can be sent: {why}")),
        };
        let end = Instant::now() + self.deadline;
        let sent = client.post(self.settings.url.clone()).headers(headers).body(body.to_owned()).send();
        match timeout_at(end, sent).await {
            Ok(Ok(response)) => self.answered(response, now, end, classify_response).await,
            Ok(Err(error)) => self.failed(error),
            // Connecting has its own deadline, so there was a connection, and the server may have acted on it.
            Err(_) => {
                let limit = humantime::format_duration(self.deadline);
                self.reported(Outcome::Unconfirmed, &format!("no answer within {limit}{UNKNOWN}"))
            }
        }
    }

    /// The result if there is no response.
    fn failed(&self, error: reqwest::Error) -> AttemptResult {
        if error.is_connect() && descriptors::none_left(&error) {
            return self.reported(Outcome::Unavailable, descriptors::NONE_LEFT);
        }
        let tls_error = tls_error(&error);
        let is_tls = tls_error.is_some();
        let unreached = error.is_connect() || is_tls;
        // Otherwise the connection broke while the message or the response was in transit.
        let outcome = if unreached { Outcome::Unavailable } else { Outcome::Unconfirmed };
        let by = match &self.settings.proxy {
            Some(proxy) if error.is_connect() => format!("by the proxy {}: ", origin(proxy)),
            _ => String::new(),
        };
        if let Some(problem) = tls_error.and_then(tls::problem) {
            return self.reported(outcome, &format!("{by}{}: {problem}", origin(&self.settings.url)));
        }
        let hint = match tls_error {
            Some(rustls::Error::AlertReceived(_)) if self.settings.client_certificate.is_none() => {
                " (if it wants to know who calls, name a certificate in client_certificate_file)"
            }
            Some(_) => "",
            None if unreached => "",
            None => UNKNOWN,
        };
        let why = error_chain(&error.without_url());
        // Only an error of TLS can repeat what the server says; all else is worded here, and a path such as `/private`
        // must not black it out.
        let why = if is_tls { redact::words(&why) } else { why };
        self.reported(outcome, &format!("{by}{why}{hint}"))
    }

    /// The result of a response. Its status has arrived, and nothing in the body can change that.
    async fn answered(
        &self,
        response: Response,
        now: Timestamp,
        end: Instant,
        classify_response: impl Fn(StatusCode, &str) -> Option<Outcome>,
    ) -> AttemptResult {
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let after = header(RETRY_AFTER).and_then(|text| retry_after(text, now));
        let usual = default_outcome(status, after);
        let mut text = format!("HTTP {status}");
        if status.is_redirection() {
            let target = header(LOCATION).and_then(|to| self.settings.url.join(to).ok());
            let to = target.map(|to| format!(" to {}", redact::words(&origin(&to)))).unwrap_or_default();
            text = format!("{text}: it redirects{to}, and redirects are not followed; configure the final URL");
            return self.reported(classify_response(status, "").unwrap_or(usual), &text);
        }
        let mut body = Vec::new();
        let read = timeout_at(end.min(Instant::now() + BODY_DEADLINE), read_beginning(response, &mut body)).await; // or what has come
        let is_whole = read.unwrap_or(false);
        let body = String::from_utf8_lossy(&body);
        let outcome = classify_response(status, &body).unwrap_or(usual);
        if outcome == Outcome::AuthRejected {
            text.push_str(&self.where_to_look(status));
        }
        if !body.trim().is_empty() {
            text.push_str(": ");
            // Before, because a sequence that colours a secret's characters is known only whole; and after, because the
            // characters that are removed may have split a secret.
            text.push_str(&redact::words(&text::lines(&redact::words(&body), MAX_BODY_BYTES)));
        }
        match outcome {
            // A success whose body, which this service puts its result into, was cut off.
            Outcome::Retry { .. } if status.is_success() && !is_whole => {
                self.reported(Outcome::Unconfirmed, &format!("{text} (the answer broke off{UNKNOWN})"))
            }
            outcome => self.reported(outcome, &text),
        }
    }

    /// Where the cause of a refused login may be.
    fn where_to_look(&self, status: StatusCode) -> String {
        let is_login = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        match self.credentials.as_slice() {
            keys if is_login && !keys.is_empty() => format!(" (look at {})", keys.join(" and ")),
            _ => " (look at the URL)".to_owned(),
        }
    }

    /// `text` is our own text, or went through [`redact::words`].
    fn reported(&self, outcome: Outcome, text: &str) -> AttemptResult {
        let detail = text::line(&format!("{}: {text}", origin(&self.settings.url)), AttemptResult::DETAIL_MAX);
        AttemptResult { outcome, detail, final_replies: BTreeMap::new() }
    }
}

/// A header's value that no log shows. `None` if no header can hold it, which the configuration rules out.
pub(super) fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The outcome of a status alone.
fn default_outcome(status: StatusCode, after: Option<Duration>) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Accepted,
        StatusCode::GONE => Outcome::Gone,
        // The message stays too large, and would hold up smaller ones as the endpoint's probe.
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::Refused,
        // Gateway timeouts: HTTP's, Cloudflare's, and an old convention.
        status if [504, 524, 598].contains(&status.as_u16()) => Outcome::Unconfirmed,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Retry { after },
        _ => Outcome::Retry { after: None },
    }
}

/// The TLS error, even after the handshake.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref().or_else(|| tls::cause(error.downcast_ref()?)) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Reads the first bytes of a body; the rest may be endless. False if the body broke off.
async fn read_beginning(mut response: Response, bytes: &mut Vec<u8>) -> bool {
    while bytes.len() < MAX_BODY_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY_BYTES - bytes.len())]),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;
