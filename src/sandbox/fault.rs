//! Faults on demand: what goes wrong, for which requests, how often.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::errors::{self, ErrorShape, Payload, Reply};
use super::log::Kind;
use super::text;

/// What goes wrong. In the control API: `{"fault": "status", "status": 503}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// An error answer. Left out, code, message and shape are the usual ones of the status.
    Status {
        status: u16,
        #[serde(default)]
        code: Option<u32>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        shape: Option<ErrorShape>,
        /// As it is: seconds or a date.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// No answer, until the client goes away (ten minutes at most).
    Hang,
    /// The right answer once released; `stale`: the one that was right when the request came.
    Hold {
        #[serde(default)]
        stale: bool,
    },
    /// The right answer, late; `stale`: the one that was right when the request came.
    Delay {
        #[serde(with = "text")]
        by: Duration,
        #[serde(default)]
        stale: bool,
    },
    /// The right answer, of which only the first half arrives before the connection ends.
    Cut,
    /// The connection is closed without an answer.
    Close,
    /// The connection is reset without an answer.
    Reset,
    /// 200 and bytes that are no JSON.
    Garbage,
    /// 200 and no body.
    Empty,
    /// 200 `null`.
    Null,
    /// 200 `{}`.
    Object,
    /// 200 and a page.
    Html,
    /// Anything.
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
        Self::Status { status, code: None, message: None, shape: None, retry_after: None }
    }

    /// An error with this documented code, in the documented shape.
    pub fn error(status: u16, code: u32) -> Self {
        Self::Status { status, code: Some(code), message: None, shape: None, retry_after: None }
    }

    /// 429 with `Retry-After`, as Partner Center's gateway sends it.
    pub fn throttled(wait: Duration) -> Self {
        let retry_after = Some(wait.as_secs().to_string());
        Self::Status { status: 429, code: None, message: None, shape: None, retry_after }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Hang => "hang",
            Self::Hold { .. } => "hold",
            Self::Delay { .. } => "delay",
            Self::Cut => "cut",
            Self::Close => "close",
            Self::Reset => "reset",
            Self::Garbage => "garbage",
            Self::Empty => "empty",
            Self::Null => "null",
            Self::Object => "object",
            Self::Html => "html",
            Self::Custom { .. } => "custom",
        }
    }

    /// The answer, for faults that need nothing but themselves.
    pub(super) fn reply(&self) -> Option<Reply> {
        let text = |body: &'static str| Reply::new(StatusCode::OK, errors::JSON, body);
        Some(match self {
            Self::Status { status, code, message, shape, retry_after } => {
                error_reply(*status, *code, message.as_deref(), *shape, retry_after.as_deref())
            }
            Self::Garbage => Reply::new(StatusCode::OK, errors::JSON, &b"\x1f\x8b\xfe{\"qualification\x00: [}<"[..]),
            Self::Empty => text(""),
            Self::Null => text("null"),
            Self::Object => text("{}"),
            Self::Html => Reply::new(StatusCode::OK, "text/html", errors::html(StatusCode::OK)),
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
            Self::Hang | Self::Hold { .. } | Self::Delay { .. } | Self::Cut | Self::Close | Self::Reset => return None,
        })
    }
}

fn valid(status: u16) -> StatusCode {
    // Below 200 HTTP means "more to come", which no server sends as its answer.
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
    format!("Rate limit is exceeded. Try again in {} seconds.", retry_after.unwrap_or("57"))
}

/// The first half of an answer, and the promise of the whole.
pub(super) fn cut(reply: Reply) -> Reply {
    let whole = reply.body().clone();
    // An answer of one byte still promises more than it sends.
    let (promised, sent) = (whole.len().max(2), whole.slice(..whole.len() / 2));
    Reply { payload: Payload::Cut { sent, promised }, ..reply }
}

/// Which requests meet a fault. The first rule that matches a request counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultRule {
    /// `None`: any request.
    #[serde(default)]
    pub on: Option<Kind>,
    /// `None`: whoever is asked about.
    #[serde(default)]
    pub customer: Option<String>,
    /// Lets so many matching requests pass first.
    #[serde(default)]
    pub skip: u64,
    /// How many requests meet it; `None`: all until it is cleared.
    #[serde(default)]
    pub times: Option<u64>,
    #[serde(flatten)]
    pub fault: Fault,
}

impl FaultRule {
    /// All requests of a kind, until cleared.
    pub fn on(kind: Kind, fault: Fault) -> Self {
        Self { on: Some(kind), customer: None, skip: 0, times: None, fault }
    }

    /// All requests about a customer, until cleared.
    pub fn about(customer: impl Into<String>, fault: Fault) -> Self {
        Self { on: None, customer: Some(customer.into()), skip: 0, times: None, fault }
    }

    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    #[must_use]
    pub fn skip(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }
}

/// A rule in force, as the control API lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActiveFault {
    pub id: u64,
    /// Requests that met it.
    pub met: u64,
    #[serde(flatten)]
    pub rule: FaultRule,
}

/// What a request met.
pub(super) struct Met {
    pub(super) fault: Fault,
    /// Opens (its sender goes) when the fault is released or cleared.
    pub(super) gate: Option<watch::Receiver<()>>,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    last: u64,
    anybody: Vec<ActiveFault>,
    /// By id in lower case: a fault for one customer costs the others nothing.
    customers: HashMap<String, Vec<ActiveFault>>,
    gates: HashMap<u64, watch::Sender<()>>,
}

impl Faults {
    pub(super) fn add(&mut self, rule: FaultRule) -> u64 {
        self.last += 1;
        let id = self.last;
        if matches!(rule.fault, Fault::Hold { .. }) {
            self.gates.insert(id, watch::Sender::new(()));
        }
        let list = match &rule.customer {
            Some(customer) => self.customers.entry(customer.to_lowercase()).or_default(),
            None => &mut self.anybody,
        };
        list.push(ActiveFault { id, met: 0, rule });
        id
    }

    /// Ends a fault and lets go of what it holds. False if there is none of that number.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let held = self.gates.remove(&id).is_some();
        let mut found = false;
        for list in self.customers.values_mut().chain([&mut self.anybody]) {
            list.retain(|fault| fault.id != id || std::mem::replace(&mut found, true));
        }
        self.customers.retain(|_, list| !list.is_empty());
        held || found
    }

    pub(super) fn clear(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }

    pub(super) fn list(&self) -> Vec<ActiveFault> {
        let mut all: Vec<_> = self.customers.values().flatten().chain(&self.anybody).cloned().collect();
        all.sort_by_key(|fault| fault.id);
        all
    }

    /// The fault that this request meets, if any; counts it.
    pub(super) fn meet(&mut self, kind: Kind, customer: Option<&str>) -> Option<Met> {
        if !self.customers.is_empty()
            && let Some(key) = customer.map(str::to_lowercase)
            && let Some(list) = self.customers.get_mut(&key)
        {
            let met = first(list, kind, &self.gates);
            if list.is_empty() {
                self.customers.remove(&key);
            }
            if met.is_some() {
                return met;
            }
        }
        first(&mut self.anybody, kind, &self.gates)
    }
}

fn first(list: &mut Vec<ActiveFault>, kind: Kind, gates: &HashMap<u64, watch::Sender<()>>) -> Option<Met> {
    for index in 0..list.len() {
        let ActiveFault { id, met, rule } = &mut list[index];
        if rule.on.is_some_and(|on| on != kind) || rule.times == Some(0) {
            continue;
        }
        if rule.skip > 0 {
            rule.skip -= 1;
            continue;
        }
        *met += 1;
        let gate = gates.get(id).map(watch::Sender::subscribe);
        let fault = rule.fault.clone();
        if let Some(times) = &mut rule.times {
            *times -= 1;
            if *times == 0 {
                // What it holds is still held: the gate stays until it is released.
                list.remove(index);
            }
        }
        return Some(Met { fault, gate });
    }
    None
}
