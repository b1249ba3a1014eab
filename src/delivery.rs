//! From the outbox to an endpoint.

pub mod address;
pub mod chat;
mod dispatcher;
pub mod email;
pub mod http;
pub mod message;
pub mod retry;
pub mod route;
pub mod webhook;

pub use dispatcher::{Dispatcher, Round};

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

/// A frozen message on its way: every attempt is given the same text.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The delivery's id: `webhook-id`, `Message-ID`.
    pub id: Uuid,
    /// What [`Channel::render`] made of the events.
    pub message: &'a str,
    /// Recipients that have taken or refused it for good in earlier attempts, with what they replied.
    pub settled: &'a BTreeMap<String, String>,
}

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub outcome: Outcome,
    /// What the other side answered, or why there was no answer: for people, without secrets, at most
    /// [`Report::DETAIL_MAX`] bytes, no control characters.
    pub detail: String,
    /// Recipients that took or refused it for good in this attempt, with what was replied.
    pub settled: BTreeMap<String, String>,
}

impl Report {
    pub const DETAIL_MAX: usize = 1000;
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every recipient has taken it or refused it for good, and at least one has taken it.
    Accepted,
    /// Not this time; the receiver may have said how long to wait.
    TryAgain { after: Option<Duration> },
    /// Trying again is senseless: no recipient will ever take it.
    Refused,
    /// The endpoint as a whole cannot be reached.
    Unavailable,
    /// The endpoint does not let us in (a wrong password): never a message's end.
    LoginRefused,
    /// The endpoint says that it is gone for good (HTTP 410).
    Gone,
}

impl Channel {
    /// The message as every attempt will send it.
    #[must_use]
    pub fn render(&self, id: Uuid, events: &[Event], now: Timestamp) -> String {
        match self {
            Self::Email(channel) => channel.render(id, events, now),
            Self::Webhook(channel) => channel.render(id, events),
            Self::Chat(channel) => channel.render(events),
        }
    }

    /// How many events one message may tell of.
    #[must_use]
    pub fn most(&self) -> u32 {
        match self {
            Self::Email(_) => 500,
            Self::Webhook(channel) => channel.most(),
            Self::Chat(channel) => channel.most(),
        }
    }

    /// One attempt. Ends within the channel's hard deadline, whatever the other side does.
    pub async fn deliver(&self, outgoing: Outgoing<'_>, now: Timestamp) -> Report {
        match self {
            Self::Email(channel) => channel.deliver(outgoing).await,
            Self::Webhook(channel) => channel.deliver(outgoing, now).await,
            Self::Chat(channel) => channel.deliver(outgoing, now).await,
        }
    }
}
