//! Rows that are damaged, or written by another program: none is replaced by a guess or skipped, and other rows are
//! unaffected.

use std::error::Error as _;

use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::store::redrive::Redrive;
use vetwatch::store::reports::DeliveryFilter;
use vetwatch::time::Clock;

use crate::world::{World, minutes, plain_text, seconds};

/// Ends the reviews of two schools, A first, and enqueues both messages.
async fn two_verdicts(world: &mut World) {
    let (a, b) = (world.in_review("School A").await, world.in_review("School B").await);
    for id in [&a, &b] {
        world.sandbox.deny(id, "Not an Education Customer").unwrap();
    }
    world.pass(minutes(15));
    assert_eq!(world.poll().await, 2);
}

const OF_A: &str = "(select e.id from event e join customer c on c.id = e.customer where c.name = 'School A' and e.type <> 'vetting.submitted')";

/// SQL that damages and repairs the row of School A's event or its delivery, and the text of the error.
const BROKEN: [(&str, &str, &str, &str); 8] = [
    ("event", "type = 'vetting.unheard_of'", "type = 'vetting.denied'", "the column type of the row"),
    ("event", "data = '{}'", "data = kept", "the column data of the row"),
    ("event", "data = '[1]'", "data = kept", "the column data of the row"),
    ("event", "data = 'garbage'", "data = kept", "the column data of the row"),
    ("event", "data = cast(x'7b22ff227d' as text)", "data = kept", "the column data of the row"),
    ("delivery", "id = 'no uuid'", "id = kept", "the column id of the row no uuid in the table delivery"),
    ("delivery", "final_replies = '[]'", "final_replies = '{}'", "the column final_replies of the row"),
    ("delivery", "retry_index = -1", "retry_index = 0", "the column retry_index of the row"),
];

#[tokio::test]
async fn a_message_that_cannot_be_read_waits_whole_the_operators_hear_of_it_and_its_neighbours_go_on() {
    for (table, broken, mended, named) in BROKEN {
        let mut world = World::new().await;
        two_verdicts(&mut world).await;
        let which = match table {
            "event" => format!("id = {OF_A}"),
            _ => format!(
                "sequence = (select d.sequence from delivery d join delivery_event de on de.delivery = d.id \
                          where de.event = {OF_A} and d.endpoint = 'crm')"
            ),
        };
        let kept = if table == "event" { "data" } else { "id" };
        world
            .execute(&format!("create table kept as select rowid as n, {kept} as kept from {table} where {which}"))
            .await;
        let update = format!("update {table} set {{}} where rowid = (select n from kept)");
        let update = |set: &str| format!("pragma ignore_check_constraints = 1; {}", update.replace("{}", set));
        world.execute(&update(broken)).await;

        for _ in 0..3 {
            world.deliver().await;
            world.pass(seconds(20));
            world.parts.alerts.round().await.unwrap();
        }
        world.deliver().await;
        let hooked = world.webhooks();
        let told = |what: &str| hooked.iter().filter(|hook| hook.starts_with(what)).count();
        assert_eq!((told("vetting.denied School B"), told("vetting.denied School A")), (1, 0), "{broken}: {hooked:?}");
        assert_eq!(told("monitor.dead_letter"), 1 + usize::from(table == "event"), "{broken}: {hooked:?}");
        let waits =
            "select state, attempts, last_error from v_deliveries where endpoint = 'crm' and state <> 'delivered'";
        let waits = world.rows(waits).await;
        assert_eq!(waits.len(), 1, "{broken}: {waits:?}");
        assert!(waits[0].starts_with("pending | 0 | cannot write a message to crm: "), "{broken}: {waits:?}");
        assert!(waits[0].contains(named), "{broken}: {waits:?}");
        let shown = world.store.deliveries(DeliveryFilter::default()).await.unwrap();
        let row = shown.iter().find(|row| row.endpoint == "crm" && row.state == "pending").unwrap();
        assert!(world.store.delivery(&row.delivery_id).await.unwrap().is_some(), "{broken}");
        // Alerts are not repeated.
        for _ in 0..10 {
            world.pass(minutes(5));
            world.parts.alerts.round().await.unwrap();
            world.deliver().await;
        }
        assert_eq!(world.webhooks().len(), hooked.len(), "{broken}: {:?}", world.webhooks());

        world.execute(&update(&mended.replace("kept", "(select kept from kept)"))).await;
        world.pass(minutes(11));
        world.deliver().await;
        let last = world.webhooks().split_off(hooked.len());
        assert_eq!(last, ["vetting.denied School A Not an Education Customer"], "{broken}");
        assert_eq!(world.rows("select count(*) from v_deliveries where state <> 'delivered'").await, ["0"], "{broken}");
        let mails: Vec<String> = world.mail.mails().iter().map(plain_text).collect();
        for school in ["School A", "School B"] {
            let about = |mail: &&String| mail.contains(school) && !mail.contains("cannot be sent");
            assert_eq!(mails.iter().filter(about).count(), 1, "{broken}: {mails:#?}");
        }
    }
}

#[tokio::test]
async fn nobody_is_mailed_again_because_the_replies_of_a_messages_recipients_cannot_be_read() {
    let mut world = World::edited("", "", |text| {
        text.replace("to = [\"sales@contoso.example\"]", "to = [\"sales@contoso.example\", \"busy@contoso.example\"]")
    })
    .await;
    let school = world.in_review("School A").await;
    world.sandbox.deny(&school, "Not an Education Customer").unwrap();
    world
        .mail
        .script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("450 4.2.1 busy".to_owned())).to("busy@contoso.example"));
    world.pass(minutes(15));
    world.poll().await;
    world.deliver().await;
    assert_eq!(world.mail.mails().len(), 1);
    world.mail.clear_script();
    let id = world.rows("select delivery_id from v_deliveries where endpoint = 'sales-mail'").await.remove(0);
    for broken in ["[]", "7", "{\"sales@contoso.example\": 250}"] {
        world.execute(&format!("update delivery set final_replies = '{broken}' where id = '{id}'")).await;
        let mut tx = world.store.begin().await.unwrap();
        tx.redrive(Redrive::One { id: &id, force: false }, world.clock.now()).await.unwrap();
        tx.commit().await.unwrap();
        world.pass(minutes(30));
        world.deliver().await;
        let mails = world.mail.mails();
        assert!(mails.iter().all(|mail| mail.to.len() == 1), "{broken}");
        assert_eq!(mails.iter().filter(|mail| plain_text(mail).contains("School A")).count(), 1, "{broken}");
    }
}

/// SQL that damages and repairs a row of School A, and the text of the error.
const BROKEN_CUSTOMERS: [(&str, &str, &str); 7] = [
    ("customer set tags = '{}'", "customer set tags = '[]'", "the column tags of the row"),
    ("customer set tags = '[7]'", "customer set tags = '[]'", "the column tags of the row"),
    (
        "customer set poll_failures = -1, failing_since = 1",
        "customer set poll_failures = 0, failing_since = null",
        "poll_failures",
    ),
    ("customer set response = cast(x'ff' as text)", "customer set response = null", "the column response of the row"),
    ("qualification_state set attempt = -1", "qualification_state set attempt = 1", "the column attempt of the row"),
    (
        "qualification_state set missing_confirmations = -1, missing_since = 1",
        "qualification_state set missing_confirmations = 0, missing_since = null",
        "missing_confirmations",
    ),
    (
        "qualification_state set notified_verdict = 'Maybe', notified_attempt = 1",
        "qualification_state set notified_verdict = null, notified_attempt = null",
        "notified_verdict",
    ),
];

#[tokio::test]
async fn a_customer_whose_row_cannot_be_read_costs_the_others_nothing_and_is_told_of_once_it_is_mended() {
    for (broken, mended, named) in BROKEN_CUSTOMERS {
        let mut world = World::new().await;
        let (a, b) = (world.in_review("School A").await, world.in_review("School B").await);
        let row = if broken.starts_with("qualification_state") { "customer" } else { "id" };
        let of_a = format!("where {row} = (select id from customer where name = 'School A')");
        world.execute(&format!("pragma ignore_check_constraints = 1; update {broken} {of_a}")).await;
        for id in [&a, &b] {
            world.sandbox.deny(id, "Not an Education Customer").unwrap();
        }
        world.pass(minutes(16));
        assert_eq!(world.poll().await, 1, "{broken}");
        world.deliver().await;
        assert_eq!(world.webhooks(), ["vetting.denied School B Not an Education Customer"], "{broken}");
        let error = world.rows("select last_error from customer where name = 'School A'").await.remove(0);
        assert!(error.contains(named) && error.starts_with("cannot "), "{broken}: {error}");

        world.execute(&format!("pragma ignore_check_constraints = 1; update {mended} {of_a}")).await;
        world.pass(minutes(16));
        assert_eq!(world.poll().await, 1, "{broken}");
        world.deliver().await;
        assert_eq!(world.webhooks()[1..], ["vetting.denied School A Not an Education Customer"], "{broken}");
    }
}

#[tokio::test]
async fn an_error_of_the_database_says_what_could_not_be_done_and_where() {
    let mut world = World::new().await;
    let school = world.in_review("School A").await;
    world.sandbox.deny(&school, "Not an Education Customer").unwrap();
    world.pass(minutes(15));
    world.execute("alter table transition rename column raw_answer to raw").await;
    world.poll().await;
    let error = world.rows("select last_error from v_customers").await.remove(0);
    assert!(error.starts_with("cannot record an answer (vetting.rs:"), "{error}");
    assert!(error.contains("raw_answer"), "{error}");

    world.execute("drop view v_deliveries").await;
    let error = world.store.deliveries(DeliveryFilter::default()).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot list messages (deliveries.rs:"), "{error}");
    assert!(error.source().unwrap().to_string().contains("v_deliveries"), "{error:?}");
}
