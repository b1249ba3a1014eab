//! Rejections: what they end, and who is notified.

use std::time::Duration;

use serde_json::json;
use vetwatch::delivery::Outcome;
use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::store::redrive::{Redrive, Redriven};
use vetwatch::time::Clock as _;

use super::{deliver, deliver_after, plain};
use crate::peers::MailServer;
use crate::world::{World, minutes, plain_text};

const TO: &str = "to = [\"sales@contoso.example\"]";
const THREE: &str = "to = [\"here@contoso.example\", \"gone@contoso.example\", \"there@contoso.example\"]";
const STATE: &str = "select state from v_deliveries where endpoint = 'sales-mail' order by created_at";

async fn world_of(to: &str) -> World {
    World::edited("", "", |text| {
        // One message per verdict; alerts go only to the webhook.
        let text = text.replacen(TO, to, 1).replacen("\n\n[operators]", "\ngroup_wait = \"0s\"\n\n[operators]", 1);
        let (before, operators) = text.split_once("[operators]").unwrap();
        format!("{before}[operators]{}", operators.replacen("\"sales-mail\", ", "", 1))
    })
    .await
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

/// The alerts about dead messages.
fn told(world: &World) -> Vec<serde_json::Value> {
    world
        .hook
        .hooks()
        .iter()
        .map(vetwatch::sandbox::webhook_receiver::WebhookRequest::json)
        .filter(|json| json["type"] == "monitor.dead_letter")
        .collect()
}

async fn redrive(world: &World, which: Redrive<'_>) -> Redriven {
    let mut tx = world.store.begin().await.unwrap();
    let redriven = tx.redrive(which, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    redriven
}

#[tokio::test]
async fn a_refusal_that_is_about_us_ends_no_message_wherever_it_comes() {
    for (stage, reply) in [
        (Stage::Rcpt, "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"),
        (Stage::Rcpt, "550 5.1.8 <vetwatch@contoso.example>: Sender address rejected: Domain not found"),
        (Stage::Rcpt, "550 5.7.1 Zugriff verweigert"),
        (Stage::Message, "550 5.4.5 Daily user sending limit exceeded"),
        (Stage::Message, "550 5.1.90 Your message can't be sent because you've reached your daily limit"),
        (Stage::Message, "550 5.7.68 Direct Send not allowed for this organization"),
        (Stage::Message, "554 Transaction failed"),
    ] {
        let mut world = world_of(TO).await;
        world.mail.script(MailRule::at(stage, SmtpAction::Reply(reply.to_owned())));
        verdicts(&mut world, 1).await;
        world.live(minutes(60)).await;
        assert_eq!(world.rows(STATE).await, ["pending"], "{reply}");
        world.mail.clear_script();
        world.live(minutes(10)).await;
        assert_eq!((world.rows(STATE).await, world.mail.mails().len()), (vec!["delivered".to_owned()], 1), "{reply}");
    }
}

#[tokio::test]
async fn a_message_that_nobody_takes_holds_up_no_other_and_keeps_no_endpoint_closed() {
    // A rejected contact affects no one else; a rejected message may.
    for (stage, closes) in [(Stage::Rcpt, "0"), (Stage::Message, "1")] {
        let mut world = world_of("to_contact = true").await;
        for n in 0..4 {
            world.in_review(&format!("School {n}")).await;
        }
        world.execute("update customer set contact = 'contact-' || substr(name, 8) || '@school.example'").await;
        let ids = world.rows("select customer_id from customer order by id").await;
        for id in &ids[..3] {
            world.sandbox.deny(id, "Not an Academic Domain").unwrap();
        }
        world
            .mail
            .script(MailRule::at(stage, SmtpAction::Reply("550 5.7.1 no".to_owned())).to("contact-0@school.example"));
        world.poll_later().await;
        let closed = "select closed_since is not null from endpoint where name = 'sales-mail'";
        world.deliver().await;
        assert_eq!(world.rows(closed).await, [closes], "{stage:?}");
        if closes == "1" {
            assert_eq!(world.mail.mails().len(), 0, "nobody knows better yet");
            let probe_at = world.rows("select probe_at from endpoint where name = 'sales-mail'").await;
            let wait = u64::try_from(probe_at[0].parse::<i64>().unwrap() - world.clock.now().as_millis()).unwrap();
            assert!(wait <= 6000, "{wait}");
            world.pass(Duration::from_millis(wait));
            world.deliver().await;
        }
        let mails = world.mail.mails();
        let to: Vec<_> = mails.iter().map(|mail| mail.to[0].as_str()).collect();
        assert_eq!(to, ["contact-1@school.example", "contact-2@school.example"], "{stage:?}");
        world.sandbox.deny(&ids[3], "Not an Academic Domain").unwrap();
        world.pass(minutes(15));
        world.poll().await;
        for _ in 0..12 {
            world.pass(minutes(10));
            world.deliver().await;
            assert_eq!(world.rows(closed).await, ["0"], "{stage:?}: it waits alone");
        }
        assert_eq!(world.mail.mails().len(), 3, "{stage:?}");
        assert_eq!(world.rows(STATE).await.iter().filter(|state| *state == "pending").count(), 1);
    }
}

#[tokio::test]
async fn of_several_recipients_the_one_that_is_refused_for_our_sake_waits_alone() {
    let server = MailServer::plain(&json!({"rcpt": [["^b@", "550 5.7.1 no", 1]]}));
    let channel = plain(&server, &["a@contoso.example", "b@contoso.example", "c@contoso.example"]);
    let first = deliver(&channel).await;
    assert_eq!((first.outcome, first.final_replies.len()), (Outcome::Deferred, 2), "{}", first.detail);
    assert_eq!(server.only().to(), ["a@contoso.example", "c@contoso.example"]);
    let second = deliver_after(&channel, &first.final_replies).await;
    assert_eq!((second.outcome, server.received().len()), (Outcome::Accepted, 2));
}

#[tokio::test]
async fn what_is_said_after_the_message_of_one_of_several_is_asked_of_each_alone() {
    let server = MailServer::plain(&json!({"data": ["550 5.1.1 no such user", "550 5.1.1 no such user"]}));
    let report = deliver(&plain(&server, &["a@contoso.example", "b@contoso.example", "c@contoso.example"])).await;
    assert_eq!((report.outcome, report.final_replies.len()), (Outcome::Accepted, 3), "{}", report.detail);
    let refused: Vec<_> = report.final_replies.iter().filter(|(_, reply)| reply.starts_with("550 ")).collect();
    assert!(matches!(refused.as_slice(), [(to, _)] if *to == "a@contoso.example"), "{report:?}");
}

#[tokio::test]
async fn a_recipient_that_refuses_for_good_is_told_shown_and_sent_it_again_alone() {
    let mut world = world_of(THREE).await;
    world.mail.script(
        MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such mailbox".to_owned())).to("gone@contoso.example"),
    );
    verdicts(&mut world, 1).await;
    world.live(minutes(10)).await;
    let row = "select state, last_error from v_deliveries where endpoint = 'sales-mail'";
    assert_eq!(world.rows(row).await, ["delivered | gone@contoso.example: 550 5.1.1 no such mailbox"]);
    let alerts = told(&world);
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    let text = |name: &str| alerts[0]["data"][name].as_str().unwrap().to_owned();
    assert_eq!(text("summary"), "A message to sales-mail was given up for the recipient gone@contoso.example");
    assert!(text("detail").contains("gone@contoso.example: 550 5.1.1 no such mailbox"), "{}", text("detail"));
    let refused = world.store.refused_recipients().await.unwrap();
    assert!(matches!(refused.as_slice(), [one] if one.address == "gone@contoso.example" && one.messages == 1));
    assert!(text("detail").contains(&format!("redrive {}`", refused[0].delivery)), "{}", text("detail"));
    world.live(minutes(60)).await;
    assert_eq!(told(&world).len(), 1, "once");

    // The mailbox is created.
    world.mail.clear_script();
    let one = Redrive::One { id: &refused[0].delivery, force: false };
    assert!(matches!(redrive(&world, one).await, Redriven::Again(_)));
    world.live(minutes(5)).await;
    let mails = world.mail.mails();
    assert_eq!(mails.iter().map(|mail| mail.to.len()).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(mails[1].to, ["gone@contoso.example"]);
    assert_eq!(plain_text(&mails[0]), plain_text(&mails[1]));
    assert_eq!(world.rows(row).await, ["delivered | null"]);
    assert_eq!(world.store.refused_recipients().await.unwrap(), []);
    assert_eq!(redrive(&world, one).await, Redriven::Delivered);
}

#[tokio::test]
async fn a_recipient_is_told_while_another_one_still_waits_and_forgotten_when_it_leaves_the_configuration() {
    let mut world = world_of(THREE).await;
    let reply = |text: &str| SmtpAction::Reply(text.to_owned());
    world.mail.script(MailRule::at(Stage::Rcpt, reply("550 5.1.1 no such mailbox")).to("gone@contoso.example"));
    world.mail.script(MailRule::at(Stage::Rcpt, reply("452 4.2.2 full")).to("there@contoso.example"));
    verdicts(&mut world, 1).await;
    world.live(minutes(10)).await;
    assert_eq!((world.rows(STATE).await, told(&world).len()), (vec!["pending".to_owned()], 1));

    let endpoint = world.config.endpoints.iter_mut().find(|endpoint| endpoint.name == "sales-mail").unwrap();
    let vetwatch::config::EndpointKind::Email(settings) = &mut endpoint.kind else { panic!("not a mail endpoint") };
    settings.to.retain(|to| to.email.to_string() != "gone@contoso.example");
    world.restart().await;
    world.live(minutes(5)).await;
    assert_eq!(world.store.refused_recipients().await.unwrap(), []);
    world.mail.clear_script();
    world.live(minutes(60)).await;
    assert_eq!((world.rows(STATE).await, told(&world).len()), (vec!["delivered".to_owned()], 1));
}

#[tokio::test]
async fn a_refusal_is_told_and_shown_though_its_endpoint_is_renamed_at_once() {
    let mut world = world_of(THREE).await;
    let refuse = SmtpAction::Reply("550 5.1.1 no such mailbox".to_owned());
    world.mail.script(MailRule::at(Stage::Rcpt, refuse).to("gone@contoso.example"));
    verdicts(&mut world, 1).await;
    world.deliver().await;
    assert_eq!((world.rows(STATE).await, told(&world).len()), (vec!["delivered".to_owned()], 0));

    // Under its old name the address may no longer be intended.
    world.without("sales-mail").await;
    world.live(minutes(10)).await;
    let refused = world.store.refused_recipients().await.unwrap();
    assert!(matches!(refused.as_slice(), [one] if one.address == "gone@contoso.example"), "{refused:?}");
    assert_eq!(told(&world).len(), 1);
}
