//! `vetwatch report`: what was decided, how fast, and why not.

use clap::ValueEnum;
use serde_json::{Value, json};
use vetwatch_core::csv;
use vetwatch_core::message::time_format;
use vetwatch_core::report::Verdicts;

use crate::cli::lookup;
use crate::cli::output::{Column, Output};
use crate::cli::time_args::Since;
use crate::cli::{Context, Exit, Failure};
use crate::report::{self, Asked, Report};
use crate::text;
use crate::web::render::{STYLE, render};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Verdicts since then: `90d`, `2026-01-01` in the time zone of `[schedule]`; without it, of this month and the eleven before it
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
    /// How to print it
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The table that `--format csv` prints; without it, months
    #[arg(long, value_enum)]
    pub table: Option<Table>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One object with every table
    Json,
    /// One table for a spreadsheet
    Csv,
    /// One file to send on, with charts
    Html,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// Verdicts and time to decision of each qualification
    Qualifications,
    /// Verdicts of each month and qualification
    Months,
    /// Verdicts of each week
    Weeks,
    /// The share of reviews that end within so many days
    DecidedWithin,
    /// Verdicts of each attempt
    Attempts,
    /// Microsoft's reasons, and what came of trying again
    Reasons,
    /// The longest in review
    LongestInReview,
}

impl Table {
    /// Its key in the JSON, and its columns in their order.
    const fn columns(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Qualifications => (
                "qualifications",
                &[
                    "qualification",
                    "verdicts",
                    "approved",
                    "denied",
                    "approved_percent",
                    "vanished",
                    "revoked",
                    "in_review",
                    "median_hours",
                    "p90_hours",
                    "timed",
                ],
            ),
            Self::Months => {
                ("months", &["month", "qualification", "verdicts", "approved", "denied", "approved_percent"])
            }
            Self::Weeks => ("weeks", &["week", "verdicts", "approved", "denied", "approved_percent"]),
            Self::DecidedWithin => ("decided_within", &["days", "decided_percent"]),
            Self::Attempts => {
                ("attempts", &["qualification", "attempt", "verdicts", "approved", "denied", "approved_percent"])
            }
            Self::Reasons => (
                "reasons",
                &["vetting_reason", "denials", "tried_again", "then_approved", "then_denied", "cured_percent"],
            ),
            Self::LongestInReview => (
                "longest_in_review",
                &[
                    "partner",
                    "customer_id",
                    "customer_name",
                    "customer_domain",
                    "qualification",
                    "vetting_created_at",
                    "status_since",
                    "attempt",
                    "expected_by",
                    "expected",
                    "expected_of",
                ],
            ),
        }
    }
}

pub(super) async fn report(context: &Context, args: Args) -> Result<Exit, Failure> {
    let format = match (args.format, context.json) {
        (None, false) => Format::Text,
        (None | Some(Format::Json), _) => Format::Json,
        (Some(format), false) => format,
        (Some(_), true) => {
            return Err(Failure::new(Exit::Usage, "--json and another --format cannot be had together"));
        }
    };
    if args.table.is_some() && format != Format::Csv {
        return Err(
            Failure::new(Exit::Usage, "--table names a table of `--format csv`").advise("the others print every table")
        );
    }
    let outline = context.outline()?;
    let store = context.reading_snapshot(&outline.database).await?;
    lookup::partner(&outline.partners, &store, args.partner.as_deref()).await?;
    let (calendar, now) = (&outline.calendar, context.now());
    let since = args.since.map_or_else(|| report::usual_since(calendar, now), |since| since.at_in(now, calendar));
    let asked = Asked { since, partner: args.partner.as_deref(), most: usize::MAX };
    let report = report::read(&store, calendar, now, asked).await?;
    match format {
        Format::Text => context.out.write(&to_text(&context.out, &report))?,
        Format::Json => context.out.json(&report)?,
        Format::Csv => context.out.csv(&to_csv(&report, args.table.unwrap_or(Table::Months)))?,
        Format::Html => context.out.write_exact(&to_html(&report)?)?,
    }
    Ok(Exit::Done)
}

/// Renders a table; null is an empty cell.
fn to_csv(report: &Report, table: Table) -> String {
    let (key, columns) = table.columns();
    let report = serde_json::to_value(report).unwrap_or_default();
    let rows = report[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let record = |row: &Value| {
        let cells = columns.iter().map(|column| match &row[column] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        csv::record(cells.collect::<Vec<_>>().iter().map(String::as_str))
    };
    csv::record(columns.iter().copied()) + &rows.iter().map(record).collect::<String>()
}

/// One file: the style is in it.
fn to_html(report: &Report) -> Result<String, Failure> {
    let frame = json!({
        "title": "Report", "page": "report", "pages": [], "root": "", "is_file": true, "feeds": false, "refreshes": false,
        "query": "", "refresh": null, "sentence": null, "well": true, "now": report.until, "zone": report.timezone,
        "style": STYLE, "links": false, "report": report,
    });
    render("report.html", &[frame]).map_err(|why| Failure::new(Exit::Failed, "cannot write the report").because(why))
}

fn to_text(out: &Output, report: &Report) -> String {
    let day = |at| time_format::day(at, report.timezone.parse().unwrap_or(chrono_tz::UTC));
    let of = report.partner.as_ref().map_or(String::new(), |partner| format!(", {}", text::terminal(partner)));
    let title = format!("Verdicts from {} to {}{of}", day(report.since), day(report.until));
    let mut shown = out.style.heading(&title) + "\n";
    let figures = &report.figures;
    if figures.qualifications.iter().all(|row| row.verdicts.verdicts + row.vanished + row.revoked + row.in_review == 0)
    {
        return shown + "\nNothing was decided in that time, and nothing is in review.\n";
    }
    let mut section = |title: &str, columns: &[Column], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            shown.extend(["\n", &out.style.heading(title), "\n", &out.table_with_note(columns, rows)]);
        }
    };
    let number = |name: &'static str| Column::whole(name);
    let kinds = figures.qualifications.iter().map(|row| {
        let mut cells = vec![row.qualification.clone().unwrap_or_else(|| "all".to_owned())];
        cells.extend(counts(&row.verdicts));
        cells.extend([
            days(row.median_hours),
            days(row.p90_hours),
            row.in_review.to_string(),
            row.revoked.to_string(),
            row.vanished.to_string(),
        ]);
        cells
    });
    section(
        "By qualification",
        &[
            Column::cut("QUALIFICATION", 12),
            number("VERDICTS"),
            number("APPROVED"),
            number("DENIED"),
            number("RATE"),
            number("HALF WITHIN"),
            number("9 OF 10"),
            number("IN REVIEW").optional(1),
            number("REVOKED").optional(2),
            number("VANISHED").optional(3),
        ],
        kinds.collect(),
    );
    let months = figures.months.iter().map(|row| named(&[&row.month, &row.qualification], &row.verdicts));
    section("By month", &counted(vec![number("MONTH"), Column::cut("QUALIFICATION", 12)]), months.collect());
    let attempts =
        figures.attempts.iter().map(|row| named(&[&row.qualification, &row.attempt.to_string()], &row.verdicts));
    section(
        "By attempt, as far as vetwatch saw",
        &counted(vec![Column::cut("QUALIFICATION", 12), number("ATTEMPT")]),
        attempts.collect(),
    );
    let reasons = figures.reasons.iter().map(|row| {
        vec![
            row.vetting_reason.clone().unwrap_or_else(|| "(none given)".to_owned()),
            row.denials.to_string(),
            row.tried_again.to_string(),
            row.then_approved.to_string(),
            row.then_denied.to_string(),
            percent(row.cured_percent),
        ]
    });
    section(
        "Why denied, and what came of trying again",
        &[
            Column::cut("REASON", 20),
            number("DENIALS"),
            number("TRIED AGAIN"),
            number("THEN APPROVED"),
            number("THEN DENIED"),
            number("CURED"),
        ],
        reasons.collect(),
    );
    let longest = report.longest_in_review.iter().map(|it| {
        let since = it.row.vetting_created_at.as_deref().unwrap_or(&it.row.status_since);
        vec![
            lookup::name_or_id(&it.row.customer_name, &it.row.customer_id),
            it.row.qualification.clone(),
            since.chars().take(10).collect(),
            it.expected.as_ref().map(|expected| expected.text.clone()).unwrap_or_default(),
        ]
    });
    section(
        "Longest in review",
        &[Column::cut("CUSTOMER", 14), Column::cut("QUALIFICATION", 9), number("SINCE"), Column::cut("EXPECTED", 20)],
        longest.collect(),
    );
    shown + "\n" + &came_true(report)
}

/// The columns of verdicts behind `columns`.
fn counted(mut columns: Vec<Column>) -> Vec<Column> {
    columns.extend(["VERDICTS", "APPROVED", "DENIED", "RATE"].map(Column::whole));
    columns
}

fn named(names: &[&str], verdicts: &Verdicts) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).chain(counts(verdicts)).collect()
}

fn counts(verdicts: &Verdicts) -> [String; 4] {
    let Verdicts { verdicts, approved, denied, approved_percent } = verdicts;
    [verdicts.to_string(), approved.to_string(), denied.to_string(), percent(*approved_percent)]
}

fn percent(percent: Option<f64>) -> String {
    percent.map_or("-".to_owned(), |percent| format!("{percent} %"))
}

fn days(hours: Option<f64>) -> String {
    hours.map_or("-".to_owned(), |hours| format!("{:.1} days", hours / 24.0))
}

/// Whether the dates that are given for reviews can be believed.
fn came_true(report: &Report) -> String {
    let said = report.forecasts;
    let share = vetwatch_core::report::percent(said.came_true, said.made);
    match share {
        Some(share) => format!(
            "\"9 of 10 like this were decided by …\" came true for {} of the last {} ({share} %).\n",
            said.came_true, said.made
        ),
        None => {
            "Whether \"9 of 10 like this were decided by …\" comes true can be said after 20 verdicts.\n".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use crate::cli::output;
    use crate::store::reports::fixture;
    use crate::time::Timestamp;

    async fn filled(since: Timestamp) -> Report {
        let filled = fixture::filled().await;
        let asked = Asked { since, partner: None, most: usize::MAX };
        report::read(&filled.store, &Calendar::default(), fixture::now(), asked).await.unwrap()
    }

    #[tokio::test]
    async fn a_report_answers_in_text() {
        let report = filled(report::usual_since(&Calendar::default(), fixture::now())).await;
        insta::assert_snapshot!(output::on_screens(|out| to_text(out, &report)));
        let nothing = Report { longest_in_review: Vec::new(), ..filled(fixture::now()).await };
        assert_eq!(nothing.figures.qualifications[0].verdicts.verdicts, 0);
    }

    /// Of twenty-five that took a day each, one is taken back after three months.
    #[tokio::test]
    async fn an_approval_that_is_taken_back_says_nothing_of_the_forecasts() {
        let empty = fixture::empty().await;
        let sql = "insert into partner (id, name, watching_since) values (1, 'emea', 0);
            insert into customer (id, partner, customer_id, customer_key, source, added_at, next_poll_at) values (1, 1, 'a', 'a', 'manual', 0, 0);
            insert into transition (customer, qualification, from_status, to_status, attempt, submitted_at, observed_at, outcome)
            select 1, 'Education', 'InReview', 'Approved', value, ?1 - (200 - 2 * value) * 86400000, ?1 - (199 - 2 * value) * 86400000, 'Approved'
            from (with recursive n(value) as (select 1 union all select value + 1 from n where value < 25) select value from n);";
        let now = fixture::now();
        let sql = sql.replace("?1", &now.as_millis().to_string());
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&empty.store.write).await.unwrap();
        let asked = Asked { since: Timestamp::from_millis(0), partner: None, most: usize::MAX };
        let read = async || report::read(&empty.store, &Calendar::default(), now, asked).await.unwrap();
        let before = read().await.forecasts;
        let taken_back = format!(
            "insert into transition (customer, qualification, from_status, to_status, attempt, submitted_at, observed_at, outcome)
             select 1, 'Education', 'Approved', 'absent', 25, submitted_at, {}, 'Revoked' from transition where id = 25",
            now.as_millis()
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(taken_back)).execute(&empty.store.write).await.unwrap();
        let after = read().await;
        assert!(before.made > 0);
        assert_eq!((after.forecasts, after.figures.qualifications[0].revoked), (before, 1));
    }

    #[tokio::test]
    async fn each_table_has_its_columns_in_csv_and_no_formula() {
        let report = filled(report::usual_since(&Calendar::default(), fixture::now())).await;
        let json = serde_json::to_value(&report).unwrap();
        for table in Table::value_variants() {
            let (key, columns) = table.columns();
            let row = json[key][0].as_object().unwrap();
            let missing: Vec<_> = columns.iter().filter(|column| !row.contains_key(**column)).collect();
            assert!(missing.is_empty(), "{key}: {missing:?}");
            if *table != Table::LongestInReview {
                assert_eq!(row.len(), columns.len(), "{key}: {row:?}");
            }
            let csv = to_csv(&report, *table);
            assert_eq!(csv.lines().count(), 1 + json[key].as_array().unwrap().len(), "{csv}");
        }
        insta::assert_snapshot!(to_csv(&report, Table::Months).replace("\r\n", "⏎\n"));
    }
}
