//! The wall clock alone never makes a delivery dead: not after a suspend, not after a clock change.

use std::time::Duration;

use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::sandbox::{Fault, FaultRule, Kind};
use vetwatch::time::Clock;

use crate::delivery::verdicts;
use crate::world::{START, World, hours, minutes, seconds};

const WEEK: u64 = 24 * 8;

#[derive(Debug, Clone, Copy)]
enum Jump {
    Suspended,
    SetAhead,
    SetBack,
}

impl World {
    fn jump(&self, jump: Jump) {
        match jump {
            Jump::Suspended => self.suspend(hours(WEEK)),
            Jump::SetAhead => self.clock.set(self.clock.now().after(hours(WEEK))),
            Jump::SetBack => self.clock.set(self.clock.now().before(hours(WEEK))),
        }
    }

    async fn states(&self, endpoint: &str) -> Vec<String> {
        let verdicts =
            "select de.delivery from delivery_event de join event e on e.id = de.event where e.type like 'vetting.%'";
        let sql = "select state, count(*) from v_deliveries where delivery_id in";
        self.rows(&format!("{sql} ({verdicts}) and endpoint = '{endpoint}' group by 1")).await
    }

    /// Types of the alerts that operators received.
    async fn alarmed(&self) -> Vec<String> {
        self.rows("select type from event where type like 'monitor.%' order by occurred_at").await
    }
}

#[tokio::test]
async fn what_waits_over_a_suspend_or_a_clock_that_is_set_does_not_die_at_its_next_failure() {
    for jumps in [[Jump::Suspended; 2], [Jump::SetAhead, Jump::SetBack], [Jump::SetBack, Jump::SetAhead]] {
        let mut world = World::new().await;
        verdicts(&mut world, 6).await;
        world.mail.stop().await.unwrap();
        world.live(minutes(30)).await;
        for jump in jumps {
            world.jump(jump);
            world.deliver().await;
            world.live(minutes(10)).await;
            assert_eq!(world.states("sales-mail").await, ["pending | 6"], "{jumps:?}");
        }
        world.mail.start_again().await.unwrap();
        world.live(minutes(10)).await;
        assert_eq!(world.states("sales-mail").await, ["delivered | 6"], "{jumps:?}");
        let mails = world.mail_subjects().into_iter().filter(|subject| subject.contains("School"));
        assert_eq!(mails.count(), 6, "{jumps:?}");
    }
}

#[tokio::test]
async fn a_message_dies_after_its_time_has_passed_between_suspends() {
    let mut world = World::with("", "[retry]\ngive_up_after = \"3h\"").await;
    world.hook.script(WebhookAction::status(500), None);
    verdicts(&mut world, 1).await;
    world.deliver().await;
    for hour in 1..=4 {
        assert_eq!(world.states("crm").await, ["pending | 1"], "in hour {hour}");
        world.live(minutes(50)).await;
        world.suspend(hours(20));
    }
    assert_eq!(world.states("crm").await, ["dead | 1"]);
}

#[tokio::test]
async fn the_time_of_a_pause_does_not_count_towards_expiry() {
    let mut world = World::with("", "[retry]\ngive_up_after = \"3h\"").await;
    verdicts(&mut world, 1).await;
    world.hook.script(WebhookAction::status(500), None);
    world.live(hours(1)).await;
    world.hook.clear_script();
    world.hook.script(WebhookAction::status(410), Some(1));
    world.live(hours(5)).await;
    assert_eq!(world.rows("select paused_at is not null from endpoint where name = 'crm'").await, ["1"]);
    world.execute("update endpoint set paused_settings = 'others' where name = 'crm'").await;
    world.hook.script(WebhookAction::status(500), Some(1));
    world.restart().await;
    world.pass(hours(1));
    world.deliver().await;
    assert_eq!(world.states("crm").await, ["pending | 1"]);
    world.live(hours(2)).await;
    assert_eq!(world.states("crm").await, ["delivered | 1"]);
}

#[tokio::test]
async fn after_a_suspend_nobody_is_told_of_a_failure_that_lasts_for_a_minute() {
    for jump in [Jump::Suspended, Jump::SetAhead] {
        let mut world = World::new().await;
        verdicts(&mut world, 1).await;
        world.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::status(500)));
        world.mail.stop().await.unwrap();
        world.live(minutes(10)).await;
        world.jump(jump);
        // The network is not available immediately.
        for _ in 0..3 {
            world.pass(seconds(20));
            world.poll().await;
            world.deliver().await;
            world.watch().await;
        }
        world.sandbox.clear_faults();
        world.mail.start_again().await.unwrap();
        world.live(hours(2)).await;
        assert_eq!(world.alarmed().await, [""; 0], "{jump:?}");
        assert_eq!(world.states("sales-mail").await, ["delivered | 1"], "{jump:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_when_the_clock_is_set_back_is_told_all_the_same() {
    let mut world = World::new().await;
    verdicts(&mut world, 1).await;
    world.mail.stop().await.unwrap();
    world.live(minutes(10)).await;
    world.jump(Jump::SetBack);
    world.live(minutes(30)).await;
    assert_eq!(world.alarmed().await, ["monitor.endpoint_failing"]);
}

#[tokio::test]
async fn what_dies_after_the_clock_was_set_back_is_told() {
    let mut world = World::new().await;
    world.hook.script(WebhookAction::status(413), None);
    verdicts(&mut world, 1).await;
    world.live(minutes(30)).await;
    assert_eq!(world.alarmed().await, ["monitor.dead_letter"]);
    world.jump(Jump::SetBack);
    verdicts(&mut world, 1).await;
    world.live(minutes(30)).await;
    assert_eq!(world.alarmed().await, ["monitor.dead_letter"; 2]);
}

#[tokio::test]
async fn a_clock_that_is_set_ahead_makes_no_two_looks_of_one_a_minute_later() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.approve(&school).unwrap();
    world.poll_later().await;
    world.sandbox.withdraw(&school).unwrap();
    world.poll_later().await;
    let missing = "select missing_since is not null from v_current";
    assert_eq!(world.rows(missing).await, ["1"]);
    for _ in 0..4 {
        world.clock.set(world.clock.now().after(hours(2)));
        world.pass(seconds(20));
        world.poll().await;
    }
    assert_eq!(world.rows(missing).await, ["1"], "an approval is gone only after an hour");
    world.pass(minutes(3));
    world.poll().await;
    world.pass(hours(2));
    world.poll().await;
    assert_eq!(
        world.rows("select event_type from v_transitions where to_status = 'absent'").await,
        ["vetting.revoked"]
    );
}

#[tokio::test]
async fn a_clock_that_is_wrong_for_a_while_reminds_nobody_of_a_review_or_a_credential() {
    let end = START.after(hours(24 * 60)).to_string();
    let known = |text: String| {
        text.replace("client_secret_file", &format!("client_secret_expires = \"{}\"\nclient_secret_file", &end[..10]))
    };
    let mut world = World::edited("", "[overdue]\nbusiness_days = [3]", known).await;
    world.in_review("Contoso School").await;
    world.live(minutes(10)).await;
    world.clock.set(world.clock.now().after(hours(24 * 50)));
    world.live(minutes(40)).await;
    world.clock.set(world.clock.now().before(hours(24 * 50)));
    world.live(hours(2)).await;
    assert_eq!(world.rows("select type from event where type <> 'vetting.submitted'").await, [""; 0]);
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_for_an_hour_does_not_delete_all_attempts() {
    let mut world = World::new().await;
    verdicts(&mut world, 3).await;
    world.deliver().await;
    world.execute("update attempt set ended_at = id * 86400000").await;
    let mut tx = world.store.begin().await.unwrap();
    let gone = tx.forget_attempts(START.after(hours(24 * 3650))).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((gone, world.rows("select count(*) from attempt").await.remove(0)), (1, "5".to_owned()));
}

const THREE_HOURS: &str = "[retry]\ngive_up_after = \"3h\"";

#[tokio::test]
async fn a_quota_that_meets_everybody_ends_nobodys_message_however_long_it_lasts() {
    let mut world = World::with("", THREE_HOURS).await;
    verdicts(&mut world, 2).await;
    // One of the two is accepted after the other was rejected; then the quota is used up.
    let quota = || SmtpAction::Reply("550 5.4.5 Daily user sending limit exceeded".to_owned());
    world.mail.script(MailRule::at(Stage::Message, quota()).times(1));
    world.mail.script(MailRule::at(Stage::Message, SmtpAction::Delay(Duration::ZERO)).times(1));
    world.mail.script(MailRule::at(Stage::Message, quota()));
    world.deliver().await;
    let probe_at = world.rows("select probe_at from endpoint where name = 'sales-mail'").await;
    let probe_in = probe_at[0].parse::<i64>().unwrap() - world.clock.now().as_millis();
    world.pass(Duration::from_millis(probe_in.try_into().unwrap()));
    world.deliver().await;
    assert_eq!(world.states("sales-mail").await, ["delivered | 1", "pending | 1"]);
    world.live(hours(12)).await;
    assert_eq!(world.states("sales-mail").await, ["delivered | 1", "pending | 1"]);
    world.mail.clear_script();
    world.live(hours(2)).await;
    assert_eq!(world.states("sales-mail").await, ["delivered | 2"]);
}

#[tokio::test]
async fn a_message_that_is_refused_again_and_again_while_others_are_taken_dies() {
    let mut world = World::edited("", THREE_HOURS, |text| {
        let text = text.replacen("to = [\"sales@contoso.example\"]", "to_contact = true", 1);
        let (before, operators) = text.split_once("[operators]").unwrap();
        format!("{before}[operators]{}", operators.replacen("\"sales-mail\", ", "", 1))
    })
    .await;
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(world.in_review(&format!("School {n:02}")).await);
    }
    world.execute("update customer set contact = 'c' || substr(name, -2) || '@school.example'").await;
    let blocked = SmtpAction::Reply("550 5.7.1 no".to_owned());
    world.mail.script(MailRule::at(Stage::Message, blocked).to("c00@school.example"));
    for id in &ids {
        world.sandbox.deny(id, "Not an Academic Domain").unwrap();
        world.live(minutes(30)).await;
    }
    assert_eq!(world.states("sales-mail").await, ["dead | 1", "delivered | 11"]);
}
