use super::*;

/// Noon of a day of November 2026, or of later ones; the first was a Sunday.
fn day(n: i64) -> Timestamp {
    // 2026-11-01 12:00 UTC
    Timestamp::from_millis(1_793_534_400_000 + (n - 1) * 86_400_000)
}

fn ended(customer: i64, submitted: i64, decided: i64, outcome: Outcome) -> Ended<'static> {
    let reason = (outcome == Outcome::Denied).then_some("Not an Education Customer");
    let (submitted_at, observed_at) = (Some(day(submitted)), day(decided));
    Ended { customer, qualification: "Education", attempt: 1, submitted_at, observed_at, outcome, reason }
}

fn report(calendar: &Calendar) -> Report<'_> {
    Report::new(calendar, day(1), day(30))
}

#[test]
fn verdicts_are_counted_by_qualification_month_week_and_attempt() {
    let calendar = Calendar::default();
    let mut report = report(&calendar);
    let gcc = Ended { qualification: "government_community_cloud", ..ended(3, 8, 20, Outcome::Approved) };
    let second = Ended { attempt: 2, ..ended(2, 16, 18, Outcome::Approved) };
    let spelled = Ended { qualification: "EDUCATION", ..ended(1, 2, 5, Outcome::Denied) };
    for one in [gcc, second, ended(4, 6, 9, Outcome::Vanished), spelled] {
        report.add(one);
    }
    let figures = report.figures();
    let rows: Vec<_> = figures.qualifications.iter().map(|row| (row.qualification.as_deref(), row.verdicts)).collect();
    let counted = |approved, denied, approved_percent| Verdicts {
        verdicts: approved + denied,
        approved,
        denied,
        approved_percent: Some(approved_percent),
    };
    assert_eq!(
        rows,
        [
            (None, counted(2, 1, 66.7)),
            (Some("Education"), counted(1, 1, 50.0)),
            (Some("government_community_cloud"), counted(1, 0, 100.0)),
        ]
    );
    assert_eq!(figures.qualifications[1].vanished, 1);
    let weeks: Vec<_> = figures.weeks.iter().map(|row| (&*row.week, row.verdicts.verdicts)).collect();
    assert_eq!(weeks, [("2026-11-02", 1), ("2026-11-09", 0), ("2026-11-16", 2), ("2026-11-23", 0), ("2026-11-30", 0)]);
    let attempts: Vec<_> =
        figures.attempts.iter().map(|row| (&*row.qualification, row.attempt, row.verdicts.approved)).collect();
    assert_eq!(attempts, [("Education", 1, 0), ("Education", 2, 1), ("government_community_cloud", 1, 1)]);
    assert_eq!(figures.months.iter().map(|row| row.verdicts.verdicts).sum::<u64>(), 3);
}

#[test]
fn a_month_is_that_of_the_office() {
    let calendar = Calendar { zone: chrono_tz::Pacific::Auckland, ..Calendar::default() };
    let mut report = report(&calendar);
    // There it is 1 December already.
    report.add(ended(1, 2, 30, Outcome::Approved));
    assert_eq!(report.figures().months[0].month, "2026-12");
}

#[test]
fn reviews_that_go_on_make_the_time_to_decision_longer() {
    let calendar = Calendar::default();
    let median = |open: i64| {
        let mut report = report(&calendar);
        for customer in 0..open {
            report.add_open(Open { customer: 100 + customer, qualification: "Education", since: day(5) });
        }
        for customer in (1..=4).rev() {
            report.add(ended(customer, 10, 10 + customer, Outcome::Approved));
        }
        let row = report.figures().qualifications.remove(1);
        (row.median_hours, row.p90_hours, row.timed, row.in_review)
    };
    assert_eq!(median(0), (Some(48.0), Some(96.0), 4, 0));
    assert_eq!(median(2), (Some(72.0), None, 6, 2));
    assert_eq!(median(5), (None, None, 9, 5));
}

#[test]
fn an_approval_that_is_taken_back_is_counted_and_is_no_verdict() {
    let calendar = Calendar::default();
    let mut report = report(&calendar);
    report.add(ended(1, 2, 20, Outcome::Revoked));
    report.add(ended(1, 2, 4, Outcome::Approved));
    let figures = report.figures();
    let row = &figures.qualifications[1];
    assert_eq!((row.verdicts.verdicts, row.revoked, row.timed, row.median_hours), (1, 1, 1, Some(48.0)));
    assert_eq!(figures.months.iter().map(|row| row.verdicts.verdicts).sum::<u64>(), 1);
}

#[test]
fn a_review_that_vanished_would_have_taken_longer() {
    let calendar = Calendar::default();
    let mut report = report(&calendar);
    report.add(ended(5, 5, 25, Outcome::Vanished));
    report.add(ended(6, 5, 25, Outcome::Vanished));
    for customer in (1..=4).rev() {
        report.add(ended(customer, 10, 10 + customer, Outcome::Approved));
    }
    let row = report.figures().qualifications.remove(1);
    assert_eq!((row.median_hours, row.p90_hours, row.timed, row.vanished), (Some(72.0), None, 6, 2));
}

#[test]
fn a_review_from_before_the_period_is_counted_and_not_timed() {
    let calendar = Calendar::default();
    let mut report = report(&calendar);
    report.add_open(Open { customer: 9, qualification: "Education", since: day(-200) });
    report.add(ended(1, 4, 6, Outcome::Approved));
    report.add(ended(2, -60, 5, Outcome::Approved));
    let row = report.figures().qualifications.remove(1);
    assert_eq!((row.verdicts.verdicts, row.in_review, row.timed, row.median_hours), (2, 1, 1, Some(48.0)));
}

#[test]
fn a_denial_is_cured_by_the_approval_that_comes_next() {
    let calendar = Calendar::default();
    let mut report = report(&calendar);
    report.add_open(Open { customer: 4, qualification: "education", since: day(25) });
    // Customer 1 was denied twice, then approved; 2 gave up; 3 is denied in another qualification; 4 tries again.
    report.add(ended(1, 18, 20, Outcome::Approved));
    report.add(Ended { qualification: "StateOwned", ..ended(3, 15, 17, Outcome::Approved) });
    report.add(Ended { reason: Some(" not an education CUSTOMER"), ..ended(1, 12, 14, Outcome::Denied) });
    report.add(ended(4, 10, 11, Outcome::Denied));
    report.add(ended(3, 8, 9, Outcome::Denied));
    report.add(ended(2, 6, 8, Outcome::Denied));
    report.add(ended(1, 2, 4, Outcome::Denied));
    report.add(Ended { reason: None, ..ended(5, 2, 3, Outcome::Denied) });
    let figures = report.figures();
    let [reason, none] = &figures.reasons[..] else { panic!("{:?}", figures.reasons) };
    assert_eq!((reason.denials, reason.tried_again, reason.then_approved, reason.then_denied), (5, 3, 1, 1));
    assert_eq!(reason.cured_percent, Some(50.0));
    assert_eq!((none.vetting_reason.as_deref(), none.denials, none.cured_percent), (None, 1, None));
}

#[test]
fn the_share_within_a_time_is_not_known_beyond_the_longest_review_that_goes_on() {
    let calendar = Calendar::default();
    let mut report = report(&calendar);
    report.add_open(Open { customer: 9, qualification: "Education", since: day(24) });
    report.add(ended(1, 10, 12, Outcome::Approved));
    let within: Vec<_> = report.figures().decided_within.iter().map(|row| (row.days, row.decided_percent)).collect();
    let known = Some(50.0);
    assert_eq!(
        within,
        [(1, Some(0.0)), (2, known), (3, known), (4, known), (5, known), (7, None), (10, None), (14, None), (30, None)]
    );
}

#[test]
fn nothing_is_reported_of_nothing() {
    let calendar = Calendar::default();
    let figures = report(&calendar).figures();
    assert_eq!(figures.qualifications.len(), 1);
    assert_eq!(figures.qualifications[0].verdicts.approved_percent, None);
    assert!(figures.months.is_empty() && figures.weeks.is_empty() && figures.reasons.is_empty());
}
