//! ntfy: a push to phones, as JSON posted to the server's root.

use std::fmt;

use reqwest::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{ChatService, item_line};
use crate::delivery::Outcome;
use crate::delivery::message::{Fact, Item, Message, Severity, markup, numbered};
use crate::redact;
use crate::text;

pub const SERVICE: ChatService =
    ChatService { name: "ntfy", description: "push by ntfy at", max_events: MAX_EVENTS, body, classify_response };

pub const MAX_EVENTS: u32 = 20;

/// ntfy turns a longer text into an attached file.
const MAX_MESSAGE_BYTES: usize = 4096;
/// The server reads at most twice that of the whole JSON; the difference is for the topic.
const MAX_JSON_BYTES: usize = 2 * MAX_MESSAGE_BYTES - 200;
const MAX_TITLE_BYTES: usize = 200;
const MAX_URL_BYTES: usize = 500;
/// In a digest, which is full with 20 events. A longer one is left out.
const MAX_PAGE_BYTES: usize = 120;

/// The topic of a push.
#[derive(Clone)]
pub struct Topic {
    /// A secret: anyone who knows it can read and write there, unless the server has users.
    pub name: SecretString,
    /// An access token.
    pub token: Option<SecretString>,
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("token", &self.token.is_some()).finish_non_exhaustive()
    }
}

impl Topic {
    /// Up to 64 letters, digits, `-` and `_`, as the server requires.
    ///
    /// # Errors
    /// If the name is invalid; the text does not show it.
    pub fn new(name: SecretString, token: Option<SecretString>) -> Result<Self, &'static str> {
        let text = name.expose_secret();
        let fit = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if fit && (1..=64).contains(&text.len()) {
            redact::learn(text);
            if let Some(token) = &token {
                redact::learn(token.expose_secret());
            }
            Ok(Self { name, token })
        } else {
            Err("is no topic: up to 64 letters, digits, - and _")
        }
    }

    /// Adds the topic, which is not stored, to the stored message.
    pub(super) fn with_topic(&self, message: &str) -> String {
        let stored: Option<Value> = serde_json::from_str(message).ok().filter(Value::is_object);
        let mut json = stored.unwrap_or_else(|| json!({"message": message}));
        json["topic"] = self.name.expose_secret().into();
        json.to_string()
    }
}

/// The request's body, without the topic. The text has at most 4096 bytes.
#[must_use]
pub fn body(message: &Message) -> String {
    let written = text(message);
    let mut longest = MAX_MESSAGE_BYTES;
    loop {
        let body = push(message, &text::lines(&written, longest)).to_string();
        // Escaping at most doubles it, so this ends.
        if body.len() <= MAX_JSON_BYTES || longest < 64 {
            return body;
        }
        longest = longest * 3 / 4;
    }
}

fn push(message: &Message, text: &str) -> Value {
    let (priority, sign) = match message.tone() {
        Severity::Bad => (4, "red_circle"),
        Severity::Warning => (4, "warning"),
        Severity::Good => (3, "green_circle"),
        Severity::Plain => (2, "large_blue_circle"),
    };
    let mut tags = vec![sign, message.kind];
    tags.extend(message.test.then_some("test"));
    let mut push = json!({
        "title": title(&message.subject),
        "message": text,
        "priority": priority,
        "tags": tags,
        "markdown": false,
    });
    if let Some(item) = message.single() {
        let links = [("Open in Partner Center", &item.link), (item.page_name(), &item.page)];
        let links = links.into_iter().filter_map(|(label, url)| Some((label, url.as_ref()?)));
        let links: Vec<_> = links.filter(|(_, url)| url.len() <= MAX_URL_BYTES).collect();
        if let Some((_, first)) = links.first() {
            push["click"] = first.as_str().into();
            push["actions"] =
                links.iter().map(|(label, url)| json!({"action": "view", "label": label, "url": url})).collect();
        }
    }
    push
}

/// The server decodes encoded words (RFC 2047) in a title, also in one that came as JSON; a name that is one stays as it
/// is.
fn title(subject: &str) -> String {
    let title = text::line(subject, MAX_TITLE_BYTES);
    if title.contains("=?") { markup::encoded_words(&title).join(" ") } else { title }
}

/// The text for a phone: the headline first, and no more than needed to decide what to do.
fn text(message: &Message) -> String {
    let mut lines: Vec<String> = Vec::new();
    if message.test {
        lines.push("TEST. Nothing has happened.".to_owned());
    }
    lines.extend(message.note.clone());
    // So that a full digest fits in. A summary has more lines, without links.
    let of_item = MAX_MESSAGE_BYTES / message.items.len().max(MAX_EVENTS as usize) - 8;
    let has_links = message.items.len() <= MAX_EVENTS as usize;
    match message.single() {
        Some(item) => single(item, &mut lines),
        None => lines.extend(message.items.iter().map(|item| {
            let page = item.customer_page(MAX_PAGE_BYTES).filter(|_| has_links);
            let page = page.map(|page| format!("\n{page}")).unwrap_or_default();
            let longest = of_item - page.len();
            text::line(&format!("{}: {}", item.label, item_line(item)), longest) + &page
        })),
    }
    // ntfy shows an empty text as "triggered".
    Some(lines.join("\n")).filter(|text| !text.trim().is_empty()).unwrap_or_else(|| message.subject.clone())
}

fn single(item: &Item, lines: &mut Vec<String>) {
    lines.extend(Some(item.about.clone()).filter(|about| !about.is_empty()));
    lines.extend(item.reason.as_ref().map(|reason| format!("Microsoft's reason: {reason}")));
    lines.push(item.what.clone());
    if !item.steps.is_empty() {
        lines.push(String::new());
        lines.extend(numbered(&item.steps));
    }
    lines.push(String::new());
    lines.extend(item.facts.iter().map(Fact::to_string));
}

/// The outcome of a response; `None` if the status alone decides. 413: the message is too large; 429 and 507: later.
#[must_use]
pub fn classify_response(status: StatusCode, answer: &str) -> Option<Outcome> {
    match status {
        StatusCode::OK if !answer.trim_start().starts_with('<') => Some(Outcome::Accepted),
        // A page, or any other 2xx, is not from ntfy.
        status if status.is_success() => Some(Outcome::Retry { after: None }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(Outcome::AuthRejected),
        _ => None,
    }
}
