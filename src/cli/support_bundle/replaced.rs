//! Replaces customers' names, domains and contacts by their ids, and hides mail addresses.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::text;

/// What is replaced, and by what.
pub(super) struct Replaced {
    search: AhoCorasick,
    by: Vec<String>,
}

impl Replaced {
    /// From pairs of what is shown (a customer's id) and a word that identifies somebody.
    pub(super) fn new(words: impl IntoIterator<Item = (String, String)>) -> Result<Self, String> {
        let mut all = HashMap::new();
        for (id, word) in words {
            let word = word.trim();
            // As stored, as a terminal shows it, and as JSON writes it.
            let json = serde_json::to_string(word).unwrap_or_default();
            for spelling in [word.to_owned(), text::terminal(word).into_owned(), json.trim_matches('"').to_owned()] {
                if !spelling.is_empty() && !spelling.eq_ignore_ascii_case(&id) {
                    all.insert(spelling, id.clone());
                }
            }
        }
        let (words, by): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(&words)
            .map_err(|error| format!("the customers' names cannot be searched for: {error}"))?;
        Ok(Self { search, by })
    }

    /// `text` with each whole word replaced that identifies somebody.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut hidden = String::with_capacity(text.len());
        self.search.replace_all_with(text, &mut hidden, |found, spelling, out| {
            let joins = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let whole = !joins(text[..found.start()].chars().next_back()) && !joins(text[found.end()..].chars().next());
            out.push_str(if whole { &self.by[found.pattern().as_usize()] } else { spelling });
            true
        });
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_domains_and_contacts_become_ids_but_parts_of_words_do_not() {
        let words = [
            ("c-1", "Contoso School"),
            ("c-2", "Contoso"),
            ("c-2", "contoso.example"),
            ("c-3", "Art \"X\" \u{1b}School"),
        ];
        let replaced = Replaced::new(words.map(|(id, word)| (id.to_owned(), word.to_owned()))).unwrap();
        let shown = "Contoso School, CONTOSO, a@contoso.example, Contosoland";
        assert_eq!(replaced.hide(shown), "c-1, c-2, a@c-2, Contosoland");
        let json = serde_json::to_string("Art \"X\" \u{1b}School").unwrap();
        assert_eq!(replaced.hide(&json), "\"c-3\"");
        let shown = text::terminal("Art \"X\" \u{1b}School").into_owned();
        assert_eq!(replaced.hide(&shown), "c-3");
    }
}
