//! Adds, lists and removes faults and quirks.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::fault::FaultRule;
use super::super::quirk::QuirkRule;
use super::super::rule::Rule;
use super::super::throttle::{Throttle, ThrottleSettings};
use super::{Answer, App, Refusal, bad, done, ok, read, strictly};

fn rule<T: DeserializeOwned + Serialize>(body: &[u8]) -> Result<Rule<T>, Refusal> {
    let command = read(body)?;
    for name in ["share", "of_customers", "misses", "twice"] {
        if command[name].as_f64().is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Err(bad(format!("{name} is a number from 0 to 1")));
        }
    }
    strictly(&command)
}

fn removed(what: &str, id: &str, remove: impl FnOnce(u64) -> bool) -> Answer {
    let number = id.parse().map_err(|_| bad(format!("{id:?} is not the number of a {what}")))?;
    if remove(number) {
        return done();
    }
    Err(Refusal(StatusCode::NOT_FOUND, format!("there is no {what} {number}")))
}

pub(super) async fn add_fault(State(shared): App, body: Bytes) -> Answer {
    let rule: FaultRule = rule(&body)?;
    ok(&json!({"id": shared.with(|engine, now| engine.faults.add(rule, now))}))
}

pub(super) async fn release(State(shared): App, Path(id): Path<String>) -> Answer {
    removed("fault", &id, |number| shared.with(|engine, _| engine.faults.remove(number)))
}

pub(super) async fn add_quirk(State(shared): App, body: Bytes) -> Answer {
    let rule: QuirkRule = rule(&body)?;
    ok(&json!({"id": shared.with(|engine, now| engine.quirks.add(rule, now))}))
}

pub(super) async fn end_quirk(State(shared): App, Path(id): Path<String>) -> Answer {
    removed("quirk", &id, |number| shared.with(|engine, _| engine.quirks.remove(number)))
}

pub(super) async fn set_throttle(State(shared): App, body: Bytes) -> Answer {
    let settings: ThrottleSettings = strictly(&read(&body)?)?;
    shared.with(|engine, _| engine.throttle = Throttle::of(Some(settings)));
    done()
}
