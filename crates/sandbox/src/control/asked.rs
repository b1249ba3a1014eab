//! The request log, and waiting for requests.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Query, State};
use serde_json::{Value, json};

use super::super::duration_serde;
use super::super::engine::Engine;
use super::super::log::{Kind, Record, RequestLog};
use super::{Answer, App, Parameters, Refusal, bad, number, ok, unreadable};
use vetwatch_core::time::Timestamp;

/// Maximum duration of a long poll.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// Filter for requests.
struct Filter {
    kind: Option<Kind>,
    customer: Option<String>,
}

impl Filter {
    fn of(query: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let read = |kind: &String| serde_json::from_value(json!(kind)).map_err(unreadable);
        Ok(Self { kind: query.get("kind").map(read).transpose()?, customer: query.get("customer").cloned() })
    }

    fn matches(&self, record: &Record) -> bool {
        self.kind.is_none_or(|kind| kind == record.kind)
            && self.customer.as_ref().is_none_or(|customer| record.is_about(customer))
    }
}

fn duration(query: &BTreeMap<String, String>) -> Result<Duration, Refusal> {
    let wait = query.get("wait").map(|text| duration_serde::parse(text).map_err(bad)).transpose()?;
    Ok(wait.unwrap_or_default().min(LONGEST_WAIT))
}

pub(super) async fn requests(State(shared): App, Query(query): Parameters) -> Answer {
    let (filter, after) = (Filter::of(&query)?, number(&query, "after")?.unwrap_or(0));
    let limit = usize::try_from(number(&query, "limit")?.unwrap_or(1000)).unwrap_or(usize::MAX);
    // Each evaluation looks only at newer requests.
    let mut seen = after;
    let look = |engine: &mut Engine| {
        let log = &engine.log;
        let found: Vec<_> = log.after(seen).filter(|r| filter.matches(r)).take(limit).cloned().collect();
        seen = log.last();
        (!found.is_empty()).then_some(found)
    };
    let found = shared.wait_for(duration(&query)?, look).await.unwrap_or_default();
    let last = found.last().map_or(after, |record| record.seq);
    ok(&json!({"last": last, "requests": found}))
}

pub(super) async fn wait(State(shared): App, Query(query): Parameters) -> Answer {
    let (filter, nth) = (Filter::of(&query)?, number(&query, "nth")?.unwrap_or(1));
    let count = |log: &RequestLog| log.count(filter.kind, filter.customer.as_deref());
    let reached = shared.wait_for(duration(&query)?, |engine| (count(&engine.log) >= nth).then_some(())).await;
    ok(&json!({"reached": reached.is_some(), "count": shared.with(|engine, _| count(&engine.log))}))
}

pub(super) fn counters(engine: &mut Engine, _: Timestamp) -> Value {
    json!({"requests": engine.log.last(), "kinds": engine.log.counts()})
}

pub(super) fn violations(engine: &mut Engine, _: Timestamp) -> Value {
    let kept: Vec<_> = engine.log.violations().collect();
    json!({"violations": kept, "count": engine.log.violated()})
}

pub(super) async fn hours(State(shared): App, Query(query): Parameters) -> Answer {
    let limit = usize::try_from(number(&query, "limit")?.unwrap_or(168)).unwrap_or(usize::MAX);
    let mut hours: Vec<_> = shared.with(|engine, _| engine.log.hours().rev().take(limit).collect());
    hours.reverse();
    ok(&json!({"hours": hours}))
}
