//! Is "9 of 10" true? Replays a generated office: submissions in office hours, a slow tail, weekends and holidays on which
//! nothing moves, reviews that are still open. At a moment of each replay an open review is picked, its forecast is made from
//! what was known then, and compared with what came of it.

use std::collections::BTreeSet;

use super::*;
use chrono::{Datelike as _, NaiveDate};

const REPLAYS: u64 = 1000;
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// The generator `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        unit.max(1e-12)
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// What differs between the cases.
#[derive(Clone, Copy)]
struct Office {
    /// Finished reviews that are known.
    finished: usize,
    /// How much slower Microsoft is at the end than at the beginning.
    drift: f64,
    /// Reviews that are asked about have waited for a while; else they were submitted just now.
    waited: bool,
}

struct Review {
    since: Timestamp,
    decided_at: Timestamp,
}

/// Whose office has the holidays that Microsoft's has.
fn calendar() -> Calendar {
    let day = |month, day| NaiveDate::from_ymd_opt(2026, month, day).unwrap();
    let holidays: BTreeSet<NaiveDate> = [day(1, 1), day(4, 6), day(5, 1), day(5, 25), day(12, 25)].into();
    Calendar { zone: chrono_tz::Europe::Amsterdam, holidays, ..Calendar::default() }
}

fn at(seconds: f64) -> Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "within a year")]
    let millis = (seconds * 1000.0) as i64;
    // 2026-01-01
    Timestamp::from_millis(1_767_225_600_000 + millis)
}

/// A year of reviews, by submission. `share` is how far the year has come.
fn reviews(chance: &mut Chance, calendar: &Calendar, office: Office, count: usize) -> Vec<Review> {
    let mut reviews: Vec<Review> = (0..count)
        .map(|_| {
            let share = chance.unit();
            let day = (share * 300.0).floor();
            let since = at(day * DAY + (8.0 + 9.0 * chance.unit()) * HOUR);
            let since = calendar.on_a_working_day(since);
            let slow = if chance.unit() < 0.08 { 4.0 } else { 1.0 };
            let days = 2.0 * (0.7 * chance.normal()).exp() * slow * (1.0 + office.drift * share);
            let decided_at = calendar.after_working_time(since, Duration::from_secs_f64(days * DAY));
            Review { since, decided_at }
        })
        .collect();
    reviews.sort_by_key(|review| review.since);
    reviews
}

/// Whether the forecast of a replay came true; `None` if nothing was said, or nothing was open.
fn replay(seed: u64, calendar: &Calendar, office: Office) -> Option<bool> {
    let mut chance = Chance(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let all = reviews(&mut chance, calendar, office, office.finished * 2);
    // The moment at which so many were finished.
    let mut ends: Vec<_> = all.iter().map(|review| review.decided_at).collect();
    ends.sort();
    let now = *ends.get(office.finished - 1)?;
    let mut open: Vec<&Review> = all.iter().filter(|it| it.since <= now && it.decided_at > now).collect();
    let fresh = Review {
        since: now,
        decided_at: calendar.after_working_time(
            now,
            Duration::from_secs_f64(
                2.0 * (0.7 * chance.normal()).exp()
                    * if chance.unit() < 0.08 { 4.0 } else { 1.0 }
                    * (1.0 + office.drift * f64::from(now.to_utc().ordinal()) / 300.0)
                    * DAY,
            ),
        ),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let asked = if office.waited {
        if open.is_empty() {
            return None;
        }
        open.swap_remove((chance.unit() * open.len() as f64) as usize % open.len())
    } else {
        &fresh
    };
    let took = |review: &&Review| calendar.working_time(review.since, review.decided_at);
    let finished = all.iter().filter(|it| it.decided_at <= now).collect::<Vec<_>>().iter().map(took).collect();
    // The one that is asked about is open, too; it says nothing about itself.
    let so_far = open.iter().map(|review| calendar.working_time(review.since, now)).collect();
    let expected = expected(&Durations::new(finished, so_far), calendar, asked.since, now);
    Some(asked.decided_at <= expected.by?)
}

/// The share of replays, in percent, in which "9 of 10" came true, and in how many anything was said.
fn coverage(office: Office) -> (f64, usize) {
    let calendar = calendar();
    let outcomes: Vec<bool> = (1..=REPLAYS).filter_map(|seed| replay(seed, &calendar, office)).collect();
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let share = outcomes.iter().filter(|true_| **true_).count() as f64 / outcomes.len() as f64 * 100.0;
    (share, outcomes.len())
}

/// The figures of docs/forecast.md.
#[test]
fn nine_of_ten_are_nine_of_ten() {
    let office = Office { finished: 100, drift: 0.0, waited: false };
    let cases = [
        // With how many of the thousand must say something at least.
        ("n = 100, just submitted", office, 85.0..=95.0, 990),
        ("n = 100, has waited", Office { waited: true, ..office }, 85.0..=95.0, 750),
        ("n = 300, has waited", Office { finished: 300, waited: true, ..office }, 85.0..=95.0, 850),
        ("n = 20, just submitted", Office { finished: 20, ..office }, 80.0..=98.0, 950),
        ("n = 20, has waited", Office { finished: 20, waited: true, ..office }, 80.0..=98.0, 200),
    ];
    for (name, office, bar, least) in cases {
        let (share, said) = coverage(office);
        eprintln!("{name}: {share:.1} % of {said}");
        assert!(bar.contains(&share) && said >= least, "{name}: {share:.1} % of {said}");
    }
    // Microsoft becomes half as fast within a year: the past promises too much.
    let (share, said) = coverage(Office { drift: 1.0, finished: 300, waited: true });
    eprintln!("n = 300, has waited, and twice as slow at the end: {share:.1} % of {said}");
}
