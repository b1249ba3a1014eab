//! Makes text from outside (customers' names, servers' replies) harmless before a person, a header or a terminal gets
//! it. Programs (the webhook's JSON) get the text unchanged.

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

fn is_line_break(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_harmful(c: char) -> bool {
    // Direction marks, embeddings, overrides and isolates: "gnp.exe" can be made to read "exe.png".
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}');
    // Soft hyphen, fillers, zero width space, word joiner, byte order mark, annotations, tags. The zero width
    // (non-)joiners stay: Persian and Indic names need them.
    let hides = matches!(c, '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}')
        || matches!(c, '\u{3164}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || turns || hides
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

#[cfg(test)]
mod tests {
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

    proptest::proptest! {
        #[test]
        fn any_text_ends_as_one_line_without_controls(text: String) {
            let clean = line(&text, 80);
            proptest::prop_assert!(clean.len() <= 80 && !clean.chars().any(|c| c.is_control() || is_line_break(c)));
        }
    }
}
