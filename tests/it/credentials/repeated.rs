//! What fails every few seconds is said once, then counted.

use std::time::Duration;

use vetwatch::sandbox::{Fault, FaultRule, Kind};

use crate::process::{DaemonHarness, SOON};

/// Waits for so many more token requests.
async fn tries(town: &DaemonHarness, more: u64) {
    let before = town.sandbox.count(Kind::Token);
    town.sandbox.wait_for_requests(Kind::Token, before + more, SOON).await.expect("token requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_logged_once_then_counted_and_anew_when_its_cause_changes() {
    let town = DaemonHarness::new("in_review = \"50ms\"\nsettled = \"50ms\"\nactivity_log = \"1h\"", "").await;
    town.add_customers(1).await;
    town.sandbox.expire_client_secret();
    let daemon = town.running().await;
    town.logged("AADSTS7000222").await;
    tries(&town, 15).await;
    let lines = |words: &str| town.log().lines().filter(|line| line.contains(words)).count();
    assert_eq!(lines("AADSTS7000222"), 2, "{}", town.log());
    assert_eq!(lines("for the 10th time in a row"), 1, "{}", town.log());
    town.sandbox.fault(FaultRule::on(Kind::Token, Fault::status(500)));
    town.logged("no token: 500").await;
    tries(&town, 5).await;
    assert_eq!(lines("no token: 500"), 1, "{}", town.log());
    town.sandbox.clear_faults();
    town.sandbox.set_client_secret("sandbox-secret");
    town.logged("Partner Center answers again").await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_cannot_be_read_is_logged_once_then_counted() {
    let town = DaemonHarness::new("in_review = \"50ms\"\nsettled = \"50ms\"\nactivity_log = \"1h\"", "").await;
    town.add_customers(1).await;
    town.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::status(500)));
    let daemon = town.running().await;
    town.logged("a customer could not be polled").await;
    let before = town.sandbox.count(Kind::Qualifications);
    town.sandbox.wait_for_requests(Kind::Qualifications, before + 15, Duration::from_mins(1)).await.expect("polls");
    let lines = town.log().lines().filter(|line| line.contains("a customer could not be polled")).count();
    assert_eq!(lines, 2, "the first and the tenth: {}", town.log());
    daemon.stop().await;
}
