//! Sends a response: its headers, and its bytes with the transfer options.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, DATE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Version};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use futures_util::{Stream, StreamExt, stream};
use uuid::Uuid;

use super::duration_serde;
use super::engine::guid;
use super::errors::{Payload, Reply, Transfer};
use super::log::Kind;
use super::response_options::{Framing, Ids};
use vetwatch_core::time::Timestamp;

pub(super) fn respond(reply: Reply, kind: Kind, asked: &HeaderMap, now: Timestamp) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = reply.status;
    if let Some(reason) = reply.reason {
        response.extensions_mut().insert(hyper::ext::ReasonPhrase::from_static(reason.as_bytes()));
    }
    let Transfer { pieces, framing, ids } = reply.transfer;
    if framing == Some(Framing::Http10) {
        *response.version_mut() = Version::HTTP_10;
    }
    let headers = response.headers_mut();
    if kind.is_api() {
        if ids != Some(Ids::None) {
            for name in ["ms-requestid", "ms-correlationid"] {
                let sent = guid(asked.get(name).and_then(|value| value.to_str().ok())).filter(|_| ids.is_none());
                insert(headers, name, &sent.unwrap_or_else(Uuid::new_v4).to_string());
            }
        }
        let vector = BASE64_STANDARD_NO_PAD.encode(fastrand::u128(..).to_be_bytes());
        insert(headers, "ms-cv", &format!("{vector}.0"));
        insert(headers, "ms-serverid", "00001");
    }
    insert(headers, DATE.as_str(), &duration_serde::http_date(now));
    for (name, value) in reply.headers {
        headers.insert(name, value);
    }
    let (size, pause) = pieces.unwrap_or((usize::MAX, Duration::ZERO));
    let (length, body) = match reply.payload {
        Payload::Whole(bytes) if pieces.is_none() && framing.is_none() => (None, Body::from(bytes)),
        Payload::Whole(bytes) => (Some(bytes.len()), Body::from_stream(in_pieces(bytes, size, pause))),
        Payload::Cut { sent, promised } => {
            (Some(promised), Body::from_stream(in_pieces(sent, size, pause).chain(cut_off())))
        }
        Payload::Endless(again) => {
            let endless = stream::iter(std::iter::repeat(again)).flat_map(move |again| in_pieces(again, size, pause));
            let opening = stream::iter([Ok(Bytes::from_static(b"["))]);
            (None, Body::from_stream(opening.chain(endless)))
        }
    };
    if let Some(length) = length.filter(|_| framing.is_none()) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = body;
    response
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

type Piece = io::Result<Bytes>;

/// Splits bytes into pieces of `size`, with a pause after each but the last.
fn in_pieces(bytes: Bytes, size: usize, pause: Duration) -> impl Stream<Item = Piece> + Send {
    stream::unfold((bytes, true), move |(mut left, first)| async move {
        if left.is_empty() {
            return None;
        }
        if !first && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let piece = left.split_to(size.min(left.len()));
        Some((Ok(piece), (left, false)))
    })
}

/// Severs the connection.
fn cut_off() -> impl Stream<Item = Piece> + Send {
    stream::once(async {
        // A pending body makes the server flush what it has; an error would discard it.
        tokio::task::yield_now().await;
        Err(io::ErrorKind::ConnectionAborted.into())
    })
}
