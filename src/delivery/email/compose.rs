//! Composes a complete mail (RFC 5322), as every attempt will send it: ASCII only, CRLF line endings.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder, MultiPart, SinglePart};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use ring::digest;
use tracing::error;
use uuid::Uuid;

use crate::delivery::message::Message;
use crate::delivery::message::digest::Digest;
use crate::event::{Event, EventPayload};
use crate::qualification;
use crate::store::UnrenderedDelivery;
use crate::time::Timestamp;

static TEMPLATES: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    // The extension `.html` turns on escaping.
    templates.add_template("layout.html", include_str!("../templates/layout.html"))?;
    templates.add_template("mail.html", include_str!("../templates/mail.html"))?;
    templates.add_template("digest.html", include_str!("../templates/digest.html"))?;
    Ok(templates)
});

/// Composes the mail to `to`.
///
/// Its `Message-ID` is the delivery's id at the sender's domain. Never fails: if the HTML part fails the mail is plain text, and if
/// a header is invalid it has only the required headers.
pub(super) fn mail(from: &Mailbox, to: &[Mailbox], delivery: &UnrenderedDelivery, now: Timestamp) -> String {
    let message = delivery.message();
    let html = html(&message).inspect_err(
        |error| error!(%error, delivery.id = %delivery.id, "the mail's HTML form failed; it goes as plain text"),
    );
    let composed = compose(from, to, delivery, now, &message, html.ok());
    let text = composed.unwrap_or_else(|error| {
        error!(%error, delivery.id = %delivery.id, "a mail could not be composed as usual; it goes in its simplest form");
        fallback_plain(from, to, delivery.id, now, &message)
    });
    with_crlf(&text)
}

fn html(message: &Message) -> Result<String, String> {
    let templates = TEMPLATES.as_ref().map_err(ToString::to_string)?;
    let render = |name: &str, values: Value| templates.get_template(name)?.render(values);
    let html = match Digest::of(message) {
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
    html: Option<String>,
) -> Result<String, lettre::error::Error> {
    let domain = from.email.domain();
    let since_epoch = Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
    let mut mail = lettre::Message::builder()
        .from(from.clone())
        .date(UNIX_EPOCH + since_epoch)
        .message_id(Some(message_id(from, delivery.id)))
        .subject(message.subject.clone());
    for recipient in to {
        mail = mail.to(recipient.clone());
    }
    if let Some(root) = thread(&delivery.events, domain) {
        mail = mail.in_reply_to(root.clone()).references(root);
    }
    mail = header(mail, "List-Id", &format!("vetwatch <vetwatch.{domain}>"));
    mail = header(mail, "Auto-Submitted", "auto-generated"); // RFC 3834: no out-of-office answers
    mail = header(mail, "X-Auto-Response-Suppress", "OOF, AutoReply"); // the same for Exchange
    mail = header(mail, "X-Vetwatch-Event", message.kind);
    let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(message.text());
    let mail = match html {
        Some(html) => mail.multipart(
            MultiPart::alternative()
                .boundary(format!("vetwatch-{}", delivery.id.simple()))
                .singlepart(text)
                .singlepart(SinglePart::builder().header(ContentType::TEXT_HTML).body(html)),
        ),
        None => mail.singlepart(text),
    }?;
    Ok(String::from_utf8_lossy(&mail.formatted()).into_owned())
}

fn message_id(from: &Mailbox, id: Uuid) -> String {
    format!("<{id}@{}>", from.email.domain())
}

/// Omits the header if the name is invalid; the names here are valid.
fn header(mail: MessageBuilder, name: &str, value: &str) -> MessageBuilder {
    match HeaderName::new_from_ascii(name.to_owned()) {
        Ok(name) => mail.raw_header(HeaderValue::new(name, value.to_owned())),
        Err(_) => mail,
    }
}

/// The id of a mail that never existed, to which all of a customer's mails are replies, so that mail programs show them
/// as one thread. `None` if the events are about several customers, or none.
fn thread(events: &[Event], domain: &str) -> Option<String> {
    let customer = |event: &Event| match &event.data.subject {
        EventPayload::Vetting(change) => {
            Some((event.data.partner.clone().unwrap_or_default(), qualification::key(&change.customer.id)))
        }
        EventPayload::Monitor(_) => None,
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
    let to: Vec<_> = to.iter().map(|mailbox| mailbox.email.to_string()).collect();
    let body = base64::engine::general_purpose::STANDARD.encode(message.text());
    let lines: Vec<_> = body.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
    format!(
        "From: {}\nTo: {}\nSubject: vetwatch: {}\nDate: {}\nMessage-ID: {}\nAuto-Submitted: auto-generated\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n{}\n",
        from.email,
        to.join(",\n "),
        message.kind,
        now.to_utc().to_rfc2822(),
        message_id(from, id),
        lines.join("\n"),
    )
}

/// Mail servers disagree on whether a bare line feed ends a line, so none is sent.
fn with_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

#[cfg(test)]
mod tests;
