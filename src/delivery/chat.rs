//! Chat services: a card in a Teams channel, a message in a Slack channel, a push by ntfy.
//!
//! Each service is a module with two pure functions: one makes the body, one classifies the response. All text from
//! outside is put where the service knows no markup, or is escaped: no name of a customer can mention, format or link.

pub mod ntfy;
pub mod slack;
pub mod teams;

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;

use crate::delivery::AttemptResult;
use crate::delivery::http::{HttpSender, HttpSettings};
use crate::delivery::message::Item;
use crate::store::{ClaimedDelivery, UnrenderedDelivery};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub struct ChatSettings {
    pub http: HttpSettings,
    pub service: ChatService,
}

#[derive(Debug, Clone)]
pub enum ChatService {
    /// A Workflows webhook (Power Automate).
    Teams,
    /// An app's incoming webhook.
    Slack,
    Ntfy(ntfy::Topic),
}

impl ChatService {
    /// The name for people: `Teams`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Teams => "Teams",
            Self::Slack => "Slack",
            Self::Ntfy(_) => "ntfy",
        }
    }

    /// The most events in one message within the service's limits.
    #[must_use]
    pub const fn max_events(&self) -> u32 {
        match self {
            Self::Teams => teams::MAX_EVENTS,
            Self::Slack => slack::MAX_EVENTS,
            Self::Ntfy(_) => ntfy::MAX_EVENTS,
        }
    }
}

pub struct ChatChannel {
    service: ChatService,
    poster: HttpSender,
}

impl fmt::Debug for ChatChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatChannel").field("service", &self.service).field("poster", &self.poster).finish()
    }
}

impl ChatChannel {
    #[must_use]
    pub fn new(settings: ChatSettings) -> Self {
        let ChatSettings { http, service } = settings;
        Self { service, poster: HttpSender::new(http) }
    }

    /// Replaces the deadline of an attempt.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { poster: self.poster.with_deadline(deadline), ..self }
    }

    /// Renders the message. It holds no secret, because it is stored.
    #[must_use]
    pub fn render(&self, delivery: &UnrenderedDelivery) -> String {
        let message = delivery.message();
        match self.service {
            ChatService::Teams => teams::body(&message),
            ChatService::Slack => slack::body(&message),
            ChatService::Ntfy(_) => ntfy::body(&message),
        }
    }

    pub(super) fn format(&self) -> &'static str {
        match self.service {
            ChatService::Teams => "teams",
            ChatService::Slack => "slack",
            ChatService::Ntfy(_) => "ntfy",
        }
    }

    /// Makes one attempt.
    pub async fn deliver(&self, due: &ClaimedDelivery, now: Timestamp) -> AttemptResult {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        match &self.service {
            ChatService::Teams => self.poster.post(headers, &due.message, now, teams::classify_response).await,
            ChatService::Slack => self.poster.post(headers, &due.message, now, slack::classify_response).await,
            ChatService::Ntfy(topic) => {
                // A token from the configuration is a valid header value; without it the server would say so.
                headers.extend(topic.token.as_ref().and_then(bearer).map(|value| (AUTHORIZATION, value)));
                self.poster.post(headers, &topic.with_topic(&due.message), now, ntfy::classify_response).await
            }
        }
    }
}

fn bearer(token: &secrecy::SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
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
