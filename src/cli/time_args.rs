//! Parses and formats times for people.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime};

use crate::calendar::Calendar;
use crate::time::Timestamp;

/// `--since`: a duration ago, or an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    Ago(Duration),
    At(Timestamp),
    /// Its first moment.
    Day(NaiveDate),
}

impl Since {
    #[must_use]
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.before(ago),
            Self::At(instant) => instant,
            Self::Day(day) => day.and_time(NaiveTime::MIN).and_utc().into(),
        }
    }

    /// As [`Self::at`], with days of the calendar's zone.
    #[must_use]
    pub fn at_in(self, now: Timestamp, calendar: &Calendar) -> Timestamp {
        match self {
            Self::Day(day) => calendar.at(day.and_time(NaiveTime::MIN)),
            _ => self.at(now),
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(instant.to_utc().into()));
        }
        if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(Self::Day(day));
        }
        humantime::parse_duration(text).map(Self::Ago).map_err(|_| {
            "write a length of time (30d, 12h, 2weeks), a day (2026-11-01, UTC) or a time (2026-11-01T08:00:00Z)".into()
        })
    }
}

/// Formats a [`Timestamp`] or a view's time to the minute: `2026-11-20 14:03`.
#[must_use]
pub(super) fn minute(time: impl Display) -> String {
    let time = time.to_string();
    match DateTime::parse_from_rfc3339(&time) {
        Ok(instant) => instant.to_utc().format("%Y-%m-%d %H:%M").to_string(),
        Err(_) => time,
    }
}

/// Parses a view's time. `None` if it is not one.
#[must_use]
pub(super) fn instant(view_time: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(view_time).ok().map(|instant| instant.to_utc().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_a_length_of_time_a_day_or_a_time() {
        let now = instant("2026-11-21T12:00:00Z").unwrap();
        let at = |text: &str| text.parse::<Since>().map(|since| since.at(now).to_string());
        assert_eq!(at("30d").unwrap(), "2026-10-22T12:00:00.000Z");
        assert_eq!(at("1h 30m").unwrap(), "2026-11-21T10:30:00.000Z");
        assert_eq!(at("2026-11-01").unwrap(), "2026-11-01T00:00:00.000Z");
        assert_eq!(at(" 2026-11-01T08:00:00+02:00 ").unwrap(), "2026-11-01T06:00:00.000Z");
        assert_eq!(at("2000000years").unwrap_or_default().is_empty(), at("2000000years").is_err());
        for wrong in ["", "yesterday", "2026-13-01", "-3d", "30"] {
            assert!(at(wrong).unwrap_err().contains("2026-11-01"), "{wrong}");
        }
    }

    #[test]
    fn a_day_is_that_of_the_calendar_where_there_is_one() {
        let calendar = Calendar { zone: chrono_tz::America::New_York, ..Calendar::default() };
        let now = instant("2026-11-21T12:00:00Z").unwrap();
        let at = |text: &str| text.parse::<Since>().unwrap().at_in(now, &calendar).to_string();
        assert_eq!(at("2026-01-01"), "2026-01-01T05:00:00.000Z");
        assert_eq!(at("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00.000Z");
        assert_eq!(at("1h"), "2026-11-21T11:00:00.000Z");
    }

    #[test]
    fn a_views_time_is_shown_to_the_minute() {
        assert_eq!(minute("2026-11-20T14:03:59.999Z"), "2026-11-20 14:03");
    }
}
