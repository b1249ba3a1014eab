//! A webhook receiver on loopback that verifies signatures, stores requests, and fails on demand.

mod signature;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use url::Url;

pub use super::inbox::Missing;
use super::inbox::{Inbox, Peer};
use super::listener::{ConnectionControl, Disconnect, FREE_PORT, Port};
pub use signature::Signature;
use signature::Verifier;
use vetwatch_core::time::{Clock, Timestamp};

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRequest {
    pub received_at: Timestamp,
    pub method: String,
    /// Includes the query.
    pub path: String,
    pub headers: HeaderMap,
    /// Empty if the connection was closed before it was read.
    pub body: Vec<u8>,
    pub signature: Signature,
    /// The status that was sent.
    pub answered: Option<u16>,
}

impl WebhookRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `webhook-id`.
    pub fn id(&self) -> Option<&str> {
        self.header("webhook-id")
    }

    /// The body; null if it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What the receiver does instead of responding with 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookAction {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// Responds with 200 after a delay.
    Delay(Duration),
    /// Reads the request and never responds.
    Hang,
    /// Closes the connection without reading the body.
    CloseBefore,
    /// Reads the request and closes the connection without a response.
    CloseAfter,
    /// Reads the request and resets the connection.
    ResetAfter,
}

impl WebhookAction {
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: String::new() }
    }

    /// A response with one more header, such as `Retry-After` or `Location`.
    pub fn with_header(status: u16, name: &str, value: &str) -> Self {
        Self::Answer { status, headers: vec![(name.into(), value.into())], body: String::new() }
    }
}

/// A webhook receiver on a free port of 127.0.0.1.
pub type Receiver = Peer<WebhookRequest, WebhookAction>;

impl Receiver {
    /// Requests must be signed with `secret` (`whsec_` and base64).
    ///
    /// # Errors
    /// If the secret is malformed, or no port can be bound.
    pub async fn start(secret: Option<&str>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let verifier = secret.map(Verifier::new).transpose()?.map(Arc::new);
        let inbox = Inbox::new(clock);
        let router = Router::new().fallback(receive).with_state((Arc::clone(&inbox), verifier));
        let port = Port::open_http(FREE_PORT, router).await?;
        Ok(Self { port, inbox })
    }

    /// The URL to send to. Any other path is accepted as well; see [`WebhookRequest::path`].
    pub fn url(&self) -> Url {
        self.port.url("/hook")
    }

    /// The requests received so far, in order.
    pub fn hooks(&self) -> Vec<WebhookRequest> {
        self.inbox.all()
    }

    /// Applies `action` to the next `times` requests (`None`: until cleared), after earlier rules.
    pub fn script(&self, action: WebhookAction, times: Option<u64>) {
        self.inbox.add_rule(action, times);
    }
}

type Shared = (Arc<Inbox<WebhookRequest, WebhookAction>>, Option<Arc<Verifier>>);

const LARGEST_BODY: usize = 10 * 1024 * 1024;
/// Maximum time that a hanging request is held.
const LONGEST_HANG: Duration = Duration::from_mins(10);

async fn receive(
    State((inbox, verifier)): State<Shared>,
    ConnectInfo(line): ConnectInfo<ConnectionControl>,
    request: Request,
) -> Result<Response, Infallible> {
    let act = inbox.next_rule(|_| true);
    let (parts, body) = request.into_parts();
    let unread = act == Some(WebhookAction::CloseBefore);
    let body = if unread { None } else { axum::body::to_bytes(body, LARGEST_BODY).await.ok() };
    let Some(body) = body.or_else(|| unread.then(Default::default)) else {
        // The sender disconnected.
        line.sever(Disconnect::Close);
        return Ok(Response::default());
    };
    let received_at = inbox.clock.now();
    let signature = match &verifier {
        Some(_) if unread => Signature::NotChecked,
        Some(verifier) => verifier.check(&parts.headers, &body, received_at),
        None => Signature::NotChecked,
    };
    let index = inbox.push(WebhookRequest {
        received_at,
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: body.to_vec(),
        signature,
        answered: None,
    });
    let response = match act {
        None => respond(200, &[], String::new()),
        Some(WebhookAction::Answer { status, headers, body }) => respond(status, &headers, body),
        Some(WebhookAction::Delay(wait)) => {
            tokio::time::sleep(wait).await;
            respond(200, &[], String::new())
        }
        Some(severing) => {
            if severing == WebhookAction::Hang {
                let _ = tokio::time::timeout(LONGEST_HANG, line.stopped()).await;
            }
            let reset = severing == WebhookAction::ResetAfter;
            line.sever(if reset { Disconnect::Reset } else { Disconnect::Close });
            // Never sent: writing it closes the connection.
            return Ok(Response::default());
        }
    };
    inbox.change(index, |hook| hook.answered = Some(response.status().as_u16()));
    Ok(response)
}

fn respond(status: u16, headers: &[(String, String)], body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
