//! One POST to a server that may be slow, broken or hostile: the way of every channel that speaks HTTP.

mod client;
mod describe;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

pub(crate) use client::client_for_operator_url;
pub use client::{HttpSettings, Lookup};
use describe::error_chain;
pub(crate) use describe::origin;

use crate::delivery::message::sanitize;
use crate::delivery::{AttemptResult, Outcome};
use crate::redact;
use crate::time::Timestamp;

/// The whole attempt, whatever the other side does.
const DEADLINE: Duration = Duration::from_secs(30);
/// For the answer's body, which only explains.
const BODY: Duration = Duration::from_secs(3);
const BODY_MAX: usize = 4096;
/// Said of a message that was sent and not answered.
const UNKNOWN: &str = "; whether it has taken the message is not known";
/// What `Retry-After` may ask for at most: a mistake there must not silence an endpoint for days.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Posts to one URL. Its connections are kept and used again.
pub struct HttpSender {
    settings: HttpSettings,
    deadline: Duration,
    lookup: Lookup,
    /// Or why there is none; every attempt says so then.
    client: Result<Client, String>,
}

impl fmt::Debug for HttpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl HttpSender {
    /// Never fails: what is wrong with the settings is what every attempt reports.
    #[must_use]
    pub fn new(settings: HttpSettings) -> Self {
        Self::with(settings, DEADLINE, client::system())
    }

    /// Another hard deadline for an attempt than 30 seconds.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self::with(self.settings, deadline, self.lookup)
    }

    /// Another way to look names up than the system's. What is found is checked all the same.
    #[must_use]
    pub fn with_lookup(self, lookup: Lookup) -> Self {
        Self::with(self.settings, self.deadline, lookup)
    }

    fn with(settings: HttpSettings, deadline: Duration, lookup: Lookup) -> Self {
        settings.learn_secrets();
        let client = client::client(&settings, deadline / 2, lookup.clone());
        Self { settings, deadline, lookup, client }
    }

    /// One attempt. Ends within the deadline, and shows nothing of the URL but scheme and host, whatever the other
    /// side does and says.
    ///
    /// `classify_response` sees the answer's status and the beginning of its body (4 KiB at most, or what of it came in time; of a
    /// redirect nothing), and may overrule what usually follows from the status.
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: &str,
        now: Timestamp,
        judge: impl Fn(StatusCode, &str) -> Option<Outcome>,
    ) -> AttemptResult {
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => return self.reported(Outcome::Unavailable, &format!("nothing can be sent: {why}")),
        };
        let end = Instant::now() + self.deadline;
        let sent = client.post(self.settings.url.clone()).headers(headers).body(body.to_owned()).send();
        match timeout_at(end, sent).await {
            Ok(Ok(answer)) => self.answered(answer, now, end, judge).await,
            Ok(Err(error)) => self.failed(error),
            // Connecting has a deadline of its own, so there was a connection, and the other side may have acted on it.
            Err(_) => {
                let limit = humantime::format_duration(self.deadline);
                self.reported(Outcome::Unconfirmed, &format!("no answer within {limit}{UNKNOWN}"))
            }
        }
    }

    /// What follows when no answer came.
    fn failed(&self, error: reqwest::Error) -> AttemptResult {
        let tls = tls(&error);
        let unreached = error.is_connect() || tls.is_some();
        // Else the connection broke with the message on its way, or the answer.
        let outcome = if unreached { Outcome::Unavailable } else { Outcome::Unconfirmed };
        let by = match &self.settings.proxy {
            Some(proxy) if error.is_connect() => format!("by the proxy {}: ", origin(proxy)),
            _ => String::new(),
        };
        let hint = match tls {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
                " (if its certificate is from a CA of your own, name that in ca_file)"
            }
            Some(rustls::Error::AlertReceived(_)) if self.settings.client_certificate.is_none() => {
                " (if it wants to know who calls, name a certificate in client_certificate_file)"
            }
            _ if unreached => "",
            _ => UNKNOWN,
        };
        self.reported(outcome, &format!("{by}{}{hint}", redact::words(&error_chain(&error.without_url()))))
    }

    /// What follows from an answer. Its status has come by now, so nothing that its body does can change that.
    async fn answered(
        &self,
        answer: Response,
        now: Timestamp,
        end: Instant,
        judge: impl Fn(StatusCode, &str) -> Option<Outcome>,
    ) -> AttemptResult {
        let status = answer.status();
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let after = header(RETRY_AFTER).and_then(|text| retry_after(text, now));
        let usual = default_outcome(status, after);
        let mut said = format!("HTTP {status}");
        if status.is_redirection() {
            let target = header(LOCATION).and_then(|to| self.settings.url.join(to).ok());
            let to = target.map(|to| format!(" to {}", redact::words(&origin(&to)))).unwrap_or_default();
            said = format!("{said}: it redirects{to}, and redirects are not followed; configure the final URL");
            return self.reported(judge(status, "").unwrap_or(usual), &said);
        }
        let mut body = Vec::new();
        let read = timeout_at(end.min(Instant::now() + BODY), read_beginning(answer, &mut body)).await; // or what has come
        let is_whole = read.unwrap_or(false);
        let body = String::from_utf8_lossy(&body);
        if !body.trim().is_empty() {
            said.push_str(": ");
            // Clean first: what is taken out of it may have stood within a secret.
            said.push_str(&redact::words(&sanitize::lines(&body, BODY_MAX)));
        }
        match judge(status, &body).unwrap_or(usual) {
            // A success whose end, by which this service says what it means, did not come.
            Outcome::Retry { .. } if status.is_success() && !is_whole => {
                self.reported(Outcome::Unconfirmed, &format!("{said} (the answer broke off{UNKNOWN})"))
            }
            outcome => self.reported(outcome, &said),
        }
    }

    /// `said` is ours, or went through [`redact::words`].
    fn reported(&self, outcome: Outcome, said: &str) -> AttemptResult {
        let detail = sanitize::line(&format!("{}: {said}", origin(&self.settings.url)), AttemptResult::DETAIL_MAX);
        AttemptResult { outcome, detail, final_replies: BTreeMap::new() }
    }
}

/// What follows from a status alone.
fn default_outcome(status: StatusCode, after: Option<Duration>) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Accepted,
        StatusCode::GONE => Outcome::Gone,
        // The same message will be as large the next time, and would hold up smaller ones as the endpoint's probe.
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::Refused,
        // A gateway that has waited for somebody in vain: HTTP's own word, Cloudflare's, and an old custom.
        status if [504, 524, 598].contains(&status.as_u16()) => Outcome::Unconfirmed,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Retry { after },
        _ => Outcome::Retry { after: None },
    }
}

/// What TLS complains of: ours of the other side, or (an alert) the other side of us, be it after the handshake.
fn tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    // What an I/O error holds is not what it calls its source.
    fn held(error: &io::Error) -> Option<&rustls::Error> {
        let inner = error.get_ref()?;
        inner.downcast_ref().or_else(|| held(inner.downcast_ref()?))
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref().or_else(|| held(error.downcast_ref()?)) {
            return Some(found);
        }
        cause = error.source();
    }
    None
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

/// The first bytes of an answer's body. The rest is not read: it may have no end. Whether that is all, or enough.
async fn read_beginning(mut answer: Response, bytes: &mut Vec<u8>) -> bool {
    while bytes.len() < BODY_MAX {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(BODY_MAX - bytes.len())]),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;
