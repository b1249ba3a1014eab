//! What monitors ask: `/metrics`, `/healthz` and `/readyz`. They read the database at most once a second, over a connection
//! of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Json, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use prometheus::TextEncoder;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Site;
use super::access::Admitted;
use super::gauges::{self, Standing};
use super::readers::Readers;
use crate::attention::Reason;
use crate::metrics::Metrics;
use crate::overview::Seen;
use crate::store::Store;
use crate::worker_loop;

/// How old what was read may be.
const READ_FOR: Duration = Duration::from_secs(1);
/// A scrape waits no longer for the database.
const WITHIN: Duration = Duration::from_secs(3);
/// Reasons why a verdict might be missed or not told just now.
const NOT_READY: [Reason; 7] = [
    Reason::DatabaseHeld,
    Reason::CannotWrite,
    Reason::DatabaseDamaged,
    Reason::OutOfDescriptors,
    Reason::PartnerFailing,
    Reason::PollingLate,
    Reason::DeliveryLate,
];
const UNREADABLE: &str = "the database cannot be read; the log of vetwatch says why";

pub(super) struct Probes {
    store: Store,
    metrics: Arc<Metrics>,
    readers: Readers,
    /// What was last read, and when; `None` if it could not be.
    last: Mutex<Option<(Instant, Option<Arc<Standing>>)>>,
}

impl Probes {
    pub(super) fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        let readers = Readers::new(store.path().to_owned());
        Self { store, metrics, readers, last: Mutex::default() }
    }

    /// The daemon's own.
    pub(super) const fn store(&self) -> &Store {
        &self.store
    }
}

/// How everything stands; `None` if the database cannot be read.
async fn standing(site: &Site) -> Option<Arc<Standing>> {
    let mut last = site.probes.last.lock().await;
    if let Some((_, standing)) = last.as_ref().filter(|(at, _)| at.elapsed() < READ_FOR) {
        return standing.clone();
    }
    let (outline, now) = (site.in_force.borrow().config.outline(), site.now());
    let seen = Seen::by_daemon(&site.probes.store);
    let reading = site.probes.readers.read(async |store| Standing::read(&outline, store, seen, now).await);
    let standing = timeout(WITHIN, reading).await.ok().and_then(Result::ok).map(Arc::new);
    *last = Some((Instant::now(), standing.clone()));
    standing
}

pub(super) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let standing = standing(&site).await;
    let mut families = gauges::families(standing.as_deref(), &site.probes.store);
    families.extend(site.probes.metrics.gather());
    match TextEncoder::new().encode_to_string(&families) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether the process works: the rule of the watchdog.
pub(super) async fn healthz(State(site): State<Arc<Site>>, Extension(admitted): Extension<Admitted>) -> Response {
    let progress = site.in_force.borrow().progress.clone();
    let waits_for_database = site.probes.store.waiting_since().is_some();
    let hung = worker_loop::hung(&progress, waits_for_database);
    let reasons = hung.map(|hung| format!("{} has not come round for {} s", hung.name, hung.age().as_secs()));
    answer(admitted, &reasons.into_iter().collect::<Vec<_>>())
}

/// Whether it sees and tells: answers arrive, and what is due is done.
pub(super) async fn readyz(State(site): State<Arc<Site>>, Extension(admitted): Extension<Admitted>) -> Response {
    let reasons = match standing(&site).await {
        Some(standing) => {
            let unready = standing.health.reasons.iter().filter(|need| NOT_READY.contains(&need.reason));
            unready.map(|need| need.text.clone()).collect()
        }
        None => vec![UNREADABLE.to_owned()],
    };
    answer(admitted, &reasons)
}

fn answer(admitted: Admitted, reasons: &[String]) -> Response {
    let (code, status) =
        if reasons.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "failing") };
    let body = match admitted {
        Admitted::Everything => json!({ "status": status, "reasons": reasons }),
        Admitted::OneWord => json!({ "status": status }),
    };
    (code, Json(body)).into_response()
}
