use proptest::prelude::*;

use super::*;
use crate::changes::{AbsencePolicy, Pending, Review};
use crate::qualification::{Entry, Verdict};
use crate::store::CustomerId;

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);
const INTERVALS: Intervals = Intervals {
    in_review: Duration::from_mins(15),
    settled: Duration::from_hours(24),
    unqualified: Duration::from_hours(24 * 7),
    first_confirmation: Duration::from_mins(2),
    second_confirmation: Duration::from_hours(1),
    log_is_read: false,
};

fn state() -> impl Strategy<Value = QualificationState> {
    let status = prop::option::of(prop::sample::select(vec!["InReview", "Approved", "Denied", "Expired", ""]));
    (status, prop::option::of(0_u64..3600)).prop_map(|(status, missing)| {
        let entry = status.map(|status| Entry {
            qualification: "Education".to_owned(),
            vetting_status: (!status.is_empty()).then(|| status.to_owned()),
            vetting_reason: None,
            created_at: None,
        });
        let at = missing.filter(|_| entry.is_some()).map(|ago| NOW.before(Duration::from_secs(ago)));
        let pending = Pending {
            shows: None,
            since: NOW,
            last_other_at: None,
            confirmations: 1,
            last_confirmed_at: NOW,
            until: NOW,
        };
        QualificationState {
            qualification: "Education".to_owned(),
            since: NOW,
            review: Review::default(),
            last_notified: None,
            pending: at.map(|since| Pending { since, last_confirmed_at: since, until: since, ..pending.clone() }),
            entry,
        }
    })
}

fn customer(watch_closely_until: Option<Timestamp>, class: PollClass) -> Customer {
    Customer {
        row: CustomerId(1),
        customer_id: String::new(),
        name: String::new(),
        domain: String::new(),
        tags: Vec::new(),
        contact: String::new(),
        class,
        added_at: NOW,
        watch_closely_until,
        response_requested_at: None,
        submitted_at: None,
        unlisted: false,
        muted_at: None,
        muted_until: None,
        last_seen_at: Some(NOW),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_customer_in_review_or_watched_is_polled_within_the_interval_and_a_confirmation_at_its_time(
        states in prop::collection::vec(state(), 0..4), expected in prop::option::of(-100_i64..100)
    ) {
        let expected = expected.map(|days| Timestamp::from_millis(NOW.as_millis() + days * 86_400_000));
        let class = class(&states, expected, NOW);
        let ctx = EvalContext {
            now: NOW, last_seen_at: Some(NOW), submitted_at: None, notify_since: None, first_confirmation: INTERVALS.first_confirmation,
            second_confirmation: INTERVALS.second_confirmation, absence_policy: AbsencePolicy::Confirm,
        };
        let next = next_poll_at(&customer(expected, class), &states, &INTERVALS, &ctx).since(NOW);
        if states.iter().any(|state| state.status() == Some(Status::InReview) || state.pending.is_some())
            || expected.is_some_and(|until| until > NOW)
        {
            prop_assert!(next <= INTERVALS.in_review, "{:?}: {:?}", class, next);
        } else if states.iter().any(|state| state.entry.is_some()) || expected.is_some() {
            prop_assert_eq!(class, PollClass::Settled);
            prop_assert!(next <= INTERVALS.settled && next >= INTERVALS.settled.mul_f64(0.95));
        } else {
            prop_assert_eq!(class, PollClass::Unqualified);
        }
    }

    #[test]
    fn a_customer_is_watched_closely_for_ten_business_days_and_no_longer(status in prop::option::of(0_usize..3), weekday in 0_u64..7) {
        let now = NOW.after(Duration::from_hours(24 * weekday));
        let entry = status.map(|n| ["InReview", "Approved", "Denied"][n]);
        let event = match entry {
            Some("InReview") => EventType::Submitted,
            Some("Approved") => EventType::Approved,
            Some(_) => EventType::Denied,
            None => EventType::Vanished,
        };
        let entry = entry.map(|status| Entry {
            qualification: "Education".to_owned(),
            vetting_status: Some(status.to_owned()),
            vetting_reason: None,
            created_at: None,
        });
        let state = QualificationState {
            qualification: "Education".to_owned(), entry, since: now, review: Review::default(), last_notified: None, pending: None,
        };
        let change = Change {
            event, qualification: "Education".to_owned(), from: None, to: None, reason: None, created_at: None,
            previous_reason: None, previous_created_at: None, review: Review::default(), last_seen_before_at: None,
            first_seen: false,
        };
        let steps = [(state, Some(change))];
        let before = customer(Some(now.after(Duration::from_hours(1))), PollClass::InReview);
        let until = watch_closely_until(&before, &steps, &Calendar::default(), now);
        let holidays = (1..=3).map(|day| now.after(Duration::from_hours(24 * day)).to_utc().date_naive()).collect();
        let later = watch_closely_until(&before, &steps, &Calendar { holidays, ..Calendar::default() }, now);
        let is_watched = matches!(steps[0].0.status(), None | Some(Status::Verdict(Verdict::Denied)));
        prop_assert_eq!(until.is_some(), is_watched);
        if let Some(until) = until {
            // Two weekends lie between; it may start on one of them.
            prop_assert!((12..=14).contains(&(until.since(now).as_secs() / 86_400)));
            // Of three days in a row at least one is worked, unless it is a holiday.
            prop_assert!(later > Some(until));
        }
    }
}
