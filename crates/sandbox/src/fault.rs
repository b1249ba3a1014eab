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

/// What goes wrong. In the control API: `{"fault": "status", "status": 503}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// An error response. Code, message and shape default to the usual ones of the status.
    Status {
        status: u16,
        #[serde(default)]
        code: Option<u32>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        shape: Option<ErrorShape>,
        /// Sent verbatim: seconds or a date.
        #[serde(default)]
        retry_after: Option<String>,
        /// Sent as a date, this long after the response. Replaces `retry_after`.
        #[serde(default, with = "duration_serde::optional")]
        retry_after_date: Option<Duration>,
    },
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
        Self::Status { status, code: None, message: None, shape: None, retry_after: None, retry_after_date: None }
    }

    /// An error with this documented code, in the documented shape.
    pub fn error(status: u16, code: u32) -> Self {
        Self::Status { status, code: Some(code), message: None, shape: None, retry_after: None, retry_after_date: None }
    }

    /// 429 with `Retry-After`, as Partner Center's gateway sends it.
    pub fn throttled(wait: Duration) -> Self {
        let retry_after = Some(wait.as_secs().to_string());
        Self::Status { status: 429, code: None, message: None, shape: None, retry_after, retry_after_date: None }
    }

    /// 429 with `Retry-After` as a date, `wait` after the response.
    pub fn throttled_with_a_date(wait: Duration) -> Self {
        let retry_after_date = Some(wait);
        Self::Status { status: 429, code: None, message: None, shape: None, retry_after: None, retry_after_date }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Hang => "hang",
            Self::Hold { .. } => "hold",
            Self::Delay { .. } => "delay",
            Self::Cut => "cut",
            Self::Lost => "lost",
            Self::Close => "close",
            Self::Reset => "reset",
            Self::Garbage => "garbage",
            Self::Empty => "empty",
            Self::Null => "null",
            Self::Object => "object",
            Self::Html => "html",
            Self::Endless => "endless",
            Self::Bomb => "bomb",
            Self::Custom { .. } => "custom",
        }
    }

    /// The response, for faults that depend on nothing else.
    pub(super) fn reply(&self, now: Timestamp) -> Option<Reply> {
        let body = |body: &'static str| Reply::new(StatusCode::OK, errors::JSON, body);
        Some(match self {
            Self::Status { status, code, message, shape, retry_after, retry_after_date } => {
                // Rounded up, as gateways do: a date that is too early would lead to another 429.
                let second = Duration::from_millis(999);
                let date = retry_after_date.map(|wait| duration_serde::http_date(now.after(wait + second)));
                error_reply(*status, *code, message.as_deref(), *shape, date.as_deref().or(retry_after.as_deref()))
            }
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
            Self::Hang
            | Self::Hold { .. }
            | Self::Delay { .. }
            | Self::Cut
            | Self::Lost
            | Self::Close
            | Self::Reset => {
                return None;
            }
        })
    }
}

fn valid(status: u16) -> StatusCode {
    // A status below 200 is an interim response, never a final one.
    StatusCode::from_u16(status).ok().filter(|s| s.as_u16() >= 200).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn error_reply(
    status: u16,
    code: Option<u32>,
    message: Option<&str>,
    shape: Option<ErrorShape>,
    retry_after: Option<&str>,
) -> Reply {
    let status = valid(status);
    let (usual_code, usual_text) = errors::usual(status);
    let reply = if status == StatusCode::TOO_MANY_REQUESTS && code.is_none() {
        let text = message.map_or_else(|| throttle_text(retry_after), str::to_owned);
        errors::body(status, 429, &text, shape.unwrap_or(ErrorShape::Gateway))
    } else {
        let shape = shape.unwrap_or(ErrorShape::Standard);
        errors::body(status, code.unwrap_or(usual_code), message.unwrap_or(usual_text), shape)
    };
    match retry_after {
        Some(wait) => reply.with(RETRY_AFTER, wait),
        None => reply,
    }
}

fn throttle_text(retry_after: Option<&str>) -> String {
    // A date would not fit the sentence; 57 is the documentation's sample.
    let wait_s = retry_after.filter(|wait| wait.parse::<u64>().is_ok()).unwrap_or("57");
    format!("Rate limit is exceeded. Try again in {wait_s} seconds.")
}

/// The first half of a response, with the `Content-Length` of the whole.
pub(super) fn cut(reply: Reply) -> Reply {
    let whole = reply.body().clone();
    // Even a response of one byte announces more than it sends.
    let (promised, sent) = (whole.len().max(2), whole.slice(..whole.len() / 2));
    Reply { payload: Payload::Cut { sent, promised }, ..reply }
}

pub type FaultRule = Rule<Fault>;
pub type ActiveFault = Active<Fault>;

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

    pub(super) fn list(&self, now: Timestamp) -> Vec<ActiveFault> {
        self.rules.list(now)
    }

    /// The fault that applies to this request, if any; counts it.
    pub(super) fn first_match(&mut self, kind: Kind, customer: Option<&str>, now: Timestamp) -> Option<Match> {
        let (id, fault) = self.rules.first_match(kind, customer, now, |_| true)?;
        Some(Match { fault, released: self.held.get(&id).map(watch::Sender::subscribe) })
    }
}
