//! Makes text from outside (customers' names, servers' replies) harmless for a person, a header or a terminal. Programs
//! (the webhook's JSON) get the text unchanged.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// True if a character does more than show: it moves the cursor, starts an escape sequence, turns the reading direction so
/// that a line shows something else ("gnp.exe" can be made to read "exe.png"), or hides. The zero-width joiner and
/// non-joiner are not among them: Persian and Indic names need them.
fn is_harmful(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}');
    // Soft hyphen, fillers, zero-width space, word joiner, byte order mark, annotations, what is no character, tags.
    let hides = matches!(c, '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}')
        || matches!(c, '\u{3164}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || is_line_break(c) || turns || hides
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// One line of at most `max` bytes: no line breaks, no control or escape characters, nothing invisible that changes the
/// writing direction or hides text. Longer text ends in `…`.
#[must_use]
pub fn line(text: &str, max: usize) -> String {
    let visible: String =
        text.chars().map(|c| if is_line_break(c) { ' ' } else { c }).filter(|c| !is_harmful(*c)).collect();
    let words: Vec<_> = visible.split_whitespace().collect();
    shorten(words.join(" "), max)
}

/// Like [`line()`], but line breaks stay.
#[must_use]
pub fn lines(text: &str, max: usize) -> String {
    let clean: Vec<_> = text.lines().map(|text| line(text, max)).collect();
    shorten(clean.join("\n").trim().to_owned(), max)
}

/// As [`line()`], of at most `max_chars` characters, and bounded work however long the text is. Control characters become
/// blanks.
#[must_use]
pub fn short_line(text: &str, max_chars: usize) -> String {
    let blank = |c: char| if c.is_control() || is_line_break(c) { ' ' } else { c };
    let visible = text.chars().map(blank).filter(|c| !is_harmful(*c));
    // Four characters each leave room for blanks.
    let bounded: String = visible.take(max_chars.saturating_mul(4)).collect();
    let line = bounded.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= max_chars {
        return line;
    }
    line.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect()
}

fn shorten(mut text: String, max: usize) -> String {
    const MARK: char = '…';
    if text.len() > max {
        let end = (0..=max.saturating_sub(MARK.len_utf8())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.truncate(text.trim_end().len());
        text.push(MARK);
    }
    text
}

/// Returns one line that is safe on a terminal: white space becomes a blank, other such characters a visible U+FFFD.
#[must_use]
pub fn terminal(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let harmless = |c: char| match c {
        c if is_line_break(c) => ' ',
        c if is_harmful(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    Cow::Owned(text.chars().map(harmless).collect())
}

/// As [`terminal`], for several lines.
#[must_use]
pub fn terminal_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| line.replace('\t', "    ")).collect();
    lines.iter().map(|line| terminal(line)).collect::<Vec<_>>().join("\n")
}

/// Returns equivalent JSON with such characters escaped, for a terminal.
///
/// Takes a JSON writer's output, on one line or indented; outside of strings its only such character is the line feed.
#[must_use]
pub fn inert_json(json: &str) -> String {
    let mut inert = String::with_capacity(json.len());
    for c in json.chars() {
        if is_harmful(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(inert, "\\u{unit:04x}");
            }
        } else {
            inert.push(c);
        }
    }
    inert
}

/// Formats a duration as in the configuration, in the largest unit that fits.
#[must_use]
pub fn short_duration(time: Duration) -> String {
    match time.as_secs() {
        seconds if time.subsec_nanos() != 0 || seconds == 0 => {
            humantime::format_duration(time).to_string().replace(' ', "")
        }
        seconds if seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        seconds if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Formats a duration in its two largest units: `12d 4h`, `3m 20s`, `0s`.
#[must_use]
pub fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let units = [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = units.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let text = units[first..].iter().take(2).filter(|(n, _)| *n > 0);
    let text: Vec<_> = text.map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".into() } else { text.join(" ") }
}

/// Formats an error and its causes on one line. Some libraries repeat the cause in their own text: it is shown once.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_breaks_out_of_a_line_becomes_a_space_and_what_hides_is_gone() {
        assert_eq!(line("Contoso\r\nBcc: evil@example.com", 100), "Contoso Bcc: evil@example.com");
        assert_eq!(line("\u{1b}[31mred\u{9b}0m \u{7}bell\0", 100), "[31mred0m bell");
        assert_eq!(line("safe\u{202e}gnp.exe\u{2066}\u{200b}\u{feff}", 100), "safegnp.exe");
        assert_eq!(line("  École\u{2028}\u{85} Zürich\t大学 ", 100), "École Zürich 大学");
        assert_eq!(line("می\u{200c}خواهم", 100), "می\u{200c}خواهم");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        for max in 0..12 {
            let cut = line("ääääää", max);
            assert!(cut.len() <= max.max(3), "{cut:?} is longer than {max}");
        }
        assert_eq!(line("ääääää", 12), "ääääää");
        assert_eq!(line("one two three", 8), "one t…");
    }

    #[test]
    fn several_lines_stay_several() {
        assert_eq!(lines("a\x1b\r\nb\n\nc\n", 100), "a\nb\n\nc");
    }

    proptest! {
        #[test]
        fn any_text_ends_as_one_line_without_controls(text: String) {
            let clean = line(&text, 80);
            prop_assert!(clean.len() <= 80 && !clean.chars().any(|c| c.is_control() || is_line_break(c)));
        }
    }

    #[test]
    fn nothing_that_a_server_writes_can_steer_a_terminal_or_forge_a_line() {
        assert_eq!(
            short_line("a\x1b[31mred\r\nerror: forged\u{202E}\u{200B}\u{E0041}\u{61C} \t b", 300),
            "a [31mred error: forged b"
        );
        assert_eq!(short_line("ééééé", 3), "éé…");
        // Names are stored through this: what Persian and Indic ones need is kept.
        assert_eq!(short_line("می\u{200c}خواهم", 100), "می\u{200c}خواهم");
        assert_eq!(terminal("می\u{200c}خواهم"), "می\u{200c}خواهم");
        assert_eq!(short_line("abc", 3), "abc");
    }

    #[test]
    fn a_name_cannot_act_on_the_terminal() {
        assert_eq!(terminal("École Élémentaire 学校"), "École Élémentaire 学校");
        assert_eq!(terminal("a\u{1b}]0;title\u{7}b"), "a\u{fffd}]0;title\u{fffd}b");
        assert_eq!(terminal("two\r\nlines\tand\u{9b}31m"), "two  lines and\u{fffd}31m");
        assert_eq!(terminal("evil\u{202e}txt\u{2066}.\u{200f}"), "evil\u{fffd}txt\u{fffd}.\u{fffd}");
        assert_eq!(terminal("tag\u{e0041}"), "tag\u{fffd}");
        assert_eq!(terminal_lines("a\tb\nc\u{1b}"), "a    b\nc\u{fffd}");
    }

    proptest! {
        #[test]
        fn json_keeps_its_meaning_and_nothing_in_it_acts(name in any::<String>()) {
            let name = format!("{name}\u{1b}\u{9b}\u{202e}\u{e0041}");
            let inert = inert_json(&serde_json::json!([name]).to_string());
            prop_assert!(!inert.contains(is_harmful));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&inert).unwrap(), vec![name]);
        }
    }

    #[test]
    fn a_cause_that_the_error_repeats_is_shown_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open: file is missing")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("file is missing")]
        struct Inner;
        assert_eq!(error_chain(&Outer(Inner)), "cannot open: file is missing");
    }

    #[test]
    fn spans_have_two_units() {
        let text = |seconds| span(Duration::from_secs(seconds));
        assert_eq!([text(0), text(59), text(200), text(3600)], ["0s", "59s", "3m 20s", "1h"]);
        assert_eq!([text(86400 * 12 + 4 * 3600 + 59), text(86400 + 60)], ["12d 4h", "1d"]);
    }
}
