//! The page of `[web]`: what is in review, what was decided and what needs a person, to read in a browser; feeds, probes and
//! metrics.
//!
//! It only reads, over connections of its own, so that no reader disturbs polling and delivery. [`access`] decides who may
//! read.

pub mod access;
mod cursor;
pub mod feeds;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "a panic is what a fuzz target finds")]
pub(crate) mod fuzzing;
mod gauges;
mod pages;
mod probes;
mod readers;
pub(crate) mod render;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use chrono_tz::Tz;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use crate::calendar::Calendar;
use crate::config::{Config, WebSettings};
use crate::in_force::InForce;
use crate::metrics::Metrics;
use crate::overview::{self, Health, Seen};
use crate::report::{self, Report};
use crate::store::{self, Store};
use crate::time::{Clock, Timestamp};
use access::{Access, Asked, Refused};
use readers::{Readers, Unread};
use server::Ends;

pub(crate) use pages::{OneCustomer, REPORTED, ROWS};
pub use server::CONNECTIONS_MAX;

/// How old what the frame of each page says may be.
const HEALTH_FOR: Duration = Duration::from_secs(1);
/// How old the figures of the report may be: they are read from a year of verdicts.
const REPORT_FOR: Duration = Duration::from_mins(1);
/// How long until it is tried again to listen.
const RETRY_AFTER_FAILURE: Duration = Duration::from_mins(1);

/// Said with every response. No page needs a script, a style of its own, or anything from elsewhere.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (HeaderName::from_static("cache-control"), "no-store"),
];

/// What the pages are made from.
pub(crate) struct Site {
    access: Access,
    readers: Readers,
    probes: probes::Probes,
    in_force: watch::Receiver<Arc<InForce>>,
    clock: Arc<dyn Clock>,
    /// What was last read of it, and when: many requests share it.
    health: Mutex<Option<(Instant, Arc<Health>)>>,
    report: Mutex<Option<(Instant, Arc<Report>)>>,
}

impl Site {
    fn new(
        settings: WebSettings,
        config: &Config,
        probes: probes::Probes,
        in_force: watch::Receiver<Arc<InForce>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (access, readers) = (Access::new(settings), Readers::new(config.database.clone()));
        let (health, report) = (Mutex::default(), Mutex::default());
        Self { access, readers, probes, in_force, clock, health, report }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn zone(&self) -> Tz {
        self.in_force.borrow().config.calendar.zone
    }

    fn calendar(&self) -> Calendar {
        self.in_force.borrow().config.calendar.clone()
    }

    /// Where people open the page, if that is known.
    fn public_url(&self) -> Option<Url> {
        self.in_force.borrow().config.web.as_ref()?.public_url.clone()
    }

    /// True if nobody needs to say who they are.
    fn is_open(&self) -> bool {
        self.access.is_open()
    }

    /// What works and what does not, at most [`HEALTH_FOR`] old.
    async fn health(&self) -> Result<Arc<Health>, Unread> {
        let mut kept = self.health.lock().await;
        if let Some((_, health)) = kept.as_ref().filter(|(at, _)| at.elapsed() < HEALTH_FOR) {
            return Ok(health.clone());
        }
        let (outline, now) = (self.in_force.borrow().config.outline(), self.now());
        let seen = Seen::by_daemon(self.probes.store());
        let read = self.readers.read(async |store| overview::health(&outline, store, seen, now, None).await);
        let health = Arc::new(read.await?);
        *kept = Some((Instant::now(), health.clone()));
        Ok(health)
    }

    /// The figures of the last twelve months, at most [`REPORT_FOR`] old.
    async fn report(&self) -> Result<Arc<Report>, Unread> {
        let mut kept = self.report.lock().await;
        if let Some((_, report)) = kept.as_ref().filter(|(at, _)| at.elapsed() < REPORT_FOR) {
            return Ok(report.clone());
        }
        let (calendar, now) = (self.calendar(), self.now());
        let asked = report::Asked { since: report::usual_since(&calendar, now), partner: None, most: REPORTED };
        let report = self.readers.read(async |store| report::read(store, &calendar, now, asked).await).await?;
        let report = Arc::new(report);
        *kept = Some((Instant::now(), report.clone()));
        Ok(report)
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("access", &self.access).finish_non_exhaustive()
    }
}

/// Serves the page, if the configuration has one, until `stop` is cancelled.
pub async fn run(
    mut in_force: watch::Receiver<Arc<InForce>>,
    store: Store,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut listening: Option<(SocketAddr, TcpListener)> = None;
    while !stop.is_cancelled() {
        let config = in_force.borrow_and_update().config.clone();
        let Some(settings) = config.web.clone() else {
            listening = None;
            note(&store, &*clock, None).await;
            let _ = stop.run_until_cancelled(in_force.changed()).await;
            continue;
        };
        if listening.as_ref().is_none_or(|(address, _)| *address != settings.listen) {
            match TcpListener::bind(settings.listen).await {
                Ok(listener) => {
                    let address = listener.local_addr().unwrap_or(settings.listen);
                    info!("the page is served at http://{address}/");
                    listening = Some((settings.listen, listener));
                    note(&store, &*clock, None).await;
                }
                Err(error) => {
                    let why = format!("cannot listen on {}: {error}", settings.listen);
                    warn!("the page is not served: {why}; it is tried again every minute");
                    note(&store, &*clock, Some(&why)).await;
                }
            }
        }
        let until = stop.child_token();
        let probes = probes::Probes::new(store.clone(), metrics.clone());
        let site = Arc::new(Site::new(settings.clone(), &config, probes, in_force.clone(), clock.clone()));
        let serving = async {
            match &listening {
                Some((_, listener)) => server::serve(listener, router(site), until.clone()).await,
                None => until.cancelled().await,
            }
        };
        let is_tried_again = async {
            let is_there = listening.as_ref().is_some_and(|(address, _)| *address == settings.listen);
            let pause = if is_there { Duration::MAX } else { RETRY_AFTER_FAILURE };
            tokio::select! {
                _ = in_force.wait_for(|new| !is_same(new.config.web.as_ref(), &settings)) => {}
                () = tokio::time::sleep(pause) => {}
            }
            until.cancel();
        };
        tokio::join!(serving, async {
            until.run_until_cancelled(is_tried_again).await;
        });
    }
}

fn is_same(new: Option<&WebSettings>, old: &WebSettings) -> bool {
    use secrecy::ExposeSecret as _;
    let token = |settings: &WebSettings| settings.token.as_ref().map(|token| token.expose_secret().to_owned());
    new.is_some_and(|new| format!("{new:?}") == format!("{old:?}") && token(new) == token(old))
}

/// Records whether the page is served. The database may be held, or the disk be full: then only the log says so.
async fn note(store: &Store, clock: &dyn Clock, error: Option<&str>) {
    let noting = async {
        if store.page_failing().await?.map(|(_, why)| why).as_deref() == error {
            return Ok(());
        }
        let mut tx = store.begin().await?;
        tx.note_page(error, clock.now()).await?;
        tx.commit().await
    };
    let noted: Result<(), store::Error> = noting.await;
    if let Err(error) = noted {
        warn!(error = &error as &dyn std::error::Error, "whether the page is served cannot be recorded");
    }
}

fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(pages::index))
        .route("/decided", get(pages::decided))
        .route("/report", get(pages::report))
        .route("/customers", get(pages::customers))
        .route("/customer/{partner}/{id}", get(pages::customer))
        .route("/deliveries", get(pages::deliveries))
        .route("/delivery/{id}", get(pages::delivery))
        .route("/health", get(pages::health))
        .route("/style.css", get(pages::style))
        .route("/feed.atom", get(feeds::atom))
        .route("/expected.ics", get(feeds::calendar))
        .route("/feeds/{secret}/{feed}", get(feeds::by_secret))
        .route("/metrics", get(probes::metrics))
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
        .fallback(pages::no_page)
        .layer(middleware::from_fn_with_state(site.clone(), admit))
        .with_state(site)
}

/// Lets a request through, or refuses it. Every response gets the headers.
async fn admit(
    State(site): State<Arc<Site>>,
    Extension(ends): Extension<Ends>,
    mut request: Request,
    next: Next,
) -> Response {
    let asked = Asked {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        peer: ends.peer,
        local: ends.local,
    };
    let mut response = match site.access.admit(&asked, Instant::now()) {
        Ok(admitted) => {
            request.extensions_mut().insert(admitted);
            next.run(request).await
        }
        Err(refused) => refuse(refused),
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn refuse(refused: Refused) -> Response {
    let mut response = text(refused.status(), refused.text());
    let header = match refused {
        Refused::Method => (ALLOW, "GET, HEAD"),
        Refused::NoToken | Refused::WrongToken => (WWW_AUTHENTICATE, "Basic realm=\"vetwatch\", charset=\"UTF-8\""),
        Refused::TooManyTokens => (RETRY_AFTER, "60"),
        Refused::Host | Refused::OtherSite => return response,
    };
    response.headers_mut().insert(header.0, HeaderValue::from_static(header.1));
    response
}

fn text(status: StatusCode, text: &'static str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

impl axum::response::IntoResponse for Unread {
    fn into_response(self) -> Response {
        let words = match self {
            Self::Busy => "Too many pages are asked for at once. Try again.\n",
            Self::TooLong => "Reading the database took too long. Try again, or look for less.\n",
            Self::Store(_) => "The database cannot be read; the log of vetwatch says why.\n",
        };
        let mut response = text(StatusCode::SERVICE_UNAVAILABLE, words);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        response
    }
}
