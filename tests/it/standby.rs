//! Two hosts, of which one leads, on a network of their own with a real etcd and a real Litestream over SFTP. They are cut off
//! from each other, stopped, killed and suspended, their clocks are set, the replicas' server is slow or full; and meanwhile
//! Microsoft decides. In the end each verdict has arrived under one id.
//!
//! `tests/campaign standby 60` does it for an hour; without it, a minute.

mod hosts;
mod login;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use tokio::time::{Instant, sleep};
use vetwatch::sandbox::webhook_receiver::{Signature, WebhookRequest};

use self::hosts::Pair;
use self::network::{Network, Place};
use crate::crash::reviews::{Reviews, Step, configuration, name_of, of_hook, told_by_mail};
use crate::process::{DaemonHarness, SOON, eventually};

const SCHEDULE: &str = "in_review = \"1s\"\nsettled = \"1s\"";
const CUSTOMERS: usize = 12;
/// Every verdict arrives within this time after the last trouble is over.
const PATIENCE: Duration = Duration::from_mins(2);
/// Requests a minute. The schedule asks for more.
const BUDGET: usize = 400;
/// What is sent beyond the budget, as debt: tokens, and what was under way.
const DEBT: usize = 20;

/// What happens to the hosts, one at a time.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// Packets between a host and a place are dropped.
    Cut(Place),
    /// The leader is cut off from everything.
    Alone,
    /// SIGSTOP and SIGCONT, with or without Litestream.
    Stop {
        with_litestream: bool,
    },
    /// SIGSTOP right before the leader connects to an endpoint: after it has looked at its lease.
    StopBeforeConnecting,
    /// SIGKILL, with or without Litestream.
    Kill {
        with_litestream: bool,
    },
    /// SIGKILL as soon as a webhook has arrived.
    KillWhenTold,
    /// SIGTERM.
    End,
    /// The wall clock is set by an hour.
    Clock,
    /// The machine is suspended: clocks that count suspends go on.
    Suspend,
    SlowCarrier,
    FullCarrier,
}

const TROUBLES: [Trouble; 16] = [
    Trouble::KillWhenTold,
    Trouble::Stop { with_litestream: false },
    Trouble::Cut(Place::Witness),
    Trouble::Kill { with_litestream: true },
    Trouble::StopBeforeConnecting,
    Trouble::Alone,
    Trouble::Suspend,
    Trouble::Clock,
    Trouble::Cut(Place::Carrier),
    Trouble::End,
    Trouble::Stop { with_litestream: true },
    Trouble::Cut(Place::World),
    Trouble::Kill { with_litestream: false },
    Trouble::SlowCarrier,
    Trouble::FullCarrier,
    Trouble::KillWhenTold,
];

/// `VETWATCH_STANDBY` minutes.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_two_hosts_each_verdict_arrives_under_one_id() {
    let minutes: Option<u64> =
        std::env::var("VETWATCH_STANDBY").ok().map(|given| given.parse().expect("VETWATCH_STANDBY is a number"));
    let seed = std::env::var("VETWATCH_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("VETWATCH_SEED is a number"));
    let Some(network) =
        hosts::requirements().and_then(|()| Network::new()).map_err(|why| eprintln!("skipped: {why}")).ok()
    else {
        return;
    };
    eprintln!("VETWATCH_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let town = DaemonHarness::new(SCHEDULE, &configuration("1s")).await;
    town.change("requests_per_minute = 60000", &format!("requests_per_minute = {BUDGET}"));
    let mut reviews = Reviews::begin(&town, CUSTOMERS, rng.fork()).await;
    let lease = if minutes.is_some_and(|minutes| minutes > 10) { "15s" } else { "6s" };
    let mut pair = Pair::new(&town, network, lease).await;
    pair.start(0);
    pair.leader(PATIENCE).await;
    pair.start(1);

    let (time, began) = (Duration::from_mins(minutes.unwrap_or(1)), Instant::now());
    let (mut troubles, mut leaders, mut longest) = (0, vec![pair.leader(PATIENCE).await], Duration::ZERO);
    while began.elapsed() < time {
        // The first minute has one of each kind that changes the leader.
        let trouble = TROUBLES[if troubles < 5 { troubles } else { rng.usize(..TROUBLES.len()) }];
        troubles += 1;
        tokio::select! {
            () = reviews.go_on(&town) => unreachable!("Microsoft never ends"),
            () = pair.have(trouble, &town, &mut rng, minutes.is_some()) => {}
        }
        tokio::select! {
            () = reviews.go_on(&town) => unreachable!("Microsoft never ends"),
            () = sleep(Duration::from_millis(rng.u64(..4000))) => {}
        }
        leaders.push(pair.leader(PATIENCE).await);
        let healed = Instant::now();
        let missing = reviews.until_notified(&town, PATIENCE).await;
        longest = longest.max(healed.elapsed());
        assert!(missing.is_empty(), "{}", pair.stood_still(&missing).await);
    }
    let steps = reviews.end();
    eventually("every verdict arrives", PATIENCE, async || {
        let told: BTreeSet<Step> = town.hook.hooks().iter().map(|hook| of_hook(hook).0).collect();
        let missing: Vec<_> = steps.iter().filter(|step| !told.contains(step)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}\n{}", pair.said(40))) }
    })
    .await;
    pair.until_idle(&steps).await;
    let said = pair.said(usize::MAX);
    assert!(!said.contains("is of no use"), "a replica that is damaged: {said}");
    pair.end(&town).await;
    let repeated = check(&town, &steps, troubles).await;
    assert!(leaders.is_sorted_by_key(|leader| leader.epoch), "epochs rise: {leaders:?}");
    leaders.dedup_by_key(|leader| leader.epoch);
    let elections: Vec<_> = leaders.iter().map(|leader| leader.since.as_millis()).collect();
    let (usual, calls) = hosts::busiest_minutes(&town, &elections);
    assert!(usual <= BUDGET + DEBT, "{usual} calls in a minute without a change of leader, of {BUDGET}");
    assert!(calls <= 2 * (BUDGET + DEBT), "{calls} calls in one minute, of {BUDGET}");
    eprintln!(
        "{troubles} troubles, {} leaders, {} verdicts and {} submissions, {repeated} messages repeated; the longest wait for all \
         of them after a trouble {:.1} s; at most {calls} calls in a minute with a change of leader, {usual} in others, of {BUDGET}; {} s",
        leaders.len(),
        steps.iter().filter(|step| step.is_verdict()).count(),
        steps.iter().filter(|step| !step.is_verdict()).count(),
        longest.as_secs_f64(),
        began.elapsed().as_secs()
    );
}

/// A pair of hosts with customers in review, or `None` where this machine cannot have one.
async fn pair() -> Option<(DaemonHarness, Pair, Vec<String>)> {
    let network =
        hosts::requirements().and_then(|()| Network::new()).map_err(|why| eprintln!("skipped: {why}")).ok()?;
    let town = DaemonHarness::new(SCHEDULE, &configuration("1s")).await;
    let ids = town.in_review(4).await;
    let mut pair = Pair::new(&town, network, "6s").await;
    pair.start(0);
    assert_eq!(pair.leader(PATIENCE).await.host, 0);
    pair.start(1);
    pair.stands_by(1).await;
    Some((town, pair, ids))
}

/// Waits until this verdict has arrived.
async fn denied(town: &DaemonHarness, id: &str) {
    town.sandbox.deny(id, "Not an Education Customer").unwrap();
    let is_it =
        |hook: &WebhookRequest| hook.json()["type"] == "vetting.denied" && hook.json()["data"]["customer"]["id"] == *id;
    town.hook.wait_for_those(1, PATIENCE, is_it).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_says_who_leads_and_a_change_of_the_leader_is_told() {
    let Some((town, mut pair, ids)) = pair().await else { return };
    let leads = eventually("the leader knows of the other host", PATIENCE, async || {
        let status = pair.run(0, &["status", "--json"]);
        if status["standby"]["others"][0] == "host-b" { Ok(status) } else { Err(status.to_string()) }
    });
    let (leads, stands_by) = (leads.await, pair.run(1, &["status", "--json"]));
    assert_eq!(
        (leads["standby"]["role"].as_str(), leads["standby"]["leader"]["host"].as_str()),
        (Some("leader"), Some("host-a"))
    );
    assert!(leads["standby"]["replica"]["synced_at"].is_string(), "{leads}");
    assert_eq!(
        (stands_by["standby"]["role"].as_str(), stands_by["attention"].as_array().map(Vec::len)),
        (Some("standby"), Some(0))
    );
    assert_eq!(stands_by["standby"]["leader"]["host"], "host-a");
    let refused = pair.refused(1, &["customers", "pause", &ids[0]]);
    assert!(
        refused.contains("this host (host-b) does not lead") && refused.contains("run the command on host-a"),
        "{refused}"
    );
    let refused = pair.refused(1, &["history"]);
    assert!(refused.contains("its database went to the host that leads"), "{refused}");

    let before = pair.leader(PATIENCE).await.epoch;
    pair.terminate(0).await;
    let next = pair.leader(PATIENCE).await;
    assert!(next.host == 1 && next.epoch > before, "{next:?}");
    let told =
        town.hook.wait_for_those(1, PATIENCE, |hook| hook.json()["type"] == "monitor.leader_changed").await.unwrap();
    assert_eq!(told[0].json()["data"]["figures"]["host"], "host-b", "{}", told[0].json());
    assert_eq!(told[0].json()["data"]["figures"]["before"], "host-a");
    denied(&town, &ids[0]).await;
    // Its own database lacks that now.
    pair.start(0);
    pair.stands_by(0).await;
    let aside = pair.folder(0).join(format!("vetwatch.db.epoch-{before}"));
    assert!(aside.exists() && !pair.folder(0).join("vetwatch.db").exists(), "{}", pair.said(20));

    // Nobody may lead without the elector, and the host that stands by says so.
    pair.stop_elector();
    pair.without_leader(0).await;
    let nobody = pair.run(0, &["status", "--json"]);
    assert_eq!(nobody["reasons"][0]["reason"], "no_leader", "{nobody}");
    pair.start_elector();
    pair.leader(PATIENCE).await;
    denied(&town, &ids[1]).await;
    pair.end_wherever(&town).await;
}

/// Waits for an event that the operators are told; returns its reason and summary.
async fn operators(town: &DaemonHarness, kind: &str, reason: &str) -> String {
    let is_it =
        |hook: &WebhookRequest| hook.json()["type"] == kind && hook.json()["data"]["figures"]["reason"] == reason;
    let told = town.hook.wait_for_those(1, PATIENCE, is_it).await.unwrap_or_else(|_| panic!("{kind}: {reason}"));
    told[0].json()["data"]["summary"].as_str().expect("a summary").to_owned()
}

/// What would come to light when the leader dies comes to light before.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_could_not_take_over_is_told_and_so_is_a_replica_that_is_late() {
    let Some((town, mut pair, _)) = pair().await else { return };
    // Its configuration is read again and again.
    let could_not = |pair: &Pair| pair.run(0, &["status", "--json"])["standby"]["unable"][0].to_string();
    for (from, to, why) in [
        ("[standby]", "[standby-by]", "host-b: its configuration would be refused: vetwatch.toml:"),
        (
            "[standby-by]",
            "[retention]\nattempts = \"30d\"\n[standby]",
            "host-b: its configuration differs from the leader's in [retention]",
        ),
        ("[retention]\nattempts = \"30d\"\n[standby]", "[standby]", "null"),
    ] {
        pair.change(1, from, to);
        eventually("the leader knows it", PATIENCE, async || {
            let text = could_not(&pair);
            if text.contains(why) { Ok(()) } else { Err(text) }
        })
        .await;
    }
    pair.terminate(1).await;
    pair.change(1, "client_secret_file = \"", "client_secret_file = \"other-");
    std::fs::write(town.folder.path().join("other-client-secret"), "Zx81-QvWm-0000-1111").unwrap();
    pair.change(1, "/key\"", "/no-key\"");
    pair.start(1);
    let text = pair.could_not_take_over().await;
    assert!(text.contains(": the replica of epoch ") && text.contains("/no-key: no such file"), "{text}");
    pair.terminate(1).await;
    pair.change(1, "/no-key\"", "/key\"");
    pair.start(1);
    let text = pair.could_not_take_over().await;
    assert!(text.starts_with("this host could not take over: it cannot sign in to partner emea: "), "{text}");
    assert!(text.contains("AADSTS7000215"), "{text}");
    eventually("the leader knows it", SOON, async || {
        let status = pair.run(0, &["status", "--json"])["standby"].clone();
        let is_so = status["others"] == json!([])
            && status["unable"][0].as_str().is_some_and(|it| it.contains("AADSTS7000215"));
        if is_so { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    pair.set_clock(0, 11 * 60);
    let summary = operators(&town, "monitor.standby_failing", "no_standby").await;
    assert!(summary.contains("host-b: it cannot sign in to partner emea"), "{summary}");

    pair.stop_carrier(true);
    eventually("the replica fails", SOON, async || {
        let replica = pair.run(0, &["status", "--json"])["standby"]["replica"].clone();
        if replica["failing_since"].is_string() { Ok(()) } else { Err(replica.to_string()) }
    })
    .await;
    pair.set_clock(0, 13 * 60);
    operators(&town, "monitor.standby_failing", "replica_late").await;
    pair.stop_carrier(false);
    pair.change(1, "client_secret_file = \"other-", "client_secret_file = \"");
    eventually("both look over", PATIENCE, async || {
        let over = pair.rows(0, "select reason from raised_alert where over_since is not null order by reason").await;
        if over == ["no_standby", "replica_late"] { Ok(()) } else { Err(format!("{over:?}")) }
    })
    .await;
    pair.set_clock(0, 20 * 60);
    for reason in ["no_standby", "replica_late"] {
        operators(&town, "monitor.standby_recovered", reason).await;
    }
    let reloaded = pair.run(1, &["reload", "--json"]);
    assert_eq!(reloaded["stands_by"], "host-b");
    pair.end_wherever(&town).await;
}

/// Two hosts of one name would tell no change of the leader.
#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_of_one_name_are_told_apart() {
    let Some((town, mut pair, ids)) = pair().await else { return };
    pair.terminate(1).await;
    pair.change(1, "host = \"host-b\"", "host = \"host-a\"");
    pair.start(1);
    eventually("the leader notices it", SOON, async || {
        let status = pair.run(0, &["status", "--json"])["standby"].clone();
        let is_so = status["unable"][0].as_str().is_some_and(|it| it.starts_with("another host is called host-a, too"));
        if is_so { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    // It is as good as another one all the same.
    pair.kill(0, true);
    pair.leads(1).await;
    denied(&town, &ids[0]).await;
    pair.end_wherever(&town).await;
}

/// A leader that was deposed and does not know it goes on writing, and its Litestream replicates that.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_deposed_leader_writes_reaches_nobody_who_restores() {
    let Some((town, mut pair, ids)) = pair().await else { return };
    pair.stop_idle(0).await;
    let next = pair.leads(1).await;
    denied(&town, &ids[0]).await;
    pair.write_as_zombie(0, 80).await;
    denied(&town, &ids[1]).await;
    // Its successor dies, and what it left is restored.
    pair.signal(0, "KILL", true);
    pair.start(0);
    pair.stands_by(0).await;
    pair.terminate(1).await;
    let last = pair.leader(PATIENCE).await;
    assert!(last.host == 0 && last.epoch > next.epoch, "{last:?}");
    assert_eq!(pair.zombies(0).await, ["0"], "rows of the deposed leader");
    assert_eq!(pair.rows(0, "select count(*) from v_transitions where event_type = 'vetting.denied'").await, ["2"]);
    denied(&town, &ids[2]).await;
    pair.end_wherever(&town).await;
}

/// Clocks that stand still during a suspend would say that its lease goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_suspended_for_longer_than_its_lease_leaves_when_it_wakes() {
    let Some((town, mut pair, ids)) = pair().await else { return };
    let before = pair.leader(PATIENCE).await;
    pair.suspend(before.host, Duration::from_mins(10));
    pair.says(before.host, "does not lead any more").await;
    denied(&town, &ids[0]).await;
    assert!(pair.leader(PATIENCE).await.epoch > before.epoch);
    pair.end_wherever(&town).await;
}

/// Times in the future, which a successor cannot explain by a clock that it saw being set.
#[tokio::test(flavor = "multi_thread")]
async fn the_successor_of_a_leader_whose_clock_was_an_hour_ahead_tells_at_once() {
    let Some((town, mut pair, ids)) = pair().await else { return };
    pair.set_clock(0, 3600);
    eventually("everybody was looked at in the future", PATIENCE, async || {
        let ahead =
            pair.rows(0, "select count(*) from customer where last_seen_at > unixepoch() * 1000 + 1800000").await;
        if ahead == ["4"] { Ok(()) } else { Err(format!("{ahead:?}")) }
    })
    .await;
    pair.kill(0, true);
    pair.leader(PATIENCE).await;
    denied(&town, &ids[0]).await;
    pair.end_wherever(&town).await;
}

/// The script of `docs/standby.md`, word for word.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_readers_follows_the_leader_and_its_successor() {
    let Some((town, mut pair, ids)) = pair().await else { return };
    if !pair.follow(&town) {
        eprintln!("skipped: etcdctl is not here");
        return;
    }
    denied(&town, &ids[0]).await;
    pair.followed(&town, "1").await;
    pair.kill(0, true);
    pair.leads(1).await;
    denied(&town, &ids[1]).await;
    pair.followed(&town, "2").await;
    pair.end_wherever(&town).await;
}

/// Returns how many messages arrived again.
async fn check(town: &DaemonHarness, steps: &[Step], troubles: usize) -> usize {
    let (hooks, mails) = (town.hook.hooks(), town.mail.mails());
    // A leader whose clock is wrong by an hour signs with its own time.
    let is_wrong = |hook: &&WebhookRequest| matches!(hook.signature, Signature::Wrong | Signature::Missing);
    let wrong: Vec<_> = hooks.iter().filter(is_wrong).filter(|hook| !hook.body.is_empty()).collect();
    assert!(wrong.is_empty(), "signatures are wrong: {wrong:#?}");
    let is_vetting = |hook: &&WebhookRequest| hook.json()["type"].as_str().is_some_and(|it| it.starts_with("vetting."));
    let expected: BTreeSet<_> = steps.iter().cloned().collect();
    let mut names = BTreeMap::<Step, BTreeSet<(String, String)>>::new();
    let mut count = 0;
    for hook in hooks.iter().filter(is_vetting) {
        let (step, event) = of_hook(hook);
        count += 1;
        names.entry(step).or_default().insert((hook.id().expect("an id").to_owned(), event));
    }
    assert_eq!(names.keys().cloned().collect::<BTreeSet<_>>(), expected, "what the receiver was told");
    let several: Vec<_> = names.iter().filter(|(_, names)| names.len() != 1).collect();
    assert!(several.is_empty(), "each has one id: {several:#?}");
    let told = told_by_mail(town).await;
    let mut mailed = BTreeSet::new();
    for mail in &mails {
        let id = name_of(mail);
        match told.get(&id) {
            Some(of_it) => mailed.extend(of_it.iter().map(|(step, _)| step.clone())),
            // The operators' messages have random ids, and a leader's last one may have died with it.
            None => assert!(mail.text().contains("vetwatch"), "a mail of nobody: {}", mail.text()),
        }
    }
    let missing: Vec<_> = expected.difference(&mailed).collect();
    assert!(missing.is_empty(), "not mailed: {missing:#?}");
    let wrong: Vec<_> =
        mails.iter().filter(|mail| mail.text().contains("School") && !told.contains_key(&name_of(mail))).collect();
    assert!(wrong.is_empty(), "mails about a customer whose ids the last leader does not know: {wrong:#?}");
    let repeated = count - steps.len();
    assert!(repeated <= 4 * troubles, "{repeated} webhooks repeated by {troubles} troubles");
    repeated
}
