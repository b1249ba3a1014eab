//! Delivering messages from the outbox to endpoints.

pub mod chat;
mod dispatcher;
pub mod email;
pub mod http;
mod outbox;
mod sender;
pub mod webhook;

pub use vetwatch_core::retry::{AttemptResult, Outcome, took};
pub use vetwatch_core::{egress_policy, message, quiet_hours, retry, routing as route};

pub use dispatcher::{Dispatcher, Round};
pub use outbox::enqueue;
pub use sender::Sender;

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::event::Event;
use crate::time::Timestamp;

/// The kinds of endpoints. An enum, so that the compiler finds every `match` when one is added.
#[derive(Debug)]
pub enum Channel {
    Email(email::EmailChannel),
    Webhook(webhook::WebhookChannel),
    Chat(chat::ChatChannel),
}

/// What a message is rendered from, before its first attempt.
#[derive(Debug, Clone, Copy)]
pub struct RenderInput<'a> {
    /// The delivery's id.
    pub id: Uuid,
    /// In the order in which they occurred.
    pub events: &'a [Event],
    /// The customer's contact, who gets a mail beside the endpoint's own recipients.
    pub recipient: Option<&'a str>,
    /// The endpoint that has not accepted the events and that this one stands in for…
    pub instead_of: Option<&'a str>,
    /// …and a note about that for the reader.
    pub note: Option<&'a str>,
}

impl<'a> RenderInput<'a> {
    /// Input without contact, stand-in or note.
    #[must_use]
    pub const fn new(id: Uuid, events: &'a [Event]) -> Self {
        Self { id, events, recipient: None, instead_of: None, note: None }
    }
}

/// A rendered message: every attempt sends the same text.
#[derive(Debug, Clone, Copy)]
pub struct OutboundMessage<'a> {
    /// The delivery's id: `webhook-id`, `Message-ID`.
    pub id: Uuid,
    /// What [`Channel::render`] made of the events.
    pub message: &'a str,
    /// The customer's contact, who gets a mail beside the endpoint's own recipients.
    pub recipient: Option<&'a str>,
    /// The final replies of earlier attempts, by recipient.
    pub final_replies: &'a BTreeMap<String, String>,
}

impl Channel {
    /// Renders the message as every attempt will send it.
    #[must_use]
    pub fn render(&self, input: &RenderInput<'_>, now: Timestamp) -> String {
        match self {
            Self::Email(channel) => channel.render(input, now),
            Self::Webhook(channel) => channel.render(input),
            Self::Chat(channel) => channel.render(input),
        }
    }

    /// The format of its messages, as stored with a delivery.
    #[must_use]
    pub fn format(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Webhook(channel) => channel.format(),
            Self::Chat(channel) => channel.format(),
        }
    }

    /// Makes one attempt. Ends within the channel's deadline, whatever the server does.
    pub async fn deliver(&self, outgoing: OutboundMessage<'_>, now: Timestamp) -> AttemptResult {
        match self {
            Self::Email(channel) => channel.deliver(outgoing).await,
            Self::Webhook(channel) => channel.deliver(outgoing, now).await,
            Self::Chat(channel) => channel.deliver(outgoing, now).await,
        }
    }
}
