//! From the outbox to an endpoint.

pub mod chat;
mod dispatcher;
pub mod email;
pub mod http;
mod outbox;
mod sender;
pub mod webhook;

pub use vetwatch_core::retry::{Outcome, took};
pub use vetwatch_core::{egress_policy, message, quiet_hours, retry, routing as route};

pub use dispatcher::{Dispatcher, Round};
pub use outbox::{parcel, queue};
pub use sender::Sender;

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::event::Event;
use crate::time::Timestamp;

/// The ways to an endpoint. A closed set: `match` finds every place when one is added.
#[derive(Debug)]
pub enum Channel {
    Email(email::EmailChannel),
    Webhook(webhook::WebhookChannel),
    Chat(chat::ChatChannel),
}

/// A message that is to be written, before its first attempt.
#[derive(Debug, Clone, Copy)]
pub struct RenderInput<'a> {
    /// The delivery's id.
    pub id: Uuid,
    /// In the order in which they occurred.
    pub events: &'a [Event],
    /// The customer's contact, who gets a mail beside the endpoint's own recipients.
    pub recipient: Option<&'a str>,
    /// The endpoint that has not taken it…
    pub instead_of: Option<&'a str>,
    /// …and what people are told of that.
    pub note: Option<&'a str>,
}

impl<'a> RenderInput<'a> {
    /// For the endpoint's own recipients, in its own right.
    #[must_use]
    pub const fn new(id: Uuid, events: &'a [Event]) -> Self {
        Self { id, events, recipient: None, instead_of: None, note: None }
    }
}

/// A frozen message on its way: every attempt is given the same text.
#[derive(Debug, Clone, Copy)]
pub struct OutboundMessage<'a> {
    /// The delivery's id: `webhook-id`, `Message-ID`.
    pub id: Uuid,
    /// What [`Channel::render`] made of the events.
    pub message: &'a str,
    /// The customer's contact, who gets a mail beside the endpoint's own recipients.
    pub recipient: Option<&'a str>,
    /// Recipients that have taken or refused it for good in earlier attempts, with what they replied.
    pub final_replies: &'a BTreeMap<String, String>,
}

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptResult {
    pub outcome: Outcome,
    /// What the other side answered, or why there was no answer: for people, without secrets, at most
    /// [`AttemptResult::DETAIL_MAX`] bytes, no control characters.
    pub detail: String,
    /// Recipients that took or refused it for good in this attempt, with what was replied.
    pub final_replies: BTreeMap<String, String>,
}

impl AttemptResult {
    pub const DETAIL_MAX: usize = 1000;
}

impl Channel {
    /// The message as every attempt will send it.
    #[must_use]
    pub fn render(&self, draft: &RenderInput<'_>, now: Timestamp) -> String {
        match self {
            Self::Email(channel) => channel.render(draft, now),
            Self::Webhook(channel) => channel.render(draft),
            Self::Chat(channel) => channel.render(draft),
        }
    }

    /// What its messages are written in.
    #[must_use]
    pub fn form(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Webhook(channel) => channel.form(),
            Self::Chat(channel) => channel.form(),
        }
    }

    /// One attempt. Ends within the channel's hard deadline, whatever the other side does.
    pub async fn deliver(&self, outgoing: OutboundMessage<'_>, now: Timestamp) -> AttemptResult {
        match self {
            Self::Email(channel) => channel.deliver(outgoing).await,
            Self::Webhook(channel) => channel.deliver(outgoing, now).await,
            Self::Chat(channel) => channel.deliver(outgoing, now).await,
        }
    }
}
