//! Verdicts with dates that contradict their reviews': notified once, after confirmation.

use serde_json::{Value, json};
use vetwatch::time::{Clock as _, Timestamp};

use crate::world::{START, World, hours, minutes, plain_text, seconds};

fn entry(status: &str, reason: Option<&str>, created: Timestamp) -> Value {
    json!({"qualification": "Education", "vettingStatus": status, "vettingReason": reason, "vettingCreatedDate": created})
}

const NO: Option<&str> = Some("Not an Education Customer");

/// A school whose review, submitted at `START`, was polled.
async fn school() -> (World, String) {
    let mut world = World::new().await;
    let id = world.customer("Contoso School").await;
    world.sandbox.set_entry(&id, entry("InReview", None, START)).unwrap();
    world.poll().await;
    (world, id)
}

async fn events(world: &World) -> Vec<String> {
    world.rows("select event_type, attempt from v_transitions order by transition_id").await
}

#[tokio::test]
async fn a_denial_that_is_dated_seconds_before_its_review_is_told_at_once() {
    let (world, id) = school().await;
    world.sandbox.set_entry(&id, entry("Denied", NO, START.before(seconds(10)))).unwrap();
    world.pass(minutes(15));
    world.poll().await;
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.denied Contoso School Not an Education Customer"]);
    let decided = "select attempt, outcome, submitted_at from v_decisions";
    assert_eq!(world.rows(decided).await, [format!("1 | Denied | {START}")]);
}

#[tokio::test]
async fn a_denial_that_is_dated_hours_before_its_review_waits_over_restarts_and_failures_and_is_told_once() {
    let (mut world, id) = school().await;
    world.pass(hours(2));
    world.poll().await;
    world.sandbox.set_entry(&id, entry("Denied", NO, START.before(hours(2)))).unwrap();
    world.pass(minutes(15));
    world.poll().await;
    assert_eq!(events(&world).await, [""; 0]);
    let class = world.rows("select vetting_status, missing_since, poll_class from v_current, customer").await;
    assert_eq!(class, ["InReview | null | confirming"]);
    let pending = world.store.pending_verdicts(None).await.unwrap();
    let seen = START.after(hours(2)).after(minutes(15));
    let waits: Vec<_> =
        pending.iter().map(|row| (row.vetting_status.as_str(), row.seen_at, row.confirmed_by)).collect();
    assert_eq!(waits, [("Denied", seen, seen.after(minutes(2)))]);
    world.restart().await;
    world.sandbox.stop().await.unwrap();
    world.pass(hours(30));
    world.poll().await;
    world.sandbox.start_again().await.unwrap();
    world.restart().await;
    world.pass(minutes(15));
    world.poll().await;
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.denied Contoso School Not an Education Customer"]);
    let before = "select last_seen_before_at from v_transitions";
    assert_eq!(world.rows(before).await, [START.after(hours(2)).to_string()]);
    assert!(world.store.pending_verdicts(None).await.unwrap().is_empty());
    for _ in 0..4 {
        world.pass(hours(1));
        world.poll().await;
    }
    assert_eq!(events(&world).await, ["vetting.denied | 1"]);
}

#[tokio::test]
async fn a_copy_of_the_past_that_is_shown_once_is_told_to_nobody() {
    let (world, id) = school().await;
    for (wait, shown) in [
        (minutes(90), entry("Denied", NO, START.before(hours(200)))),
        (minutes(2), entry("InReview", None, START)),
        (minutes(15), entry("Denied", NO, START.before(hours(200)))),
        (minutes(2), entry("Approved", None, START)),
        (minutes(15), entry("Denied", NO, START.before(hours(200)))),
        (minutes(2), entry("Denied", NO, START.before(hours(200)))),
        (minutes(62), entry("Approved", None, START)),
    ] {
        world.sandbox.set_entry(&id, shown).unwrap();
        world.pass(wait);
        world.poll().await;
    }
    assert_eq!(events(&world).await, ["vetting.approved | 1"]);
}

#[tokio::test]
async fn what_a_submission_answers_and_what_is_shown_later_are_one_attempt() {
    let (world, id) = school().await;
    for created in [START.after(seconds(3)), START, START.after(seconds(3))] {
        world.sandbox.set_entry(&id, entry("InReview", None, created)).unwrap();
        world.pass(minutes(15));
        world.poll().await;
    }
    for created in [START.after(seconds(3)), START, START.after(seconds(3)), START.before(seconds(10))] {
        world.sandbox.set_entry(&id, entry("Denied", NO, created)).unwrap();
        world.pass(minutes(15));
        world.poll().await;
    }
    assert_eq!(events(&world).await, ["vetting.denied | 1"]);
}

#[tokio::test]
async fn a_review_in_whose_place_the_denial_of_before_stands_is_told_to_be_gone() {
    let (world, id) = school().await;
    let denied = entry("Denied", NO, START);
    let began = START.after(hours(24 * 9));
    for (wait, shown) in [(minutes(15), denied.clone()), (hours(24 * 9), entry("InReview", None, began))] {
        world.sandbox.set_entry(&id, shown).unwrap();
        world.pass(wait);
        world.poll().await;
    }
    world.sandbox.set_entry(&id, denied).unwrap();
    for wait in [minutes(90), minutes(2), minutes(60)] {
        assert_eq!(events(&world).await, ["vetting.denied | 1", "vetting.submitted | 2"]);
        world.pass(wait);
        world.poll().await;
    }
    assert_eq!(events(&world).await, ["vetting.denied | 1", "vetting.submitted | 2", "vetting.vanished | 2"]);
    world.deliver().await;
    let mail = plain_text(&world.mail.mails()[1]).split_whitespace().collect::<Vec<_>>().join(" ");
    let said = "The request of 3 Dec 2025 of Contoso School for Education is no longer shown; what stands is the \
                denial of 24 Nov 2025.";
    assert!(mail.contains(said), "{mail}");
    assert_eq!(world.hook.hooks()[1].json()["data"]["gone_created_at"], json!(began));
}

#[tokio::test]
async fn after_the_clock_was_set_back_a_verdict_falls_between_times_in_their_order() {
    let (world, id) = school().await;
    world.clock.set(world.clock.now().before(hours(4)));
    world.store.follow_clock(&world.parts.alerts.clock_watch, &*world.clock).await.unwrap();
    world.sandbox.set_entry(&id, entry("Denied", NO, START)).unwrap();
    world.pass(minutes(16));
    world.poll().await;
    let order = "select event_type, last_seen_before_at <= observed_at from v_transitions order by transition_id";
    assert_eq!(world.rows(order).await, ["vetting.denied | 1"]);
}
