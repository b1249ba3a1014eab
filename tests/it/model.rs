//! Random sequences from a model of Partner Center: **every verdict that stays visible for two polls is notified
//! exactly once, and nothing else is.**
//!
//! The model decides about some customers (reviews, verdicts, second reviews, revocations, entries that vanish and
//! return) and exposes vetwatch to what a daemon meets: unusual responses, failures, outages, lagging replicas, spells
//! of `200 []`, restarts, crashes, clock changes, a receiver that fails. The expected notifications follow from the
//! model's decisions and the sandbox's request log, never from vetwatch's own state or code.
//!
//! *Visible for a poll* is what a good response shows (200, complete, of a documented shape) that is current. A
//! response from a lagging replica, or one overtaken by a newer one, is no poll: what only it shows is optional. One
//! poll suffices in fact, and the notification must have its time; two are promised.
//!
//! - A verdict (approved, denied, revoked) is visible while its entry is. The same one again is not notified; with
//!   `- After Review` in its reason it is another. Without create dates only an `InReview` between marks a new review.
//! - Some customers' verdicts are dated seconds or hours before (or after) their reviews. One that is an hour early,
//!   or may be the previous one, is visible once one or two confirmations have shown it, as for an absence.
//! - An absence is visible for two polls if consecutive responses show it two minutes apart, for an approval a third
//!   an hour later: then `InReview` has vanished and an approval is revoked; or at a later poll, once others that hold an
//!   entry were polled (control polls). So is an early verdict. A `Denied` that vanishes is not notified.
//! - Replicas lag only behind states that can be told from changes. One that shows an approval again after its
//!   revocation, or a reason before `- After Review`, is indistinguishable from a change.
//! - At most five customers lose entries: mass absences have their own tests (see `polling`).
//!
//! `VETWATCH_SEED=N VETWATCH_CASES=1` repeats a case, `tests/campaign model N` plays N of them.

mod reader;
mod trouble;
mod truth;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;
use vetwatch::qualification::key;
use vetwatch::sandbox::{Kind, Record, RequestLog, Shown};
use vetwatch::time::{Clock, Timestamp};

use self::reader::News;
use self::truth::{Customer, Dates};
use crate::world::{World, hours, minutes, seconds};

/// Number of cases and first seed, unless `VETWATCH_CASES` or `VETWATCH_SEED` is set.
const CASES: u64 = 120;
const SEED: u64 = 20_261_121;
/// Combinations of polls of one qualification that would confirm an absence or an early verdict, and come before the control
/// polls.
const DELAYS: u32 = 64;
/// Number of steps in a case.
const STEPS: u32 = 40;

#[test]
fn every_verdict_that_stays_visible_for_two_polls_is_told_exactly_once_and_nothing_else_is() {
    let given = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |given| given.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (cases, seed) = (given("VETWATCH_CASES", CASES), given("VETWATCH_SEED", SEED));
    eprintln!("VETWATCH_SEED={seed}");
    let (began, next, told) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(8) {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases || failed.load(Ordering::Relaxed) != u64::MAX {
                        break;
                    }
                    let number = seed.wrapping_add(case);
                    match catch_unwind(AssertUnwindSafe(|| play(number))) {
                        Ok(news) => drop(told.fetch_add(news, Ordering::Relaxed)),
                        Err(panic) => {
                            failed.store(number, Ordering::Relaxed);
                            eprintln!("repeat with VETWATCH_SEED={number} VETWATCH_CASES=1");
                            resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    let told = told.into_inner();
    eprintln!("{cases} cases in {:?}, {told} messages", began.elapsed());
    assert!(told > cases * 5, "hardly anything was told: {told} messages in {cases} cases");
}

/// Runs one case; returns the number of messages.
fn play(seed: u64) -> u64 {
    fastrand::seed(seed); // this thread's jitter
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut model = Model::new(seed).await;
        for _ in 0..STEPS {
            model.step().await;
        }
        model.settle().await;
        model.judge().await
    })
}

/// A good response about a customer.
struct Answer {
    /// By our clock.
    ours: Timestamp,
    /// By a clock that is never set.
    passed: Timestamp,
    /// Shows the state at this time of Partner Center's clock.
    theirs: Timestamp,
    current: bool,
    nothing: bool,
}

struct Model {
    world: World,
    rng: Rng,
    customers: Vec<Customer>,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    answers: BTreeMap<String, Vec<Answer>>,
    /// Position in the request log.
    read: u64,
    /// Lag of the replicas, while some lag.
    lag: Duration,
    /// The steps so far, for the message of a failure.
    diary: String,
}

impl Model {
    async fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Dead deliveries have tests of their own.
        let mut world = World::with("", "[retry]\ngive_up_after = \"3000d\"").await;
        let count = if rng.u8(..10) == 0 { rng.usize(8..=20) } else { rng.usize(5..=7) };
        let mut customers = Vec::new();
        for n in 0..count {
            let id = world.customer(&format!("School {n}")).await;
            let others = *rng.choice(&[10, -3, 1800, 2 * 3600, 15 * 3600]).unwrap();
            let dates =
                [Dates::Always, Dates::Always, Dates::NotOnApproval, Dates::Never, Dates::VerdictsEarlier(others)];
            let dates = *rng.choice(&dates).unwrap();
            let mut customer = Customer::new(id, dates, n < 5);
            let now = world.theirs();
            if rng.u8(..4) == 0 {
                customer.declare(&world.sandbox);
            }
            customer.hold("Education", &mut rng, &world.sandbox, now);
            if rng.u8(..3) == 0 {
                customer.hold("GovernmentCommunityCloud", &mut rng, &world.sandbox, now);
            }
            customers.push(customer);
        }
        let mut model = Self { world, rng, customers, seen: Seen::default() };
        model.poll().await; // the baseline
        model
    }

    async fn step(&mut self) {
        match self.rng.u8(..100) {
            0..45 => self.decide(),
            45..70 => self.run().await,
            70..82 => self.run_in_trouble().await,
            82..90 => self.deliver_in_trouble().await,
            90..93 => self.outage().await,
            93..95 => self.overtake().await,
            95..97 => self.die_asking().await,
            97 => self.set_clock().await,
            98 => self.poll_now().await,
            _ => {
                self.seen.note(&self.world, "restart");
                self.world.restart().await;
            }
        }
    }

    /// Advances some customers.
    fn decide(&mut self) {
        for _ in 0..self.rng.u8(1..4) {
            // No two reviews begin in the same second.
            let wait = seconds(self.rng.u64(1..90));
            self.world.pass(wait);
            let index = self.rng.usize(..self.customers.len());
            self.decide_about(index);
        }
    }

    fn decide_about(&mut self, index: usize) {
        let now = self.world.theirs();
        self.customers[index].go_on(&mut self.rng, &self.world.sandbox, now);
    }

    /// Lets time pass, and polls.
    async fn run(&mut self) {
        let (every, times) =
            *self.rng.choice(&[(1, 3), (3, 2), (16, 1), (16, 2), (65, 1), (65, 2), (25 * 60, 1)]).unwrap();
        for _ in 0..times {
            self.pass_and_poll(minutes(every)).await;
            if self.rng.u8(..6) == 0 {
                self.poll_now().await;
            }
        }
    }

    /// Polls customers before they are due.
    async fn poll_now(&mut self) {
        let wait = seconds(self.rng.u64(5..200));
        self.world.pass(wait);
        self.seen.note(&self.world, "all are asked by hand");
        let poller = &self.world.parts.partners[0].poller;
        let rows = self.world.store.watched(poller.partner.id).await.unwrap();
        poller.poll_now(&rows).await.unwrap();
        self.seen.read(&self.world);
    }

    async fn pass_and_poll(&mut self, time: Duration) {
        self.world.pass(time);
        self.poll().await;
    }

    async fn poll(&mut self) {
        self.world.poll().await;
        self.seen.read(&self.world);
    }

    /// A daemon checks its clock every 20 seconds, so it notices.
    async fn set_clock(&mut self) {
        let now = self.world.clock.now();
        let by = if self.rng.bool() { seconds(self.rng.u64(1..100)) } else { minutes(self.rng.u64(2..300)) };
        self.seen.note(&self.world, &format!("the clock is set by {by:?}"));
        self.world.clock.set(if self.rng.bool() { now.before(by) } else { now.after(by) });
        let World { store, parts, clock, .. } = &self.world;
        store.follow_clock(&parts.alerts.clock_watch, &**clock).await.expect("a look at the clock");
    }

    /// Only to the receiver: mails are slower, and `sequence` has them.
    async fn deliver(&self) {
        let crm = &self.world.parts.endpoints[1].dispatcher;
        while crm.round().await.expect("a round").next.is_some_and(|next| next <= self.world.clock.now()) {}
    }

    /// Ends all faults, and lets more than the longest interval pass.
    async fn settle(&mut self) {
        self.seen.note(&self.world, "the dust settles");
        self.world.sandbox.clear_quirks();
        self.world.restart().await;
        for wait in [hours(25), hours(8 * 24)] {
            // With the time for two confirmations.
            for wait in [wait, minutes(3), minutes(65)] {
                self.pass_and_poll(wait).await;
            }
            self.deliver().await;
        }
        self.deliver().await;
    }

    /// Compares what was notified with what was expected.
    async fn judge(&self) -> u64 {
        let mut count = 0;
        let told = self.told(&self.world.rows("select id from event order by rowid").await);
        let about = "customer_id || ' ' || lower(replace(qualification, '_', ''))";
        let current = self.world.rows(&format!("select {about}, vetting_status from v_current")).await;
        let changes = format!("select {about}, to_status from v_transitions order by transition_id");
        let changes = self.world.rows(&changes).await;
        // Of each change the answer that it was read from: the diary has it, too.
        let evidence =
            "select v.customer_id, v.observed_at, v.to_status, t.correlation_id, t.raw_answer from transition t
                        join v_transitions v on v.transition_id = t.id order by t.id";
        let evidence = self.world.rows(evidence).await;
        for customer in &self.customers {
            let others = self.seen.answers.iter().filter(|(id, _)| **id != customer.id);
            let others: Vec<Vec<_>> = others.map(|(_, answers)| answers.iter().map(|a| a.passed).collect()).collect();
            let lacks = |from: Timestamp, until: Timestamp| {
                others.iter().any(|polls| !polls.iter().any(|at| *at >= from && *at < until))
            };
            for track in &customer.tracks {
                let answers = self.seen.answers[&customer.id].iter();
                let answers = answers.map(|a| ((a.ours, a.passed), (!a.nothing).then_some(a.theirs), a.current));
                let nobody = Vec::new();
                let told = told.get(&(customer.id.clone(), key(track.qualification))).unwrap_or(&nobody);
                count += told.len() as u64;
                let about = format!("{} {}", customer.id, key(track.qualification));
                let of = |rows: &[String]| -> Vec<String> {
                    let row = |row: &String| Some(key(row.strip_prefix(&about)?.strip_prefix(" | ")?));
                    rows.iter().filter_map(row).collect()
                };
                let recorded = of(&changes);
                let is_it = |reader: &reader::Reader| {
                    matches(&reader.news, told)
                        && reader.changes.iter().map(|word| key(word)).eq(recorded.iter().cloned())
                };
                let mut readings = (0..DELAYS).map(|delays| reader::read(track, answers.clone(), delays, lacks));
                let reader = readings.find(is_it).unwrap_or_else(|| reader::read(track, answers.clone(), 0, lacks));
                let story = || {
                    let about = |line: &&str| line.contains(&customer.id[..8]) || !line.contains(" answered ");
                    let diary: Vec<_> = self.seen.diary.lines().filter(about).collect();
                    format!(
                        "{} {}, dates {:?}\nstory: {:#?}\n{}\nto be told: {:#?}\ntold: {told:#?}\nread from: {:#?}",
                        customer.id,
                        track.qualification,
                        customer.dates,
                        track.story,
                        diary.join("\n"),
                        reader.news,
                        evidence.iter().filter(|row| row.starts_with(&customer.id)).collect::<Vec<_>>()
                    )
                };
                assert!(matches(&reader.news, told), "{}", story());
                let state = of(&current).pop().unwrap_or_else(|| key("absent"));
                assert_eq!(state, key(track.now().word()), "the final state; {}", story());
                let seen: Vec<_> = reader.changes.iter().map(|word| key(word)).collect();
                assert_eq!(recorded, seen, "what changed; {}", story());
            }
        }
        let unfinished = "select last_error from v_deliveries where endpoint = 'crm' and state <> 'delivered'";
        assert_eq!(self.world.rows(unfinished).await, [""; 0]);
        count
    }

    /// Received notifications by customer and qualification, in the order of their events. Panics if one came twice.
    fn told(&self, order: &[String]) -> BTreeMap<(String, String), Vec<News>> {
        let (mut ids, mut events) = (BTreeMap::<String, u32>::new(), BTreeMap::new());
        for hook in self.world.hook.hooks() {
            let json = hook.json();
            let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
            // A message may be unread when its connection is closed.
            if hook.answered != Some(200) || !text("/type").starts_with("vetting.") {
                continue;
            }
            let id = hook.id().unwrap().to_owned();
            *ids.entry(id.clone()).or_default() += 1;
            let at: Timestamp = serde_json::from_value(json["data"]["observed_at"].clone()).unwrap();
            let news = News {
                at,
                text: format!("{} {}", text("/type"), text("/data/vetting_reason")),
                attempt: json["data"]["attempt"].as_u64().and_then(|n| n.try_into().ok()).expect("an attempt"),
                created: serde_json::from_value::<Option<Timestamp>>(json["data"]["vetting_created_at"].clone())
                    .unwrap()
                    .map(Timestamp::as_secs),
                sure: true,
            };
            let about = (text("/data/customer/id"), key(&text("/data/qualification")));
            let other = events.insert(text("/data/event_id"), (id.clone(), about, news));
            assert!(other.is_none_or(|(known, ..)| known == id), "an event under two ids");
        }
        assert!(ids.values().all(|times| *times == 1), "a message was taken twice: {ids:?}");
        let mut told = BTreeMap::<_, Vec<News>>::new();
        for (_, about, news) in order.iter().filter_map(|id| events.remove(id)) {
            told.entry(about).or_default().push(news);
        }
        assert!(events.is_empty(), "told, and not stored: {events:?}");
        told
    }
}

impl Seen {
    /// Takes over the responses since the last call, before any clock moves.
    fn read(&mut self, world: &World) {
        let ours = world.clock.now();
        let (read, lag) = (self.read, self.lag);
        let found: Vec<_> = world.sandbox.log(|log| {
            let new = log.after(read).filter(|record| record.kind == Kind::Qualifications);
            let good = new.filter(|record| record.fault.is_none() && record.status == Some(200));
            good.cloned().collect()
        });
        self.read = world.sandbox.log(RequestLog::last);
        for Record { customer, at, shown, body, correlation_id, .. } in found {
            let id = customer.expect("a customer");
            let (theirs, current) = if shown == Shown::Past { (at.before(lag), false) } else { (at, true) };
            let answer = Answer { ours, passed: at, theirs, current, nothing: shown == Shown::Nothing };
            let (body, correlation) = (String::from_utf8_lossy(&body), correlation_id.unwrap_or_default());
            let _ = writeln!(self.diary, "{ours} {} answered {theirs} {shown:?} ({correlation}): {body}", &id[..8]);
            self.answers.entry(id).or_default().push(answer);
        }
    }

    fn note(&mut self, world: &World, what: &str) {
        let _ = writeln!(self.diary, "{} {what}", world.clock.now());
    }
}

/// True if all required notifications came, in this order, and only optional ones beside them.
fn matches(wanted: &[News], told: &[News]) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return told.is_empty() };
    let is_told = told.first().is_some_and(|told| {
        (told.at, &told.text, told.created) == (first.at, &first.text, first.created) && told.attempt == first.attempt
    });
    (is_told && matches(rest, &told[1..])) || (!first.sure && matches(rest, told))
}
