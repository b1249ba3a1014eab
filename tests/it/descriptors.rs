//! A process that may open few files.

use std::process::Command;

use crate::process::{DaemonHarness, SOON, complaint, eventually, now};

const OFTEN: &str = "in_review = \"200ms\"";

/// Limits the open files of a process: `soft:hard`.
fn limit(pid: u32, files: &str) {
    let done =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={files}")]).output().unwrap();
    assert!(done.status.success(), "{}", complaint(&done));
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_files_is_raised_and_polls_fit_what_is_there() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(60).await;
    let daemon = town.limited("20:4096").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|n| line.split_whitespace().nth(n).unwrap());
    assert_eq!([soft, hard], ["4096", "4096"], "{line}");
    daemon.stop().await;
    assert!(!town.log().contains("may be open"), "{}", town.log());

    let mut refused = town.start_limited("32:32");
    assert_eq!(refused.ended().await.code(), Some(1));
    town.logged("only 32 files may be open at once, and it needs 38").await;

    // Just enough: everything works, with fewer polls at once.
    let daemon = town.limited("40:40").await;
    town.logged("only 40 files may be open, so at most 2 polls of a partner are in flight, not 8").await;
    for id in &ids {
        town.sandbox.deny(id, "Not an Education Customer").unwrap();
    }
    town.delivered(60).await;
    assert!(open_files(daemon.id()) <= 40);
    assert!(!town.log().contains("no file descriptor left"), "{}", town.log());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_fails_for_want_of_a_descriptor_blames_nobody_else() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(1).await;
    let daemon = town.running().await;
    town.until("select last_seen_at > '2020' from v_customers", &["1"]).await;
    limit(daemon.id(), "4:4096");
    town.sandbox.deny(&ids[0], "Not an Education Customer").unwrap();
    let status = eventually("status tells", SOON, async || {
        let status = town.run_beside(&["status", "--json"]).await;
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        if text.contains("\"out_of_descriptors\"") { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(status.contains("vetwatch itself has no file descriptor left: raise its limit"), "{status}");
    limit(daemon.id(), "4096:4096");
    town.delivered(1).await;
    assert!(now() > daemon.started_at);
    daemon.stop().await;
}
