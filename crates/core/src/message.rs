//! The content of a message about one event, or about several that were grouped. Pure; the channels put it into their
//! own format. The reader is a busy person with a phone: the subject and the first line say it all.

pub mod advice;
pub mod digest;
pub mod markup;
pub mod sample;
mod vetting;
pub mod time_format;

use std::fmt;

use serde::Serialize;

use self::digest::Digest;
use crate::event::{Event, EventData, EventPayload, EventType, OperationalNotice};
use crate::text;
use crate::time::Timestamp;

/// The most figures of an event that a message shows.
const MAX_FIGURES: usize = 20;

/// The type of a message about several events.
pub const DIGEST: &str = "vetting.digest";

/// A message for people. All of its text is sanitized (see [`text`]), and none of it is escaped for any format.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// The event's type, or [`DIGEST`].
    pub kind: &'static str,
    /// Sent by `test-send`; the subject says so too. If only some events are tests, this is false and their labels say
    /// it.
    pub test: bool,
    /// Shown first: why the message is sent here.
    pub note: Option<String>,
    pub subject: String,
    /// The most severe first.
    pub items: Vec<Item>,
}

/// What a message says about one event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    pub tone: Severity,
    /// `Denied`.
    pub label: String,
    /// `Contoso School`.
    pub title: String,
    /// Tells customers of one name apart; empty if there is none, or if it is the title.
    pub domain: String,
    /// `Education, attempt 2 of 3`; may be empty.
    pub about: String,
    /// `attempt 2 of 3`; `None` if the attempt is not known or not limited.
    pub attempt: Option<String>,
    /// All of that in one line, as in the subject.
    pub headline: String,
    /// What happened, in sentences.
    pub what: String,
    /// Microsoft's words.
    pub reason: Option<String>,
    /// The reason, or another short remark beside the label; may be empty.
    pub summary_text: String,
    /// `Decided 21 Nov 2026, 09:14 UTC`
    pub when: String,
    pub facts: Vec<Fact>,
    pub steps: Vec<String>,
    /// To Partner Center.
    pub link: Option<String>,
    /// The customer's Microsoft ID; empty for an event about vetwatch.
    pub customer_id: String,
    /// Facts for a person that follows it up.
    pub small: Vec<Fact>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value)
    }
}

/// How severe an event is, the most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Bad,
    Warning,
    Good,
    Plain,
}

/// `1. Wait.`, `2. …`
pub fn numbered(steps: &[String]) -> impl Iterator<Item = String> {
    steps.iter().enumerate().map(|(index, step)| format!("{}. {step}", index + 1))
}

fn fact(name: impl Into<String>, value: impl Into<String>) -> Fact {
    Fact { name: name.into(), value: value.into() }
}

impl Message {
    /// The message about `events`. Without any, the message says that there is nothing.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut sorted: Vec<&Event> = events.iter().collect();
        sorted.sort_by_key(|event| (event.data.test, severity(event.kind)));
        let test = !events.is_empty() && events.iter().all(|event| event.data.test);
        let items: Vec<_> = sorted.into_iter().map(|event| item(event).marked(event.data.test && !test)).collect();
        let (kind, subject) = match (events, items.as_slice()) {
            ([event], [item]) => {
                let about_us = matches!(event.data.subject, EventPayload::Monitor(_));
                (event.kind.as_str(), format!("{}{}", if about_us { "vetwatch: " } else { "" }, item.headline))
            }
            _ => (DIGEST, digest_subject(&items)),
        };
        let subject = if test { format!("[TEST] {subject}") } else { subject };
        Self { kind, test, note: None, subject, items }
    }

    /// Puts a note above everything else: one line, sanitized here.
    #[must_use]
    pub fn with_note(self, note: &str) -> Self {
        Self { note: Some(text::line(note, 500)).filter(|note| !note.is_empty()), ..self }
    }

    /// The message as plain text, with the headline first (after a note, or a test's). Over three events are in rows.
    #[must_use]
    pub fn text(&self) -> String {
        self.text_with(Digest::of(self).as_ref())
    }

    /// The same with this digest, which may have been shortened, in place of its own.
    #[must_use]
    pub fn text_with(&self, digest: Option<&Digest>) -> String {
        let mut text = String::new();
        if self.test {
            text.push_str("THIS IS A TEST. Nothing has happened.\n\n");
        }
        if let Some(note) = &self.note {
            push_lines(&mut text, [note, ""]);
        }
        if let Some(digest) = digest {
            push_lines(&mut text, [&self.subject]);
            digest.write_text(&mut text);
            return text;
        }
        if self.items.len() != 1 {
            push_lines(&mut text, [&self.subject, ""]);
        }
        for (index, item) in self.items.iter().enumerate() {
            if index > 0 {
                text.push_str("\n----------------------------------------\n\n");
            }
            item.write_text(&mut text);
        }
        text
    }
}

fn push_lines(text: &mut String, lines: impl IntoIterator<Item = impl AsRef<str>>) {
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
}

impl Item {
    /// Marks a test among real events.
    fn marked(self, test: bool) -> Self {
        if !test {
            return self;
        }
        Self { label: format!("Test: {}", self.label), headline: format!("Test: {}", self.headline), ..self }
    }

    fn write_text(&self, text: &mut String) {
        push_lines(text, [&self.headline, "", &self.what, ""]);
        if let Some(reason) = &self.reason {
            push_lines(text, [&format!("Microsoft's reason: {reason}"), ""]);
        }
        push_lines(text, self.facts.iter().map(Fact::to_string));
        if !self.steps.is_empty() {
            push_lines(text, ["", "What to do next"]);
            push_lines(text, numbered(&self.steps));
        }
        if let Some(link) = &self.link {
            push_lines(text, ["", &format!("Open in Partner Center: {link}")]);
        }
        text.push('\n');
        push_lines(text, self.small.iter().map(Fact::to_string));
    }
}

fn item(event: &Event) -> Item {
    match &event.data.subject {
        EventPayload::Vetting(change) => vetting::item(event.kind, &event.data, change, event.occurred_at),
        EventPayload::Monitor(notice) => monitor(event.kind, &event.data, notice, event.occurred_at),
    }
}

fn monitor(event: EventType, data: &EventData, notice: &OperationalNotice, occurred_at: Timestamp) -> Item {
    let (tone, label) = match event {
        EventType::PartnerRecovered
        | EventType::CustomersRecovered
        | EventType::PollingRecovered
        | EventType::EndpointRecovered => (Severity::Good, "Works again"),
        EventType::InitialSync => (Severity::Plain, "vetwatch has begun to watch"),
        _ => (Severity::Warning, "vetwatch needs attention"),
    };
    let title = text::line(&notice.summary, 200);
    let mut facts = vec![fact("When", time_format::moment(occurred_at))];
    facts.extend(notice.figures.iter().take(MAX_FIGURES).map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        fact(text::line(&name.replace('_', " "), 60), text::line(&value, 300))
    }));
    Item {
        tone,
        label: label.to_owned(),
        headline: title.clone(),
        title,
        domain: String::new(),
        about: String::new(),
        attempt: None,
        what: text::lines(&notice.detail, 4000),
        reason: None,
        summary_text: text::line(&notice.detail, 4000),
        when: time_format::brief(None, occurred_at),
        facts,
        steps: Vec::new(),
        link: None,
        customer_id: String::new(),
        small: vec![
            fact("Partner Center account", text::line(&data.partner, 80)),
            fact("Event", data.event_id.to_string()),
        ],
    }
}

/// The sort order of events: lower is more severe.
fn severity(kind: EventType) -> u8 {
    match kind {
        EventType::Revoked => 0,
        EventType::Denied => 1,
        EventType::Vanished => 2,
        EventType::Overdue => 3,
        EventType::PartnerFailing
        | EventType::CustomersFailing
        | EventType::CustomersDeparted
        | EventType::PollingLate
        | EventType::EndpointFailing
        | EventType::DeadLetter
        | EventType::CredentialExpiring => 4,
        EventType::UnknownStatus => 5,
        EventType::Approved => 6,
        EventType::PartnerRecovered
        | EventType::CustomersRecovered
        | EventType::PollingRecovered
        | EventType::EndpointRecovered => 7,
        EventType::Submitted => 8,
        EventType::Changed | EventType::InitialSync => 9,
    }
}

/// `1 denied, 2 approved: Contoso School, Fabrikam College and 1 more`; the most severe first.
fn digest_subject(items: &[Item]) -> String {
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let name = text::line(&item.title, 40);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let counts = digest::counts(items);
    match names.as_slice() {
        [] => "vetwatch: nothing to tell".to_owned(),
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{counts}: {first}, {second}, {third} and {} more", rest.len())
        }
        names => format!("{counts}: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
