//! What is wrong with a file that is not TOML.

use toml::de::{DeTable, Error};

use super::Problem;
use super::places::Places;

/// The parser's words, and ours.
const MESSAGES: [(&str, &str); 6] = [
    ("string values must be quoted", "a text needs quotes, as in name = \"emea\""),
    ("invalid basic string", "the text has no closing quote"),
    ("key with no value", "a key is followed by = and its value"),
    ("unclosed table", "the header has no closing bracket"),
    ("missing comma between array elements", "a list lacks a comma, or its closing bracket"),
    ("duplicate key", "stands twice in its section"),
];

/// The first mistake, with its line and a mark below it. Others may be its consequences.
pub(super) fn problem(text: &str) -> Problem {
    let (_, errors) = DeTable::parse_recoverable(text);
    let offset = errors.first().and_then(Error::span).map_or(0, |span| span.start);
    let before = text.get(..offset).unwrap_or_default();
    let (number, start) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |at| at + 1));
    let line = text[start..].lines().next().unwrap_or_default();
    let shown = without_value(line);
    let column = text[start..offset].chars().count().min(shown.chars().count());
    let message = errors.first().map_or("is no TOML", Error::message);
    let message = if message == "duplicate key" && line.trim_start().starts_with("[[") {
        "stands above with one pair of brackets; each of several sections has two"
    } else {
        MESSAGES.iter().find(|(parsers, _)| message.starts_with(parsers)).map_or(message, |(_, ours)| ours)
    };
    Problem {
        line: Some(number),
        place: format!("column {}", column + 1),
        excerpt: format!("\n{number:>6} | {shown}\n       | {:column$}^", ""),
        ..Problem::new(&Places::default(), String::new(), message.to_owned())
    }
}

/// The line without its comment, and with a dot for each character that may belong to a secret: all but a header, and a
/// key of ours.
fn without_value(line: &str) -> String {
    let line = line.split(" #").next().unwrap_or_default().trim_end();
    let key = match line.split_once('=') {
        _ if line.trim_start().starts_with('[') => line.len(),
        Some((key, _)) if key.trim().chars().all(|c| c.is_ascii_lowercase() || c == '_') => key.len() + 1,
        _ => 0,
    };
    let is_shown = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '[' | ']' | ',');
    let hidden = line[key..].chars().map(|c| if is_shown(c) { c } else { '·' });
    line[..key].chars().chain(hidden).collect()
}
