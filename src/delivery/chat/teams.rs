//! Microsoft Teams: an Adaptive Card for the Workflows template "Post to a channel when a webhook request is received".
//!
//! Text from outside is put into `TextRun`s, for which the schema knows no markup. Only facts are Markdown (Teams
//! documents a subset of `CommonMark`) and are escaped. Without `msteams.entities` nothing on a card can mention
//! anybody.

use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use super::{ChatService, item_line};
use crate::delivery::Outcome;
use crate::delivery::message::{Fact, Item, Message, Severity, markup};
use crate::text;

/// A Workflows webhook (Power Automate).
pub const SERVICE: ChatService = ChatService {
    name: "teams",
    description: "card in a Teams channel, by",
    max_events: MAX_EVENTS,
    body,
    classify_response,
};

pub const MAX_EVENTS: u32 = 40;

/// Teams rejects messages above 28 KB. The flow repacks the card, so this leaves a margin.
const MAX_BODY_BYTES: usize = 28_000;

/// Texts are cut to the first of these lengths, in bytes, with which the card fits; nearly always the first. The lines of
/// the last two have no link to the page.
const FORMS: [(usize, bool); 6] = [(4000, true), (1000, true), (300, true), (120, true), (120, false), (60, false)];
/// A longer address of the page is left out.
const MAX_PAGE_BYTES: usize = 2000;
/// The same in a line of a digest.
const MAX_LINK_OF_LINE: usize = 160;

/// The most facts and paragraphs: events can carry any number of figures.
const MAX_PIECES: usize = 20;

/// The request's body, at most 28 KB, whatever the message says.
#[must_use]
pub fn body(message: &Message) -> String {
    let bodies = FORMS.iter().map(|(longest, with_pages)| envelope(&card(message, *longest, *with_pages)));
    let fitting = bodies.into_iter().find(|body| body.len() <= MAX_BODY_BYTES);
    fitting.unwrap_or_else(|| envelope(&fallback_card(message)))
}

fn envelope(content: &Value) -> String {
    let contents = "application/vnd.microsoft.card.adaptive";
    let attachment = json!({"contentType": contents, "contentUrl": null, "content": content});
    json!({"type": "message", "attachments": [attachment]}).to_string()
}

fn card(message: &Message, longest: usize, with_pages: bool) -> Value {
    let mut actions = Vec::new();
    let mut body = match message.single() {
        Some(item) => {
            let page = item.page.as_ref().filter(|page| page.len() <= MAX_PAGE_BYTES);
            for (title, url) in [("Open in Partner Center", item.link.as_ref()), (item.page_name(), page)] {
                actions.extend(url.map(|url| json!({"type": "Action.OpenUrl", "title": title, "url": url})));
            }
            single(item, longest)
        }
        None => digest(message, longest, with_pages),
    };
    if let Some(note) = &message.note {
        body.insert(0, text(&text::line(note, longest), json!({"isSubtle": true})));
    }
    if message.test {
        body.insert(0, text("TEST. Nothing has happened.", json!({"weight": "Bolder", "color": "Accent"})));
    }
    let mut card = root(message, &body);
    if !actions.is_empty() {
        card["actions"] = Value::Array(actions);
    }
    card
}

fn root(message: &Message, body: &[Value]) -> Value {
    json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": text::line(&message.subject, 300),
        "body": body,
        "msteams": {"width": "Full"}, // else it is as narrow as on a phone
    })
}

fn single(item: &Item, longest: usize) -> Vec<Value> {
    let cut = |text: &str| text::line(text, longest);
    let mut head = vec![
        text(&cut(&item.label.to_string()), json!({"weight": "Bolder", "color": color(item.tone)})),
        text(&cut(&item.title), json!({"weight": "Bolder", "size": "Large"})),
    ];
    if !item.about.is_empty() {
        head.push(text(&cut(&item.about), json!({})));
    }
    let mut body = vec![container(style(item.tone), &head, true)];
    if let Some(reason) = &item.reason {
        let words = [
            text("Microsoft's reason", json!({"size": "Small", "isSubtle": true})),
            text(&cut(reason), json!({"weight": "Bolder", "size": "Medium"})),
        ];
        body.push(container("emphasis", &words, false));
    }
    body.extend(paragraphs(&text::lines(&item.what, longest)));
    body.extend(fact_set(&item.facts, longest));
    if !item.steps.is_empty() {
        body.push(spaced(text("What to do next", json!({"weight": "Bolder"})), "Medium"));
        let steps = item.steps.iter().enumerate().take(MAX_PIECES);
        body.extend(steps.map(|(index, step)| text(&format!("{}. {}", index + 1, cut(&step.to_string())), json!({}))));
    }
    let small: Vec<_> = item.small.iter().take(MAX_PIECES).map(Fact::to_string).collect();
    if !small.is_empty() {
        body.push(spaced(text(&cut(&small.join(" · ")), json!({"size": "Small", "isSubtle": true})), "Medium"));
    }
    body
}

/// One line per event.
fn digest(message: &Message, longest: usize, with_pages: bool) -> Vec<Value> {
    let items = &message.items;
    let head = text(&text::line(&message.subject, longest.min(300)), json!({"weight": "Bolder", "size": "Medium"}));
    let mut body = vec![container(style(message.tone()), &[head], true)];
    body.extend(items.iter().map(|item| {
        let label = json!({"type": "TextRun", "text": text::line(&item.label.to_string(), 60), "weight": "Bolder",
            "color": color(item.tone)});
        let mut line = json!({"type": "TextRun", "text": format!(" {}", text::line(&item_line(item), longest))});
        // The link contains the customer's id, which may be long.
        if let Some(url) = item.link.as_ref().filter(|url| url.len() <= MAX_LINK_OF_LINE) {
            line["selectAction"] = json!({"type": "Action.OpenUrl", "url": url});
        }
        let mut inlines = vec![label, line];
        if let Some(url) = item.customer_page(MAX_LINK_OF_LINE).filter(|_| with_pages) {
            inlines.push(json!({"type": "TextRun", "text": " · History", "isSubtle": true,
                "selectAction": {"type": "Action.OpenUrl", "url": url}}));
        }
        spaced(json!({"type": "RichTextBlock", "inlines": inlines}), "Small")
    }));
    body
}

/// The card when nothing else fits.
fn fallback_card(message: &Message) -> Value {
    let head = text(&text::line(&message.subject, 300), json!({"weight": "Bolder"}));
    let rest = format!("{} events, too many for a card: `vetwatch history` shows them.", message.items.len());
    root(message, &[head, text(&rest, json!({}))])
}

/// One run of text, without markup.
fn text(text: &str, style: Value) -> Value {
    let mut run = Map::from_iter([("type".to_owned(), "TextRun".into()), ("text".to_owned(), text.into())]);
    if let Value::Object(style) = style {
        run.extend(style);
    }
    json!({"type": "RichTextBlock", "inlines": [run]})
}

fn spaced(mut block: Value, spacing: &str) -> Value {
    block["spacing"] = spacing.into();
    block
}

fn container(style: &str, items: &[Value], bleed: bool) -> Value {
    json!({"type": "Container", "style": style, "bleed": bleed, "items": items})
}

fn paragraphs(lines: &str) -> Vec<Value> {
    let mut lines: Vec<String> = lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.len() > MAX_PIECES {
        let rest = lines.split_off(MAX_PIECES - 1);
        lines.push(rest.join(" "));
    }
    lines.iter().map(|line| spaced(text(line, json!({})), "Small")).collect()
}

fn fact_set(facts: &[Fact], longest: usize) -> Option<Value> {
    let written: Vec<_> = facts
        .iter()
        .take(MAX_PIECES)
        .map(|Fact { name, value }| {
            let cut = |text: &str| markdown(&text::line(text, longest.min(500)));
            json!({"title": cut(name), "value": cut(value)})
        })
        .collect();
    (!written.is_empty()).then(|| json!({"type": "FactSet", "facts": written}))
}

/// Escapes text for Teams. Braces too: `{{DATE(…)}}` is a function of Adaptive Cards.
fn markdown(text: &str) -> String {
    markup::markdown(text).replace('{', "\\{")
}

fn style(tone: Severity) -> &'static str {
    match tone {
        Severity::Bad => "attention",
        Severity::Warning => "warning",
        Severity::Good => "good",
        Severity::Plain => "accent",
    }
}

fn color(tone: Severity) -> &'static str {
    match tone {
        Severity::Bad => "Attention",
        Severity::Warning => "Warning",
        Severity::Good => "Good",
        Severity::Plain => "Accent",
    }
}

/// The outcome of a response; `None` if the status alone decides.
///
/// Workflows responds with 202 once it has started the flow, whose result is not known. The connectors that it replaces
/// respond with 200 even if Teams rejected the message, and say so in the body.
#[must_use]
pub fn classify_response(status: StatusCode, body: &str) -> Option<Outcome> {
    match status {
        StatusCode::OK => failed(body),
        StatusCode::ACCEPTED => Some(Outcome::Accepted),
        // Any other 2xx is from something between.
        status if status.is_success() => Some(Outcome::Retry { after: None }),
        // The link's signature is wrong or was replaced, or the flow was deleted: no message will get through.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Some(Outcome::AuthRejected),
        // The flow is switched off.
        StatusCode::BAD_REQUEST if body.contains("WorkflowTriggerIsNotEnabled") => Some(Outcome::AuthRejected),
        _ => None,
    }
}

/// The outcome of a 200 whose body reports a failure; `None` if it reports none.
fn failed(body: &str) -> Option<Outcome> {
    let retry = Some(Outcome::Retry { after: None });
    let lower = body.to_lowercase();
    if let Some((_, status)) = lower.split_once("returned http error ") {
        return if status.starts_with("413") { Some(Outcome::Refused) } else { retry };
    }
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let error = json.get("error").or_else(|| json.get("errors")).filter(|error| !error.is_null());
    if let Some(error) = error.map(|error| error.to_string().to_lowercase()) {
        let too_large = ["toolarge", "too large", "413"].iter().any(|word| error.contains(word));
        return if too_large { Some(Outcome::Refused) } else { retry };
    }
    // A page, such as the sign-in of a network between, or a connector's complaint.
    let phrases = ["message delivery failed", "bad request", "is required"];
    let is_page = lower.trim_start().starts_with('<');
    if is_page || phrases.iter().any(|phrase| lower.contains(phrase)) { retry } else { None }
}
