//! Mass absences, and unknown statuses.

use std::collections::BTreeMap;
use vetwatch::store::CustomerId;

use serde_json::json;
use vetwatch::sandbox::{Fault, FaultRule, Kind};
use vetwatch::time::{Clock, Timestamp};

use crate::world::{World, hours, minutes, seconds};

/// Sixty customers in review and one settled, all polled.
async fn town() -> (World, Vec<String>) {
    let mut world = World::new().await;
    let mut ids = Vec::new();
    for n in 0..61 {
        let id = world.customer(&format!("School {n:02}")).await;
        world.sandbox.submit(&id).unwrap();
        ids.push(id);
    }
    world.sandbox.approve(&ids[60]).unwrap();
    world.poll().await;
    (world, ids)
}

fn nothing() -> Fault {
    Fault::Custom { status: 200, headers: BTreeMap::default(), body: "[]".into() }
}

#[tokio::test]
async fn a_brownout_of_empty_answers_is_not_recorded_and_asks_no_more_than_usual() {
    let (world, ids) = town().await;
    world.sandbox.fault(FaultRule::on(Kind::Qualifications, nothing()));
    let before = world.sandbox.count(Kind::Qualifications);
    let mut transitions = 0;
    for _ in 0..61 {
        world.pass(minutes(2));
        transitions += world.poll().await;
    }
    assert_eq!(transitions, 0);
    let asked = world.sandbox.count(Kind::Qualifications) - before;
    assert!(asked <= 61 * 12, "{asked} questions in two hours");
    assert_eq!(world.rows("select mass_absence_since is not null from partner").await, ["1"]);
    world.sandbox.clear_faults();
    world.sandbox.deny(&ids[0], "Not an eligible Museum").unwrap();
    for _ in 0..8 {
        world.pass(minutes(15));
        world.poll().await;
    }
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.denied School 00 Not an eligible Museum"]);
    assert_eq!(world.rows("select mass_absence_since from partner").await, ["null"]);
}

#[tokio::test]
async fn the_first_of_many_that_lose_an_entry_is_not_recorded_before_others_were_asked() {
    let (world, ids) = town().await;
    world.sandbox.fault(FaultRule::on(Kind::Qualifications, nothing()));
    // One is polled as the failure begins; all others would be a quarter of an hour later.
    let row = world.rows(&format!("select id from customer where customer_id = '{}'", ids[7])).await[0]
        .parse()
        .map(CustomerId)
        .unwrap();
    world.parts.partners[0].poller.poll_now(&[row]).await.unwrap();
    assert_eq!(world.poll().await, 0);
    let witnesses = ids.iter().filter(|id| **id != ids[7] && world.sandbox.count_of(id) > 1).count();
    assert!((6..60).contains(&witnesses), "{witnesses} others were asked");
    world.pass(minutes(3));
    assert_eq!(world.poll().await, 0);
    assert_eq!(world.rows("select mass_absence_since is not null from partner").await, ["1"]);
}

/// Runs rounds for this long, each when the previous one says. Returns the times of recordings.
async fn run(world: &World, time: std::time::Duration) -> Vec<Timestamp> {
    let (poller, end) = (&world.parts.partners[0].poller, world.clock.now().after(time));
    let mut recorded = Vec::new();
    while world.clock.now() < end {
        let round = poller.round().await.unwrap();
        recorded.extend((0..round.transitions).map(|_| world.clock.now()));
        let wait = round.next.map_or(minutes(1), |next| next.since(world.clock.now()));
        world.pass(wait.min(end.since(world.clock.now())));
    }
    recorded
}

#[tokio::test]
async fn the_share_is_of_customers_however_often_they_are_asked() {
    let mut world = World::with("in_review = \"1m\"", "").await;
    for n in 0..30 {
        world.in_review(&format!("School {n}")).await;
    }
    assert_eq!(run(&world, hours(1)).await, []);
    world.sandbox.fault(FaultRule::on(Kind::Qualifications, nothing()));
    assert_eq!(run(&world, minutes(8)).await, []);
    assert_eq!(world.rows("select mass_absence_since is not null from partner").await, ["1"]);
}

#[tokio::test]
async fn whatever_the_interval_what_many_lose_at_once_is_not_recorded_before_two_looks_an_hour_apart() {
    for (interval, budget, holders) in [("1m", 20, 12), ("15m", 60_000, 30), ("24h", 60_000, 20), ("24h", 1, 12)] {
        for is_rollback in [false, true] {
            let schedule = format!("in_review = \"{interval}\"\nsettled = \"{interval}\"");
            let budget = format!("requests_per_minute = {budget}");
            let mut world =
                World::edited(&schedule, "", |text| text.replace("requests_per_minute = 60000", &budget)).await;
            let mut ids = Vec::new();
            for n in 0..holders {
                let id = world.customer(&format!("School {n}")).await;
                let old = json!({"qualification": "Education", "vettingStatus": "Denied", "vettingReason": "no",
                                 "vettingCreatedDate": "2025-01-01T00:00:00Z"});
                world.sandbox.set_entry(&id, old).unwrap();
                ids.push(id);
            }
            let every = humantime::parse_duration(interval).unwrap();
            // Some are now in review, some are approved.
            for statuses in [["InReview", "InReview"], ["InReview", "Approved"]] {
                run(&world, (every + minutes(15)).min(hours(25))).await;
                for (n, id) in ids.iter().enumerate() {
                    let new = json!({"qualification": "Education", "vettingStatus": statuses[n % 2],
                                     "vettingCreatedDate": "2025-11-01T00:00:00Z"});
                    world.sandbox.set_entry(id, new).unwrap();
                }
            }
            run(&world, every + minutes(15)).await;
            for id in &ids {
                let old = json!({"qualification": "Education", "vettingStatus": "Denied", "vettingReason": "no",
                                 "vettingCreatedDate": "2025-01-01T00:00:00Z"});
                if is_rollback {
                    world.sandbox.set_entry(id, old).unwrap();
                } else {
                    world.sandbox.withdraw(id).unwrap();
                }
            }
            let lost_at = world.clock.now();
            let recorded = run(&world, every + hours(3)).await;
            let about = format!("every {interval}, {budget}, {holders} customers, rolled back: {is_rollback}");
            let first = recorded.first().map(|first| first.since(lost_at));
            assert!(first.is_some_and(|first| first >= hours(2)), "{about}: recorded after {first:?}");
            assert_eq!(recorded.len(), holders, "{about}: it is recorded in the end");
        }
    }
}

#[tokio::test]
async fn one_that_is_really_gone_is_recorded_at_the_second_look_once_the_others_were_asked() {
    let mut world = World::edited("in_review = \"24h\"", "", |text| text.replace("minute = 60000", "minute = 2")).await;
    for n in 0..8 {
        let id = world.customer(&format!("School {n}")).await;
        world.sandbox.submit(&id).unwrap();
    }
    run(&world, hours(49)).await;
    let id = world.customer("School 9").await;
    world.sandbox.submit(&id).unwrap();
    run(&world, minutes(2)).await;
    world.sandbox.withdraw(&id).unwrap();
    let asked = world.sandbox.count(Kind::Qualifications);
    let recorded = run(&world, hours(25)).await;
    assert_eq!(recorded.len(), 1);
    assert!(world.sandbox.count(Kind::Qualifications) >= asked + 8);
    assert_eq!(world.rows("select event_type from v_transitions").await, ["vetting.vanished"]);
}

#[tokio::test]
async fn what_is_really_gone_is_recorded_after_two_more_looks_an_hour_apart_or_when_a_person_says_so() {
    for accept in [false, true] {
        let (world, ids) = town().await;
        for id in &ids[..20] {
            world.sandbox.withdraw(id).unwrap();
        }
        let mut gone = 0;
        let mut times = 0;
        while gone < 20 {
            world.pass(minutes(15));
            gone += world.poll().await;
            times += 1;
            assert!(times < 20, "{gone} after {times} quarters of an hour");
            if accept && times == 2 {
                let mut tx = world.store.begin().await.unwrap();
                tx.accept_absence(None, world.clock.now()).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
        assert!(if accept { times == 3 } else { times > 8 }, "accept: {accept}, after {times} quarters of an hour");
    }
}

#[tokio::test]
async fn a_word_that_nobody_knows_is_told_to_the_operators_once_with_how_many_customers_have_it() {
    let (world, ids) = town().await;
    for id in &ids[..3] {
        world
            .sandbox
            .set_entry(id, json!({"qualification": "Education", "vettingStatus": "PendingDocuments"}))
            .unwrap();
    }
    for _ in 0..6 {
        world.pass(minutes(15));
        world.poll().await;
    }
    world.deliver().await;
    let hooks = world.hook.hooks();
    assert_eq!(hooks.len(), 1, "{:?}", world.webhooks());
    let json = hooks[0].json();
    assert_eq!(json["type"], "monitor.unknown_status");
    assert_eq!(json["data"]["figures"], json!({"vetting_status": "PendingDocuments", "customers": 3}));
}

#[tokio::test]
async fn a_review_with_a_status_that_nobody_knows_is_polled_as_ever_and_status_names_it() {
    let mut world = World::with("in_review = \"15m\"\nsettled = \"24h\"\nunqualified = \"7d\"", "").await;
    let (school, settled) = (world.in_review("Contoso School").await, world.in_review("Settled School").await);
    world.sandbox.approve(&settled).unwrap();
    world.pass(minutes(15));
    world.poll().await;
    let class = "select poll_class from customer order by name";
    for (status, shown) in
        [(json!("In Review"), "\"In Review\""), (json!("Rejected"), "\"Rejected\""), (json!(null), "no status")]
    {
        for id in [&school, &settled] {
            let entry = json!({"qualification": "Education", "vettingStatus": status});
            world.sandbox.set_entry(id, entry).unwrap();
        }
        world.pass(hours(24));
        world.poll().await;
        // Of the settled one no verdict is awaited.
        assert_eq!(world.rows(class).await, ["in_review", "settled"], "{status}");
        let unclear = world.store.unclear_reviews().await.unwrap();
        assert_eq!(unclear.len(), 1, "{unclear:?}");
        let facts = vetwatch::attention::Facts { unclear, ..Default::default() };
        let needs = vetwatch::attention::needs(&facts, world.clock.now());
        assert_eq!(needs[0].reason.as_str(), "unknown_status");
        assert!(
            needs[0].text.starts_with(&format!("Contoso School, Education: the review shows {shown} since ")),
            "{needs:?}"
        );
    }
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.pass(minutes(15));
    world.poll().await;
    assert!(world.store.unclear_reviews().await.unwrap().is_empty());
    assert_eq!(world.rows("select count(*) from v_decisions where outcome = 'Denied'").await, ["1"]);
}

#[tokio::test]
async fn news_is_expected_for_ten_business_days_after_a_denial_and_its_absence_and_then_seldom() {
    let mut world = World::with("in_review = \"15m\"\nsettled = \"24h\"\nunqualified = \"7d\"", "").await;
    let school = world.in_review("Contoso School").await;
    let class = async |world: &World| world.rows("select poll_class from customer").await.remove(0);
    world.sandbox.withdraw(&school).unwrap();
    for time in [minutes(15), minutes(3)] {
        world.pass(time);
        world.poll().await;
    }
    for (days, expected) in [(0, "in_review"), (13, "in_review"), (2, "settled"), (80, "settled"), (11, "unqualified")]
    {
        world.pass(hours(24 * days));
        world.poll().await;
        assert_eq!(class(&world).await, expected, "after {days} more days");
    }
    world.sandbox.submit(&school).unwrap();
    world.pass(hours(24 * 7));
    world.poll().await;
    assert_eq!(class(&world).await, "in_review");
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.vanished Contoso School -"]);
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_costs_itself_and_nobody_elses() {
    let mut world = World::new().await;
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(world.in_review(&format!("School {n}")).await);
    }
    world
        .execute(
            "create trigger nothing_of_school_3 before insert on transition
             when new.customer = (select id from customer where name = 'School 3')
             begin select raise(abort, 'no room for it'); end",
        )
        .await;
    for id in &ids {
        world.sandbox.deny(id, "Not an Academic Domain").unwrap();
    }
    world.pass(minutes(15));
    assert_eq!(world.poll().await, 7);
    let failed = world.rows("select name, last_error from v_customers where poll_failures > 0").await;
    assert!(matches!(failed.as_slice(), [one] if one.starts_with("School 3") && one.contains("no room")), "{failed:?}");
    world.execute("drop trigger nothing_of_school_3").await;
    world.pass(minutes(15));
    assert_eq!(world.poll().await, 1);
}

#[tokio::test]
async fn what_a_person_accepted_is_no_leave_for_what_disappears_later() {
    let (world, _) = town().await;
    let mut tx = world.store.begin().await.unwrap();
    assert_eq!(tx.accept_absence(None, world.clock.now()).await.unwrap(), []);
    tx.commit().await.unwrap();
    world.sandbox.fault(FaultRule::on(Kind::Qualifications, nothing()));
    for _ in 0..15 {
        world.pass(minutes(3));
        assert_eq!(world.poll().await, 0);
    }
    assert_eq!(world.rows("select mass_absence_since is not null from partner").await, ["1"]);
}

#[tokio::test]
async fn a_clock_that_is_set_back_while_the_brake_is_on_makes_no_loop() {
    let (world, _) = town().await;
    world.sandbox.fault(FaultRule::on(Kind::Qualifications, nothing()));
    for _ in 0..8 {
        world.pass(minutes(3));
        world.poll().await;
    }
    world.clock.set(world.clock.now().before(minutes(10)));
    let before = world.sandbox.count(Kind::Qualifications);
    for _ in 0..60 {
        world.pass(seconds(1));
        world.poll().await;
    }
    let asked = world.sandbox.count(Kind::Qualifications) - before;
    assert!(asked <= 2 * 61, "{asked} questions in a minute");
}

#[tokio::test]
async fn who_is_looked_at_no_more_does_not_keep_the_brake_on() {
    let (world, ids) = town().await;
    for id in &ids[..6] {
        world.sandbox.withdraw(id).unwrap();
    }
    world.pass(minutes(15));
    world.poll().await;
    world
        .execute(
            "update customer set paused_at = 1 where id in (select customer from qualification_state where missing_since > 0)",
        )
        .await;
    world.pass(hours(3));
    world.poll().await;
    assert_eq!(world.rows("select mass_absence_since from partner").await, ["null"]);
    world.sandbox.withdraw(&ids[30]).unwrap();
    for _ in 0..3 {
        world.pass(minutes(15));
        world.poll().await;
    }
    assert_eq!(
        world.rows("select customer_name, event_type from v_transitions").await,
        ["School 30 | vetting.vanished"]
    );
}
