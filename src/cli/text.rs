//! Makes foreign text safe for a terminal: customers choose their names, and servers their responses.

use std::borrow::Cow;
use std::fmt::Write as _;

/// True if a character does more than show: it moves the cursor, starts an escape sequence, turns the reading direction
/// so that the line shows something else, or hides.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns one line that is safe on a terminal: white space becomes a blank, other such characters a visible U+FFFD.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let harmless = |c: char| match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        c if is_active(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    Cow::Owned(text.chars().map(harmless).collect())
}

/// As [`clean`], for several lines.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| line.replace('\t', "    ")).collect();
    lines.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n")
}

/// Returns equivalent JSON with such characters escaped, for a terminal.
///
/// Takes a JSON writer's output, on one line or indented; outside of strings its only such character is the line feed.
#[must_use]
pub fn inert_json(json: &str) -> String {
    let mut inert = String::with_capacity(json.len());
    for c in json.chars() {
        if is_active(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(inert, "\\u{unit:04x}");
            }
        } else {
            inert.push(c);
        }
    }
    inert
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_cannot_act_on_the_terminal() {
        assert_eq!(clean("École Élémentaire 学校"), "École Élémentaire 学校");
        assert_eq!(clean("a\u{1b}]0;title\u{7}b"), "a\u{fffd}]0;title\u{fffd}b");
        assert_eq!(clean("two\r\nlines\tand\u{9b}31m"), "two  lines and\u{fffd}31m");
        assert_eq!(clean("evil\u{202e}txt\u{2066}.\u{200f}"), "evil\u{fffd}txt\u{fffd}.\u{fffd}");
        assert_eq!(clean("tag\u{e0041}"), "tag\u{fffd}");
        assert_eq!(clean_lines("a\tb\nc\u{1b}"), "a    b\nc\u{fffd}");
    }

    proptest! {
        #[test]
        fn json_keeps_its_meaning_and_nothing_in_it_acts(name in any::<String>()) {
            let name = format!("{name}\u{1b}\u{9b}\u{202e}\u{e0041}");
            let inert = inert_json(&serde_json::json!([name]).to_string());
            prop_assert!(!inert.contains(is_active));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&inert).unwrap(), vec![name]);
        }
    }
}
