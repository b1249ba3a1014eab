//! Which days are worked, and what time it is where the people are.
//!
//! Pure: a zone's rules come with the program, the holidays with the configuration. Everything that counts business
//! days or says "not at night" asks this one calendar.

mod reminders;

use std::collections::BTreeSet;

use chrono::{Datelike as _, Days, MappedLocalTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone as _, Timelike as _};

use crate::time::Timestamp;

pub use reminders::{Reminder, Reminders};

/// Nothing is looked for farther ahead, so that a calendar without a working day costs a moment and no more.
const FARTHEST_DAYS: u32 = 3_660;
/// Where a whole day was left out (a country changed sides of the date line), local time jumps by so much.
const LONGEST_JUMP_MINUTES: u32 = 25 * 60;

/// `[schedule]` `timezone`, `working_days` and `holidays_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    pub zone: chrono_tz::Tz,
    /// From Monday to Sunday.
    pub working_days: [bool; 7],
    /// Days that nobody works, whatever weekday they are.
    pub holidays: BTreeSet<NaiveDate>,
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

    /// What a clock on the wall shows.
    #[must_use]
    pub fn local(&self, at: Timestamp) -> NaiveDateTime {
        at.to_utc().with_timezone(&self.zone).naive_local()
    }

    /// When a clock on the wall shows this: the first time if it does so twice, and the end of the gap if it never
    /// does because clocks were set forward.
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

    /// The same local time on the `days`th working day after the day of `from`; that day itself does not count,
    /// whether it is worked or not. At most ten years later, whatever the calendar.
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

    /// How many of [`Calendar::business_days_after`] have passed; nobody counts beyond ten years.
    #[must_use]
    pub fn business_days_between(&self, from: Timestamp, to: Timestamp) -> u32 {
        let (from, to) = (self.local(from), self.local(to));
        let days = from.date().iter_days().skip(1).take_while(|date| date.and_time(from.time()) <= to);
        let days = days.take(FARTHEST_DAYS as usize).filter(|date| self.is_working_day(*date)).count();
        u32::try_from(days).unwrap_or(u32::MAX)
    }

    /// This time if its day is worked, else the same local time on the next working day; at most ten years later.
    #[must_use]
    pub fn on_a_working_day(&self, at: Timestamp) -> Timestamp {
        if self.is_working_day(self.local(at).date()) { at } else { self.business_days_after(at, 1) }
    }
}

#[cfg(test)]
mod tests;
