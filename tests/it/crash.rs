//! The daemon's peers SIGKILL it again and again while Microsoft decides. No verdict is lost, and none arrives under
//! two ids.
//!
//! `tests/campaign kills 1000` does the same a thousand times.

pub(crate) mod reviews;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;
use vetwatch::sandbox::smtp_server::{Mail, MailRule, SmtpAction, Stage};
use vetwatch::sandbox::webhook_receiver::{Signature, WebhookAction, WebhookRequest};
use vetwatch::sandbox::{Fault, FaultRule, Kind};
use vetwatch::time::Timestamp;

use crate::process::{Daemon, DaemonHarness, SOON, complaint, eventually, now};
use crate::world::{plain_text, seconds};
use reviews::{Reviews, Step, configuration, name_of, of_hook, told_by_mail};

/// Five polls a second per customer, and quick retries. The reviews' create dates are years ago.
const SCHEDULE: &str = "in_review = \"200ms\"\nsettled = \"200ms\"";
const CUSTOMERS: usize = 12;
/// A message or customer that seems to kill the process waits for a minute. That is not tested here, but may happen by
/// chance.
const PATIENCE: Duration = Duration::from_secs(150);

/// When the daemon is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Partner Center has received a poll and not responded.
    Asked,
    /// Partner Center has just responded.
    Answered,
    /// The receiver has read a webhook and not responded.
    Hooked,
    HookAnswered,
    /// The mail server has received a message and not replied.
    Mailed,
    MailAnswered,
    /// Up to 150 ms after the start, or after it was ready.
    Random,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_partner_center_is_asked_it_loses_and_repeats_no_verdict() {
    Campaign::new(1).await.run(24, &[Moment::Asked, Moment::Answered]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_a_webhook_arrives_it_loses_no_verdict_and_repeats_it_under_the_same_id_only() {
    Campaign::new(2).await.run(24, &[Moment::Hooked, Moment::HookAnswered]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_a_mail_arrives_it_loses_no_verdict_and_repeats_it_under_the_same_id_only() {
    Campaign::new(3).await.run(24, &[Moment::Mailed, Moment::MailAnswered]).await;
}

/// `VETWATCH_KILLS` kills.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_it_loses_no_verdict_and_repeats_it_under_the_same_id_only() {
    use Moment::{Answered, Asked, HookAnswered, Hooked, MailAnswered, Mailed, Random};
    let kills = std::env::var("VETWATCH_KILLS").map_or(40, |count| count.parse().expect("VETWATCH_KILLS is a number"));
    let moments =
        [Random, Asked, Random, Hooked, Random, MailAnswered, Random, HookAnswered, Random, Mailed, Random, Answered];
    Campaign::new(4).await.run(kills, &moments).await;
}

/// Mails are grouped long enough that most hold several verdicts.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_digests_gather_and_are_sent_it_tells_each_verdict_in_one_of_them() {
    use Moment::{Answered, MailAnswered, Mailed, Random};
    let campaign = Campaign::new(5).await;
    let mail_apart = "endpoints = [\"crm\"]\ngroup_wait = \"0s\"\n\n[[route]]\nevents = [\"vetting.approved\", \
                      \"vetting.denied\", \"vetting.revoked\", \"vetting.vanished\", \"vetting.submitted\"]\n\
                      endpoints = [\"sales-mail\"]\ngroup_wait = \"400ms\"\n\n[operators]";
    campaign.town.change("endpoints = [\"sales-mail\", \"crm\"]\ngroup_wait = \"0s\"\n\n[operators]", mail_apart);
    campaign.town.change(
        "endpoints = [\"sales-mail\", \"crm\"]\ngroup_wait = \"0s\"",
        "endpoints = [\"crm\"]\ngroup_wait = \"0s\"",
    );
    let sizes = campaign.run(16, &[Mailed, Random, MailAnswered, Answered]).await;
    assert!(sizes.values().any(|events| *events > 1), "no mail held several verdicts: {sizes:?}");
}

/// `VETWATCH_RELOADS` reloads, of configurations that differ in intervals, budget and endpoints.
#[tokio::test(flavor = "multi_thread")]
async fn reloaded_again_and_again_it_loses_and_repeats_no_verdict() {
    let reloads =
        std::env::var("VETWATCH_RELOADS").map_or(30, |count| count.parse().expect("VETWATCH_RELOADS is a number"));
    Campaign::new(6).await.reload(reloads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_makes_its_database_it_starts_all_the_same() {
    for _ in 0..3 {
        let town = DaemonHarness::new(SCHEDULE, &configuration("100ms")).await;
        for _ in 0..8 {
            let daemon = town.start();
            sleep(Duration::from_micros(fastrand::u64(..50_000))).await;
            daemon.kill();
        }
        let daemon = town.running().await;
        assert_eq!(town.rows("select count(*) from v_customers").await, ["0"]);
        assert_eq!(town.rows("pragma integrity_check").await, ["ok"]);
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_interrupted_is_tried_again_within_a_second_of_the_start() {
    const TRIES: usize = 7;
    let town = DaemonHarness::new("in_review = \"100ms\"", "").await;
    let ids = town.in_review(TRIES).await;
    let (mut hooked, mut mailed) = (Vec::new(), Vec::new());
    for id in &ids {
        town.hook.script(WebhookAction::Hang, Some(1));
        town.mail.script(MailRule::at(Stage::Message, SmtpAction::TakeThenHang).times(1));
        let daemon = town.running().await;
        let (hooks, mails) = (town.hook.hooks().len(), town.mail.mails().len());
        town.sandbox.deny(id, "Not an Education Customer").unwrap();
        town.hook.wait_for(hooks + 1, SOON).await.unwrap();
        town.mail.wait_for(mails + 1, SOON).await.unwrap();
        daemon.kill();

        let daemon = town.start();
        let started_at = daemon.started_at;
        town.delivered(mailed.len() + 1).await;
        daemon.kill();
        let hooks = town.hook.hooks().split_off(hooks);
        let mails = town.mail.mails().split_off(mails);
        assert_eq!((hooks.len(), mails.len()), (2, 2), "{hooks:#?} {mails:#?}");
        assert_eq!((hooks[0].id(), &mails[0].raw), (hooks[1].id(), &mails[1].raw));
        let began = town.rows("select max(began_at) from attempt where number = 2 group by delivery order by 1").await;
        let began = began.last().expect("an attempt").parse().map(Timestamp::from_millis).unwrap();
        assert!(began >= started_at && began <= hooks[1].received_at.max(mails[1].received_at));
        hooked.push(hooks[1].received_at.since(started_at));
        mailed.push(mails[1].received_at.since(started_at));
    }
    for (channel, mut pauses) in [("webhooks", hooked), ("mails", mailed)] {
        eprintln!("{channel} came again so long after the start: {pauses:?}");
        pauses.sort();
        assert!(pauses[TRIES / 2] < seconds(1), "{channel}: {pauses:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_the_daemon_each_time_does_not_take_its_neighbours_along() {
    let town = DaemonHarness::new("in_review = \"100ms\"", "").await;
    let ids = town.in_review(5).await;
    town.hook.script(WebhookAction::Hang, None);
    for id in &ids {
        town.sandbox.deny(id, "Not an Education Customer").unwrap();
    }
    // A mail in flight at each death would be suspected as well.
    let daemon = town.running().await;
    town.until("select count(*) from v_deliveries where endpoint = 'sales-mail' and state = 'delivered'", &["5"]).await;
    let first = town.hook.wait_for(1, SOON).await.unwrap().remove(0);
    daemon.kill();
    let poison = first.id().expect("an id").to_owned();
    let mut deaths = 1;
    town.hook.clear_script();
    town.hook.script(WebhookAction::Delay(Duration::from_millis(500)), None);
    let daemon = loop {
        let daemon = town.start();
        let since = daemon.started_at;
        let next = town.hook.wait_for_those(1, SOON, |hook| hook.received_at >= since).await.unwrap().remove(0);
        if next.id() != Some(&poison) {
            break daemon;
        }
        daemon.kill();
        deaths += 1;
        assert!(deaths < 10, "it is always the same: {:#?}", town.hook.hooks());
    };
    let others = |hook: &WebhookRequest| hook.answered.is_some() && hook.id() != Some(&poison);
    let others: BTreeSet<_> =
        town.hook.wait_for_those(4, SOON, others).await.unwrap().into_iter().map(|hook| hook.body).collect();
    assert_eq!(others.len(), 4);
    town.mail.wait_for_those(5, SOON, |mail| mail.acknowledged).await.unwrap();
    town.until(
        "select endpoint, state, count(*) from v_deliveries group by 1, 2 order by 1, 2",
        &["crm | delivered | 4", "crm | pending | 1", "sales-mail | delivered | 5"],
    )
    .await;
    let waits = town
        .rows("select id, next_attempt_at - unixepoch() * 1000 > 30000 from delivery where state = 'pending'")
        .await;
    assert_eq!(waits, [format!("{poison} | 1")], "the poison waits for a minute");
    assert_eq!(town.hook.hooks().iter().filter(|hook| hook.id() == Some(&poison)).count(), deaths);
    eprintln!("it killed the daemon {deaths} times");
    daemon.stop().await;
}

struct Campaign {
    town: DaemonHarness,
    reviews: Reviews,
    rng: Rng,
}

impl Campaign {
    async fn new(number: u64) -> Self {
        let seed = std::env::var("VETWATCH_SEED")
            .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("VETWATCH_SEED is a number"));
        eprintln!("VETWATCH_SEED={seed}");
        let mut rng = Rng::with_seed(seed ^ number);
        let town = DaemonHarness::new(SCHEDULE, &configuration("100ms")).await;
        let reviews = Reviews::begin(&town, CUSTOMERS, rng.fork()).await;
        Self { town, reviews, rng }
    }

    /// Returns the number of events in each mail.
    async fn run(mut self, kills: usize, moments: &[Moment]) -> BTreeMap<String, usize> {
        let began = now();
        for kill in 0..kills {
            let moment = moments[kill % moments.len()];
            let daemon = self.town.start();
            // Microsoft decides all the time.
            tokio::select! {
                () = self.reviews.go_on(&self.town) => unreachable!("Microsoft never ends"),
                () = moment.of(&self.town, &mut self.rng, daemon.started_at, daemon) => {}
            }
        }
        let steps = self.reviews.end();
        let daemon = self.town.running().await;
        self.town.until_told(&steps).await;
        daemon.stop().await;
        let repeated = self.check(&steps, kills).await;
        eprintln!(
            "{kills} kills, {} verdicts and {} submissions, {} messages, {repeated} of them repeated, {} s",
            steps.iter().filter(|step| step.is_verdict()).count(),
            steps.iter().filter(|step| !step.is_verdict()).count(),
            2 * steps.len(),
            now().since(began).as_secs()
        );
        let sizes = self
            .town
            .rows("select delivery, count(*) from delivery_event where endpoint = 'sales-mail' group by 1")
            .await;
        let sizes = sizes
            .iter()
            .filter_map(|row| row.split_once(" | "))
            .map(|(id, size)| (id.to_owned(), size.parse().unwrap()));
        sizes.collect()
    }

    /// Reloads about 200 times a minute.
    async fn reload(mut self, reloads: usize) {
        let usual = std::fs::read_to_string(&self.town.config).unwrap();
        let spare = "[[endpoint]]\nname = \"spare\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n\
                     secret_file = \"signing-secret\"\n\n[[route]]";
        let variants = [
            usual.clone(),
            usual.replace("in_review = \"200ms\"", "in_review = \"150ms\""),
            usual.replacen("[[route]]", spare, 1),
            usual.replace("requests_per_minute = 60000", "requests_per_minute = 50000\nmax_in_flight = 4"),
            usual.replace("schedule = [\"100ms\"]", "schedule = [\"soon\"]"),
        ];
        let daemon = self.town.running().await;
        let memory = |daemon: &Daemon| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap_or_default();
            let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            anonymous.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
        };
        let files = |daemon: &Daemon| std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).map_or(0, Iterator::count);
        let mut figures = Vec::new();
        let began = now();
        for n in 0..reloads {
            std::fs::write(&self.town.config, &variants[self.rng.usize(..variants.len())]).unwrap();
            daemon.signal("HUP");
            if n % 20 == 19 {
                figures.push((memory(&daemon), files(&daemon)));
            }
            let pause = Duration::from_millis(self.rng.u64(..600));
            tokio::select! {
                () = self.reviews.go_on(&self.town) => unreachable!("Microsoft never ends"),
                () = sleep(pause) => {}
            }
        }
        let took = now().since(began).as_secs();
        std::fs::write(&self.town.config, usual).unwrap();
        let last = self.town.run_beside(&["reload"]).await;
        assert!(last.status.success(), "{}", complaint(&last));
        // What a reload replaces is freed.
        if let [_, first, .., last] = figures.as_slice() {
            assert!(last.0 < first.0 + 10_000 && last.1 < first.1 + 20, "{figures:?}");
        }
        let steps = self.reviews.end();
        self.town.until_told(&steps).await;
        daemon.stop().await;
        assert_eq!(self.check(&steps, 0).await, 0, "nothing was repeated");
        eprintln!(
            "{reloads} reloads in {took} s, {} verdicts and submissions, none lost or repeated; kB and open files, every 20: \
             {figures:?}",
            steps.len()
        );
    }

    /// Returns the number of duplicates.
    async fn check(&self, steps: &[Step], kills: usize) -> usize {
        let hooks = self.town.hook.hooks();
        let mails = self.town.mail.mails();
        assert!(hooks.iter().all(|hook| hook.signature == Signature::Valid), "a signature is wrong");
        // Arrivals by step: their ids and contents.
        let mut by_hook = BTreeMap::<_, BTreeSet<_>>::new();
        let mut by_mail = BTreeMap::<_, BTreeSet<_>>::new();
        for hook in &hooks {
            let (step, event) = of_hook(hook);
            let id = hook.id().expect("webhook-id").to_owned();
            by_hook.entry(step).or_default().insert((id, event, String::from_utf8_lossy(&hook.body).into_owned()));
        }
        let told = told_by_mail(&self.town).await;
        let mut mail_names = BTreeSet::new();
        for mail in &mails {
            let (id, text) = (name_of(mail), plain_text(mail));
            for (step, event) in &told[&id] {
                assert!(text.contains(&step.customer), "{step:?} is not in {text}");
                by_mail.entry(step.clone()).or_default().insert((id.clone(), event.clone(), mail.text()));
            }
            mail_names.insert(id);
        }
        let expected: BTreeSet<_> = steps.iter().cloned().collect();
        assert_eq!(by_hook.keys().cloned().collect::<BTreeSet<_>>(), expected, "what the receiver was told");
        assert_eq!(by_mail.keys().cloned().collect::<BTreeSet<_>>(), expected, "what the mail server was told");
        for step in steps {
            let (hooked, mailed) = (&by_hook[step], &by_mail[step]);
            assert_eq!((hooked.len(), mailed.len()), (1, 1), "{step:?} has one name: {hooked:#?} {mailed:#?}");
            let (hooked, mailed) = (hooked.first().expect("one"), mailed.first().expect("one"));
            assert_eq!(hooked.1, mailed.1, "{step:?} is one event");
        }
        let hook_names: BTreeSet<_> = by_hook.values().flatten().map(|told| &told.0).collect();
        assert_eq!(hook_names.len(), steps.len(), "each message has a name of its own");
        assert_eq!(mail_names, told.into_keys().collect(), "every mail arrived");
        // At most one message per endpoint is in flight: no kill duplicates two.
        let repeated = [hooks.len() - steps.len(), mails.len() - mail_names.len()];
        assert!(repeated.iter().all(|repeated| *repeated <= kills), "{repeated:?} repetitions after {kills} kills");

        let mut recorded = self.town.rows("select customer_id, event_type, attempt from v_transitions").await;
        recorded.sort();
        let mut wanted: Vec<_> = steps.iter().map(Step::row).collect();
        wanted.sort();
        assert_eq!(recorded, wanted, "each transition once");
        assert_eq!(self.town.rows("pragma integrity_check").await, ["ok"]);
        assert_eq!(self.town.rows("pragma foreign_key_check").await, [""; 0]);
        repeated.iter().sum()
    }
}

impl Moment {
    /// Kills the daemon at this moment.
    async fn of(self, town: &DaemonHarness, rng: &mut Rng, start: Timestamp, mut daemon: Daemon) {
        if matches!(self, Self::Random) {
            if rng.bool() {
                daemon.ready().await;
            }
            sleep(Duration::from_micros(rng.u64(..150_000))).await;
            daemon.kill();
            return;
        }
        // Without any progress between deaths, work in flight would look like poison.
        let hooks = |since, counts: fn(&WebhookRequest) -> bool| {
            town.hook.wait_for_those(1, PATIENCE, move |hook| hook.received_at >= since && counts(hook))
        };
        let mails = |since, counts: fn(&Mail) -> bool| {
            town.mail.wait_for_those(1, PATIENCE, move |mail| mail.received_at >= since && counts(mail))
        };
        for _ in 0..2 {
            let since = now();
            let worked = async {
                hooks(since, |hook| hook.answered.is_some()).await.expect("a webhook");
                mails(since, |mail| mail.acknowledged).await.expect("a mail");
            };
            worked.await;
        }
        let sandbox = &town.sandbox;
        let asked = sandbox.wait_for(PATIENCE, |log| {
            let mut asked = BTreeMap::<_, u32>::new();
            let ours = log.after(0).filter(|record| record.at > start && record.kind == Kind::Qualifications);
            ours.for_each(|record| *asked.entry(record.customer.clone()).or_default() += 1);
            (asked.len() == CUSTOMERS && asked.values().any(|times| *times > 1)).then_some(())
        });
        asked.await.expect("a whole round of questions");

        let since = now();
        match self {
            Self::Asked => {
                let hold = FaultRule::on(Kind::Qualifications, Fault::Hold { stale: false });
                sandbox.fault(hold.times(1).skip(rng.u64(..16)));
                let question = sandbox.wait_for(PATIENCE, |log| {
                    log.after(0)
                        .any(|record| record.at >= since && record.fault.as_deref() == Some("hold"))
                        .then_some(())
                });
                question.await.expect("a question");
            }
            Self::Answered => {
                let answered = |log: &vetwatch::sandbox::RequestLog| {
                    log.counts().get(&Kind::Qualifications).map_or(0, |counts| counts.statuses.values().sum::<u64>())
                };
                let wanted = sandbox.log(answered) + rng.u64(1..20);
                sandbox.wait_for(PATIENCE, |log| (answered(log) >= wanted).then_some(())).await.expect("an answer");
            }
            Self::Hooked => {
                town.hook.script(WebhookAction::Hang, Some(1));
                hooks(since, |hook| hook.answered.is_none()).await.expect("a webhook");
            }
            Self::HookAnswered => {
                hooks(since, |hook| hook.answered.is_some()).await.expect("a webhook");
                sleep(Duration::from_micros(rng.u64(..3000))).await;
            }
            Self::Mailed => {
                town.mail.script(MailRule::at(Stage::Message, SmtpAction::TakeThenHang).times(1));
                mails(since, |mail| !mail.acknowledged).await.expect("a mail");
            }
            Self::MailAnswered => {
                mails(since, |mail| mail.acknowledged).await.expect("a mail");
                sleep(Duration::from_micros(rng.u64(..3000))).await;
            }
            Self::Random => {}
        }
        daemon.kill();
        sandbox.clear_faults();
        town.hook.clear_script();
        town.mail.clear_script();
    }
}

impl DaemonHarness {
    /// Waits until all of this is recorded and delivered.
    async fn until_told(&self, steps: &[Step]) {
        eventually("everything that was decided is delivered", PATIENCE, async || {
            // In this order: what is recorded in between leaves something to deliver.
            let recorded = self.rows("select count(*) from v_transitions").await;
            let left = self
                .rows(
                    "select endpoint, state, attempts, interrupted, (next_attempt_at - unixepoch() * 1000) / 1000
                       from delivery where state <> 'delivered' limit 5",
                )
                .await;
            if left.is_empty() && recorded == [steps.len().to_string()] {
                return Ok(());
            }
            Err(format!("{recorded:?} of {} recorded; not delivered are {left:#?}", steps.len()))
        })
        .await;
    }
}
