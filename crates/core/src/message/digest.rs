//! Many events in few lines: sections by label, the most severe first, a row per event, each advice once.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Item, Message, Severity, numbered, push_lines};
use crate::{csv, text};

/// Messages with more events use rows. With fewer, each event is shown in full.
const MAX_IN_FULL: usize = 3;
/// Longest texts in a row, in bytes: five hundred rows are to stay below a megabyte. Reasons are a few words.
const MAX_NAME: usize = 80;
const MAX_DOMAIN: usize = 60;
const MAX_REASON: usize = 80;
const MAX_SENTENCES: usize = 400;
/// The most reasons that the heading of a piece of advice names.
const MAX_REASONS_NAMED: usize = 3;

/// The compact form of a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Digest {
    /// `1 revoked, 3 denied`
    pub counts: String,
    /// Where the rows are that were left out.
    pub more: Option<String>,
    pub sections: Vec<Section>,
    pub advice: Vec<Advice>,
}

/// Events with the same label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    pub tone: Severity,
    pub label: String,
    /// How many events it has; `rows` may hold fewer.
    pub count: usize,
    /// By name.
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub title: String,
    /// Tells customers of one name apart; empty if the title is the domain.
    pub domain: String,
    /// `Education, attempt 2 of 3`
    pub about: String,
    /// Microsoft's reason, or another short remark.
    pub summary_text: String,
    /// `Decided 21 Nov 2026, 09:14 UTC`
    pub when: String,
    /// The correlation id, where the advice asks for it.
    pub small: String,
    pub link: Option<String>,
    /// The customer's Microsoft ID; empty for an event about vetwatch.
    pub id: String,
}

/// What to do about all customers that were decided for the same reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// `Denied: Not an Academic Domain (3 customers)`
    pub heading: String,
    pub steps: Vec<String>,
}

/// `1 revoked, 3 denied`, in the order of the items.
pub(super) fn counts(items: &[Item]) -> String {
    let counts = sections(items).into_iter().map(|(_, label, of)| match (label.strip_prefix("vetwatch "), of.len()) {
        (Some("needs attention"), count) if count > 1 => format!("{count} need attention"),
        (Some(rest), count) => format!("{count} {rest}"),
        (None, count) => format!("{count} {}", label.to_lowercase()),
    });
    counts.collect::<Vec<_>>().join(", ")
}

/// The items by label, in order of the first occurrence.
fn sections(items: &[Item]) -> Vec<(Severity, &str, Vec<&Item>)> {
    let mut sections: Vec<(Severity, &str, Vec<&Item>)> = Vec::new();
    for item in items {
        match sections.iter_mut().find(|(_, label, _)| *label == item.label) {
            Some((_, _, items)) => items.push(item),
            None => sections.push((item.tone, &item.label, vec![item])),
        }
    }
    sections
}

impl Digest {
    /// `None` if the message is shown in full.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        if message.items.len() <= MAX_IN_FULL {
            return None;
        }
        let mut all = Self { counts: counts(&message.items), more: None, sections: Vec::new(), advice: Vec::new() };
        for (tone, label, mut items) in sections(&message.items) {
            items.sort_by_cached_key(|item| item.title.to_lowercase());
            all.advice.extend(advice(label, &items));
            let rows: Vec<_> = items.into_iter().map(row).collect();
            all.sections.push(Section { tone, label: label.to_owned(), count: rows.len(), rows });
        }
        Some(all)
    }

    /// Leaves the first `max_rows` rows, which are the most severe, and says that the file `attached` has all.
    pub fn shorten(&mut self, max_rows: usize, attached: &str) {
        let (mut free, mut left_out) = (max_rows, 0);
        for section in &mut self.sections {
            section.rows.truncate(free);
            free -= section.rows.len();
            left_out += section.count - section.rows.len();
        }
        self.more =
            (left_out > 0).then(|| format!("{left_out} more are in the attached list, {attached}, which has all."));
    }

    /// All rows as CSV, for a spreadsheet.
    #[must_use]
    pub fn csv(&self, max_bytes: usize) -> String {
        let mut table = csv::record(["Result", "Customer", "Domain", "About", "Reason", "When", "Microsoft ID"]);
        for section in &self.sections {
            for row in &section.rows {
                let cells =
                    [&section.label, &row.title, &row.domain, &row.about, &row.summary_text, &row.when, &row.id];
                let cells = cells.map(|cell| text::line(cell, max_bytes));
                table += &csv::record(cells.iter().map(String::as_str));
            }
        }
        table
    }

    pub(super) fn write_text(&self, text: &mut String) {
        for Section { label, count, rows, .. } in &self.sections {
            push_lines(text, ["", &format!("{} ({count})", label.to_uppercase())]);
            push_lines(text, (!rows.is_empty()).then_some(""));
            for row in rows {
                let domain = if row.domain.is_empty() { String::new() } else { format!(" ({})", row.domain) };
                let facts = [&row.about, &row.summary_text, &row.when, &row.small];
                let facts: Vec<_> = facts.into_iter().filter(|fact| !fact.is_empty()).map(String::as_str).collect();
                push_lines(text, [&format!("- {}{domain}", row.title), &format!("  {}", facts.join("; "))]);
                if let Some(link) = &row.link {
                    push_lines(text, [&format!("  {link}")]);
                }
            }
        }
        if let Some(more) = &self.more {
            push_lines(text, ["", more]);
        }
        if !self.advice.is_empty() {
            push_lines(text, ["", "WHAT TO DO NEXT"]);
        }
        for Advice { heading, steps } in &self.advice {
            push_lines(text, ["", heading]);
            push_lines(text, numbered(steps));
        }
    }
}

/// Whether the advice asks for the correlation id, which then belongs in the row.
fn asks_for_correlation(item: &Item) -> bool {
    item.steps.iter().any(|step| step.contains("correlation ID"))
}

fn row(item: &Item) -> Row {
    let correlation = item.small.iter().find(|fact| fact.name == "Correlation ID");
    let small = correlation.filter(|_| asks_for_correlation(item));
    // Alerts about vetwatch itself have no qualification, and their summary is a sentence or two.
    let (about, when, max_bytes) = match item.link {
        Some(_) => (&item.about, item.when.clone(), MAX_REASON),
        None => (&item.when, String::new(), MAX_SENTENCES),
    };
    Row {
        title: text::line(&item.title, MAX_NAME),
        domain: text::line(&item.domain, MAX_DOMAIN),
        about: about.clone(),
        summary_text: text::line(&item.summary_text, max_bytes),
        when,
        small: small.map(|fact| format!("{} {}", fact.name, fact.value)).unwrap_or_default(),
        link: item.link.clone(),
        id: item.customer_id.clone(),
    }
}

/// Advice on the items of a section. Items with the same first step share it; a step that holds for some of them only
/// (it depends on the attempt) says for which.
fn advice(label: &str, items: &[&Item]) -> Vec<Advice> {
    let mut groups: Vec<(&String, Vec<&Item>)> = Vec::new();
    for item in items {
        let Some(first) = item.steps.first() else { continue };
        match groups.iter_mut().find(|(known, _)| *known == first) {
            Some((_, items)) => items.push(item),
            None => groups.push((first, vec![item])),
        }
    }
    groups.into_iter().map(|(_, items)| Advice { heading: heading(label, &items), steps: steps(&items) }).collect()
}

/// `Denied: Not an Academic Domain (3 customers)`
fn heading(label: &str, items: &[&Item]) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for reason in items.iter().filter_map(|item| item.reason.as_deref()) {
        if !reasons.iter().any(|known| known.eq_ignore_ascii_case(reason)) {
            reasons.push(reason);
        }
    }
    let more = reasons.len().saturating_sub(MAX_REASONS_NAMED);
    let named: Vec<_> = reasons.iter().take(MAX_REASONS_NAMED).map(|reason| text::line(reason, MAX_REASON)).collect();
    let more = if more > 0 { format!(" and {more} other reasons") } else { String::new() };
    let about = if named.is_empty() { String::new() } else { format!(": {}{more}", named.join(" / ")) };
    let customers = items.iter().map(|item| &item.link).collect::<BTreeSet<_>>().len();
    format!("{label}{about} ({customers} customer{})", if customers == 1 { "" } else { "s" })
}

fn steps(items: &[&Item]) -> Vec<String> {
    let longest = items.iter().max_by_key(|item| item.steps.len());
    let mut all: Vec<&String> = longest.into_iter().flat_map(|item| &item.steps).collect();
    for (item, at) in items.iter().flat_map(|item| (0..item.steps.len()).map(move |at| (item, at))) {
        if let Some(step) = item.steps.get(at).filter(|step| !all.contains(step)) {
            all.insert((at + 1).min(all.len()), step);
        }
    }
    let written = all.into_iter().map(|step| {
        let of: Vec<_> = items.iter().filter(|item| item.steps.contains(step)).collect();
        let step = step.replace("correlation ID below", "correlation ID beside its name");
        let attempts: BTreeSet<_> = of.iter().filter_map(|item| item.attempt.as_deref()).collect();
        if of.len() == items.len() || attempts.is_empty() {
            return step;
        }
        format!("After {}: {step}", attempts.into_iter().collect::<Vec<_>>().join(" or "))
    });
    written.collect()
}
