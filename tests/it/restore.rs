//! A restored backup: what was sent since is sent again under the same ids.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use vetwatch::sandbox::CustomerDetails;
use vetwatch::sandbox::webhook_receiver::WebhookRequest;
use vetwatch::store::customers::NewCustomer;
use vetwatch::store::redrive::{Redrive, Redriven};
use vetwatch::time::Clock;

use crate::world::{World, hours, minutes};

/// The webhooks about vetting events.
fn vettings(world: &World) -> Vec<WebhookRequest> {
    let about_vetting =
        |hook: &WebhookRequest| hook.json()["type"].as_str().is_some_and(|kind| kind.starts_with("vetting."));
    world.hook.hooks().into_iter().filter(about_vetting).collect()
}

/// The ids of a webhook's events.
fn events(hook: &WebhookRequest) -> Vec<String> {
    let data = &hook.json()["data"];
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    data["events"].as_array().map_or_else(|| vec![id(data)], |events| events.iter().map(id).collect())
}

/// Each message's id with its events.
fn told(hooks: &[WebhookRequest]) -> BTreeMap<String, Vec<String>> {
    hooks.iter().map(|hook| (hook.id().unwrap().to_owned(), events(hook))).collect()
}

fn message_ids(world: &World) -> Vec<String> {
    let id = |text: String| text.lines().find(|line| line.starts_with("Message-ID: ")).map(str::to_owned);
    world.mail.mails().iter().map(|mail| id(mail.text()).unwrap()).collect()
}

async fn add(world: &World, partner: &str, id: &str) {
    let new = NewCustomer { partner, id, name: Some("Contoso School"), domain: None, tags: None, contact: None };
    let mut tx = world.store.begin().await.unwrap();
    tx.add_customer(new, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
}

/// Marks the baseline as complete: from now on a first response about a later review is notified.
async fn watching_since_long(world: &mut World) {
    world.execute("update partner set watching_since = 0").await;
    world.restart().await;
}

#[tokio::test]
async fn a_restored_backup_repeats_what_was_decided_since_under_the_same_ids() {
    let mut world = World::new().await;
    let (contoso, fabrikam) = (world.in_review("Contoso School").await, world.in_review("Fabrikam College").await);
    let last_night = world.back_up("last-night.db").await;
    world.sandbox.deny(&contoso, "Not an Education Customer").unwrap();
    world.sandbox.approve(&fabrikam).unwrap();
    world.pass(minutes(15));
    assert_eq!(world.poll().await, 2);
    world.deliver().await;
    let (first, mails) = (vettings(&world), message_ids(&world));
    assert_eq!((first.len(), mails.len()), (2, 2));
    assert!(events(&first[0])[0].chars().nth(14) == Some('8'), "{:?}", events(&first[0]));

    world.restore(&last_night).await;
    world.pass(minutes(15));
    assert_eq!(world.poll().await, 2);
    world.deliver().await;
    let (again, mails_again) = (vettings(&world).split_off(2), message_ids(&world).split_off(2));
    assert_eq!(told(&again), told(&first));
    assert_eq!(mails_again.iter().collect::<BTreeSet<_>>(), mails.iter().collect());
}

#[tokio::test]
async fn a_receiver_that_drops_ids_that_it_knows_still_gets_what_a_restored_backup_groups_otherwise() {
    let mut world = World::edited("", "", |text| {
        text.replace(
            "endpoints = [\"sales-mail\", \"crm\"]\n\n[operators]",
            "endpoints = [\"crm\"]\ngroup_wait = \"20m\"\n\n[operators]",
        )
    })
    .await;
    let (a, b) = (world.in_review("School A").await, world.in_review("School B").await);
    let d = world.in_review("School D").await;
    let last_night = world.back_up("last-night.db").await;
    for id in [&a, &b] {
        world.sandbox.deny(id, "Not an Education Customer").unwrap();
    }
    world.pass(minutes(15));
    world.poll().await;
    world.pass(minutes(20));
    world.deliver().await;
    let first = vettings(&world);
    assert_eq!(first.iter().map(|hook| events(hook).len()).collect::<Vec<_>>(), [2]);

    world.restore(&last_night).await;
    world.execute(&format!("update customer set paused_at = 1 where customer_id = '{b}'")).await;
    world.sandbox.deny(&d, "Not an Education Customer").unwrap();
    world.pass(minutes(15));
    world.poll().await;
    world.pass(minutes(20));
    world.deliver().await;
    let hooks = vettings(&world);
    assert_eq!(hooks.len(), 2);
    assert!(events(&hooks[1]).iter().any(|event| events(&first[0]).contains(event)), "School A, under the id it had");
    let (mut known, mut taken) = (BTreeSet::new(), Vec::new());
    for hook in hooks.iter().filter(|hook| known.insert(hook.id().unwrap().to_owned())) {
        taken.extend(events(hook));
    }
    let of_d = world
        .rows(&format!(
            "select event_id from v_transitions where customer_id = '{d}' and event_type = 'vetting.denied'"
        ))
        .await;
    assert_eq!(taken.iter().filter(|event| **event == of_d[0]).count(), 1);
}

#[tokio::test]
async fn two_partners_of_one_tenant_have_events_of_their_own() {
    let mut world = World::edited("", "", |text| {
        let (from, to) = (text.find("[[partner]]").unwrap(), text.find("[schedule]").unwrap());
        let second = text[from..to].replace("\"emea\"", "\"amer\"");
        text.replacen("[schedule]", &format!("{second}[schedule]"), 1)
    })
    .await;
    let id = world.unwatched_customer("Contoso School");
    for partner in ["emea", "amer"] {
        add(&world, partner, &id).await;
    }
    world.sandbox.submit(&id).unwrap();
    world.poll().await;
    world.sandbox.deny(&id, "Not an Education Customer").unwrap();
    world.pass(minutes(15));
    assert_eq!(world.poll().await, 2);
    world.deliver().await;
    let hooks = vettings(&world);
    assert_eq!(hooks.len(), 2);
    assert_ne!(events(&hooks[0]), events(&hooks[1]));
    assert_ne!(hooks[0].id(), hooks[1].id());
}

#[tokio::test]
async fn a_customer_who_was_removed_and_added_again_is_told_of_under_another_id() {
    let mut world = World::new().await;
    watching_since_long(&mut world).await;
    let id = world.in_review("Contoso School").await;
    world.sandbox.deny(&id, "Not an Education Customer").unwrap();
    world.pass(minutes(15));
    world.poll().await;
    for _ in 0..2 {
        world.execute("update customer set removed_at = 1 where removed_at is null").await;
        add(&world, "emea", &id).await;
        assert_eq!(world.poll().await, 1, "the verdict is news, and its id is free");
    }
    world.deliver().await;
    assert_eq!(told(&vettings(&world)).into_values().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(world.rows("select poll_failures from v_customers").await, ["0"]);
}

#[tokio::test]
async fn ids_that_are_taken_stop_nothing() {
    let mut world = World::new().await;
    let id = world.in_review("Contoso School").await;
    let before = world.back_up("before.db").await;
    world.sandbox.deny(&id, "Not an Education Customer").unwrap();
    let mut told = Vec::new();
    for taken in [false, true] {
        if taken {
            let (event, delivery) = &told[0];
            world
                .execute(&format!(
                    "insert into event (id, type, partner, occurred_at, data) values ('{event}', 'monitor.partner_failing', 1, 0, '{{}}');
                     insert into delivery (id, endpoint, state, created_at, first_due_at, finished_at)
                     values ('{delivery}', 'old', 'delivered', 0, 0, 0)"
                ))
                .await;
        }
        world.pass(minutes(15));
        assert_eq!(world.poll().await, 1);
        world.deliver().await;
        let hook = vettings(&world).pop().unwrap();
        told.push((events(&hook).remove(0), hook.id().unwrap().to_owned()));
        world.restore(&before).await;
    }
    assert_ne!(told[0].0, told[1].0);
    assert_ne!(told[0].1, told[1].1);
}

#[tokio::test]
async fn a_tenant_that_is_spelled_otherwise_after_a_restore_has_the_ids_that_it_had() {
    let mut world = World::new().await;
    watching_since_long(&mut world).await;
    let before = world.back_up("before.db").await;
    let id = "abcdef01-0000-4000-8000-000000000000".to_owned();
    world.sandbox.add_customer(CustomerDetails::new(&id, "Contoso School", "contoso.example")).unwrap();
    world.sandbox.submit(&id).unwrap();
    world.sandbox.deny(&id, "Not an Education Customer").unwrap();
    let mut hooks = Vec::new();
    for spelled in [id.clone(), id.to_uppercase()] {
        add(&world, "emea", &spelled).await;
        assert_eq!(world.poll().await, 1, "{spelled}");
        world.deliver().await;
        hooks.extend(vettings(&world).pop());
        world.restore(&before).await;
    }
    assert_eq!(told(&hooks[..1]), told(&hooks[1..]));
}

#[tokio::test]
async fn a_reminder_of_a_long_review_is_repeated_under_the_same_id() {
    let mut world = World::new().await;
    world.in_review("Contoso School").await;
    let before = world.back_up("before.db").await;
    let remind = async |world: &World| {
        world.poll().await;
        world.parts.alerts.round().await.unwrap();
        world.deliver().await;
        let reminded = |hook: &WebhookRequest| hook.json()["type"] == "vetting.overdue";
        world.hook.hooks().into_iter().filter(reminded).map(|hook| events(&hook)).collect::<Vec<_>>()
    };
    world.pass(hours(24 * 4));
    let first = remind(&world).await;
    assert_eq!(first.len(), 1);
    world.restore(&before).await;
    let both = remind(&world).await;
    assert_eq!(both, [first[0].clone(), first[0].clone()]);
}

#[tokio::test]
async fn a_message_that_gathers_is_found_by_every_id_that_it_had() {
    let mut world = World::edited("", "", |text| {
        text.replace(
            "endpoints = [\"sales-mail\", \"crm\"]\n\n[operators]",
            "endpoints = [\"crm\"]\ngroup_wait = \"20m\"\n\n[operators]",
        )
    })
    .await;
    let mut ids = Vec::new();
    for name in ["School A", "School B", "School C"] {
        let id = world.in_review(name).await;
        world.sandbox.deny(&id, "Not an Education Customer").unwrap();
        world.pass(minutes(1));
        world.execute("update customer set next_poll_at = 0").await;
        world.poll().await;
        ids.push(world.rows("select delivery_id from v_deliveries").await.remove(0));
    }
    let last = ids.last().unwrap();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "an id is over all events");
    assert_eq!(world.rows("select events from v_deliveries").await, ["3"]);
    for id in &ids {
        assert_eq!(world.store.delivery(id).await.unwrap().unwrap().delivery.delivery_id, *last);
        assert_eq!(world.store.delivery_ids(&id[..10], 6).await.unwrap(), std::slice::from_ref(last));
        let mut tx = world.store.begin().await.unwrap();
        let again = tx.redrive(Redrive::One { id, force: false }, world.clock.now()).await.unwrap();
        assert_eq!(again, Redriven::Again(vec![(last.clone(), "crm".to_owned())]));
        tx.commit().await.unwrap();
    }
    world.deliver().await;
    assert_eq!(vettings(&world)[0].id(), Some(last.as_str()));
    assert_eq!(world.rows("select count(*) from pragma_foreign_key_check").await, ["0"]);
}
