//! From the outbox to an endpoint.

pub mod egress_policy;
pub mod chat;
mod dispatcher;
pub mod email;
pub mod http;
pub mod message;
mod outbox;
pub mod quiet_hours;
pub mod retry;
pub mod route;
mod sender;
pub mod webhook;

pub use dispatcher::{Dispatcher, Round};
pub use outbox::{parcel, queue};
pub use sender::Sender;

use std::collections::BTreeMap;
use std::time::Duration;

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

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every recipient has taken it or refused it for good, and at least one has taken it.
    Accepted,
    /// Not this time; the receiver may have said how long to wait.
    Retry { after: Option<Duration> },
    /// Not this time, for a reason that is this message's or its recipients' own: the endpoint works.
    Deferred,
    /// It was handed over, and whether it was taken is not known: nobody saw the end. It is tried again, with more
    /// patience, and says nothing against the endpoint: somebody is there.
    Unconfirmed,
    /// Trying again is senseless: no recipient will ever take it.
    Refused,
    /// Refused for a reason that is not known to be this message's own: who we are, what we may send, how much. Never
    /// its end while others fare no better.
    Blocked,
    /// The endpoint as a whole cannot be reached.
    Unavailable,
    /// The endpoint does not let us in (a wrong password): never a message's end.
    AuthRejected,
    /// The endpoint says that it is gone for good (HTTP 410).
    Gone,
}

/// Whether a recipient with this reply has taken the message; else it was refused for good.
#[must_use]
pub fn took(reply: &str) -> bool {
    reply.starts_with('2')
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
