//! The content of a message about one customer's qualification.

use chrono_tz::Tz;

use super::{Fact, Item, Label, Severity, advice, fact, time_format};
use crate::changes::ABSENT;
use crate::event::{CustomerRef, EventData, EventType, VettingChange};
use crate::page;
use crate::qualification;
use crate::text;
use crate::time::Timestamp;

pub(super) fn item(
    event: EventType,
    data: &EventData,
    change: &VettingChange,
    occurred_at: Timestamp,
    zone: Tz,
) -> Item {
    let (tone, label, aside) = classify(event, change, occurred_at);
    let title = name(&change.customer);
    let qualification = text::line(&change.qualification, 60);
    let reason = change.vetting_reason.as_deref().map(|reason| text::line(reason, 300)).filter(|r| !r.is_empty());
    // Of an approval that is gone it would say nothing.
    let counts = !matches!(event, EventType::Revoked | EventType::Changed | EventType::UnknownStatus);
    let attempt = (counts && is_counted(change)).then(|| format!("attempt {}", of_those_allowed(change.attempt)));
    let summary_text = reason.clone().or_else(|| aside.clone()).unwrap_or_default();
    let aside = aside.map(|aside| format!(" ({aside})")).unwrap_or_default();
    let domain = Some(text::line(&change.customer.domain, 100)).filter(|domain| *domain != title).unwrap_or_default();
    Item {
        tone,
        headline: format!("{label}: {title} – {qualification}{aside}"),
        what: what(event, change, &title, &qualification, zone),
        label,
        about: attempt.iter().fold(qualification, |about, attempt| format!("{about}, {attempt}{AS_SEEN}")),
        domain,
        attempt,
        reason,
        summary_text,
        when: when(event, data, change, zone),
        facts: facts(event, data, change, occurred_at, zone),
        steps: advice::steps(event, change),
        link: Some(link(&change.customer.id)),
        page: None,
        page_path: data.partner.as_deref().map(|name| page::customer(name, &change.customer.id)).unwrap_or_default(),
        customer_id: text::line(&change.customer.id, 80),
        count: 1,
        small: small(data, change),
        title,
    }
}

/// The severity, the label, and a remark for the subject's brackets.
fn classify(event: EventType, change: &VettingChange, occurred_at: Timestamp) -> (Severity, Label, Option<String>) {
    let reason = change.vetting_reason.as_deref().map(|reason| text::line(reason, 80)).filter(|r| !r.is_empty());
    let waiting = change.overdue.as_ref().map(|overdue| format!("for {}", business_days(overdue.business_days)));
    let waiting = waiting.or_else(|| {
        change.vetting_created_at.map(|created| format!("for {}", time_format::length(occurred_at.since(created))))
    });
    let from_to = format!("{} → {}", word(change.from.as_deref()), word(change.to.as_deref()));
    match event {
        EventType::Approved => (Severity::Good, APPROVED, None),
        EventType::Denied => (Severity::Bad, DENIED, reason),
        EventType::Revoked if is(change.to.as_deref(), ABSENT) => {
            (Severity::Bad, REVOKED, Some("entry gone".to_owned()))
        }
        EventType::Revoked => (Severity::Bad, REVOKED, reason),
        EventType::Vanished if !is(change.to.as_deref(), ABSENT) => {
            (Severity::Warning, REQUEST_GONE, Some(format!("what stands: {}", word(change.to.as_deref()))))
        }
        EventType::Vanished => (Severity::Warning, PROBABLY_DENIED, Some("review gone".to_owned())),
        EventType::Submitted => (Severity::Plain, IN_REVIEW, None),
        EventType::Overdue => (Severity::Warning, STILL_IN_REVIEW, waiting),
        EventType::UnknownStatus => (Severity::Warning, UNKNOWN_STATUS, Some(word(change.to.as_deref()))),
        _ => (Severity::Plain, CHANGED, Some(from_to)),
    }
}

pub(super) const APPROVED: Label = Label::new("Approved", ["approved"; 2]);
pub(super) const DENIED: Label = Label::new("Denied", ["denied"; 2]);
pub(super) const REVOKED: Label = Label::new("Revoked", ["revoked"; 2]);
const REQUEST_GONE: Label = Label::new("Request gone", ["request gone", "requests gone"]);
pub(super) const PROBABLY_DENIED: Label = Label::new("Probably denied", ["probably denied"; 2]);
pub(super) const IN_REVIEW: Label = Label::new("In review", ["in review"; 2]);
const STILL_IN_REVIEW: Label = Label::new("Still in review", ["still in review"; 2]);
const UNKNOWN_STATUS: Label = Label::new("Unknown status", ["unknown status", "unknown statuses"]);
const CHANGED: Label = Label::new("Changed", ["changed"; 2]);

fn what(event: EventType, change: &VettingChange, customer: &str, qualification: &str, zone: Tz) -> String {
    let (from, to) = (word(change.from.as_deref()), word(change.to.as_deref()));
    match event {
        EventType::Approved => format!("Microsoft has approved {customer} for {qualification}."),
        EventType::Denied => format!("Microsoft has denied {customer} the qualification {qualification}."),
        EventType::Revoked if is(change.to.as_deref(), ABSENT) => format!(
            "{customer} was approved for {qualification}, and Partner Center does not list that qualification any more."
        ),
        EventType::Revoked => format!("{customer} was approved for {qualification}, and Microsoft has now denied it."),
        EventType::Vanished if !is(change.to.as_deref(), ABSENT) => {
            let day = |at: Timestamp| time_format::day(at, zone);
            let gone = change.gone_created_at.map(|at| format!(" of {}", day(at))).unwrap_or_default();
            let stands = change.vetting_created_at.map(|at| format!(" of {}", day(at))).unwrap_or_default();
            let verdict = if is(change.to.as_deref(), "approved") { "approval" } else { "denial" };
            format!(
                "The request{gone} of {customer} for {qualification} is no longer shown; what stands is the \
                 {verdict}{stands}. Microsoft said nothing of how that request ended."
            )
        }
        EventType::Vanished => format!(
            "The review of {customer} for {qualification} is gone from Partner Center without a verdict. That probably \
             means that Microsoft has denied it: the portal shows \"None\" after a denial."
        ),
        EventType::Submitted => format!("Microsoft has begun to review {customer} for {qualification}."),
        EventType::Overdue => match &change.overdue {
            Some(overdue) => format!(
                "Microsoft has been reviewing {customer} for {qualification} for {} and has not decided.",
                business_days(overdue.business_days)
            ),
            None => format!("Microsoft is still reviewing {customer} for {qualification}."),
        },
        EventType::UnknownStatus => format!(
            "Partner Center reports the status \"{to}\" for {customer}, {qualification}. vetwatch does not know that \
             word, and takes it for no verdict."
        ),
        _ => format!("{customer}, {qualification}: Partner Center now says {to}; before, {from}."),
    }
}

fn facts(event: EventType, data: &EventData, change: &VettingChange, occurred_at: Timestamp, zone: Tz) -> Vec<Fact> {
    let moment = |at| time_format::moment(at, zone);
    let mut facts = Vec::new();
    if change.attempt > 1 && !is_counted(change) {
        facts.push(fact("Attempt", format!("{}, as far as vetwatch saw", change.attempt)));
    }
    let submitted = change.vetting_created_at.map(|created| {
        let took = time_format::length(occurred_at.since(created));
        match event {
            EventType::Overdue => fact("Submitted", format!("{}, {took} ago", moment(created))),
            EventType::Vanished if !is(change.to.as_deref(), ABSENT) => {
                fact("What stands", format!("{} of {}", word(change.to.as_deref()), moment(created)))
            }
            EventType::Approved | EventType::Denied | EventType::Vanished if occurred_at > created => {
                fact("Submitted", format!("{}; it took {took}", moment(created)))
            }
            _ => fact("Submitted", moment(created)),
        }
    });
    match event {
        EventType::Overdue | EventType::UnknownStatus => {
            facts.push(fact("Seen", moment(data.observed_at)));
        }
        _ => {
            let name = match event {
                EventType::Approved | EventType::Denied | EventType::Revoked => "Decided",
                _ => "Changed",
            };
            facts.push(fact(name, time_format::span(change.last_seen_before_at, data.observed_at, zone)));
        }
    }
    if submitted.is_none()
        && let Some(overdue) = &change.overdue
    {
        facts.push(fact("In review", format!("since {}, as far as vetwatch saw", moment(overdue.since))));
    }
    facts.extend(submitted);
    if let Some(expected) = change.overdue.as_ref().and_then(|overdue| overdue.expected.as_ref()) {
        facts.push(fact("Expected", expected.text.clone()));
    }
    if let Some(overdue) = change.overdue.as_ref().filter(|overdue| overdue.reminder > 1) {
        facts.push(fact("Reminder", format!("number {} of this review", overdue.reminder)));
    }
    if change.first_seen {
        facts.push(fact("Note", "first seen with this status: vetwatch had not seen this customer before"));
    }
    let domain = text::line(&change.customer.domain, 100);
    if !domain.is_empty() {
        facts.push(fact("Domain", domain));
    }
    if !change.customer.tags.is_empty() {
        facts.push(fact("Tags", text::line(&change.customer.tags.join(", "), 200)));
    }
    facts
}

/// When it happened, for a row of a digest.
fn when(event: EventType, data: &EventData, change: &VettingChange, zone: Tz) -> String {
    let seen = || format!("Seen {}", time_format::brief(None, data.observed_at, zone));
    match event {
        EventType::Overdue => change
            .vetting_created_at
            .map_or_else(seen, |at| format!("Submitted {}", time_format::brief(None, at, zone))),
        EventType::UnknownStatus => seen(),
        _ if change.last_seen_before_at.is_none() => seen(),
        EventType::Approved | EventType::Denied | EventType::Revoked => {
            format!("Decided {}", time_format::brief(change.last_seen_before_at, data.observed_at, zone))
        }
        _ => format!("Changed {}", time_format::brief(change.last_seen_before_at, data.observed_at, zone)),
    }
}

/// What is said of every attempt: requests that vetwatch did not see count as well.
pub(super) const AS_SEEN: &str = ", as far as vetwatch saw";

/// Whether the limit of three applies, and the attempt is known.
fn is_counted(change: &VettingChange) -> bool {
    change.attempt > 0 && advice::is_education(change)
}

/// `2 of 3`. Support may allow more.
fn of_those_allowed(attempt: u32) -> String {
    match advice::EDUCATION_ATTEMPTS {
        allowed if attempt > allowed => format!("{attempt}, after the {allowed} that are allowed"),
        allowed => format!("{attempt} of {allowed}"),
    }
}

fn business_days(count: u32) -> String {
    if count == 1 { "1 business day".to_owned() } else { format!("{count} business days") }
}

/// Facts for a person that follows it up, as Partner Center and Microsoft's support have them: in UTC. Not needed on a
/// phone.
fn small(data: &EventData, change: &VettingChange) -> Vec<Fact> {
    let mut small = vec![fact("Customer's Microsoft ID", text::line(&change.customer.id, 80))];
    small.extend(data.partner.as_deref().map(|partner| fact("Partner Center account", text::line(partner, 80))));
    small.extend(change.vetting_created_at.map(|at| fact("Create date in Partner Center", time_format::utc(at))));
    let seen = time_format::utc(data.observed_at);
    small.push(match advice::correlation_id(change) {
        Some(id) => fact("Correlation ID", format!("{id}, of {seen}")),
        None => fact("Seen", seen),
    });
    small.push(fact("Event", data.event_id.to_string()));
    small
}

/// The customer's name; its domain or id if the name has no visible text.
pub(super) fn name(customer: &CustomerRef) -> String {
    [&customer.name, &customer.domain, &customer.id]
        .into_iter()
        .map(|text| text::line(text, 120))
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| "a customer without name".to_owned())
}

fn is(status: Option<&str>, word: &str) -> bool {
    status.is_some_and(|status| qualification::key(status) == word)
}

/// A status for people.
fn word(status: Option<&str>) -> String {
    match status {
        None => "no status".to_owned(),
        Some(_) if is(status, ABSENT) => "no entry".to_owned(),
        Some(_) if is(status, "inreview") => "in review".to_owned(),
        Some(other) => text::line(other, 60),
    }
}

/// The customer's account page, as the portal's address bar shows it: Microsoft documents no URL for it.
pub(super) fn link(customer_id: &str) -> String {
    use std::fmt::Write as _;
    let mut link = "https://partner.microsoft.com/dashboard/v2/customers/".to_owned();
    for byte in customer_id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            link.push(char::from(byte));
        } else {
            let _ = write!(link, "%{byte:02X}"); // writing to a String does not fail
        }
    }
    link + "/account"
}
