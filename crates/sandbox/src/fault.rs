//! Injected faults: what goes wrong, for which requests, how often.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::duration_serde;
use super::errors::{self, ErrorShape, Payload, Reply};
use super::log::Kind;
use super::rule::{Active, Rule, Rules};
use super::transport;
use vetwatch_core::time::Timestamp;

/// An error response. Code, message and shape default to the usual ones of the status.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ErrorFault {
    pub status: u16,
    pub code: Option<u32>,
    pub message: Option<String>,
    pub shape: Option<ErrorShape>,
    /// Sent verbatim: seconds or a date.
    pub retry_after: Option<String>,
    /// Sent as a date, this long after the response. Replaces `retry_after`.
    #[serde(default, with = "duration_serde::optional")]
    pub retry_after_date: Option<Duration>,
}

/// What goes wrong. In the control API: `{"fault": "status", "status": 503}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    Status(ErrorFault),
    /// No response until the client disconnects (at most ten minutes).
    Hang,
    /// The correct response, once released. `stale`: as of the request's arrival.
    Hold {
        #[serde(default)]
        stale: bool,
    },
    /// The correct response, late. `stale`: as of the request's arrival.
    Delay {
        #[serde(with = "duration_serde")]
        by: Duration,
        #[serde(default)]
        stale: bool,
    },
    /// The first half of the correct response; then the connection closes.
    Cut,
    /// Carries out the request, then closes the connection without a response.
    Lost,
    /// Closes the connection without a response.
    Close,
    /// Resets the connection without a response.
    Reset,
    /// 200 with invalid JSON.
    Garbage,
    /// 200 with an empty body.
    Empty,
    /// 200 `null`.
    Null,
    /// 200 `{}`.
    Object,
    /// 200 with an HTML page.
    Html,
    /// 200 with an endless JSON array.
    Endless,
    /// 200 with an empty JSON array: 64 KiB of gzip, 64 MiB decompressed.
    Bomb,
    /// An arbitrary response.
    Custom {
        #[serde(default = "ok")]
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: String,
    },
}

fn ok() -> u16 {
    200
}

impl Fault {
    pub fn status(status: u16) -> Self {
        Self::Status(ErrorFault { status, ..ErrorFault::default() })
    }

    /// An error with this documented code, in the documented shape.
    pub fn error(status: u16, code: u32) -> Self {
        Self::Status(ErrorFault { status, code: Some(code), ..ErrorFault::default() })
    }

    /// 429 with `Retry-After`, as Partner Center's gateway sends it.
    pub fn throttled(wait: Duration) -> Self {
        let retry_after = Some(wait.as_secs().to_string());
        Self::Status(ErrorFault { status: 429, retry_after, ..ErrorFault::default() })
    }

    /// 429 with `Retry-After` as a date, `wait` after the response.
    pub fn throttled_with_a_date(wait: Duration) -> Self {
        Self::Status(ErrorFault { status: 429, retry_after_date: Some(wait), ..ErrorFault::default() })
    }

    /// As the control API spells it.
    pub(super) fn name(&self) -> String {
        let written = serde_json::to_value(self).unwrap_or_default();
        written["fault"].as_str().unwrap_or_default().to_owned()
    }

    /// The response, for faults that depend on nothing else.
    pub(super) fn reply(&self, now: Timestamp) -> Option<Reply> {
        let body = |body: &'static str| Reply::new(StatusCode::OK, errors::JSON, body);
        Some(match self {
            Self::Status(error) => error.reply(now),
            Self::Garbage => Reply::new(StatusCode::OK, errors::JSON, &b"\x1f\x8b\xfe{\"qualification\x00: [}<"[..]),
            Self::Empty => body(""),
            Self::Null => body("null"),
            Self::Object => body("{}"),
            Self::Html => Reply::new(StatusCode::OK, "text/html", errors::html(StatusCode::OK)),
            Self::Endless => transport::endless(),
            Self::Bomb => transport::bomb(),
            Self::Custom { status, headers, body } => {
                let body = Bytes::copy_from_slice(body.as_bytes());
                let mut reply = Reply::new(valid(*status), errors::JSON, body);
                for (name, value) in headers {
                    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                        reply.headers.retain(|(known, _)| *known != CONTENT_TYPE || name != CONTENT_TYPE);
                        reply.headers.push((name, value));
                    }
                }
                reply
            }
            _ => return None,
        })
    }
}

fn valid(status: u16) -> StatusCode {
    // A status below 200 is an interim response, never a final one.
    StatusCode::from_u16(status).ok().filter(|s| s.as_u16() >= 200).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl ErrorFault {
    fn reply(&self, now: Timestamp) -> Reply {
        // Rounded up, as gateways do: a date that is too early would lead to another 429.
        let second = Duration::from_millis(999);
        let date = self.retry_after_date.map(|wait| duration_serde::http_date(now.after(wait + second)));
        let retry_after = date.as_ref().or(self.retry_after.as_ref());
        let status = valid(self.status);
        let (usual_code, usual_text) = errors::usual(status);
        let (code, usual_text, usual_shape) = match self.code {
            None if status == StatusCode::TOO_MANY_REQUESTS => {
                // A date would not fit the sentence; 57 is the documentation's sample.
                let wait_s = retry_after.filter(|wait| wait.parse::<u64>().is_ok()).map_or("57", String::as_str);
                (429, format!("Rate limit is exceeded. Try again in {wait_s} seconds."), ErrorShape::Gateway)
            }
            code => (code.unwrap_or(usual_code), usual_text.to_owned(), ErrorShape::Standard),
        };
        let text = self.message.as_ref().unwrap_or(&usual_text);
        let reply = errors::body(status, code, text, self.shape.unwrap_or(usual_shape));
        match retry_after {
            Some(wait) => reply.with(RETRY_AFTER, wait),
            None => reply,
        }
    }
}

/// The first half of a response, with the `Content-Length` of the whole.
pub(super) fn cut(reply: Reply) -> Reply {
    let whole = reply.body().clone();
    // Even a response of one byte announces more than it sends.
    let (promised, sent) = (whole.len().max(2), whole.slice(..whole.len() / 2));
    Reply { payload: Payload::Cut { sent, promised }, ..reply }
}

pub type FaultRule = Rule<Fault>;

/// The fault that applies to a request.
pub(super) struct Match {
    pub(super) fault: Fault,
    /// Closed (its sender is dropped) when the fault is released or cleared.
    pub(super) released: Option<watch::Receiver<()>>,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Rules<Fault>,
    held: HashMap<u64, watch::Sender<()>>,
}

impl Faults {
    pub(super) fn add(&mut self, rule: FaultRule, now: Timestamp) -> u64 {
        let holds = matches!(rule.what, Fault::Hold { .. });
        let id = self.rules.add(rule, now);
        if holds {
            self.held.insert(id, watch::Sender::new(()));
        }
        id
    }

    /// Removes a fault and releases the requests it holds. False if there is no fault with this number.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        // An expired fault still holds its requests: its sender stays until it is released.
        let held = self.held.remove(&id).is_some();
        self.rules.remove(id) || held
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.rules.clear();
    }

    pub(super) fn list(&self, now: Timestamp) -> Vec<Active<Fault>> {
        self.rules.list(now)
    }

    /// The fault that applies to this request, if any; counts it.
    pub(super) fn first_match(&mut self, kind: Kind, customer: Option<&str>, now: Timestamp) -> Option<Match> {
        let (id, fault) = self.rules.first_match(kind, customer, now, |_| true)?;
        Some(Match { fault, released: self.held.get(&id).map(watch::Sender::subscribe) })
    }
}
