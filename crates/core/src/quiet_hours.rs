//! Quiet hours of a route. They delay deliveries and never drop them. Pure.

use std::fmt;
use std::time::Duration;

use chrono::{Days, NaiveTime};

use crate::calendar::Calendar;
use crate::time::Timestamp;

/// The longest deferral, whatever hours and days are configured.
pub const MAX_DEFERRAL: Duration = Duration::from_hours(14 * 24);

/// When a route does not send.
#[derive(Debug, Clone, PartialEq)]
pub struct QuietHours {
    /// From the first time up to the second, in the calendar's zone; over midnight if the second is earlier.
    pub hours: Option<(NaiveTime, NaiveTime)>,
    /// Days that are not working days of the calendar are quiet as a whole.
    pub working_days_only: bool,
    pub calendar: Calendar,
}

/// `18:00-07:00, days that are not worked (Europe/Amsterdam)`
impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.hours.map(|(from, to)| format!("{}-{}", from.format("%H:%M"), to.format("%H:%M")));
        let days = self.working_days_only.then(|| "days that are not worked".to_owned());
        let both: Vec<_> = hours.into_iter().chain(days).collect();
        write!(f, "{} ({})", both.join(", "), self.calendar.zone)
    }
}

impl QuietHours {
    /// When the quiet hours end; `None` if there are none at `now`.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let latest = now.after(MAX_DEFERRAL);
        let mut at = now;
        while let Some(end) = self.ends_after(at) {
            if end >= latest {
                return Some(latest);
            }
            at = end;
        }
        (at > now).then_some(at)
    }

    /// The end of the quiet period that contains `at`; another may follow at once.
    fn ends_after(&self, at: Timestamp) -> Option<Timestamp> {
        let local = self.calendar.local(at);
        let (date, time) = (local.date(), local.time());
        let next = |days| date.checked_add_days(Days::new(days)).unwrap_or(date);
        let end = if self.working_days_only && !self.calendar.is_working_day(date) {
            next(1).and_time(NaiveTime::MIN)
        } else {
            match self.hours? {
                (from, to) if from < to && (from..to).contains(&time) => date.and_time(to),
                (from, to) if from > to && time >= from => next(1).and_time(to),
                (from, to) if from > to && time < to => date.and_time(to),
                _ => return None,
            }
        };
        // When clocks go back an hour repeats: the end must be later than `at`, or the loop would not end.
        let end = self.calendar.at(end);
        Some(if end > at { end } else { at.after(Duration::from_mins(1)) })
    }
}

/// Parses `18:00-07:00`.
///
/// # Errors
/// If it is not a range of hours; worded to follow the key in a sentence.
pub fn parse_hours(text: &str) -> Result<(NaiveTime, NaiveTime), String> {
    let time = |text: &str| match text.trim() {
        "24:00" => Some(NaiveTime::MIN),
        text => NaiveTime::parse_from_str(text, "%H:%M").ok(),
    };
    let hours = text.split_once('-').and_then(|(from, to)| Some((time(from)?, time(to)?)));
    match hours {
        Some((from, to)) if from == to => Err("is empty: both times are the same".to_owned()),
        Some(hours) => Ok(hours),
        None => Err("is not a time span such as 18:00-07:00".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(hours: Option<&str>, working_days_only: bool) -> QuietHours {
        let calendar = Calendar { zone: chrono_tz::Europe::Amsterdam, ..Calendar::default() };
        QuietHours { hours: hours.map(|hours| parse_hours(hours).unwrap()), working_days_only, calendar }
    }

    /// Both in Amsterdam's time, which is an hour ahead of UTC from the end of October on, and two before.
    fn until(quiet: &QuietHours, at: &str) -> String {
        let at = chrono::NaiveDateTime::parse_from_str(at, "%Y-%m-%d %H:%M").unwrap();
        match quiet.until(quiet.calendar.at(at)) {
            None => "now".to_owned(),
            Some(at) => quiet.calendar.local(at).format("%Y-%m-%d %H:%M").to_string(),
        }
    }

    #[test]
    fn a_night_ends_in_the_morning() {
        let night = quiet(Some("18:00-07:00"), false);
        assert_eq!(until(&night, "2026-11-20 17:59"), "now");
        assert_eq!(until(&night, "2026-11-20 18:00"), "2026-11-21 07:00");
        assert_eq!(until(&night, "2026-11-21 06:59"), "2026-11-21 07:00");
        assert_eq!(until(&night, "2026-11-21 07:00"), "now");
        let noon = quiet(Some("12:00-13:30"), false);
        assert_eq!(until(&noon, "2026-11-21 13:29"), "2026-11-21 13:30");
        assert_eq!(until(&noon, "2026-11-21 11:59"), "now");
        assert_eq!(until(&quiet(Some("18:00-24:00"), false), "2026-11-21 23:00"), "2026-11-22 00:00");
    }

    #[test]
    fn a_friday_evening_ends_on_monday_and_holidays_are_no_working_days() {
        let mut office = quiet(Some("18:00-07:00"), true);
        assert_eq!(until(&office, "2026-11-20 18:00"), "2026-11-23 07:00");
        assert_eq!(until(&office, "2026-11-22 12:00"), "2026-11-23 07:00");
        office.calendar.holidays.insert("2026-11-23".parse().unwrap());
        assert_eq!(until(&office, "2026-11-20 18:00"), "2026-11-24 07:00");
        assert_eq!(until(&quiet(None, true), "2026-11-21 12:00"), "2026-11-23 00:00");
        assert_eq!(until(&quiet(None, true), "2026-11-20 23:59"), "now");
    }

    #[test]
    fn a_change_of_clocks_neither_holds_for_ever_nor_sends_at_night() {
        // 2026-10-25, 3:00 becomes 2:00; 2027-03-28, 2:00 becomes 3:00.
        for night in [quiet(Some("22:00-02:30"), false), quiet(Some("02:10-02:50"), false)] {
            for day in ["2026-10-25", "2027-03-28"] {
                for time in ["01:59", "02:15", "02:45", "03:15"] {
                    let at = chrono::NaiveDateTime::parse_from_str(&format!("{day} {time}"), "%Y-%m-%d %H:%M").unwrap();
                    let at = night.calendar.at(at);
                    let end = night.until(at).unwrap_or(at);
                    assert!(end.since(at) <= Duration::from_hours(4), "{day} {time}: {end}");
                    assert_eq!(night.until(end), None, "{day} {time}: {end}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_held_longer_than_two_weeks() {
        let mut never = quiet(None, true);
        never.calendar.working_days = [false; 7];
        let now = Timestamp::from_millis(1_763_974_800_000);
        assert_eq!(never.until(now), Some(now.after(MAX_DEFERRAL)));
    }

    #[test]
    fn hours_that_are_none_are_refused() {
        for text in ["", "18:00", "18:00-18:00", "25:00-07:00", "18-7", "18:00-07:00-09:00"] {
            assert!(parse_hours(text).is_err(), "{text}");
        }
    }
}
