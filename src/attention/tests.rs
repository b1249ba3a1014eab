use proptest::prelude::*;

use super::*;
use crate::store::reports::fixture;

const fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

const NOON: Timestamp = Timestamp::from_millis(1_795_262_400_000);

fn intervals() -> Intervals {
    Intervals {
        in_review: minutes(15),
        settled: minutes(24 * 60),
        unqualified: minutes(7 * 24 * 60),
        first_confirmation: minutes(2),
        second_confirmation: minutes(60),
        log_is_read: true,
    }
}

fn late(class: PollClass, waited: Duration) -> bool {
    polling_late(&[(class, NOON.before(waited))], &intervals(), NOON.before(minutes(60 * 24 * 60)), NOON).is_some()
}

#[test]
fn a_customer_is_late_after_twice_the_interval_of_its_class() {
    let second = Duration::from_secs(1);
    for (class, twice) in [
        (PollClass::Confirming, minutes(4)),
        (PollClass::Unseen, minutes(30)),
        (PollClass::InReview, minutes(30)),
        (PollClass::Settled, minutes(48 * 60)),
        (PollClass::Unqualified, minutes(14 * 24 * 60)),
    ] {
        assert!(!late(class, twice), "{class:?}");
        assert!(late(class, twice + second), "{class:?}");
    }
}

#[test]
fn the_time_that_vetwatch_was_down_or_asleep_makes_no_customer_late() {
    let due = [(PollClass::InReview, NOON.before(minutes(24 * 60)))];
    assert_eq!(polling_late(&due, &intervals(), NOON.before(minutes(5)), NOON), None);
    let since = NOON.before(minutes(31));
    assert_eq!(polling_late(&due, &intervals(), since, NOON), Some((since, minutes(15))));
    assert_eq!(delivery_late(NOON.before(minutes(60)), NOON.before(minutes(14)), NOON), None);
    assert_eq!(delivery_late(NOON.before(minutes(60)), since, NOON), Some(since));
}

#[test]
fn an_interval_of_seconds_is_late_after_half_a_minute() {
    let quick = Intervals { in_review: Duration::from_secs(2), ..intervals() };
    let waits = |seconds| {
        let due = [(PollClass::InReview, NOON.before(Duration::from_secs(seconds)))];
        polling_late(&due, &quick, NOON.before(minutes(60)), NOON).is_some()
    };
    assert!(!waits(30) && waits(31));
}

proptest! {
    #[test]
    fn a_customer_polled_within_twice_its_interval_is_never_late(
        waits_s in prop::collection::vec((0_usize..5, 0_u64..2_000_000), 0..20),
        ran_s in 0_u64..2_000_000,
    ) {
        let due: Vec<_> = waits_s
            .iter()
            .map(|(class, waited)| (PollClass::IN_ORDER[*class], NOON.before(Duration::from_secs(*waited))))
            .collect();
        let any = waits_s.iter().any(|(class, waited)| {
            let twice = intervals().promised(PollClass::IN_ORDER[*class]) * 2;
            (*waited).min(ran_s) > twice.as_secs()
        });
        let found = polling_late(&due, &intervals(), NOON.before(Duration::from_secs(ran_s)), NOON);
        prop_assert_eq!(found.is_some(), any);
    }
}

/// The needs of a database with most kinds of faults.
async fn needed(daemon_running: Option<bool>) -> Vec<Need> {
    let filled = fixture::filled().await;
    let states = filled.store.partner_states(fixture::now()).await.unwrap();
    let endpoints = filled.store.endpoint_states(fixture::now()).await.unwrap();
    let late = Late {
        reason: Reason::PollingLate,
        about: "emea".to_owned(),
        since: fixture::now().before(minutes(31)),
        interval: Some(minutes(15)),
        why: None,
    };
    let facts = Facts {
        daemon_running,
        partners: states.into_iter().map(|state| (state, true)).collect(),
        customers_failing: 1,
        late: vec![late],
        endpoints: endpoints.into_iter().map(|state| (state.clone(), state.endpoint != "ops-mail")).collect(),
        ..Facts::default()
    };
    needs(&facts, fixture::now())
}

#[tokio::test]
async fn each_trouble_is_one_line_with_its_reason() {
    let found: Vec<_> = needed(Some(true)).await.iter().map(|need| (need.reason, need.about.clone())).collect();
    let named = |reason, about: &str| (reason, about.to_owned());
    assert_eq!(
        found,
        [
            named(Reason::PartnerFailing, "amer"),
            named(Reason::CustomersFailing, ""),
            named(Reason::PollingLate, "emea"),
            named(Reason::EndpointGone, "crm"),
            named(Reason::EndpointNotConfigured, "ops-mail"),
            named(Reason::DeadLetter, ""),
        ]
    );
}

#[tokio::test]
async fn of_a_daemon_that_does_not_run_it_is_not_said_that_it_is_late() {
    let reasons: Vec<_> = needed(Some(false)).await.iter().map(|need| need.reason).collect();
    assert_eq!(reasons[0], Reason::NotRunning);
    assert!(!reasons.contains(&Reason::PollingLate), "{reasons:?}");
    let unknown: Vec<_> = needed(None).await.iter().map(|need| need.reason).collect();
    assert!(!unknown.contains(&Reason::NotRunning) && unknown.contains(&Reason::PollingLate), "{unknown:?}");
}

#[test]
fn every_reason_has_a_name_of_its_own_and_words() {
    let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    assert!(Reason::ALL.iter().all(|reason| reason.words().iter().all(|words| !words.is_empty())));
}

#[test]
fn a_page_that_is_not_served_is_named_while_a_daemon_runs() {
    let page_failing = Some((fixture::now(), "cannot listen on 127.0.0.1:9464: Address already in use".to_owned()));
    let found = needs(&Facts { daemon_running: Some(true), page_failing, ..Facts::default() }, fixture::now());
    assert_eq!((found.len(), found[0].reason), (1, Reason::PageNotServed), "{found:?}");
    assert!(found[0].text.contains("127.0.0.1:9464"), "{found:?}");
}

#[test]
fn a_heartbeat_that_is_not_accepted_is_named_after_three_minutes_while_a_daemon_runs() {
    let failing = |for_minutes, daemon_running| {
        let heartbeat_failing = Some((fixture::now().before(minutes(for_minutes)), "HTTP 404 Not Found".to_owned()));
        needs(&Facts { daemon_running, heartbeat_failing, ..Facts::default() }, fixture::now())
    };
    assert_eq!(failing(2, Some(true)), []);
    let found = failing(3, Some(true));
    assert_eq!((found.len(), found[0].reason), (1, Reason::HeartbeatFailing), "{found:?}");
    assert!(found[0].text.contains("HTTP 404"), "{found:?}");
    assert!(failing(3, Some(false)).iter().all(|need| need.reason == Reason::NotRunning));
}

#[tokio::test]
async fn a_customer_list_that_cannot_be_read_is_one_line() {
    let filled = fixture::filled().await;
    let mut states = filled.store.partner_states(fixture::now()).await.unwrap();
    let since = fixture::now().before(minutes(25 * 60));
    states[0].list_failing_since = Some(since);
    let late = Late {
        reason: Reason::CustomerListFailing,
        about: states[0].partner.clone(),
        since,
        interval: None,
        why: None,
    };
    let partners = states.into_iter().map(|state| (state, true)).collect();
    let found =
        needs(&Facts { daemon_running: Some(true), partners, late: vec![late], ..Facts::default() }, fixture::now());
    assert_eq!(found.iter().filter(|need| need.reason == Reason::CustomerListFailing).count(), 1, "{found:#?}");
}
