//! Renders the status as text.

use std::fmt::Write as _;
use std::time::Duration;

use super::{OneCustomer, StandingBy};
use crate::cli::lookup::name_or_id;
use crate::cli::output::{Column, Output};
use crate::cli::{customers, history, time_args};
use crate::overview::{InReview, Overview, Partner};
use crate::standby::host_state::{HostState, Role};
use crate::store::backup::BackupState;
use crate::store::reports::{EndpointState, PartnerState, PendingRow};
use crate::text;
use crate::time::Timestamp;

/// Maximum rows of a section; `--json` has them all.
const ROWS_MAX: usize = 10;

pub(super) fn of_all(out: &Output, all: &Overview) -> String {
    let style = out.style;
    let daemon = match all.health.daemon_running {
        Some(true) => style.good("the daemon runs"),
        Some(false) => style.bad("no daemon runs"),
        None => "whether the daemon runs, this user may not know".into(),
    };
    let verdict = all.health.sentence();
    let verdict = if all.health.attention.is_empty() { style.good(&verdict) } else { style.bad(&verdict) };
    let mut page = format!("{verdict}\n{} UTC, {daemon}\n", time_args::minute(all.health.now));
    if !all.health.attention.is_empty() {
        for line in &all.health.attention {
            let _ = writeln!(page, "{}", style.bad(&format!("!  {}", text::terminal(line))));
        }
    }

    if let Some(restored) = all.health.restored {
        let until = restored.until.map_or_else(|| "an unknown time".to_owned(), time_args::minute);
        let _ = writeln!(
            page,
            "restored on {} from a backup as of {until}: what happened since is found again",
            time_args::minute(restored.at)
        );
    }

    let several = all.health.partners.len() > 1;
    let partner = |columns: &mut Vec<Column>| {
        if several {
            columns.insert(1, Column::whole("PARTNER").optional(1));
        }
    };
    let of = |name: String, partner: &str, mut cells: Vec<String>| {
        if several {
            cells.insert(0, partner.to_owned());
        }
        cells.insert(0, name);
        cells
    };

    let rows = all.in_review.iter().map(|InReview { row, expected }| {
        let since = instant(row.vetting_created_at.as_deref()).or(instant(Some(&row.status_since)));
        let expected = expected.as_ref().map(|expected| expected.text.clone()).unwrap_or_default();
        let cells = vec![ago(since, all.health.now), row.qualification.clone(), row.attempt.to_string(), expected];
        of(name_or_id(&row.customer_name, &row.customer_id), &row.partner, cells)
    });
    let mut columns = vec![Column::whole("FOR"), Column::cut("QUALIFICATION", 9), Column::whole("TRY")];
    columns.push(Column::cut("EXPECTED", 20));
    columns.insert(0, title("IN REVIEW", rows.len()));
    partner(&mut columns);
    page += &section(out, &columns, rows.collect(), "In review: nobody");

    if !all.pending.is_empty() {
        let rows = all.pending.iter().map(|row| {
            let cells = vec![row.qualification.clone(), waits(row, all.health.now)];
            of(name_or_id(&row.customer_name, &row.customer_id), &row.partner, cells)
        });
        let mut columns = vec![title("TO BE CONFIRMED", rows.len()), Column::cut("QUALIFICATION", 9)];
        columns.push(Column::whole("WHAT (UTC)"));
        partner(&mut columns);
        page += &section(out, &columns, rows.collect(), "");
    }

    let rows = all.decided.iter().map(|row| {
        let reason = row.vetting_reason.clone().unwrap_or_default();
        let cells =
            vec![time_args::minute(&row.decided_before), row.outcome.clone(), row.qualification.clone(), reason];
        of(name_or_id(&row.customer_name, &row.customer_id), &row.partner, cells)
    });
    let mut columns = vec![title("DECIDED IN 7 DAYS", rows.len()), Column::whole("SEEN (UTC)")];
    columns.extend([Column::whole("VERDICT"), Column::cut("QUALIFICATION", 9), Column::cut("REASON", 14)]);
    partner(&mut columns);
    page += &section(out, &columns, rows.collect(), "Decided in the last 7 days: nothing");

    if !all.health.unreadable.is_empty() {
        let rows = all.health.unreadable.iter().map(|row| {
            let since = row.unreadable_since.as_deref().map(time_args::minute).unwrap_or_default();
            let cells = vec![since, row.last_error.clone().unwrap_or_default()];
            of(name_or_id(&row.name, &row.customer_id), &row.partner, cells)
        });
        let mut columns = vec![title("UNREADABLE", rows.len()), Column::whole("SINCE (UTC)"), Column::cut("WHY", 20)];
        partner(&mut columns);
        page += &section(out, &columns, rows.collect(), "");
    }

    let rows = all.health.partners.iter().map(|partner| partner_row(partner, all.health.now));
    let columns = [
        Column::cut("PARTNER", 12),
        Column::whole("CUSTOMERS"),
        Column::whole("DUE").optional(2),
        Column::whole("LAST ANSWER"),
        Column::cut("BUDGET", 12).optional(3),
        Column::cut("BACKOFF", 16).optional(1),
    ];
    page += &section(out, &columns, rows.collect(), "Partners: none was polled yet");
    for partner in &all.health.partners {
        for problem in [list(&partner.state), activity_log(&partner.state)].into_iter().flatten() {
            let _ = writeln!(page, "{}", text::terminal(&problem));
        }
    }

    let rows = all.health.endpoints.iter().map(|endpoint| {
        let next =
            endpoint.next_attempt_at.map(|at| if at <= all.health.now { "now".into() } else { time_args::minute(at) });
        let next = next.unwrap_or_default();
        let oldest = endpoint.oldest_pending_at.map(|oldest| ago(Some(oldest), all.health.now)).unwrap_or_default();
        let (pending, dead) = (endpoint.pending.to_string(), endpoint.dead.to_string());
        vec![endpoint.endpoint.clone(), pending, oldest, next, dead, state(endpoint)]
    });
    let columns = [
        Column::cut("ENDPOINT", 12),
        Column::whole("WAITING"),
        Column::whole("OLDEST").optional(2),
        Column::whole("NEXT (UTC)").optional(1),
        Column::whole("DEAD"),
        Column::cut("STATE", 20),
    ];
    page += &section(out, &columns, rows.collect(), "Messages: none was sent yet");
    if !all.health.unused_endpoints.is_empty() {
        let _ = writeln!(page, "no message yet: {}", text::terminal(&all.health.unused_endpoints.join(", ")));
    }
    if let Some(backup) = &all.health.backup {
        let _ = writeln!(page, "{}", text::terminal(&last_backup(backup)));
    }
    if let Some(report) = &all.health.standby {
        let _ = writeln!(page, "{}", text::terminal(&hosts(report)));
    }
    page
}

/// `last backup: 2026-11-28 01:30 UTC, 82.1 MB, /var/lib/vetwatch/backups/vetwatch-2026-11-28T013000Z.db`
fn last_backup(backup: &BackupState) -> String {
    let (Some(at), Some(file)) = (backup.at, &backup.file) else { return "last backup: none yet".to_owned() };
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let megabytes = backup.bytes.unwrap_or_default() as f64 / 1e6;
    format!("last backup: {} UTC, {megabytes:.1} MB, {file}", time_args::minute(at))
}

/// A host that does not lead.
pub(super) fn of_standby(out: &Output, host: &StandingBy) -> String {
    let style = out.style;
    let report = &host.standby;
    let verdict =
        if host.attention.is_empty() { style.good("all is well on this host") } else { style.bad("1 thing needs you") };
    let mut page = format!("{verdict}\n{} UTC\n", time_args::minute(host.now));
    for line in &host.attention {
        let _ = writeln!(page, "{}", style.bad(&format!("!  {}", text::terminal(line))));
    }
    let leader = match (&report.leader, report.role) {
        (Some(_), Role::TakingOver) => format!("{} takes over at this moment", report.host),
        (Some(leader), _) => format!(
            "{} stands by; {} leads, since {} UTC (epoch {}): `vetwatch status` there shows customers and messages",
            report.host,
            leader.host,
            time_args::minute(leader.since),
            leader.epoch
        ),
        (None, _) => format!("{} stands by", report.host),
    };
    let _ = writeln!(page, "\n{}", text::terminal(&leader));
    if !report.others.is_empty() {
        let _ = writeln!(page, "hosts beside this one: {}", text::terminal(&report.others.join(", ")));
    }
    let _ = writeln!(page, "replicas: {}", text::terminal(&report.replica.place));
    page
}

/// `leader: vetwatch-1, since 2026-11-28 01:30 UTC (epoch 41); stands by: vetwatch-2; replica complete at 09:14:02 UTC`
fn hosts(report: &HostState) -> String {
    let since =
        report.leader.as_ref().map(|it| format!(", since {} UTC (epoch {})", time_args::minute(it.since), it.epoch));
    let mut others = if report.others.is_empty() { "nobody".to_owned() } else { report.others.join(", ") };
    if !report.unable.is_empty() {
        let _ = write!(others, "; could not take over: {}", report.unable.join("; "));
    }
    let replica = match (report.replica.failing_since, report.replica.synced_at) {
        (Some(since), _) => format!("incomplete since {} UTC", time_args::minute(since)),
        (None, Some(at)) => format!("complete at {} UTC", at.to_utc().format("%H:%M:%S")),
        (None, None) => "begun".to_owned(),
    };
    format!("leader: {}{}; stands by: {others}; replica {replica}", report.host, since.unwrap_or_default())
}

pub(super) fn of_one(out: &Output, one: &OneCustomer, now: Timestamp) -> String {
    let style = out.style;
    let row = &one.customer;
    let title = name_or_id(&row.name, &row.customer_id);
    let mut page = format!("{}\n", style.heading(&text::terminal(&title)));
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(page, "  {label:<15}{}", text::terminal(value));
        }
    };
    line("tenant id", &row.customer_id);
    line("domain", &row.domain);
    line("partner", &row.partner);
    line("tags", &row.tags.replace(',', " "));
    line("last answer", &row.last_seen_at.as_deref().map_or("never".into(), |at| at_and_ago(at, now)));
    let next = match (&row.next_poll_at, row.paused) {
        (_, true) => "paused: `vetwatch customers resume` goes on".into(),
        (Some(next), false) if instant(Some(next)).is_some_and(|next| next <= now) => "now".into(),
        (Some(next), false) => format!("{} UTC ({})", time_args::minute(next), row.poll_class.replace('_', " ")),
        (None, false) => "-".into(),
    };
    line("next poll", &next);
    if let Some(since) = &row.departed_since {
        line("left", &format!("{}; polled rarely, for 90 days", at_and_ago(since, now)));
    }
    if customers::is_muted(row, now) {
        let until = row
            .muted_until
            .as_deref()
            .map_or("`vetwatch customers unmute`".into(), |at| format!("{} UTC", time_args::minute(at)));
        let since = row.muted_since.as_deref().map(time_args::minute).unwrap_or_default();
        line("muted", &format!("since {since} UTC, until {until}: nobody is told"));
    }
    if let Some(since) = &row.unreadable_since {
        line("failing since", &at_and_ago(since, now));
    }
    if let Some(error) = &row.last_error {
        line("last error", &format!("{error} ({} in a row)", row.poll_failures));
    }

    let rows = one.qualifications.iter().map(|InReview { row, expected }| {
        let since =
            format!("{} ({})", time_args::minute(&row.status_since), ago(instant(Some(&row.status_since)), now));
        let status = row.vetting_status.clone().unwrap_or_else(|| "-".into());
        let expected = expected.as_ref().map(|expected| expected.text.clone());
        let reason = row.vetting_reason.clone().or(expected).unwrap_or_default();
        vec![row.qualification.clone(), status, since, row.attempt.to_string(), reason]
    });
    let columns = [
        Column::cut("HOLDS", 12),
        Column::whole("STATUS"),
        Column::whole("SINCE (UTC)"),
        Column::whole("TRY").optional(1),
        Column::cut("REASON OR EXPECTED", 12),
    ];
    let nothing =
        if row.last_seen_at.is_some() { "no qualification" } else { "not known: Partner Center has not answered yet" };
    page += &section(out, &columns, rows.collect(), &format!("Holds: {nothing}"));

    for row in &one.pending {
        let _ = writeln!(page, "{}: {}", text::terminal(&row.qualification), text::terminal(&waits(row, now)));
    }

    match one.transitions.as_slice() {
        [] => page += "\nNothing changed yet.\n",
        rows => {
            let _ = write!(page, "\n{}\n{}", style.heading("Lately"), history::table(out, rows, true));
        }
    }
    page
}

/// A partner's row.
fn partner_row(partner: &Partner, now: Timestamp) -> Vec<String> {
    let state = &partner.state;
    let backoff = match (state.backoff_until, &state.backoff_reason) {
        (Some(until), Some(why)) if until > now => {
            format!("until {}: {why}", time_args::minute(until))
        }
        _ => "none".into(),
    };
    let due = match state.due_since {
        Some(since) => format!("{} since {}", state.due, ago(Some(since), now)),
        None => "0".into(),
    };
    let budget = partner
        .requests_per_minute
        .map_or("not configured".into(), |n| format!("{:.1} of {n}/min", partner.scheduled_per_minute));
    let budget = match state.reduced_rate_limit {
        Some(limit) => format!("{budget}, slowed to {limit}"),
        None => budget,
    };
    let watched = match state.paused {
        0 => state.customers.to_string(),
        paused => format!("{} ({paused} paused)", state.customers),
    };
    vec![state.partner.clone(), watched, due, ago(state.last_answer_at, now), budget, backoff]
}

/// The first column of a section: its title with the number of its rows.
fn title(name: &str, rows: usize) -> Column {
    Column::cut(format!("{name} ({rows})"), 16)
}

/// A table, or a sentence if it has no rows.
fn section(out: &Output, columns: &[Column], rows: Vec<Vec<String>>, nothing: &str) -> String {
    let count = rows.len();
    if rows.is_empty() {
        return format!("\n{nothing}\n");
    }
    let table = out.table(columns, rows.into_iter().take(ROWS_MAX));
    let (header, rows) = table.split_once('\n').unwrap_or((&table, ""));
    let more = if count > ROWS_MAX { format!("… and {} more\n", count - ROWS_MAX) } else { String::new() };
    format!("\n{}\n{rows}{more}", out.style.heading(header))
}

/// The customer list's problem, if there is one.
fn list(state: &PartnerState) -> Option<String> {
    let complete = state.list_complete_at.map_or("never".into(), time_args::minute);
    let partner = &state.partner;
    if let Some(error) = &state.list_error {
        let retry = state.list_retry_at.map(time_args::minute).unwrap_or_default();
        return Some(format!(
            "{partner}: the customer list could not be read, again at {retry} (last complete: {complete}): {error}"
        ));
    }
    let (since, size) = (state.list_short_since?, state.list_short_size?);
    let (since, expected) = (time_args::minute(since), state.list_size.unwrap_or(0));
    Some(format!(
        "{partner}: since {since} the customer list holds {size} instead of {expected} customers; nobody is counted as \
         missing by it (last complete: {complete})"
    ))
}

/// The activity log's problem, if there is one.
fn activity_log(state: &PartnerState) -> Option<String> {
    let error = state.activity_log_error.as_ref()?;
    let since = state.activity_log_failing_since.map(time_args::minute).unwrap_or_default();
    let retry = state.activity_log_retry_at.map(time_args::minute).unwrap_or_default();
    let so = if state.activity_log_counts {
        ""
    } else {
        ", so customers without a qualification are asked as often as the settled"
    };
    Some(format!("{}: the activity log cannot be read since {since}, again at {retry}{so}: {error}", state.partner))
}

/// `Denied seen at 09:14, to be confirmed by 10:16`: only times if today, else with the day.
fn waits(row: &PendingRow, now: Timestamp) -> String {
    let time = |at: Timestamp| {
        let is_today = at.to_utc().date_naive() == now.to_utc().date_naive();
        at.to_utc().format(if is_today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
    };
    format!("{} seen at {}, to be confirmed by {}", row.vetting_status, time(row.seen_at), time(row.confirmed_by))
}

fn state(endpoint: &EndpointState) -> String {
    let why = endpoint.last_error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match (endpoint.paused_at, endpoint.closed_since) {
        (Some(since), _) => format!("gone since {}{why}", time_args::minute(since)),
        (None, Some(since)) => format!("cannot be reached since {}{why}", time_args::minute(since)),
        (None, None) => "open".into(),
    }
}

fn instant(view_time: Option<&str>) -> Option<Timestamp> {
    view_time.and_then(time_args::instant)
}

fn ago(instant: Option<Timestamp>, now: Timestamp) -> String {
    instant.map_or("never".into(), |instant| text::span(now.since(instant)))
}

fn at_and_ago(view_time: &str, now: Timestamp) -> String {
    let since = instant(Some(view_time)).map_or(Duration::ZERO, |instant| now.since(instant));
    format!("{} UTC ({} ago)", time_args::minute(view_time), text::span(since))
}
