//! Escapes sanitized text for a format. Each function is for one format only.

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
}
