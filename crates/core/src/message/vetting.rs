//! The content of a message about one customer's qualification.

use super::{Fact, Item, Severity, advice, fact, time_format};
use crate::changes::ABSENT;
use crate::event::{CustomerRef, EventData, EventType, VettingChange};
use crate::qualification;
use crate::text;
use crate::time::Timestamp;

pub(super) fn item(event: EventType, data: &EventData, change: &VettingChange, occurred_at: Timestamp) -> Item {
    let (tone, label, aside) = classify(event, change, occurred_at);
    let title = name(&change.customer);
    let qualification = text::line(&change.qualification, 60);
    let reason = change.vetting_reason.as_deref().map(|reason| text::line(reason, 300)).filter(|r| !r.is_empty());
    let attempt = is_counted(change).then(|| format!("attempt {}", of_those_allowed(change.attempt)));
    let summary_text = reason.clone().or_else(|| aside.clone()).unwrap_or_default();
    let aside = aside.map(|aside| format!(" ({aside})")).unwrap_or_default();
    let domain = Some(text::line(&change.customer.domain, 100)).filter(|domain| *domain != title).unwrap_or_default();
    Item {
        tone,
        headline: format!("{label}: {title} – {qualification}{aside}"),
        what: what(event, change, &title, &qualification),
        label,
        about: match event {
            EventType::Revoked | EventType::Changed | EventType::UnknownStatus => qualification,
            _ => attempt.iter().fold(qualification, |about, attempt| format!("{about}, {attempt}")),
        },
        domain,
        attempt,
        reason,
        summary_text,
        when: when(event, data, change),
        facts: facts(event, data, change, occurred_at),
        steps: advice::steps(event, change),
        link: Some(link(&change.customer.id)),
        customer_id: text::line(&change.customer.id, 80),
        small: small(data, change),
        title,
    }
}

/// The severity, the label, and a remark for the subject's brackets.
fn classify(event: EventType, change: &VettingChange, occurred_at: Timestamp) -> (Severity, String, Option<String>) {
    let reason = change.vetting_reason.as_deref().map(|reason| text::line(reason, 80)).filter(|r| !r.is_empty());
    let waiting = change.overdue.map(|overdue| format!("for {}", business_days(overdue.business_days)));
    let waiting = waiting.or_else(|| {
        change.vetting_created_at.map(|created| format!("for {}", time_format::length(occurred_at.since(created))))
    });
    let from_to = format!("{} → {}", word(change.from.as_deref()), word(change.to.as_deref()));
    let (tone, label, aside) = match event {
        EventType::Approved => (Severity::Good, "Approved", None),
        EventType::Denied => (Severity::Bad, "Denied", reason),
        EventType::Revoked if is(change.to.as_deref(), ABSENT) => {
            (Severity::Bad, "Revoked", Some("entry gone".to_owned()))
        }
        EventType::Revoked => (Severity::Bad, "Revoked", reason),
        EventType::Vanished if !is(change.to.as_deref(), ABSENT) => {
            (Severity::Warning, "Request gone", Some(format!("what stands: {}", word(change.to.as_deref()))))
        }
        EventType::Vanished => (Severity::Warning, "Probably denied", Some("review gone".to_owned())),
        EventType::Submitted => (Severity::Plain, "In review", None),
        EventType::Overdue => (Severity::Warning, "Still in review", waiting),
        EventType::UnknownStatus => (Severity::Warning, "Unknown status", Some(word(change.to.as_deref()))),
        _ => (Severity::Plain, "Changed", Some(from_to)),
    };
    (tone, label.to_owned(), aside)
}

fn what(event: EventType, change: &VettingChange, customer: &str, qualification: &str) -> String {
    let (from, to) = (word(change.from.as_deref()), word(change.to.as_deref()));
    match event {
        EventType::Approved => format!("Microsoft has approved {customer} for {qualification}."),
        EventType::Denied => format!("Microsoft has denied {customer} the qualification {qualification}."),
        EventType::Revoked if is(change.to.as_deref(), ABSENT) => format!(
            "{customer} was approved for {qualification}, and Partner Center does not list that qualification any more."
        ),
        EventType::Revoked => format!("{customer} was approved for {qualification}, and Microsoft has now denied it."),
        EventType::Vanished if !is(change.to.as_deref(), ABSENT) => {
            let day = |at: Timestamp| at.to_utc().format("%-d %B %Y").to_string();
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
        EventType::Overdue => match change.overdue {
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

fn facts(event: EventType, data: &EventData, change: &VettingChange, occurred_at: Timestamp) -> Vec<Fact> {
    let mut facts = Vec::new();
    if is_counted(change) {
        facts.push(fact("Attempt", format!("{}, as far as vetwatch saw", of_those_allowed(change.attempt))));
    } else if change.attempt > 1 {
        facts.push(fact("Attempt", format!("{}, as far as vetwatch saw", change.attempt)));
    }
    let submitted = change.vetting_created_at.map(|created| {
        let took = time_format::length(occurred_at.since(created));
        match event {
            EventType::Overdue => fact("Submitted", format!("{}, {took} ago", time_format::moment(created))),
            EventType::Vanished if !is(change.to.as_deref(), ABSENT) => {
                fact("What stands", format!("{} of {}", word(change.to.as_deref()), time_format::moment(created)))
            }
            EventType::Approved | EventType::Denied | EventType::Vanished if occurred_at > created => {
                fact("Submitted", format!("{}; it took {took}", time_format::moment(created)))
            }
            _ => fact("Submitted", time_format::moment(created)),
        }
    });
    match event {
        EventType::Overdue | EventType::UnknownStatus => {
            facts.push(fact("Seen", time_format::moment(data.observed_at)));
        }
        _ => {
            let name = match event {
                EventType::Approved | EventType::Denied | EventType::Revoked => "Decided",
                _ => "Changed",
            };
            facts.push(fact(name, time_format::span(change.last_seen_before_at, data.observed_at)));
        }
    }
    if submitted.is_none()
        && let Some(overdue) = change.overdue
    {
        facts.push(fact("In review", format!("since {}, as far as vetwatch saw", time_format::moment(overdue.since))));
    }
    facts.extend(submitted);
    if let Some(overdue) = change.overdue.filter(|overdue| overdue.reminder > 1) {
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
fn when(event: EventType, data: &EventData, change: &VettingChange) -> String {
    let seen = || format!("Seen {}", time_format::brief(None, data.observed_at));
    match event {
        EventType::Overdue => {
            change.vetting_created_at.map_or_else(seen, |at| format!("Submitted {}", time_format::brief(None, at)))
        }
        EventType::UnknownStatus => seen(),
        _ if change.last_seen_before_at.is_none() => seen(),
        EventType::Approved | EventType::Denied | EventType::Revoked => {
            format!("Decided {}", time_format::brief(change.last_seen_before_at, data.observed_at))
        }
        _ => format!("Changed {}", time_format::brief(change.last_seen_before_at, data.observed_at)),
    }
}

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

/// Facts for a person that follows it up; not needed on a phone.
fn small(data: &EventData, change: &VettingChange) -> Vec<Fact> {
    let mut small = vec![
        fact("Customer's Microsoft ID", text::line(&change.customer.id, 80)),
        fact("Partner Center account", text::line(&data.partner, 80)),
    ];
    let correlation = change.correlation_id.as_deref().map_or("not known".to_owned(), |id| text::line(id, 80));
    small.push(fact("Correlation ID", correlation));
    small.push(fact("Event", data.event_id.to_string()));
    small
}

/// The customer's name; its domain or id if the name has no visible text.
fn name(customer: &CustomerRef) -> String {
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
fn link(customer_id: &str) -> String {
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
