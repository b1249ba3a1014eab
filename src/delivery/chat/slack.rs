//! Slack: Block Kit, posted to an app's incoming webhook.
//!
//! Text from outside stands in `plain_text`, for which Slack knows no formatting, and `&`, `<` and `>` are escaped as
//! Slack asks for: it reads `<!channel>` and `<@U…>` in any text. `mrkdwn` holds only our own words and links.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::item_line;
use crate::delivery::Outcome;
use crate::delivery::message::{Fact, Item, Message, Severity, sanitize};

pub const MOST: u32 = 40;

/// Slack's limits, in characters. Ours are counted after escaping, so they hold however Slack counts.
const HEADER: usize = 150;
const TEXT: usize = 3000;
const FIELD: usize = 2000;
/// Blocks of a digest that hold its lines; Slack takes 50 in all.
const LINES: usize = 45; // and a header, a note, and that it is a test
/// Fields of a section: Slack takes ten, which is five names with their values.
const FACTS: usize = 5;

/// The request's body, within the limits, whatever the message says.
#[must_use]
pub fn body(message: &Message) -> String {
    let mut blocks = match message.items.as_slice() {
        [item] => single(item),
        _ => digest(message),
    };
    if let Some(note) = &message.note {
        blocks.insert(0, section(&plain(note, TEXT)));
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
        blocks.push(section(&plain(&item.about, TEXT)));
    }
    if let Some(reason) = &item.reason {
        blocks.push(json!({"type": "section", "text": ours("*Microsoft's reason*"), "fields": [plain(reason, FIELD)]}));
    }
    blocks.push(section(&plain(&item.what, TEXT)));
    // Events can carry any number of figures.
    for facts in item.facts.chunks(FACTS).take(4) {
        let pair = |Fact { name, value }: &Fact| [plain(name, FIELD), plain(value, FIELD)];
        let fields: Vec<_> = facts.iter().flat_map(pair).collect();
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    if !item.steps.is_empty() {
        let steps: Vec<_> = item.steps.iter().enumerate().map(|(at, step)| format!("{}. {step}", at + 1)).collect();
        blocks.push(section(&ours("*What to do next*")));
        blocks.push(section(&plain(&steps.join("\n"), TEXT)));
    }
    // Its characters are letters, digits and `:/.-_~%`: nothing ends the link early.
    if let Some(link) = item.link.as_ref().filter(|link| link.len() <= 2000) {
        blocks.push(section(&ours(&format!("<{link}|Open in Partner Center>"))));
    }
    let small: Vec<_> =
        item.small.iter().take(10).map(|Fact { name, value }| plain(&format!("{name}: {value}"), 300)).collect();
    if !small.is_empty() {
        blocks.push(json!({"type": "context", "elements": small}));
    }
    blocks
}

/// A line for each event; a block for each line, or for several if there are more than Slack takes blocks.
fn digest(message: &Message) -> Vec<Value> {
    let lines: Vec<_> =
        message.items.iter().map(|item| format!("{} {}: {}", sign(item.tone), item.label, item_line(item))).collect();
    let each = lines.len().div_ceil(LINES).max(1);
    let mut blocks = vec![header(&message.subject)];
    blocks.extend(lines.chunks(each).map(|lines| {
        let cut: Vec<_> = lines.iter().map(|line| sanitize::line(line, (TEXT / each).min(600) - 1)).collect();
        section(&plain(&cut.join("\n"), TEXT))
    }));
    blocks
}

fn header(text: &str) -> Value {
    json!({"type": "header", "text": plain(text, HEADER)})
}

fn section(text: &Value) -> Value {
    json!({"type": "section", "text": text})
}

/// Text in which nothing is formatting.
fn plain(text: &str, most: usize) -> Value {
    // `emoji` would make pictures of `:words:` that somebody's name holds.
    json!({"type": "plain_text", "text": escaped(text, most), "emoji": false})
}

/// Our own words, with formatting. `verbatim`: no names and addresses are looked for in it.
fn ours(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// At most so many characters, and at least one: Slack refuses an empty text.
fn escaped(text: &str, most: usize) -> String {
    let mut longest = most;
    loop {
        let escaped = escape(&sanitize::lines(text, longest));
        if escaped.is_empty() {
            return "–".to_owned();
        }
        if escaped.chars().count() <= most || longest < 8 {
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

/// What an answer means, where its status alone does not say it: Slack has taken a message if it answers `ok`.
#[must_use]
pub fn classify_response(status: StatusCode, answer: &str) -> Option<Outcome> {
    /// Slack's words for a message that it will never take.
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
    let answer = answer.trim();
    match status {
        StatusCode::OK if answer == "ok" => Some(Outcome::Accepted),
        StatusCode::OK | StatusCode::BAD_REQUEST if MALFORMED.iter().any(|word| answer.starts_with(word)) => {
            Some(Outcome::Refused)
        }
        status if status.is_success() => Some(Outcome::Retry { after: None }),
        // The webhook or its channel was removed, archived or restricted: trouble of the endpoint, and over once
        // somebody undoes it.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Some(Outcome::AuthRejected),
        StatusCode::GONE if answer.starts_with("channel_is_archived") => Some(Outcome::AuthRejected),
        _ => None,
    }
}
