//! `[schedule]`, `[retry]`, `[retention]` and `[backup]`: intervals.

use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use croner::parser::{CronParser, Seconds};

use super::section::Section;
use super::values::{duration, quote, timezone};
use super::{Schedule, calendar, default_database};
use crate::backup::{self, Times};
use crate::calendar::Calendar;
use crate::delivery::retry;
use crate::text::short_duration;

/// Default intervals.
pub(super) const IN_REVIEW: Duration = Duration::from_mins(15);
/// Delays before a missing entry is polled again; the second one only if it was approved.
pub(super) const CONFIRM_ABSENCE: [Duration; 2] = [Duration::from_mins(2), Duration::from_hours(1)];
pub(super) const SETTLED: Duration = Duration::from_hours(24);
pub(super) const UNQUALIFIED: Duration = Duration::from_hours(7 * 24);
pub(super) const ACTIVITY_LOG: Duration = Duration::from_mins(5);

const CRON_FIELDS: [&str; 6] = [
    "a second (0-59)",
    "a minute (0-59)",
    "an hour (0-23)",
    "a day (1-31)",
    "a month (1-12 or Jan-Dec)",
    "a weekday (0-7 or Sun-Sat)",
];
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// Reads the schedule. With `loopback` only this machine is polled, so there is no minimum.
pub(super) fn schedule(mut section: Section<'_>, loopback: bool) -> (Schedule, Calendar) {
    let written = ["settled", "unqualified"].map(|key| section.has(key));
    let in_review = interval(&mut section, "in_review", IN_REVIEW, loopback);
    let settled = interval(&mut section, "settled", SETTLED, loopback);
    let unqualified = interval(&mut section, "unqualified", UNQUALIFIED, loopback);
    for ((key, every), written) in [("settled", settled), ("unqualified", unqualified)].into_iter().zip(written) {
        let (short, review) = (short_duration(every), short_duration(in_review));
        if every < in_review && written {
            section.problem(key, format!("{short} is more often than in_review ({review})"));
        } else if every < in_review {
            section.problem("in_review", format!("{review} is longer than {key}, which is {short} by default"));
            break;
        }
    }
    let sync = |text: &str| cron(text, loopback);
    let [first_confirmation, second_confirmation] = confirm_absence(&mut section, loopback);
    let schedule = Schedule {
        in_review,
        settled,
        unqualified,
        activity_log: interval(&mut section, "activity_log", ACTIVITY_LOG, loopback),
        first_confirmation,
        second_confirmation,
        customer_sync: section.parsed("customer_sync", sync).unwrap_or_else(|| "0 0 3 * * *".into()),
        timezone: section.parsed("timezone", timezone).unwrap_or(chrono_tz::UTC),
    };
    if matches!(schedule.timezone.name(), "EST" | "MST" | "HST") {
        let text = "is the same all year, without daylight saving time: a region and a city, such as America/New_York, have it";
        section.warning("timezone", text);
    }
    let calendar = calendar::calendar(&mut section, schedule.timezone);
    (schedule, calendar)
}

fn interval(section: &mut Section<'_>, key: &'static str, default: Duration, loopback: bool) -> Duration {
    section.parsed(key, |text| pause(text, loopback)).unwrap_or(default)
}

/// Parses an interval. A minimum protects Microsoft if seconds are mistaken for minutes.
fn pause(text: &str, loopback: bool) -> Result<Duration, String> {
    match duration(text)? {
        every if every < MINUTE && !loopback => Err(format!("{} is too often; the least is 1m", short_duration(every))),
        every => Ok(every),
    }
}

fn confirm_absence(section: &mut Section<'_>, loopback: bool) -> [Duration; 2] {
    const KEY: &str = "confirm_absence";
    let mut pauses = CONFIRM_ABSENCE;
    let texts = section.non_empty_strings(KEY);
    if !matches!(texts.len(), 0 | 2) {
        let text = format!("needs two durations, as in [\"2m\", \"1h\"], and has {}", texts.len());
        section.problem(KEY, text);
    }
    for (index, (text, kept)) in texts.iter().zip(&mut pauses).enumerate() {
        match pause(text, loopback) {
            Ok(read) => *kept = read,
            Err(problem) => section.problem(&format!("{KEY}[{index}]"), problem),
        }
    }
    pauses
}

/// Parses six fields, like the scheduler. What it would silently drop is rejected: a date that never comes.
pub(super) fn cron(text: &str, loopback: bool) -> Result<String, String> {
    let fields = text.split_whitespace().count();
    if fields != 6 {
        let meant = if fields == 5 { format!(", as in \"0 {}\"", text.trim()) } else { String::new() };
        let needed = "it needs six: second, minute, hour, day, month, weekday";
        let s = if fields == 1 { "" } else { "s" };
        return Err(format!("{} has {fields} field{s}; {needed}{meant}", quote(text)));
    }
    let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
    let cron = parser.parse(text).map_err(|_| {
        let field = text.split_whitespace().enumerate().find(|(n, field)| {
            let alone: Vec<_> = (0..6).map(|other| if other == *n { field } else { "*" }).collect();
            parser.parse(&alone.join(" ")).is_err()
        });
        let why =
            field.map_or("see `man 5 crontab`".to_owned(), |(n, field)| format!("{field} is not {}", CRON_FIELDS[n]));
        format!("{} is not a cron expression: {why}", quote(text))
    })?;
    let minutely = text.split_whitespace().next().is_some_and(|seconds| seconds.parse::<u8>().is_ok());
    if !minutely && !loopback {
        return Err(format!("{} is too often; the first field, the seconds, must be one number", quote(text)));
    }
    // Any start will do: without a year, a date that does not come after one comes after none.
    if cron.find_next_occurrence(&DateTime::UNIX_EPOCH, false).is_err() {
        return Err(format!("{} never comes: there is no such date", quote(text)));
    }
    Ok(text.into())
}

pub(super) fn retries(mut section: Section<'_>) -> retry::RetryPolicy {
    let mut policy = retry::RetryPolicy::default();
    let mut pauses = Vec::new();
    for (index, text) in section.non_empty_strings("schedule").iter().enumerate() {
        match duration(text) {
            Ok(pause) => pauses.push(pause),
            Err(problem) => section.problem(&format!("schedule[{index}]"), problem),
        }
    }
    if !pauses.is_empty() {
        policy.schedule = pauses;
    }
    if let Some(after) = section.duration("give_up_after") {
        if after < DAY {
            let text = format!(
                "a message that cannot be delivered for {} is given up, and an outage may be longer",
                short_duration(after)
            );
            section.warning("give_up_after", text);
        }
        policy.give_up_after = after;
    }
    policy
}

/// Reads how long the details of delivery attempts are kept.
pub(super) fn retention(mut section: Section<'_>) -> Duration {
    let attempts = section.parsed("attempts", |text| match duration(text)? {
        kept if kept < DAY => Err(format!("{} is too short; the least is 1d", short_duration(kept))),
        kept => Ok(kept),
    });
    attempts.unwrap_or(180 * DAY)
}

/// When a backup is made: before the customer list is read.
pub(super) const BACKUP: &str = "0 30 2 * * *";
const KEEP: usize = 14;

/// Reads where backups go; without the section there are none.
pub(super) fn backup(
    root: &mut Section<'_>,
    zone: chrono_tz::Tz,
    database: Option<&Path>,
    loopback: bool,
) -> Option<backup::Settings> {
    let given = root.has("backup");
    let mut section = root.section("backup");
    if given {
        section.require(&["dir"]);
    }
    let dir = section.path("dir");
    let keep = section.integer("keep", 1..=10_000).unwrap_or(KEEP);
    let schedule = section.parsed("schedule", |text| cron(text, loopback)).unwrap_or_else(|| BACKUP.to_owned());
    let dir = dir?;
    if dir.is_file() || database == Some(&dir) {
        section.problem("dir", format!("{} is a file: name a directory", dir.display()));
        return None;
    }
    // These are there once the service is installed.
    let homes = [database.and_then(Path::parent), default_database().parent()];
    let is_missing = |parent: &&Path| !parent.exists() && !homes.contains(&Some(*parent));
    if let Some(parent) = dir.parent().filter(is_missing) {
        let text =
            format!("there is no directory {}, and vetwatch makes the last one of the path only", parent.display());
        section.warning("dir", text);
    }
    Some(backup::Settings { dir, keep, times: Times { schedule, zone } })
}
