//! Signals, and a log that is not read.

use std::io::{BufRead as _, BufReader, Read as _};

use crate::process::{DaemonHarness, SOON, eventually, now};
use crate::world::seconds;

const REASON: &str = "Not an Education Customer";
/// Polls are frequent.
const OFTEN: &str = "in_review = \"100ms\"";

#[tokio::test(flavor = "multi_thread")]
async fn no_signal_ends_the_daemon_but_those_that_mean_to() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(1).await;
    let daemon = town.running().await;
    let named = ["HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "XCPU", "XFSZ", "IO", "PWR", "STKFLT"];
    for signal in named {
        daemon.signal(signal);
        town.logged(&format!("SIG{signal}")).await;
    }
    daemon.signal("PIPE");
    for (number, name) in [("34", "SIGRTMIN+0"), ("64", "SIGRTMIN+30")] {
        daemon.signal(number);
        town.logged(name).await;
    }
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigquit_and_ctrl_c_end_it_in_order() {
    let town = DaemonHarness::new(OFTEN, "").await;
    for signal in ["QUIT", "INT"] {
        let mut daemon = town.running().await;
        daemon.signal(signal);
        assert_eq!(daemon.ended().await.code(), Some(0), "{signal}: {}", town.log());
    }
}

/// Takes a lease, ignores the signal that asks for it, and keeps it until its input ends.
const LEASE: &str = "
import fcntl, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1], 'r+')
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
";

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_configuration_cannot_be_read_yet_lives_through_sighup_and_obeys_sigterm() {
    let town = DaemonHarness::new(OFTEN, "").await;
    // Another process has a lease on the file: opening it blocks, as on a network disk that hangs.
    let mut holder = std::process::Command::new("python3")
        .args(["-c", LEASE])
        .arg(&town.config)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let mut daemon = town.start();
    let status = format!("/proc/{}/status", daemon.id());
    // SIGHUP and SIGTERM are the bits 0 and 14.
    eventually("it catches signals", SOON, async || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
        let caught = u64::from_str_radix(caught, 16).unwrap_or(0);
        if caught & 0x4001 == 0x4001 { Ok(()) } else { Err(format!("{caught:x}")) }
    })
    .await;
    daemon.signal("HUP");
    town.logged("SIGHUP").await;
    assert!(daemon.runs());
    let since = now();
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", town.log());
    assert!(now().since(since) < seconds(5));
    // The end of its input ends it.
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_nothing_and_says_later_how_much_is_missing() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(20).await;
    // Verbose: it logs far more than a pipe holds.
    let (mut daemon, mut unread) = town.start_unread(&[("RUST_LOG", "trace")]);
    town.sandbox.wait_for_customer(&ids[0], 100, SOON).await.unwrap();
    let since = now();
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    assert!(now().since(since) < seconds(20), "it waits for the reader of the log");

    // The log reports it once it is read again.
    let reading = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(&mut unread).lines().map_while(Result::ok);
        let said = lines.find(|line| line.contains("log lines were dropped")).expect("nothing is said of it");
        let words: Vec<&str> = said.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "log").unwrap();
        assert!(words[at - 1].parse::<u32>().unwrap() > 0, "{said}");
        unread
    });
    let mut unread = tokio::time::timeout(SOON, reading).await.expect("nothing is said of it").unwrap();

    // A log that is not read does not keep it from stopping either.
    town.sandbox.deny(&ids[1], REASON).unwrap();
    town.delivered(2).await;
    let since = now();
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(now().since(since) < seconds(15), "{:?}", now().since(since));
    let mut rest = Vec::new();
    unread.read_to_end(&mut rest).unwrap();
}
