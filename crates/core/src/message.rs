//! The content of a message about one event, or about several that were grouped. Pure; the channels put it into their
//! own format. The reader is a busy person with a phone: the subject and the first line say it all.

pub mod advice;
pub mod digest;
pub mod markup;
pub mod sample;
mod summary;
mod vetting;
pub mod time_format;

use std::fmt;

use chrono_tz::Tz;
use serde::{Serialize, Serializer};

use self::advice::Step;
use self::digest::Digest;
use crate::event::{Event, EventData, EventPayload, EventType, OperationalNotice};
use crate::page;
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
    pub label: Label,
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
    /// `Decided 21 Nov 2026, 10:14 CET`
    pub when: String,
    pub facts: Vec<Fact>,
    pub steps: Vec<Step>,
    /// To Partner Center.
    pub link: Option<String>,
    /// To the customer's page, or for an event about vetwatch to the page of its health; see [`Message::with_pages`].
    pub page: Option<String>,
    /// The path of that page; empty if there is none.
    #[serde(skip)]
    pub page_path: String,
    /// The customer's Microsoft ID; empty for an event about vetwatch.
    pub customer_id: String,
    /// Facts for a person that follows it up.
    pub small: Vec<Fact>,
    /// How many it stands for: `and 40 more` is one item.
    #[serde(skip)]
    pub count: u64,
}

/// What an event is called, and how several of them are counted. Serialized, it is the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    text: &'static str,
    /// One, and several: `need attention`.
    counted: [&'static str; 2],
    /// A test among real events.
    test: bool,
}

impl Label {
    const fn new(text: &'static str, counted: [&'static str; 2]) -> Self {
        Self { text, counted, test: false }
    }

    /// `3 denied`.
    fn counted(&self, count: u64) -> String {
        let [one, several] = self.counted;
        format!("{count} {}{}", if self.test { "test: " } else { "" }, if count == 1 { one } else { several })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.test { "Test: " } else { "" }, self.text)
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
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
pub fn numbered<S: fmt::Display>(steps: &[S]) -> impl Iterator<Item = String> {
    steps.iter().enumerate().map(|(index, step)| format!("{}. {step}", index + 1))
}

fn fact(name: impl Into<String>, value: impl Into<String>) -> Fact {
    Fact { name: name.into(), value: value.into() }
}

impl Message {
    /// The message about `events`, for readers in `zone`. Without any events, the message says that there is nothing.
    #[must_use]
    pub fn of(events: &[Event], zone: Tz) -> Self {
        let mut sorted: Vec<&Event> = events.iter().collect();
        sorted.sort_by_key(|event| (event.data.test, severity(event.kind)));
        let test = !events.is_empty() && events.iter().all(|event| event.data.test);
        let items: Vec<_> = sorted
            .iter()
            .flat_map(|event| items(event, zone).into_iter().map(|item| item.marked(event.data.test && !test)))
            .collect();
        let note = sorted.iter().find_map(|event| match &event.data.subject {
            EventPayload::Summary(summary) => Some(summary::span(summary, zone)),
            _ => None,
        });
        let (kind, subject) = match (events, items.as_slice()) {
            ([event], items) if event.kind == EventType::Summary => {
                (event.kind.as_str(), format!("Summary: {}", digest::counts(items)))
            }
            ([event], [item]) => {
                let about_us = matches!(event.data.subject, EventPayload::Monitor(_));
                (event.kind.as_str(), format!("{}{}", if about_us { "vetwatch: " } else { "" }, item.headline))
            }
            _ => (DIGEST, digest_subject(&items)),
        };
        let subject = if test { format!("[TEST] {subject}") } else { subject };
        Self { kind, test, note, subject, items }
    }

    /// Puts a note above everything else: one line, sanitized here.
    #[must_use]
    pub fn with_note(self, note: &str) -> Self {
        let note = [Some(note), self.note.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        Self { note: Some(text::line(&note, 500)).filter(|note| !note.is_empty()), ..self }
    }

    /// Links its items to the page at `public_url`, which ends with a slash, if there is one.
    #[must_use]
    pub fn with_pages(mut self, public_url: Option<&str>) -> Self {
        for item in self.items.iter_mut().filter(|item| !item.page_path.is_empty()) {
            item.page = public_url.map(|base| format!("{base}{}", item.page_path));
        }
        self
    }

    /// True for a summary, which is always in rows.
    #[must_use]
    pub fn is_summary(&self) -> bool {
        self.kind == EventType::Summary.as_str()
    }

    /// The item of a message that shows one in full.
    #[must_use]
    pub fn single(&self) -> Option<&Item> {
        match self.items.as_slice() {
            [item] if !self.is_summary() => Some(item),
            _ => None,
        }
    }

    /// The most severe of its items. A summary is not urgent, whatever it holds.
    #[must_use]
    pub fn tone(&self) -> Severity {
        let tones = self.items.iter().map(|item| item.tone);
        tones.min().filter(|_| !self.is_summary()).unwrap_or(Severity::Plain)
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
        let label = Label { test: true, ..self.label };
        Self { label, headline: format!("Test: {}", self.headline), ..self }
    }

    /// Its customer's page, for a row among many, if the address has at most `max_bytes`.
    #[must_use]
    pub fn customer_page(&self, max_bytes: usize) -> Option<&str> {
        self.page.as_deref().filter(|page| self.link.is_some() && page.len() <= max_bytes)
    }

    /// What a link to its page is called.
    #[must_use]
    pub fn page_name(&self) -> &'static str {
        if self.link.is_some() { "History and evidence" } else { "State of vetwatch" }
    }

    fn write_text(&self, text: &mut String) {
        push_lines(text, [&*self.headline]);
        push_lines(text, Some(&self.about).filter(|_| self.attempt.is_some()));
        push_lines(text, ["", &self.what, ""]);
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
        if let Some(page) = &self.page {
            push_lines(text, ["", &format!("{}: {page}", self.page_name())]);
        }
        text.push('\n');
        push_lines(text, self.small.iter().map(Fact::to_string));
    }
}

fn items(event: &Event, zone: Tz) -> Vec<Item> {
    match &event.data.subject {
        EventPayload::Vetting(change) => vec![vetting::item(event.kind, &event.data, change, event.occurred_at, zone)],
        EventPayload::Monitor(notice) => vec![monitor(event.kind, &event.data, notice, event.occurred_at, zone)],
        EventPayload::Summary(summary) => summary::items(summary, zone),
    }
}

fn monitor(event: EventType, data: &EventData, notice: &OperationalNotice, occurred_at: Timestamp, zone: Tz) -> Item {
    let (tone, label) = match event {
        EventType::PartnerRecovered
        | EventType::CustomersRecovered
        | EventType::PollingRecovered
        | EventType::EndpointRecovered
        | EventType::BackupRecovered
        | EventType::StandbyRecovered => (Severity::Good, Label::new("Works again", ["works again", "work again"])),
        EventType::InitialSync => (
            Severity::Plain,
            Label::new("vetwatch has begun to watch", ["partner is watched now", "partners are watched now"]),
        ),
        _ => (Severity::Warning, Label::new("vetwatch needs attention", ["needs attention", "need attention"])),
    };
    let title = text::line(&notice.summary, 200);
    let mut facts = vec![fact("When", time_format::with_utc(occurred_at, zone))];
    // The reason is for programs: the summary says the same in words.
    let figures = notice.figures.iter().filter(|(name, _)| *name != "reason").take(MAX_FIGURES);
    facts.extend(figures.map(|(name, value)| fact(figure_name(name), figure(value, zone))));
    let partner = data.partner.as_deref().map(|partner| fact("Partner Center account", text::line(partner, 80)));
    Item {
        tone,
        label,
        headline: title.clone(),
        title,
        domain: String::new(),
        about: String::new(),
        attempt: None,
        what: text::lines(&notice.detail, 4000),
        reason: None,
        summary_text: text::line(&notice.detail, 4000),
        when: time_format::brief(None, occurred_at, zone),
        facts,
        steps: Vec::new(),
        link: None,
        page: None,
        page_path: page::HEALTH.to_owned(),
        customer_id: String::new(),
        small: partner.into_iter().chain([fact("Event", data.event_id.to_string())]).collect(),
        count: 1,
    }
}

/// `in_review` as `In review`.
fn figure_name(name: &str) -> String {
    let mut name = text::line(&name.replace('_', " "), 60);
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

/// A figure for people: a time in their zone, anything else as it is.
fn figure(value: &serde_json::Value, zone: Tz) -> String {
    let Some(text) = value.as_str() else { return text::line(&value.to_string(), 300) };
    match serde_json::from_value::<Timestamp>(value.clone()) {
        Ok(at) => time_format::with_utc(at, zone),
        Err(_) => text::line(text, 300),
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
        | EventType::CredentialExpiring
        | EventType::BackupFailed
        | EventType::LeaderChanged
        | EventType::StandbyFailing => 4,
        EventType::UnknownStatus => 5,
        EventType::Approved => 6,
        EventType::PartnerRecovered
        | EventType::CustomersRecovered
        | EventType::PollingRecovered
        | EventType::EndpointRecovered
        | EventType::BackupRecovered
        | EventType::StandbyRecovered => 7,
        EventType::Submitted => 8,
        EventType::Changed | EventType::InitialSync => 9,
        EventType::Summary => 10,
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
