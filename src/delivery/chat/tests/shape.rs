//! Checks that a message has the shape that its service requires.

use serde_json::Value;

/// Every object in `value`, outermost first.
pub(super) fn objects(value: &Value) -> Vec<&serde_json::Map<String, Value>> {
    let (own, inner): (Option<_>, Vec<&Value>) = match value {
        Value::Object(object) => (Some(object), object.values().collect()),
        Value::Array(items) => (None, items.iter().collect()),
        _ => (None, Vec::new()),
    };
    own.into_iter().chain(inner.into_iter().flat_map(objects)).collect()
}

/// The rules of the Adaptive Cards 1.4 schema for the elements in use, written by hand, because the published schema
/// may not be copied: `type`, its required properties, and its optional ones.
const ELEMENTS: [(&str, &[&str], &[&str]); 6] = [
    ("AdaptiveCard", &["version", "body"], &["$schema", "fallbackText", "actions", "msteams"]),
    ("Container", &["items"], &["style", "bleed"]),
    ("RichTextBlock", &["inlines"], &["spacing"]),
    ("TextRun", &["text"], &["weight", "size", "color", "isSubtle", "selectAction"]),
    ("FactSet", &["facts"], &[]),
    ("Action.OpenUrl", &["url"], &["title"]),
];

pub(super) fn check_card(message: &Value) {
    assert_eq!(message["type"], "message");
    let attachment = &message["attachments"][0];
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(attachment["contentUrl"], Value::Null);
    assert_eq!(attachment["content"]["version"], "1.4");
    assert_eq!(attachment["content"]["msteams"]["width"], "Full");
    let one_of = |value: Option<&Value>, words: &[&str]| {
        assert!(value.is_none_or(|value| value.as_str().is_some_and(|text| words.contains(&text))), "{value:?}");
    };
    for object in objects(&attachment["content"]) {
        if object.contains_key("width") {
            assert_eq!(serde_json::to_value(object).unwrap(), serde_json::json!({"width": "Full"}), "Teams' own");
            continue;
        }
        let Some(kind) = object.get("type").and_then(Value::as_str) else {
            let keys: Vec<_> = object.keys().map(String::as_str).collect();
            assert_eq!(keys, ["title", "value"], "a fact");
            continue;
        };
        let (_, required, optional) = ELEMENTS.iter().find(|(name, ..)| *name == kind).expect(kind);
        assert!(required.iter().all(|key| object.contains_key(*key)), "{object:?}");
        assert!(
            object.keys().all(|key| key == "type" || required.contains(&&**key) || optional.contains(&&**key)),
            "{object:?}"
        );
        one_of(object.get("style"), &["default", "emphasis", "good", "attention", "warning", "accent"]);
        one_of(object.get("spacing"), &["Default", "None", "Small", "Medium", "Large", "ExtraLarge", "Padding"]);
        one_of(object.get("weight"), &["Default", "Lighter", "Bolder"]);
        one_of(object.get("size"), &["Default", "Small", "Medium", "Large", "ExtraLarge"]);
        one_of(object.get("color"), &["Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"]);
        for list in ["body", "items", "inlines", "facts", "actions"] {
            assert!(
                object.get(list).is_none_or(|list| list.as_array().is_some_and(|list| !list.is_empty())),
                "{object:?}"
            );
        }
        let url = object.get("url").and_then(Value::as_str);
        let ours = ["https://partner.microsoft.com/dashboard/", super::PUBLIC_URL];
        assert!(url.is_none_or(|url| ours.iter().any(|begin| url.starts_with(begin))), "{url:?}");
    }
}

/// Slack's documented limits and fields of the blocks in use.
pub(super) fn check_blocks(message: &Value) {
    let blocks = message["blocks"].as_array().unwrap();
    assert!((1..=50).contains(&blocks.len()), "{} blocks", blocks.len());
    assert!(message["text"].as_str().is_some_and(|text| (1..=40_000).contains(&text.len())));
    let within = |text: &Value, most: usize| {
        let written = text["text"].as_str().unwrap();
        assert!((1..=most).contains(&written.chars().count()), "{} characters of {most}: {text}", written.len());
        match text["type"].as_str() {
            Some("plain_text") => assert_eq!(text["emoji"], false, "{text}"),
            Some("mrkdwn") => assert_eq!(text["verbatim"], true, "{text}"),
            _ => panic!("{text}"),
        }
    };
    for block in blocks {
        let list = |key: &str| block[key].as_array().map(Vec::as_slice).unwrap_or_default();
        match block["type"].as_str() {
            Some("header") => {
                within(&block["text"], 150);
                assert_eq!(block["text"]["type"], "plain_text");
            }
            Some("section") => {
                assert!(block.get("text").is_some() || !list("fields").is_empty(), "{block}");
                if let Some(text) = block.get("text") {
                    within(text, 3000);
                }
                assert!(list("fields").len() <= 10, "{block}");
                for text in list("fields") {
                    within(text, 2000);
                }
            }
            Some("context") => {
                assert!((1..=10).contains(&list("elements").len()), "{block}");
                for text in list("elements") {
                    within(text, 2000);
                }
            }
            _ => panic!("{block}"),
        }
    }
}
