//! Escapes sanitized text for a format. Each function is for one format only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// For Markdown: nothing in it formats, links or lists. A URL in it is visible and not a link.
#[must_use]
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut begins = true;
    for c in text.chars() {
        let lists = begins && matches!(c, '-' | '+' | '#');
        if lists || matches!(c, '\\' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '~' | '|') {
            escaped.push('\\');
        }
        escaped.push(c);
        begins = c == '\n';
    }
    // Services turn anything that looks like a URL into a link.
    escaped.replace("://", ":\u{200b}//").replace("www.", "www\u{200b}.").replace("WWW.", "WWW\u{200b}.")
}

/// Keeps `@` from mentioning a person; it looks the same.
#[must_use]
pub fn no_mentions(text: &str) -> String {
    text.replace('@', "@\u{200b}")
}

/// For HTML, in text and in attributes.
#[must_use]
pub fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// For a header field: the whole text as encoded words (RFC 2047), each of at most 64 characters, to be joined by
/// blanks. Readers decode them once, so an encoded word in the text stays text.
#[must_use]
pub fn encoded_words(text: &str) -> Vec<String> {
    const MAX_BYTES: usize = 39;
    let (mut words, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_BYTES).last();
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(format!("=?utf-8?b?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_format_obeys_is_escaped_and_the_rest_stays() {
        assert_eq!(
            markdown("Müller & Sons (north): 50% off-site"),
            "Müller & Sons (north): 50% off-site",
            "plain words stay as they are"
        );
        assert_eq!(
            markdown("[x](http://evil) **b** _i_ `c` ~s~ ||h||"),
            "\\[x\\](http:\u{200b}//evil) \\*\\*b\\*\\* \\_i\\_ \\`c\\` \\~s\\~ \\|\\|h\\|\\|"
        );
        assert_eq!(markdown("- a\n# b\n> c\n<at>d</at> \\"), "\\- a\n\\# b\n\\> c\n\\<at\\>d\\</at\\> \\\\");
        assert_eq!(no_mentions("@everyone, ada@contoso.example"), "@\u{200b}everyone, ada@\u{200b}contoso.example");
        assert_eq!(html("<b a='1' c=\"2\">&</b>"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;&lt;/b&gt;");
    }
    #[test]
    fn encoded_words_are_short_and_split_between_characters() {
        assert_eq!(encoded_words("=?utf-8?q?x?="), ["=?utf-8?b?PT91dGYtOD9xP3g/PQ==?="]);
        assert_eq!(encoded_words(""), [""; 0]);
        for text in ["学".repeat(60), "a".repeat(60), "é x".repeat(30)] {
            let words = encoded_words(&text);
            assert!(words.len() > 1 && words.iter().all(|word| word.len() <= 64), "{words:?}");
            let decode = |word: &String| STANDARD.decode(&word["=?utf-8?b?".len()..word.len() - 2]).unwrap();
            let decoded: String = words.iter().map(|word| String::from_utf8(decode(word)).unwrap()).collect();
            assert_eq!(decoded, text);
        }
    }
}
