//! Standard Webhooks' symmetric signatures: HMAC-SHA256 over `id.timestamp.body`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use ring::hmac;
use secrecy::{ExposeSecret, SecretSlice};
use thiserror::Error;
use uuid::Uuid;

use crate::redact;
use crate::time::Timestamp;

/// The shortest key that Standard Webhooks allows.
const MIN_KEY_BYTES: usize = 24;

/// Tools write base64 with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A signing key: `whsec_` and base64 of at least 24 bytes. Never shown.
#[derive(Debug, Clone)]
pub struct SigningSecret(SecretSlice<u8>);

/// What is wrong with a signing secret. The texts do not show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SecretError {
    #[error("is not a signing key: whsec_ and base64")]
    NotBase64,
    #[error("is too short: {0} bytes once decoded; the least is {MIN_KEY_BYTES}")]
    TooShort(usize),
}

impl SigningSecret {
    /// Parses a secret as files and services write it: `whsec_` may be missing, white space around it is ignored.
    ///
    /// # Errors
    /// If it is not base64 or shorter than 24 bytes.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let key = BASE64.decode(text.strip_prefix("whsec_").unwrap_or(text)).map_err(|_| SecretError::NotBase64)?;
        if key.len() < MIN_KEY_BYTES {
            return Err(SecretError::TooShort(key.len()));
        }
        redact::learn(text.strip_prefix("whsec_").unwrap_or(text));
        redact::learn_bytes(&key);
        Ok(Self(key.into()))
    }

    fn sign(&self, id: Uuid, at: Timestamp, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret());
        let tag = hmac::sign(&key, format!("{id}.{}.{body}", at.as_secs()).as_bytes());
        format!("v1,{}", general_purpose::STANDARD.encode(tag))
    }
}

/// The `webhook-signature` header: one signature per secret.
pub(super) fn header(secrets: &[SigningSecret], id: Uuid, at: Timestamp, body: &str) -> String {
    let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(id, at, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_they_are_written() {
        let key = general_purpose::STANDARD.encode([7; 25]);
        let bare = key.trim_end_matches('=');
        for text in [key.clone(), format!("whsec_{key}\n"), format!(" {bare}"), format!("whsec_{bare}")] {
            assert_eq!(SigningSecret::parse(&text).unwrap().0.expose_secret(), [7; 25]);
        }
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_said_without_showing_it() {
        let short = general_purpose::STANDARD.encode(b"too short a secret");
        let error = SigningSecret::parse(&short).unwrap_err();
        assert_eq!(error.to_string(), "is too short: 18 bytes once decoded; the least is 24");
        assert_eq!(SigningSecret::parse("whsec_hunter2!").unwrap_err(), SecretError::NotBase64);
        assert_eq!(SigningSecret::parse("").unwrap_err(), SecretError::TooShort(0));
        let shown = format!("{:?}", SigningSecret::parse(&general_purpose::STANDARD.encode([7; 24])).unwrap());
        assert!(!shown.contains('7'), "{shown}");
    }
}
