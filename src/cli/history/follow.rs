//! `vetwatch history --follow`: transitions as they are recorded, the newest last.

use std::path::Path;
use std::time::Duration;

use tracing::warn;
use vetwatch_core::csv;

use super::{COLUMNS, Format, change, short_event_id, to_record};
use crate::cli::{Context, Exit, Failure, lookup, time_args};
use crate::store::reports::{TransitionFilter, TransitionRow};
use crate::text;

const INTERVAL: Duration = Duration::from_secs(1);

/// How many transitions of the past it begins with, without `--since`.
const PAST: u32 = 10;

/// Prints until the program is ended, or the reader of its output ends.
pub(super) async fn follow(
    context: &Context,
    database: &Path,
    mut filter: TransitionFilter<'_>,
    format: Format,
) -> Result<Exit, Failure> {
    filter.limit = filter.since.is_none().then_some(PAST);
    if format == Format::Csv {
        context.out.write_exact(&csv::record(COLUMNS))?;
    }
    loop {
        // Opened anew: the file may be another one by now.
        let store = context.reading_store(database).await?;
        let newest = store.newest_transition().await?;
        if filter.after.is_some_and(|last| last > newest) {
            warn!("the database was replaced by an older one; its next transitions are shown");
            filter.after = Some(newest);
        }
        let mut rows = store.transitions(filter).await?;
        store.close_connections().await;
        rows.reverse();
        for row in &rows {
            match format {
                Format::Csv => context.out.write_exact(&to_record(row))?,
                Format::Ndjson | Format::Json => context.out.json_line(row)?,
                Format::Table => context.out.line(&line(row))?,
            }
        }
        if context.out.is_closed() {
            return Ok(Exit::Done);
        }
        filter.limit = None;
        // By id: after a clock was set back, the last one is not the latest.
        filter.after = rows.iter().map(|row| row.transition_id).chain([newest]).max();
        tokio::time::sleep(INTERVAL).await;
    }
}

/// `2026-11-21 09:14  Contoso School, Education: InReview → Denied (Not an Education Customer)  0193b000-0000`
fn line(row: &TransitionRow) -> String {
    let name = lookup::name_or_id(&row.customer_name, &row.customer_id);
    let reason = row.vetting_reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let line = format!(
        "{}  {name}, {}: {}{reason}  {}",
        time_args::minute(&row.observed_at),
        row.qualification,
        change(row),
        short_event_id(row)
    );
    text::terminal(line.trim_end()).into_owned()
}
