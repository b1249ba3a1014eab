//! A large partner over time: how often Partner Center is polled, by hour and by minute, and how soon changes are
//! notified. In these tests the clock runs as fast as the polls are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use vetwatch::sandbox::{Bulk, Kind, Operation, Quirk, QuirkRule, Step};
use vetwatch::store::customers::{Imported, ImportedCustomer};
use vetwatch::time::{Clock, Timestamp};

use crate::world::{START, World, hours, minutes};

/// Maximum pause between checks for due customers; a notification may be this much later than the interval.
const TICK: Duration = Duration::from_mins(1);
const IN_REVIEW: Duration = Duration::from_mins(15);

/// Limits of product.md for 5,000 customers, 50 in review and 450 settled, with one page of the activity log per scan.
const CALLS_AN_HOUR: u64 = 300;

/// A partner with this many customers: in review, settled (alternately approved and denied), without a qualification.
/// None has been polled.
struct DaemonHarness {
    world: World,
    ids: Vec<String>,
    in_review: usize,
}

impl DaemonHarness {
    async fn of(bulk: Bulk, requests_per_minute: u32) -> Self {
        let mut world = World::new().await;
        let ids = world.sandbox.add_customers(bulk);
        let customer = |id: &String| ImportedCustomer {
            id: id.clone(),
            name: Some(id.clone()),
            domain: None,
            tags: None,
            contact: None,
        };
        let customers: Vec<_> = ids.iter().map(customer).collect();
        let mut tx = world.store.begin().await.unwrap();
        let mut imported = Imported::default();
        tx.import_customers("emea", &customers, world.clock.now(), &mut imported).await.unwrap();
        tx.commit().await.unwrap();
        world.config.partners[0].requests_per_minute = requests_per_minute;
        world.restart().await;
        Self { world, ids, in_review: bulk.in_review }
    }

    /// Runs the daemon for this long.
    async fn run(&self, time: Duration) {
        let end = self.world.theirs().after(time);
        let (partner, log) = (&self.world.parts.partners[0].poller, &self.world.parts.partners[0].activity_log);
        loop {
            let (now, theirs) = (self.world.clock.now(), self.world.theirs());
            log.round().await.unwrap();
            let round = partner.round().await.unwrap();
            if round.transitions > 0 {
                self.deliver().await;
            }
            let wait = match round.next {
                Some(next) if next <= now => continue,
                // The budget is spent.
                Some(next) if partner.budget.available(now) == 0 => next.since(now).min(TICK),
                _ => TICK,
            };
            if theirs >= end {
                return;
            }
            self.world.pass(wait.min(end.since(theirs)));
        }
    }

    async fn deliver(&self) {
        let crm = &self.world.parts.endpoints[1].dispatcher;
        while crm.round().await.unwrap().next.is_some_and(|next| next <= self.world.clock.now()) {}
    }

    /// Verdicts for the customers in review, at random times within `time` from now: time and customer.
    fn verdicts(&self, count: usize, time: Duration, rng: &mut Rng) -> BTreeMap<String, Timestamp> {
        let mut ids: Vec<_> = self.ids[..self.in_review].to_vec();
        rng.shuffle(&mut ids);
        let mut fall = BTreeMap::new();
        for id in ids.into_iter().take(count) {
            let wait = time.mul_f64(rng.f64());
            let verdict = if rng.bool() { Operation::approve() } else { Operation::deny("Not an Academic Domain") };
            self.world.sandbox.timeline(&id, vec![Step::after(wait, verdict)]).unwrap();
            fall.insert(id, self.world.theirs().after(wait));
        }
        fall
    }

    /// Asserts that each verdict was notified exactly once, within an interval after it or after `not_before`, and
    /// nothing else.
    fn assert_told(&self, fallen: &BTreeMap<String, Timestamp>, not_before: Timestamp) {
        let mut told = BTreeMap::new();
        for hook in self.world.hook.hooks() {
            let json = hook.json();
            let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
            let (id, kind) = (text("/data/customer/id"), text("/type"));
            let fell = fallen.get(&id).unwrap_or_else(|| panic!("{kind} for {id}, for which nothing was decided"));
            assert!(["vetting.approved", "vetting.denied"].contains(&kind.as_str()), "{kind} for {id}");
            assert_eq!(told.insert(id, hook.received_at), None, "told twice");
            let late = hook.received_at.since((*fell).max(not_before));
            assert!(late <= IN_REVIEW + TICK, "{kind} was told {late:?} after it fell");
        }
        assert_eq!(told.keys().collect::<BTreeSet<_>>(), fallen.keys().collect(), "who was told of");
    }

    /// Asserts that each customer in review is polled at least once per interval.
    fn assert_nobody_in_review_starves(&self, from: Timestamp, to: Timestamp) {
        let mut asked = BTreeMap::<String, Vec<Timestamp>>::new();
        self.world.sandbox.log(|log| {
            for record in log.after(0).filter(|record| from <= record.at && record.at <= to) {
                asked.entry(record.customer.clone().unwrap_or_default()).or_default().push(record.at);
            }
        });
        for id in &self.ids[..self.in_review] {
            let mut times = asked.remove(id).unwrap_or_default();
            times.push(to);
            for pair in times.windows(2) {
                let pause = pair[1].since(pair[0]);
                assert!(pause <= IN_REVIEW + minutes(1), "{id} was not asked for {pause:?} from {}", pair[0]);
            }
        }
    }

    /// Asserts that no sixty seconds exceeded the budget.
    fn assert_within_budget(&self, per_minute: usize) {
        let times: Vec<_> = self.world.sandbox.log(|log| log.after(0).map(|record| record.at).collect());
        assert!(times.len() < 10_000, "the log does not hold all requests");
        for (index, at) in times.iter().enumerate() {
            let after_it = times[index..].iter().take_while(|later| later.since(*at) < minutes(1)).count();
            assert!(after_it <= per_minute, "{after_it} requests within a minute from {at}");
        }
    }
}

/// Simulated hours, unless `VETWATCH_HOURS` is set, as `tests/campaign week` does.
fn given_hours() -> u64 {
    std::env::var("VETWATCH_HOURS").map_or(4, |given| given.parse().expect("VETWATCH_HOURS is a number"))
}

#[tokio::test]
async fn five_thousand_customers_take_few_calls_an_hour_and_every_verdict_is_told_within_its_interval() {
    fastrand::seed(1); // the jitter
    let mut rng = Rng::with_seed(2);
    let town = DaemonHarness::of(Bulk { count: 5000, in_review: 50, settled: 450 }, 300).await;
    let time = hours(given_hours());
    town.run(minutes(20)).await;
    let seen = town.world.rows("select count(*) from customer where last_seen_at is not null").await;
    assert_eq!(seen, ["5000"], "the first sweep takes no longer than the budget makes it");
    town.assert_within_budget(301); // one token
    town.assert_nobody_in_review_starves(START, town.world.theirs());
    let in_an_hour = "select count(*) from customer where poll_class <> 'in_review' group by next_poll_at / 3600000";
    let due: Vec<u32> = town.world.rows(in_an_hour).await.iter().map(|count| count.parse().unwrap()).collect();
    assert!(due.len() >= 24 && due.iter().all(|count| *count < 300), "one sweep a day: {due:?}");
    let verdicts = town.verdicts(30, time.saturating_sub(hours(1)), &mut rng);
    town.run(time.saturating_sub(minutes(20))).await;

    town.assert_told(&verdicts, START);
    let calls: Vec<_> = town.world.sandbox.hours().iter().map(vetwatch::sandbox::Hour::calls).collect();
    eprintln!("calls an hour: {calls:?}");
    // The first hour contains the first sweep.
    let most = CALLS_AN_HOUR;
    assert!(calls[1..].iter().all(|calls| *calls <= most), "more than {most}: {calls:?}");
}

#[tokio::test]
async fn a_brownout_of_five_thousand_customers_changes_no_state_and_causes_no_stampede() {
    fastrand::seed(3);
    let mut rng = Rng::with_seed(4);
    // The worst moment: just after polls of many customers, most of them without an entry.
    let town = DaemonHarness::of(Bulk { count: 5000, in_review: 50, settled: 450 }, 300).await;
    town.run(minutes(20)).await;
    let (began, brownout) = (town.world.theirs(), hours(2));
    let verdicts = town.verdicts(20, brownout, &mut rng);
    town.world.sandbox.quirk(QuirkRule::all(Quirk::Nothing).lasts(brownout));
    let mut implausible = 0;
    for _ in 0..12 {
        town.run(minutes(10)).await;
        implausible += town.world.rows("select 1 from partner where mass_absence_since is not null").await.len();
    }
    assert!(implausible >= 11, "{implausible} of 12 times it was noticed that the answers are implausible");
    let transitions = "select event_type, count(*) from v_transitions group by 1";
    assert_eq!(town.world.rows(transitions).await, [""; 0], "nobody lost anything");
    let ended = town.world.theirs();
    town.run(IN_REVIEW + TICK).await;
    town.assert_told(&verdicts, ended);
    town.run(hours(1)).await;
    town.assert_told(&verdicts, ended);

    assert_eq!(town.world.rows("select count(*) from partner where mass_absence_since is not null").await, ["0"]);
    let missing = "select count(*) from qualification_state where missing_since is not null";
    eprintln!("still missing: {:?}", town.world.rows(missing).await);
    let hours = town.world.sandbox.hours();
    let calls: Vec<_> =
        hours.iter().filter(|hour| hour.starts_at > began).map(vetwatch::sandbox::Hour::calls).collect();
    eprintln!("calls an hour: {calls:?}");
    let most = CALLS_AN_HOUR + 100;
    assert!(calls.iter().all(|calls| *calls <= most), "more than {most}: {calls:?}");
}

/// Ten thousand at 60 a minute take three hours; a hundred thousand at 300 take five and a half.
#[tokio::test]
async fn a_first_sweep_a_suspend_and_clocks_that_are_set_keep_to_the_budget_and_starve_nobody_in_review() {
    fastrand::seed(5);
    let town = DaemonHarness::of(Bulk { count: 10_000, in_review: 30, settled: 300 }, 60).await;
    let began = town.world.theirs();
    let phase = minutes(20);
    town.run(phase).await;
    let seen = town.world.rows("select count(*) from customer where last_seen_at is not null").await;
    let seen: u32 = seen[0].parse().unwrap();
    assert!((1100..=1200).contains(&seen), "{seen} in {phase:?}: the budget is used, and no more");
    town.assert_nobody_in_review_starves(began, town.world.theirs());

    // The machine sleeps in the middle of it.
    town.world.pass(hours(8));
    let resumed = town.world.theirs();
    town.run(phase).await;
    let within_a_minute: BTreeSet<_> = town.world.sandbox.log(|log| {
        let soon = log.after(0).filter(|record| resumed <= record.at && record.at <= resumed.after(minutes(1)));
        soon.filter_map(|record| record.customer.clone()).collect()
    });
    assert!(town.ids[..30].iter().all(|id| within_a_minute.contains(id)), "those in review are asked first");
    town.assert_nobody_in_review_starves(resumed, town.world.theirs());

    for back in [hours(2), minutes(1)] {
        let from = town.world.theirs();
        town.world.clock.set(town.world.clock.now().before(back));
        town.run(phase).await;
        town.assert_nobody_in_review_starves(from, town.world.theirs());
        let asked = town.world.sandbox.log(|log| log.after(0).filter(|record| record.at >= from).count());
        assert!(asked >= 20 * 57, "{asked} questions in twenty minutes after a clock that was set back by {back:?}");
    }
    town.assert_within_budget(61); // one token
    assert!(town.world.sandbox.count(Kind::Token) < 20);
}
