//! Working days.

use super::*;

const ZONE: &str = "timezone = \"Europe/Amsterdam\"";

fn with_holidays(text: &str) -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("holidays.txt"), text).unwrap();
    desk
}

fn file() -> String {
    format!("{ZONE}\nholidays_file = \"holidays.txt\"")
}

#[test]
fn the_calendar_is_the_zones_with_the_days_of_the_file() {
    let desk = with_holidays("\u{feff}# Christmas\n\n2998-12-25 # first\r\n  2999-12-26\n");
    let config = desk.with(ZONE, &format!("{}\nworking_days = [\"Mon\", \"sat\"]", file())).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let holidays = config.calendar.holidays.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(holidays, ["2998-12-25", "2999-12-26"]);
    assert_eq!(config.calendar.working_days, [true, false, false, false, false, true, false]);
    assert_eq!(config.calendar.zone, chrono_tz::Europe::Amsterdam);
}

#[test]
fn a_list_of_holidays_that_has_run_out_is_a_doubt() {
    let doubts = |text: &str| with_holidays(text).warnings(ZONE, &file());
    let text = "schedule.holidays_file: the last date in the file is 2020-12-25: add the holidays after it";
    assert_eq!(doubts("2020-12-25\n2019-12-25\n"), [text]);
    assert_eq!(doubts("# later\n"), ["schedule.holidays_file: there is no date in the file"]);
}

#[test]
fn every_line_that_is_no_day_is_reported_with_its_number() {
    let desk = with_holidays("2999-01-01\n25-12-2026\n2026-2-3 # February or March?\n2026-02-30\n");
    let problems = desk.with(ZONE, &file()).unwrap_err().to_string();
    insta::assert_snapshot!(problems, @r#"
    vetwatch.toml:65: schedule.holidays_file: line 2: 25-12-2026 is not a date such as 2026-12-25
    vetwatch.toml:65: schedule.holidays_file: line 3: 2026-2-3 is not a date such as 2026-12-25
    vetwatch.toml:65: schedule.holidays_file: line 4: 2026-02-30 is not a date such as 2026-12-25
    "#);
    let problems = with_holidays(&"x\n".repeat(500)).with(ZONE, &file()).unwrap_err();
    assert_eq!(problems.problems.len(), 11);
    assert_eq!(problems.problems[10].text, "490 more lines are not dates");
}

#[test]
fn a_file_that_is_not_there_and_a_day_that_does_not_exist_are_problems() {
    let missing = Desk::new().problem(ZONE, &file());
    let text = "DIR/holidays.txt does not exist";
    assert_eq!(missing, format!("vetwatch.toml: schedule.holidays_file: {text}"));
    let day = Desk::new().problem(ZONE, &format!("{ZONE}\nworking_days = [\"Mon\", \"Someday\"]"));
    let text = "Someday is not a day: each entry is one of Mon, Tue, Wed, Thu, Fri, Sat, Sun";
    assert_eq!(day, format!("vetwatch.toml: schedule.working_days, entry 2: {text}"));
    let none = Desk::new().problem(ZONE, &format!("{ZONE}\nworking_days = []"));
    assert_eq!(none, "vetwatch.toml: schedule.working_days: is an empty list: it needs at least one entry");
}

#[test]
fn reminders_are_counted_in_business_days_and_an_empty_list_is_none() {
    const OVERDUE: &str = "# business_days = [3, 5]";
    let days = |text: &str| Desk::new().with(OVERDUE, text).unwrap().reminders.business_days;
    assert_eq!(days(""), [3, 5]);
    assert_eq!(days("business_days = [2, 10, 20]"), [2, 10, 20]);
    assert!(days("business_days = []").is_empty());
    let problem = |text: &str| Desk::new().problem(OVERDUE, text);
    assert_eq!(
        problem("business_days = [5, 3]"),
        "vetwatch.toml: overdue.business_days, entry 2: must be more than the entry before it"
    );
    assert_eq!(
        problem("business_days = [0]"),
        "vetwatch.toml: overdue.business_days, entry 1: 0 is not between 1 and 260"
    );
    assert_eq!(problem("then_every = \"3h\""), "vetwatch.toml: overdue.then_every: 3h is too often; the least is 1d");
    let doubts = Desk::new().warnings(OVERDUE, "business_days = []\nthen_every = \"14d\"");
    assert_eq!(doubts, ["overdue.then_every: has no effect: business_days is empty, so nobody is reminded"]);
}
