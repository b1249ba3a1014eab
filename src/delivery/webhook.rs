//! Signed JSON over HTTPS: Standard Webhooks.

mod signature;

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

pub use self::signature::{SecretError, SigningSecret};
use crate::delivery::http::{HttpSettings, Poster};
use crate::delivery::message::DIGEST;
use crate::delivery::{Draft, Outgoing, Report};
use crate::event::{Event, EventData};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub struct WebhookSettings {
    pub http: HttpSettings,
    /// One for each `v1,` signature; the newest first.
    pub secrets: Vec<SigningSecret>,
}

#[derive(Debug)]
pub struct WebhookChannel {
    secrets: Vec<SigningSecret>,
    poster: Poster,
}

impl WebhookChannel {
    /// # Panics
    /// As [`Poster::new`].
    #[must_use]
    pub fn new(settings: WebhookSettings) -> Self {
        Self { secrets: settings.secrets, poster: Poster::new(settings.http) }
    }

    /// Another hard deadline for an attempt than 30 seconds.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { poster: self.poster.with_deadline(deadline), ..self }
    }

    /// The request's body. One event is told as itself; several (or none) as a digest of them.
    #[must_use]
    pub fn render(&self, draft: &Draft<'_>) -> String {
        // Names, texts and times: all of it can be JSON.
        serde_json::to_string(&body(draft)).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// One attempt, signed for `now`.
    pub async fn deliver(&self, outgoing: Outgoing<'_>, now: Timestamp) -> Report {
        let signatures = signature::header(&self.secrets, outgoing.id, now, outgoing.message);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-id", outgoing.id.to_string()),
            ("webhook-timestamp", now.as_secs().to_string()),
            ("webhook-signature", signatures),
        ] {
            // An id, a number and base64: all of it can stand in a header.
            headers.extend(HeaderValue::try_from(value).map(|value| (HeaderName::from_static(name), value)));
        }
        self.poster.post(headers, outgoing.message, now, |_, _| None).await
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: Option<Timestamp>,
    /// The endpoint that has not taken it; this one stands in for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<&'a str>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    One(&'a EventData),
    Several { events: Vec<Typed<'a>> },
}

/// An event within a digest.
#[derive(Serialize)]
struct Typed<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    data: &'a EventData,
}

fn body<'a>(draft: &Draft<'a>) -> Body<'a> {
    let (events, instead_of) = (draft.events, draft.instead_of);
    if let [event] = events {
        let Event { kind, occurred_at, data } = event;
        return Body { r#type: kind.as_str(), timestamp: Some(*occurred_at), instead_of, data: Data::One(data) };
    }
    let typed = |event: &'a Event| {
        let Event { kind, data, .. } = event;
        Typed { r#type: kind.as_str(), data }
    };
    Body {
        r#type: DIGEST,
        timestamp: events.iter().map(|event| event.occurred_at).max(),
        instead_of,
        data: Data::Several { events: events.iter().map(typed).collect() },
    }
}

#[cfg(test)]
mod tests;
