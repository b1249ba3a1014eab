//! `vetwatch history`: transitions, newest first.

mod follow;

use clap::ValueEnum;
use serde_json::Value;

use crate::cli::lookup::{self, Scope};
use crate::cli::output::{Column, Output};
use crate::cli::time_args::{self, Since};
use crate::cli::{Context, Exit, Failure, status};
use crate::store::reports::{TransitionFilter, TransitionRow};
use vetwatch_core::csv;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub who: status::Who,
    /// Since then: `30d`, `12h`, `2026-11-01`, `2026-11-01T08:00:00Z`. Dates without a zone are UTC
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// How to print it
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Then wait, and print each transition as it is recorded; without --since, begin with the last ten
    #[arg(long, short = 'f')]
    pub follow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// An array of the rows of the view `v_transitions`
    Json,
    /// The same rows for a spreadsheet
    Csv,
    /// The same rows, one JSON object a line
    Ndjson,
}

pub(super) async fn history(context: &Context, args: Args) -> Result<Exit, Failure> {
    let format = match (args.format, context.json) {
        (None, false) => Format::Table,
        (None | Some(Format::Json), _) if args.follow => {
            return Err(Failure::new(Exit::Usage, "--follow has no end, and an array of JSON needs one")
                .advise("use `--format ndjson`: one object a line"));
        }
        (None | Some(Format::Json), _) => Format::Json,
        (Some(format), false) => format,
        (Some(_), true) => {
            return Err(Failure::new(Exit::Usage, "--json and another --format cannot be had together"));
        }
    };
    let outline = context.outline()?;
    let store = context.reading_store(&outline.database).await?;
    let partner = args.who.partner.as_deref();
    lookup::partner(&outline.partners, &store, partner).await?;
    let who = lookup::customers(&store, args.who.customer.as_slice(), partner, Scope::Ever).await?;
    let filter = TransitionFilter {
        since: args.since.map(|since| since.at(context.now())),
        customers: who.first().map(|customer| customer.rows.as_slice()),
        partner,
        ..TransitionFilter::default()
    };
    if args.follow {
        return follow::follow(context, &outline.database, filter, format).await;
    }
    let rows = store.transitions(filter).await?;
    match format {
        Format::Json => context.out.json(&rows)?,
        Format::Csv => context.out.csv(&to_csv(&rows))?,
        Format::Ndjson => rows.iter().try_for_each(|row| context.out.json_line(row))?,
        Format::Table if rows.is_empty() => context.out.line("Nothing changed.")?,
        Format::Table => context.out.write(&table(&context.out, &rows, !who.is_empty()))?,
    }
    Ok(Exit::Done)
}

/// Shown length of an event's id.
const EVENT_ID_CHARS: usize = 13;

/// Renders the columns that fit a screen; the partner's only if there are several, the customer's unless it is the only
/// one that was asked for. An entry without status shows as
/// `-`, as does one never seen before.
pub(super) fn table(out: &Output, rows: &[TransitionRow], one_customer: bool) -> String {
    let several_partners = rows.iter().any(|row| row.partner != rows[0].partner);
    let mut columns = vec![
        Column::whole("SEEN (UTC)"),
        Column::whole("NOT BEFORE").optional(4),
        Column::cut("QUALIFICATION", 9),
        Column::whole("CHANGE"),
        Column::whole("TRY").optional(3),
        Column::cut("REASON", 10),
        Column::whole("EVENT ID").optional(2),
    ];
    if several_partners {
        columns.insert(2, Column::whole("PARTNER").optional(1));
    }
    if !one_customer {
        columns.insert(2, Column::cut("CUSTOMER", 14));
    }
    let cells = rows.iter().map(|row| {
        let mut cells = vec![
            time_args::minute(&row.observed_at),
            not_before(row),
            row.qualification.clone(),
            change(row),
            row.attempt.to_string(),
            row.vetting_reason.clone().unwrap_or_default(),
            short_event_id(row),
        ];
        if several_partners {
            cells.insert(2, row.partner.clone());
        }
        if !one_customer {
            cells.insert(2, lookup::name_or_id(&row.customer_name, &row.customer_id));
        }
        cells
    });
    out.table_with_note(&columns, cells.collect())
}

fn change(row: &TransitionRow) -> String {
    let status = |status: &Option<String>| status.clone().unwrap_or_else(|| "-".into());
    format!("{} → {}", status(&row.from_status), status(&row.to_status))
}

/// Enough for `vetwatch explain`: two events of one millisecond are rare.
fn short_event_id(row: &TransitionRow) -> String {
    row.event_id.as_deref().map(|id| id.chars().take(EVENT_ID_CHARS).collect()).unwrap_or_default()
}

/// When the previous state was last seen: the time alone on the same day.
fn not_before(row: &TransitionRow) -> String {
    let Some(before) = &row.last_seen_before_at else { return "-".into() };
    let (before, seen) = (time_args::minute(before), time_args::minute(&row.observed_at));
    match (before.split_once(' '), seen.split_once(' ')) {
        (Some((day, time)), Some((seen_on, _))) if day == seen_on => time.to_owned(),
        _ => before,
    }
}

/// The columns of `v_transitions`, in their order.
const COLUMNS: [&str; 15] = [
    "transition_id",
    "observed_at",
    "last_seen_before_at",
    "partner",
    "customer_id",
    "customer_name",
    "qualification",
    "from_status",
    "to_status",
    "vetting_reason",
    "vetting_created_at",
    "attempt",
    "event_type",
    "event_id",
    "correlation_id",
];

fn to_csv(rows: &[TransitionRow]) -> String {
    csv::record(COLUMNS) + &rows.iter().map(to_record).collect::<String>()
}

/// Renders a row; null is an empty cell.
fn to_record(row: &TransitionRow) -> String {
    let row = serde_json::to_value(row).unwrap_or_default();
    let cells = COLUMNS.map(|column| match &row[column] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    csv::record(cells.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output;
    use crate::store::CustomerId;
    use crate::store::reports::fixture;
    use crate::time::Timestamp;

    #[tokio::test]
    async fn the_newest_come_first_and_since_and_customer_narrow_them() {
        let filled = fixture::filled().await;
        let ids = async |filter| {
            let rows = filled.store.transitions(filter).await.unwrap();
            rows.iter().map(|row| row.transition_id).collect::<Vec<_>>()
        };
        assert_eq!(ids(TransitionFilter::default()).await, [11, 10, 9, 8, 7, 6, 5, 4, 12, 3, 2, 1]);
        let since = time_args::instant("2026-11-19T16:00:00Z");
        assert_eq!(ids(TransitionFilter { since, ..TransitionFilter::default() }).await, [11, 10, 9]);
        let removed =
            TransitionFilter { customers: Some(&[CustomerId(5)]), limit: Some(2), ..TransitionFilter::default() };
        assert_eq!(ids(removed).await, [3, 2]);
        // The twelfth was recorded last, by a clock that was set back.
        assert_eq!(filled.store.newest_transition().await.unwrap(), 12);
        assert_eq!(ids(TransitionFilter { after: Some(12), ..TransitionFilter::default() }).await, [0; 0]);
        assert_eq!(ids(TransitionFilter { after: Some(11), ..TransitionFilter::default() }).await, [12]);
        assert_eq!(ids(TransitionFilter { partner: Some("amer"), ..TransitionFilter::default() }).await, [11]);
    }

    #[tokio::test]
    async fn csv_has_the_views_columns_and_no_formula() {
        let filled = fixture::filled().await;
        let view = filled.store.columns_of("v_transitions").await.unwrap();
        let rows = filled
            .store
            .transitions(TransitionFilter { customers: Some(&[CustomerId(4)]), ..TransitionFilter::default() });
        let text = to_csv(&rows.await.unwrap());
        insta::assert_snapshot!(text.replace("\r\n", "⏎\n"));
        assert_eq!(text.lines().next().unwrap(), view.join(","));
    }

    #[test]
    fn a_row_is_readable_with_names_and_words_that_are_long() {
        let row = TransitionRow {
            transition_id: 1,
            observed_at: Timestamp::from_millis(1_795_262_400_000).to_string(),
            last_seen_before_at: None,
            partner: "emea".into(),
            customer_id: String::new(),
            customer_name: "Technische Universität Oberammergau".into(),
            qualification: "GovernmentCommunityCloud".into(),
            from_status: Some("InReview".into()),
            to_status: Some("Approved".into()),
            vetting_reason: Some("Not an Education Customer - After Review".into()),
            vetting_created_at: None,
            attempt: 2,
            event_type: None,
            event_id: None,
            correlation_id: None,
        };
        let elsewhere = TransitionRow { partner: "amer".into(), vetting_reason: None, ..row.clone() };
        let both = [row, elsewhere];
        insta::assert_snapshot!(output::on_screens(|out| table(out, &both, false)
            + "\n"
            + &table(out, &both[..1], true)));
    }
}
