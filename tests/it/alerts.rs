//! Alerts: each is sent once, to an endpoint that works, and once more on recovery.

use uuid::Uuid;
use vetwatch::event::{Event, EventType};
use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::sandbox::{Fault, FaultRule, Kind};

use crate::world::{START, World, hours, minutes, seconds};

impl World {
    /// Type and summary of the alerts that the receiver got.
    fn alerts(&self) -> Vec<String> {
        let hooks = self.hook.hooks().into_iter().map(|hook| hook.json());
        let monitor = hooks.filter(|json| json["type"].as_str().is_some_and(|kind| kind.starts_with("monitor.")));
        monitor
            .map(|json| format!("{}: {}", json["type"].as_str().unwrap(), json["data"]["summary"].as_str().unwrap()))
            .collect()
    }

    /// Enqueues an event for one endpoint, bypassing the routes.
    async fn queue_for(&self, event: &Event, endpoint: &str) {
        let mut tx = self.store.begin().await.unwrap();
        let partner = tx.partner("emea", event.occurred_at).await.unwrap();
        tx.insert_event(event, partner.id, None, None).await.unwrap();
        let told = self.config.routes.direct_target(endpoint, "test-send".to_owned(), String::new());
        tx.enqueue(event, &told, event.occurred_at).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn town(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for n in 0..count {
            let id = self.customer(&format!("School {n:03}")).await;
            self.sandbox.submit(&id).unwrap();
            ids.push(id);
        }
        self.poll().await;
        ids
    }
}

#[tokio::test]
async fn a_partner_that_cannot_be_read_is_told_once_and_its_recovery_once_and_its_customers_never() {
    let mut world = World::new().await;
    let ids = world.town(20).await;
    world.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::status(500)));
    world.live(minutes(30)).await;
    world.sandbox.deny(&ids[0], "Not an Academic Domain").unwrap();
    world.live(hours(3)).await;
    world.restart().await;
    world.live(hours(1)).await;
    let told = world.alerts();
    assert!(
        matches!(told.as_slice(), [one] if one.starts_with("monitor.partner_failing: No good answer from Partner Center for 3")),
        "{told:#?}"
    );
    assert_eq!(world.rows("select count(*) > 0 from v_customers where unreadable_since is not null").await, ["1"]);
    world.sandbox.clear_faults();
    world.live(hours(8)).await;
    let told = world.alerts();
    assert!(
        matches!(&told[1..], [one] if one == "monitor.partner_recovered: Partner Center can be read again, after 4 hours"),
        "{told:#?}"
    );
    assert!(world.webhooks().contains(&"vetting.denied School 000 Not an Academic Domain".to_owned()));
    assert_eq!(world.mail_subjects().len(), 3, "as many by mail");
}

#[tokio::test]
async fn a_refused_credential_is_told_with_what_it_means() {
    let mut world = World::new().await;
    world.town(3).await;
    world.sandbox.revoke_tokens();
    world.sandbox.fault(FaultRule::on(Kind::Token, Fault::error(401, 7_000_222)));
    world.live(hours(1)).await;
    assert_eq!(world.alerts().len(), 1);
    let json = world.hook.hooks().pop().unwrap().json();
    let detail = json["data"]["detail"].as_str().unwrap();
    assert!(detail.contains("No verdict is lost by that"), "{detail}");
}

#[tokio::test]
async fn three_hundred_of_five_thousand_customers_that_cannot_be_read_are_one_message() {
    // Only a tenth of them, to save time.
    let mut world = World::new().await;
    let ids = world.town(500).await;
    for id in &ids[..30] {
        world.sandbox.fault(FaultRule::about(id, Fault::status(403)));
    }
    world.live(hours(5)).await;
    assert_eq!(world.alerts(), ["monitor.customers_failing: 30 customers cannot be read"]);
    let json = world.hook.hooks().pop().unwrap().json();
    let detail = json["data"]["detail"].as_str().unwrap();
    assert!(detail.contains("School 000, School 001") && detail.contains("and 20 more"), "{detail}");
    world.sandbox.clear_faults();
    world.live(hours(2)).await;
    assert_eq!(world.alerts()[1..], ["monitor.customers_recovered: 30 customers can be read again"]);
}

#[tokio::test]
async fn one_customer_that_cannot_be_read_does_not_make_a_small_partner_failing() {
    let mut world = World::new().await;
    let ids = world.town(3).await;
    for id in &ids[1..] {
        world.sandbox.approve(id).unwrap(); // polled once a day
    }
    world.live(minutes(15)).await;
    world.sandbox.fault(FaultRule::about(&ids[0], Fault::status(404)));
    world.live(hours(3)).await;
    assert_eq!(world.alerts(), ["monitor.customers_failing: 1 customer cannot be read"]);
}

#[tokio::test]
async fn implausible_answers_are_told_once() {
    let mut world = World::new().await;
    let ids = world.town(20).await;
    for id in &ids[..10] {
        world.sandbox.withdraw(id).unwrap();
    }
    world.live(hours(1)).await;
    let told = world.alerts();
    assert!(
        matches!(told.as_slice(), [one] if one.starts_with("monitor.partner_failing: Implausible answers")),
        "{told:#?}"
    );
    world.live(hours(6)).await;
    assert_eq!(world.alerts().len(), 2, "{:#?}", world.alerts());
    assert_eq!(world.rows("select count(*) from v_transitions where event_type = 'vetting.vanished'").await, ["10"]);
}

#[tokio::test]
async fn an_endpoint_that_delivers_nothing_is_told_over_another_one_and_so_is_its_return() {
    let mut world = World::new().await;
    let ids = world.town(2).await;
    world.hook.script(WebhookAction::status(500), None);
    world.sandbox.deny(&ids[0], "Not an Academic Domain").unwrap();
    world.live(hours(2)).await;
    world.restart().await;
    world.live(hours(1)).await;
    let failing = |world: &World| {
        world.mail_subjects().into_iter().filter(|subject| subject.contains("endpoint")).collect::<Vec<_>>()
    };
    let told = failing(&world);
    assert!(matches!(told.as_slice(), [one] if one.contains("crm has not delivered since")), "{told:#?}");
    world.hook.clear_script();
    world.live(hours(1)).await;
    let told = failing(&world);
    assert!(matches!(&told[1..], [one] if one.contains("crm delivers again")), "{told:#?}");
    assert!(!world.alerts().iter().any(|alert| alert.contains("endpoint_failing")), "nobody is told over what fails");
}

#[tokio::test]
async fn dead_messages_are_told_over_another_endpoint_together_and_never_about_themselves() {
    let mut world = World::new().await;
    let ids = world.town(12).await;
    world.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such mailbox".to_owned())));
    for id in &ids {
        world.sandbox.deny(id, "Not an Academic Domain").unwrap();
    }
    world.live(hours(4)).await;
    assert_eq!(world.alerts(), ["monitor.dead_letter: 10 messages to sales-mail were given up"]);
    // The operators' mail is rejected as well. That raises no alert, or it would never end.
    world.hook.script(WebhookAction::status(400), None);
    world.live(hours(24 * 8)).await;
    assert!(
        world.hook.hooks().len() < 80 && world.rows("select count(*) from event").await[0].parse::<u32>().unwrap() < 40
    );
}

#[tokio::test]
async fn a_secret_that_is_about_to_end_is_told_five_times_before_and_once_when_it_has() {
    let end = START.after(hours(24 * 40)).to_string();
    let known = |text: String| {
        text.replace("client_secret_file", &format!("client_secret_expires = \"{}\"\nclient_secret_file", &end[..10]))
    };
    let mut world = World::edited("", "", known).await;
    for day in 0..45 {
        world.pass(hours(24));
        world.watch().await;
        world.watch().await;
        world.deliver().await;
        if day == 20 {
            world.restart().await;
        }
    }
    let told = world.alerts();
    assert_eq!(told.len(), 6, "{told:#?}");
    assert!(told[0].contains("The client secret of emea ends in") && told[5].ends_with("has ended"), "{told:#?}");
    assert_eq!(world.rows("select json_extract(credentials, '$[0].of') from partner").await, ["client secret"]);
}

#[tokio::test]
async fn the_login_of_a_mail_server_that_is_about_to_end_is_told_as_well() {
    let end = START.after(hours(24 * 10)).to_string();
    let oauth = format!(
        "tls = \"none\"\nusername = \"vetting@contoso.example\"\n[smtp.office.oauth]\ntenant = \"contoso\"\nclient_id = \"app\"\n\
         client_secret_file = \"client-secret\"\nclient_secret_expires = \"{}\"\nlogin_url = \"http://127.0.0.1:9/\"",
        &end[..10]
    );
    let mut world = World::edited("", "", |text| text.replace("tls = \"none\"", &oauth)).await;
    for _ in 0..2 {
        world.watch().await;
        world.deliver().await;
        world.restart().await;
    }
    let told = world.alerts();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("The client secret of the mail server 127.0.0.1 ends in 9 days"), "{told:#?}");
}

#[tokio::test]
async fn a_customer_that_could_not_be_read_and_then_left_is_not_called_readable() {
    let mut world = World::new().await;
    let ids = world.town(3).await;
    world.sandbox.fault(FaultRule::about(&ids[0], Fault::status(404)));
    world.live(hours(3)).await;
    assert_eq!(world.alerts(), ["monitor.customers_failing: 1 customer cannot be read"]);
    world.sandbox.clear_faults();
    world.sandbox.end_relationship(&ids[0]).unwrap();
    world.live(hours(8)).await;
    let told = world.alerts();
    assert!(matches!(&told[1..], [one] if one.contains("is no longer a customer")), "{told:#?}");
}

#[tokio::test]
async fn a_test_that_is_dead_raises_no_alert() {
    let world = World::new().await;
    let test = |at| vetwatch::delivery::message::sample::event(EventType::Denied, Uuid::now_v7(), "emea", at);
    world.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such mailbox".to_owned())));
    world.queue_for(&test(START), "sales-mail").await;
    world.live(hours(1)).await;
    assert_eq!(world.rows("select state from v_deliveries").await, ["dead"]);
    assert!(world.alerts().is_empty(), "{:?}", world.alerts());
}

#[tokio::test]
async fn a_schedule_that_asks_for_more_than_the_budget_is_told_once_and_that_it_is_over_once() {
    let slow = |text: String| text.replace("requests_per_minute = 60000", "requests_per_minute = 1");
    let mut world = World::edited("", "", slow).await;
    let mut ids = Vec::new();
    for n in 0..60 {
        let id = world.customer(&format!("School {n:03}")).await;
        world.sandbox.submit(&id).unwrap();
        ids.push(id);
    }
    world.live(hours(3)).await;
    let told = world.alerts();
    assert!(
        matches!(told.as_slice(), [one] if one.starts_with("monitor.polling_late: Customers of emea are polled late")),
        "{told:#?}"
    );
    assert_eq!(world.rows("select reason, about from raised_alert").await, ["polling_late | emea"]);
    world.restart().await;
    for id in &ids {
        world.sandbox.approve(id).unwrap();
    }
    // A step of five minutes has little more than one poll: 60 polls take about as many steps.
    world.live(hours(12)).await;
    let told = world.alerts();
    let recovered = "monitor.polling_recovered: Customers of emea are polled in time again";
    assert_eq!(told[1..], [recovered], "{told:#?}");
    assert!(world.rows("select * from raised_alert").await.is_empty());
}

#[tokio::test]
async fn a_customer_list_that_cannot_be_read_for_a_day_is_told_and_so_is_its_return() {
    let mut world = World::synced().await;
    world.in_review("Contoso School").await;
    world.sandbox.fault(FaultRule::on(Kind::Customers, Fault::status(403)));
    let live = async |world: &World, long: u64| {
        for _ in 0..long {
            world.live(hours(1)).await;
            for partner in &world.parts.partners {
                partner.customer_sync.round().await.unwrap();
            }
        }
    };
    live(&world, 26).await;
    let about_the_list = |world: &World| {
        let alerts = world.alerts().into_iter();
        alerts.filter(|alert| alert.contains("customer list")).collect::<Vec<_>>()
    };
    let told = about_the_list(&world);
    assert!(
        matches!(told.as_slice(), [one] if one.starts_with("monitor.partner_failing: The customer list of emea")),
        "{told:#?}"
    );
    world.sandbox.clear_faults();
    live(&world, 3).await;
    let told = about_the_list(&world);
    assert_eq!(told[1..], ["monitor.partner_recovered: The customer list of emea can be read again"], "{told:#?}");
}

/// The writes of alerts that a full disk rejects.
const WRITES: [(&str, &str); 3] = [("update", "daemon"), ("insert", "raised_alert"), ("insert", "delivery")];

impl World {
    /// Makes these writes fail: SQLite returns `SQLITE_FULL`, as when the ids of a table are used up.
    async fn refuse(&self, writes: &[(&str, &str)]) {
        self.execute("create table used_up (id integer primary key autoincrement)").await;
        self.execute(&format!("insert into used_up values ({})", i64::MAX)).await;
        for (what, table) in writes {
            let full = "begin insert into used_up values (null); end";
            self.execute(&format!("create trigger full_{table} before {what} on {table} {full}")).await;
        }
    }

    async fn allow(&self, writes: &[(&str, &str)]) {
        for (_, table) in writes {
            self.execute(&format!("drop trigger full_{table}")).await;
        }
        self.execute("drop table used_up").await;
    }
}

#[tokio::test]
async fn that_nothing_can_be_noted_for_three_minutes_is_told_past_the_outbox_and_so_is_its_end() {
    let world = World::new().await;
    world.watch().await;
    world.refuse(&WRITES).await;
    let look = async |looks: u32| {
        for _ in 0..looks {
            world.suspend(minutes(1)); // no running time is noted
            world.parts.alerts.round().await.expect_err("nothing can be written");
        }
    };
    look(2).await;
    assert_eq!(world.alerts(), [""; 0]);
    look(4).await;
    let late = "monitor.polling_late: vetwatch has been able to write nothing for 3m: the disk is full, or the database \
                cannot be written to";
    assert_eq!(world.alerts(), [late], "once");
    assert_eq!(world.hook.hooks()[0].json()["data"]["figures"]["reason"], "cannot_write");
    assert_eq!(world.mail_subjects().len(), 1, "over each endpoint");
    world.allow(&WRITES).await;
    world.live(minutes(10)).await;
    let over = "monitor.polling_recovered: The database can be written to again";
    assert_eq!(world.alerts(), [late, over]);
}

#[tokio::test]
async fn the_end_of_a_trouble_that_was_told_past_the_outbox_is_told_once() {
    let mut world = World::new().await;
    world.town(1).await;
    world.watch().await;
    for (n, lasts) in [false, true, false].into_iter().enumerate() {
        world.refuse(&WRITES[1..]).await;
        let mut refused = 0;
        for _ in 0..60 {
            world.pass(minutes(1));
            world.note_running().await;
            refused += u32::from(world.parts.alerts.round().await.is_err());
        }
        assert!(refused > 2, "nobody was polled in time");
        assert_eq!(world.alerts().len(), 2 * n + 1, "{:?}", world.alerts());
        world.allow(&WRITES[1..]).await;
        if lasts {
            // Now it can be enqueued and marked.
            for _ in 0..3 {
                world.pass(seconds(20));
                world.watch().await;
                world.deliver().await;
            }
            assert_eq!(world.alerts().len(), 2 * n + 1, "{:?}", world.alerts());
        }
        world.live(minutes(10)).await;
        let told = world.alerts();
        assert_eq!(told.len(), 2 * n + 2, "{told:?}");
        assert!(told[2 * n].starts_with("monitor.polling_late: "), "{told:?}");
        assert_eq!(told[2 * n + 1], "monitor.polling_recovered: Customers of emea are polled in time again");
    }
}
