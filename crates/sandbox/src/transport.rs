//! Transforms a response before it is sent.

use std::io::{self, Read};
use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use flate2::Compression;
use flate2::read::GzEncoder;

use super::errors::{self, Payload, Reply, Transfer};
use super::response_options::{Framing, TransportOptions};

/// Maximum chunk size by default, small enough that every response has several chunks.
const CHUNK: usize = 64;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Applies the transport options. Compresses only if the client accepts it.
pub(super) fn dress(mut reply: Reply, sending: &TransportOptions, takes_gzip: bool) -> Reply {
    if let Some(content_type) = &sending.content_type {
        reply.headers.retain(|(name, _)| *name != CONTENT_TYPE);
        if !content_type.is_empty() {
            reply = reply.with(CONTENT_TYPE, content_type);
        }
    }
    if let Payload::Whole(body) = &mut reply.payload {
        if sending.bom {
            *body = Bytes::from([BYTE_ORDER_MARK, body.as_ref()].concat());
        }
        if sending.gzip && takes_gzip && !body.is_empty() {
            *body = packed(body.as_ref());
            reply = reply.with(CONTENT_ENCODING, "gzip");
        }
    }
    let pieces = sending
        .drip
        .or_else(|| (sending.framing == Some(Framing::Chunked) || sending.every.is_some()).then_some(CHUNK));
    reply.transfer = Transfer {
        pieces: pieces.map(|size| (size.max(1), sending.every.unwrap_or_default())),
        framing: sending.framing,
        ids: sending.ids,
    };
    reply
}

/// `200` with an endless list.
pub(super) fn endless() -> Reply {
    let mut reply = Reply::new(StatusCode::OK, errors::JSON, Bytes::new());
    let some = r#"{"qualification":"StateOwnedEntity"},"#.repeat(100);
    reply.payload = Payload::Endless(Bytes::from(some));
    reply
}

const BOMB_BYTES: u64 = 64 << 20;

/// `200` with an empty list that decompresses to very many spaces.
pub(super) fn bomb() -> Reply {
    static PACKED: OnceLock<Bytes> = OnceLock::new();
    let body = PACKED.get_or_init(|| packed(b"[".chain(io::repeat(b' ').take(BOMB_BYTES)).chain(&b"]"[..])));
    Reply::new(StatusCode::OK, errors::JSON, body.clone()).with(CONTENT_ENCODING, "gzip")
}

fn packed(plain: impl Read) -> Bytes {
    let mut packed = Vec::new();
    let read = GzEncoder::new(plain, Compression::fast()).read_to_end(&mut packed);
    read.expect("bytes in memory can always be read");
    Bytes::from(packed)
}
