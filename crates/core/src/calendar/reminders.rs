//! Due times of the reminders of a long review. Pure.

use std::time::Duration;

use super::Calendar;
use crate::time::Timestamp;

const DAY: Duration = Duration::from_hours(24);
/// Reminders are at least a day apart. One nearer to the last sent is the same: a create date may become known later or be
/// written otherwise, and the configuration may change.
const SAME_REMINDER: Duration = Duration::from_hours(12);

/// `[overdue]`: business days to each reminder, ascending, and then a repetition. No reminders if empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reminders {
    pub calendar: Calendar,
    pub business_days: Vec<u32>,
    pub then_every: Duration,
}

impl Default for Reminders {
    fn default() -> Self {
        Self { calendar: Calendar::default(), business_days: vec![3, 5], then_every: 7 * DAY }
    }
}

/// One reminder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reminder {
    /// Counted from 1.
    pub number: u32,
    pub due_at: Timestamp,
}

impl Reminders {
    /// The last reminder due at `now` of a review that started at `since`.
    #[must_use]
    pub fn last_due(&self, since: Timestamp, now: Timestamp) -> Option<Reminder> {
        let mut last = None;
        for (number, days) in (1..).zip(&self.business_days) {
            let due_at = self.calendar.business_days_after(since, *days);
            if due_at > now {
                return last;
            }
            last = Some(Reminder { number, due_at });
        }
        let Reminder { number, due_at } = last?;
        // Never divides by zero: the configuration requires at least a day.
        let every = self.then_every.max(DAY);
        let times = u32::try_from(now.since(due_at).as_millis() / every.as_millis()).unwrap_or(u32::MAX);
        // The last one may wait from a free day for a working one; then the one before it is the last due.
        let again = (times.saturating_sub(1)..=times).rev().filter(|times| *times > 0).find_map(|times| {
            let due_at = self.calendar.on_a_working_day(due_at.after(every.saturating_mul(times)));
            (due_at <= now).then(|| Reminder { number: number.saturating_add(times), due_at })
        });
        again.or(last)
    }

    /// The last reminder due, unless those up to `sent_until` cover it. Of several that became due together only the last is
    /// sent.
    #[must_use]
    pub fn next_reminder(&self, since: Timestamp, sent_until: Option<Timestamp>, now: Timestamp) -> Option<Reminder> {
        self.last_due(since, now)
            .filter(|last| sent_until.is_none_or(|sent_until| last.due_at > sent_until.after(SAME_REMINDER)))
    }

    /// True if the first reminder is due.
    #[must_use]
    pub fn is_overdue(&self, since: Timestamp, now: Timestamp) -> bool {
        self.business_days.first().is_some_and(|days| self.calendar.business_days_after(since, *days) < now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A Monday, 08:00 UTC.
    const MONDAY: Timestamp = Timestamp::from_millis(1_795_420_800_000);

    fn days(n: u64) -> Timestamp {
        MONDAY.after(DAY * u32::try_from(n).unwrap())
    }

    /// The reminders sent on each day from Monday on.
    fn sent(reminders: &Reminders, until: u64) -> Vec<(u64, u32)> {
        let (mut sent_until, mut seen) = (None, Vec::new());
        for day in 0..=until {
            if let Some(reminder) = reminders.next_reminder(MONDAY, sent_until, days(day)) {
                sent_until = Some(reminder.due_at);
                seen.push((day, reminder.number));
            }
        }
        seen
    }

    #[test]
    fn after_three_and_five_business_days_and_then_weekly() {
        assert_eq!(MONDAY.to_utc().format("%A %H:%M").to_string(), "Monday 08:00");
        // Thursday; Monday after the weekend; each Monday from then on.
        assert_eq!(sent(&Reminders::default(), 30), [(3, 1), (7, 2), (14, 3), (21, 4), (28, 5)]);
    }

    #[test]
    fn a_weekly_reminder_on_a_holiday_comes_the_day_after_and_the_next_one_as_usual() {
        let holidays = [days(14).to_utc().date_naive()].into();
        let calendar = Calendar { holidays, ..Calendar::default() };
        let reminders = Reminders { calendar, ..Reminders::default() };
        assert_eq!(sent(&reminders, 30), [(3, 1), (7, 2), (15, 3), (21, 4), (28, 5)]);
    }

    #[test]
    fn of_several_that_were_missed_the_last_one_is_sent_and_without_days_none() {
        let reminder = Reminders::default().next_reminder(MONDAY, None, days(17)).unwrap();
        assert_eq!((reminder.number, reminder.due_at), (3, days(14)));
        let none = Reminders { business_days: Vec::new(), ..Reminders::default() };
        assert_eq!(none.next_reminder(MONDAY, None, days(1000)), None);
        assert!(!none.is_overdue(MONDAY, days(1000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn none_is_sent_twice_however_the_clock_jumps(
            jumps in prop::collection::vec(0_u64..60 * 24, 1..60), shift in 0_u64..7_200,
            free in prop::collection::btree_set(0_u64..60, 0..12)
        ) {
            let holidays = free.into_iter().map(|n| days(n).to_utc().date_naive()).collect();
            let reminders = Reminders { calendar: Calendar { holidays, ..Calendar::default() }, ..Reminders::default() };
            let (mut sent_until, mut numbers) = (None, Vec::new());
            for (index, hours) in jumps.into_iter().enumerate() {
                // The create date becomes known halfway, slightly before the assumed one.
                let since = if index > 20 { MONDAY.before(Duration::from_secs(shift)) } else { MONDAY };
                if let Some(reminder) = reminders.next_reminder(since, sent_until, MONDAY.after(Duration::from_hours(hours))) {
                    sent_until = Some(reminder.due_at);
                    numbers.push(reminder.number);
                }
            }
            prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{:?}", numbers);
        }
    }
}
