//! `[schedule]` and `[retry]`: intervals.

use std::time::Duration;

use chrono::DateTime;
use croner::parser::{CronParser, Seconds};

use super::section::Section;
use super::values::{duration, quote, short_duration, timezone};
use super::{Schedule, calendar};
use crate::calendar::Calendar;
use crate::delivery::retry;

/// Default intervals.
pub(super) const IN_REVIEW: Duration = Duration::from_mins(15);
/// Delays before a missing entry is polled again; the second one only if it was approved.
pub(super) const CONFIRM_ABSENCE: [Duration; 2] = [Duration::from_mins(2), Duration::from_hours(1)];
pub(super) const SETTLED: Duration = Duration::from_hours(24);
pub(super) const UNQUALIFIED: Duration = Duration::from_hours(7 * 24);
pub(super) const ACTIVITY_LOG: Duration = Duration::from_mins(5);

const CRON_FIELDS: [&str; 6] =
    ["second (0-59)", "minute (0-59)", "hour (0-23)", "day (1-31)", "month (1-12)", "weekday (0-7)"];
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// Reads the schedule. With `loopback` only this machine is polled, so there is no minimum.
pub(super) fn schedule(mut section: Section<'_>, loopback: bool) -> (Schedule, Calendar) {
    let in_review = interval(&mut section, "in_review", IN_REVIEW, loopback);
    let settled = interval(&mut section, "settled", SETTLED, loopback);
    let unqualified = interval(&mut section, "unqualified", UNQUALIFIED, loopback);
    for (key, every) in [("settled", settled), ("unqualified", unqualified)] {
        if every < in_review {
            let text =
                format!("{} is more often than in_review ({})", short_duration(every), short_duration(in_review));
            section.problem(key, text);
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
        let text = format!("has {} durations; two are needed, as in [\"2m\", \"1h\"]", texts.len());
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
fn cron(text: &str, loopback: bool) -> Result<String, String> {
    let fields = text.split_whitespace().count();
    if fields != 6 {
        let meant = if fields == 5 { format!(": \"0 {}\"?", text.trim()) } else { String::new() };
        return Err(format!("{} has {fields} fields; six are needed, the seconds first{meant}", quote(text)));
    }
    let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
    let cron = parser.parse(text).map_err(|_| {
        let field = text.split_whitespace().enumerate().find(|(n, field)| {
            let alone: Vec<_> = (0..6).map(|other| if other == *n { field } else { "*" }).collect();
            parser.parse(&alone.join(" ")).is_err()
        });
        let why =
            field.map_or("see `man 5 crontab`".to_owned(), |(n, field)| format!("{field} is no {}", CRON_FIELDS[n]));
        format!("{} is no cron expression: {why}", quote(text))
    })?;
    let minutely = text.split_whitespace().next().is_some_and(|seconds| seconds.parse::<u8>().is_ok());
    if !minutely && !loopback {
        return Err(format!("{} is too often; the first field, the seconds, must be one number", quote(text)));
    }
    // Any start will do: without a year, a date that does not come after one comes after none.
    if cron.find_next_occurrence(&DateTime::UNIX_EPOCH, false).is_err() {
        return Err(format!("{} is never: there is no such date", quote(text)));
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
                "a message that a receiver cannot take for {} becomes dead; an outage may be longer",
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
        kept if kept < DAY => {
            Err(format!("{} is too short to look anything up; the least is 1d", short_duration(kept)))
        }
        kept => Ok(kept),
    });
    attempts.unwrap_or(180 * DAY)
}
