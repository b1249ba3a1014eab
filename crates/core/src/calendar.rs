//! Working days and local time.
//!
//! Pure: the time zone rules come with the program, the holidays with the configuration. Everything that counts business
//! days or knows quiet hours uses this one calendar.

mod reminders;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{
    Datelike as _, Days, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Timelike as _,
};

use crate::time::Timestamp;

pub use reminders::{Reminder, Reminders};

/// Bounds every search, so that it ends in a calendar without working days.
const FARTHEST_DAYS: u32 = 3_660;
/// The longest jump of local time, where a country crossed the date line and left out a day.
const LONGEST_JUMP_MINUTES: u32 = 25 * 60;

/// `[schedule]` `timezone`, `working_days` and `holidays_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    pub zone: chrono_tz::Tz,
    /// Monday to Sunday.
    pub working_days: [bool; 7],
    /// Free days, whatever their weekday.
    pub holidays: BTreeSet<NaiveDate>,
}

/// The working time that has passed at an instant: one look-up, however long ago it was.
#[derive(Debug)]
pub struct WorkingClock {
    /// When a day begins, what had been worked by then, and whether it is a working day.
    days: Vec<(Timestamp, Duration, bool)>,
}

impl WorkingClock {
    /// The working time between two instants.
    #[must_use]
    pub fn between(&self, from: Timestamp, to: Timestamp) -> Duration {
        self.worked(to).saturating_sub(self.worked(from))
    }

    fn worked(&self, at: Timestamp) -> Duration {
        let day = self.days.partition_point(|(begin, _, _)| *begin <= at).checked_sub(1);
        let Some((begin, worked, is_working)) = day.and_then(|day| self.days.get(day)) else { return Duration::ZERO };
        *worked + if *is_working { at.since(*begin) } else { Duration::ZERO }
    }
}

/// Monday to Friday in UTC, without holidays.
impl Default for Calendar {
    fn default() -> Self {
        Self {
            zone: chrono_tz::UTC,
            working_days: [true, true, true, true, true, false, false],
            holidays: BTreeSet::new(),
        }
    }
}

impl Calendar {
    #[must_use]
    pub fn is_working_day(&self, date: NaiveDate) -> bool {
        let weekday = usize::try_from(date.weekday().num_days_from_monday()).unwrap_or_default();
        self.working_days.get(weekday).copied().unwrap_or_default() && !self.holidays.contains(&date)
    }

    /// The local time at `at`.
    #[must_use]
    pub fn local(&self, at: Timestamp) -> NaiveDateTime {
        at.to_utc().with_timezone(&self.zone).naive_local()
    }

    /// The instant of a local time: the first one if there are two, and the end of the gap if there is none because clocks
    /// were set forward.
    #[must_use]
    pub fn at(&self, local: NaiveDateTime) -> Timestamp {
        let instant = |local: NaiveDateTime| match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => Some(Timestamp::from(at.to_utc())),
            MappedLocalTime::None => None,
        };
        let minute = local.with_second(0).and_then(|local| local.with_nanosecond(0)).unwrap_or(local);
        let mut later =
            (1..=LONGEST_JUMP_MINUTES).filter_map(|n| minute.checked_add_signed(TimeDelta::minutes(n.into())));
        let found = instant(local).or_else(|| later.find_map(instant));
        // No zone has a longer gap.
        found.unwrap_or_else(|| local.and_utc().into())
    }

    /// The same local time on the `days`th working day after the day of `from`, which itself does not count. At most ten
    /// years later.
    #[must_use]
    pub fn business_days_after(&self, from: Timestamp, days: u32) -> Timestamp {
        let local = self.local(from);
        let (mut date, mut left) = (local.date(), days);
        for _ in 0..FARTHEST_DAYS {
            if left == 0 {
                break;
            }
            let Some(next) = date.checked_add_days(Days::new(1)) else { break };
            date = next;
            left -= u32::from(self.is_working_day(date));
        }
        if date == local.date() { from } else { self.at(date.and_time(local.time())) }
    }

    /// The number of business days that have passed, as by [`Calendar::business_days_after`]; at most ten years of them.
    #[must_use]
    pub fn business_days_between(&self, from: Timestamp, to: Timestamp) -> u32 {
        let (from, to) = (self.local(from), self.local(to));
        let days = from.date().iter_days().skip(1).take_while(|date| date.and_time(from.time()) <= to);
        let days = days.take(FARTHEST_DAYS as usize).filter(|date| self.is_working_day(*date)).count();
        u32::try_from(days).unwrap_or(u32::MAX)
    }

    /// The time between two instants that lies on working days; at most ten years of it.
    #[must_use]
    pub fn working_time(&self, from: Timestamp, to: Timestamp) -> Duration {
        let mut total = Duration::ZERO;
        for date in self.local(from).date().iter_days().take(FARTHEST_DAYS as usize) {
            let Some((begin, end)) = self.day(date).filter(|(begin, _)| *begin < to) else { break };
            if self.is_working_day(date) {
                total += end.min(to).since(begin.max(from));
            }
        }
        total
    }

    /// Measures [working time](Self::working_time) between many pairs of instants. What is before `from`, or more than ten
    /// years before `to`, is not worked.
    #[must_use]
    pub fn working_clock(&self, from: Timestamp, to: Timestamp) -> WorkingClock {
        let from = from.max(to.before(Duration::from_hours(24) * FARTHEST_DAYS));
        let mut worked = Duration::ZERO;
        let mut days = Vec::new();
        for date in self.local(from).date().iter_days() {
            let Some((begin, end)) = self.day(date).filter(|(begin, _)| *begin <= to) else { break };
            let is_working = self.is_working_day(date);
            days.push((begin, worked, is_working));
            worked += if is_working { end.since(begin) } else { Duration::ZERO };
        }
        WorkingClock { days }
    }

    /// When this much [working time](Self::working_time) has passed; at most ten years later.
    #[must_use]
    pub fn after_working_time(&self, from: Timestamp, time: Duration) -> Timestamp {
        let mut left = time;
        for date in self.local(from).date().iter_days().take(FARTHEST_DAYS as usize) {
            let Some((begin, end)) = self.day(date) else { break };
            if self.is_working_day(date) {
                let begin = begin.max(from);
                let there_is = end.since(begin);
                if left <= there_is {
                    return begin.after(left);
                }
                left -= there_is;
            }
        }
        from.after(time)
    }

    /// The first and the last instant of a day.
    fn day(&self, date: NaiveDate) -> Option<(Timestamp, Timestamp)> {
        let midnight = |date: NaiveDate| self.at(date.and_time(NaiveTime::MIN));
        Some((midnight(date), midnight(date.checked_add_days(Days::new(1))?)))
    }

    /// `at` if on a working day, else the same local time on the next one; at most ten years later.
    #[must_use]
    pub fn on_a_working_day(&self, at: Timestamp) -> Timestamp {
        if self.is_working_day(self.local(at).date()) { at } else { self.business_days_after(at, 1) }
    }
}

#[cfg(test)]
mod tests;
