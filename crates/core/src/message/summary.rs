//! The content of a summary: a row for each verdict, each review and each thing that needs a person, and how many more
//! there are.

use chrono_tz::Tz;

use super::{Item, Label, Severity, time_format, vetting};
use crate::event::CustomerRef;
use crate::page;
use crate::summary::{Decided, Named, Summary, Waiting};
use crate::text;

/// The most rows of a kind: a summary is read in ten seconds.
const MAX_ROWS: usize = 8;
const MAX_NEEDS: usize = 5;

const NEEDS_A_PERSON: Label = Label::new("Needs a person", ["needs a person", "need a person"]);

/// `From 16 Nov 2026, 08:00 CET to 23 Nov 2026, 08:00 CET.`
pub(super) fn span(summary: &Summary, zone: Tz) -> String {
    let [since, until] = [summary.since, summary.until].map(|at| time_format::moment(at, zone));
    format!("From {since} to {until}.")
}

pub(super) fn items(summary: &Summary, zone: Tz) -> Vec<Item> {
    let history = format!("vetwatch history --since {}", summary.since.to_utc().format("%Y-%m-%d"));
    let mut items = Vec::new();
    for (label, tone, outcome, count) in [
        (vetting::REVOKED, Severity::Bad, "Revoked", summary.revoked),
        (vetting::DENIED, Severity::Bad, "Denied", summary.denied),
        (vetting::PROBABLY_DENIED, Severity::Warning, "Vanished", summary.vanished),
        (vetting::APPROVED, Severity::Good, "Approved", summary.approved),
    ] {
        let of_it = summary.decided.iter().filter(|decided| decided.outcome == outcome);
        let rows = of_it.take(MAX_ROWS).map(|decided| decided_item(decided, label.clone(), tone, zone));
        push(&mut items, rows.collect(), count, &history);
    }
    let waiting = summary.waiting.iter().take(MAX_ROWS).map(|review| waiting_item(review, summary, zone));
    push(&mut items, waiting.collect(), summary.in_review, "vetwatch status");
    let needs = summary
        .attention
        .iter()
        .take(MAX_NEEDS)
        .map(|text| Item { title: text::line(text, 400), ..row(NEEDS_A_PERSON, Severity::Warning) });
    push(&mut items, needs.collect(), summary.attention.len() as u64, "vetwatch status");
    items
}

/// Appends rows of a label, and how many of `count` they leave out.
fn push(items: &mut Vec<Item>, rows: Vec<Item>, count: u64, command: &str) {
    let left_out = count.saturating_sub(rows.len() as u64);
    let kind = rows.first().map(|first| (first.label.clone(), first.tone));
    items.extend(rows);
    if let Some((label, tone)) = kind.filter(|_| left_out > 0) {
        let what = format!("`{command}` shows all");
        items.push(Item {
            title: format!("and {left_out} more"),
            about: what.clone(),
            when: what,
            count: left_out,
            ..row(label, tone)
        });
    }
}

fn decided_item(decided: &Decided, label: Label, tone: Severity, zone: Tz) -> Item {
    let reason = decided.vetting_reason.as_deref().filter(|_| tone == Severity::Bad);
    let reason = reason.map(|reason| text::line(reason, 300)).filter(|reason| !reason.is_empty());
    let (seen, gone) = match decided.outcome.as_str() {
        "Revoked" => ("Seen", Some("no longer approved")),
        "Vanished" => ("Seen", Some("no longer shown")),
        _ => ("Decided", None),
    };
    Item {
        about: text::line(&decided.qualification, 60),
        summary_text: reason.clone().or(gone.map(str::to_owned)).unwrap_or_default(),
        reason,
        when: format!("{seen} {}", time_format::day(decided.observed_at, zone)),
        ..customer(&decided.partner, &decided.customer, row(label, tone))
    }
}

fn waiting_item(review: &Waiting, summary: &Summary, zone: Tz) -> Item {
    let since = time_format::day(review.since, zone);
    let length = time_format::length(summary.until.since(review.since));
    let expected = review.expected.as_ref().map(|expected| format!("; {}", expected.text)).unwrap_or_default();
    Item {
        about: format!("{}, since {since} ({length}){expected}", text::line(&review.qualification, 60)),
        ..customer(&review.partner, &review.customer, row(vetting::IN_REVIEW, Severity::Plain))
    }
}

fn customer(partner: &str, named: &Named, item: Item) -> Item {
    let customer =
        CustomerRef { id: named.id.clone(), name: named.name.clone(), domain: String::new(), tags: Vec::new() };
    Item {
        title: vetting::name(&customer),
        link: Some(vetting::link(&named.id)),
        page_path: page::customer(partner, &named.id),
        customer_id: text::line(&named.id, 80),
        ..item
    }
}

fn row(label: Label, tone: Severity) -> Item {
    Item {
        tone,
        label,
        title: String::new(),
        domain: String::new(),
        about: String::new(),
        attempt: None,
        headline: String::new(),
        what: String::new(),
        reason: None,
        summary_text: String::new(),
        when: String::new(),
        facts: Vec::new(),
        steps: Vec::new(),
        link: None,
        page: None,
        page_path: String::new(),
        customer_id: String::new(),
        small: Vec::new(),
        count: 1,
    }
}
