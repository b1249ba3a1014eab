//! `vetwatch deliveries show`.

use std::fmt::Write as _;

use super::lines_of;
use crate::cli::output::Style;
use crate::cli::{Context, Exit, Failure, lookup, time_args};
use crate::config::PublicConfig;
use crate::store::reports::DeliveryDetail;
use crate::text;

pub(super) async fn show(context: &Context, outline: &PublicConfig, prefix: &str) -> Result<Exit, Failure> {
    let store = context.reading_store(&outline.database).await?;
    let id = lookup::delivery(&store, prefix).await?;
    let Some(detail) = store.delivery(&id).await? else {
        return Err(Failure::new(Exit::NotFound, format!("there is no message \"{id}\"")));
    };
    if context.json {
        context.out.json(&detail)?;
    } else {
        context.out.write(&page_of(context.out.style, &detail))?;
    }
    Ok(Exit::Done)
}

fn page_of(style: Style, detail: &DeliveryDetail) -> String {
    let mut page = lines_of(style, &detail.delivery);
    let _ = writeln!(page, "\n{}", style.heading("Tells"));
    for event in &detail.events_told {
        let summary = event.data["summary"].as_str().map(text::terminal).unwrap_or_default();
        let about = match (event.data["customer"]["name"].as_str(), event.data["qualification"].as_str()) {
            (Some(name), Some(qualification)) => format!("{}, {}", text::terminal(name), text::terminal(qualification)),
            _ => summary.into_owned(),
        };
        let at = time_args::minute(event.occurred_at);
        let _ = writeln!(page, "  {at}  {}  {about}  (event {})", event.event_type, event.event_id);
    }
    let _ = writeln!(page, "\n{}", style.heading("Attempts"));
    if detail.attempts_made.is_empty() {
        page += "  none kept\n";
    }
    for attempt in &detail.attempts_made {
        let outcome = attempt.outcome.as_deref().unwrap_or("under way, or the process ended in it");
        let response = attempt.response.as_deref().map(text::terminal).unwrap_or_default();
        let took = attempt.ended_at.map(|end| format!(" after {} ms", end.since(attempt.began_at).as_millis()));
        let _ = writeln!(
            page,
            "  {:>3}  {}  {outcome}{}  {response}",
            attempt.number,
            attempt.began_at,
            took.unwrap_or_default()
        );
    }
    if let Some(recipients) = detail.final_replies.as_object().filter(|recipients| !recipients.is_empty()) {
        let _ = writeln!(page, "\n{}", style.heading("Recipients that took it or refused it for good"));
        for (address, reply) in recipients {
            let _ =
                writeln!(page, "  {}  {}", text::terminal(address), text::terminal(reply.as_str().unwrap_or_default()));
        }
    }
    let _ = writeln!(page, "\n{}", style.heading("Message"));
    if let Some(error) = &detail.template_error {
        let _ =
            writeln!(page, "  In its built-in form, because the endpoint's template failed: {}", text::terminal(error));
    }
    match &detail.message {
        Some(message) => page += &(text::terminal_lines(message) + "\n"),
        None => page += "  It is written when the first attempt begins.\n",
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output;
    use crate::store::reports::fixture;

    #[tokio::test]
    async fn a_message_is_shown_with_events_attempts_recipients_and_text() {
        let filled = fixture::filled().await;
        let detail = filled.store.delivery("0193b000-0000-7000-8000-000000000002").await.unwrap().unwrap();
        insta::assert_snapshot!(output::on_screens(|out| page_of(out.style, &detail)));
    }
}
