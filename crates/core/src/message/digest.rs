//! Many events in few lines: sections by label, the most severe first, a row per event, each advice once.

use std::collections::BTreeSet;

use serde::Serialize;

use super::vetting::AS_SEEN;
use super::{Item, Label, Message, Severity, numbered, push_lines};
use crate::{csv, text};

/// Messages with more events use rows. With fewer, each event is shown in full.
const MAX_IN_FULL: usize = 3;
/// Longest texts in a row, in bytes: five hundred rows are to stay below a megabyte. Reasons are a few words.
const MAX_NAME: usize = 80;
const MAX_DOMAIN: usize = 60;
const MAX_REASON: usize = 80;
const MAX_SENTENCES: usize = 400;
/// An address is not cut: a longer one is left out.
const MAX_PAGE: usize = 200;
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
    pub count: u64,
    /// By name; of a summary in its order.
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
    /// `Decided 21 Nov 2026, 10:14 CET`
    pub when: String,
    /// The correlation id, where the advice asks for it.
    pub small: String,
    pub link: Option<String>,
    /// The customer's page.
    pub page: Option<String>,
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
    let counted = |of: &[&Item]| of.first().map(|item| item.label.counted(count(of)));
    let counts = sections(items).into_iter().filter_map(|(_, of)| counted(&of));
    counts.collect::<Vec<_>>().join(", ")
}

/// How many the items stand for.
#[must_use]
pub fn count(items: &[&Item]) -> u64 {
    items.iter().map(|item| item.count).sum()
}

/// The items by label, in order of the first occurrence.
#[must_use]
pub fn sections(items: &[Item]) -> Vec<(&Label, Vec<&Item>)> {
    let mut sections: Vec<(&Label, Vec<&Item>)> = Vec::new();
    for item in items {
        match sections.iter_mut().find(|(label, _)| **label == item.label) {
            Some((_, items)) => items.push(item),
            None => sections.push((&item.label, vec![item])),
        }
    }
    sections
}

impl Digest {
    /// `None` if the message is shown in full.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        if message.items.len() <= MAX_IN_FULL && !message.is_summary() {
            return None;
        }
        let mut all = Self { counts: counts(&message.items), more: None, sections: Vec::new(), advice: Vec::new() };
        for (label, mut items) in sections(&message.items) {
            if !message.is_summary() {
                items.sort_by_cached_key(|item| item.title.to_lowercase());
            }
            let count = count(&items);
            let tone = items.first().map_or(Severity::Plain, |item| item.tone);
            all.advice.extend(advice(label, &items));
            let rows: Vec<_> = items.into_iter().map(|item| row(item, message.is_summary())).collect();
            all.sections.push(Section { tone, label: label.to_string(), count, rows });
        }
        Some(all)
    }

    /// Leaves the first `max_rows` rows, which are the most severe, and says that the file `attached` has all.
    pub fn shorten(&mut self, max_rows: usize, attached: &str) {
        let (mut free, mut left_out) = (max_rows, 0);
        for section in &mut self.sections {
            left_out += section.rows.len().saturating_sub(free);
            section.rows.truncate(free);
            free -= section.rows.len();
        }
        self.more =
            (left_out > 0).then(|| format!("{left_out} more are in the attached list, {attached}, which has all."));
    }

    /// All rows as CSV, for a spreadsheet.
    #[must_use]
    pub fn csv(&self, max_bytes: usize) -> String {
        let has_pages = self.sections.iter().flat_map(|section| &section.rows).any(|row| row.page.is_some());
        let header = ["Result", "Customer", "Domain", "About", "Reason", "When", "Microsoft ID"];
        let mut table = csv::record(header.into_iter().chain(has_pages.then_some("Page")));
        for section in &self.sections {
            for row in &section.rows {
                let cells =
                    [&section.label, &row.title, &row.domain, &row.about, &row.summary_text, &row.when, &row.id];
                let cells = cells.map(|cell| text::line(cell, max_bytes));
                let page = has_pages.then(|| row.page.as_deref().unwrap_or_default());
                table += &csv::record(cells.iter().map(String::as_str).chain(page));
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
                push_lines(text, [&format!("- {}{domain}", row.title)]);
                push_lines(text, (!facts.is_empty()).then(|| format!("  {}", facts.join("; "))));
                if let Some(link) = &row.link {
                    push_lines(text, [&format!("  {link}")]);
                }
                if let Some(page) = &row.page {
                    push_lines(text, [&format!("  History: {page}")]);
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

fn row(item: &Item, of_summary: bool) -> Row {
    let correlation_id = item.steps.iter().find_map(|step| step.correlation_id.as_ref());
    // Alerts about vetwatch itself have no qualification, and their summary is a sentence or two.
    let (about, when, max_bytes) = match item.link {
        Some(_) => (item.about.trim_end_matches(AS_SEEN), item.when.clone(), MAX_REASON),
        None => (item.when.as_str(), String::new(), MAX_SENTENCES),
    };
    Row {
        // What needs a person is a sentence.
        title: text::line(&item.title, if of_summary { MAX_SENTENCES } else { MAX_NAME }),
        domain: text::line(&item.domain, MAX_DOMAIN),
        about: about.to_owned(),
        summary_text: text::line(&item.summary_text, max_bytes),
        when,
        small: correlation_id.map(|id| format!("Correlation ID {id}")).unwrap_or_default(),
        link: item.link.clone(),
        page: item.customer_page(MAX_PAGE).map(str::to_owned),
        id: item.customer_id.clone(),
    }
}

/// Advice on the items of a section. Items with the same first step share it; a step that holds for some of them only
/// (it depends on the attempt) says for which.
fn advice(label: &Label, items: &[&Item]) -> Vec<Advice> {
    let mut groups: Vec<(&str, Vec<&Item>)> = Vec::new();
    for item in items {
        let Some(first) = item.steps.first() else { continue };
        match groups.iter_mut().find(|(known, _)| *known == first.text) {
            Some((_, items)) => items.push(item),
            None => groups.push((&first.text, vec![item])),
        }
    }
    groups.into_iter().map(|(_, items)| Advice { heading: heading(label, &items), steps: steps(&items) }).collect()
}

/// `Denied: Not an Academic Domain (3 customers)`
fn heading(label: &Label, items: &[&Item]) -> String {
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
    let mut all: Vec<&str> = longest.into_iter().flat_map(|item| &item.steps).map(|step| &*step.text).collect();
    for (item, at) in items.iter().flat_map(|item| (0..item.steps.len()).map(move |at| (item, at))) {
        if let Some(step) = item.steps.get(at).filter(|step| !all.contains(&&*step.text)) {
            all.insert((at + 1).min(all.len()), &step.text);
        }
    }
    let written = all.into_iter().map(|text| {
        let of: Vec<_> =
            items.iter().filter_map(|item| Some((item, item.steps.iter().find(|step| step.text == text)?))).collect();
        let cites = of.iter().any(|(_, step)| step.correlation_id.is_some());
        let step =
            if cites { format!("{text} Give them the correlation ID beside its name.") } else { text.to_owned() };
        let attempts: BTreeSet<_> = of.iter().filter_map(|(item, _)| item.attempt.as_deref()).collect();
        if of.len() == items.len() || attempts.is_empty() {
            return step;
        }
        format!("After {}: {step}", attempts.into_iter().collect::<Vec<_>>().join(" or "))
    });
    written.collect()
}
