//! No customer starves, and no response waits for another.

use std::time::Duration;

use tokio::sync::Notify;
use vetwatch::sandbox::{Fault, FaultRule, Kind, RetryAfter, ThrottleSettings, Window};
use vetwatch::store::Store;
use vetwatch::time::Clock;

use crate::process::{DaemonHarness, SOON, eventually};
use crate::world::{World, hours, minutes, seconds};

const HELD: Fault = Fault::Hold { stale: false };
/// Enough for anything immediate, and far less than a response may take.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Runs rounds for this long, as the daemon does.
async fn run(world: &World, time: Duration) {
    let (poller, end) = (&world.parts.partners[0].poller, world.clock.now().after(time));
    while world.clock.now() < end {
        let now = world.clock.now();
        let next = poller.round().await.unwrap().next.unwrap_or(end).max(now.after(Duration::from_millis(1)));
        world.pass(next.since(now).min(seconds(1)));
    }
}

#[tokio::test]
async fn new_customers_are_asked_though_those_in_review_need_more_than_the_budget() {
    let slow = |text: String| text.replace("requests_per_minute = 60000", "requests_per_minute = 300");
    let mut world = World::edited("in_review = \"2s\"", "", slow).await;
    for n in 0..40 {
        let id = world.customer(&format!("Busy School {n}")).await; // forty of them need 1,200 polls a minute
        world.sandbox.submit(&id).unwrap();
    }
    run(&world, minutes(1)).await;
    assert_eq!(world.rows("select count(*) from customer where poll_class = 'in_review'").await, ["40"]);
    for n in 0..36 {
        world.customer(&format!("New School {n}")).await;
    }
    run(&world, seconds(72)).await; // 36 of 30 a minute, a tenth of the budget
    assert_eq!(
        world.rows("select count(*) from customer where name like 'New%' and last_seen_at is null").await,
        ["0"]
    );
    let waited = world.rows("select max(strftime('%s', last_seen_at)) - min(strftime('%s', last_seen_at)) < 24 from v_customers where name like 'Busy%'").await;
    assert_eq!(waited, ["1"], "those in review are asked, too");
}

#[tokio::test]
async fn a_throttled_partner_and_many_denials_starve_nobody() {
    let mut world = World::edited("in_review = \"1m\"\nsettled = \"10m\"", "", |text| {
        text.replace("requests_per_minute = 60000", "requests_per_minute = 60")
    })
    .await;
    let mut settled = Vec::new();
    for n in 0..5 {
        let id = world.customer(&format!("Settled School {n}")).await;
        world.sandbox.submit(&id).unwrap();
        world.sandbox.approve(&id).unwrap();
        settled.push(id);
    }
    for n in 0..60 {
        let id = world.customer(&format!("Denied School {n}")).await;
        world.sandbox.submit(&id).unwrap();
    }
    run(&world, minutes(3)).await;
    // As after denials: changes are expected for ten business days.
    world
        .execute("update customer set poll_class = 'in_review', watch_closely_until = 1e15 where name like 'Denied%'")
        .await;
    let limit = ThrottleSettings { requests_per_minute: 30, window: Window::Sliding, retry_after: RetryAfter::Seconds };
    world.sandbox.throttle(Some(limit));
    run(&world, minutes(10)).await;
    let before: Vec<_> = settled.iter().map(|id| world.sandbox.count_of(id)).collect();
    // Each is due every 10 minutes; at a tenth of 27 a minute, five take two minutes more.
    run(&world, minutes(14)).await;
    for (id, before) in settled.iter().zip(before) {
        assert!(world.sandbox.count_of(id) > before, "{id} was not asked");
    }
}

#[tokio::test]
async fn who_could_not_be_asked_keeps_its_place() {
    let mut world = World::new().await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(world.customer(&format!("School {n:02}")).await);
        world.pass(seconds(1));
    }
    let due = "select next_poll_at from customer order by id";
    let before = world.rows(due).await;
    world.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::throttled(seconds(57))).times(8));
    world.poll().await;
    let after = world.rows(due).await;
    assert_eq!(after[8..], before[8..], "the first eight were asked, all others are due since when they were");
    assert_eq!(world.rows("select count(*) from customer where polling_since is not null").await, ["0"]);
    assert_eq!(world.rows("select backoffs from partner").await, ["1"], "eight answers of one trouble");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_keeps_no_other_from_being_told() {
    let town = DaemonHarness::new("in_review = \"300ms\"", "").await;
    let ids = town.in_review(3).await;
    let (slow, verdict, other) = (&ids[0], &ids[1], &ids[2]);
    let held = town.sandbox.fault(FaultRule::about(slow, HELD).times(1));
    let daemon = town.running().await;
    town.sandbox.wait_for_customer(slow, 2, SOON).await.unwrap();

    town.sandbox.deny(verdict, "Not an Education Customer").unwrap();
    town.hook.wait_for(1, AT_ONCE).await.unwrap();
    let asked = town.sandbox.count_of(other);
    town.sandbox.wait_for_customer(other, asked + 5, AT_ONCE).await.unwrap();
    let seen = "select last_seen_at from v_customers order by customer_id limit 1 offset 2";
    let (before, mut times) = (town.rows(seen).await, 0);
    eventually("unchanged answers are committed", AT_ONCE, async || {
        times += u32::from(town.rows(seen).await != before);
        if times > 0 { Ok(()) } else { Err(format!("{before:?}")) }
    })
    .await;
    assert_eq!(town.sandbox.count_of(slow), 2, "it is still being asked");

    // Stopping does not wait for it either, and the poll does not count as having killed the process.
    daemon.stop().await;
    town.sandbox.release(held);
    assert_eq!(town.rows("select count(*) from customer where polling_since is not null").await, ["0"]);
    assert_eq!(town.sandbox.count_of(slow), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_a_log_that_do_not_come_keep_nobody_from_being_asked() {
    let town = DaemonHarness::new("in_review = \"300ms\"\nactivity_log = \"300ms\"", "").await;
    town.change("customers = \"manual\"", "customers = \"synced\"");
    let ids = town.in_review(2).await;
    town.sandbox.fault(FaultRule::on(Kind::Customers, HELD));
    town.sandbox.fault(FaultRule::on(Kind::AuditRecords, HELD));
    let daemon = town.running().await;
    let asked = town.sandbox.count(Kind::AuditRecords);
    town.sandbox.wait_for_requests(Kind::AuditRecords, asked.max(1), SOON).await.unwrap();
    town.sandbox.deny(&ids[0], "Not an Education Customer").unwrap();
    town.hook.wait_for(1, AT_ONCE).await.unwrap();
    town.sandbox.wait_for_customer(&ids[1], 8, AT_ONCE).await.unwrap();
    town.sandbox.clear_faults();
    daemon.stop().await;
}

#[tokio::test]
async fn a_poll_goes_on_with_others_while_one_answer_does_not_come() {
    let slow = |text: String| text.replace("requests_per_minute = 60000", "requests_per_minute = 600");
    let mut world = World::edited("", "", slow).await;
    let mut rows = Vec::new();
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(world.customer(&format!("School {n}")).await);
        rows.push(vetwatch::store::CustomerId(n + 1));
    }
    let held = world.sandbox.fault(FaultRule::about(&ids[0], HELD).times(1));
    let poller = &world.parts.partners[0].poller;
    let others = async {
        // Twenty at once, and then ten more a second later.
        world.sandbox.wait_for_requests(Kind::Qualifications, 19, AT_ONCE).await.unwrap();
        world.pass(seconds(2));
        world.sandbox.wait_for_requests(Kind::Qualifications, 30, AT_ONCE).await.unwrap();
        world.sandbox.release(held);
    };
    let (round, ()) = tokio::join!(poller.poll_now(&rows), others);
    assert_eq!(round.unwrap().changed, 30);
}

#[tokio::test]
async fn an_answer_that_comes_while_the_database_fails_is_recorded_later_and_not_asked_for_again() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    let held = world.sandbox.fault(FaultRule::about(&school, HELD).times(1));
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.pass(minutes(15));
    let (asked, poke) = (world.sandbox.count_of(&school) + 1, Notify::new());
    poke.notify_one();
    world.parts.partners[0].poller.turn(&poke).await.unwrap();
    world.sandbox.wait_for_customer(&school, asked, SOON).await.unwrap();
    world.store.close().await;
    world.sandbox.release(held);
    world.parts.partners[0].poller.turn(&poke).await.unwrap_err();

    world.store = Store::open(&world.config.database).await.unwrap();
    world.parts.partners[0].poller.store = world.store.clone();
    let mut transitions = 0;
    for _ in 0..20 {
        transitions += world.parts.partners[0].poller.turn(&poke).await.unwrap().transitions;
    }
    assert_eq!(transitions, 1);
    assert_eq!(world.sandbox.count_of(&school), asked);
    assert_eq!(world.rows("select to_status from v_transitions").await, ["Denied"]);
    assert_eq!(world.rows("select count(*) from customer where polling_since is not null").await, ["0"]);
    world.pass(hours(1));
}
