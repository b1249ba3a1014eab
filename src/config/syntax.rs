//! What is wrong with a file that is not TOML.

use toml::de::DeTable;

use super::Problem;
use super::places::Places;

/// More mistakes than these are mostly consequences of the first.
const MAX_PROBLEMS: usize = 5;

/// The mistakes, each with its line and a mark below the place.
pub(super) fn problems(text: &str) -> Vec<Problem> {
    let (_, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<_> = errors.iter().map(|error| problem(text, error)).collect();
    problems.dedup_by_key(|problem| problem.line);
    problems.truncate(MAX_PROBLEMS);
    problems
}

fn problem(text: &str, error: &toml::de::Error) -> Problem {
    let offset = error.span().map_or(0, |span| span.start);
    let before = text.get(..offset).unwrap_or_default();
    let (number, start) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |at| at + 1));
    let line = text[start..].lines().next().unwrap_or_default();
    let (shown, column) = (without_value(line), text[start..offset].chars().count());
    let excerpt = format!("\n{number:>6} | {shown}\n       | {:column$}^", "");
    Problem {
        line: Some(number),
        place: format!("column {}", column + 1),
        excerpt,
        ..Problem::new(&Places::default(), String::new(), error.message().to_owned())
    }
}

/// The line with a dot for each character that may belong to a secret: all but a header, and a key of ours.
fn without_value(line: &str) -> String {
    let key = match line.split_once('=') {
        _ if line.trim_start().starts_with('[') => line.len(),
        Some((key, _)) if key.trim().chars().all(|c| c.is_ascii_lowercase() || c == '_') => key.len() + 1,
        _ => 0,
    };
    let hidden = line[key..]
        .chars()
        .map(|c| if c.is_whitespace() || matches!(c, '"' | '\'' | '[' | ']' | '#') { c } else { '·' });
    line[..key].chars().chain(hidden).collect()
}
