//! The control API: whatever a test can do to the sandbox, a person can do with curl.
//!
//! `GET /control` answers the page below, with the sandbox's own address in the examples.
//!
//! ```text
#![doc = include_str!("control.txt")]
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::bulk::Bulk;
use super::fault::FaultRule;
use super::handle::CustomerView;
use super::log::{Kind, Record};
use super::server::Shared;
use super::text;
use super::throttle::{Throttle, ThrottleSettings};
use super::world::{CustomerDetails, Operation, RawBody, Step, When, WorldError};

/// A long poll ends after this at the latest.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

type App = State<Arc<Shared>>;
type Answer = Result<Response, Refusal>;
type Parameters = Query<BTreeMap<String, String>>;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(help))
        .route("/customers", get(customers).post(add_customers))
        .route("/customers/{id}", get(customer).delete(remove_customer))
        .route("/customers/{id}/timeline", put(timeline).delete(clear_timeline))
        .route("/customers/{id}/raw", put(raw_body).delete(clear_raw_body))
        .route("/customers/{id}/{operation}", post(operate))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/faults/{id}", delete(release))
        .route("/throttle", get(show_throttle).put(set_throttle).delete(clear_throttle))
        .route("/tokens", delete(revoke_tokens))
        .route("/secret", put(set_secret).delete(expire_secret))
        .route("/requests", get(requests))
        .route("/wait", get(wait))
        .route("/counters", get(counters))
        .route("/violations", get(violations))
        .fallback(async || {
            Refusal(StatusCode::NOT_FOUND, "there is no such path; GET /control shows those there are".into())
        })
        .method_not_allowed_fallback(async || {
            Refusal(StatusCode::METHOD_NOT_ALLOWED, "not with this method; GET /control shows what can be done".into())
        })
}

/// What was wrong with a command.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, axum::Json(json!({"error": self.1}))).into_response()
    }
}

impl From<WorldError> for Refusal {
    fn from(error: WorldError) -> Self {
        let status = match error {
            WorldError::Unknown(_) => StatusCode::NOT_FOUND,
            WorldError::Exists(_) => StatusCode::CONFLICT,
            WorldError::NotAnEntry(_) => StatusCode::BAD_REQUEST,
        };
        Self(status, error.to_string())
    }
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, text.into())
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unreadable(error: serde_json::Error) -> Refusal {
    bad(error.to_string())
}

fn ok(value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec_pretty(value).map_err(unreadable)?;
    Ok(([(CONTENT_TYPE, "application/json")], [body, b"\n".to_vec()].concat()).into_response())
}

fn done() -> Answer {
    ok(&json!({"done": true}))
}

/// The body as JSON, whatever its content type says: people type these commands. No body is `{}`.
fn read(body: &[u8]) -> Result<Value, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(json!({}));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(bad("the body is not a JSON object")) }
}

/// Reads a command, and refuses keys that it would have ignored: a typo must not look like success.
fn strictly<T: DeserializeOwned + Serialize>(value: &Value) -> Result<T, Refusal> {
    let command: T = T::deserialize(value).map_err(unreadable)?;
    let known = serde_json::to_value(&command).map_err(unreadable)?;
    let given = value.as_object().into_iter().flatten().map(|(name, _)| name);
    match given.into_iter().find(|name| known.get(name.as_str()).is_none()) {
        Some(name) => Err(bad(format!("unknown key {name:?}"))),
        None => Ok(command),
    }
}

async fn help(headers: HeaderMap) -> Response {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    let text = include_str!("control.txt").replace("ADDRESS", host);
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

async fn customers(State(shared): App, Query(query): Parameters) -> Answer {
    let limit = number(&query, "limit")?.unwrap_or(100);
    let after = query.get("after").map(|id| id.to_lowercase());
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (total, page) = shared.with(|engine, _| {
        let page: Vec<_> = engine.world.listed(after.as_deref()).take(limit).map(CustomerView::of).collect();
        (engine.world.len(), page)
    });
    ok(&json!({"total": total, "customers": page}))
}

async fn add_customers(State(shared): App, body: Bytes) -> Answer {
    let command = read(&body)?;
    if command.get("count").is_some() {
        let bulk: Bulk = strictly(&command)?;
        let ids = shared.with(|engine, now| engine.world.add_bulk(bulk, now));
        return ok(&json!({"added": ids.len(), "first": ids.first(), "last": ids.last()}));
    }
    let details: CustomerDetails = strictly(&command)?;
    let id = shared.with(|engine, _| engine.world.add(details))?;
    ok(&json!({"id": id}))
}

async fn customer(State(shared): App, Path(id): Path<String>) -> Answer {
    match shared.with(|engine, _| engine.world.get(&id).map(CustomerView::of)) {
        Some(customer) => ok(&customer),
        None => Err(WorldError::Unknown(id).into()),
    }
}

async fn remove_customer(State(shared): App, Path(id): Path<String>) -> Answer {
    shared.with(|engine, now| engine.world.apply(&id, Operation::Remove, now))?;
    done()
}

async fn operate(State(shared): App, Path((id, operation)): Path<(String, String)>, body: Bytes) -> Answer {
    let mut command = read(&body)?;
    command["do"] = operation.replace('-', "_").into();
    let operation: Operation = strictly(&command)?;
    shared.with(|engine, now| engine.world.apply(&id, operation, now))?;
    done()
}

async fn timeline(State(shared): App, Path(id): Path<String>, body: Bytes) -> Answer {
    let mut command = read(&body)?;
    let Some(Value::Array(steps)) = command.get_mut("steps").map(Value::take) else {
        return Err(bad(r#"a timeline is {"steps": [{"after": "5s", "do": "approve"}, …]}"#));
    };
    let read = |(index, value)| step(value).map_err(|refusal| bad(format!("step {}: {}", index + 1, refusal.1)));
    let steps = steps.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    shared.with(|engine, now| engine.world.timeline(&id, steps, now))?;
    done()
}

fn step(mut value: Value) -> Result<Step, Refusal> {
    let fields = value.as_object_mut().ok_or_else(|| bad("a step is a JSON object"))?;
    let when = match (fields.remove("after"), fields.remove("at")) {
        (Some(after), None) => json!({"after": after}),
        (None, Some(at)) => json!({"at": at}),
        _ => return Err(bad("a step has either \"after\" or \"at\"")),
    };
    let when: When = serde_json::from_value(when).map_err(unreadable)?;
    Ok(Step { when, operation: strictly(&value)? })
}

async fn clear_timeline(State(shared): App, Path(id): Path<String>) -> Answer {
    shared.with(|engine, now| engine.world.timeline(&id, Vec::new(), now))?;
    done()
}

async fn raw_body(State(shared): App, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // What curl says when it was told nothing.
    let told = !content_type.is_empty() && content_type != "application/x-www-form-urlencoded";
    let content_type = if told { content_type } else { super::errors::JSON }.to_owned();
    let raw = RawBody { content_type, bytes: body.to_vec() };
    shared.with(|engine, _| engine.world.set_body(&id, Some(raw)))?;
    done()
}

async fn clear_raw_body(State(shared): App, Path(id): Path<String>) -> Answer {
    shared.with(|engine, _| engine.world.set_body(&id, None))?;
    done()
}

async fn faults(State(shared): App) -> Answer {
    ok(&json!({"faults": shared.with(|engine, _| engine.faults.list())}))
}

async fn add_fault(State(shared): App, body: Bytes) -> Answer {
    let rule: FaultRule = strictly(&read(&body)?)?;
    ok(&json!({"id": shared.with(|engine, _| engine.faults.add(rule))}))
}

async fn clear_faults(State(shared): App) -> Answer {
    shared.with(|engine, _| engine.faults.clear());
    done()
}

async fn release(State(shared): App, Path(id): Path<String>) -> Answer {
    let number = id.parse().map_err(|_| bad(format!("{id:?} is not the number of a fault")))?;
    if shared.with(|engine, _| engine.faults.remove(number)) {
        return done();
    }
    Err(Refusal(StatusCode::NOT_FOUND, format!("there is no fault {number}")))
}

async fn show_throttle(State(shared): App) -> Answer {
    ok(&json!({"throttle": shared.with(|engine, _| engine.throttle.settings())}))
}

async fn set_throttle(State(shared): App, body: Bytes) -> Answer {
    let settings: ThrottleSettings = strictly(&read(&body)?)?;
    shared.with(|engine, _| engine.throttle = Throttle::of(Some(settings)));
    done()
}

async fn clear_throttle(State(shared): App) -> Answer {
    shared.with(|engine, _| engine.throttle = Throttle::default());
    done()
}

async fn revoke_tokens(State(shared): App) -> Answer {
    ok(&json!({"revoked": shared.with(|engine, _| engine.entra.revoke())}))
}

async fn set_secret(State(shared): App, body: Bytes) -> Answer {
    let command = read(&body)?;
    let Some(secret) = command.get("client_secret").and_then(Value::as_str) else {
        return Err(bad(r#"a secret is {"client_secret": "…"}"#));
    };
    shared.with(|engine, _| engine.entra.set_secret(secret.to_owned()));
    done()
}

async fn expire_secret(State(shared): App) -> Answer {
    shared.with(|engine, _| engine.entra.expire_secret());
    done()
}

/// What requests somebody is interested in.
struct Filter {
    kind: Option<Kind>,
    customer: Option<String>,
}

impl Filter {
    fn of(query: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let read = |kind: &String| serde_json::from_value(json!(kind)).map_err(unreadable);
        Ok(Self { kind: query.get("kind").map(read).transpose()?, customer: query.get("customer").cloned() })
    }

    fn takes(&self, record: &Record) -> bool {
        self.kind.is_none_or(|kind| kind == record.kind)
            && self.customer.as_ref().is_none_or(|wanted| {
                record.customer.as_deref().is_some_and(|customer| customer.eq_ignore_ascii_case(wanted))
            })
    }
}

fn number(query: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>, Refusal> {
    let read = |text: &String| text.parse().map_err(|_| bad(format!("{name}={text} is not a number")));
    query.get(name).map(read).transpose()
}

fn duration(query: &BTreeMap<String, String>) -> Result<Duration, Refusal> {
    let wait = query.get("wait").map(|text| text::parse(text).map_err(bad)).transpose()?;
    Ok(wait.unwrap_or_default().min(LONGEST_WAIT))
}

async fn requests(State(shared): App, Query(query): Parameters) -> Answer {
    let (filter, after) = (Filter::of(&query)?, number(&query, "after")?.unwrap_or(0));
    let limit = usize::try_from(number(&query, "limit")?.unwrap_or(1000)).unwrap_or(usize::MAX);
    // Only newer requests are looked at when asked again.
    let mut seen = after;
    let look = |engine: &mut super::engine::Engine| {
        let log = &engine.log;
        let found: Vec<_> = log.after(seen).filter(|r| filter.takes(r)).take(limit).cloned().collect();
        seen = log.last();
        (!found.is_empty()).then_some(found)
    };
    let found = shared.wait_for(duration(&query)?, look).await.unwrap_or_default();
    let last = found.last().map_or(after, |record| record.seq);
    ok(&json!({"last": last, "requests": found}))
}

async fn wait(State(shared): App, Query(query): Parameters) -> Answer {
    let (filter, nth) = (Filter::of(&query)?, number(&query, "nth")?.unwrap_or(1));
    let count = |log: &super::log::RequestLog| match (&filter.customer, filter.kind) {
        (Some(customer), _) => log.count_of(customer),
        (None, Some(kind)) => log.count(kind),
        (None, None) => log.last(),
    };
    let reached = shared.wait_for(duration(&query)?, |engine| (count(&engine.log) >= nth).then_some(())).await;
    ok(&json!({"reached": reached.is_some(), "count": shared.with(|engine, _| count(&engine.log))}))
}

async fn counters(State(shared): App) -> Answer {
    ok(&shared.with(|engine, _| json!({"requests": engine.log.last(), "kinds": engine.log.counts()})))
}

async fn violations(State(shared): App) -> Answer {
    ok(&shared.with(|engine, _| {
        let kept: Vec<_> = engine.log.violations().collect();
        json!({"violations": kept, "count": engine.log.violated()})
    }))
}
