//! Composes a complete mail (RFC 5322), as every attempt will send it: ASCII only, CRLF line endings.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use ring::digest;
use tracing::error;
use uuid::Uuid;

use super::header;
use crate::delivery::message::Message;
use crate::delivery::message::digest::Digest;
use crate::event::{Event, EventPayload};
use crate::qualification;
use crate::store::UnrenderedDelivery;
use crate::text;
use crate::time::Timestamp;

static TEMPLATES: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    // The extension `.html` turns on escaping.
    templates.add_template("layout.html", include_str!("../templates/layout.html"))?;
    templates.add_template("mail.html", include_str!("../templates/mail.html"))?;
    templates.add_template("digest.html", include_str!("../templates/digest.html"))?;
    Ok(templates)
});

/// Mail programs cut longer ones (Gmail at 102 KB), and some servers refuse them.
pub(super) const MAX_MAIL_BYTES: usize = 100_000;
/// The forms of a digest, from the fullest: how many rows the mail shows, and the longest cell of the attached list, in
/// bytes. The last one fits [`MAX_EVENTS`](super::MAX_EVENTS) events, whatever they hold.
const DIGEST_FORMS: [(usize, usize); 7] = [(100, 80), (40, 80), (20, 80), (10, 80), (5, 80), (0, 80), (0, 40)];
/// The longest text of a mail in its simplest form.
const MAX_PLAIN_BYTES: usize = 40_000;
const ATTACHED: &str = "events.csv";

/// Composes the mail to `to`, of at most [`MAX_MAIL_BYTES`].
///
/// Its `Message-ID` is the delivery's id at the sender's domain. Never fails: if the HTML part fails the mail is plain text, and if
/// a header is invalid it has only the required headers.
pub(super) fn mail(from: &Mailbox, to: &[Mailbox], delivery: &UnrenderedDelivery, now: Timestamp) -> String {
    let message = delivery.message();
    let forms = match Digest::of(&message) {
        None => vec![Content { digest: None, list: None }],
        Some(digest) => {
            DIGEST_FORMS.iter().map(|form| Content::of_digest(&digest, message.items.len(), *form)).collect()
        }
    };
    for content in &forms {
        let html = html(&message, content.digest.as_ref());
        let html = html.inspect_err(
            |error| error!(%error, delivery.id = %delivery.id, "the mail's HTML form failed; it goes as plain text"),
        );
        match compose(from, to, delivery, now, &message, content, html.ok()) {
            Ok(mail) if mail.len() <= MAX_MAIL_BYTES => return mail,
            Ok(_) => {}
            Err(error) => {
                error!(%error, delivery.id = %delivery.id, "a mail could not be composed as usual; it goes in its simplest form");
                break;
            }
        }
    }
    fallback_plain(from, to, delivery.id, now, &message)
}

/// What a mail shows, and what is attached to it.
struct Content {
    digest: Option<Digest>,
    /// All events, as CSV.
    list: Option<String>,
}

impl Content {
    /// With the most severe rows only, if there are more, and all of them attached.
    fn of_digest(digest: &Digest, events: usize, (rows, max_cell_bytes): (usize, usize)) -> Self {
        let list = (events > rows).then(|| digest.csv(max_cell_bytes));
        let mut digest = digest.clone();
        digest.shorten(rows, ATTACHED);
        Self { digest: Some(digest), list }
    }
}

fn html(message: &Message, digest: Option<&Digest>) -> Result<String, String> {
    let templates = TEMPLATES.as_ref().map_err(ToString::to_string)?;
    let render = |name: &str, values: Value| templates.get_template(name)?.render(values);
    let html = match digest {
        None => render("mail.html", Value::from(Serde(message))),
        Some(digest) => {
            let Message { test, note, subject, .. } = message;
            render("digest.html", context! { test, note, subject, digest => Value::from(Serde(digest)) })
        }
    };
    html.map_err(|error| error.to_string())
}

fn compose(
    from: &Mailbox,
    to: &[Mailbox],
    delivery: &UnrenderedDelivery,
    now: Timestamp,
    message: &Message,
    content: &Content,
    html: Option<String>,
) -> Result<String, lettre::error::Error> {
    let domain = from.email.domain();
    let since_epoch = Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
    let envelope = Envelope::new(Some(from.email.clone()), to.iter().map(|to| to.email.clone()).collect())?;
    let mut mail = lettre::Message::builder()
        .envelope(envelope)
        .raw_header(header::from(from))
        .raw_header(HeaderValue::dangerous_new_pre_encoded(
            HeaderName::new_from_ascii_str("To"),
            String::new(),
            header::to(to),
        ))
        .date(UNIX_EPOCH + since_epoch)
        .message_id(Some(message_id(from, delivery.id)))
        .raw_header(header::unstructured("Subject", &message.subject));
    if let Some(root) = thread(&delivery.events, domain) {
        mail = mail.in_reply_to(root.clone()).references(root);
    }
    mail = mail
        .raw_header(header::unstructured("List-Id", &format!("vetwatch <vetwatch.{domain}>")))
        .raw_header(header::unstructured("Auto-Submitted", "auto-generated")) // RFC 3834: no out-of-office answers
        .raw_header(header::unstructured("X-Auto-Response-Suppress", "OOF, AutoReply")) // the same for Exchange
        .raw_header(header::unstructured("X-Vetwatch-Event", message.kind));
    let text = message.text_with(content.digest.as_ref());
    let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(text);
    let boundary = format!("vetwatch-{}", delivery.id.simple());
    let body = match html {
        Some(html) => Part::Multi(
            MultiPart::alternative()
                .boundary(boundary.clone())
                .singlepart(text)
                .singlepart(SinglePart::builder().header(ContentType::TEXT_HTML).body(html)),
        ),
        None => Part::Single(text),
    };
    let mail = match (&content.list, body) {
        (Some(list), body) => {
            let whole = MultiPart::mixed().boundary(format!("{boundary}-list"));
            let whole = match body {
                Part::Multi(body) => whole.multipart(body),
                Part::Single(body) => whole.singlepart(body),
            };
            // The byte order mark tells Excel that it is UTF-8.
            let list = format!("\u{feff}{list}");
            let kind = ContentType::parse("text/csv; charset=utf-8; header=present").unwrap_or(ContentType::TEXT_PLAIN);
            mail.multipart(whole.singlepart(Attachment::new(ATTACHED.to_owned()).body(list, kind)))
        }
        (None, Part::Multi(body)) => mail.multipart(body),
        (None, Part::Single(body)) => mail.singlepart(body),
    }?;
    Ok(with_crlf(&String::from_utf8_lossy(&mail.formatted())))
}

enum Part {
    Single(SinglePart),
    Multi(MultiPart),
}

fn message_id(from: &Mailbox, id: Uuid) -> String {
    format!("<{id}@{}>", from.email.domain())
}

/// The id of a mail that never existed, to which all of a customer's mails are replies, so that mail programs show them
/// as one thread. `None` if the events are about several customers, or none.
fn thread(events: &[Event], domain: &str) -> Option<String> {
    let customer = |event: &Event| match &event.data.subject {
        EventPayload::Vetting(change) => {
            Some((event.data.partner.clone().unwrap_or_default(), qualification::key(&change.customer.id)))
        }
        EventPayload::Monitor(_) | EventPayload::Summary(_) => None,
    };
    let (partner, id) = customer(events.first()?)?;
    if events.iter().any(|event| customer(event).as_ref() != Some(&(partner.clone(), id.clone()))) {
        return None;
    }
    let hash = digest::digest(&digest::SHA256, format!("{partner}\0{id}").as_bytes());
    let short = Uuid::from_slice(hash.as_ref().get(..16)?).ok()?.simple();
    Some(format!("<customer-{short}@{domain}>"))
}

/// The simplest form of the mail, which cannot fail.
fn fallback_plain(from: &Mailbox, to: &[Mailbox], id: Uuid, now: Timestamp, message: &Message) -> String {
    let body = STANDARD.encode(text::lines(&message.text(), MAX_PLAIN_BYTES));
    let lines: Vec<_> = body.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
    with_crlf(&format!(
        "From: {}\nTo: {}\nSubject: vetwatch: {}\nDate: {}\nMessage-ID: {}\nAuto-Submitted: auto-generated\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n{}\n",
        from.email,
        header::to(to),
        message.kind,
        now.to_utc().to_rfc2822(),
        message_id(from, id),
        lines.join("\n"),
    ))
}

/// Mail servers disagree on whether a bare line feed ends a line, so none is sent.
fn with_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

#[cfg(test)]
mod tests;
