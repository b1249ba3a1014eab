//! Decodes a mail as its reader sees it, from what the mail server received.

use std::borrow::Cow;

use mail_parser::{MessageParser, PartType};

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
        let mail = MessageParser::default().parse(raw).unwrap_or_default();
        let id = mail.message_id().and_then(|id| id.split('@').next());
        let text = mail.body_text(0).unwrap_or_default().replace("\r\n", "\n");
        Self {
            id: id.unwrap_or_default().to_owned(),
            kind: mail.header_raw("X-Vetwatch-Event").unwrap_or_default().trim().to_owned(),
            subject: mail.subject().unwrap_or_default().to_owned(),
            text: text.trim_end().to_owned(),
        }
    }
}

/// The HTML part, if there is one.
pub(super) fn html(raw: &str) -> Option<String> {
    let mail = MessageParser::default().parse(raw)?;
    // Without such a part the parser makes one from the text.
    mail.html_bodies()
        .any(|part| matches!(part.body, PartType::Html(_)))
        .then(|| mail.body_html(0).map(Cow::into_owned))?
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
        assert_eq!(html(raw).unwrap().trim_end(), "<p>no</p>");
    }

    #[test]
    fn a_mail_without_parts_is_read_as_well() {
        let mail = DecodedMail::read(
            "Subject: =?utf-8?b?w6k=?= =?utf-8?b?w6k=?= x =?q\nContent-Transfer-Encoding: base64\n\nSGVs\nbG8=\n",
        );
        assert_eq!(html("Subject: x\n\nHello\n"), None);
        assert_eq!((mail.subject.as_str(), mail.text.as_str()), ("éé x =?q", "Hello"));
    }
}
