//! Serves the engine over HTTP: parses requests, waits as faults require, sends responses.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::get;
use tokio::sync::watch;

use super::control;
use super::engine::{Call, Engine, Pause, Plan};
use super::errors::Reply;
use super::imds;
use super::listener::{ConnectionControl, Disconnect};
use super::log::{Kind, Progress};
use super::respond::respond;
use vetwatch_core::time::{Clock, Timestamp};

/// Maximum time that a hanging request is held, so that a forgotten client does not keep its connection forever.
const LONGEST_HANG: Duration = Duration::from_mins(10);
/// More than any token request.
const LARGEST_BODY: usize = 64 * 1024;

/// State shared by the handlers and [`Sandbox`](super::Sandbox).
pub(super) struct Shared {
    clock: Arc<dyn Clock>,
    engine: Mutex<Engine>,
    /// Version of the request log, incremented at each change.
    changed: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(engine: Engine, clock: Arc<dyn Clock>) -> Self {
        Self { clock, engine: Mutex::new(engine), changed: watch::Sender::new(0) }
    }

    /// Accesses the state, after applying the timeline steps that are due.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Engine, Timestamp) -> R) -> R {
        let now = self.clock.now();
        // A panic in a test's closure must not make every later request panic.
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.world.advance(now);
        work(&mut engine, now)
    }

    /// Evaluates `answer` at every change of the request log until it returns `Some` or `within` has passed.
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
    Router::new().nest("/control", control).route(imds::PATH, get(imds::token)).fallback(serve).with_state(shared)
}

/// Logs a request as abandoned if it is dropped before it is finished.
struct Ticket {
    shared: Arc<Shared>,
    seq: u64,
    kind: Kind,
    open: bool,
}

impl Ticket {
    fn finish(mut self, progress: Progress, reply: Option<&Reply>) {
        self.close(progress, reply);
    }

    fn close(&mut self, progress: Progress, reply: Option<&Reply>) {
        self.open = false;
        let (seq, kind) = (self.seq, self.kind);
        self.shared.with(|engine, _| engine.log.finish(seq, kind, progress, reply));
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
    ConnectInfo(line): ConnectInfo<ConnectionControl>,
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
    let ticket = Ticket { shared: Arc::clone(&shared), seq: arrival.seq, kind: arrival.kind, open: true };
    shared.tell();
    let reply = match plan {
        Plan::Answer(reply) => Ok(reply),
        Plan::Sever(how) => Err(how),
        Plan::Wait(pause, early) => match wait(pause, &line).await {
            Ok(()) => Ok(early.unwrap_or_else(|| shared.with(|engine, now| engine.answer(&call, &arrival, now)))),
            Err(how) => Err(how),
        },
    };
    Ok(match reply {
        Ok(reply) => {
            ticket.finish(Progress::Answered, Some(&reply));
            respond(reply, arrival.kind, &call.headers, shared.clock.now())
        }
        Err(how) => {
            line.sever(how);
            ticket.finish(Progress::Severed, None);
            // Never sent: writing it closes the connection.
            Response::default()
        }
    })
}

async fn wait(pause: Pause, line: &ConnectionControl) -> Result<(), Disconnect> {
    let over = async {
        match pause {
            Pause::For(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Pause::Held(mut released) => {
                // Nothing is ever sent: this ends when the sender is dropped.
                while released.changed().await.is_ok() {}
                Ok(())
            }
            Pause::Forever => {
                tokio::time::sleep(LONGEST_HANG).await;
                Err(Disconnect::Close)
            }
        }
    };
    tokio::select! {
        result = over => result,
        () = line.stopped() => Err(Disconnect::Close),
    }
}
