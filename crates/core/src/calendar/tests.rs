use proptest::prelude::*;

use super::*;

fn amsterdam(holidays: &[&str]) -> Calendar {
    let holidays = holidays.iter().map(|day| day.parse().unwrap()).collect();
    Calendar { zone: chrono_tz::Europe::Amsterdam, holidays, ..Calendar::default() }
}

fn utc(text: &str) -> Timestamp {
    let text = format!("{text}:00Z");
    chrono::DateTime::parse_from_rfc3339(&text).unwrap().to_utc().into()
}

#[test]
fn a_weekend_is_stepped_over_and_the_time_of_day_stays() {
    let calendar = Calendar::default();
    // 2026-11-20 is a Friday.
    assert_eq!(calendar.business_days_after(utc("2026-11-20T10:37"), 1), utc("2026-11-23T10:37"));
    assert_eq!(calendar.business_days_after(utc("2026-11-20T10:37"), 5), utc("2026-11-27T10:37"));
    assert_eq!(calendar.business_days_after(utc("2026-11-21T10:37"), 1), utc("2026-11-23T10:37"), "from a Saturday");
    assert_eq!(calendar.business_days_after(utc("2026-11-21T10:37"), 0), utc("2026-11-21T10:37"));
}

#[test]
fn the_business_days_that_have_passed_are_those_that_are_whole() {
    let calendar = amsterdam(&["2026-11-24"]);
    let between = |to: &str| calendar.business_days_between(utc("2026-11-20T10:37"), utc(to));
    assert_eq!([between("2026-11-20T10:37"), between("2026-11-23T10:36"), between("2026-11-23T10:37")], [0, 0, 1]);
    assert_eq!([between("2026-11-25T10:36"), between("2026-11-25T10:37"), between("2026-11-19T00:00")], [1, 2, 0]);
}

#[test]
fn working_days_can_be_configured() {
    let working_days = [false, true, true, true, true, false, true];
    let calendar = Calendar { working_days, ..Calendar::default() };
    assert_eq!(calendar.business_days_after(utc("2026-11-20T09:00"), 1), utc("2026-11-22T09:00"), "Sunday");
    assert_eq!(calendar.business_days_after(utc("2026-11-20T09:00"), 2), utc("2026-11-24T09:00"), "Tuesday");
}

#[test]
fn holidays_are_not_worked() {
    let calendar = amsterdam(&["2026-12-25", "2026-12-28", "2027-01-01"]);
    assert!(!calendar.is_working_day("2026-12-28".parse().unwrap()));
    assert_eq!(calendar.business_days_after(utc("2026-12-24T09:00"), 1), utc("2026-12-29T09:00"));
    assert_eq!(calendar.business_days_after(utc("2026-12-24T09:00"), 4), utc("2027-01-04T09:00"));
}

#[test]
fn a_year_of_holidays_ends_on_the_day_after_it() {
    let holidays = "2026-01-01".parse::<NaiveDate>().unwrap().iter_days().take(365).collect();
    let calendar = Calendar { holidays, ..Calendar::default() };
    assert_eq!(calendar.business_days_after(utc("2026-01-01T08:00"), 1), utc("2027-01-01T08:00"));
}

#[test]
fn three_business_days_are_the_same_hour_on_the_wall_over_a_change_of_the_clocks() {
    let calendar = amsterdam(&[]);
    // Clocks go forward on Sunday 2026-03-29 and back on Sunday 2026-10-25.
    assert_eq!(calendar.business_days_after(utc("2026-03-27T09:00"), 1), utc("2026-03-30T08:00"));
    assert_eq!(calendar.business_days_after(utc("2026-10-23T08:00"), 1), utc("2026-10-26T09:00"));
    assert_eq!(calendar.local(utc("2026-10-23T08:00")).to_string(), "2026-10-23 10:00:00");
}

#[test]
fn a_day_is_that_of_the_time_zone() {
    let calendar = amsterdam(&[]);
    // Still Friday in Greenwich, and Saturday in Amsterdam.
    assert_eq!(calendar.business_days_after(utc("2026-11-20T23:30"), 1), utc("2026-11-22T23:30"));
}

#[test]
fn a_time_that_clocks_skip_is_the_end_of_the_gap_and_one_they_show_twice_is_the_first() {
    let calendar = amsterdam(&[]);
    let local = |text: &str| calendar.at(text.parse().unwrap());
    assert_eq!(local("2026-03-29T02:30:20"), utc("2026-03-29T01:00"));
    assert_eq!(local("2026-10-25T02:30:00"), utc("2026-10-25T00:30"));
    let sunday = Calendar { working_days: [true; 7], ..amsterdam(&[]) };
    assert_eq!(sunday.business_days_after(utc("2026-03-28T01:30"), 1), utc("2026-03-29T01:00"));
    let apia = Calendar { zone: chrono_tz::Pacific::Apia, ..Calendar::default() };
    let skipped = "2011-12-30T12:00:00".parse().unwrap();
    assert_eq!(apia.local(apia.at(skipped)).to_string(), "2011-12-31 00:00:00", "a day that was none");
}

#[test]
fn a_calendar_without_a_working_day_ends_after_ten_years() {
    let calendar = Calendar { working_days: [false; 7], ..Calendar::default() };
    let from = utc("2026-11-20T10:00");
    assert_eq!(calendar.business_days_after(from, 3).since(from).as_secs() / 86_400, 3_660);
    assert_eq!(Calendar::default().business_days_after(from, u32::MAX).since(from).as_secs() / 86_400, 3_660);
}

#[test]
fn what_falls_on_a_free_day_waits_for_the_next_working_one() {
    let calendar = amsterdam(&["2026-12-25"]);
    assert_eq!(calendar.on_a_working_day(utc("2026-12-25T09:00")), utc("2026-12-28T09:00"));
    assert_eq!(calendar.on_a_working_day(utc("2026-12-24T09:00")), utc("2026-12-24T09:00"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn more_days_are_never_sooner_and_land_on_working_days(
        at in 0_i64..4_000_000_000_000, days in 1_u32..40, zone in prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec()),
        free in prop::collection::btree_set(0_u64..40, 0..10)
    ) {
        let mut calendar = Calendar { zone, ..Calendar::default() };
        let from = Timestamp::from_millis(at);
        let today = calendar.local(from).date();
        calendar.holidays = free.into_iter().filter_map(|n| today.checked_add_days(Days::new(n))).collect();
        let (sooner, later) = (calendar.business_days_after(from, days), calendar.business_days_after(from, days + 1));
        prop_assert!(from < sooner && sooner < later);
        // A gap at midnight may push the time to the next day; nothing else does.
        let (date, time) = (calendar.local(sooner).date(), calendar.local(sooner).time());
        prop_assert!(calendar.is_working_day(date) || time != calendar.local(from).time());
        prop_assert_eq!(calendar.at(calendar.local(sooner)).as_millis().abs_diff(sooner.as_millis()) % 1_800_000, 0);
    }

    #[test]
    fn any_time_in_any_zone_is_answered(at: i64, days: u32) {
        let calendar = amsterdam(&[]);
        let from = Timestamp::from_millis(at);
        let _ = (calendar.business_days_after(from, days), calendar.on_a_working_day(from));
    }
}

#[test]
fn working_time_leaves_out_free_days_and_comes_back() {
    let calendar = Calendar { zone: chrono_tz::Europe::Amsterdam, ..Calendar::default() };
    let hours = Duration::from_hours;
    // Friday 2026-11-20, 15:00 UTC.
    let friday = Timestamp::from_millis(1_795_186_800_000);
    let monday = friday.after(hours(3 * 24));
    assert_eq!(calendar.working_time(friday, monday), hours(24));
    assert_eq!(calendar.after_working_time(friday, hours(24)), monday);
    assert_eq!(calendar.working_time(monday, friday), Duration::ZERO);
    assert_eq!(calendar.working_time(friday, friday.after(hours(2))), hours(2));
    let saturday = friday.after(hours(24));
    assert_eq!(calendar.working_time(saturday, saturday.after(hours(2))), Duration::ZERO);
    // Clocks are set back on the Sunday: after 168 hours it is an hour earlier in the day.
    let before = Timestamp::from_millis(1_792_598_400_000);
    assert_eq!(calendar.working_time(before, before.after(hours(7 * 24))).as_secs() / 3600, 119);
    let none = Calendar { working_days: [false; 7], ..Calendar::default() };
    assert_eq!(none.working_time(friday, monday), Duration::ZERO);
}

proptest! {
    #[test]
    fn a_working_clock_measures_as_the_calendar_does(
        since in 1_600_000_000_000_i64..1_900_000_000_000, before in 0_i64..40_000_000_000, length in 0_i64..40_000_000_000,
    ) {
        let calendar = amsterdam(&["2025-12-25", "2026-01-01"]);
        let (from, to) = (Timestamp::from_millis(since), Timestamp::from_millis(since + length));
        let first = Timestamp::from_millis(since - before);
        prop_assert_eq!(calendar.working_clock(first, to).between(from, to), calendar.working_time(from, to));
    }
}

#[test]
fn a_date_of_long_ago_costs_a_working_clock_nothing_and_spoils_no_other() {
    let calendar = Calendar::default();
    let (from, to) = (utc("2026-11-20T10:00"), utc("2026-11-23T10:00"));
    let clock = calendar.working_clock(Timestamp::from_millis(0), to);
    assert_eq!(clock.between(from, to), Duration::from_hours(24));
    assert!(clock.days.len() <= FARTHEST_DAYS as usize + 1);
}
