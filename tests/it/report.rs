//! `vetwatch report` on the real binary.

use crate::process::{DaemonHarness, complaint};

const REASON: &str = "Not an Education Customer";

/// One customer denied and then approved, one approved, one denied, one in review.
async fn town() -> DaemonHarness {
    let town = DaemonHarness::new("in_review = \"1h\"", "").await;
    let ids = town.in_review(4).await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.sandbox.approve(&ids[1]).unwrap();
    town.sandbox.deny(&ids[2], REASON).unwrap();
    town.tell(&["poll"]);
    town.sandbox.submit(&ids[0]).unwrap();
    town.tell(&["poll"]);
    town.sandbox.approve(&ids[0]).unwrap();
    town.tell(&["poll"]);
    town
}

fn printed(town: &DaemonHarness, arguments: &[&str]) -> String {
    let output = town.run(arguments);
    assert!(output.status.success(), "{}", complaint(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_counts_what_was_decided_in_every_format() {
    let town = town().await;
    let report = town.tell(&["report"]);
    let all = &report["qualifications"][0];
    assert_eq!(
        [&all["verdicts"], &all["approved"], &all["denied"], &all["in_review"]].map(|count| count.as_u64().unwrap()),
        [4, 2, 2, 1],
        "{report:#}"
    );
    let reason = &report["reasons"][0];
    assert_eq!(reason["vetting_reason"], REASON);
    assert_eq!(
        (&reason["denials"], &reason["then_approved"], &reason["cured_percent"]),
        (&2.into(), &1.into(), &100.0.into())
    );
    assert_eq!(report["longest_in_review"].as_array().unwrap().len(), 1);
    let since = report["since"].as_str().unwrap();
    assert!(since[8..].starts_with("01T"), "it begins with a month: {since}");

    let text = printed(&town, &["report"]);
    assert!(text.contains(REASON) && text.contains("School 0004"), "{text}");
    let csv = printed(&town, &["report", "--format", "csv", "--table", "reasons"]);
    assert_eq!(csv.lines().next(), Some("vetting_reason,denials,tried_again,then_approved,then_denied,cured_percent"));
    assert!(csv.contains(&format!("{REASON},2,1,1,0,100.0")), "{csv}");
    let html = printed(&town, &["report", "--format", "html"]);
    assert!(html.starts_with("<!doctype html>") && html.contains("<style>") && html.contains(REASON), "{html}");

    let later = town.tell(&["report", "--since", "0s"]);
    assert_eq!(later["qualifications"][0]["verdicts"], 0, "{later:#}");
    let partner = town.run(&["report", "--partner", "nobody"]);
    assert_eq!(partner.status.code(), Some(4), "{}", complaint(&partner));
    let table = town.run(&["report", "--table", "weeks"]);
    assert_eq!(table.status.code(), Some(2), "{}", complaint(&table));
    let both = town.run(&["report", "--json", "--format", "csv"]);
    assert_eq!(both.status.code(), Some(2), "{}", complaint(&both));
}
