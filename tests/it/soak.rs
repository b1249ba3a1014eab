//! The daemon at many times its usual pace: thousands of customers come and go, reviews are decided, endpoints fail now
//! and then, pages are read. Its memory does not grow, nor do its descriptors, threads and write-ahead log.
//!
//! `tests/campaign soak 60` does it for an hour; without it a few seconds show that the measurement works.

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::sandbox::{Bulk, CustomerDetails};

use crate::process::{DaemonHarness, SOON, eventually};

/// In a campaign, and in a test run.
const CUSTOMERS: [usize; 2] = [3000, 200];
/// Each customer is polled 300 times as often as by default, or more.
const SCHEDULE: &str = "in_review = \"2s\"\nsettled = \"10s\"\nunqualified = \"30s\"\nactivity_log = \"2s\"\ncustomer_sync = \"*/15 * * * * *\"";
const PAGES: [&str; 9] =
    ["", "decided", "report", "customers", "deliveries", "health", "feed.atom", "expected.ics", "metrics"];
/// Bounds of the second half of a campaign. Memory: it does not grow, or by less than this an hour.
const KB_AN_HOUR: f64 = 1024.0;
/// Connections of pages, polls and deliveries come and go.
const DESCRIPTORS: u64 = 40;
const WAL: u64 = 32 << 20;

#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f64,
    /// In kB.
    anonymous: u64,
    resident: u64,
    descriptors: u64,
    threads: u64,
    wal: u64,
    database: u64,
}

impl Sample {
    fn take(pid: u32, database: &Path, seconds: f64) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running daemon");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        Self {
            seconds,
            anonymous: field("RssAnon:"),
            resident: field("VmRSS:"),
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64,
            threads: field("Threads:"),
            wal: size(&database.with_extension("db-wal")),
            database: size(database),
        }
    }
}

/// The slope of a line through these points by least squares, and twice its standard error.
#[expect(clippy::cast_precision_loss, reason = "a few thousand points")]
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let rest: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    (slope, 2.0 * (rest / (count - 2.0) / spread).sqrt())
}

#[test]
fn a_slope_comes_with_its_bound() {
    let line: Vec<_> = (0..10).map(|n| (f64::from(n), 3.0 + 2.0 * f64::from(n))).collect();
    let (steep, error) = slope(&line);
    assert!((steep - 2.0).abs() < 1e-9 && error < 1e-6, "{steep} {error}");
    let noise: Vec<_> = (0..100).map(|n| (f64::from(n), f64::from(n % 2))).collect();
    let (flat, error) = slope(&noise);
    assert!(flat.abs() < error, "{flat} {error}");
}

/// `VETWATCH_SOAK` minutes.
#[tokio::test(flavor = "multi_thread")]
async fn at_many_times_its_pace_memory_descriptors_and_the_log_do_not_grow() {
    let minutes: Option<u64> =
        std::env::var("VETWATCH_SOAK").ok().map(|given| given.parse().expect("VETWATCH_SOAK is a number"));
    let time = minutes.map_or(Duration::from_secs(3), Duration::from_mins);
    let seed = std::env::var("VETWATCH_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("VETWATCH_SEED is a number"));
    eprintln!("VETWATCH_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let town = DaemonHarness::new(SCHEDULE, &format!("[web]\nlisten = \"127.0.0.1:{port}\"\n")).await;
    town.change("customers = \"manual\"", "customers = \"synced\"");
    let count = CUSTOMERS[usize::from(minutes.is_none())];
    let mut ids = town.sandbox.add_customers(Bulk { count, in_review: count / 10, settled: count / 2 });
    let daemon = town.running().await;
    eventually("everybody is known", 5 * SOON, async || {
        let known = town.rows("select count(*) from v_customers where last_seen_at is not null").await;
        if known == [count.to_string()] { Ok(()) } else { Err(format!("{known:?}")) }
    })
    .await;

    let reader = reqwest::Client::builder().no_proxy().build().unwrap();
    let (began, pace) = (Instant::now(), (time / 120).max(Duration::from_millis(100)));
    let (mut samples, mut read, mut decided, mut fails_until) = (Vec::new(), 0_u64, 0_u64, None);
    eprintln!(
        "{:>6} {:>10} {:>10} {:>6} {:>8} {:>10} {:>12}",
        "s", "RssAnon kB", "VmRSS kB", "files", "threads", "WAL kB", "database kB"
    );
    while began.elapsed() < time {
        if began.elapsed() >= pace * u32::try_from(samples.len()).unwrap() {
            let sample = Sample::take(daemon.id(), &town.database, began.elapsed().as_secs_f64());
            let Sample { seconds, anonymous, resident, descriptors, threads, wal, database } = sample;
            eprintln!(
                "{seconds:>6.0} {anonymous:>10} {resident:>10} {descriptors:>6} {threads:>8} {:>10} {:>12}",
                wal / 1024,
                database / 1024
            );
            samples.push(sample);
        }
        // Microsoft decides, and customers come and go. At first by the dozen a second: transitions are kept for ever, and
        // SQLite's caches (2 MB a connection) fill as the file grows.
        let steps = if began.elapsed() < time / 3 { 3 } else { u32::from(read % 20 == 0) };
        for _ in 0..steps {
            let at = rng.usize(..ids.len());
            let id = &ids[at];
            match rng.u8(..20) {
                0 => {
                    town.sandbox.end_relationship(id).unwrap();
                    ids.swap_remove(at);
                    let n = rng.u32(..);
                    ids.push(
                        town.sandbox
                            .add_customer(CustomerDetails::new("", format!("School {n}"), "school.example"))
                            .unwrap(),
                    );
                }
                1..8 => town.sandbox.submit(id).unwrap(),
                8..14 => town.sandbox.approve(id).unwrap(),
                _ => town.sandbox.deny(id, "Not an Education Customer").unwrap(),
            }
            decided += 1;
        }
        match fails_until {
            None if rng.u16(..400) == 0 => {
                town.hook.script(WebhookAction::status(503), None);
                fails_until = Some(Instant::now() + Duration::from_secs(5));
            }
            Some(until) if Instant::now() > until => {
                town.hook.clear_script();
                fails_until = None;
            }
            _ => {}
        }
        // What arrived is not needed.
        if decided % 500 == 0 {
            town.hook.clear();
            town.mail.clear();
        }
        for page in [rng.choice(PAGES).unwrap(), "metrics"] {
            let answer = reader.get(format!("http://127.0.0.1:{port}/{page}")).send().await.unwrap();
            assert!(answer.status().is_success(), "{page}: {}", answer.status());
            answer.bytes().await.unwrap();
            read += 1;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let polls = town.sandbox.count(vetwatch::sandbox::Kind::Qualifications);
    let rows = town.rows("select count(*) from v_transitions").await;
    let delivered = town.rows("select state, count(*) from v_deliveries group by 1").await;
    eprintln!("{polls} polls, {decided} steps, {rows:?} transitions, deliveries {delivered:?}, {read} pages");

    let half = &samples[samples.len() / 2..];
    #[expect(clippy::cast_precision_loss, reason = "less than a petabyte")]
    let points: Vec<_> = half.iter().map(|sample| (sample.seconds / 3600.0, sample.anonymous as f64)).collect();
    let (grows, error) = slope(&points);
    let range = |of: fn(&Sample) -> u64| (half.iter().map(of).min().unwrap(), half.iter().map(of).max().unwrap());
    let (files, wal) = (range(|sample| sample.descriptors), range(|sample| sample.wal));
    eprintln!(
        "second half: RssAnon {grows:+.0} ± {error:.0} kB an hour; {files:?} files; {:?} threads; WAL of {} kB at most",
        range(|sample| sample.threads),
        wal.1 / 1024
    );
    if minutes.is_some() {
        assert!(grows - error <= KB_AN_HOUR, "memory grows by {grows:.0} ± {error:.0} kB an hour");
        assert!(files.1 - files.0 <= DESCRIPTORS, "descriptors: {files:?}");
    }
    assert!(wal.1 <= WAL, "the write-ahead log: {wal:?}");
    daemon.stop().await;
}
