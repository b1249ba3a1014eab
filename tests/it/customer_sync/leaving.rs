//! Customers that depart, and some that return: still polled, reported once, never lost.

use vetwatch::sandbox::{Fault, FaultRule, Operation};
use vetwatch::store::CustomerId;
use vetwatch::time::Clock as _;

use super::{DAY, known, round, sync};
use crate::world::{World, hours, minutes};

/// Lets days pass, with a sync each night and polls in between.
async fn days(world: &World, days: u64) {
    for _ in 0..days * 4 {
        world.pass(hours(DAY / 4));
        round(world).await;
        world.poll().await;
    }
}

/// Twenty customers, one of them in review, all polled and listed.
async fn town() -> (World, String) {
    let mut world = known().await;
    for n in 0..19 {
        world.unwatched_customer(&format!("Settled School {n}"));
    }
    let school = world.unwatched_customer("Contoso School");
    world.sandbox.submit(&school).unwrap();
    round(&world).await;
    world.poll().await;
    (world, school)
}

fn departed(hooked: &[String]) -> usize {
    hooked.iter().filter(|told| told.starts_with("monitor.customers_departed")).count()
}

#[tokio::test]
async fn who_is_missing_for_a_day_is_told_once_if_in_review_asked_seldom_and_still_news() {
    let (mut world, school) = town().await;
    world.sandbox.apply(&school, Operation::Unlist).unwrap();
    days(&world, 1).await;
    world.deliver().await;
    assert_eq!(world.webhooks(), [""; 0], "one list proves nothing");
    days(&world, 2).await;
    world.deliver().await;
    assert_eq!(world.webhooks(), ["monitor.customers_departed - -"]);
    let told = world.hook.hooks()[0].json();
    assert_eq!(told["data"]["figures"]["customer_id"], school);
    let detail = told["data"]["detail"].as_str().unwrap();
    assert!(detail.contains("Contoso School has been missing from Partner Center's customer list"), "{detail}");
    assert_eq!(
        world.rows("select name, poll_class, paused from v_customers where departed_since is not null").await,
        ["Contoso School | unqualified | 0"]
    );
    let asked = world.sandbox.count_of(&school);
    days(&world, 28).await;
    assert!((3..=5).contains(&(world.sandbox.count_of(&school) - asked)), "asked once a week");
    world.restart().await;
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    days(&world, 8).await;
    world.deliver().await;
    assert_eq!(
        world.webhooks(),
        ["monitor.customers_departed - -", "vetting.denied Contoso School Not an Academic Domain"]
    );
    let asked = world.sandbox.count_of(&school);
    days(&world, 14).await;
    assert!((1..=3).contains(&(world.sandbox.count_of(&school) - asked)), "once a week, even after a denial");

    // After 90 days it is not polled any more; others are unaffected.
    days(&world, 46).await;
    let asked = world.sandbox.count_of(&school);
    days(&world, 20).await;
    assert_eq!(world.sandbox.count_of(&school), asked);
    assert_eq!(world.rows("select name from v_customers where paused").await, ["Contoso School"]);
    // Back in the list, it continues where it was.
    world.sandbox.apply(&school, Operation::Relist).unwrap();
    world.sandbox.submit(&school).unwrap();
    days(&world, 2).await;
    assert_eq!(
        world.rows("select poll_class, paused, departed_since from v_customers where name = 'Contoso School'").await,
        ["in_review | 0 | null"]
    );
    world.sandbox.approve(&school).unwrap();
    world.pass(minutes(15));
    world.poll().await;
    world.deliver().await;
    assert_eq!(world.webhooks().len(), 3, "{:?}", world.webhooks());
    assert_eq!(world.webhooks()[2], "vetting.approved Contoso School -");
}

#[tokio::test]
async fn who_comes_back_into_the_list_goes_on_where_it_was_and_nothing_is_told_twice() {
    let (world, school) = town().await;
    for _ in 0..2 {
        world.sandbox.apply(&school, Operation::Unlist).unwrap();
        days(&world, 3).await;
        world.sandbox.apply(&school, Operation::Relist).unwrap();
        days(&world, 2).await;
        let asked = world.sandbox.count_of(&school);
        for _ in 0..4 {
            world.pass(minutes(15));
            world.poll().await;
        }
        assert_eq!(world.sandbox.count_of(&school) - asked, 4, "in review as before");
        assert_eq!(world.rows("select count(*) from v_customers where departed_since is not null").await, ["0"]);
    }
    world.deliver().await;
    assert_eq!(departed(&world.webhooks()), world.webhooks().len(), "{:?}", world.webhooks());
    assert_eq!(departed(&world.webhooks()), 2, "it answered in between");
    assert_eq!(world.rows("select count(*) from transition").await, ["0"]);
    assert_eq!(world.rows("select count(*) from customer").await, ["20"]);
}

#[tokio::test]
async fn one_refusal_takes_no_review_off_its_interval_and_a_second_one_is_told_once() {
    let (mut world, school) = town().await;
    let refuse = |times| FaultRule::about(&school, Fault::error(403, 20002)).times(times);
    world.sandbox.fault(refuse(1));
    world.pass(minutes(15));
    world.poll().await;
    let asked = world.sandbox.count_of(&school);
    for _ in 0..8 {
        world.pass(minutes(15));
        world.poll().await;
    }
    assert_eq!(world.sandbox.count_of(&school) - asked, 8, "asked as often as before");
    world.deliver().await;
    assert_eq!(world.webhooks(), [""; 0]);

    for told in 1..=2 {
        world.sandbox.fault(refuse(3));
        world.pass(minutes(15));
        world.poll().await;
        world.pass(minutes(2));
        world.poll().await;
        assert_eq!(
            world.rows("select poll_class, departed_since is not null, unreadable_since from v_customers where name = 'Contoso School'").await,
            ["unqualified | 1 | null"]
        );
        world.restart().await;
        days(&world, 7).await; // rejected again
        world.deliver().await;
        assert_eq!(departed(&world.webhooks()), told, "{:?}", world.webhooks());
        days(&world, 7).await; // and successful
        let asked = world.sandbox.count_of(&school);
        for _ in 0..4 {
            world.pass(minutes(15));
            world.poll().await;
        }
        assert_eq!(world.sandbox.count_of(&school) - asked, 4, "back on its own interval");
    }
    let detail = world.hook.hooks()[0].json()["data"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("403/20002") && detail.contains("Education"), "{detail}");
}

#[tokio::test]
async fn many_who_leave_at_once_are_one_message() {
    let mut world = known().await;
    let ids: Vec<_> = (0..30).map(|n| world.unwatched_customer(&format!("School {n:02}"))).collect();
    for id in &ids {
        world.sandbox.submit(id).unwrap();
    }
    sync(&world).await.unwrap();
    world.poll().await;
    for id in &ids {
        world.sandbox.end_relationship(id).unwrap();
    }
    for later in [15, 3] {
        world.pass(minutes(later));
        world.poll().await;
    }
    world.deliver().await;
    let hooks = world.hook.hooks();
    assert_eq!(world.webhooks(), ["monitor.customers_departed - -"]);
    let detail = hooks[0].json()["data"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("\n- School 00: Education, since ") && detail.contains("\n- and 10 more\n"), "{detail}");
    assert_eq!(world.rows("select count(*) from v_customers").await, ["30"], "nobody is removed");
}

#[tokio::test]
async fn departed_customers_are_asked_again_when_a_person_says_so_and_not_when_a_person_said_no() {
    let (world, school) = town().await;
    world.sandbox.apply(&school, Operation::Unlist).unwrap();
    days(&world, 95).await;
    let state = "select id, paused_at is not null, given_up_at is not null, departed_since is not null from customer
                 where name = 'Contoso School'";
    let id: i64 = world.rows("select id from customer where name = 'Contoso School'").await.remove(0).parse().unwrap();
    assert_eq!(world.rows(state).await, [format!("{id} | 1 | 1 | 1")]);

    let mut tx = world.store.begin().await.unwrap();
    assert!(tx.resume(CustomerId(id), world.clock.now()).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(world.rows(state).await, [format!("{id} | 0 | 0 | 0")]);
    let asked = world.sandbox.count_of(&school);
    days(&world, 5).await;
    assert!(world.sandbox.count_of(&school) > asked + 10, "in review as before, whatever the list says");
    assert_eq!(world.rows(state).await, [format!("{id} | 0 | 0 | 0")]);

    world.sandbox.end_relationship(&school).unwrap();
    days(&world, 95).await;
    assert_eq!(world.rows(state).await, [format!("{id} | 1 | 1 | 1")]);
    let mut tx = world.store.begin().await.unwrap();
    assert!(tx.pause(CustomerId(id), world.clock.now()).await.unwrap());
    assert!(!tx.pause(CustomerId(id), world.clock.now()).await.unwrap());
    tx.commit().await.unwrap();
    world.sandbox.apply(&school, Operation::RestoreRelationship).unwrap();
    world.sandbox.apply(&school, Operation::Relist).unwrap();
    days(&world, 2).await;
    assert_eq!(world.rows(state).await, [format!("{id} | 1 | 0 | 0")], "listed again; paused by a person");
}
