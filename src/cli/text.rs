//! Text from outside on its way to a terminal: customers choose their names, and servers their answers.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character could do more than be seen: move the cursor, begin an escape sequence, turn the reading
/// direction so that other text on the line is shown as something else, or hide.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line that is safe on a terminal: white space becomes a blank, whatever else acts becomes U+FFFD, so that it is
/// seen that something was there.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let harmless = |c: char| match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        c if acts(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    Cow::Owned(text.chars().map(harmless).collect())
}

/// The same for a text of several lines.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| line.replace('\t', "    ")).collect();
    lines.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n")
}

/// JSON that says the same, with such characters written as escapes: somebody will look at it on a terminal.
///
/// Takes what a JSON writer made on one line or indented; outside of strings it holds no such character but line feeds.
#[must_use]
pub fn inert_json(json: &str) -> String {
    let mut inert = String::with_capacity(json.len());
    for c in json.chars() {
        if acts(c) && c != '\n' {
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
            prop_assert!(!inert.contains(acts));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&inert).unwrap(), vec![name]);
        }
    }
}
