//! `vetwatch deliveries`: shows messages and sends them again.

mod redirect;

use std::fmt::Write as _;

use serde_json::json;

use crate::cli::args::{DeliveriesCommand, RedriveArgs};
use crate::cli::output::Style;
use crate::cli::{Context, Exit, Failure, time_args};
use crate::config::PublicConfig;
use crate::store::Store;
use crate::store::redrive::{Redrive, Redriven};
use crate::store::reports::{DeliveryDetail, DeliveryFilter, DeliveryRow};
use crate::text;

pub(super) async fn deliveries(context: &Context, command: DeliveriesCommand) -> Result<Exit, Failure> {
    let outline = context.outline()?;
    if let DeliveriesCommand::Redrive(args) = &command
        && let Some(to) = &args.to
    {
        return redirect::redirect(context, &outline, args, to).await;
    }
    // Only commands that change something wait for another writer and need the right to write.
    let store = match command {
        DeliveriesCommand::List { .. } | DeliveriesCommand::Show { .. } => {
            context.reading_store(&outline.database).await?
        }
        DeliveriesCommand::Redrive(_) => context.existing_store(&outline.database).await?,
    };
    match command {
        DeliveriesCommand::List { state, endpoint, since, limit } => {
            let filter = DeliveryFilter {
                state: state.map(crate::cli::args::State::as_str),
                endpoint: endpoint.as_deref(),
                since: since.map(|since| since.at(context.now())),
                // One more, to know whether the list is complete.
                limit: Some(limit.saturating_add(1)),
                ..DeliveryFilter::default()
            };
            list(context, &outline, &store, filter, limit as usize).await
        }
        DeliveriesCommand::Show { id } => show(context, &store, &id).await,
        DeliveriesCommand::Redrive(args) => redrive(context, &outline, &store, &args).await,
    }
}

async fn list(
    context: &Context,
    outline: &PublicConfig,
    store: &Store,
    filter: DeliveryFilter<'_>,
    limit: usize,
) -> Result<Exit, Failure> {
    if let Some(name) = filter.endpoint {
        known_endpoint(outline, store, name).await?;
    }
    let mut rows = store.deliveries(filter).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    if context.json {
        context.out.json(&rows)?;
        return Ok(Exit::Done);
    }
    let mut shown = String::new();
    for row in &rows {
        shown += &lines_of(context.out.style, row);
    }
    if rows.is_empty() {
        shown += "No messages.\n";
    }
    if more {
        let _ = writeln!(shown, "The newest {limit}; there are more: --limit, --since, --endpoint, --state.");
    }
    context.out.write(&shown)?;
    Ok(Exit::Done)
}

/// Formats a delivery in at most three lines: id, subject, error. Ids are long, and needed whole.
pub(super) fn lines_of(style: Style, row: &DeliveryRow) -> String {
    let state = match row.state.as_str() {
        "dead" if row.redirected => "redirected".to_owned(),
        "dead" => style.bad("dead"),
        // Not "delivered": a mail server or a chat does not say what it does with the message then.
        "delivered" => style.good("accepted"),
        other => other.to_owned(),
    };
    let tries = if row.attempts == 1 { "1 attempt".into() } else { format!("{} attempts", row.attempts) };
    let time = match (&row.next_attempt_at, &row.finished_at) {
        (Some(next), _) => format!(", next {}", time_args::minute(next)),
        (None, Some(end)) => format!(", {}", time_args::minute(end)),
        (None, None) => String::new(),
    };
    let mut lines = format!("{}  {state}  to {}  {tries}{time}\n", row.delivery_id, text::terminal(&row.endpoint));
    if let Some(about) = &row.about {
        let _ = writeln!(lines, "    {}", text::terminal(about));
    }
    // For an accepted one: the recipients that rejected it.
    if let Some(error) = &row.last_error {
        let _ = writeln!(lines, "    {}", style.faint(&text::terminal(error)));
    }
    lines
}

/// Resolves a prefix to the whole id.
async fn delivery_id(store: &Store, prefix: &str) -> Result<String, Failure> {
    let wanted = prefix.trim().to_lowercase();
    let is_id = !wanted.is_empty() && wanted.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let mut ids = if is_id { store.delivery_ids(&wanted, 6).await? } else { Vec::new() };
    if let Some(exact) = ids.iter().position(|id| *id == wanted) {
        return Ok(ids.swap_remove(exact));
    }
    match ids.len() {
        1 => Ok(ids.remove(0)),
        0 => Err(Failure::new(Exit::NotFound, format!("there is no message \"{prefix}\""))
            .advise("`vetwatch deliveries list` shows the newest")),
        _ => Err(Failure::new(Exit::NotFound, format!("several messages begin with \"{prefix}\""))
            .listing(ids)
            .advise("write more of the id")),
    }
}

async fn show(context: &Context, store: &Store, prefix: &str) -> Result<Exit, Failure> {
    let id = delivery_id(store, prefix).await?;
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
    match &detail.message {
        Some(message) => page += &(text::terminal_lines(message) + "\n"),
        None => page += "  It is written when the first attempt begins.\n",
    }
    page
}

async fn redrive(
    context: &Context,
    outline: &PublicConfig,
    store: &Store,
    args: &RedriveArgs,
) -> Result<Exit, Failure> {
    if let Some(name) = &args.endpoint {
        known_endpoint(outline, store, name).await?;
    }
    let now = context.now();
    let id = match &args.id {
        Some(prefix) => Some(delivery_id(store, prefix).await?),
        None => None,
    };
    let which = match &id {
        Some(id) => Redrive::One { id, force: args.force },
        None => Redrive::Dead { endpoint: args.endpoint.as_deref(), since: args.since.map(|since| since.at(now)) },
    };
    let mut tx = store.begin().await?;
    let redriven = tx.redrive(which, now).await?;
    tx.commit().await?;
    let name = id.as_deref().unwrap_or_default();
    match redriven {
        Redriven::Again(again) => targets_for(context, outline, &again),
        Redriven::NothingMatched => Err(Failure::new(Exit::NotFound, "nothing is sent again")
            .because("no dead message matches")
            .advise("`vetwatch deliveries list --state dead` shows them")),
        Redriven::Delivered => Err(Failure::new(Exit::Failed, format!("{name} is not sent again"))
            .because("it was delivered")
            .advise("with --force its receivers get it once more, under the same id")),
        Redriven::UnderWay => Err(Failure::new(Exit::TryAgain, format!("{name} is not sent again"))
            .because("an attempt is under way, or the process ended in one; it is tried again by itself")
            .advise(format!("`vetwatch deliveries show {name}` shows what comes of it"))),
    }
}

fn targets_for(context: &Context, outline: &PublicConfig, again: &[(String, String)]) -> Result<Exit, Failure> {
    if context.json {
        let again = again.iter().map(|(id, endpoint)| json!({ "delivery_id": id, "endpoint": endpoint }));
        context.out.json(&json!({ "redriven": again.collect::<Vec<_>>() }))?;
        return Ok(Exit::Done);
    }
    let mut page = String::new();
    for (id, endpoint) in again {
        let _ = writeln!(page, "{id}  to {}", text::terminal(endpoint));
    }
    let plural = if again.len() == 1 { "message is" } else { "messages are" };
    let _ = writeln!(page, "{} {plural} due now; the daemon sends them.", again.len());
    let mut gone: Vec<_> =
        again.iter().map(|(_, name)| name).filter(|name| !outline.endpoints.contains(name)).collect();
    gone.sort_unstable();
    gone.dedup();
    for name in gone {
        let _ =
            writeln!(page, "The configuration has no endpoint \"{}\": until it does, they wait.", text::terminal(name));
    }
    context.out.write(&page)?;
    Ok(Exit::Done)
}

/// Fails for an unknown name: a mistyped one is not an endpoint without messages.
async fn known_endpoint(outline: &PublicConfig, store: &Store, name: &str) -> Result<(), Failure> {
    if outline.endpoints.iter().any(|known| known == name) || store.has_endpoint(name).await? {
        return Ok(());
    }
    Err(Failure::new(Exit::NotFound, format!("there is no endpoint \"{name}\""))
        .because("neither the configuration nor any message names it; the configuration has")
        .listing(outline.endpoints.iter().cloned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reports::fixture;

    #[tokio::test]
    async fn a_list_shows_id_state_subject_and_error() {
        let filled = fixture::filled().await;
        let rows = filled.store.deliveries(DeliveryFilter::default()).await.unwrap();
        let shown: String = rows.iter().map(|row| lines_of(Style::PLAIN, row)).collect();
        insta::assert_snapshot!(shown);
    }

    #[tokio::test]
    async fn a_message_is_shown_with_events_attempts_recipients_and_text() {
        let filled = fixture::filled().await;
        let detail = filled.store.delivery("0193b000-0000-7000-8000-000000000002").await.unwrap().unwrap();
        insta::assert_snapshot!(page_of(Style::PLAIN, &detail));
    }

    #[tokio::test]
    async fn enough_of_the_beginning_of_an_id_names_a_message() {
        let filled = fixture::filled().await;
        assert_eq!(delivery_id(&filled.store, "0193C").await.unwrap(), "0193c000-0000-7000-8000-000000000005");
        let whole = "0193b000-0000-7000-8000-000000000001";
        assert_eq!(delivery_id(&filled.store, whole).await.unwrap(), whole);
        let several = delivery_id(&filled.store, "0193b").await.unwrap_err();
        assert_eq!((several.exit, several.list.len()), (Exit::NotFound, 4));
        for nothing in ["", "ffff", "%", "0193b000' or 1=1"] {
            assert_eq!(delivery_id(&filled.store, nothing).await.unwrap_err().exit, Exit::NotFound, "{nothing}");
        }
    }
}
