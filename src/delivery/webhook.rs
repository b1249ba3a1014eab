//! Webhooks: signed JSON over HTTPS (Standard Webhooks), or with a template, a body of the administrator's own.

mod signature;
mod template;

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tracing::error;
use vetwatch_core::page;

pub use self::signature::{SecretError, SigningSecret};
pub use self::template::{Template, TemplateError, trial as template_trial};
use crate::delivery::http::{HttpSender, HttpSettings, Lookup, secret_value};
use crate::delivery::message::DIGEST;
use crate::delivery::{AttemptResult, Outcome};
use crate::event::{Event, EventData, EventPayload};
use crate::redact;
use crate::store::{ClaimedDelivery, Rendered, UnrenderedDelivery};
use crate::time::Timestamp;

/// The most events in a digest, unless configured.
pub const MAX_EVENTS: u32 = 100;
/// The same with a template, whose receivers are usually chats and ticket systems.
pub const MAX_EVENTS_WITH_TEMPLATE: u32 = 20;

#[derive(Debug, Clone)]
pub struct WebhookSettings {
    pub http: HttpSettings,
    /// One per `v1,` signature, the newest first; if empty, nothing is signed.
    pub secrets: Vec<SigningSecret>,
    /// Replaces the standard body.
    pub template: Option<Template>,
    /// The value of the `Authorization` header.
    pub authorization: Option<SecretString>,
    /// The most events in one message.
    pub max_events: u32,
}

impl WebhookSettings {
    /// The standard body, signed.
    #[must_use]
    pub fn signed(http: HttpSettings, secrets: Vec<SigningSecret>) -> Self {
        Self { http, secrets, template: None, authorization: None, max_events: MAX_EVENTS }
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
        let WebhookSettings { http, secrets, template, authorization, max_events: _ } = settings;
        let keys = [
            ("secret_file", !secrets.is_empty()),
            ("template_secret_file", template.as_ref().is_some_and(|template| template.secret().is_some())),
            ("authorization_file", authorization.is_some()),
        ];
        let keys = keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
        let sent = template.iter().filter_map(Template::secret).chain(&authorization);
        sent.for_each(|secret| redact::learn(secret.expose_secret()));
        Self { secrets, template, authorization, poster: HttpSender::new(http).with_credentials(keys) }
    }

    /// Replaces the deadline of 30 seconds.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { poster: self.poster.with_deadline(deadline), ..self }
    }

    /// As [`HttpSender::with_lookup`].
    #[must_use]
    pub fn with_lookup(self, lookup: Lookup) -> Self {
        Self { poster: self.poster.with_lookup(lookup), ..self }
    }

    /// Renders the body. It holds no secret, because it is stored. One event is sent as itself, several (or none) as a
    /// digest. If the template fails, the standard body is used: the message is never lost.
    #[must_use]
    pub fn render(&self, delivery: &UnrenderedDelivery) -> Rendered {
        let Some(template) = &self.template else { return standard_body(delivery).into() };
        match template.render(delivery) {
            Ok(message) => message.into(),
            Err(flaw) => {
                error!(delivery.id = %delivery.id, %flaw, "a message's template failed; it goes in its built-in form");
                let message = if template.is_json() { standard_body(delivery) } else { delivery.message().text() };
                Rendered { message, template_error: Some(flaw.to_string()) }
            }
        }
    }

    pub(super) fn format(&self) -> &'static str {
        if self.template.is_some() { "template" } else { "webhook" }
    }

    /// Makes one attempt, signed for `now`.
    pub async fn deliver(&self, due: &ClaimedDelivery, now: Timestamp) -> AttemptResult {
        let mut headers = HeaderMap::new();
        let (body, content_type) = match &self.template {
            Some(template) => (template.complete(due.id, &due.message), template.content_type()),
            None => (due.message.clone(), HeaderValue::from_static("application/json")),
        };
        headers.insert(CONTENT_TYPE, content_type);
        for (name, value) in [
            ("webhook-id", due.id.to_string()),
            ("webhook-timestamp", now.as_secs().to_string()),
            ("webhook-signature", signature::header(&self.secrets, due.id, now, &body)),
        ] {
            // An id, a number and base64: all valid in a header.
            let value = HeaderValue::try_from(value).ok().filter(|value| !value.is_empty());
            headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
        }
        let authorization = self.authorization.as_ref().and_then(|text| secret_value(text.expose_secret()));
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        // The credential is wrong, or a service's hook is gone: that says nothing about the message.
        let service = self.template.is_some() || self.authorization.is_some();
        let login = |status, _: &str| match status {
            StatusCode::UNAUTHORIZED => Some(Outcome::AuthRejected),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if service => Some(Outcome::AuthRejected),
            _ => None,
        };
        self.poster.post(headers, &body, now, login).await
    }
}

fn standard_body(delivery: &UnrenderedDelivery) -> String {
    // Serializing names, texts and times cannot fail.
    serde_json::to_string(&body(delivery)).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: Option<Timestamp>,
    data: StandIn<'a>,
}

#[derive(Serialize)]
struct StandIn<'a> {
    #[serde(flatten)]
    data: Data<'a>,
    /// The endpoint that has not accepted the events; this one stands in for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    One(LinkedEvent<'a>),
    Several { events: Vec<TypedEvent<'a>> },
}

/// An event, and the page of its customer.
#[derive(Serialize)]
struct LinkedEvent<'a> {
    #[serde(flatten)]
    data: &'a EventData,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

/// An event within a digest.
#[derive(Serialize)]
struct TypedEvent<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    event: LinkedEvent<'a>,
}

impl<'a> LinkedEvent<'a> {
    fn of(event: &'a Event, public_url: Option<&str>) -> Self {
        let Event { data, .. } = event;
        let path = match (&data.partner, &data.subject) {
            (Some(partner), EventPayload::Vetting(change)) => Some(page::customer(partner, &change.customer.id)),
            _ => None,
        };
        let url = public_url.zip(path).map(|(base, path)| format!("{base}{path}"));
        Self { data, url }
    }
}

/// The events of a delivery, as in a digest.
fn typed(delivery: &UnrenderedDelivery) -> Vec<TypedEvent<'_>> {
    let public_url = delivery.public_url.as_deref();
    let events = delivery.events.iter();
    events.map(|it| TypedEvent { r#type: it.kind.as_str(), event: LinkedEvent::of(it, public_url) }).collect()
}

fn body(delivery: &UnrenderedDelivery) -> Body<'_> {
    let events = &delivery.events;
    let instead_of = delivery.failover_from.as_ref().map(|from| from.endpoint.as_str());
    if let [event] = events.as_slice() {
        let data = Data::One(LinkedEvent::of(event, delivery.public_url.as_deref()));
        let data = StandIn { data, instead_of };
        return Body { r#type: event.kind.as_str(), timestamp: Some(event.occurred_at), data };
    }
    let data = Data::Several { events: typed(delivery) };
    Body {
        r#type: DIGEST,
        timestamp: events.iter().map(|event| event.occurred_at).max(),
        data: StandIn { data, instead_of },
    }
}

#[cfg(test)]
mod tests;
