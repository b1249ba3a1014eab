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

fn seconds(count: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + count * 1000)
}

fn entry(status: &str) -> Entry {
    Entry {
        qualification: "Education".to_owned(),
        vetting_status: Some(status.to_owned()),
        vetting_reason: None,
        created_at: None,
    }
}

fn state_of(status: Option<&str>) -> QualificationState {
    QualificationState {
        qualification: "Education".to_owned(),
        entry: status.map(entry),
        since: NOW,
        review: Review::default(),
        last_notified: None,
        pending: None,
    }
}

fn change(event: EventType, to: &str) -> Change {
    Change {
        event,
        qualification: "Education".to_owned(),
        from: None,
        to: Some(to.to_owned()),
        reason: None,
        created_at: None,
        previous_reason: None,
        previous_created_at: None,
        review: Review { created_at: Some(NOW), ..Review::default() },
        last_seen_before_at: None,
        first_seen: false,
    }
}

fn state() -> impl Strategy<Value = QualificationState> {
    let status = prop::option::of(prop::sample::select(vec!["InReview", "Approved", "Denied", "Expired", ""]));
    (status, prop::option::of(0_u64..3600)).prop_map(|(status, missing)| {
        let entry = status
            .map(|status| Entry { vetting_status: (!status.is_empty()).then(|| status.to_owned()), ..entry(status) });
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
            pending: at.map(|since| Pending { since, last_confirmed_at: since, until: since, ..pending.clone() }),
            entry,
            ..state_of(None)
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
        let steps = [(state_of(entry), Some(change(event, entry.unwrap_or_default())))];
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

fn partner() -> PartnerRow {
    PartnerRow { id: store::PartnerId(1), name: "emea".to_owned(), watching_since: seconds(-100) }
}

#[test]
fn a_response_is_stale_if_a_newer_one_is_recorded_unless_that_one_is_from_the_future() {
    let is_stale = |recorded: Option<i64>| {
        let answer = Answer {
            snapshot: qualification::Snapshot::default(),
            raw: String::new(),
            request_id: Uuid::nil(),
            correlation_id: Uuid::nil(),
            began_at: NOW,
            ended_at: seconds(2),
        };
        let customer = Customer { response_requested_at: recorded.map(seconds), ..customer(None, PollClass::Settled) };
        is_stale(&customer, &answer)
    };
    let stale = [None, Some(-1), Some(0), Some(1), Some(2), Some(3)].map(is_stale);
    assert_eq!(stale, [false, false, false, true, true, false]);
}

#[test]
fn a_customer_that_joined_after_the_first_list_is_notified_of_all_that_is_seen() {
    let since = |first_synced_at: Option<i64>| {
        notify_since(&partner(), first_synced_at.map(seconds), &customer(None, PollClass::Unseen))
    };
    let started = Some(seconds(-100));
    assert_eq!([None, Some(1), Some(0), Some(-1)].map(since), [started, started, started, None]);
}

#[test]
fn an_event_names_the_date_of_an_entry_only_if_another_took_its_place() {
    let gone = |event: EventType, to: &str| {
        let customer = customer(None, PollClass::InReview);
        match super::event(&partner(), &customer, &change(event, to), NOW, Uuid::nil()).data.subject {
            EventPayload::Vetting(change) => change.gone_created_at,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(gone(EventType::Vanished, "Denied"), Some(NOW));
    assert_eq!(gone(EventType::Vanished, changes::ABSENT), None);
    assert_eq!(gone(EventType::Denied, "Denied"), None);
}

#[test]
fn a_customer_is_watched_closely_until_an_entry_arrives_and_is_forgotten_ninety_days_later() {
    let settled_for = 90 * 86_400; // in seconds
    let after = |until: i64, steps: &[(QualificationState, Option<Change>)]| {
        let customer = customer(Some(seconds(until)), PollClass::InReview);
        watch_closely_until(&customer, steps, &Calendar::default(), NOW)
    };
    let step = |event, status: Option<&str>| [(state_of(status), Some(change(event, status.unwrap_or_default())))];
    let ten_days = Calendar::default().business_days_after(NOW, WATCH_BUSINESS_DAYS);
    for (what, until) in [
        (after(5, &[]), Some(seconds(5))),
        (after(1 - settled_for, &[]), Some(seconds(1 - settled_for))),
        (after(-settled_for, &[]), None),
        (after(5, &step(EventType::Submitted, Some("InReview"))), None),
        (after(5, &step(EventType::Approved, Some("Approved"))), None),
        (after(5, &step(EventType::Changed, Some("Approved"))), None),
        (after(5, &step(EventType::Changed, Some("Expired"))), Some(seconds(5))),
        (after(5, &step(EventType::Changed, Some("Denied"))), Some(ten_days)),
        (after(5, &step(EventType::Changed, None)), Some(ten_days)),
        (after(5, &step(EventType::Submitted, Some("Denied"))), None),
    ] {
        assert_eq!(what, until);
    }
}

#[test]
fn the_end_of_a_watch_window_changes_the_class_at_that_time() {
    let settled_for = 90 * 86_400; // in seconds
    let expired = |until: i64, class| watch_window_expired(Some(seconds(until)), class, NOW);
    assert!(!watch_window_expired(None, PollClass::InReview, NOW));
    assert_eq!([1, 0, -1].map(|until| expired(until, PollClass::InReview)), [false, true, true]);
    assert_eq!([1, 0, -1].map(|until| expired(until - settled_for, PollClass::Settled)), [false, true, true]);
    let of = |status: Option<&str>, until: Option<i64>| class(&[state_of(status)], until.map(seconds), NOW);
    assert_eq!(
        [1, 0, -1].map(|until| of(None, Some(until))),
        [PollClass::InReview, PollClass::Settled, PollClass::Settled]
    );
    assert_eq!(of(Some("InReview"), None), PollClass::InReview);
    assert_eq!(of(Some("Approved"), None), PollClass::Settled);
    assert_eq!(of(None, None), PollClass::Unqualified);
}

#[test]
fn a_confirmation_is_awaited_and_a_review_is_polled_meanwhile() {
    let context = EvalContext {
        now: NOW,
        last_seen_at: Some(NOW),
        submitted_at: None,
        notify_since: None,
        first_confirmation: INTERVALS.first_confirmation,
        second_confirmation: INTERVALS.second_confirmation,
        absence_policy: AbsencePolicy::Confirm,
    };
    let next = |status: &str| {
        let pending = Pending {
            shows: None,
            since: NOW,
            last_other_at: None,
            confirmations: 2, // the next one is due in an hour
            last_confirmed_at: NOW,
            until: NOW,
        };
        let states = [QualificationState { pending: Some(pending), ..state_of(Some(status)) }];
        next_poll_at(&customer(None, PollClass::Confirming), &states, &INTERVALS, &context)
    };
    assert!(next("InReview") <= NOW.after(INTERVALS.in_review));
    assert_eq!(next("Approved"), NOW.after(INTERVALS.second_confirmation));
}
