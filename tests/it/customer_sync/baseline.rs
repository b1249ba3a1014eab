//! The baseline report: the first complete poll of a partner is reported to the operators, once.

use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use vetwatch::sandbox::{Created, Fault, FaultRule, Operation};
use vetwatch::store::CustomerId;

use super::round;
use crate::world::{World, hours, minutes};

/// In review for this many days.
fn waits(days: u64) -> Operation {
    Operation::Set {
        qualification: "Education".into(),
        status: Some("InReview".into()),
        reason: None,
        created: Some(Created::Ago(hours(24 * days))),
        beside: None,
    }
}

async fn told(world: &World) -> Vec<Value> {
    world.deliver().await;
    assert!(world.webhooks().iter().all(|told| told == "monitor.initial_sync - -"), "{:?}", world.webhooks());
    world.hook.hooks().iter().map(|hook| hook.json()["data"].clone()).collect()
}

#[tokio::test]
async fn the_first_complete_look_says_how_everybody_stands_and_is_told_once() {
    let mut world = World::synced().await;
    for n in 0..25 {
        let school = world.unwatched_customer(&format!("Waiting School {n:02}"));
        world.sandbox.apply(&school, waits(6 + n)).unwrap();
    }
    let fresh = world.unwatched_customer("Fresh School");
    world.sandbox.submit(&fresh).unwrap();
    for (name, approve) in [("Approved School", true), ("Denied School", false), ("Denied College", false)] {
        let school = world.unwatched_customer(name);
        world.sandbox.submit(&school).unwrap();
        if approve {
            world.sandbox.approve(&school).unwrap();
        } else {
            world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
        }
    }
    let unreadable = world.unwatched_customer("Unreadable School");
    world.sandbox.fault(FaultRule::about(&unreadable, Fault::status(404)));
    world.poll().await;
    assert_eq!(told(&world).await, [Value::Null; 0], "no list yet");
    round(&world).await;
    world.poll().await;
    assert_eq!(told(&world).await, [Value::Null; 0], "one may only have failed for a moment");
    for _ in 0..12 {
        world.pass(minutes(10));
        world.poll().await;
    }
    let baseline = told(&world).await;
    assert_eq!(baseline.len(), 1);
    let figures =
        json!({"watched": 30, "in_review": 26, "overdue": 25, "approved": 1, "denied": 2, "not_asked": 1, "paused": 0});
    assert_eq!(baseline[0]["figures"], figures);
    assert_eq!(baseline[0]["summary"], "emea: 30 customers watched, 26 in review, 1 approved, 2 denied");
    let detail = baseline[0]["detail"].as_str().unwrap();
    let oldest = detail.find("\n- Waiting School 24: Education, since ").unwrap();
    assert!(oldest < detail.find("\n- Waiting School 23").unwrap(), "{detail}");
    assert!(detail.ends_with("\n- and 5 more") && detail.contains("1 customer could not be asked"), "{detail}");
    assert!(!detail.contains("Fresh School"), "{detail}");

    world.restart().await;
    world.unwatched_customer("Another School");
    for _ in 0..3 {
        world.pass(hours(24));
        round(&world).await;
        world.poll().await;
    }
    assert_eq!(told(&world).await.len(), 1);
}

#[tokio::test]
async fn the_first_look_is_told_exactly_once_wherever_the_process_dies() {
    let mut world = World::synced().await;
    let ids: Vec<_> = (0..3).map(|n| world.unwatched_customer(&format!("School {n}"))).collect();
    round(&world).await;
    // It dies while one of them is polled.
    let held = world.sandbox.fault(FaultRule::about(&ids[0], Fault::Hold { stale: false }).times(1));
    {
        let asking = world.parts.partners[0].poller.round();
        let asked = world.sandbox.wait_for_customer(&ids[0], 1, crate::world::seconds(20));
        tokio::select! {
            _ = asking => panic!("it is held"),
            asked = asked => asked.unwrap(),
        }
    }
    world.sandbox.release(held);
    world.restart().await;
    assert_eq!(told(&world).await, [Value::Null; 0]);
    world.poll().await;
    assert_eq!(world.rows("select count(*) from event").await, ["1"]);
    // It was enqueued, and not sent.
    world.restart().await;
    world.poll().await;
    let baseline = told(&world).await;
    assert_eq!((baseline.len(), &baseline[0]["figures"]["watched"]), (1, &json!(3)));
    assert_eq!(world.mail_subjects().len(), 1, "{:?}", world.mail_subjects());
}

/// Enqueued and marked in one transaction: after a death before the commit it is neither.
#[tokio::test]
async fn the_mark_and_the_message_of_the_first_look_are_one_transaction() {
    for step in [
        "update of initial_sync_reported_at on partner",
        "insert on event",
        "insert on delivery",
        "insert on delivery_event",
    ] {
        let mut world = World::without_baseline("", "", |text| text).await;
        world.customer("Contoso School").await;
        // Simulates a death at this step.
        let mut database = SqliteConnectOptions::new().filename(&world.config.database).connect().await.unwrap();
        let dies = format!("create trigger dies before {step} begin select raise(abort, 'it died'); end");
        sqlx::raw_sql(sqlx::AssertSqlSafe(dies)).execute(&mut database).await.unwrap();
        let poller = &world.parts.partners[0].poller;
        poller.round().await.unwrap();
        poller.round().await.unwrap_err();
        let both = "select initial_sync_reported_at is not null, (select count(*) from event), (select count(*) from delivery) from partner";
        assert_eq!(world.rows(both).await, ["0 | 0 | 0"], "{step}");
        sqlx::raw_sql("drop trigger dies").execute(&mut database).await.unwrap();
        sqlx::Connection::close(database).await.unwrap();
        world.restart().await;
        world.poll().await;
        assert_eq!(world.rows(both).await, ["1 | 1 | 2"], "{step}");
    }
}

#[tokio::test]
async fn a_partner_with_customers_added_by_hand_has_its_first_look_when_each_was_asked() {
    let mut world = World::without_baseline("", "", |text| text).await;
    world.poll().await;
    assert_eq!(told(&world).await, [Value::Null; 0], "nobody is watched yet");
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(world.customer(&format!("School {n}")).await);
    }
    let asked = world.rows("select id from customer limit 1").await.remove(0).parse().map(CustomerId).unwrap();
    world.parts.partners[0].poller.poll_now(&[asked]).await.unwrap();
    assert_eq!(told(&world).await, [Value::Null; 0]);
    world.poll().await;
    let baseline = told(&world).await;
    assert_eq!((baseline.len(), &baseline[0]["figures"]["watched"]), (1, &json!(3)));
}
