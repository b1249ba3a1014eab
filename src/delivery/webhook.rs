//! Signed JSON over HTTPS: Standard Webhooks.

use secrecy::SecretString;
use url::Url;

use crate::delivery::{Outgoing, Report};
use crate::event::Event;
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// May hold a secret: never shown but for scheme and host.
    pub url: Url,
    /// One for each `v1,` signature; the newest first.
    pub secrets: Vec<SigningSecret>,
}

/// `whsec_` and base64, at least 24 bytes.
#[derive(Debug, Clone)]
pub struct SigningSecret(#[expect(dead_code)] SecretString);

/// Why a text is no signing secret. Never holds it.
#[derive(Debug, thiserror::Error)]
#[error("is not base64 (expected `whsec_` and base64)")]
pub struct SecretError;

impl SigningSecret {
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if text.starts_with("whsec_") { Ok(Self(text.into())) } else { Err(SecretError) }
    }
}

#[derive(Debug)]
pub struct WebhookChannel {
    #[expect(dead_code)]
    settings: WebhookSettings,
}

impl WebhookChannel {
    #[must_use]
    pub fn new(settings: WebhookSettings) -> Self {
        Self { settings }
    }

    #[must_use]
    pub fn render(&self, _events: &[Event]) -> String {
        todo!()
    }

    pub async fn deliver(&self, _outgoing: Outgoing<'_>, _now: Timestamp) -> Report {
        todo!()
    }
}
