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

pub use dispatcher::{Dispatcher, InFlight, Round};
pub use outbox::enqueue;
pub use sender::{Neighbour, Sender};

use self::message::{Message, time_format};
use crate::store::{ClaimedDelivery, Rendered, Store, UnrenderedDelivery};
use crate::time::Timestamp;

/// The kinds of endpoints. An enum, so that the compiler finds every `match` when one is added.
#[derive(Debug)]
pub enum Channel {
    Email(email::EmailChannel),
    Webhook(webhook::WebhookChannel),
    Chat(chat::ChatChannel),
}

impl UnrenderedDelivery {
    /// The message about its events, with a note if it stands in for another endpoint.
    pub(crate) fn message(&self) -> Message {
        let message = Message::of(&self.events, self.zone).with_pages(self.public_url.as_deref());
        let Some(from) = &self.failover_from else { return message };
        let there = if from.still_tried { "It is still tried there." } else { "It is not tried there any more." };
        let since = time_format::moment(from.since, self.zone);
        message.with_note(&format!("Sent here because {} has not taken it since {since}. {there}", from.endpoint))
    }
}

impl Channel {
    /// Renders the message as every attempt will send it.
    #[must_use]
    pub fn render(&self, delivery: &UnrenderedDelivery, now: Timestamp) -> Rendered {
        match self {
            Self::Email(channel) => channel.render(delivery, now).into(),
            Self::Webhook(channel) => channel.render(delivery),
            Self::Chat(channel) => channel.render(delivery).into(),
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

    /// Makes one attempt. Ends within the channel's deadline, whatever the server does. `store` gets the final
    /// replies that are known before the attempt ends.
    pub async fn deliver(&self, due: &ClaimedDelivery, now: Timestamp, store: Option<&Store>) -> AttemptResult {
        match self {
            Self::Email(channel) => channel.deliver_and_save(due, now, store).await,
            Self::Webhook(channel) => channel.deliver(due, now).await,
            Self::Chat(channel) => channel.deliver(due, now).await,
        }
    }
}
