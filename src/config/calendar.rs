//! `[schedule]` `working_days` and `holidays_file`, and `[overdue]`: working days and deadlines in them.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{NaiveDate, Weekday};

use super::section::Section;
use super::values::{duration, quote, read_text};
use crate::calendar::{Calendar, Reminders};
use crate::text::short_duration;
use crate::time::{Clock as _, SystemClock};

/// Larger than any list of holidays; a larger file is the wrong one.
const FILE_MAX_BYTES: u64 = 256 * 1024;
/// A wrong file is one mistake, not thousands.
const BAD_LINES_MAX: usize = 10;
/// One year.
const BUSINESS_DAYS_MAX: i64 = 260;
const DAY: Duration = Duration::from_hours(24);

pub(super) fn calendar(section: &mut Section<'_>, zone: chrono_tz::Tz) -> Calendar {
    let working_days = working_days(section).unwrap_or(Calendar::default().working_days);
    let holidays = holidays(section, zone).unwrap_or_default();
    Calendar { zone, working_days, holidays }
}

/// `[overdue]`.
pub(super) fn reminders(mut section: Section<'_>, calendar: &Calendar) -> Reminders {
    let default = Reminders::default();
    let given = section.has("business_days");
    let days: Vec<u32> = section.integers("business_days", 1..=BUSINESS_DAYS_MAX);
    if let Some(n) = days.windows(2).position(|pair| matches!(pair, [before, after] if before >= after)) {
        section.problem(&format!("business_days[{}]", n + 1), "must be more than the entry before it");
    }
    let has_rhythm = section.has("then_every");
    let every = section.parsed("then_every", |text| match duration(text)? {
        every if every < DAY => Err(format!("{} is too often; the least is 1d", short_duration(every))),
        every => Ok(every),
    });
    if given && days.is_empty() && has_rhythm {
        section.warning("then_every", "has no effect: business_days is empty, so nobody is reminded");
    }
    Reminders {
        calendar: calendar.clone(),
        business_days: if given { days } else { default.business_days },
        then_every: every.unwrap_or(default.then_every),
    }
}

fn working_days(section: &mut Section<'_>) -> Option<[bool; 7]> {
    let given = section.has("working_days");
    let names = section.non_empty_strings("working_days");
    let mut days = [false; 7];
    for (index, name) in names.iter().enumerate() {
        let Ok(day) = name.trim().parse::<Weekday>() else {
            let text = format!("{} is not a day: each entry is one of Mon, Tue, Wed, Thu, Fri, Sat, Sun", quote(name));
            section.problem(&format!("working_days[{index}]"), text);
            continue;
        };
        if let Some(is_worked) = days.get_mut(day.num_days_from_monday() as usize) {
            *is_worked = true;
        }
    }
    given.then_some(days)
}

fn holidays(section: &mut Section<'_>, zone: chrono_tz::Tz) -> Option<BTreeSet<NaiveDate>> {
    const KEY: &str = "holidays_file";
    let path = section.path(KEY)?;
    let text = match read_text(&path, FILE_MAX_BYTES, "a list of days") {
        Ok(text) => text,
        Err(problem) => {
            section.problem(KEY, format!("{} {problem}", quote(&path.display().to_string())));
            return None;
        }
    };
    section.note_file(KEY, &text);
    let (mut days, mut bad) = (BTreeSet::new(), 0);
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let date = line.split('#').next().unwrap_or_default().trim();
        match date.parse::<NaiveDate>() {
            _ if date.is_empty() => {}
            // Other formats are ambiguous: 2026-1-2 may be the first of February.
            Ok(day) if day.to_string() == date => {
                days.insert(day);
            }
            _ => {
                bad += 1;
                if bad <= BAD_LINES_MAX {
                    let text = format!("line {}: {} is not a date such as 2026-12-25", index + 1, quote(date));
                    section.problem(KEY, text);
                }
            }
        }
    }
    if bad > BAD_LINES_MAX {
        section.problem(KEY, format!("{} more lines are not dates", bad - BAD_LINES_MAX));
    }
    let today = SystemClock.now().to_utc().with_timezone(&zone).date_naive();
    match days.last() {
        None if bad == 0 => section.warning(KEY, "there is no date in the file"),
        Some(last) if *last < today => {
            section.warning(KEY, format!("the last date in the file is {last}: add the holidays after it"));
        }
        _ => {}
    }
    Some(days)
}
