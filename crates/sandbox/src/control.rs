//! The control API: every control that tests have, for curl.
//!
//! `GET /control` returns the page below, with the sandbox's address in the examples.
//!
//! ```text
#![doc = include_str!("control.txt")]
//! ```

mod asked;
mod credentials;
mod rules;

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::Arc;

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

use super::api::CustomerView;
use super::bulk::Bulk;
use super::engine::Engine;
use super::operation::{Operation, Step, When};
use super::server::Shared;
use super::throttle::Throttle;
use super::world::{CustomerDetails, RawBody, WorldError};
use vetwatch_core::time::Timestamp;

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
        .route("/records", post(add_record))
        .route("/faults", get(shown(|engine, now| json!({"faults": engine.faults.list(now)}))))
        .route("/faults", post(rules::add_fault).delete(done_by(|engine| engine.faults.clear())))
        .route("/faults/{id}", delete(rules::release))
        .route("/quirks", get(shown(|engine, now| json!({"quirks": engine.quirks.list(now)}))))
        .route("/quirks", post(rules::add_quirk).delete(done_by(|engine| engine.quirks.clear())))
        .route("/quirks/{id}", delete(rules::end_quirk))
        .route("/throttle", get(shown(|engine, _| json!({"throttle": engine.throttle.settings()}))))
        .route("/throttle", put(rules::set_throttle).delete(done_by(|engine| engine.throttle = Throttle::default())))
        .route("/tokens", delete(shown(|engine, _| json!({"revoked": engine.entra.revoke()}))))
        .route("/secret", put(credentials::set_secret))
        .route("/secret", delete(done_by(|engine| engine.entra.proofs.secret_expired = true)))
        .route("/certificates", put(credentials::register))
        .route("/certificates", delete(done_by(|engine| engine.entra.proofs.certificates.clear())))
        .route("/federated-token", put(credentials::trust))
        .route("/federated-token", delete(done_by(|engine| engine.entra.proofs.federated = None)))
        .route("/sign-ins", get(shown(|engine, _| json!(engine.entra.users.settings))).put(credentials::set_sign_ins))
        .route("/sign-ins", delete(shown(|engine, _| json!({"revoked": engine.entra.users.revoke()}))))
        .route("/devices", get(shown(|engine, _| json!({"devices": engine.entra.users.devices()}))))
        .route("/devices/{code}/{decision}", post(credentials::decide))
        .route("/requests", get(asked::requests))
        .route("/wait", get(asked::wait))
        .route("/counters", get(shown(asked::counters)))
        .route("/hours", get(asked::hours))
        .route("/violations", get(shown(asked::violations)))
        .fallback(async || {
            Refusal(StatusCode::NOT_FOUND, "there is no such path; GET /control shows those there are".into())
        })
        .method_not_allowed_fallback(async || {
            Refusal(StatusCode::METHOD_NOT_ALLOWED, "not with this method; GET /control shows what can be done".into())
        })
}

/// A handler that needs nothing of the request, and shows the result.
fn shown(work: fn(&mut Engine, Timestamp) -> Value) -> impl Fn(App) -> Ready<Answer> + Clone {
    move |State(shared)| ready(ok(&shared.with(work)))
}

/// A handler that needs nothing of the request, and has nothing to show.
fn done_by(work: fn(&mut Engine)) -> impl Fn(App) -> Ready<Answer> + Clone {
    move |State(shared)| {
        shared.with(|engine, _| work(engine));
        ready(done())
    }
}

/// A rejected command.
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

/// Parses the body as JSON, whatever its content type: people type these commands. An empty body is `{}`.
fn read(body: &[u8]) -> Result<Value, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(json!({}));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(bad("the body is not a JSON object")) }
}

/// Deserializes a command and rejects unknown keys: a typo must not look like success.
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
    let id = shared.with(|engine, now| engine.world.add(details, now))?;
    ok(&json!({"id": id}))
}

/// A verbatim record of the activity log.
async fn add_record(State(shared): App, body: Bytes) -> Answer {
    let record = read(&body)?;
    shared.with(|engine, now| engine.world.audit.raw(record, now));
    done()
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
    // curl's default content type.
    let is_given = !content_type.is_empty() && content_type != "application/x-www-form-urlencoded";
    let content_type = if is_given { content_type } else { super::errors::JSON }.to_owned();
    let raw = RawBody { content_type, bytes: body.to_vec() };
    shared.with(|engine, now| engine.world.set_body(&id, Some(raw), now))?;
    done()
}

async fn clear_raw_body(State(shared): App, Path(id): Path<String>) -> Answer {
    shared.with(|engine, now| engine.world.set_body(&id, None, now))?;
    done()
}

fn number(query: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>, Refusal> {
    let read = |text: &String| text.parse().map_err(|_| bad(format!("{name}={text} is not a number")));
    query.get(name).map(read).transpose()
}
