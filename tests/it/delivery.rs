//! From the outbox to people: what is sent, when it is retried, and its outcome.

use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::sandbox::webhook_receiver::{Signature, WebhookAction};
use vetwatch::store::Claim;
use vetwatch::store::redrive::Redrive;
use vetwatch::time::Clock;

use crate::world::{World, hours, minutes, plain_text, seconds};

/// Ends the review of this many customers, and enqueues the events.
pub(crate) async fn verdicts(world: &mut World, count: usize) {
    let mut ids = Vec::new();
    for n in 0..count {
        let id = world.customer(&format!("School {n:02}")).await;
        world.sandbox.submit(&id).unwrap();
        ids.push(id);
    }
    world.poll().await;
    for id in &ids {
        world.sandbox.deny(id, "Not an Education Customer").unwrap();
    }
    world.pass(minutes(15));
    assert_eq!(usize::try_from(world.poll().await).unwrap(), count);
}

#[tokio::test]
async fn a_mail_server_that_is_down_at_the_moment_of_fifty_verdicts_gets_each_mail_once() {
    let mut world = World::new().await;
    world.mail.stop().await.unwrap();
    verdicts(&mut world, 50).await;
    let decided = world.clock.now();
    world.deliver().await;
    assert_eq!(world.hook.hooks().len(), 50, "the webhooks did not wait for the mail server");
    assert!(world.hook.hooks().iter().all(|hook| hook.received_at == decided));
    // While it is down, one message at a time probes it: no thundering herd.
    for _ in 0..12 {
        world.pass(minutes(5));
        world.deliver().await;
    }
    let attempts = world
        .rows("select count(*) from attempt a join delivery d on d.id = a.delivery where d.endpoint = 'sales-mail'")
        .await;
    assert!(attempts[0].parse::<u32>().unwrap() <= 20, "{attempts:?} attempts at a closed endpoint");

    world.mail.start_again().await.unwrap();
    world.pass(minutes(5));
    world.deliver().await;
    let mails = world.mail.mails();
    assert_eq!(mails.len(), 10, "nine go one by one; the flood after them joins the tenth");
    let count = |school: &str| mails.iter().filter(|mail| plain_text(mail).contains(school)).count();
    let each: Vec<usize> = (0..50).map(|n| count(&format!("School {n:02}"))).collect();
    assert_eq!(each, [1; 50], "each once");
    world.pass(hours(24 * 8));
    world.deliver().await;
    assert_eq!((world.mail.mails().len(), world.hook.hooks().len()), (10, 50));
}

#[tokio::test]
async fn a_failing_receiver_is_retried_on_schedule_under_the_same_id_with_the_same_body() {
    let mut world = World::new().await;
    world.hook.script(WebhookAction::status(500), Some(3));
    verdicts(&mut world, 1).await;
    for pause in [0, 6, 36, 144] {
        world.pass(seconds(pause));
        world.deliver().await;
    }
    let hooks = world.hook.hooks();
    assert_eq!(hooks.iter().map(|hook| hook.answered.unwrap()).collect::<Vec<_>>(), [500, 500, 500, 200]);
    assert!(hooks.windows(2).all(|pair| pair[0].id() == pair[1].id() && pair[0].body == pair[1].body));
    let stamps: Vec<_> = hooks.iter().map(|hook| hook.header("webhook-timestamp").unwrap().to_owned()).collect();
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "signed anew: {stamps:?}");
    assert!(hooks.iter().all(|hook| hook.signature == Signature::Valid));
    assert_eq!(
        world.rows("select state, attempts, events from v_deliveries where endpoint = 'crm'").await,
        ["delivered | 4 | 1"]
    );
}

#[tokio::test]
async fn a_message_is_dead_only_when_its_time_is_over_and_redriving_sends_the_same_one() {
    let mut world = World::new().await;
    world.hook.script(WebhookAction::status(500), None);
    verdicts(&mut world, 1).await;
    for pause in [0, 6, 36, 144] {
        world.pass(seconds(pause));
        world.deliver().await;
    }
    world.pass(hours(24 * 7 - 1));
    world.deliver().await;
    assert_eq!(world.rows("select state from v_deliveries where endpoint = 'crm'").await, ["pending"]);
    world.pass(hours(2));
    world.deliver().await;
    assert_eq!(
        world.rows("select state, next_attempt_at from v_deliveries where endpoint = 'crm'").await,
        ["dead | null"]
    );
    let (id, body) = (world.hook.hooks()[0].id().unwrap().to_owned(), world.hook.hooks()[0].body.clone());

    world.hook.clear_script();
    let mut tx = world.store.begin().await.unwrap();
    tx.redrive(Redrive::One { id: &id, force: false }, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    world.deliver().await;
    let last = world.hook.hooks().pop().unwrap();
    assert_eq!((last.id(), &last.body), (Some(id.as_str()), &body));
    assert_eq!(world.rows("select state from v_deliveries where endpoint = 'crm'").await, ["delivered"]);
}

#[tokio::test]
async fn the_time_that_vetwatch_did_not_run_does_not_count_towards_expiry() {
    let mut world = World::new().await;
    world.restart().await; // it runs
    verdicts(&mut world, 1).await;
    world.pass(hours(24 * 30)); // the machine is off over the holidays
    world.restart().await;
    world.hook.script(WebhookAction::status(500), Some(1));
    world.deliver().await;
    assert_eq!(world.rows("select state, attempts from v_deliveries where endpoint = 'crm'").await, ["pending | 1"]);
    world.pass(seconds(6));
    world.deliver().await;
    assert_eq!(world.rows("select state, attempts from v_deliveries where endpoint = 'crm'").await, ["delivered | 2"]);
}

#[tokio::test]
async fn a_mailbox_that_does_not_exist_ends_the_message_at_once() {
    let mut world = World::new().await;
    world.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such user".into())));
    verdicts(&mut world, 1).await;
    world.deliver().await;
    let row = world.rows("select state, attempts, last_error from v_deliveries where endpoint = 'sales-mail'").await;
    assert!(row[0].starts_with("dead | 1 | ") && row[0].contains("no such user"), "{row:?}");
}

#[tokio::test]
async fn a_message_that_is_too_large_for_its_receiver_ends_alone_and_keeps_no_other_waiting() {
    let mut world = World::new().await;
    world.hook.script(WebhookAction::status(413), Some(1));
    verdicts(&mut world, 3).await;
    world.deliver().await;
    let rows = world.rows("select state, attempts from v_deliveries where endpoint = 'crm' order by state").await;
    assert_eq!(rows, ["dead | 1", "delivered | 1", "delivered | 1"]);
    let why = world.rows("select last_error from v_deliveries where endpoint = 'crm' and state = 'dead'").await;
    assert!(why[0].contains("HTTP 413 Payload Too Large"), "{why:?}");
}

#[tokio::test]
async fn a_mail_server_that_hangs_up_after_data_gets_the_message_again_under_the_same_id() {
    let mut world = World::new().await;
    world.mail.script(MailRule::at(Stage::Message, SmtpAction::TakeThenClose).times(1));
    verdicts(&mut world, 1).await;
    world.deliver().await;
    // It may have been accepted: the next copy can wait a little.
    world.pass(seconds(60));
    world.deliver().await;
    assert_eq!(world.mail.mails().len(), 1);
    world.pass(seconds(85));
    world.deliver().await;
    let ids: Vec<_> = world
        .mail
        .mails()
        .iter()
        .map(|mail| mail.text().lines().find(|line| line.starts_with("Message-ID:")).unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_is_paused_and_keeps_what_waits() {
    let mut world = World::new().await;
    world.hook.script(WebhookAction::status(410), Some(1));
    verdicts(&mut world, 2).await;
    world.deliver().await;
    world.pass(hours(1));
    world.deliver().await;
    assert_eq!(world.hook.hooks().len(), 1, "nothing more is sent there");
    assert_eq!(world.rows("select state from v_deliveries where endpoint = 'crm'").await, ["pending", "pending"]);
    world.restart().await;
    world.deliver().await;
    assert_eq!(world.hook.hooks().len(), 1, "a restart under the same settings is no reason");
    let id = world.hook.hooks()[0].id().unwrap().to_owned();
    let mut tx = world.store.begin().await.unwrap();
    tx.redrive(Redrive::One { id: &id, force: false }, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    world.deliver().await;
    assert_eq!(world.rows("select state from v_deliveries where endpoint = 'crm'").await, ["delivered", "delivered"]);
}

#[tokio::test]
async fn an_attempt_that_a_crash_interrupted_is_repeated_at_once_and_costs_no_pause() {
    let mut world = World::new().await;
    world.hook.script(WebhookAction::Hang, Some(1));
    verdicts(&mut world, 1).await;
    {
        let crm = &world.parts.endpoints[1].dispatcher;
        tokio::select! {
            _ = crm.round() => panic!("the receiver hangs"),
            arrived = world.hook.wait_for(1, seconds(20)) => drop(arrived.unwrap()),
        }
    }
    world.restart().await;
    world.deliver().await;
    assert_eq!(world.hook.hooks().len(), 2);
    assert_eq!(
        world.rows("select d.state, d.attempts, d.retry_index, group_concat(a.outcome) from delivery d join attempt a on a.delivery = d.id where d.endpoint = 'crm' group by d.id").await,
        ["delivered | 2 | 0 | interrupted,accepted"]
    );
}

#[tokio::test]
async fn a_message_that_kills_the_process_each_time_does_not_take_its_neighbours_along() {
    let mut world = World::new().await;
    verdicts(&mut world, 3).await;
    world.hook.script(WebhookAction::Hang, Some(3));
    for death in 1..=3 {
        tokio::select! {
            _ = world.parts.endpoints[1].dispatcher.round() => panic!("the receiver hangs"),
            arrived = world.hook.wait_for(death, seconds(20)) => drop(arrived.unwrap()),
        }
        world.restart().await;
    }
    let poison = world.hook.hooks()[0].id().unwrap().to_owned();
    assert!(world.hook.hooks().iter().all(|hook| hook.id() == Some(poison.as_str())));
    world.deliver().await;
    assert_eq!(
        world.rows("select state, count(*) from v_deliveries where endpoint = 'crm' group by 1 order by 1").await,
        ["delivered | 2", "pending | 1"]
    );
    world.pass(seconds(72));
    world.deliver().await;
    assert_eq!(world.hook.hooks().pop().unwrap().id(), Some(poison.as_str()));
}

#[tokio::test]
async fn what_cannot_be_queued_was_not_seen_either_and_is_told_once_it_can() {
    for step in ["transition", "event", "delivery", "delivery_event"] {
        let mut world = World::new().await;
        let school = world.in_review("Contoso School").await;
        world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
        world.execute(&format!("create trigger no before insert on {step} begin select raise(abort, 'no'); end")).await;
        world.pass(minutes(15));
        assert_eq!(world.poll().await, 0, "{step}");
        let stored = world.rows(
            "select (select count(*) from transition) + (select count(*) from event) + (select count(*) from delivery)",
        );
        assert_eq!(stored.await, ["0"], "{step}");
        assert_eq!(world.rows("select vetting_status from v_current").await, ["InReview"], "{step}");
        world.execute("drop trigger no").await;
        world.pass(minutes(15));
        world.poll().await;
        world.deliver().await;
        assert_eq!(world.webhooks(), ["vetting.denied Contoso School Not an Academic Domain"], "{step}");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_puts_no_message_out_of_reach() {
    let mut world = World::new().await;
    world.pass(hours(24 * 400));
    verdicts(&mut world, 1).await;
    world.hook.script(WebhookAction::status(500), Some(1));
    world.deliver().await;
    world.clock.set(crate::world::START);
    world.deliver().await;
    world.pass(hours(2));
    world.deliver().await;
    assert_eq!(world.rows("select state from v_deliveries where endpoint = 'crm'").await, ["delivered"]);
}

#[tokio::test]
async fn a_delivery_whose_attempt_is_open_is_left_alone_when_it_seems_due_and_those_behind_it_are_not() {
    let mut world = World::new().await;
    verdicts(&mut world, 2).await;
    let of_crm = "select sequence from delivery where endpoint = 'crm' order by sequence";
    let sequences: Vec<i64> = world.rows(of_crm).await.iter().map(|row| row.parse().unwrap()).collect();
    let next_attempts = "select next_attempt_at from delivery where endpoint = 'crm' order by sequence";
    let (now, lease) = (world.clock.now(), minutes(5));
    let claim = async |in_flight: &[i64]| {
        let claim = Claim {
            endpoint: "crm",
            format: "webhook",
            settings: "",
            zone: chrono_tz::Tz::UTC,
            public_url: None,
            now,
            lease,
            in_flight,
        };
        let mut tx = world.store.begin().await.unwrap();
        let claimed = tx.claim_due(claim, |_, _| None, |_| "{}".to_owned().into()).await.unwrap();
        tx.commit().await.unwrap();
        claimed.map(|claimed| claimed.sequence)
    };
    assert_eq!(claim(&sequences[..1]).await, Some(sequences[1]));
    let leased = now.after(lease).as_millis().to_string();
    assert_eq!(world.rows(next_attempts).await, [leased.as_str(), leased.as_str()]);
    assert_eq!(claim(&[]).await, None, "both are leased");

    // The endpoint backs off, and its probe is due: one that is open is no probe.
    let due = format!("update delivery set next_attempt_at = {} where endpoint = 'crm'", now.as_millis());
    world.execute(&due).await;
    world.execute("update endpoint set closed_since = 1, probe_at = 1 where name = 'crm'").await;
    assert_eq!(claim(&sequences).await, None);
    world.execute(&format!("update endpoint set probe_at = {} where name = 'crm'", now.as_millis() + 1)).await;
    assert_eq!(claim(&[]).await, None, "the probe is not due");
    world.execute("update endpoint set closed_since = null, probe_at = null, paused_at = 1 where name = 'crm'").await;
    assert_eq!(claim(&[]).await, None, "a person paused it");
    world.execute("update endpoint set paused_at = null where name = 'crm'").await;
    world.execute(&due).await;
    assert_eq!(claim(&[]).await, Some(sequences[0]));
}
