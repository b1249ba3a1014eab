//! Recipients, times and grouping of messages: routes, digests, quiet hours, contacts, fallbacks.

use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::store::redrive::Redrive;
use vetwatch::time::{Clock, Timestamp};

use crate::peers::run;
use crate::world::{World, hours, minutes, plain_text, seconds};

/// A world with these routes for verdicts, instead of the usual one.
async fn routed(routes: &str) -> World {
    let routes = routes.to_owned();
    World::edited("timezone = \"Europe/Amsterdam\"", "", move |text| {
        let (before, after) = (text.find("[[route]]").unwrap(), text.find("[operators]").unwrap());
        format!("{}{routes}\n{}", &text[..before], &text[after..])
    })
    .await
}

/// Verdicts go to the customers' own contacts.
async fn contacts() -> World {
    World::edited("", "", |text| {
        let contacts = "[[endpoint]]\nname = \"contact\"\nkind = \"email\"\nsmtp = \"office\"\n\
                        from = \"vetwatch@contoso.example\"\nto_contact = true\n\n[[route]]";
        let only = ("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"contact\"]");
        text.replacen("[[route]]", contacts, 1).replacen(only.0, only.1, 1)
    })
    .await
}

/// This many customers in review.
async fn in_review(world: &mut World, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let id = world.customer(&format!("School {n:04}")).await;
        world.sandbox.submit(&id).unwrap();
        ids.push(id);
    }
    world.poll().await;
    ids
}

async fn denied(world: &World, ids: &[String]) {
    for id in ids {
        world.sandbox.deny(id, "Not an Education Customer").unwrap();
    }
    world.pass(minutes(15));
    world.poll().await;
}

/// The number of verdicts in each message to the receiver.
fn sizes(world: &World) -> Vec<usize> {
    world.hook.hooks().iter().map(|hook| hook.json()["data"]["events"].as_array().map_or(1, Vec::len)).collect()
}

/// Each school, and the number of mails that name it.
fn named(world: &World, count: usize) -> Vec<usize> {
    let mails: Vec<String> = world.mail.mails().iter().map(plain_text).collect();
    let times = |n| mails.iter().filter(|mail| mail.contains(&format!("School {n:04}"))).count();
    (0..count).map(times).collect()
}

/// In Amsterdam, an hour ahead of UTC in winter.
fn local(at: Timestamp) -> String {
    at.to_utc().with_timezone(&chrono_tz::Europe::Amsterdam).format("%a %H:%M").to_string()
}

#[tokio::test]
async fn two_thousand_verdicts_at_once_become_a_handful_of_mails_and_cost_no_verdict() {
    let mut world = routed("[[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"sales-mail\"]").await;
    let ids = in_review(&mut world, 2000).await;
    world.pass(seconds(1)); // the budget is one of 60,000 a minute
    world.poll().await;
    denied(&world, &ids).await;
    world.pass(seconds(1));
    world.poll().await;
    for _ in 0..4 {
        world.deliver().await;
        world.pass(seconds(30));
    }
    world.deliver().await;
    let mails = world.mail.mails().len();
    assert!((20..=26).contains(&mails), "{mails} mails");
    let missing: Vec<_> = named(&world, 2000).into_iter().enumerate().filter(|(_, mails)| *mails != 1).collect();
    assert_eq!(missing, [], "each verdict in one mail");
    assert_eq!(world.rows("select max(events) from v_deliveries").await, ["100"], "a mail has an end");
    assert_eq!(world.rows("select count(*) from v_deliveries where state <> 'delivered'").await, ["0"]);
}

#[tokio::test]
async fn a_single_verdict_goes_at_once_also_to_people_and_so_do_ten() {
    let mut world = World::new().await;
    let ids = in_review(&mut world, 10).await;
    denied(&world, &ids[..1]).await;
    let decided = world.clock.now();
    world.deliver().await;
    assert_eq!(world.mail.mails()[0].received_at, decided);
    denied(&world, &ids[1..]).await;
    world.deliver().await;
    assert_eq!(world.mail.mails().len(), 10);
}

#[tokio::test]
async fn a_program_gets_even_a_flood_one_by_one_unless_a_route_says_otherwise() {
    let mut world = World::new().await;
    let ids = in_review(&mut world, 40).await;
    denied(&world, &ids).await;
    world.deliver().await;
    assert_eq!(sizes(&world), [1; 40]);
}

#[tokio::test]
async fn what_an_outage_held_back_is_one_mail_and_not_one_for_each() {
    let mut world = World::new().await;
    let ids = in_review(&mut world, 6).await;
    world.mail.stop().await.unwrap();
    for id in &ids {
        denied(&world, std::slice::from_ref(id)).await;
        world.deliver().await;
    }
    world.mail.start_again().await.unwrap();
    world.pass(minutes(6));
    world.deliver().await;
    assert_eq!(
        world.mail.mails().len(),
        2,
        "the one that asked whether it is back, and the rest: {:?}",
        world.mail_subjects()
    );
    assert_eq!(named(&world, 6), [1; 6]);
}

#[tokio::test]
async fn a_route_that_groups_gathers_for_its_time_and_what_comes_later_does_not_prolong_it() {
    let mut world = routed(
        "[[route]]\nevents = [\"vetting.denied\", \"vetting.approved\"]\nendpoints = [\"crm\"]\n\
         group_wait = \"20m\"\ngroup_by = [\"outcome\"]\nurgent = [\"vetting.approved\"]",
    )
    .await;
    let ids = in_review(&mut world, 4).await;
    denied(&world, &ids[..1]).await;
    let first = world.clock.now();
    world.deliver().await;
    assert!(world.hook.hooks().is_empty());
    world.sandbox.approve(&ids[3]).unwrap();
    denied(&world, &ids[1..3]).await;
    world.deliver().await;
    assert_eq!(sizes(&world), [1], "what is urgent does not wait: {:?}", world.webhooks());
    world.pass(minutes(20));
    world.deliver().await;
    assert_eq!(sizes(&world), [1, 3]);
    let digest = world.hook.hooks().pop().unwrap();
    assert_eq!(digest.json()["type"], "vetting.digest");
    let due = world.rows("select deferred_until from delivery where group_key is not null").await;
    assert_eq!(due, [first.after(minutes(20)).as_millis().to_string()]);
}

#[tokio::test]
async fn what_is_to_go_soon_does_not_join_what_goes_later() {
    let mut world = routed(
        "[[route]]\nevents = [\"vetting.approved\"]\nendpoints = [\"crm\"]\ngroup_wait = \"1h\"\n\n\
         [[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"crm\"]\ngroup_wait = \"10m\"",
    )
    .await;
    let ids = in_review(&mut world, 3).await;
    world.sandbox.approve(&ids[0]).unwrap();
    denied(&world, &[]).await;
    denied(&world, &ids[1..2]).await;
    world.sandbox.approve(&ids[2]).unwrap();
    world.pass(minutes(11));
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.denied School 0001 Not an Education Customer"]);
    world.pass(minutes(5));
    world.poll().await;
    world.pass(minutes(60));
    world.deliver().await;
    assert_eq!(sizes(&world), [1, 2], "the other two go together");
}

#[tokio::test]
async fn quiet_hours_delay_till_the_morning_and_drop_nothing() {
    // The clock starts on a Monday at 10:00 in Amsterdam.
    let mut world = routed(
        "[[route]]\nevents = [\"vetting.denied\", \"vetting.revoked\"]\nendpoints = [\"sales-mail\"]\n\
         quiet_hours = \"18:00-07:00\"\nworking_days_only = true\nurgent = [\"vetting.revoked\"]",
    )
    .await;
    let ids = in_review(&mut world, 5).await;
    world.sandbox.approve(&ids[4]).unwrap();
    world.pass(hours(4 * 24 + 9)); // Friday, 19:00
    world.poll().await;
    denied(&world, &ids[..2]).await;
    world.sandbox.deny(&ids[4], "No longer an Education Customer").unwrap();
    world.pass(hours(24)); // the approved one is polled once a day
    world.poll().await;
    world.deliver().await;
    let subjects = world.mail_subjects();
    assert!(!subjects.iter().any(|subject| subject.starts_with("Denied")), "{subjects:?}");
    assert!(subjects.iter().any(|subject| subject.starts_with("Revoked")), "urgent: {subjects:?}");
    world.mail.clear();
    // Whatever happens meanwhile, nothing is sent.
    for _ in 0..72 {
        world.pass(minutes(30));
        world.deliver().await;
    }
    let mails = world.mail.mails();
    assert_eq!(mails.len(), 1, "one mail in the morning: {:?}", world.mail_subjects());
    assert_eq!(local(mails[0].received_at), "Mon 07:15");
    assert_eq!(named(&world, 2), [1, 1]);
}

#[tokio::test]
async fn a_suspend_of_weeks_does_not_wake_anybody_at_night() {
    let mut world =
        routed("[[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"sales-mail\"]\nquiet_hours = \"18:00-07:00\"")
            .await;
    let ids = in_review(&mut world, 1).await;
    world.pass(hours(9)); // Monday, 19:00
    denied(&world, &ids).await;
    world.deliver().await;
    world.suspend(hours(15 * 24 + 3)); // longer than any delivery is deferred; Tuesday, 22:00
    world.deliver().await;
    assert_eq!(world.mail_subjects(), Vec::<String>::new());
    world.pass(hours(10));
    world.deliver().await;
    assert_eq!(world.mail_subjects().len(), 1, "in the morning: {:?}", world.mail_subjects());
}

#[tokio::test]
async fn quiet_hours_hold_retries_back_and_their_time_does_not_count_towards_expiry() {
    let mut world = routed(
        "[[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"crm\"]\nquiet_hours = \"18:00-07:00\"\n\
         [retry]\ngive_up_after = \"24h\"",
    )
    .await;
    let ids = in_review(&mut world, 1).await;
    world.hook.script(WebhookAction::status(500), None);
    denied(&world, &ids).await; // Monday, 10:15
    for _ in 0..2 * 24 * 2 {
        world.deliver().await;
        world.pass(minutes(30));
    }
    // Two days later it was tried for 7:45, 11 and 3:15 hours: it is still pending.
    assert_eq!(world.rows("select state from v_deliveries").await, ["pending"]);
    let hours_of_attempts = "select distinct cast(strftime('%H', began_at / 1000, 'unixepoch', '+1 hour') as integer) from attempt order by 1";
    let tried: Vec<u32> = world.rows(hours_of_attempts).await.iter().map(|hour| hour.parse().unwrap()).collect();
    assert!(tried.iter().all(|hour| (7..18).contains(hour)), "tried at {tried:?}");
    for _ in 0..24 * 2 {
        world.deliver().await;
        world.pass(minutes(30));
    }
    assert_eq!(world.rows("select state from v_deliveries").await, ["dead"]);
    // Redriven messages ignore quiet hours.
    world.hook.clear_script();
    let id = world.rows("select delivery_id from v_deliveries").await.remove(0);
    let mut tx = world.store.begin().await.unwrap();
    let again = Redrive::One { id: &id, force: false };
    tx.redrive(again, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    world.pass(hours(12));
    assert_eq!(local(world.clock.now()), "Thu 22:15");
    world.deliver().await;
    assert_eq!(world.rows("select state from v_deliveries").await, ["delivered"]);
}

#[tokio::test]
async fn quiet_hours_that_are_taken_out_of_the_configuration_hold_nothing_any_more() {
    let mut world = routed(
        "[[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"crm\", \"sales-mail\"]\nquiet_hours = \"10:00-09:00\"",
    )
    .await;
    let ids = in_review(&mut world, 1).await;
    denied(&world, &ids).await;
    world.deliver().await;
    assert!(world.hook.hooks().is_empty() && world.mail.mails().is_empty());
    world.config.routes.routes[0].quiet = None;
    world.restart().await;
    world.deliver().await;
    assert_eq!((world.hook.hooks().len(), world.mail.mails().len()), (1, 1));
}

#[tokio::test]
async fn a_clock_that_is_set_back_puts_nothing_that_waits_for_the_morning_out_of_reach() {
    let mut world =
        routed("[[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"crm\"]\nquiet_hours = \"18:00-07:00\"").await;
    let ids = in_review(&mut world, 1).await;
    world.pass(hours(24 * 60 + 9));
    denied(&world, &ids).await;
    world.deliver().await;
    world.clock.set(crate::world::START);
    world.deliver().await;
    assert_eq!(world.hook.hooks().len(), 1, "it is ten in the morning");
}

#[tokio::test]
async fn a_route_takes_what_matches_all_of_its_lists() {
    let mut world = routed(
        "[[route]]\nname = \"reviewed\"\nevents = [\"vetting.denied\", \"vetting.approved\"]\nendpoints = [\"crm\"]\n\
         reasons = [\"*- After Review\"]\noutcomes = [\"denied\"]\ncustomers = [\"school-*.example\", \"!School 0001\"]\n\
         attempts = [\"1-2\"]\nqualifications = [\"!Nonprofit\"]",
    )
    .await;
    let ids = in_review(&mut world, 4).await;
    world.sandbox.deny(&ids[0], "Not an Education Customer - After Review").unwrap();
    world.sandbox.deny(&ids[1], "Not an Education Customer - After Review").unwrap();
    world.sandbox.deny(&ids[2], "Not an Education Customer").unwrap();
    world.sandbox.approve(&ids[3]).unwrap();
    world.pass(minutes(15));
    world.poll().await;
    let told = world
        .rows("select c.name, de.endpoint, de.why from delivery_event de join event e on e.id = de.event join customer c on c.id = e.customer order by 1, 2")
        .await;
    assert_eq!(
        told,
        [
            "School 0000 | crm | route reviewed",
            "School 0001 | crm | operators",
            "School 0001 | sales-mail | operators",
            "School 0002 | crm | operators",
            "School 0002 | sales-mail | operators",
            "School 0003 | crm | operators",
            "School 0003 | sales-mail | operators",
        ],
        "what no route takes goes to the operators"
    );
}

#[tokio::test]
async fn a_customers_contact_gets_the_mail_and_where_there_is_none_the_operators_do() {
    let mut world = contacts().await;
    let ids = in_review(&mut world, 4).await;
    for (n, contact) in [(0, "Jan <jan@contoso.example>"), (1, "mia@contoso.example"), (2, "ask Mia"), (3, "")] {
        let id = &ids[n];
        world.execute(&format!("update customer set contact = '{contact}' where customer_id = '{id}'")).await;
    }
    denied(&world, &ids).await;
    world.deliver().await;
    let to: Vec<Vec<String>> = world.mail.mails().into_iter().map(|mail| mail.to).collect();
    let operators = vec!["sales@contoso.example".to_owned()];
    assert_eq!(to.len(), 4);
    assert!(
        to.contains(&vec!["jan@contoso.example".to_owned()]) && to.contains(&vec!["mia@contoso.example".to_owned()])
    );
    assert_eq!(to.iter().filter(|to| **to == operators).count(), 2, "{to:?}");
    assert_eq!(world.hook.hooks().len(), 2);
}

#[tokio::test]
async fn what_an_endpoint_has_held_for_too_long_is_sent_to_its_fallback_as_well_and_says_so() {
    let mut world = World::edited("", "", |text| {
        text.replace(
            "to = [\"sales@contoso.example\"]",
            "to = [\"sales@contoso.example\"]\nfallback = \"crm\"\nfail_over_after = \"30m\"",
        )
        .replacen("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"sales-mail\"]", 1)
    })
    .await;
    let ids = in_review(&mut world, 3).await;
    world.mail.stop().await.unwrap();
    denied(&world, &ids[..2]).await;
    let news = |world: &World| -> Vec<String> {
        let hooks = world.hook.hooks().into_iter().filter(|hook| hook.json()["type"] == "vetting.denied");
        hooks
            .map(|hook| {
                format!(
                    "{} for {}",
                    hook.json()["data"]["customer"]["name"].as_str().unwrap(),
                    hook.json()["data"]["instead_of"]
                )
            })
            .collect()
    };
    world.live(minutes(25)).await;
    assert!(news(&world).is_empty());
    world.live(minutes(10)).await;
    assert_eq!(news(&world), ["School 0000 for \"sales-mail\"", "School 0001 for \"sales-mail\""]);
    world.restart().await;
    world.live(hours(2)).await;
    assert_eq!(news(&world).len(), 2, "once");
    world.mail.start_again().await.unwrap();
    world.live(minutes(10)).await;
    assert_eq!(named(&world, 2), [1, 1], "a second delivery: the first one is still made");
    // A dead delivery fails over immediately.
    world.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such mailbox".to_owned())));
    denied(&world, &ids[2..]).await;
    world.live(minutes(10)).await;
    assert_eq!(news(&world).len(), 3);
}

#[tokio::test]
async fn what_is_really_sent_is_what_the_published_schema_describes() {
    let mut world = World::edited("", "", |text| {
        text.replace("to = [\"sales@contoso.example\"]", "to = [\"sales@contoso.example\"]\nfallback = \"crm\"")
            .replacen("\"vetting.vanished\"]", "\"vetting.vanished\", \"vetting.overdue\"]", 1)
            .replacen("\"vetting.denied\", ", "", 1)
            .replacen(
                "\n\n[operators]",
                "\ngroup_wait = \"10m\"\n\n[[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"sales-mail\"]\n\n[operators]",
                1,
            )
    })
    .await;
    let ids = in_review(&mut world, 5).await;
    world.mail.stop().await.unwrap();
    denied(&world, &ids[..2]).await;
    world.sandbox.approve(&ids[2]).unwrap();
    world.sandbox.withdraw(&ids[3]).unwrap();
    world.live(hours(2)).await;
    world.sandbox.deny(&ids[2], "No longer an Education Customer").unwrap();
    world.live(hours(24 * 5)).await;
    let folder = tempfile::tempdir().unwrap();
    let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/webhook.schema.json");
    std::fs::copy(schema, folder.path().join("webhook.schema.json")).unwrap();
    std::fs::create_dir(folder.path().join("examples")).unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for (n, hook) in world.hook.hooks().iter().enumerate() {
        std::fs::write(folder.path().join(format!("examples/{n:03}.json")), &hook.body).unwrap();
        let json = hook.json();
        let aside = if json["data"]["instead_of"].is_string() { " instead of another" } else { "" };
        kinds.insert(format!("{}{aside}", json["type"].as_str().unwrap()));
    }
    run("check_schema.py", folder.path(), &serde_json::Value::Null).unwrap();
    let sent: Vec<_> = kinds.iter().map(String::as_str).collect();
    for wanted in [
        "monitor.endpoint_failing",
        "vetting.denied instead of another",
        "vetting.digest",
        "vetting.overdue",
        "vetting.revoked",
    ] {
        assert!(sent.contains(&wanted), "{wanted} was not sent: {sent:?}");
    }
}

#[tokio::test]
async fn a_mailbox_that_is_full_for_days_stops_nobody_beside_it() {
    let mut world = World::edited("", "", |text| {
        text.replace("to = [\"sales@contoso.example\"]", "to = [\"sales@contoso.example\", \"full@contoso.example\"]")
    })
    .await;
    let ids = in_review(&mut world, 8).await;
    let full =
        MailRule::at(Stage::Rcpt, SmtpAction::Reply("452 4.2.2 mailbox full".to_owned())).to("full@contoso.example");
    world.mail.script(full);
    for id in &ids {
        denied(&world, std::slice::from_ref(id)).await;
        let decided = world.clock.now();
        world.deliver().await;
        assert_eq!(world.mail.mails().last().unwrap().received_at, decided, "{:?}", world.mail_subjects());
    }
    world.live(hours(2)).await;
    assert_eq!(named(&world, 8), [1; 8]);
    assert_eq!(world.rows("select count(*) from event where type = 'monitor.endpoint_failing'").await, ["0"]);
}

#[tokio::test]
async fn a_contact_that_the_server_refuses_ends_its_own_message_and_closes_the_way_to_nobody() {
    let mut world = contacts().await;
    let ids = in_review(&mut world, 3).await;
    for (n, id) in ids.iter().enumerate() {
        let sql = format!("update customer set contact = 'c{n}@contoso.example' where customer_id = '{id}'");
        world.execute(&sql).await;
    }
    for refusal in ["554 5.7.1 Relay access denied", "550 5.1.1 User unknown in relay recipient table"] {
        let refuse = SmtpAction::Reply(refusal.to_owned());
        world.mail.script(MailRule::at(Stage::Rcpt, refuse).to("c0@contoso.example").times(1));
    }
    denied(&world, &ids).await;
    world.deliver().await;
    let states = "select recipient, state from delivery where endpoint = 'contact' order by 1";
    let expected = |first: &str| {
        vec![
            format!("c0@contoso.example | {first}"),
            "c1@contoso.example | delivered".to_owned(),
            "c2@contoso.example | delivered".to_owned(),
        ]
    };
    assert_eq!(world.rows(states).await, expected("pending"), "nobody knows whether that is about this mailbox");
    world.pass(seconds(7));
    world.deliver().await;
    assert_eq!(world.rows(states).await, expected("dead"));
}

#[tokio::test]
async fn a_contact_that_is_corrected_gets_what_waits_and_what_is_redriven() {
    let mut world = contacts().await;
    let ids = in_review(&mut world, 2).await;
    let set = async |world: &World, n: usize, contact: &str| {
        let sql = format!("update customer set contact = '{contact}' where customer_id = '{}'", ids[n]);
        world.execute(&sql).await;
    };
    set(&world, 0, "typo@contoso.example").await;
    set(&world, 1, "former@contoso.example").await;
    let refuse = SmtpAction::Reply("550 5.1.1 User unknown".to_owned());
    world.mail.script(MailRule::at(Stage::Rcpt, refuse).to("typo@contoso.example"));
    denied(&world, &ids).await;
    set(&world, 1, "successor@contoso.example").await;
    world.deliver().await;
    assert_eq!(
        world.mail.mails().iter().map(|mail| mail.to.join(" ")).collect::<Vec<_>>(),
        ["successor@contoso.example"]
    );
    let mail = world.mail.mails()[0].text();
    assert!(
        mail.contains("To: <successor@contoso.example>") || mail.contains("To: successor@contoso.example"),
        "{mail}"
    );

    set(&world, 0, "right@contoso.example").await;
    let dead = world.rows("select id from delivery where state = 'dead' and endpoint = 'contact'").await.remove(0);
    let mut tx = world.store.begin().await.unwrap();
    tx.redrive(Redrive::One { id: &dead, force: false }, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    world.deliver().await;
    assert_eq!(world.mail.mails()[1].to, ["right@contoso.example"]);
    // One that is no address changes nothing.
    set(&world, 0, "ask Mia").await;
    assert_eq!(world.rows("select distinct state from delivery where endpoint = 'contact'").await, ["delivered"]);
}

#[tokio::test]
async fn an_endpoint_of_another_kind_gets_what_waited_in_its_own_form_under_the_same_id() {
    let mut world = World::new().await;
    let ids = in_review(&mut world, 1).await;
    world.mail.stop().await.unwrap();
    denied(&world, &ids).await;
    world.deliver().await;
    let id =
        world.rows("select id from delivery where endpoint = 'sales-mail' and message like 'From:%'").await.remove(0);
    let crm = world.config.endpoints.iter().find(|endpoint| endpoint.name == "crm").unwrap().kind.clone();
    world.config.endpoints.iter_mut().find(|endpoint| endpoint.name == "sales-mail").unwrap().kind = crm;
    world.restart().await;
    world.pass(hours(2));
    world.deliver().await;
    let hook = world.hook.hooks().into_iter().find(|hook| hook.id() == Some(&id)).unwrap();
    assert_eq!(hook.json()["type"], "vetting.denied", "{}", String::from_utf8_lossy(&hook.body));
}

#[tokio::test]
async fn an_endpoint_that_said_that_it_is_gone_is_opened_by_redriving_it() {
    let mut world = World::new().await;
    let ids = in_review(&mut world, 2).await;
    world.hook.script(WebhookAction::status(410), Some(1));
    denied(&world, &ids).await;
    world.deliver().await;
    world.pass(hours(24));
    world.deliver().await;
    assert_eq!(world.hook.hooks().len(), 1);
    let mut tx = world.store.begin().await.unwrap();
    let all = Redrive::Dead { endpoint: Some("crm"), since: None };
    tx.redrive(all, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    world.deliver().await;
    assert_eq!(
        world.rows("select count(*) from v_deliveries where endpoint = 'crm' and state = 'delivered'").await,
        ["2"]
    );
}

#[tokio::test]
async fn what_was_queued_by_a_clock_that_ran_ahead_does_not_wait_for_that_time() {
    let mut world =
        routed("[[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"crm\"]\ngroup_wait = \"2h\"").await;
    let ids = in_review(&mut world, 1).await;
    world.clock.advance(hours(24 * 10));
    denied(&world, &ids).await;
    world.deliver().await;
    assert!(world.hook.hooks().is_empty());
    world.clock.set(crate::world::START.after(hours(1)));
    world.deliver().await;
    assert_eq!(world.hook.hooks().len(), 1);
}

#[tokio::test]
async fn quiet_hours_without_an_end_hold_nothing_for_longer_than_two_weeks() {
    let mut world =
        routed("[[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"crm\"]\nquiet_hours = \"07:00-06:59\"").await;
    for route in &mut world.config.routes.routes {
        if let Some(quiet) = &mut route.quiet {
            (quiet.hours, quiet.working_days_only) = (None, true);
            quiet.calendar.working_days = [false; 7];
        }
    }
    world.restart().await;
    let ids = in_review(&mut world, 1).await;
    denied(&world, &ids).await;
    let queued = world.clock.now();
    while world.hook.hooks().is_empty() {
        world.deliver().await;
        world.pass(hours(6));
        assert!(world.clock.now().since(queued) < hours(24 * 16), "it is held for ever");
    }
    assert!(world.hook.hooks()[0].received_at.since(queued) >= hours(24 * 14));
}

#[tokio::test]
async fn a_blip_before_the_night_is_no_failing_endpoint_all_night() {
    let mut world =
        routed("[[route]]\nevents = [\"vetting.denied\"]\nendpoints = [\"sales-mail\"]\nquiet_hours = \"11:00-09:00\"")
            .await;
    let ids = in_review(&mut world, 1).await;
    world.pass(minutes(40));
    world.mail.stop().await.unwrap();
    denied(&world, &ids).await; // 10:55 in Amsterdam
    world.deliver().await;
    world.mail.start_again().await.unwrap();
    world.live(hours(5)).await;
    assert_eq!(world.rows("select count(*) from event where type like 'monitor.endpoint%'").await, ["0"]);
    world.live(hours(24)).await;
    assert_eq!(named(&world, 1), [1]);
}
