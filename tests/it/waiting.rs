//! Deliveries that stay pending: for an endpoint that left the configuration, or alone.

use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::store::redirect::{Discarded, Ended, Redirected};
use vetwatch::store::redrive::{Redrive, Redriven};
use vetwatch::time::Clock;

use crate::delivery::verdicts;
use crate::world::{World, hours, minutes, plain_text};

/// A world whose verdicts go to a separate mailbox; the operators read another one, and the webhook.
async fn world() -> World {
    World::edited("", "", |text| {
        text.replacen("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"desk\"]", 1).replace(
            "\n\n[[endpoint]]\nname = \"crm\"",
            "\n\n[[endpoint]]\nname = \"desk\"\nkind = \"email\"\nsmtp = \"office\"\nfrom = \"vetwatch@contoso.example\"\n\
             to = [\"desk@contoso.example\"]\n\n[[endpoint]]\nname = \"crm\"",
        )
    })
    .await
}

impl World {
    /// Restarts without the endpoint in the configuration.
    pub(crate) async fn without(&mut self, endpoint: &str) {
        self.config.endpoints.retain(|known| known.name != endpoint);
        self.config.routes.profiles.remove(endpoint);
        for route in &mut self.config.routes.routes {
            route.endpoints.retain(|name| name != endpoint);
        }
        self.config.routes.operators.retain(|name| name != endpoint);
        self.restart().await;
    }

    /// Summaries of the webhook's alerts about pending or dead messages.
    fn dead_messages(&self) -> Vec<String> {
        let hooks = self.hook.hooks().into_iter().map(|hook| hook.json());
        let dead = hooks.filter(|json| json["type"] == "monitor.dead_letter");
        dead.map(|json| json["data"]["summary"].as_str().unwrap().to_owned()).collect()
    }

    fn mails_to(&self, address: &str) -> usize {
        self.mail.mails().iter().filter(|mail| mail.to == [address]).count()
    }

    /// Customer and endpoint of the verdicts that the webhook got instead of another endpoint.
    fn in_place(&self) -> Vec<String> {
        let hooks = self.hook.hooks().into_iter().map(|hook| hook.json());
        let told = hooks.filter(|json| json["data"]["instead_of"].is_string()).map(|json| {
            let name = json["data"]["customer"]["name"].as_str().unwrap_or("-").to_owned();
            format!("{name} instead of {}", json["data"]["instead_of"].as_str().unwrap())
        });
        told.collect()
    }

    async fn redirect(&self, which: Redrive<'_>, to: &str) -> Ended<Redirected> {
        let told = self.config.routes.direct_target(to, "redrive --to".to_owned(), "redirected".to_owned());
        let mut tx = self.store.begin().await.unwrap();
        let done = tx.redirect(which, &told, self.clock.now()).await.unwrap();
        tx.commit().await.unwrap();
        done
    }

    async fn discard(&self, which: Redrive<'_>) -> Vec<Discarded> {
        let mut tx = self.store.begin().await.unwrap();
        let done = tx.discard(which, self.clock.now()).await.unwrap();
        tx.commit().await.unwrap();
        let Ended::Done(discarded) = done else { panic!("{done:?}") };
        discarded
    }

    async fn waiting(&self) -> Vec<String> {
        self.rows("select endpoint, state, count(*) from v_deliveries group by 1, 2").await
    }
}

const GONE: &str = "for desk, an endpoint that is not configured";

#[tokio::test]
async fn a_verdict_that_waits_for_an_endpoint_that_left_the_configuration_is_told_to_the_operators() {
    let mut world = world().await;
    let whole = world.config.clone();
    world.mail.stop().await.unwrap();
    verdicts(&mut world, 2).await;
    world.deliver().await;
    world.mail.start_again().await.unwrap();
    world.without("desk").await;
    world.watch().await;
    world.deliver().await;
    assert_eq!(world.dead_messages(), [format!("2 messages wait {GONE}")], "at the start");
    world.live(minutes(10)).await;
    assert!(world.in_place().is_empty());
    world.live(minutes(10)).await;
    assert_eq!(world.in_place(), ["School 00 instead of desk", "School 01 instead of desk"]);
    assert_eq!(world.mails_to("sales@contoso.example"), 2, "that, and what they wait for");
    let mail = world.mail.mails().iter().map(plain_text).find(|text| text.contains("School 00")).unwrap();
    assert!(
        mail.contains("because desk has not taken it since") && mail.contains("not tried there any more"),
        "{mail}"
    );
    world.restart().await;
    world.live(hours(30)).await;
    assert_eq!((world.dead_messages().len(), world.in_place().len()), (1, 2), "each once");

    world.config = whole;
    world.restart().await;
    world.live(minutes(5)).await;
    assert_eq!(world.mails_to("desk@contoso.example"), 2, "it came back");
    assert_eq!(world.rows("select state from v_deliveries where state <> 'delivered'").await, [""; 0]);
    assert_eq!((world.dead_messages().len(), world.in_place().len()), (1, 2), "nobody is told twice");
}

#[tokio::test]
async fn an_endpoint_that_leaves_again_or_is_given_more_is_told_again() {
    let mut world = world().await;
    let whole = world.config.clone();
    world.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such mailbox".to_owned())).times(1));
    verdicts(&mut world, 1).await;
    world.deliver().await;
    world.mail.stop().await.unwrap();
    verdicts(&mut world, 1).await;
    world.deliver().await;
    for _ in 0..2 {
        world.without("desk").await;
        world.live(minutes(5)).await;
        world.config = whole.clone();
        world.restart().await;
    }
    let told = world.dead_messages();
    assert_eq!(told.iter().filter(|told| told.as_str() == format!("A message waits {GONE}")).count(), 2, "{told:?}");
    world.without("desk").await;
    world.live(minutes(20)).await;
    let told = world.dead_messages().len();
    let mut tx = world.store.begin().await.unwrap();
    tx.redrive(Redrive::Dead { endpoint: Some("desk"), since: None }, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    world.live(minutes(30)).await;
    assert_eq!(world.dead_messages()[told..], [format!("2 messages wait {GONE}")]);
    assert_eq!(world.in_place().len(), 2);
}

#[tokio::test]
async fn what_gathers_for_an_endpoint_that_left_and_what_only_tells_of_vetwatch_are_told_and_make_no_echo() {
    let mut world = World::edited("", "", |text| {
        text.replacen("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"sales-mail\"]\ngroup_wait = \"20h\"", 1)
    })
    .await;
    verdicts(&mut world, 2).await;
    world.without("sales-mail").await;
    world.live(minutes(40)).await;
    assert_eq!(world.in_place().len(), 2, "{:?}", world.webhooks());
    // An alert, for an endpoint that is gone as well.
    world.hook.stop().await.unwrap();
    world.live(minutes(30)).await;
    let before = world.rows("select count(*) from event").await;
    world.live(hours(40)).await;
    assert_eq!(world.rows("select count(*) from event").await, before);
}

#[tokio::test]
async fn what_waits_for_one_endpoint_can_be_told_to_another_and_ends_as_redirected() {
    let mut world = world().await;
    world.mail.stop().await.unwrap();
    verdicts(&mut world, 2).await;
    world.deliver().await;
    world.mail.start_again().await.unwrap();
    world.without("desk").await;
    let all = Redrive::Dead { endpoint: Some("desk"), since: None };
    let done = world.redirect(all, "crm").await;
    assert!(matches!(&done, Ended::Done(Redirected { moved, events: 2 }) if moved.len() == 2), "{done:?}");
    assert_eq!(world.redirect(all, "crm").await, Ended::NothingMatched);
    world.live(hours(1)).await;
    assert_eq!(world.in_place(), ["School 00 instead of desk", "School 01 instead of desk"]);
    assert_eq!(world.waiting().await, ["crm | delivered | 2", "desk | dead | 2"]);
    let ended = world.rows("select distinct last_error from v_deliveries where endpoint = 'desk'").await;
    assert!(ended[0].starts_with("redirected to crm; before that: "), "{ended:?}");
    assert_eq!(world.dead_messages(), [""; 0], "nobody has to see to it");
    assert_eq!(world.store.stranded(&["crm".to_owned()]).await.unwrap(), []);
    assert_eq!(
        world.store.endpoint_states(world.clock.now()).await.unwrap().iter().map(|endpoint| endpoint.dead).sum::<i64>(),
        0,
        "nor does status say so"
    );
    // Redriven by its id, it goes to its original endpoint.
    let id = world.rows("select delivery_id from v_deliveries where endpoint = 'desk'").await.remove(0);
    let mut tx = world.store.begin().await.unwrap();
    tx.redrive(Redrive::One { id: &id, force: false }, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.waiting().await, ["crm | delivered | 2", "desk | dead | 1", "desk | pending | 1"]);
}

#[tokio::test]
async fn only_what_the_other_endpoint_has_no_message_of_is_redirected_to_it() {
    let mut world = World::new().await;
    world.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such mailbox".to_owned())));
    verdicts(&mut world, 1).await;
    world.deliver().await;
    let all = Redrive::Dead { endpoint: None, since: None };
    let done = world.redirect(all, "crm").await;
    assert!(matches!(&done, Ended::Done(Redirected { moved, events: 0 }) if moved.len() == 1), "{done:?}");
    world.live(minutes(5)).await;
    assert_eq!(world.hook.hooks().len(), 1);
    // If the copy died, crm was not told: it is sent again, under its id.
    let copy = "select delivery_id from v_deliveries where endpoint = 'crm'";
    let before = world.rows(copy).await;
    world.execute("update delivery set state = 'dead', redirected_at = null, operators_notified_at = null").await;
    let done = world.redirect(all, "crm").await;
    assert!(matches!(&done, Ended::Done(Redirected { moved, events: 1 }) if moved.len() == 1), "{done:?}");
    world.live(minutes(5)).await;
    assert_eq!(world.hook.hooks().len(), 2);
    assert_eq!(world.rows(copy).await, before);
    assert_eq!(world.waiting().await, ["crm | delivered | 1", "sales-mail | dead | 1"]);
}

#[tokio::test]
async fn what_some_recipients_refused_can_be_redirected_and_the_others_keep_it() {
    let mut world = World::edited("", "", |text| {
        text.replacen("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"desk\"]", 1).replace(
            "\n\n[[endpoint]]\nname = \"crm\"",
            "\n\n[[endpoint]]\nname = \"desk\"\nkind = \"email\"\nsmtp = \"office\"\nfrom = \"vetwatch@contoso.example\"\n\
             to = [\"a@contoso.example\", \"b@contoso.example\"]\n\n[[endpoint]]\nname = \"crm\"",
        )
    })
    .await;
    let gone = SmtpAction::Reply("550 5.1.1 no such mailbox".to_owned());
    world.mail.script(MailRule::at(Stage::Rcpt, gone).to("b@contoso.example").times(1));
    verdicts(&mut world, 1).await;
    world.deliver().await;
    assert_eq!(world.store.refused_recipients().await.unwrap().len(), 1);
    let id = world.rows("select delivery_id from v_deliveries where endpoint = 'desk'").await.remove(0);
    let done = world.redirect(Redrive::Dead { endpoint: Some("desk"), since: None }, "crm").await;
    assert!(matches!(&done, Ended::Done(Redirected { moved, events: 1 }) if moved.len() == 1), "{done:?}");
    world.live(minutes(5)).await;
    assert_eq!(world.in_place(), ["School 00 instead of desk"]);
    assert_eq!(
        world.rows("select state, redirected_at is not null from v_deliveries where endpoint = 'desk'").await,
        ["delivered | 1"]
    );
    assert_eq!(world.store.refused_recipients().await.unwrap(), [], "nobody has to see to it");
    // Undone: only the recipient that refused it gets it.
    let before = world.mail.mails().len();
    let mut tx = world.store.begin().await.unwrap();
    let again = tx.redrive(Redrive::One { id: &id, force: false }, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(again, Redriven::Again(_)), "{again:?}");
    world.deliver().await;
    let to: Vec<_> = world.mail.mails()[before..].iter().map(|mail| mail.to.clone()).collect();
    assert_eq!(to, [["b@contoso.example"]]);
}

#[tokio::test]
async fn what_was_discarded_needs_nobody_and_says_which_verdicts_nobody_was_told() {
    let mut world = world().await;
    world.mail.stop().await.unwrap();
    verdicts(&mut world, 2).await;
    world.deliver().await;
    world.mail.start_again().await.unwrap();
    let desk = Redrive::Dead { endpoint: Some("desk"), since: None };
    let mut tx = world.store.begin().await.unwrap();
    let waits = tx.discard(desk, world.clock.now()).await.unwrap();
    drop(tx);
    assert_eq!(waits, Ended::NothingMatched, "it is still sent there");
    world.without("desk").await;
    // The one was told elsewhere.
    let ids = world
        .rows("select delivery_id from v_deliveries where endpoint = 'desk' order by created_at, delivery_id")
        .await;
    let one = Redrive::One { id: &ids[0], force: false };
    assert!(matches!(world.redirect(one, "crm").await, Ended::Done(_)));
    let queued = world.discard(one).await;
    assert_eq!(queued[0].not_told[0].waits_for.as_deref(), Some("crm"));
    world.deliver().await;
    assert_eq!(world.discard(one).await[0].not_told, [], "crm has it");
    assert!(matches!(world.redirect(one, "crm").await, Ended::Done(_)));
    let kept = "select discarded_at is null, redirected_at is not null from v_deliveries where delivery_id = (select min(delivery_id) from v_deliveries where redirected_at is not null)";
    assert_eq!(world.rows(kept).await, ["1 | 1"], "the redirect is what was done last");
    assert_eq!(world.discard(one).await[0].not_told, []);

    let discarded = world.discard(desk).await;
    assert_eq!(discarded.len(), 1, "{discarded:?}");
    let [event] = discarded[0].not_told.as_slice() else { panic!("{discarded:?}") };
    assert_eq!((event.event_type.as_str(), event.waits_for.as_deref()), ("vetting.denied", None));
    assert!(event.customer.as_ref().is_some_and(|name| name.starts_with("School 0")), "{event:?}");
    world.live(hours(30)).await;
    assert_eq!(world.dead_messages(), [""; 0]);
    assert_eq!(world.store.stranded(&["crm".to_owned()]).await.unwrap(), []);
    let states = world.store.endpoint_states(world.clock.now()).await.unwrap();
    assert_eq!(states.iter().map(|state| state.dead + state.pending).sum::<i64>(), 0, "{states:?}");
    let kept = "select state, discarded_at is not null from v_deliveries where endpoint = 'desk'";
    assert_eq!(world.rows(kept).await, ["dead | 1", "dead | 1"]);
    let mut tx = world.store.begin().await.unwrap();
    let many = tx.redrive(desk, world.clock.now()).await.unwrap();
    drop(tx);
    assert_eq!(many, Redriven::NothingMatched, "a redrive of many leaves it");
    // Undone.
    let mut tx = world.store.begin().await.unwrap();
    let undo = Redrive::One { id: &discarded[0].delivery_id, force: false };
    assert!(matches!(tx.redrive(undo, world.clock.now()).await.unwrap(), Redriven::Again(_)));
    tx.commit().await.unwrap();
    let kept =
        "select count(*) from v_deliveries where endpoint = 'desk' and state = 'pending' and discarded_at is null";
    assert_eq!(world.rows(kept).await, ["1"]);
}

#[tokio::test]
async fn a_fallback_whose_own_copy_is_dead_is_sent_it_again_and_two_that_refuse_do_not_go_on_for_ever() {
    let mut world = World::edited("", "", |text| {
        text.replacen("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"desk\", \"phone\"]", 1).replace(
            "\n\n[[endpoint]]\nname = \"crm\"",
            "\n\n[[endpoint]]\nname = \"desk\"\nkind = \"email\"\nsmtp = \"office\"\nfrom = \"vetwatch@contoso.example\"\n\
             to = [\"desk@contoso.example\"]\nfallback = \"phone\"\nfail_over_after = \"30m\"\n\n\
             [[endpoint]]\nname = \"phone\"\nkind = \"email\"\nsmtp = \"office\"\nfrom = \"vetwatch@contoso.example\"\n\
             to = [\"phone@contoso.example\"]\nfallback = \"desk\"\nfail_over_after = \"30m\"\n\n[[endpoint]]\nname = \"crm\"",
        )
    })
    .await;
    let gone = || SmtpAction::Reply("550 5.1.1 no such mailbox".to_owned());
    world.mail.script(MailRule::at(Stage::Rcpt, gone()).to("phone@contoso.example").times(1));
    world.mail.script(MailRule::at(Stage::Rcpt, gone()).to("desk@contoso.example"));
    verdicts(&mut world, 1).await;
    world.live(minutes(10)).await;
    assert_eq!(world.mails_to("phone@contoso.example"), 1, "the mailbox exists by now");
    let ended = "select endpoint, state from v_deliveries where endpoint in ('desk', 'phone') order by 1";
    assert_eq!(world.rows(ended).await, ["desk | dead", "phone | delivered"]);

    world.mail.script(MailRule::at(Stage::Rcpt, gone()).to("phone@contoso.example"));
    verdicts(&mut world, 1).await;
    world.live(hours(2)).await;
    let attempts = world.rows("select endpoint, attempts from v_deliveries where state = 'dead' order by 1, 2").await;
    let tried: u32 = attempts.iter().map(|row| row.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum();
    assert!(tried <= 6, "{attempts:?}");
}

#[tokio::test]
async fn what_was_redirected_and_is_redriven_goes_to_the_fallback_if_it_fails_once_more() {
    let mut world = World::edited("", "", |text| {
        text.replacen("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"desk\"]", 1).replace(
            "\n\n[[endpoint]]\nname = \"crm\"",
            "\n\n[[endpoint]]\nname = \"desk\"\nkind = \"email\"\nsmtp = \"office\"\nfrom = \"vetwatch@contoso.example\"\n\
             to = [\"desk@contoso.example\"]\nfallback = \"crm\"\nfail_over_after = \"30m\"\n\n[[endpoint]]\nname = \"crm\"",
        )
    })
    .await;
    world.mail.stop().await.unwrap();
    verdicts(&mut world, 1).await;
    world.live(minutes(10)).await;
    let id = world.rows("select delivery_id from v_deliveries where endpoint = 'desk'").await.remove(0);
    let one = Redrive::One { id: &id, force: false };
    let done = world.redirect(one, "sales-mail").await;
    assert!(matches!(&done, Ended::Done(Redirected { moved, .. }) if moved.len() == 1), "{done:?}");
    world.live(hours(2)).await;
    assert_eq!(world.in_place(), [""; 0], "it was told elsewhere");

    let mut tx = world.store.begin().await.unwrap();
    let again = tx.redrive(one, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(again, Redriven::Again(_)), "{again:?}");
    world.live(minutes(25)).await;
    assert_eq!(world.in_place(), [""; 0]);
    world.live(minutes(10)).await;
    assert_eq!(world.in_place(), ["School 00 instead of desk"]);
}

#[tokio::test]
async fn a_message_that_waits_alone_for_a_day_is_told_once_and_another_time_when_it_is_dead() {
    let mut world = World::edited("", "[retry]\ngive_up_after = \"2d\"", |text| {
        text.replacen("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"contact\"]", 1).replace(
            "\n\n[[endpoint]]\nname = \"crm\"",
            "\n\n[[endpoint]]\nname = \"contact\"\nkind = \"email\"\nsmtp = \"office\"\nfrom = \"vetwatch@contoso.example\"\n\
             to_contact = true\n\n[[endpoint]]\nname = \"crm\"",
        )
    })
    .await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(world.in_review(&format!("School {n:02}")).await);
    }
    world.execute("update customer set contact = 'c' || substr(name, -1) || '@contoso.example'").await;
    let full = SmtpAction::Reply("452 4.2.2 mailbox full".to_owned());
    world.mail.script(MailRule::at(Stage::Rcpt, full).to("c0@contoso.example"));
    for (n, id) in ids.iter().enumerate() {
        world.sandbox.deny(id, "Not an Academic Domain").unwrap();
        world.live(minutes(20)).await;
        if n == 2 {
            world.live(hours(25)).await;
            assert_eq!(world.dead_messages(), ["A message to contact still waits after 24 hours"]);
        }
    }
    world.suspend(hours(24 * 9));
    world.live(minutes(20)).await;
    assert_eq!(world.dead_messages().len(), 1, "told once");
    let lone = world.store.lone_waits(None, world.clock.now()).await.unwrap();
    assert!(lone.len() == 1 && lone[0].last_error.as_ref().unwrap().contains("mailbox full"), "{lone:?}");
    world.restart().await;
    world.live(hours(24 + 4)).await;
    let told = world.dead_messages();
    assert_eq!(told[1..], ["A message to contact was given up"], "{told:?}");
}
