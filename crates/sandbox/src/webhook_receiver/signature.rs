//! Standard Webhooks, the receiver's side: HMAC-SHA256 over `id.timestamp.body`.

use std::io;
use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

use vetwatch_core::time::Timestamp;

/// Maximum distance of a timestamp from now; older ones could be replays.
const TOLERANCE: Duration = Duration::from_mins(5);

/// Result of verifying a request's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    Valid,
    /// One of the three headers is missing or malformed.
    Missing,
    /// The timestamp is too old, or in the future.
    Stale,
    Wrong,
    /// The receiver has no secret, or did not read the body.
    NotChecked,
}

pub(super) struct Verifier(hmac::Key);

impl Verifier {
    pub(super) fn new(secret: &str) -> io::Result<Self> {
        let key = secret.strip_prefix("whsec_").and_then(|key| BASE64_STANDARD.decode(key).ok());
        let key = key
            .filter(|key| !key.is_empty())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a signing secret is whsec_ and base64"))?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    pub(super) fn check(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Signature {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(id), Some(timestamp), Some(signatures)) =
            (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
        else {
            return Signature::Missing;
        };
        let Ok(signed_s) = timestamp.parse::<i64>() else { return Signature::Missing };
        let signed = [id.as_bytes(), timestamp.as_bytes(), body].join(&b'.');
        let mut tags = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
        let is_ours =
            |tag: &str| BASE64_STANDARD.decode(tag).is_ok_and(|tag| hmac::verify(&self.0, &signed, &tag).is_ok());
        if !tags.any(is_ours) {
            Signature::Wrong
        } else if now.as_secs().abs_diff(signed_s) > TOLERANCE.as_secs() {
            Signature::Stale
        } else {
            Signature::Valid
        }
    }
}
