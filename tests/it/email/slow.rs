//! Slow servers: one is slow after the message, one never replies to it.

use std::time::Duration;

use vetwatch::delivery::Outcome;
use vetwatch::delivery::email::{EmailChannel, EmailSettings, Tls};
use vetwatch::sandbox::smtp_server::{Mail, MailRule, SmtpAction, SmtpServer, Stage};
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::time::SystemClock;

use super::{TRY_AGAIN, deliver, settings};
use crate::process::{DaemonHarness, SOON};
use crate::world::{World, minutes, seconds};

const RETRY: &str = "[retry]\nschedule = [\"100ms\"]\n";

fn message_id(mail: &Mail) -> String {
    mail.text().lines().find(|line| line.starts_with("Message-ID:")).unwrap().to_owned()
}

async fn verdicts(world: &mut World, count: usize) {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(world.in_review(&format!("School {n}")).await);
    }
    for id in &ids {
        world.sandbox.deny(id, "Not an Academic Domain").unwrap();
    }
    world.poll_later().await;
}

#[tokio::test]
async fn the_final_dot_is_waited_for_longer_than_all_that_goes_before_it() {
    let server = SmtpServer::start(std::sync::Arc::new(SystemClock)).await.unwrap();
    server.script(MailRule::at(Stage::Message, SmtpAction::Delay(Duration::from_secs(2))));
    let channel = EmailChannel::new(settings(server.address().port(), Tls::None)).with_deadline(seconds(1));
    let report = deliver(&channel).await;
    assert_eq!((report.outcome, server.mails().len()), (Outcome::Accepted, 1), "{}", report.detail);
}

/// A server that delays each recipient by this long, after this many immediate replies; and a channel to it.
async fn tarpit(free: u64, pause: Duration, recipients: u32) -> (SmtpServer, EmailChannel) {
    let server = SmtpServer::start(std::sync::Arc::new(SystemClock)).await.unwrap();
    server.script(MailRule::at(Stage::Rcpt, SmtpAction::Delay(Duration::ZERO)).times(free));
    server.script(MailRule::at(Stage::Rcpt, SmtpAction::Delay(pause)));
    let to = (0..recipients).map(|n| format!("r{n}@contoso.example").parse().unwrap()).collect();
    let channel = EmailChannel::new(EmailSettings { to, ..settings(server.address().port(), Tls::None) });
    (server, channel.with_deadline(seconds(1)))
}

#[tokio::test]
async fn a_server_that_lets_each_recipient_wait_is_slow_and_not_silent() {
    let (server, channel) = tarpit(0, Duration::from_millis(250), 6).await;
    let report = deliver(&channel).await;
    assert_eq!((report.outcome, server.mails().len()), (Outcome::Accepted, 1), "{}", report.detail);
}

#[tokio::test]
async fn a_tarpit_at_many_recipients_holds_an_attempt_no_longer_than_its_deadline() {
    // One mail to all recipients.
    let (server, channel) = tarpit(0, Duration::from_millis(250), 12).await;
    let report = deliver(&channel.with_final_reply(seconds(1))).await;
    assert_eq!((report.outcome, report.final_replies.len()), (TRY_AGAIN, 0), "{}", report.detail);
    assert!(report.detail.contains("naming the recipients: no answer within"), "{}", report.detail);
    assert_eq!(server.mails().len(), 0);

    // Rejected for one of them, it is sent to each separately: some have a reply, the others wait.
    let (server, channel) = tarpit(12, Duration::from_millis(250), 12).await;
    server.script(MailRule::at(Stage::Message, SmtpAction::Reply("550 5.1.1 no such user".to_owned())));
    let report = deliver(&channel.with_final_reply(seconds(1))).await;
    assert_eq!(report.outcome, TRY_AGAIN, "{}", report.detail);
    assert!((1..12).contains(&report.final_replies.len()), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_server_is_silent_after_a_message_the_next_ones_go_beside_it() {
    let mut world =
        World::edited("", "", |text| text.replacen("\n\n[operators]", "\ngroup_wait = \"0s\"\n\n[operators]", 1)).await;
    verdicts(&mut world, 3).await;
    world.mail.script(MailRule::at(Stage::Message, SmtpAction::TakeThenHang).times(1));
    {
        let dispatcher = &world.parts.endpoints[0].dispatcher;
        let rounds = async {
            loop {
                dispatcher.round().await.unwrap();
            }
        };
        tokio::select! {
            () = rounds => {}
            arrived = world.mail.wait_for(3, SOON) => drop(arrived.unwrap()),
        }
    }
    let closed = world.rows("select closed_since from endpoint where name = 'sales-mail'").await;
    assert_eq!(closed, ["null"]);
    let mails = world.mail.mails();
    let ids: std::collections::BTreeSet<_> = mails.iter().map(message_id).collect();
    assert_eq!((mails.len(), ids.len()), (3, 3), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waits_ten_seconds_for_the_answer_and_repeats_the_mail_under_its_id_at_the_next_start() {
    let town = DaemonHarness::new("in_review = \"100ms\"\nsettled = \"100ms\"", RETRY).await;
    let ids = town.in_review(1).await;
    town.mail.script(MailRule::at(Stage::Message, SmtpAction::TakeThenHang).times(1));
    town.sandbox.deny(&ids[0], "Not an Academic Domain").unwrap();
    let mut daemon = town.running().await;
    town.mail.wait_for(1, SOON).await.unwrap();
    let begun = std::time::Instant::now();
    daemon.terminate();
    assert!(daemon.ended().await.success(), "{}", town.log());
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(30), "{took:?}");
    let last =
        "select a.outcome, d.state from attempt a join delivery d on d.id = a.delivery where d.endpoint = 'sales-mail'";
    assert_eq!(town.rows(last).await, ["interrupted | pending"]);

    let daemon = town.running().await;
    town.delivered(1).await;
    let mails = town.mail.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(message_id(&mails[0]), message_id(&mails[1]));
    daemon.stop().await;
}

#[tokio::test]
async fn a_receiver_that_takes_a_message_and_never_answers_does_not_close_the_endpoint_and_gets_few_copies() {
    let mut world =
        World::edited("", "", |text| text.replacen("\n\n[operators]", "\ngroup_wait = \"0s\"\n\n[operators]", 1)).await;
    verdicts(&mut world, 3).await;
    world.hook.script(WebhookAction::CloseAfter, Some(1));
    world.deliver().await;
    let states = "select state, count(*) from v_deliveries where endpoint = 'crm' group by 1";
    assert_eq!(world.rows(states).await, ["delivered | 2", "pending | 1"], "the others do not wait");
    assert_eq!(
        world.rows("select closed_since, unconfirmed_since from endpoint where name = 'crm'").await,
        ["null | null"]
    );
    world.pass(seconds(100));
    world.deliver().await;
    assert_eq!(world.hook.hooks().len(), 3);
    world.pass(seconds(60));
    world.deliver().await;
    assert_eq!(world.hook.hooks().len(), 4);
    assert_eq!(world.rows(states).await, ["delivered | 3"]);
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_told_though_it_is_never_closed() {
    let mut world = World::new().await;
    verdicts(&mut world, 1).await;
    world.hook.script(WebhookAction::CloseAfter, None);
    world.live(minutes(40)).await;
    assert_eq!(world.rows("select closed_since from endpoint where name = 'crm'").await, ["null"]);
    let told =
        |world: &World| world.mail_subjects().into_iter().filter(|subject| subject.contains("crm")).collect::<Vec<_>>();
    assert!(
        matches!(told(&world).as_slice(), [one] if one.contains("crm has not delivered since")),
        "{:?}",
        told(&world)
    );
    assert!(world.hook.hooks().len() < 6, "{} copies", world.hook.hooks().len());
    world.hook.clear_script();
    world.live(minutes(60)).await;
    assert!(told(&world)[1].contains("crm delivers again"), "{:?}", told(&world));
}
