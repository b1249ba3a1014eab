//! `vetwatch deliveries list`.

use std::fmt::Write as _;

use super::known_endpoint;
use crate::cli::output::Style;
use crate::cli::time_args::{self, Since};
use crate::cli::{Context, Exit, Failure};
use crate::config::PublicConfig;
use crate::store::reports::{DeliveryFilter, DeliveryRow};
use crate::text;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those in this state
    #[arg(long, value_parser = ["pending", "delivered", "dead"])]
    pub state: Option<String>,
    /// Only to this endpoint
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,
    /// Made since then: `2d`, `2026-11-01`, `2026-11-01T08:00:00Z`
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Show at most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

pub(super) async fn list(context: &Context, outline: &PublicConfig, args: &Args) -> Result<Exit, Failure> {
    let store = context.reading_store(&outline.database).await?;
    if let Some(name) = &args.endpoint {
        known_endpoint(outline, &store, name).await?;
    }
    let filter = DeliveryFilter {
        state: args.state.as_deref(),
        endpoint: args.endpoint.as_deref(),
        since: args.since.map(|since| since.at(context.now())),
        // One more, to know whether the list is complete.
        limit: Some(args.limit.saturating_add(1)),
        ..DeliveryFilter::default()
    };
    let mut rows = store.deliveries(filter).await?;
    let limit = args.limit as usize;
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

/// Formats a delivery in at most four lines: id, subject, attempts, error. Ids are long, and needed whole.
pub(in crate::cli) fn lines_of(style: Style, row: &DeliveryRow) -> String {
    let state = match row.state.as_str() {
        // It is told elsewhere, whether or not somebody put it away afterwards.
        "dead" if row.redirected_at.is_some() => "redirected".to_owned(),
        _ if row.discarded_at.is_some() => "discarded".to_owned(),
        "dead" => style.bad("dead"),
        // Not "delivered": a mail server or a chat does not say what it does with the message then.
        "delivered" => style.good("accepted"),
        other => other.to_owned(),
    };
    let tries = if row.attempts == 1 { "1 attempt".into() } else { format!("{} attempts", row.attempts) };
    let ended = row.redirected_at.as_ref().or(row.discarded_at.as_ref()).or(row.finished_at.as_ref());
    let time = match (&row.next_attempt_at, ended) {
        (Some(next), _) => format!(", next {} UTC", time_args::minute(next)),
        (None, Some(end)) => format!(", {} UTC", time_args::minute(end)),
        (None, None) => String::new(),
    };
    let mut lines = format!("{}  {state}  to {}\n", row.delivery_id, text::terminal(&row.endpoint));
    if let Some(about) = &row.about {
        let _ = writeln!(lines, "    {}", text::terminal(about));
    }
    let _ = writeln!(lines, "    {tries}{time}");
    // For an accepted one: the recipients that rejected it.
    if let Some(error) = &row.last_error {
        let _ = writeln!(lines, "    {}", style.faint(&text::terminal(error)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{self, Output};
    use crate::store::reports::fixture;

    #[tokio::test]
    async fn a_list_shows_id_state_subject_and_error() {
        let filled = fixture::filled().await;
        let rows = filled.store.deliveries(DeliveryFilter::default()).await.unwrap();
        let shown = |out: &Output| rows.iter().map(|row| lines_of(out.style, row)).collect();
        insta::assert_snapshot!(output::on_screens(shown));
    }
}
