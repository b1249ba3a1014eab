//! The fault schedule: failures of Partner Center, the receiver and the process.

use serde_json::json;
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::sandbox::{Fault, FaultRule, Kind, Quirk, QuirkRule};
use vetwatch::store::CustomerId;
use vetwatch::time::Clock;

use super::Model;
use crate::world::{hours, minutes, seconds};

impl Model {
    /// Some customers get failed, unusual, outdated or empty responses.
    pub(super) async fn run_in_trouble(&mut self) {
        match self.rng.u8(..3) {
            0 => self.failures().await,
            1 => self.old_news().await,
            _ => self.other_manners(),
        }
    }

    async fn failures(&mut self) {
        let custom = |body: &str| serde_json::from_value(json!({"fault": "custom", "body": body})).unwrap();
        let faults = [
            Fault::Garbage,
            Fault::Empty,
            Fault::Null,
            Fault::Object,
            Fault::Html,
            Fault::Cut,
            Fault::Close,
            Fault::Reset,
            custom(r#"{"code":3000,"description":"no"}"#),
            custom(r#"[{"vettingStatus":"Denied"}]"#),
            custom(r#"[{"qualification":"Education","vettingStatus":"Approved"},"#),
            Fault::status(400),
            Fault::status(401),
            Fault::status(403),
            Fault::error(403, 20002),
            Fault::status(404),
            Fault::throttled(seconds(90)),
            Fault::throttled_with_a_date(seconds(57)),
            Fault::status(500),
            Fault::status(503),
        ];
        let fault = self.rng.choice(&faults).unwrap().clone();
        let rule = FaultRule::on(Kind::Qualifications, fault);
        let rule = match self.rng.u8(..3) {
            0 => rule.times(self.rng.u64(1..5)),
            1 => rule.share(0.5),
            _ => rule,
        };
        self.seen.note(&self.world, &format!("{rule:?}"));
        match self.rng.u8(..8) {
            0 => drop(self.world.sandbox.revoke_tokens()),
            1 => drop(self.world.sandbox.fault(FaultRule::on(Kind::Token, Fault::status(500)).times(2))),
            _ => drop(self.world.sandbox.fault(rule)),
        }
        self.run().await;
        self.world.sandbox.clear_faults();
    }

    /// For less than a confirmation takes, replicas lag or show nothing.
    async fn old_news(&mut self) {
        let wait = minutes(*self.rng.choice(&[1, 3, 16, 65]).unwrap());
        self.world.pass(wait);
        let now = self.world.theirs();
        self.seen.lag = seconds(*self.rng.choice(&[30, 300, 1200, 7200, 100_000]).unwrap());
        let then = now.before(self.seen.lag);
        let mut spells = Vec::new();
        for customer in &self.customers {
            let quirk = match self.rng.u8(..3) {
                0 if customer.fragile => Quirk::Nothing,
                1 if customer.may_lag_to(then) => Quirk::Past { ago: self.seen.lag },
                _ => continue,
            };
            let rule = QuirkRule::about(&customer.id, quirk);
            let rule = if self.rng.bool() { rule.times(1) } else { rule };
            spells.push(self.world.sandbox.quirk(rule));
        }
        self.seen.note(&self.world, &format!("{} replicas lag by {:?} or are empty", spells.len(), self.seen.lag));
        self.poll().await;
        for spell in spells {
            self.world.sandbox.end_quirk(spell);
        }
        for wait in [seconds(125), minutes(16)] {
            self.pass_and_poll(wait).await;
        }
    }

    /// Changes how responses are written and sent.
    fn other_manners(&mut self) {
        let pick = |rng: &mut fastrand::Rng, words: &[&str]| {
            rng.choice(words).filter(|word| !word.is_empty()).map(|word| (*word).to_owned())
        };
        let rng = &mut self.rng;
        let writing = json!({
            "quirk": "writing",
            "shape": pick(rng, &["", "array", "wrapper", "object"]),
            "keys": pick(rng, &["", "pascal", "lower", "upper"]),
            "words": pick(rng, &["", "lower", "upper", "snake", "mixed"]),
            "date": pick(rng, &["", "millis", "seconds", "ticks", "ticks_z", "no_offset", "offset"]),
            "date_name": pick(rng, &["", "create", "created", "both"]),
            "absent": pick(rng, &["", "omitted", "null", "blank"]),
            "unknown_fields": rng.bool(),
            "unqualified": pick(rng, &["", "none"]),
        });
        let sending = json!({
            "quirk": "sending",
            "gzip": rng.bool(),
            "framing": pick(rng, &["", "", "chunked", "http10"]),
            "drip": (rng.u8(..4) == 0).then_some(7),
            "bom": rng.bool(),
            "content_type": pick(rng, &["", "text/json", "text/plain"]),
            "ids": pick(rng, &["", "none", "other"]),
        });
        self.world.sandbox.clear_quirks();
        for quirk in [writing, sending] {
            if self.rng.u8(..3) > 0 {
                self.seen.note(&self.world, &quirk.to_string());
                self.world.sandbox.quirk(QuirkRule::all(serde_json::from_value(quirk).unwrap()));
            }
        }
    }

    /// Delivers, and the receiver may fail.
    pub(super) async fn deliver_in_trouble(&mut self) {
        match self.rng.u8(..8) {
            0 => self.world.hook.script(WebhookAction::status(500), Some(2)),
            1 => self.world.hook.script(WebhookAction::status(404), Some(1)),
            2 => self.world.hook.script(WebhookAction::CloseBefore, Some(1)),
            3 => self.world.hook.script(WebhookAction::ResetAfter, Some(1)),
            4 => self.world.hook.stop().await.unwrap(),
            _ => {}
        }
        self.deliver().await;
        self.world.hook.clear_script();
        self.world.hook.start_again().await.unwrap();
    }

    /// Partner Center is down, for minutes or for days.
    pub(super) async fn outage(&mut self) {
        let wait = *self.rng.choice(&[minutes(2), minutes(20), hours(3), hours(50)]).unwrap();
        self.seen.note(&self.world, &format!("an outage of three times {wait:?}"));
        self.world.sandbox.stop().await.unwrap();
        for _ in 0..3 {
            self.pass_and_poll(wait).await;
            if self.rng.u8(..4) == 0 {
                self.decide();
            }
        }
        self.world.sandbox.start_again().await.unwrap();
    }

    /// A response arrives after a newer one was recorded.
    pub(super) async fn overtake(&mut self) {
        let Self { world, rng, customers, seen, .. } = self;
        let customer = rng.choice(customers).unwrap();
        let backoff = world.store.backoff(world.parts.partners[0].poller.partner.id).await.unwrap();
        if backoff.is_some_and(|backoff| backoff.backoff_until > world.clock.now()) {
            return;
        }
        let row = world.rows(&format!("select id from customer where customer_id = '{}'", customer.id)).await.remove(0);
        let held = world.sandbox.fault(FaultRule::about(&customer.id, Fault::Hold { stale: true }).times(1));
        let asked = world.sandbox.count_of(&customer.id);
        let rows = [CustomerId(row.parse().unwrap())];
        let slow = world.parts.partners[0].poller.poll_now(&rows);
        let fast = async {
            world.sandbox.wait_for_customer(&customer.id, asked + 1, seconds(20)).await.unwrap();
            seen.note(world, "an answer is overtaken");
            for _ in 0..rng.u8(1..3) {
                world.pass(seconds(2));
                customer.go_on(rng, &world.sandbox, world.theirs());
            }
            world.pass(minutes(6)); // longer than a poll may take: the customer is due again
            world.poll().await;
            seen.read(world);
            world.sandbox.release(held);
        };
        let (slow, ()) = tokio::join!(slow, fast);
        assert_eq!(slow.unwrap().transitions, 0, "an answer that was overtaken changed something");
        // Later polls are timed now, not when the next step checks.
        seen.read(world);
        world.sandbox.clear_faults();
    }

    /// The process dies while it polls.
    pub(super) async fn die_asking(&mut self) {
        self.seen.note(&self.world, "it dies while it asks");
        let asked = self.world.sandbox.count(Kind::Qualifications);
        self.world.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::Hold { stale: false }));
        self.world.pass(minutes(16));
        {
            let poller = &self.world.parts.partners[0].poller;
            tokio::select! {
                round = poller.round() => drop(round.unwrap()), // nobody was due
                arrived = self.world.sandbox.wait_for_requests(Kind::Qualifications, asked + 1, seconds(20)) => arrived.unwrap(),
            }
        }
        self.world.restart().await;
        self.world.sandbox.clear_faults();
    }
}
