//! The pages. Each is read in one transaction, shows at most a hundred rows, and links to the next ones.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::error;
use vetwatch_core::text;

use super::readers::Unread;
use super::render::{STYLE, render};
use super::{Site, cursor};
use crate::event::EventType;
use crate::forecast::Forecasts;
use crate::overview::InReview;
use crate::store::reports::{
    CurrentRow, CustomerKey, CustomerRow, DeliveryFilter, DeliveryRow, DeliveryTrace, HistoryRow, Step,
    TransitionEvidence,
};
use crate::store::{self, CustomerId, Store};
use crate::time::Timestamp;

/// Rows of a list.
pub(crate) const ROWS: usize = 100;
/// Steps of a customer's history.
const STEPS: usize = 25;
/// Verdicts that a report counts, at most.
pub(crate) const REPORTED: usize = 10_000;
/// The longest search.
const SEARCH_MAX_CHARS: usize = 100;
/// Every page that the frame links to.
const ALL: [&str; 5] = ["decided", "report", "customers", "deliveries", "health"];

type Page = Result<Response, Unread>;

/// What an address says behind the `?`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    q: Option<String>,
    after: Option<String>,
    state: Option<String>,
    refresh: Option<String>,
}

impl Asked {
    /// Without `refresh`, as it stands behind the `?`.
    fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in [("q", &self.q), ("state", &self.state), ("after", &self.after)] {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        query.finish()
    }

    /// The same, of the next page.
    fn next(&self, key: Option<&impl Serialize>) -> Option<String> {
        let after = Some(cursor::encode(key?));
        let Self { q, state, .. } = self;
        Some(Self { after, q: q.clone(), state: state.clone(), refresh: None }.query())
    }

    fn after<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        cursor::decode(self.after.as_deref()?)
    }
}

/// At most `most` rows, and the key of the last one if there are more.
fn cut<T, K>(mut rows: Vec<T>, most: usize, key: impl Fn(&T) -> K) -> (Vec<T>, Option<K>) {
    let more = rows.len() > most;
    rows.truncate(most);
    let next = rows.last().filter(|_| more).map(key);
    (rows, next)
}

/// One more than are shown, to know whether there are more.
fn one_more(most: usize) -> u32 {
    u32::try_from(most + 1).unwrap_or(u32::MAX)
}

/// Renders a page with its frame. `depth` is how many folders it is below the first page.
async fn show(site: &Site, name: &str, page: &str, title: &str, depth: usize, asked: &Asked, values: Value) -> Page {
    let health = site.health().await?;
    let frame = json!({
        "title": text::line(title, 120), "style": null, "page": page, "pages": ALL, "root": "../".repeat(depth), "is_file": false,
        "feeds": site.is_open(), "refreshes": true, "query": asked.query(),
        "refresh": asked.refresh.as_deref().filter(|refresh| *refresh == "60"),
        "sentence": health.sentence(), "well": health.reasons.is_empty(),
        "now": site.now(), "zone": site.zone().name(),
    });
    match render(name, &[values, frame]) {
        Ok(html) => Ok(Html(html).into_response()),
        Err(why) => Ok(unrendered(&why)),
    }
}

pub(super) fn unrendered(why: &str) -> Response {
    error!("a page cannot be rendered: {why}");
    (StatusCode::INTERNAL_SERVER_ERROR, "This page cannot be shown; the log of vetwatch says why.\n").into_response()
}

pub(super) async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

pub(super) async fn index(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Page {
    let (after, calendar, now) = (asked.after(), site.calendar(), site.now());
    let ((rows, next), pending) = site
        .readers
        .read(async |store| {
            let forecasts = Forecasts::read(store, &calendar, now).await?;
            let (rows, next) = cut(store.reviews(after, None, one_more(ROWS)).await?, ROWS, |row| row.key);
            let rows: Vec<_> =
                rows.into_iter().map(|it| InReview { expected: forecasts.of_row(&it.row), row: it.row }).collect();
            Ok(((rows, next), store.pending_verdicts(None).await?))
        })
        .await?;
    let values = json!({ "rows": rows, "pending": pending, "next": asked.next(next.as_ref()) });
    show(&site, "index.html", "index", "In review", 0, &asked, values).await
}

pub(super) async fn decided(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Page {
    let before = asked.after();
    let rows = site.readers.read(async |store| store.verdicts(before, one_more(ROWS)).await).await?;
    let (rows, next) = cut(rows, ROWS, |row| row.key);
    let values = json!({ "rows": rows, "next": asked.next(next.as_ref()) });
    show(&site, "decided.html", "decided", "Decided", 0, &asked, values).await
}

pub(super) async fn report(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Page {
    let report = site.report().await?;
    let values = json!({ "report": &*report, "links": true });
    show(&site, "report.html", "report", "Report", 0, &asked, values).await
}

pub(super) async fn customers(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Page {
    let q: String = asked.q.as_deref().unwrap_or_default().trim().chars().take(SEARCH_MAX_CHARS).collect();
    let after: Option<(String, String, String)> = asked.after();
    let is_behind = after.is_some();
    let after = after.map(|(partner, name, id)| CustomerKey { partner, name, id }).unwrap_or_default();
    let words = spellings(&q);
    let read = site.readers.read(async |store| {
        let rows = store.customers_behind(&after, &words, one_more(ROWS)).await?;
        let (rows, next) = cut(rows, ROWS, |(key, _)| (key.partner.clone(), key.name.clone(), key.id.clone()));
        let ids: Vec<_> = rows.iter().map(|(_, row)| row.row).collect();
        Ok((rows, next, store.current(Some(&ids)).await?))
    });
    let (rows, next, held) = read.await?;
    let rows = rows.into_iter().map(|(_, row)| {
        let its = |it: &&CurrentRow| it.partner == row.partner && it.customer_id == row.customer_id;
        Listed { holds: held.iter().filter(its).cloned().collect(), row }
    });
    let rows: Vec<_> = rows.collect();
    let values = json!({
        "rows": rows, "q": q, "is_behind": is_behind, "searches": true, "next": asked.next(next.as_ref()),
    });
    show(&site, "customers.html", "customers", "Customers", 0, &asked, values).await
}

/// A customer with its qualifications.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    row: CustomerRow,
    holds: Vec<CurrentRow>,
}

/// SQLite's `lower` knows the letters of English only: every spelling that it may leave.
fn spellings(q: &str) -> Vec<String> {
    if q.is_empty() {
        return Vec::new();
    }
    let mut first = q.chars();
    let title: String = first.next().map(|c| c.to_uppercase().chain(first).collect()).unwrap_or_default();
    let mut found: Vec<_> =
        [q, &q.to_lowercase(), &q.to_uppercase(), &title].map(str::to_ascii_lowercase).into_iter().collect();
    found.sort();
    found.dedup();
    found
}

pub(super) async fn customer(
    State(site): State<Arc<Site>>,
    Path((partner, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Page {
    let before = asked.after().map(|(at, row)| Step { at, row });
    let (calendar, now) = (site.calendar(), site.now());
    let read = site.readers.read(async |store| {
        let rows = store.rows_of(&partner, &id).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let forecasts = Forecasts::read(store, &calendar, now).await?;
        OneCustomer::read(store, &forecasts, &rows, before, STEPS).await.map(Some)
    });
    let Some(one) = read.await? else {
        return missing(&site, 2, "No customer of this partner has this id.").await;
    };
    let (name, next) = (one.name.clone(), asked.next(one.next.as_ref()));
    show(&site, "customer.html", "customers", &name, 2, &asked, one.values(next, false)).await
}

/// What is known of a customer.
#[derive(Debug)]
pub(crate) struct OneCustomer {
    pub(crate) name: String,
    values: Value,
    next: Option<(i64, i64)>,
}

impl OneCustomer {
    /// Reads the rows of a customer, and at most `most` steps of its history behind `before`.
    pub(crate) async fn read(
        store: &Store,
        forecasts: &Forecasts,
        rows: &[CustomerId],
        before: Option<Step>,
        most: usize,
    ) -> Result<Self, store::Error> {
        let customer = store.customers(rows).await?.pop();
        let held = store.current(Some(rows)).await?.into_iter();
        let qualifications: Vec<_> = held.map(|row| InReview { expected: forecasts.of_row(&row), row }).collect();
        let pending = store.pending_verdicts(Some(rows)).await?;
        let (found, next) =
            cut(store.steps(rows, before, one_more(most)).await?, most, |row| (row.step.at, row.step.row));
        let mut steps = Vec::new();
        for row in found {
            steps.extend(history_step(store, row).await?);
        }
        let known = steps.iter().find_map(|step| step.transition.as_ref());
        let (name, id) = match (&customer, known) {
            (Some(customer), _) => (customer.name.clone(), customer.customer_id.clone()),
            (None, Some(seen)) => (seen.customer_name.clone(), seen.customer_id.clone()),
            (None, None) => (String::new(), "A customer that was removed".to_owned()),
        };
        let name = if text::line(&name, 120).is_empty() { id } else { name };
        let values = json!({
            "name": name, "customer": customer, "qualifications": qualifications, "pending": pending, "steps": steps,
        });
        Ok(Self { name, values, next })
    }

    /// For the template. With `is_alone` it is shown to the customer or a reseller: what changed, but not who was told of it,
    /// and no verdict that is not confirmed.
    pub(crate) fn values(mut self, next: Option<String>, is_alone: bool) -> Value {
        if is_alone {
            self.values["pending"] = json!([]);
            let steps = self.values["steps"].as_array_mut().into_iter().flatten();
            let changes = steps.filter(|step| !step["transition"].is_null()).map(|step| {
                let seen = &step["transition"];
                let shown = ["qualification", "from_status", "to_status", "vetting_reason", "attempt", "first_seen"];
                let shown: serde_json::Map<_, _> =
                    shown.into_iter().map(|key| (key.to_owned(), seen[key].clone())).collect();
                json!({
                    "at": step["at"], "last_seen_before_at": step["last_seen_before_at"], "transition": shown,
                    "event_id": null, "words": "", "muted": false, "deliveries": [],
                })
            });
            self.values["steps"] = changes.collect();
        }
        self.values["next"] = next.into();
        self.values["is_alone"] = is_alone.into();
        self.values
    }
}

/// A step of the history, as the template shows it.
#[derive(Debug, Serialize)]
struct ShownStep {
    at: Timestamp,
    event_id: Option<String>,
    words: &'static str,
    muted: bool,
    last_seen_before_at: Option<Timestamp>,
    transition: Option<TransitionEvidence>,
    deliveries: Vec<DeliveryTrace>,
}

async fn history_step(store: &Store, row: HistoryRow) -> Result<Option<ShownStep>, store::Error> {
    let at = Timestamp::from_millis(row.step.at);
    let empty = ShownStep {
        at,
        event_id: None,
        words: "",
        muted: false,
        last_seen_before_at: None,
        transition: None,
        deliveries: Vec::new(),
    };
    let Some(event) = row.event_id else {
        let Some(transition) = row.transition else { return Ok(None) };
        let transition = store.transition_evidence(transition).await?;
        return Ok(Some(ShownStep {
            last_seen_before_at: transition.last_seen_before_at,
            transition: Some(transition),
            ..empty
        }));
    };
    let Some(proof) = store.proof(&event).await? else { return Ok(None) };
    let words = match EventType::parse(&proof.event.event_type) {
        Some(EventType::Overdue) => "Still in review: a reminder",
        Some(EventType::UnknownStatus) => "A status that vetwatch does not know",
        _ => "Something was told",
    };
    Ok(Some(ShownStep {
        event_id: Some(event),
        words,
        muted: proof.muted,
        last_seen_before_at: proof.transition.as_ref().and_then(|seen| seen.last_seen_before_at),
        transition: proof.transition,
        deliveries: proof.deliveries,
        ..empty
    }))
}

/// Messages of one kind.
#[derive(Debug, Serialize)]
struct Section {
    title: &'static str,
    /// The heading of the column with the time `key`.
    time: &'static str,
    key: &'static str,
    rows: Vec<DeliveryRow>,
    /// The query of the next page.
    next: Option<String>,
    /// The command that shows the rest.
    more: Option<&'static str>,
    help: Option<&'static str>,
}

pub(super) async fn deliveries(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Page {
    let filter =
        |state| DeliveryFilter { state: Some(state), limit: Some(one_more(ROWS)), ..DeliveryFilter::default() };
    if asked.state.as_deref() == Some("delivered") {
        let before = asked.after::<i64>();
        let rows =
            site.readers.read(async |store| store.deliveries(DeliveryFilter { before, ..filter("delivered") }).await);
        let (rows, next) = cut(rows.await?, ROWS, |row| row.sequence);
        let next = asked.next(next.as_ref());
        let section =
            Section { title: "Accepted", time: "Accepted", key: "finished_at", rows, next, more: None, help: None };
        let values = json!({ "state": "delivered", "sections": [section] });
        return show(&site, "deliveries.html", "deliveries", "Messages", 0, &asked, values).await;
    }
    let read = site.readers.read(async |store| {
        let dead = DeliveryFilter { unhandled: true, ..filter("dead") };
        Ok((store.deliveries(filter("pending")).await?, store.deliveries(dead).await?))
    });
    let (pending, dead) = read.await?;
    let ((pending, more_pending), (dead, more_dead)) =
        (cut(pending, ROWS, |row| row.sequence), cut(dead, ROWS, |row| row.sequence));
    let sections = [
        Section {
            title: "Waiting",
            time: "Next attempt",
            key: "next_attempt_at",
            rows: pending,
            next: None,
            more: more_pending.map(|_| "vetwatch deliveries list --state pending"),
            help: None,
        },
        Section {
            title: "Given up",
            time: "Given up",
            key: "finished_at",
            rows: dead,
            next: None,
            more: more_dead.map(|_| "vetwatch deliveries list --state dead"),
            help: Some("Mend the cause, then `vetwatch deliveries redrive ID`; or `vetwatch deliveries discard ID`."),
        },
    ];
    show(&site, "deliveries.html", "deliveries", "Messages", 0, &asked, json!({ "state": "", "sections": sections }))
        .await
}

/// An event that a message tells of.
#[derive(Debug, Serialize)]
struct Told {
    event_id: String,
    event_type: String,
    occurred_at: Timestamp,
    summary: Option<String>,
    link: Option<Link>,
}

#[derive(Debug, Serialize)]
struct Link {
    partner: String,
    customer_id: String,
    name: String,
}

pub(super) async fn delivery(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Page {
    let Some(delivery) = site.readers.read(async |store| store.delivery(&id).await).await? else {
        return missing(&site, 1, "There is no such message.").await;
    };
    let told: Vec<Told> = delivery.events_told.iter().take(ROWS).map(told).collect();
    let replies: Vec<(String, String)> = delivery
        .final_replies
        .as_object()
        .into_iter()
        .flatten()
        .map(|(address, reply)| (address.clone(), reply.as_str().map_or_else(|| reply.to_string(), str::to_owned)))
        .collect();
    let title = delivery.delivery.about.clone().unwrap_or_else(|| id.clone());
    let mut shown = serde_json::to_value(&delivery).unwrap_or_default();
    shown["events_told"] = serde_json::to_value(&told).unwrap_or_default();
    let values = json!({ "delivery": shown, "replies": replies });
    show(&site, "delivery.html", "deliveries", &title, 1, &asked, values).await
}

fn told(event: &store::reports::EventRow) -> Told {
    let field = |pointer: &str| event.data.pointer(pointer).and_then(|value| value.as_str()).map(str::to_owned);
    let link = field("/customer/id").zip(field("/partner")).map(|(id, partner)| {
        let name = field("/customer/name").filter(|name| !text::line(name, 120).is_empty());
        Link { partner, name: name.unwrap_or_else(|| id.clone()), customer_id: id }
    });
    Told {
        event_id: event.event_id.clone(),
        event_type: event.event_type.clone(),
        occurred_at: event.occurred_at,
        summary: field("/summary"),
        link,
    }
}

pub(super) async fn health(State(site): State<Arc<Site>>, Query(asked): Query<Asked>) -> Page {
    let health = site.health().await?;
    let values = json!({ "health": *health, "version": env!("CARGO_PKG_VERSION") });
    show(&site, "health.html", "health", "Health", 0, &asked, values).await
}

pub(super) async fn no_page(State(site): State<Arc<Site>>, uri: axum::http::Uri) -> Page {
    let depth = uri.path().trim_start_matches('/').matches('/').count();
    missing(&site, depth, "There is no such page.").await
}

async fn missing(site: &Site, depth: usize, words: &str) -> Page {
    let values = json!({ "words": words });
    let mut response = show(site, "missing.html", "", "Not found", depth, &Asked::default(), values).await?;
    if response.status().is_success() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
