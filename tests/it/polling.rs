//! From Partner Center to the outbox: what is polled, recorded and enqueued.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use vetwatch::sandbox::{Fault, FaultRule, Kind};
use vetwatch::time::Clock;

use crate::world::{World, hours, minutes, seconds};

#[tokio::test]
async fn the_first_sight_of_a_customer_is_silent() {
    let mut world = World::new().await;
    for (name, approve) in [("Contoso School", true), ("Fabrikam College", false)] {
        let id = world.customer(name).await;
        world.sandbox.submit(&id).unwrap();
        if approve {
            world.sandbox.approve(&id).unwrap();
        }
    }
    assert_eq!(world.poll().await, 0);
    assert_eq!(world.poll_later().await, 0);
    world.deliver().await;
    assert_eq!(world.webhooks(), [""; 0]);
    assert_eq!(
        world.rows("select customer_name, vetting_status, attempt from v_current order by 1").await,
        ["Contoso School | Approved | 1", "Fabrikam College | InReview | 1"]
    );
}

#[tokio::test]
async fn a_review_that_ends_is_told_once_to_every_endpoint_with_microsofts_reason() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.deny(&school, "Not an Education Customer").unwrap();
    assert_eq!(world.poll_later().await, 1);
    world.deliver().await;
    assert_eq!(world.poll_later().await, 0);
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.denied Contoso School Not an Education Customer"]);
    let mails = world.mail.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].text().contains("Not an Education Customer"), "{}", mails[0].text());
    assert_eq!(
        world
            .rows(
                "select customer_name, from_status, to_status, vetting_reason, attempt, event_type from v_transitions"
            )
            .await,
        ["Contoso School | InReview | Denied | Not an Education Customer | 1 | vetting.denied"]
    );
    assert_eq!(
        world.rows("select outcome, vetting_reason, hours_in_review, attempt from v_decisions").await,
        ["Denied | Not an Education Customer | 24.0 | 1"]
    );
}

#[tokio::test]
async fn the_whole_story_of_a_customer_is_told_as_it_happened() {
    let mut world = World::new().await;
    let school = world.customer("Contoso School").await;
    world.poll().await;
    let steps: [&dyn Fn(&World); 5] = [
        &|w| w.sandbox.submit(&school).unwrap(),
        &|w| w.sandbox.deny(&school, "Not an Academic Domain").unwrap(),
        &|w| w.sandbox.withdraw(&school).unwrap(),
        &|w| w.sandbox.submit(&school).unwrap(),
        &|w| w.sandbox.approve(&school).unwrap(),
    ];
    for step in steps {
        step(&world);
        world.poll_later().await;
        world.pass(minutes(3)); // the first confirmation
        world.poll().await;
    }
    world.deliver().await;
    assert_eq!(
        world.webhooks(),
        ["vetting.denied Contoso School Not an Academic Domain", "vetting.approved Contoso School -"]
    );
    assert_eq!(
        world.rows("select event_type, from_status, to_status, attempt from v_transitions").await,
        [
            "vetting.submitted | absent | InReview | 1",
            "vetting.denied | InReview | Denied | 1",
            "vetting.changed | Denied | absent | 1",
            "vetting.submitted | absent | InReview | 2",
            "vetting.approved | InReview | Approved | 2",
        ]
    );
}

#[tokio::test]
async fn nothing_is_recorded_as_absent_without_a_second_look() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.withdraw(&school).unwrap();
    world.poll_later().await;
    assert_eq!(world.rows("select vetting_status, missing_since is not null from v_current").await, ["InReview | 1"]);
    world.pass(seconds(100));
    assert_eq!(world.poll().await, 0);
    world.pass(seconds(20));
    assert_eq!(world.poll().await, 1);
    assert_eq!(world.rows("select vetting_status from v_current").await, [""; 0]);
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.vanished Contoso School -"]);
}

#[tokio::test]
async fn no_answer_but_a_good_one_changes_the_state() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    let mut faults = vec![
        Fault::Garbage,
        Fault::Empty,
        Fault::Null,
        Fault::Object,
        Fault::Html,
        Fault::Cut,
        Fault::Close,
        Fault::Reset,
        Fault::Custom { status: 200, headers: BTreeMap::default(), body: r#"{"code":3000,"description":"no"}"#.into() },
        Fault::Custom { status: 200, headers: BTreeMap::default(), body: r#"[{"vettingStatus":"Denied"}]"#.into() },
    ];
    faults.extend([400, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504].map(Fault::status));
    for fault in faults {
        let asked = world.sandbox.count_of(&school);
        world.sandbox.fault(FaultRule::about(&school, fault.clone()));
        world.pass(hours(25));
        assert_eq!(world.poll().await, 0, "{fault:?}");
        assert!(world.sandbox.count_of(&school) > asked, "{fault:?} was not met");
        assert_eq!(world.rows("select vetting_status from v_current").await, ["InReview"], "{fault:?}");
        world.sandbox.clear_faults();
        world.pass(hours(25));
        world.poll().await;
    }
    world.deliver().await;
    assert_eq!(world.webhooks(), [""; 0]);
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.poll_later().await;
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.denied Contoso School Not an Academic Domain"]);
}

#[tokio::test]
async fn a_throttled_partner_is_left_alone_for_as_long_as_it_says_even_over_a_restart() {
    let mut world = World::new().await;
    for n in 0..20 {
        world.customer(&format!("School {n}")).await;
    }
    world.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::throttled(seconds(57))).times(1));
    world.poll().await;
    let asked = world.sandbox.count(Kind::Qualifications);
    assert!(asked <= 8, "{asked} were in flight or sent during the backoff");
    world.pass(seconds(56));
    world.restart().await;
    world.poll().await;
    assert_eq!(world.sandbox.count(Kind::Qualifications), asked, "polled during the backoff");
    world.pass(seconds(2));
    world.poll().await;
    assert_eq!(world.rows("select count(*) from customer where last_seen_at is not null").await, ["20"]);
}

#[tokio::test]
async fn a_refused_credential_is_not_tried_in_a_loop() {
    let mut world = World::new().await;
    for n in 0..20 {
        world.customer(&format!("School {n}")).await;
    }
    world.sandbox.set_client_secret("another");
    world.poll().await;
    world.poll().await;
    assert_eq!(world.sandbox.count(Kind::Token), 1);
    assert_eq!(world.sandbox.count(Kind::Qualifications), 0);
    let why = world.rows("select backoff_reason from partner").await.remove(0);
    assert!(why.contains("AADSTS7000215") && why.contains("the client secret is wrong"), "{why}");
    world.sandbox.set_client_secret("sandbox-secret");
    world.pass(minutes(2));
    world.poll().await;
    assert_eq!(
        world
            .rows("select count(*), (select backoff_reason from partner) from customer where last_seen_at is not null")
            .await,
        ["20 | null"]
    );
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_once_when_it_is_revoked() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    assert_eq!(world.sandbox.count(Kind::Token), 1);
    world.sandbox.revoke_tokens();
    world.pass(minutes(15));
    world.poll().await;
    assert_eq!((world.sandbox.count(Kind::Token), world.sandbox.count_of(&school)), (2, 3));
    for _ in 0..5 {
        world.pass(minutes(15));
        world.poll().await;
    }
    assert_eq!((world.sandbox.count(Kind::Token), world.sandbox.count_of(&school)), (3, 8), "renewed before its end");
}

#[tokio::test]
async fn each_state_is_asked_at_its_own_interval() {
    let mut world = World::new().await;
    let review = world.in_review("Review School").await;
    let settled = world.in_review("Settled School").await;
    world.sandbox.approve(&settled).unwrap();
    world.pass(minutes(15));
    world.poll().await;
    let (before, settled_before) = (world.sandbox.count_of(&review), world.sandbox.count_of(&settled));
    for _ in 0..24 * 4 {
        world.pass(minutes(15));
        world.poll().await;
    }
    let asked = world.sandbox.count_of(&review) - before;
    assert!((96..=97).contains(&asked), "in review: {asked} times a day");
    let asked = world.sandbox.count_of(&settled) - settled_before;
    assert!((1..=2).contains(&asked), "settled: {asked} times a day");
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_nobody_deaf() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    world.pass(hours(24 * 300));
    world.poll().await;
    world.clock.set(crate::world::START.after(hours(1)));
    world.sandbox.deny(&school, "Not an eligible Library").unwrap();
    world.poll().await;
    world.pass(hours(2));
    world.poll().await;
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.denied Contoso School Not an eligible Library"]);
    assert!(world.clock.now() < crate::world::START.after(hours(4)));
}

#[tokio::test]
async fn a_small_step_back_of_the_clock_delays_nobody_in_review() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    world.clock.set(world.clock.now().before(minutes(40)));
    world.sandbox.deny(&school, "Not an eligible Library").unwrap();
    world.pass(minutes(15));
    assert_eq!(world.poll().await, 1);
}

#[tokio::test]
async fn an_answer_that_was_under_way_when_a_newer_one_was_recorded_is_dropped() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    let late = world.sandbox.fault(FaultRule::about(&school, Fault::Hold { stale: true }).times(1));
    world.pass(minutes(15));
    let asked = world.sandbox.count_of(&school);
    let slow = async { world.parts.partners[0].poller.round().await.unwrap() };
    let fast = async {
        world.sandbox.wait_for_customer(&school, asked + 1, seconds(20)).await.unwrap();
        world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
        world.pass(minutes(6)); // longer than the first poll may take: the customer is due again
        world.poll().await;
        world.sandbox.release(late);
    };
    let (round, ()) = tokio::join!(slow, fast);
    assert_eq!(round.transitions, 0);
    assert_eq!(world.rows("select vetting_status from v_current").await, ["Denied"]);
    assert_eq!(world.rows("select event_type from v_transitions").await, ["vetting.denied"]);
}

#[tokio::test]
async fn a_customer_list_that_cannot_be_read_is_not_asked_for_in_a_loop() {
    let mut world = World::new().await;
    world.customer("Contoso School").await;
    world.sandbox.fault(FaultRule::on(Kind::Customers, Fault::status(500)));
    let sync = &world.parts.partners[0].customer_sync;
    for _ in 0..15 {
        sync.round().await.unwrap();
        world.pass(seconds(20));
    }
    assert_eq!(world.sandbox.count(Kind::Customers), 1);
    world.sandbox.clear_faults();
    sync.round().await.unwrap();
    sync.round().await.unwrap();
    assert_eq!(world.sandbox.count(Kind::Customers), 2);
}

#[tokio::test]
async fn a_failure_in_between_takes_nobody_out_of_the_second_look_or_the_review() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.withdraw(&school).unwrap();
    world.pass(minutes(15));
    world.poll().await; // missing
    world.sandbox.fault(FaultRule::about(&school, Fault::error(403, 20002)).times(1));
    world.pass(minutes(3));
    world.poll().await; // no relationship, once
    for _ in 0..9 {
        world.pass(hours(24));
        world.poll().await;
    }
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.vanished Contoso School -"]);
}

#[tokio::test]
async fn what_is_recorded_wakes_the_dispatchers_and_what_is_unchanged_does_not() {
    let mut world = World::new().await;
    let id = world.in_review("Contoso School").await;
    let was_woken = |world: &World| {
        let poller = &world.parts.partners[0].poller;
        poller.outbox.iter().map(|notify| notify.notified().now_or_never().is_some()).collect::<Vec<_>>()
    };
    let _ = was_woken(&world); // of the submission
    world.poll_later().await;
    assert_eq!(was_woken(&world), [false, false]);
    world.sandbox.deny(&id, "Not an Education Customer").unwrap();
    world.poll_later().await;
    assert_eq!(was_woken(&world), [true, true]);
}
