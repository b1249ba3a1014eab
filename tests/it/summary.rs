//! The weekly summary: when it is sent, once, with what it tells.

use std::sync::Arc;

use serde_json::Value;
use vetwatch::summary::Summaries;
use vetwatch::time::Clock;

use crate::world::{START, World, hours, minutes, subject};

const SUMMARY: &str = "[summary]\nendpoints = [\"sales-mail\", \"crm\"]";

impl World {
    /// The summaries of a process that has just started.
    fn sender(&self) -> Summaries {
        let clock: Arc<dyn Clock> = self.clock.clone();
        Summaries {
            settings: self.config.summary.clone().unwrap(),
            outline: self.config.outline(),
            routes: self.config.routes.clone(),
            store: self.store.clone(),
            clock,
            pokes: Vec::new(),
        }
    }

    /// Runs a round of the summaries, and delivers.
    async fn summarize(&self) {
        self.sender().round().await.unwrap();
        self.deliver().await;
    }

    /// The summaries that the receiver got.
    fn summaries(&self) -> Vec<Value> {
        let hooks = self.hook.hooks().into_iter().map(|hook| hook.json());
        hooks.filter(|json| json["type"] == "summary").map(|json| json["data"].clone()).collect()
    }

    fn summary_mails(&self) -> usize {
        self.mail_subjects().iter().filter(|subject| subject.starts_with("Summary: ")).count()
    }
}

async fn world() -> World {
    World::with("timezone = \"UTC\"", SUMMARY).await
}

#[tokio::test]
async fn the_first_start_sends_nothing_before_its_time_and_then_one_to_each_endpoint() {
    let mut world = world().await;
    let id = world.in_review("Contoso School").await;
    world.in_review("Fabrikam College").await;
    world.summarize().await;
    world.sandbox.deny(&id, "Not an Education Customer").unwrap();
    world.poll_later().await;
    world.pass(hours(142));
    world.summarize().await;
    assert_eq!(world.summaries(), [] as [Value; 0], "it is Monday, 07:00");
    world.pass(hours(1));
    world.summarize().await;
    let [summary] = world.summaries().try_into().unwrap();
    assert_eq!(summary["since"], "2025-11-24T09:00:00.000Z", "{summary}");
    assert_eq!(summary["until"], "2025-12-01T08:00:00.000Z", "{summary}");
    assert_eq!((&summary["approved"], &summary["denied"], &summary["in_review"]), (&0.into(), &1.into(), &1.into()));
    assert_eq!(summary["decided"][0]["vetting_reason"], "Not an Education Customer", "{summary}");
    assert_eq!(summary["waiting"][0]["customer"]["name"], "Fabrikam College", "{summary}");
    assert_eq!(world.summary_mails(), 1);
}

#[tokio::test]
async fn missed_mondays_are_made_up_for_once_with_their_span() {
    let mut world = world().await;
    world.in_review("Contoso School").await;
    world.summarize().await;
    world.suspend(hours(16 * 24));
    for _ in 0..3 {
        world.restart().await;
        world.summarize().await;
    }
    let [summary] = world.summaries().try_into().unwrap();
    assert_eq!(summary["since"], "2025-11-24T09:00:00.000Z", "{summary}");
    assert_eq!(summary["until"], "2025-12-08T08:00:00.000Z", "{summary}");
    assert_eq!(world.summary_mails(), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_sends_nothing_twice() {
    let mut world = world().await;
    world.in_review("Contoso School").await;
    world.summarize().await;
    world.pass(hours(7 * 24));
    world.summarize().await;
    world.clock.set(START.after(hours(6 * 24)));
    world.summarize().await;
    world.pass(hours(24));
    world.summarize().await;
    world.restart().await;
    world.summarize().await;
    assert_eq!((world.summaries().len(), world.summary_mails()), (1, 1));
    world.pass(hours(7 * 24));
    world.summarize().await;
    assert_eq!((world.summaries().len(), world.summary_mails()), (2, 2), "the next week's");
}

#[tokio::test]
async fn without_anything_to_tell_nothing_is_sent() {
    let world = world().await;
    world.summarize().await;
    world.live(minutes(5)).await;
    world.pass(hours(7 * 24));
    world.poll().await;
    world.summarize().await;
    assert_eq!(world.summaries(), [] as [Value; 0]);
    assert_eq!(world.rows("select summary_until from daemon").await, ["1764576000000"], "this week is told");
}

#[tokio::test]
async fn the_event_its_messages_and_the_time_are_written_together_or_not_at_all() {
    let mut world = world().await;
    world.in_review("Contoso School").await;
    world.summarize().await;
    world.pass(hours(7 * 24));
    let written = "select (select count(*) from event where type = 'summary'), (select summary_until from daemon)";
    for table in ["event", "delivery", "daemon"] {
        let before = if table == "daemon" { "update" } else { "insert" };
        world
            .execute(&format!(
                "create trigger refused before {before} on {table} begin select raise(abort, 'refused'); end"
            ))
            .await;
        world.sender().round().await.unwrap_err();
        assert_eq!(world.rows(written).await, [format!("0 | {}", START.as_millis())], "{table}");
        world.execute("drop trigger refused").await;
    }
    world.summarize().await;
    assert_eq!((world.summaries().len(), world.summary_mails()), (1, 1));
}

#[tokio::test]
async fn hostile_names_stay_text_in_every_form() {
    let hostile = "<script>alert(1)</script>\u{202e}=?utf-8?B?eA==?=\u{7}\u{2028}*_~`<@U1> ]]>";
    let mut world = world().await;
    let id = world.in_review("Contoso School").await;
    world.in_review("Fabrikam College").await;
    world.summarize().await;
    world.sandbox.deny(&id, hostile).unwrap();
    world.poll_later().await;
    world.execute(&format!("update customer set name = '{hostile}'")).await;
    world.pass(hours(7 * 24));
    world.summarize().await;
    assert_eq!(world.summaries()[0]["waiting"][0]["customer"]["name"], hostile, "a program gets it as it is");
    let mails = world.mail.mails();
    let mail = mails.iter().find(|mail| subject(mail).starts_with("Summary: ")).unwrap().text();
    let mail = mail_parser::MessageParser::default().parse(&mail).unwrap();
    let (text, html) = (mail.body_text(0).unwrap(), mail.body_html(0).unwrap());
    assert!(html.contains("&lt;script&gt;alert(1)") && !html.contains("<script>"), "{html}");
    for part in [&text, &html] {
        let acts = |c: &char| (c.is_control() && !"\r\n".contains(*c)) || "\u{202e}\u{2028}".contains(*c);
        assert_eq!(part.chars().find(acts), None, "{part}");
    }
}

#[tokio::test]
async fn an_approval_that_is_taken_back_comes_first_and_a_review_that_vanished_is_named() {
    let mut world = world().await;
    let revoked = world.in_review("Contoso School").await;
    let vanished = world.in_review("Fabrikam College").await;
    world.summarize().await;
    world.sandbox.approve(&revoked).unwrap();
    world.poll_later().await;
    world.sandbox.deny(&revoked, "Not an Education Customer").unwrap();
    world.sandbox.withdraw(&vanished).unwrap();
    for _ in 0..3 {
        world.poll_later().await;
    }
    world.pass(hours(7 * 24));
    world.summarize().await;
    let [summary] = world.summaries().try_into().unwrap();
    assert_eq!(
        ["approved", "denied", "revoked", "vanished", "in_review"].map(|count| summary[count].as_u64().unwrap()),
        [1, 0, 1, 1, 0],
        "{summary:#}"
    );
    let subject = world.mail_subjects().pop().unwrap();
    assert!(subject.starts_with("Summary: 1 revoked, 1 probably denied, 1 approved"), "{subject}");
    let decided = "select group_concat(outcome, ' ') from v_decisions";
    assert_eq!(world.rows(decided).await, ["Approved"], "only what ended a review with a verdict");
}
