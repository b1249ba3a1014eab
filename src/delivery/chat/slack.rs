//! Slack: Block Kit, posted to an app's incoming webhook.
//!
//! Text from outside is put into `plain_text`, for which Slack knows no formatting, and `&`, `<` and `>` are escaped as
//! Slack requires: it interprets `<!channel>` and `<@U…>` in any text. `mrkdwn` holds only our own words and links.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{ChatService, item_line};
use crate::delivery::Outcome;
use crate::delivery::message::digest::{count, sections};
use crate::delivery::message::{Fact, Item, Message, Severity, numbered};
use crate::text;

/// An app's incoming webhook.
pub const SERVICE: ChatService = ChatService {
    name: "slack",
    description: "message in a Slack channel, by",
    max_events: MAX_EVENTS,
    body,
    classify_response,
};

pub const MAX_EVENTS: u32 = 40;

/// Slack's limits, in characters. Counted after escaping, so they hold however Slack counts.
const MAX_HEADER: usize = 150;
const MAX_TEXT: usize = 3000;
const MAX_FIELD: usize = 2000;
/// The most blocks for a digest's lines; Slack allows 50 in all.
const MAX_LINE_BLOCKS: usize = 45; // besides a header, a note, and that it is a test
/// For a link below a line, of which there may be 40.
const MAX_LINE_LINK: usize = 400;
/// The most fields of a section.
const MAX_FIELDS: usize = 10;
/// The most facts of a section: Slack allows ten fields, two per fact.
const MAX_FACTS: usize = 5;

/// The request's body, within the limits, whatever the message says.
#[must_use]
pub fn body(message: &Message) -> String {
    let mut blocks = message.single().map_or_else(|| digest(message), single);
    if let Some(note) = &message.note {
        blocks.insert(0, section(&plain(note, MAX_TEXT)));
    }
    if message.test {
        blocks.insert(0, section(&ours("*TEST.* Nothing has happened.")));
    }
    json!({
        "text": escaped(&message.subject, 300), // what a notification shows
        "blocks": blocks,
        "mrkdwn": false,
        "parse": "none",
        "link_names": false,
        "unfurl_links": false,
        "unfurl_media": false,
    })
    .to_string()
}

fn single(item: &Item) -> Vec<Value> {
    let mut blocks = vec![header(&format!("{} {}: {}", sign(item.tone), item.label, item.title))];
    if !item.about.is_empty() {
        blocks.push(section(&plain(&item.about, MAX_TEXT)));
    }
    if let Some(reason) = &item.reason {
        blocks.push(
            json!({"type": "section", "text": ours("*Microsoft's reason*"), "fields": [plain(reason, MAX_FIELD)]}),
        );
    }
    blocks.push(section(&plain(&item.what, MAX_TEXT)));
    // Events can carry any number of figures.
    for facts in item.facts.chunks(MAX_FACTS).take(4) {
        let pair = |Fact { name, value }: &Fact| [label(name), plain(value, MAX_FIELD)];
        let fields: Vec<_> = facts.iter().flat_map(pair).collect();
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    if !item.steps.is_empty() {
        let steps: Vec<_> = numbered(&item.steps).collect();
        blocks.push(section(&ours("*What to do next*")));
        blocks.push(section(&plain(&steps.join("\n"), MAX_TEXT)));
    }
    for (url, words) in [(&item.link, "Open in Partner Center"), (&item.page, item.page_name())] {
        blocks.extend(url.as_ref().and_then(|url| Some(section(&linked(url, words, MAX_FIELD)?))));
    }
    let small: Vec<_> = item.small.iter().take(10).map(|fact| plain(&fact.to_string(), 300)).collect();
    if !small.is_empty() {
        blocks.push(json!({"type": "context", "elements": small}));
    }
    blocks
}

/// A heading for each label, below it a line per event and a block per line, or per several lines if there are more than
/// Slack allows blocks.
fn digest(message: &Message) -> Vec<Value> {
    let sections = sections(&message.items);
    let blocks = |each: usize| sections.iter().map(|(_, items)| 1 + items.len().div_ceil(each)).sum::<usize>();
    let each =
        (1..=message.items.len()).find(|each| blocks(*each) <= MAX_LINE_BLOCKS).unwrap_or(message.items.len().max(1));
    let mut blocks = vec![header(&message.subject)];
    for (label, items) in sections {
        let tone = items.first().map_or(Severity::Plain, |item| item.tone);
        blocks.push(section(&ours(&format!("{} *{label}* ({})", sign(tone), count(&items)))));
        blocks.extend(items.chunks(each).map(|items| {
            let cut: Vec<_> =
                items.iter().map(|item| text::line(&item_line(item), (MAX_TEXT / each).clamp(8, 600) - 1)).collect();
            let mut block = section(&plain(&cut.join("\n"), MAX_TEXT));
            let words = |n| if items.len() == 1 { "History".to_owned() } else { format!("History of line {n}") };
            let pages = (1..)
                .zip(items)
                .filter_map(|(n, item)| linked(item.customer_page(MAX_LINE_LINK)?, &words(n), MAX_LINE_LINK));
            let pages: Vec<_> = pages.take(MAX_FIELDS).collect();
            if !pages.is_empty() {
                block["fields"] = pages.into();
            }
            block
        }));
    }
    blocks
}

fn header(text: &str) -> Value {
    json!({"type": "header", "text": plain(text, MAX_HEADER)})
}

fn section(text: &Value) -> Value {
    json!({"type": "section", "text": text})
}

/// A link with our own words, if it has at most `max` characters. Nothing in the address ends it early.
fn linked(url: &str, words: &str, max: usize) -> Option<Value> {
    let link = format!("<{}|{words}>", escape(url).replace('|', "%7C"));
    (link.len() <= max).then(|| ours(&link))
}

/// Text without formatting.
fn plain(text: &str, max: usize) -> Value {
    // `emoji` would make pictures of `:words:` in a name.
    json!({"type": "plain_text", "text": escaped(text, max), "emoji": false})
}

/// Our own words, with formatting. `verbatim`: Slack does not look for names and addresses in it.
fn ours(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// The name of a fact, bold beside its plain value. Names are our own; one that could be markup is not taken for it.
fn label(name: &str) -> Value {
    if name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '\'')) {
        ours(&format!("*{name}*"))
    } else {
        plain(name, MAX_FIELD)
    }
}

/// At most `max` characters, and at least one: Slack rejects an empty text.
fn escaped(text: &str, max: usize) -> String {
    let mut longest = max;
    loop {
        let escaped = escape(&text::lines(text, longest));
        if escaped.is_empty() {
            return "–".to_owned();
        }
        if escaped.chars().count() <= max || longest < 8 {
            return escaped;
        }
        longest = longest * 3 / 4;
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn sign(tone: Severity) -> char {
    match tone {
        Severity::Bad => '🔴',
        Severity::Warning => '🟠',
        Severity::Good => '🟢',
        Severity::Plain => '🔵',
    }
}

/// The outcome of a response; `None` if the status alone decides. Slack has accepted a message if the body is `ok`.
#[must_use]
pub fn classify_response(status: StatusCode, body: &str) -> Option<Outcome> {
    /// Slack's errors for a message that it will never accept.
    const MALFORMED: [&str; 9] = [
        "invalid_payload",
        "invalid_blocks", // also invalid_blocks_format
        "invalid_attachments",
        "too_many_attachments",
        "too_many_blocks",
        "msg_too_long",
        "msg_blocks_too_long",
        "no_text",
        "missing_text_or_fallback_or_attachments",
    ];
    let body = body.trim();
    match status {
        StatusCode::OK if body == "ok" => Some(Outcome::Accepted),
        StatusCode::OK | StatusCode::BAD_REQUEST if MALFORMED.iter().any(|word| body.starts_with(word)) => {
            Some(Outcome::Refused)
        }
        status if status.is_success() => Some(Outcome::Retry { after: None }),
        // The webhook or its channel was removed, archived or restricted: an endpoint failure that can be undone.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Some(Outcome::AuthRejected),
        StatusCode::GONE if body.starts_with("channel_is_archived") => Some(Outcome::AuthRejected),
        _ => None,
    }
}
