use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn hours(hours: &[u32]) -> Vec<Duration> {
    hours.iter().map(|hours| HOUR * *hours).collect()
}

/// 2026-11-23, a Monday, 09:00 UTC.
fn monday() -> Timestamp {
    Timestamp::from_millis(1_795_424_400_000)
}

#[test]
fn those_still_open_count_as_longer_than_they_have_taken() {
    let ten: Vec<u32> = (1..=10).collect();
    let without = Durations::new(hours(&ten), Vec::new());
    assert_eq!(without.quantile(0.5, Duration::ZERO), Some(HOUR * 5));
    assert_eq!(without.quantile(0.9, Duration::ZERO), Some(HOUR * 9));
    assert_eq!(without.quantile(1.0, Duration::ZERO), Some(HOUR * 10));
    // By hand: 14/15 · 13/14 · 12/13 · 11/12 are left after 4 h; then the five that were open leave: · 5/6 · 4/5 = 0.49.
    let open = Durations::new(hours(&ten), hours(&[4; 5]));
    assert_eq!(open.quantile(0.5, Duration::ZERO), Some(HOUR * 6));
    // Open for longer than any other took: the last steps are not reached.
    let slow = Durations::new(hours(&ten), hours(&[20; 10]));
    assert_eq!((slow.quantile(0.5, Duration::ZERO), slow.quantile(0.9, Duration::ZERO)), (Some(HOUR * 10), None));
}

#[test]
fn several_that_took_the_same_end_together() {
    let same = Durations::new(hours(&[2, 2, 2, 5]), Vec::new());
    assert_eq!(
        (same.quantile(0.75, Duration::ZERO), same.quantile(0.8, Duration::ZERO)),
        (Some(HOUR * 2), Some(HOUR * 5))
    );
}

#[test]
fn what_a_review_has_waited_already_counts() {
    let durations = Durations::new(hours(&(1..=100).collect::<Vec<_>>()), Vec::new());
    assert_eq!(durations.quantile(0.9, HOUR * 50), Some(HOUR * 95));
    assert_eq!((durations.at_risk(HOUR * 50), durations.at_risk(HOUR * 100)), (50, 0));
    assert_eq!(durations.quantile(0.9, HOUR * 100), None);
}

#[test]
fn the_sentences() {
    let calendar = Calendar::default();
    let of = |count: u32| Durations::new(hours(&(1..=count).collect::<Vec<_>>()), Vec::new());
    let text = |durations: &Durations, now: Timestamp| expected(durations, &calendar, monday(), now).text;
    let day = Duration::from_hours(24);
    assert_eq!(text(&of(100), monday()), "9 of 10 like this were decided by Friday (from 100 reviews)");
    assert_eq!(
        text(&of(100), monday().after(day)),
        "9 of 10 that waited this long were decided by Friday (from 76 reviews)"
    );
    assert_eq!(text(&of(100), monday().after(day * 5)), "longer than any of the 100 that are decided took");
    assert_eq!(text(&of(19), monday()), "by Monday 30 November, if it takes the usual 3 to 5 business days");
    assert_eq!(text(&of(0), monday().after(day * 10)), "longer than the usual 3 to 5 business days");
    let slow = Durations::new(hours(&[400; 30]), Vec::new());
    assert_eq!(text(&slow, monday()), "9 of 10 like this were decided by Wednesday 16 December (from 30 reviews)");
    let stuck = Durations::new(hours(&[20; 30]), hours(&[400; 100]));
    assert_eq!(text(&stuck, monday()), "no date: too few that waited this long are decided");
}

proptest! {
    /// A forecast lies behind what a review has waited, grows with the share, and no input breaks it.
    #[test]
    fn a_bound_lies_behind_what_was_waited(
        finished in proptest::collection::vec(0_u32..2000, 0..60),
        open in proptest::collection::vec(0_u32..2000, 0..60),
        waited in 0_u32..2000,
    ) {
        let durations = Durations::new(hours(&finished), hours(&open));
        let waited = HOUR * waited;
        let [half, most] = [0.5, 0.9].map(|share| durations.bound(share, waited));
        prop_assert!(half.is_none_or(|half| half > waited));
        prop_assert!(most.is_none_or(|most| half.is_some_and(|half| half <= most)));
    }
}

#[test]
fn reviews_that_took_no_time_count() {
    let mut took = vec![Duration::ZERO; 10];
    took.push(Duration::from_hours(240));
    let durations = Durations::new(took, Vec::new());
    assert_eq!(durations.quantile(0.5, Duration::ZERO), Some(Duration::ZERO));
    assert_eq!(durations.quantile(0.95, Duration::ZERO), Some(Duration::from_hours(240)));
    assert!(durations.share_within(Duration::from_hours(24)).is_some_and(|share| (share - 10.0 / 11.0).abs() < 1e-9));
    assert_eq!(durations.at_risk(Duration::ZERO), 11);
}
