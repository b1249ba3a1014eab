//! HTTP exchanges: bounded in size and time, classified by how they failed, counted against the budget.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use url::Url;
use uuid::Uuid;

use crate::api_error::clean;
use crate::budget::Budget;
use crate::proxy::Proxy;
use vetwatch_core::text::short_line;
use vetwatch_core::time::{Clock, Timestamp};
use vetwatch_core::{descriptors, redact, retry};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An error body is optional, so it is read for less time than a response.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
const ERROR_BODY_MAX_BYTES: usize = 64 * 1024;

/// A client that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the system's certificates cannot be used")]
    Tls(#[from] reqwest::Error),
    /// The setting's name.
    #[error("`{0}` does not make an address")]
    Address(&'static str),
}

/// One per partner: its connections are reused, for the login as well.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
    proxy: Option<Proxy>,
    /// What its requests are counted against.
    budget: Option<Arc<Budget>>,
    clock: Arc<dyn Clock>,
}

/// A response of any status.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The reason phrase, unless it is the canonical one.
    pub(crate) reason: Option<String>,
    pub(crate) headers: HeaderMap,
    /// The received part of the body.
    pub(crate) body: Vec<u8>,
    pub(crate) began_at: Timestamp,
    pub(crate) ended_at: Timestamp,
}

/// What is wanted of the body of a 2xx, of at most so many bytes, counted after decompression and while they arrive.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    Whole(usize),
    /// The status alone is an answer.
    Optional(usize),
}

/// Why no complete response was read.
#[derive(Debug)]
pub(crate) enum Failure {
    TimedOut,
    /// No connection.
    Unreachable(String),
    /// No connection, because this process may open no more.
    NoDescriptor,
    /// The connection broke before the end of the response, or the response is too large.
    Broken(String),
}

impl Http {
    /// # Errors
    /// If the system's certificates cannot be read.
    pub(crate) fn new(
        budget: Option<Arc<Budget>>,
        proxy: Option<&Proxy>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        // Building a client panics without a provider. One that is installed already stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("vetwatch/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            // A connection that hangs costs one request, not all in flight.
            .http1_only()
            // Well below the servers' timeouts: a connection that they close while we write costs a response.
            .pool_idle_timeout(Duration::from_secs(30));
        if let Some(proxy) = proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy.url().clone())?);
        }
        Ok(Self { client: builder.build()?, proxy: proxy.cloned(), budget, clock })
    }

    /// A connection that failed did so at the proxy, or behind it.
    fn at_the_proxy(&self, failure: Failure) -> Failure {
        match (failure, &self.proxy) {
            (Failure::Unreachable(why), Some(proxy)) => Failure::Unreachable(format!("by the proxy {proxy}: {why}")),
            (failure, _) => failure,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Sends a request and reads the response, until `until` at the latest.
    pub(crate) async fn send(&self, request: RequestBuilder, wanted: Body, until: Instant) -> Result<Reply, Failure> {
        let began_at = self.now();
        if let Some(budget) = &self.budget {
            budget.spend(began_at);
        }
        let response = timeout_at(until, request.send()).await.map_err(|_| Failure::TimedOut)?.map_err(failure);
        let mut response = response.map_err(|failure| self.at_the_proxy(failure))?;
        let status = response.status();
        if let Some(budget) = self.budget.as_ref().filter(|_| status == StatusCode::TOO_MANY_REQUESTS) {
            budget.slow_down(self.now());
        }
        let mut body = Vec::new();
        if status.is_success() {
            let (Body::Whole(most) | Body::Optional(most)) = wanted;
            let outcome = timeout_at(until, read(&mut response, &mut body, most)).await;
            if let Body::Whole(_) = wanted {
                outcome.unwrap_or(Err(Failure::TimedOut))?;
            }
        } else {
            let until = until.min(Instant::now() + ERROR_BODY_TIMEOUT);
            // The status suffices; a missing body is no error.
            let _ = timeout_at(until, read(&mut response, &mut body, ERROR_BODY_MAX_BYTES)).await;
        }
        let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
        let reason = reason.map(|reason| redact::words(&short_line(&String::from_utf8_lossy(reason.as_bytes()), 100)));
        let headers = std::mem::take(response.headers_mut());
        Ok(Reply { status: status.as_u16(), reason, headers, body, began_at, ended_at: self.now() })
    }
}

async fn read(response: &mut Response, body: &mut Vec<u8>, most: usize) -> Result<(), Failure> {
    let too_large = || Failure::Broken(format!("the answer is larger than {} KiB", most / 1024));
    let announced = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > most) {
        return Err(too_large());
    }
    while let Some(chunk) = response.chunk().await.map_err(failure)? {
        if chunk.len() > most - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(())
}

fn failure(error: reqwest::Error) -> Failure {
    let is_connect = error.is_connect();
    if is_connect && descriptors::none_left(&error) {
        return Failure::NoDescriptor;
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let text = short_line(&clean(&text), 300);
    if is_connect { Failure::Unreachable(text) } else { Failure::Broken(text) }
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header's value, if it is a GUID.
    pub(crate) fn id(&self, header: &str) -> Option<Uuid> {
        Uuid::parse_str(self.headers.get(header)?.to_str().ok()?.trim()).ok()
    }

    pub(crate) fn header(&self, header: &str) -> Option<&str> {
        self.headers.get(header)?.to_str().ok()
    }

    /// The wait from `Retry-After`.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry::retry_after(self.header(RETRY_AFTER.as_str())?, self.ended_at)
    }
}

/// Appends `segments` to `base`, each as exactly one path segment. `None` if one is empty, `.` or `..`, or if `base`
/// cannot be extended.
pub(crate) fn join_segments(base: &Url, segments: &[&str]) -> Option<Url> {
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return None;
    }
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.path_segments_mut().ok()?.pop_if_empty().extend(segments);
    Some(url)
}
