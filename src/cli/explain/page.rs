//! Renders the proof trail on one screen.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::output::Style;
use crate::cli::{deliveries, time_args};
use crate::event::EventType;
use crate::store::reports::{DeliveryTrace, EventTrace, TransitionEvidence};
use crate::text;
use crate::time::Timestamp;

/// A longer response is cut; `--json` has all of it.
const RESPONSE_MAX_CHARS: usize = 1200;

pub(super) fn of(style: Style, proof: &EventTrace) -> String {
    let event = &proof.event;
    let mut page = format!("{}\n", style.heading(&format!("{}  {}", event.event_type, text::terminal(&about(proof)))));
    line(&mut page, "event", &event.event_id);
    line(&mut page, "happened", &event.occurred_at.to_string());
    line(&mut page, "partner", &proof.partner);
    if proof.test {
        line(&mut page, "test", "somebody asked for it with `vetwatch test-send`; nothing happened");
    }
    match &proof.transition {
        Some(transition) => page += &evidence(style, transition),
        None => page += &without_transition(style, proof),
    }
    let _ = writeln!(page, "\n{}", style.heading("Told"));
    for delivery in &proof.deliveries {
        page += &targets_for(style, delivery);
    }
    if proof.deliveries.is_empty() {
        let _ = writeln!(page, "  {}", why_none(proof));
    }
    page
}

fn about(proof: &EventTrace) -> String {
    let data = &proof.event.data;
    let field = |pointer: &str| data.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (field("/customer/name").or(field("/customer/id")), field("/qualification")) {
        (Some(name), Some(qualification)) => format!("{name}, {qualification}"),
        _ => field("/summary").unwrap_or_default().to_owned(),
    }
}

fn line(page: &mut String, label: &str, value: &str) {
    let _ = writeln!(page, "  {label:<16}{}", text::terminal(value));
}

/// Renders the response, and what it changed.
fn evidence(style: Style, seen: &TransitionEvidence) -> String {
    let mut page = format!("\n{}\n", style.heading("Answer of Partner Center"));
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "not known".to_owned());
    line(&mut page, "customer", &format!("{} ({})", seen.customer_name, seen.customer_id));
    line(&mut page, "answered", &seen.observed_at.to_string());
    line(&mut page, "correlation", &optional(&seen.correlation_id));
    line(&mut page, "request", &optional(&seen.request_id));
    match &seen.raw_answer {
        Some(answer) => {
            let short: String = answer.chars().take(RESPONSE_MAX_CHARS).collect();
            let more = if short.len() < answer.len() { " … (--json has all of it)" } else { "" };
            let _ = writeln!(page, "  {}{more}", style.faint(&text::terminal(&short)));
        }
        None => line(&mut page, "answer", "not kept"),
    }

    let _ = writeln!(page, "\n{}", style.heading("What changed"));
    let status = |status: &Option<String>| status.clone().unwrap_or_else(|| "no status".to_owned());
    let from = match &seen.from_status {
        None if seen.first_seen => "never seen before".to_owned(),
        from => status(from),
    };
    line(&mut page, "status", &format!("{from} → {}", status(&seen.to_status)));
    changed(&mut page, "reason", seen.previous_reason.as_deref(), seen.vetting_reason.as_deref());
    let date = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let (before, now) = (date(seen.previous_created_at), date(seen.vetting_created_at));
    changed(&mut page, "create date", before.as_deref(), now.as_deref());
    line(&mut page, "attempt", &seen.attempt.to_string());
    let before = seen.last_seen_before_at.map_or("it was not seen before".to_owned(), |at| at.to_string());
    line(&mut page, "last otherwise", &before);
    page
}

fn changed(page: &mut String, label: &str, before: Option<&str>, now: Option<&str>) {
    match (before, now) {
        (None, None) => {}
        (None, Some(now)) => line(page, label, now),
        (Some(before), now) if Some(before) == now => line(page, label, before),
        (Some(before), now) => line(page, label, &format!("{} (before: {before})", now.unwrap_or("none"))),
    }
}

/// Renders an event without a transition: a reminder, an operational alert, a test.
fn without_transition(style: Style, proof: &EventTrace) -> String {
    let mut page = format!("\n{}\n", style.heading("What it says"));
    let data = &proof.event.data;
    let field = |key: &str| data[key].as_str().unwrap_or_default();
    if let Some(overdue) = data.get("overdue").filter(|overdue| overdue.is_object()) {
        line(&mut page, "in review", &format!("since {}", overdue["since"].as_str().unwrap_or_default()));
        line(
            &mut page,
            "for",
            &format!("{} business days; reminder {}", overdue["business_days"], overdue["reminder"]),
        );
        line(&mut page, "last seen so", field("observed_at"));
    }
    for sentence in field("detail").lines() {
        let _ = writeln!(page, "  {}", text::terminal(sentence));
    }
    page
}

fn targets_for(style: Style, delivery: &DeliveryTrace) -> String {
    let mut page = String::new();
    for line in deliveries::lines_of(style, &delivery.delivery).lines() {
        let _ = writeln!(page, "  {line}");
    }
    if let Some(why) = &delivery.why {
        let _ = writeln!(page, "      because of: {}", text::terminal(why));
    }
    for attempt in &delivery.attempts_made {
        let outcome = attempt.outcome.as_deref().unwrap_or("under way, or the process ended in it");
        let response = attempt.response.as_deref().map(text::terminal).unwrap_or_default();
        let at = time_args::minute(attempt.began_at);
        let _ = writeln!(page, "      attempt {}  {at}  {outcome}  {response}", attempt.number);
    }
    if delivery.attempts_made.is_empty() && delivery.delivery.attempts > 0 {
        page += "      the details of its attempts are not kept any more\n";
    }
    for (address, reply) in delivery.final_replies.as_object().into_iter().flatten() {
        let reply = text::terminal(reply.as_str().unwrap_or_default()).into_owned();
        let _ = writeln!(page, "      {}  {reply}", text::terminal(address));
    }
    page
}

/// Why nothing was sent, as far as known.
fn why_none(proof: &EventTrace) -> &'static str {
    let kind = EventType::parse(&proof.event.event_type);
    if proof.muted {
        "Nobody: the customer was muted. `vetwatch customers unmute` ends that; what happened meanwhile is not told."
    } else if kind.is_some_and(EventType::is_opt_in) {
        "Nobody: this type is told only where a route names it, and none took it then."
    } else {
        "Nobody: no endpoint was left to tell; one is not told of itself, and a configuration may have had no other."
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output;
    use crate::store::reports::fixture;

    #[tokio::test]
    async fn a_screen_leads_from_the_answer_to_the_receivers_replies_and_nothing_in_it_acts() {
        let filled = fixture::filled().await;
        let ids = filled.store.event_ids("", 100).await.unwrap();
        let mut shown = String::new();
        for id in &ids {
            let proof = filled.store.proof(id).await.unwrap().unwrap();
            let page = of(Style::PLAIN, &proof);
            assert!(!page.contains(['\u{1b}', '\u{202e}']), "{page}");
            if !proof.deliveries.is_empty() && shown.is_empty() {
                shown = output::on_screens(|out| of(out.style, &proof));
            }
        }
        insta::assert_snapshot!(shown);
    }
}
