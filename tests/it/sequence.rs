//! Random sequences (reviews, polls, faults, deliveries that succeed, fail or die, time, restarts, clock changes, a
//! full disk, a locked database), compared with a naive model: every verdict that was seen is notified once to each
//! endpoint, under one id, and nothing else is. One endpoint groups events into digests, and gets nothing in its quiet
//! hours.
//!
//! What was *seen* is read from the database after each step; the model derives the rest by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, query};
use tempfile::TempDir;
use vetwatch::daemon::{EndpointParts, PartnerParts};
use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::sandbox::{Fault, FaultRule, Kind};
use vetwatch::store::redrive::Redrive;
use vetwatch::time::Clock;

use crate::disk::Disk;
use crate::world::{World, hours, minutes, plain_text, seconds};

const CUSTOMERS: usize = 3;
const REASONS: [&str; 3] = ["Not an Education Customer", "Not an Academic Domain", "Not an eligible Library"];

#[derive(Debug, Clone)]
enum Step {
    /// The next step of Microsoft or the customer; the number selects one of those possible.
    Vet {
        customer: usize,
        choice: u8,
    },
    /// Time passes and due customers are polled; with a fault, some polls fail.
    Poll {
        minutes: u64,
        fault: Option<u8>,
    },
    /// The process dies while it polls.
    DieAsking,
    /// Due deliveries are attempted.
    Deliver {
        hook: HookFate,
        mail: MailFate,
    },
    /// The process dies while the receiver has the message.
    DieSending {
        hang: bool,
    },
    Pass {
        minutes: u64,
    },
    /// A message is redriven, whatever its state.
    Redrive {
        choice: u8,
    },
    Restart,
    /// Our clock is set, Partner Center's is not.
    SetClock {
        hours: i64,
    },
    /// The machine sleeps.
    Suspend {
        hours: u64,
    },
    /// Writes fail for a moment: while polls and deliveries begin, or while a message is in flight.
    Obstruct {
        full: bool,
        sending: bool,
        choice: u8,
    },
    /// An endpoint leaves the configuration, and comes back.
    Leave {
        minutes: u64,
    },
}

#[derive(Debug, Clone, Copy)]
enum HookFate {
    Ok,
    Status(u16),
    CloseAfter,
    Down,
}

#[derive(Debug, Clone, Copy)]
enum MailFate {
    Ok,
    Later,
    TakeThenClose,
    Down,
}

fn step() -> impl Strategy<Value = Step> {
    let hook = prop_oneof![
        4 => Just(HookFate::Ok),
        1 => Just(HookFate::Status(500)),
        1 => Just(HookFate::Status(404)),
        1 => Just(HookFate::CloseAfter),
        1 => Just(HookFate::Down),
    ];
    let mail = prop_oneof![
        4 => Just(MailFate::Ok),
        1 => Just(MailFate::Later),
        1 => Just(MailFate::TakeThenClose),
        1 => Just(MailFate::Down),
    ];
    prop_oneof![
        6 => (0..CUSTOMERS, any::<u8>()).prop_map(|(customer, choice)| Step::Vet { customer, choice }),
        6 => (prop::sample::select(vec![3_u64, 16, 1500]), prop::option::weighted(0.3, any::<u8>()))
            .prop_map(|(minutes, fault)| Step::Poll { minutes, fault }),
        1 => Just(Step::DieAsking),
        4 => (hook, mail).prop_map(|(hook, mail)| Step::Deliver { hook, mail }),
        1 => any::<bool>().prop_map(|hang| Step::DieSending { hang }),
        1 => (1_u64..3000).prop_map(|minutes| Step::Pass { minutes }),
        1 => any::<u8>().prop_map(|choice| Step::Redrive { choice }),
        1 => Just(Step::Restart),
        1 => (-60_i64..60).prop_map(|hours| Step::SetClock { hours }),
        1 => (-60_i64..60).prop_map(|days| Step::SetClock { hours: days * 24 }),
        1 => (1_u64..24 * 60).prop_map(|hours| Step::Suspend { hours }),
        2 => any::<(bool, bool, u8)>().prop_map(|(full, sending, choice)| Step::Obstruct { full, sending, choice }),
        1 => (1_u64..60).prop_map(|minutes| Step::Leave { minutes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_verdict_that_was_seen_is_told_once_whatever_happens(steps in prop::collection::vec(step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(steps))?;
    }
}

/// `tests/campaign sequences N` runs more.
fn cases() -> u32 {
    std::env::var("VETWATCH_SEQUENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    // Longer than a case runs. Suspends and clock changes are longer still.
    let more = "[retry]\ngive_up_after = \"30d\"\n[overdue]\nbusiness_days = []";
    let outside = tempfile::tempdir().unwrap();
    let disk = Disk::mount(outside.path().join("disk")); // gone after the world
    let folder = TempDir::new_in(disk.as_ref().map_or(outside.path(), |disk| &disk.0)).unwrap();
    let mut world = World::edited_in(folder, "", more, |text| with_digests(&text)).await;
    let mut reviews = Vec::new();
    for n in 0..CUSTOMERS {
        reviews.push(Review { id: world.customer(&format!("School {n}")).await, state: "absent" });
    }
    let mut models = vec![Model::default(); CUSTOMERS];
    let mut repeats = Repeats::default();
    world.poll().await;
    for step in steps {
        take(&mut world, &mut reviews, &step, &mut repeats, disk.as_ref()).await;
        observe(&world, &reviews, &mut models).await;
    }
    // Everything works again, and time passes.
    clear(&world).await;
    world.restart().await;
    for _ in 0..40 {
        world.pass(hours(6)); // ten days: longer than the longest interval and any clock that was set back
        world.poll().await;
        world.deliver().await;
        observe(&world, &reviews, &mut models).await;
    }

    let ranks = world.rows("select id from event order by rowid").await;
    let ranks: Ranks = ranks.into_iter().enumerate().map(|(rank, id)| (id, rank)).collect();
    let digests = digests(&world, &repeats, &ranks)?;
    for (n, (review, model)) in reviews.iter().zip(&models).enumerate() {
        prop_assert_eq!(&state_of(&world, &review.id).await, review.state, "the state of school {}", n);
        let name = format!("School {n}");
        let mut hooked = Told::default();
        for hook in world.hook.hooks() {
            let json = hook.json();
            let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
            if hook.path == "/hook" && text("/data/customer/name") == name {
                let news = format!("{} {}", text("/type"), text("/data/vetting_reason"));
                hooked.arrived(hook.id().unwrap(), &text("/data/event_id"), &news, hook.answered == Some(200));
            }
        }
        prop_assert_eq!(&hooked.in_order(&ranks), &model.news, "webhooks of {}", &name);
        let events: BTreeSet<_> = hooked.by_id.values().map(|arrival| &arrival.event).collect();
        prop_assert_eq!(events.len(), hooked.by_id.len(), "an event under two ids");
        let again = hooked.by_id.values().map(|arrival| arrival.accepted.saturating_sub(1)).sum::<u32>();
        prop_assert!(again <= repeats.allowed(), "{} repeats of accepted webhooks, {:?}", again, &repeats);
        prop_assert_eq!(mail_subjects(&world, &name).await, model.news.len(), "mails about {}", &name);
        let grouped: Vec<&String> =
            digests.values().filter(|(about, _)| *about == name).map(|(_, news)| news).collect();
        prop_assert_eq!(grouped, model.news.iter().collect::<Vec<_>>(), "in digests, of {}", &name);
    }
    let unfinished =
        world.rows("select endpoint, state, last_error from v_deliveries where state <> 'delivered'").await;
    prop_assert_eq!(unfinished, [""; 0]);
    Ok(())
}

/// Rank of each event, by id.
type Ranks = BTreeMap<String, usize>;

/// Messages that may have arrived more than once.
#[derive(Debug, Default)]
struct Repeats {
    /// Deaths of the process while it was sending.
    deaths: u32,
    /// Ids of redriven messages.
    redriven: Vec<String>,
}

impl Repeats {
    fn allowed(&self) -> u32 {
        self.deaths + u32::try_from(self.redriven.len()).unwrap()
    }
}

/// A third endpoint, at another path of the receiver, with grouping and quiet hours at night.
fn with_digests(text: &str) -> String {
    let url = text.split_once("\nurl = \"").and_then(|(_, rest)| rest.split_once("/hook\"")).unwrap().0.to_owned();
    text.replace("[operators]", &format!(
        "[[endpoint]]\nname = \"grouped\"\nkind = \"webhook\"\nurl = \"{url}/grouped\"\nsecret_file = \"signing-secret\"\n\
         [[route]]\nevents = [\"vetting.approved\", \"vetting.denied\", \"vetting.revoked\", \"vetting.vanished\"]\n\
         endpoints = [\"grouped\"]\ngroup_wait = \"40m\"\nquiet_hours = \"{}-{}\"\n[operators]", QUIET.0, QUIET.1
    ))
}

const QUIET: (&str, &str) = ("18:00", "07:00");

/// The events in digests, in order: customer and type. Asserts that each came under one id, and that only redriven ones
/// came at night.
fn digests(
    world: &World,
    repeats: &Repeats,
    ranks: &Ranks,
) -> Result<BTreeMap<usize, (String, String)>, TestCaseError> {
    let mut told: BTreeMap<usize, (String, String)> = BTreeMap::new();
    let mut under: BTreeMap<String, String> = BTreeMap::new();
    for hook in world.hook.hooks().into_iter().filter(|hook| hook.path == "/grouped") {
        let (json, id) = (hook.json(), hook.id().unwrap().to_owned());
        let time = hook.received_at.to_utc().format("%H:%M").to_string();
        let asleep = time.as_str() >= QUIET.0 || time.as_str() < QUIET.1;
        prop_assert!(!asleep || repeats.redriven.contains(&id), "somebody was woken at {}", time);
        let one = json.pointer("/data/event_id").is_some().then(|| vec![json["data"].clone()]);
        for event in one.unwrap_or_else(|| json["data"]["events"].as_array().unwrap().clone()) {
            let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
            let kind = event.get("type").unwrap_or(&json["type"]).as_str().unwrap().to_owned();
            let news = (text("/customer/name"), format!("{kind} {}", text("/vetting_reason")));
            prop_assert_eq!(
                under.entry(text("/event_id")).or_insert_with(|| id.clone()),
                &id,
                "an event under two ids"
            );
            prop_assert_eq!(told.entry(ranks[&text("/event_id")]).or_insert_with(|| news.clone()), &news);
        }
    }
    Ok(told)
}

/// A customer's events that arrived by mail, each under one `Message-ID`.
async fn mail_subjects(world: &World, name: &str) -> usize {
    let mails = world.mail.mails();
    let sql = format!(
        "select de.delivery from delivery_event de join event e on e.id = de.event join customer c on c.id = e.customer
         where de.endpoint = 'sales-mail' and c.name = '{name}'"
    );
    let has_arrived = |id: &&String| {
        let of_it = mails.iter().filter(|mail| mail.text().contains(&format!("Message-ID: <{id}@")));
        of_it.map(plain_text).any(|text| text.contains(name))
    };
    world.rows(&sql).await.iter().filter(has_arrived).count()
}

async fn take(world: &mut World, reviews: &mut [Review], step: &Step, repeats: &mut Repeats, disk: Option<&Disk>) {
    match *step {
        Step::Vet { customer, choice } => reviews[customer].go_on(world, choice).await,
        Step::Poll { minutes: n, fault } => {
            if let Some(choice) = fault {
                let faults = [
                    Fault::Garbage,
                    Fault::Empty,
                    Fault::Cut,
                    Fault::status(500),
                    Fault::status(403),
                    Fault::throttled(seconds(90)),
                ];
                let fault = faults[usize::from(choice) % faults.len()].clone();
                world.sandbox.fault(FaultRule::on(Kind::Qualifications, fault).times(u64::from(choice % 3) + 1));
            }
            world.pass(minutes(n));
            world.poll().await;
            world.sandbox.clear_faults();
        }
        Step::DieAsking => {
            let asked = world.sandbox.count(Kind::Qualifications);
            world.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::Hold { stale: false }));
            world.pass(minutes(16));
            let poller = &world.parts.partners[0].poller;
            tokio::select! {
                round = poller.round() => drop(round.unwrap()), // no customer was due
                arrived = world.sandbox.wait_for_requests(Kind::Qualifications, asked + 1, seconds(20)) => arrived.unwrap(),
            }
            world.restart().await;
            world.sandbox.clear_faults();
        }
        Step::Deliver { hook, mail } => {
            match hook {
                HookFate::Ok => {}
                HookFate::Status(status) => world.hook.script(WebhookAction::status(status), Some(2)),
                HookFate::CloseAfter => world.hook.script(WebhookAction::CloseAfter, Some(1)),
                HookFate::Down => world.hook.stop().await.unwrap(),
            }
            match mail {
                MailFate::Ok => {}
                MailFate::Later => {
                    world.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("451 4.7.1 later".into())).times(2));
                }
                MailFate::TakeThenClose => {
                    world.mail.script(MailRule::at(Stage::Message, SmtpAction::TakeThenClose).times(1));
                }
                MailFate::Down => world.mail.stop().await.unwrap(),
            }
            world.deliver().await;
            clear(world).await;
        }
        Step::DieSending { hang } => {
            repeats.deaths += 1;
            let arrived = world.hook.hooks().len();
            if hang {
                world.hook.script(WebhookAction::Hang, Some(1));
            }
            tokio::select! {
                round = world.parts.endpoints[1].dispatcher.round() => drop(round.unwrap()), // nothing was due, or it was too quick
                hooks = world.hook.wait_for(arrived + 1, seconds(20)) => drop(hooks.unwrap()),
            }
            world.restart().await;
            clear(world).await;
        }
        Step::Pass { minutes: n } => world.pass(minutes(n)),
        Step::Redrive { choice } => {
            let ids = world.rows("select delivery_id from v_deliveries order by created_at, delivery_id").await;
            let Some(id) = ids.get(usize::from(choice) % ids.len().max(1)) else { return };
            let mut tx = world.store.begin().await.unwrap();
            tx.redrive(Redrive::One { id, force: true }, world.clock.now()).await.unwrap();
            tx.commit().await.unwrap();
            repeats.redriven.push(id.clone());
        }
        Step::Restart => world.restart().await,
        Step::Suspend { hours: n } => world.suspend(hours(n)),
        Step::Obstruct { full, sending, choice } => {
            let customer = usize::from(choice) % CUSTOMERS;
            reviews[customer].go_on(world, choice / 3).await;
            if sending {
                world.pass(minutes(16));
                world.poll().await;
            }
            let obstacle = match disk {
                Some(disk) if full => Obstacle::Full(disk),
                _ => Obstacle::Held(&world.config.database),
            };
            obstruct(world, obstacle, sending).await;
        }
        Step::Leave { minutes: n } => leave(world, n).await,
        Step::SetClock { hours: by } => {
            let now = world.clock.now();
            world.clock.set(if by < 0 {
                now.before(hours(by.unsigned_abs()))
            } else {
                now.after(hours(by.unsigned_abs()))
            });
        }
    }
}

/// Why writes fail.
enum Obstacle<'a> {
    Full(&'a Disk),
    Held(&'a Path),
}

impl Obstacle<'_> {
    async fn stay(&self, time: Duration) {
        match self {
            Self::Full(disk) => {
                disk.fill();
                tokio::time::sleep(time).await;
                disk.empty();
            }
            Self::Held(database) => {
                let mut holder = SqliteConnectOptions::new().filename(database).connect().await.unwrap();
                query("begin immediate").execute(&mut holder).await.unwrap();
                tokio::time::sleep(time).await;
                query("rollback").execute(&mut holder).await.unwrap();
            }
        }
    }
}

/// Nothing fails permanently, and a message accepted meanwhile is not sent again.
async fn obstruct(world: &World, obstacle: Obstacle<'_>, sending: bool) {
    world.pass(minutes(16));
    world.note_running().await;
    let arrived = world.hook.hooks().len();
    if sending {
        world.hook.script(WebhookAction::Delay(Duration::from_millis(150)), Some(1));
    }
    let work = async {
        for PartnerParts { poller, .. } in world.parts.partners.iter().filter(|_| !sending) {
            let round = poller.round().await;
            assert!(round.as_ref().err().is_none_or(|error| !error.is_damage()), "{round:?}");
        }
        for EndpointParts { dispatcher, .. } in &world.parts.endpoints {
            let round = dispatcher.round().await;
            assert!(round.as_ref().err().is_none_or(|error| !error.is_damage()), "{round:?}");
        }
    };
    let obstruct = async {
        if !sending || world.hook.wait_for(arrived + 1, Duration::from_millis(50)).await.is_ok() {
            obstacle.stay(Duration::from_millis(300)).await;
        }
    };
    // First the obstacle.
    tokio::join!(biased; obstruct, work);
    world.hook.clear_script();
}

/// Alerts about anything pending there have already been sent to the operators.
async fn leave(world: &mut World, n: u64) {
    let whole = world.config.clone();
    world.without("grouped").await;
    for _ in 0..2 {
        world.watch().await;
        world.deliver().await;
        world.pass(minutes(n));
    }
    world.config = whole;
    world.restart().await;
}

async fn clear(world: &World) {
    world.hook.clear_script();
    world.mail.clear_script();
    world.hook.start_again().await.unwrap();
    world.mail.start_again().await.unwrap();
}

/// The state at Partner Center.
#[derive(Debug)]
struct Review {
    id: String,
    state: &'static str,
}

impl Review {
    async fn go_on(&mut self, world: &World, choice: u8) {
        world.pass(minutes(1)); // no two reviews begin in the same second
        // A verdict without a date that may be an old one waits for confirmations, which the model does not know.
        let waits = format!(
            "select o.id from qualification_state o join customer c on c.id = o.customer
             where c.customer_id = '{}' and o.pending_since is not null",
            self.id
        );
        if !world.rows(&waits).await.is_empty() {
            return;
        }
        let reason = REASONS[usize::from(choice / 8) % REASONS.len()];
        let sandbox = &world.sandbox;
        // An entry is removed only after its denial was seen: the model does not know confirmations.
        let denial_was_seen = state_of(world, &self.id).await == "Denied";
        let (state, done) = match (self.state, choice % 2) {
            ("absent", _) | ("Denied", 0) => ("InReview", sandbox.submit(&self.id)),
            ("InReview", 0) => ("Approved", sandbox.approve(&self.id)),
            ("InReview" | "Approved", _) => ("Denied", sandbox.deny(&self.id, reason)),
            _ if denial_was_seen => ("absent", sandbox.withdraw(&self.id)),
            _ => ("InReview", sandbox.submit(&self.id)),
        };
        done.unwrap();
        self.state = state;
    }
}

/// Feeds each model the latest observations.
async fn observe(world: &World, reviews: &[Review], models: &mut [Model]) {
    for (review, model) in reviews.iter().zip(models) {
        let answer =
            world.rows(&format!("select response from customer where customer_id = '{}'", review.id)).await.remove(0);
        if answer != "null" {
            model.sees(serde_json::from_str(&answer).unwrap(), world.clock.now().as_secs());
        }
    }
}

async fn state_of(world: &World, id: &str) -> String {
    let sql = format!("select vetting_status from v_current where customer_id = '{id}'");
    world.rows(&sql).await.pop().unwrap_or_else(|| "absent".to_owned())
}

/// Expected notifications of a customer, given its observed states. Naive: one qualification, correct dates.
#[derive(Debug, Clone, Default)]
struct Model {
    last: Value,
    review: Option<i64>,
    attempt: u32,
    told: Option<(&'static str, u32, String)>,
    told_at: i64,
    news: Vec<String>,
}

impl Model {
    /// `answer`: rows of qualification, status, reason, create date.
    fn sees(&mut self, answer: Value, now: i64) {
        if answer == self.last {
            return;
        }
        let entry = answer.get(0).cloned();
        let is_back = self.last.get(0).is_none();
        self.last = answer;
        let Some(entry) = entry else { return };
        let (status, reason) = (entry[1].as_str().unwrap().to_owned(), entry[2].as_str().unwrap_or("-").to_owned());
        let date = entry[3].as_i64();
        let is_new = self.attempt == 0
            || date.zip(self.review).is_some_and(|(date, review)| {
                // Dates less than an hour apart are one review, unless its verdict was seen in between.
                let is_over = self.told.as_ref().is_some_and(|(_, attempt, _)| *attempt == self.attempt);
                let is_other = date >= self.told_at || date - review >= 60;
                let is_next = is_back || (is_over && (status == "inreview" || is_other));
                date > review && (is_next || date - review >= 3600)
            })
            || (date.is_some() && self.review.is_none() && status == "inreview");
        if is_new {
            self.attempt += 1;
            self.review = date;
        }
        self.review = self.review.or(date);
        let said = REASONS.iter().find(|known| known.to_lowercase() == reason).unwrap_or(&"-");
        let event = match (status.as_str(), &self.told) {
            ("approved", Some(("Approved", attempt, _))) if *attempt == self.attempt => None,
            ("approved", _) => Some(("Approved", "vetting.approved")),
            ("denied", Some(("Approved", ..))) => Some(("Denied", "vetting.revoked")),
            ("denied", Some(("Denied", attempt, told))) if *attempt == self.attempt && *told == reason => None,
            ("denied", _) => Some(("Denied", "vetting.denied")),
            _ => None,
        };
        if let Some((verdict, event)) = event {
            self.told = Some((verdict, self.attempt, reason));
            self.told_at = now;
            self.news.push(format!("{event} {said}"));
        }
    }
}

/// Arrivals by id, in the order of their events.
#[derive(Debug, Default)]
struct Told {
    by_id: BTreeMap<String, Arrival>,
}

#[derive(Debug)]
struct Arrival {
    event: String,
    news: String,
    accepted: u32,
}

impl Told {
    fn arrived(&mut self, id: &str, event: &str, news: &str, accepted: bool) {
        let arrival = self.by_id.entry(id.to_owned()).or_insert_with(|| Arrival {
            event: event.to_owned(),
            news: news.to_owned(),
            accepted: 0,
        });
        assert_eq!((arrival.event.as_str(), arrival.news.as_str()), (event, news), "one id, two messages");
        arrival.accepted += u32::from(accepted);
    }

    /// In the order in which it happened.
    fn in_order(&self, ranks: &Ranks) -> Vec<String> {
        let mut arrivals: Vec<_> = self.by_id.values().collect();
        arrivals.sort_by_key(|arrival| ranks[&arrival.event]);
        arrivals.into_iter().map(|arrival| arrival.news.clone()).collect()
    }
}
