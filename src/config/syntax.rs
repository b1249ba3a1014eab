//! What is wrong with a file that is not TOML.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::Problem;
use super::places::Places;
use crate::text;

/// How a message of the parser begins, and ours.
const MESSAGES: [(&str, &str); 13] = [
    ("invalid basic string, expected `\"`", "the text has no closing quote"),
    ("invalid literal string, expected `'`", "the text has no closing quote"),
    ("missing escaped value", "a backslash begins a special character: write \\\\, or put the text in single quotes"),
    ("unexpected key or value", "the value ends before this: delete what follows it, or put the whole value in quotes"),
    ("extra `=`", "one = is enough"),
    ("extra comma in array", "the list has a comma too many"),
    ("invalid boolean", TRUE_OR_FALSE),
    ("unexpected leading zero", "a number cannot begin with 0"),
    ("carriage return", "the file ends its lines with a carriage return alone: save it with LF or CRLF line ends"),
    ("cannot extend value of type", "the name stands above already, with one value and no section below it"),
    ("unclosed inline table", "the braces are not closed"),
    ("missing comma between key-value pairs", "the braces lack a comma, or are not closed"),
    ("invalid key-value pair", "this is not a [section], nor a key with = and its value"),
];
const TRUE_OR_FALSE: &str = "write true or false: small letters, no quotes";
const LIST: &str = "the list lacks a comma, or its closing bracket";

/// The first mistake, with its line and a mark below it. Others may be its consequences.
pub(super) fn problem(text: &str) -> Problem {
    let (_, errors) = DeTable::parse_recoverable(text);
    let found = errors.first().and_then(Error::span).map_or(0, |span| span.start);
    let offset = unclosed_list(text, found, errors.first()).unwrap_or(found);
    let span = line_around(text, offset);
    let line = &text[span.clone()];
    let number = number_of(text, offset);
    let shown = without_value(line);
    let column = text[span.start..offset].chars().count().min(shown.chars().count());
    let message = wording(errors.first().map_or("", Error::message), text, &span, offset);
    Problem {
        line: Some(number),
        place: format!("column {}", column + 1),
        excerpt: format!("\n{number:>6} | {shown}\n       | {:column$}^", ""),
        ..Problem::new(&Places::default(), String::new(), message)
    }
}

fn number_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or_default().matches('\n').count() + 1
}

/// The line around an offset, without its end. A carriage return ends it as well: a terminal would obey it.
fn line_around(text: &str, offset: usize) -> Range<usize> {
    let is_end = |c| matches!(c, '\n' | '\r');
    let start = text[..offset].rfind(is_end).map_or(0, |at| at + 1);
    start..text[offset..].find(is_end).map_or(text.len(), |end| offset + end)
}

/// Where a list begins that is not closed in its line: the parser notices it lines below.
fn unclosed_list(text: &str, offset: usize, error: Option<&Error>) -> Option<usize> {
    let message = error?.message();
    if !message.starts_with("missing comma between array") && !message.starts_with("unclosed array, ") {
        return None;
    }
    let line = line_around(text, offset);
    let begins = |line: &str| {
        !line.trim_start().starts_with('#')
            && line.split_once('=').is_some_and(|(_, value)| value.trim_start().starts_with('['))
    };
    if begins(&text[line.clone()]) {
        return None;
    }
    let mut end = line.start;
    while end > 0 {
        let above = line_around(text, end - 1);
        if begins(&text[above.clone()]) {
            return Some(above.start + text[above].find('[')?);
        }
        end = above.start;
    }
    None
}

/// What is wrong, in words that need no knowledge of the parser. No value is repeated.
fn wording(message: &str, text: &str, span: &Range<usize>, offset: usize) -> String {
    let line = &text[span.clone()];
    let (before, rest) = (&text[span.start..offset], &text[offset..span.end]);
    if let Some(hidden) = before.chars().next_back().into_iter().chain(rest.chars().next()).find(|c| is_hidden(*c)) {
        return format!("the character U+{:04X} is not visible: delete it, or write a plain blank", u32::from(hidden));
    }
    if rest.starts_with(['“', '”', '„', '‘', '’', '«', '»']) {
        return "these are typographic quotes: write plain ones (\")".to_owned();
    }
    if message.starts_with("duplicate key") {
        return twice(text, span);
    }
    if line.trim_start().starts_with('[') && message.starts_with("unclosed") {
        return match (line.contains(']'), line.trim_start().starts_with("[[")) {
            (true, false) => "the name of a section has no blanks, unless it is in quotes".to_owned(),
            (_, true) => "the header needs two closing brackets".to_owned(),
            (false, false) => "the header has no closing bracket".to_owned(),
        };
    }
    if message.starts_with("missing comma between array") || message.starts_with("unclosed array") {
        return LIST.to_owned();
    }
    if message.starts_with("key with no value") {
        return without_equals_sign(line).to_owned();
    }
    if before.trim_end().ends_with("=>") {
        return "write = instead of =>".to_owned();
    }
    if line.trim_start().starts_with('[') && message.starts_with("unexpected key or value") {
        return "the header ends before this: delete what follows it".to_owned();
    }
    let value = rest.split('#').next().unwrap_or_default().trim();
    let unquoted = [
        "string values must be quoted",
        "invalid float",
        "invalid integer",
        "invalid datetime",
        "missing opening quote",
    ];
    if unquoted.iter().any(|known| message.starts_with(known)) {
        return match value.to_lowercase().as_str() {
            "" => "no value follows the =".to_owned(),
            "true" | "false" | "yes" | "no" | "on" | "off" => TRUE_OR_FALSE.to_owned(),
            _ => "text needs quotes, as in name = \"emea\"".to_owned(),
        };
    }
    let ours = MESSAGES.iter().find(|(parsers, _)| message.starts_with(parsers)).map(|(_, ours)| (*ours).to_owned());
    ours.unwrap_or_else(|| format!("this is not TOML: {message}"))
}

/// Looks like a blank, or like nothing.
fn is_hidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
        || (c.is_whitespace() && !c.is_ascii())
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}')
}

fn without_equals_sign(line: &str) -> &'static str {
    let line = line.trim_start();
    let first = line.split_whitespace().next().unwrap_or_default();
    if line.starts_with([';']) || line.starts_with("//") || (line.starts_with("--") && !line.starts_with("---")) {
        "a comment begins with #"
    } else if first.contains(':') || line.starts_with("- ") || line.starts_with("---") {
        "write key = value: the file is TOML, not YAML"
    } else {
        "a key is followed by = and its value, and a section's name stands in brackets"
    }
}

/// A key or a section that stands twice: names the line of the first.
fn twice(text: &str, span: &Range<usize>) -> String {
    let head = |line: &str| {
        let line = line.trim_start();
        let end = if line.starts_with('[') { line.find(']') } else { line.find('=') };
        end.map(|end| line[..end].trim_start_matches('[').trim().to_owned())
    };
    let is_header = text[span.clone()].trim_start().starts_with('[');
    let wanted = head(&text[span.clone()]);
    let above = text[..span.start].lines().enumerate().collect::<Vec<_>>();
    let first = above.iter().rev().take_while(|(_, line)| is_header || !line.trim_start().starts_with('['));
    let first = first.filter(|(_, line)| wanted.is_some() && head(line) == wanted).last().map(|(n, _)| n + 1);
    let place = first.map_or_else(|| "above".to_owned(), |line| format!("in line {line}"));
    match (is_header, text[span.clone()].trim_start().starts_with("[[")) {
        (true, true) => format!("the header {place} has one pair of brackets: write two, as here"),
        (true, false)
            if first.is_some_and(|n| above.get(n - 1).is_some_and(|(_, l)| l.trim_start().starts_with("[["))) =>
        {
            format!("the header {place} has two pairs of brackets: write two here as well")
        }
        (true, false) => format!("the section stands {place} already: put the keys of both below one header"),
        (false, _) => format!("the key stands {place} already: delete one, or put the header of a new section above"),
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
    // A control character acts on a terminal, and in a log.
    text::terminal(&line[..key].chars().chain(hidden).collect::<String>()).into_owned()
}
