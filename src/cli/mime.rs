//! Decodes a mail as its reader sees it, from what the mail server received. Supports the part of MIME that vetwatch's
//! own mails use.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use quoted_printable::ParseMode;

/// A mail as shown by a mail program.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct DecodedMail {
    /// The delivery's id: the part of `Message-ID` before the `@`.
    pub(super) id: String,
    /// The event's type.
    pub(super) kind: String,
    pub(super) subject: String,
    /// The plain text part.
    pub(super) text: String,
}

impl DecodedMail {
    pub(super) fn read(raw: &str) -> Self {
        let raw = raw.replace("\r\n", "\n");
        let (head, body) = split(&raw);
        let id = header(&head, "message-id").trim_start_matches('<').split('@').next().unwrap_or_default().to_owned();
        let kind = header(&head, "x-vetwatch-event");
        Self { id, kind, subject: words(&header(&head, "subject")), text: text(&head, body).unwrap_or_default() }
    }

    /// The ids of its events.
    pub(super) fn events(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter_map(|line| line.strip_prefix("Event: "))
    }
}

/// Splits into header, with folded lines joined, and body.
fn split(entity: &str) -> (String, &str) {
    let (head, body) = entity.split_once("\n\n").unwrap_or((entity, ""));
    (head.replace("\n ", " ").replace("\n\t", " "), body)
}

/// The value of a header; empty if missing.
fn header(head: &str, name: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    values.next().unwrap_or_default().to_owned()
}

/// The first plain text part.
fn text(head: &str, body: &str) -> Option<String> {
    let kind = header(head, "content-type");
    if let Some((_, boundary)) = kind.split_once("boundary=") {
        let delimiter = format!("--{}", boundary.split(';').next().unwrap_or_default().trim_matches('"'));
        // The preamble is for programs of the eighties.
        return body.split(&delimiter).skip(1).find_map(|part| {
            let (head, body) = split(part.trim_start_matches('\n'));
            text(&head, body)
        });
    }
    if !kind.is_empty() && !kind.to_lowercase().starts_with("text/plain") {
        return None;
    }
    let bytes = match header(head, "content-transfer-encoding").to_lowercase().as_str() {
        "quoted-printable" => quoted_printable::decode(body, ParseMode::Robust).ok()?,
        "base64" => BASE64_STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?,
        _ => body.as_bytes().to_vec(),
    };
    Some(String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim_end().to_owned())
}

/// Decodes a header's encoded words (RFC 2047, base64 of UTF-8).
fn words(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value;
    let mut after_word = false;
    while let Some((before, word)) = rest.split_once("=?") {
        // White space between two encoded words belongs to neither.
        if !(after_word && before.trim().is_empty()) {
            text.push_str(before);
        }
        let Some((encoded, after)) = encoded(word) else {
            text.push_str("=?");
            (rest, after_word) = (word, false);
            continue;
        };
        text.push_str(&encoded);
        (rest, after_word) = (after, true);
    }
    text + rest
}

fn encoded(word: &str) -> Option<(String, &str)> {
    let (charset, rest) = word.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (encoded, after) = rest.split_once("?=")?;
    let known = charset.eq_ignore_ascii_case("utf-8") && encoding.eq_ignore_ascii_case("b");
    let bytes = if known { BASE64_STANDARD.decode(encoded).ok()? } else { return None };
    Some((String::from_utf8_lossy(&bytes).into_owned(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_read_as_its_reader_sees_it() {
        let raw = "Message-ID: <0193-a@contoso.example>\r\nSubject: Denied: =?utf-8?b?w4ljb2xlIFrDvHJpY2gg4oCT?= Education (Not an\r\n \
                   Education Customer)\r\nContent-Type: multipart/alternative;\r\n boundary=\"v-1\"\r\n\r\n--v-1\r\n\
                   Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                   A =E2=80=93 b=\r\nc\r\n\r\nEvent: e-1\r\n\r\n--v-1\r\nContent-Type: text/html\r\n\r\n<p>no</p>\r\n--v-1--\r\n";
        let mail = DecodedMail::read(raw);
        assert_eq!(mail.id, "0193-a");
        assert_eq!(mail.subject, "Denied: École Zürich – Education (Not an Education Customer)");
        assert_eq!(mail.text, "A – bc\n\nEvent: e-1");
        assert_eq!(mail.events().collect::<Vec<_>>(), ["e-1"]);
    }

    #[test]
    fn a_mail_without_parts_is_read_as_well() {
        let mail = DecodedMail::read(
            "Subject: =?utf-8?b?w6k=?= =?utf-8?b?w6k=?= x =?q\nContent-Transfer-Encoding: base64\n\nSGVs\nbG8=\n",
        );
        assert_eq!((mail.subject.as_str(), mail.text.as_str()), ("éé x =?q", "Hello"));
    }
}
