//! Signed JSON over HTTPS: Standard Webhooks. Or, with a template, whatever the receiver wants.

mod signature;
mod template;

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tracing::error;

pub use self::signature::{SecretError, SigningSecret};
pub use self::template::{Template, TemplateError};
use crate::delivery::http::{HttpSender, HttpSettings, Lookup};
use crate::delivery::message::{DIGEST, Message};
use crate::delivery::{AttemptResult, OutboundMessage, Outcome, RenderInput};
use crate::event::{Event, EventData};
use crate::redact;
use crate::time::Timestamp;

/// How many events a digest holds at most, unless the configuration says otherwise.
pub const MOST: u32 = 100;
/// The same with a template: receivers that have one are chats and ticket systems.
pub const MOST_WITH_TEMPLATE: u32 = 20;

#[derive(Debug, Clone)]
pub struct WebhookSettings {
    pub http: HttpSettings,
    /// One for each `v1,` signature; the newest first. Without any nothing is signed.
    pub secrets: Vec<SigningSecret>,
    /// Instead of our own form.
    pub template: Option<Template>,
    /// The value of the `Authorization` header.
    pub authorization: Option<SecretString>,
    /// How many events a message holds at most.
    pub most: u32,
}

impl WebhookSettings {
    /// Our own form, signed.
    #[must_use]
    pub fn signed(http: HttpSettings, secrets: Vec<SigningSecret>) -> Self {
        Self { http, secrets, template: None, authorization: None, most: MOST }
    }
}

#[derive(Debug)]
pub struct WebhookChannel {
    secrets: Vec<SigningSecret>,
    template: Option<Template>,
    authorization: Option<SecretString>,
    poster: HttpSender,
}

impl WebhookChannel {
    #[must_use]
    pub fn new(settings: WebhookSettings) -> Self {
        let WebhookSettings { http, secrets, template, authorization, most: _ } = settings;
        let sent = template.iter().filter_map(Template::secret).chain(&authorization);
        sent.for_each(|secret| redact::learn(secret.expose_secret()));
        Self { secrets, template, authorization, poster: HttpSender::new(http) }
    }

    /// Another hard deadline for an attempt than 30 seconds.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { poster: self.poster.with_deadline(deadline), ..self }
    }

    /// As [`HttpSender::with_lookup`].
    #[must_use]
    pub fn with_lookup(self, lookup: Lookup) -> Self {
        Self { poster: self.poster.with_lookup(lookup), ..self }
    }

    /// The request's body, without anything secret: it is stored. One event is told as itself; several (or none) as a
    /// digest of them. A template that fails costs its form, never the message.
    #[must_use]
    pub fn render(&self, draft: &RenderInput<'_>) -> String {
        let Some(template) = &self.template else { return standard_body(draft) };
        template.render(draft).unwrap_or_else(|flaw| {
            error!(delivery.id = %draft.id, %flaw, "a message's template failed; it goes in its built-in form");
            if template.is_json() {
                standard_body(draft)
            } else {
                Message::of(draft.events).with_note(draft.note.unwrap_or_default()).text()
            }
        })
    }

    pub(super) fn form(&self) -> &'static str {
        if self.template.is_some() { "template" } else { "webhook" }
    }

    /// One attempt, signed for `now`.
    pub async fn deliver(&self, outgoing: OutboundMessage<'_>, now: Timestamp) -> AttemptResult {
        let mut headers = HeaderMap::new();
        let (body, content_type) = match &self.template {
            Some(template) => (template.complete(outgoing.id, outgoing.message), template.content_type()),
            None => (outgoing.message.to_owned(), HeaderValue::from_static("application/json")),
        };
        headers.insert(CONTENT_TYPE, content_type);
        for (name, value) in [
            ("webhook-id", outgoing.id.to_string()),
            ("webhook-timestamp", now.as_secs().to_string()),
            ("webhook-signature", signature::header(&self.secrets, outgoing.id, now, &body)),
        ] {
            // An id, a number and base64: all of it can stand in a header.
            let value = HeaderValue::try_from(value).ok().filter(|value| !value.is_empty());
            headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
        }
        if let Some(Ok(mut value)) = self.authorization.as_ref().map(|text| HeaderValue::from_str(text.expose_secret()))
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // What we log in with is wrong, or the hook of somebody's service is gone: that says nothing of the message.
        let service = self.template.is_some() || self.authorization.is_some();
        let login = |status, _: &str| match status {
            StatusCode::UNAUTHORIZED => Some(Outcome::AuthRejected),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if service => Some(Outcome::AuthRejected),
            _ => None,
        };
        self.poster.post(headers, &body, now, login).await
    }
}

fn standard_body(draft: &RenderInput<'_>) -> String {
    // Names, texts and times: all of it can be JSON.
    serde_json::to_string(&body(draft)).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
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
    Several { events: Vec<TypedEvent<'a>> },
}

/// An event within a digest.
#[derive(Serialize)]
struct TypedEvent<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    data: &'a EventData,
}

impl<'a> TypedEvent<'a> {
    fn of(event: &'a Event) -> Self {
        Self { r#type: event.kind.as_str(), data: &event.data }
    }
}

fn body<'a>(draft: &RenderInput<'a>) -> Body<'a> {
    let (events, instead_of) = (draft.events, draft.instead_of);
    if let [event] = events {
        let Event { kind, occurred_at, data } = event;
        return Body { r#type: kind.as_str(), timestamp: Some(*occurred_at), instead_of, data: Data::One(data) };
    }
    Body {
        r#type: DIGEST,
        timestamp: events.iter().map(|event| event.occurred_at).max(),
        instead_of,
        data: Data::Several { events: events.iter().map(TypedEvent::of).collect() },
    }
}

#[cfg(test)]
mod tests;
