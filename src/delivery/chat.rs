//! Chat services: a card in a Teams channel, a message in a Slack channel, a push by ntfy.
//!
//! Each service is a module with a [`ChatService`]. All text from outside is put where the service knows no markup, or is
//! escaped: no name of a customer can mention, format or link.

pub mod ntfy;
pub mod slack;
pub mod teams;

use std::borrow::Cow;

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;

use crate::delivery::http::{HttpSender, HttpSettings, secret_value};
use crate::delivery::message::{Item, Message};
use crate::delivery::{AttemptResult, Outcome};
use crate::store::{ClaimedDelivery, UnrenderedDelivery};
use crate::time::Timestamp;

/// What differs between the services.
#[derive(Debug)]
pub struct ChatService {
    /// Its `kind` in the configuration, and the format that is stored with a delivery.
    pub name: &'static str,
    /// What is sent, for people; a place follows: `message in a Slack channel, by`.
    pub description: &'static str,
    /// The most events in one message within the service's limits.
    pub max_events: u32,
    /// The request's body.
    pub body: fn(&Message) -> String,
    /// The outcome of a response; `None` if the status alone decides.
    pub classify_response: fn(StatusCode, &str) -> Option<Outcome>,
}

#[derive(Debug, Clone)]
pub struct ChatSettings {
    pub http: HttpSettings,
    pub service: &'static ChatService,
    /// ntfy's.
    pub topic: Option<ntfy::Topic>,
}

impl ChatSettings {
    /// What is sent and where, for people; without secrets.
    #[must_use]
    pub fn description(&self) -> String {
        let login = match &self.topic {
            None => "",
            Some(topic) if topic.token.is_some() => ", with a token",
            Some(_) => ", without login",
        };
        format!("{} {}{login}", self.service.description, self.http.place())
    }

    /// The complete address, which may be secret.
    #[must_use]
    pub fn address(&self) -> String {
        let topic = self.topic.as_ref().map(|topic| format!(" {}", topic.name.expose_secret()));
        format!("{}{}", self.http.url, topic.unwrap_or_default())
    }
}

#[derive(Debug)]
pub struct ChatChannel {
    service: &'static ChatService,
    topic: Option<ntfy::Topic>,
    poster: HttpSender,
}

impl ChatChannel {
    #[must_use]
    pub fn new(settings: ChatSettings) -> Self {
        let ChatSettings { http, service, topic } = settings;
        // Without a token it may need one.
        let keys = if topic.is_some() { vec!["token_file"] } else { Vec::new() };
        Self { service, topic, poster: HttpSender::new(http).with_credentials(keys) }
    }

    /// Renders the message. It holds no secret, because it is stored.
    #[must_use]
    pub fn render(&self, delivery: &UnrenderedDelivery) -> String {
        (self.service.body)(&delivery.message())
    }

    pub(super) fn format(&self) -> &'static str {
        self.service.name
    }

    /// Makes one attempt.
    pub async fn deliver(&self, due: &ClaimedDelivery, now: Timestamp) -> AttemptResult {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let mut body = Cow::from(&due.message);
        if let Some(topic) = &self.topic {
            // A token from the configuration is a valid header value; without it the server would say so.
            let token =
                topic.token.as_ref().and_then(|token| secret_value(&format!("Bearer {}", token.expose_secret())));
            headers.extend(token.map(|value| (AUTHORIZATION, value)));
            body = topic.with_topic(&due.message).into();
        }
        self.poster.post(headers, &body, now, self.service.classify_response).await
    }
}

/// An item's line in a digest, after its label: ` Contoso School – Education, attempt 2 of 3: Microsoft's reason`.
fn item_line(item: &Item) -> String {
    let mut line = item.title.clone();
    if !item.about.is_empty() {
        line.push_str(" – ");
        line.push_str(&item.about);
    }
    if let Some(reason) = &item.reason {
        line.push_str(": ");
        line.push_str(reason);
    }
    line
}

#[cfg(test)]
mod tests;
