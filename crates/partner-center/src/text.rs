//! Cleans a server's text for logs, tables and people.

/// Returns at most `max_chars` characters in one line: no control characters, nothing that reverses the reading
/// direction or hides text, no runs of blanks. An ellipsis marks a cut.
pub(super) fn clean(text: &str, max_chars: usize) -> String {
    let visible = text.chars().filter(|c| !is_invisible(*c)).map(|c| if c.is_control() { ' ' } else { c });
    // Bound the work: four characters each leave room for blanks.
    let bounded: String = visible.take(max_chars.saturating_mul(4)).collect();
    let line = bounded.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= max_chars {
        return line;
    }
    line.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect()
}

/// Characters without a width, those that override the writing direction, and invisible ones.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_server_writes_can_steer_a_terminal_or_forge_a_line() {
        assert_eq!(
            clean("a\x1b[31mred\r\nerror: forged\u{202E}\u{200B}\u{E0041}\u{61C} \t b", 300),
            "a [31mred error: forged b"
        );
        assert_eq!(clean("ééééé", 3), "éé…");
        assert_eq!(clean("abc", 3), "abc");
    }
}
