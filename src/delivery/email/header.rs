//! Writes header fields (RFC 5322, RFC 2047): folded, ASCII only, and nothing in them that a reader would decode again.

use lettre::message::Mailbox;
use lettre::message::header::{HeaderName, HeaderValue};

use crate::delivery::message::markup::encoded_words;
use crate::text;

/// Lines are folded at this length where possible (RFC 5322 2.1.1).
const LINE: usize = 78;
/// A longer word is encoded, which splits it.
const MAX_WORD: usize = 60;
/// A longer list of recipients is not written: a mail has room for its content.
const MAX_RECIPIENTS_BYTES: usize = 16_000;
const MAX_DISPLAY_NAME_BYTES: usize = 120;

/// A header field with free text. `name` is a valid field name.
pub(super) fn unstructured(name: &'static str, value: &str) -> HeaderValue {
    let encoded = folded(name, &words(value));
    HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str(name), value.to_owned(), encoded)
}

/// `From`, with a value that lettre can read back.
pub(super) fn from(mailbox: &Mailbox) -> HeaderValue {
    let encoded = folded("From", &mailbox_words(mailbox, ""));
    HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str("From"), mailbox.email.to_string(), encoded)
}

/// The value of `To`. Very many recipients are not listed.
pub(super) fn to(recipients: &[Mailbox]) -> String {
    let last = recipients.len().saturating_sub(1);
    let written = recipients.iter().enumerate();
    let words: Vec<_> =
        written.flat_map(|(n, mailbox)| mailbox_words(mailbox, if n == last { "" } else { "," })).collect();
    let value = folded("To", &words);
    if value.len() > MAX_RECIPIENTS_BYTES { "undisclosed-recipients:;".to_owned() } else { value }
}

/// The mail with another `To`, as of now: the endpoint's recipients may have changed since it was rendered.
pub(super) fn with_recipients(mail: &str, recipients: &[Mailbox]) -> String {
    const FIELD: &str = "\r\nTo: ";
    let head = mail.find("\r\n\r\n").unwrap_or(mail.len());
    let Some(begin) = mail[..head].find(FIELD).map(|at| at + FIELD.len()) else { return mail.to_owned() };
    // A line that continues a field begins with a blank.
    let ends = mail[begin..].match_indices("\r\n").map(|(at, _)| begin + at);
    let end = ends.into_iter().find(|at| !mail[at + 2..].starts_with(' ')).unwrap_or(head);
    format!("{}{}{}", &mail[..begin], to(recipients), &mail[end..])
}

/// Joins words by blanks and line breaks.
fn folded(name: &str, words: &[String]) -> String {
    let (mut value, mut column) = (String::new(), name.len() + 1);
    for (n, word) in words.iter().enumerate() {
        if n > 0 && column + 1 + word.len() > LINE {
            value.push_str("\r\n ");
            column = 0;
        } else if n > 0 {
            value.push(' ');
        }
        value.push_str(word);
        column += 1 + word.len();
    }
    value
}

fn words(value: &str) -> Vec<String> {
    let is_plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_graphic()) && word.len() <= MAX_WORD;
    let plain: Vec<_> = value.split(' ').collect();
    if plain.iter().all(|word| is_plain(word) && !word.is_empty()) && !value.contains("=?") {
        return plain.into_iter().map(str::to_owned).collect();
    }
    encoded_words(value)
}

fn mailbox_words(mailbox: &Mailbox, end: &str) -> Vec<String> {
    let name = text::line(mailbox.name.as_deref().unwrap_or_default(), MAX_DISPLAY_NAME_BYTES);
    if name.is_empty() {
        return vec![format!("{}{end}", mailbox.email)];
    }
    let is_atoms = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_'));
    let is_quotable = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && name.len() <= MAX_WORD;
    let mut words = if name.contains("=?") || !is_quotable {
        encoded_words(&name)
    } else if is_atoms {
        name.split(' ').map(str::to_owned).collect()
    } else {
        vec![format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))]
    };
    words.push(format!("<{}>{end}", mailbox.email));
    words
}

#[cfg(test)]
mod tests;
