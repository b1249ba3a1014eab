//! Where people chat: a card in a Teams channel, a message in a Slack channel, a push by ntfy.
//!
//! Each service is a file of two pure functions: what is sent, and what its answer means. All text from outside goes
//! where the service knows no markup, or is escaped; nothing that a customer is called can mention, format or link.

pub mod ntfy;
pub mod slack;
pub mod teams;

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;

use crate::delivery::http::{HttpSender, HttpSettings};
use crate::delivery::message::{Item, Message};
use crate::delivery::{AttemptResult, OutboundMessage, RenderInput};
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
    /// `Teams`, for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Teams => "Teams",
            Self::Slack => "Slack",
            Self::Ntfy(_) => "ntfy",
        }
    }

    /// How many events one message can tell of within the service's limits.
    #[must_use]
    pub const fn most(&self) -> u32 {
        match self {
            Self::Teams => teams::MOST,
            Self::Slack => slack::MOST,
            Self::Ntfy(_) => ntfy::MOST,
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

    /// Another hard deadline for an attempt than the usual one.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { poster: self.poster.with_deadline(deadline), ..self }
    }

    /// The message, without anything secret: it is stored.
    #[must_use]
    pub fn render(&self, draft: &RenderInput<'_>) -> String {
        let message = Message::of(draft.events).with_note(draft.note.unwrap_or_default());
        match self.service {
            ChatService::Teams => teams::body(&message),
            ChatService::Slack => slack::body(&message),
            ChatService::Ntfy(_) => ntfy::body(&message),
        }
    }

    pub(super) fn form(&self) -> &'static str {
        match self.service {
            ChatService::Teams => "teams",
            ChatService::Slack => "slack",
            ChatService::Ntfy(_) => "ntfy",
        }
    }

    /// One attempt.
    pub async fn deliver(&self, outgoing: OutboundMessage<'_>, now: Timestamp) -> AttemptResult {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        match &self.service {
            ChatService::Teams => self.poster.post(headers, outgoing.message, now, teams::classify_response).await,
            ChatService::Slack => self.poster.post(headers, outgoing.message, now, slack::classify_response).await,
            ChatService::Ntfy(topic) => {
                // What was read from the configuration fits into a header; without it the server would say so.
                headers.extend(topic.token.as_ref().and_then(bearer).map(|value| (AUTHORIZATION, value)));
                self.poster.post(headers, &topic.address(outgoing.message), now, ntfy::classify_response).await
            }
        }
    }
}

fn bearer(token: &secrecy::SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a digest says of an item, after its label: ` Contoso School – Education, attempt 2 of 3: Microsoft's reason`.
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
