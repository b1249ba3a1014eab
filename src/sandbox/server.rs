//! The engine on the network: reads requests, waits where a fault wants it, writes answers.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_LENGTH, DATE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use futures_util::stream;
use tokio::sync::watch;
use uuid::Uuid;

use super::control;
use super::engine::{Arrival, Call, Engine, Pause, Plan, guid};
use super::errors::{Payload, Reply};
use super::log::{Kind, Progress};
use super::port::{Line, Severance};
use crate::time::{Clock, Timestamp};

/// A request that hangs is given up after this, so that a forgotten client does not keep its connection for ever.
const LONGEST_HANG: Duration = Duration::from_mins(10);
/// No form of ours is larger.
const LARGEST_BODY: usize = 64 * 1024;

/// What handlers and the handle in the same process share.
pub(super) struct Shared {
    clock: Arc<dyn Clock>,
    engine: Mutex<Engine>,
    /// Counts changes of the request log.
    changed: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(engine: Engine, clock: Arc<dyn Clock>) -> Self {
        Self { clock, engine: Mutex::new(engine), changed: watch::Sender::new(0) }
    }

    /// Works on the state as it is now: timelines have happened as far as the clock has come.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Engine, Timestamp) -> R) -> R {
        let now = self.clock.now();
        // A panic of a caller's closure in a test must not turn every later request into another one.
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.world.advance(now);
        work(&mut engine, now)
    }

    /// Asks again at every change of the request log until there is an answer, or `within` has passed.
    pub(super) async fn wait_for<R>(
        &self,
        within: Duration,
        mut answer: impl FnMut(&mut Engine) -> Option<R>,
    ) -> Option<R> {
        let mut changes = self.changed.subscribe();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = self.with(|engine, _| answer(engine)) {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(within, waiting).await.ok().flatten()
    }

    fn tell(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let control = control::router().with_state(Arc::clone(&shared));
    Router::new().nest("/control", control).fallback(serve).with_state(shared)
}

/// Notes in the log that nobody waits for the answer any more, unless it was finished.
struct Ticket {
    shared: Arc<Shared>,
    arrival: Arrival,
    open: bool,
}

impl Ticket {
    fn finish(mut self, progress: Progress, status: Option<u16>) {
        self.close(progress, status);
    }

    fn close(&mut self, progress: Progress, status: Option<u16>) {
        self.open = false;
        let Arrival { seq, kind, .. } = self.arrival;
        self.shared.with(|engine, _| engine.log.finish(seq, kind, progress, status));
        self.shared.tell();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            self.close(Progress::Abandoned, None);
        }
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: axum::body::to_bytes(body, LARGEST_BODY).await.unwrap_or_default(),
    };
    let (arrival, plan) = shared.with(|engine, now| engine.arrive(&call, now));
    let ticket = Ticket { shared: Arc::clone(&shared), arrival, open: true };
    shared.tell();
    let reply = match plan {
        Plan::Answer(reply) => Ok(reply),
        Plan::Sever(how) => Err(how),
        Plan::Wait(pause, early) => match wait(pause, &line).await {
            Ok(()) => Ok(early.unwrap_or_else(|| shared.with(|engine, now| engine.answer(&call, arrival, now)))),
            Err(how) => Err(how),
        },
    };
    Ok(match reply {
        Ok(reply) => {
            ticket.finish(Progress::Answered, Some(reply.status.as_u16()));
            respond(reply, arrival.kind, &call.headers, shared.clock.now())
        }
        Err(how) => {
            line.sever(how);
            ticket.finish(Progress::Severed, None);
            // Never sent: writing it ends the connection.
            Response::default()
        }
    })
}

async fn wait(pause: Pause, line: &Line) -> Result<(), Severance> {
    let over = async {
        match pause {
            Pause::For(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Pause::Held(mut gate) => {
                // Nothing is ever sent: the gate opens when its sender goes.
                while gate.changed().await.is_ok() {}
                Ok(())
            }
            Pause::Forever => {
                tokio::time::sleep(LONGEST_HANG).await;
                Err(Severance::Close)
            }
        }
    };
    tokio::select! {
        result = over => result,
        () = line.stopped() => Err(Severance::Close),
    }
}

fn respond(reply: Reply, kind: Kind, asked: &HeaderMap, now: Timestamp) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    if kind.is_api() {
        for name in ["ms-requestid", "ms-correlationid"] {
            let id = guid(asked.get(name).and_then(|value| value.to_str().ok())).unwrap_or_else(Uuid::new_v4);
            insert(headers, name, &id.to_string());
        }
        let vector = BASE64_STANDARD_NO_PAD.encode(fastrand::u128(..).to_be_bytes());
        insert(headers, "ms-cv", &format!("{vector}.0"));
        insert(headers, "ms-serverid", "00001");
    }
    insert(headers, DATE.as_str(), &now.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    for (name, value) in reply.headers {
        headers.insert(name, value);
    }
    match reply.payload {
        Payload::Whole(body) => *response.body_mut() = Body::from(body),
        Payload::Cut { sent, promised } => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(promised));
            *response.body_mut() = Body::from_stream(cut_off(sent));
        }
    }
    response
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// Sends these bytes and ends the connection.
fn cut_off(sent: Bytes) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(sent), |left| async move {
        if let Some(sent) = left {
            return Some((Ok(sent), None));
        }
        // The server writes what it has when the body has nothing more yet; an error would throw it away.
        tokio::task::yield_now().await;
        Some((Err(io::ErrorKind::ConnectionAborted.into()), None))
    })
}
