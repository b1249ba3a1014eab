//! `vetwatch poll`, without a daemon.

use std::fs;
use std::time::Duration;

use serde_json::json;
use vetwatch::sandbox::{Fault, FaultRule, Kind};

use super::Desk;

#[tokio::test]
async fn a_poll_asks_each_customer_exactly_once_however_short_the_interval_and_small_the_budget() {
    // Ten a second, and twenty at once: meanwhile those in review are due again and again.
    let slow = |text: String| text.replace("requests_per_minute = 60000", "requests_per_minute = 600");
    let mut desk = Desk::with("in_review = \"100ms\"\nsettled = \"200ms\"\nunqualified = \"200ms\"", slow).await;
    let ids: Vec<_> = (0..25).map(|n| desk.unwatched_customer(&format!("School {n}"))).collect();
    desk.run(&["customers", "sync", "--partner", "emea"]).await.exits(0);
    for id in &ids[..10] {
        desk.sandbox.submit(id).unwrap();
    }
    let polled = desk.json(&["poll"]).await;
    assert_eq!(
        polled,
        json!({ "polled_by": "this command", "polled": 25, "transitions": 0, "failed": 0, "skipped": 0, "to_be_confirmed": 0 })
    );
    assert!(ids.iter().all(|id| desk.sandbox.count_of(id) == 1));
    assert_eq!(desk.rows("select count(*) from v_current where vetting_status = 'InReview'").await, ["10"]);

    desk.sandbox.deny(&ids[0], "Not an Academic Domain").unwrap();
    let said = desk.run(&["poll", "school 0", "SCHOOL2.example", &ids[2].to_uppercase(), &ids[2]]).await.exits(0).out;
    assert!(said.starts_with("Polled 3 customers: 1 change recorded, 0 failed."), "{said}");
    let asked: Vec<_> = ids.iter().map(|id| desk.sandbox.count_of(id)).collect();
    assert_eq!((&asked[..3], &asked[3..]), (&[2, 2, 2][..], &[1; 22][..]));

    let error = desk.run(&["poll", "School 1", "School 99", "--json"]).await.exits(4).error();
    assert!(error["message"].as_str().unwrap().contains("School 99"), "{error}");
    desk.run(&["poll", "--partner", "amer"]).await.exits(4);
    desk.run(&["customers", "pause", "School 3"]).await.exits(0);
    assert!(desk.run(&["poll", "School 3"]).await.exits(1).err.contains("customers resume"));
    assert_eq!(asked, ids.iter().map(|id| desk.sandbox.count_of(id)).collect::<Vec<_>>(), "nobody was asked");
    // All customers, except paused ones.
    assert_eq!(desk.json(&["poll"]).await["polled"], 24);
}

#[tokio::test]
async fn one_customer_that_cannot_be_read_fails_the_poll_and_no_other_customer() {
    let mut desk = Desk::new().await;
    let gone = desk.customer("Gone School").await;
    desk.customer("Contoso School").await;
    desk.sandbox.fault(FaultRule::about(&gone, Fault::status(404)));
    let said = desk.run(&["poll"]).await.exits(1);
    assert!(said.err.contains("1 of 2 customers could not be polled"), "{said:?}");
    assert_eq!(desk.rows("select name from v_customers where last_seen_at is not null").await, ["Contoso School"]);
    let said = desk.run(&["status", "Gone School"]).await.exits(0).out;
    assert!(said.contains("404"), "{said}");
    let error = desk.run(&["poll", "Gone School", "--json"]).await.exits(1);
    assert_eq!(error.error()["kind"], "failed");
    assert!(error.out.contains("\"failed\": 1"), "{error:?}");
}

#[tokio::test]
async fn a_wrong_secret_is_told_in_microsofts_words_and_ours() {
    let mut desk = Desk::new().await;
    desk.customer("Contoso School").await;
    let wrong = "an0ther-s3cret";
    fs::write(desk.path("client-secret"), wrong).unwrap();
    let said = desk.run(&["poll", "--json"]).await.exits(5);
    let message = said.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("AADSTS7000215") && message.contains("the client secret is wrong"), "{message}");
    assert!(!format!("{said:?}").contains(wrong), "{said:?}");
    let asked = (desk.sandbox.count(Kind::Token), desk.sandbox.count(Kind::Qualifications));
    assert_eq!(asked, (1, 0), "no loop");
}

#[tokio::test]
async fn a_partner_center_that_is_away_or_throttles_is_to_be_tried_again() {
    let mut desk = Desk::new().await;
    desk.customer("Contoso School").await;
    desk.sandbox.stop().await.unwrap();
    assert_eq!(desk.run(&["poll", "--json"]).await.exits(75).error()["kind"], "try_again");

    let mut desk = Desk::new().await;
    desk.customer("Contoso School").await;
    desk.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::throttled(Duration::from_secs(57))).times(1));
    desk.run(&["poll"]).await.exits(75);
    let said = desk.run(&["poll"]).await.exits(75).err;
    assert!(said.contains("1 customer was not polled") && said.contains("nothing is sent there before"), "{said}");
    assert_eq!(desk.sandbox.count(Kind::Qualifications), 1, "no polls during the backoff");
}

#[tokio::test]
async fn so_much_that_is_gone_at_once_needs_a_persons_word() {
    let mut desk = Desk::with("in_review = \"100ms\"", |text| text).await;
    let ids: Vec<_> = (0..7).map(|n| desk.unwatched_customer(&format!("School {n}"))).collect();
    desk.run(&["customers", "sync", "--partner", "emea"]).await.exits(0);
    for id in &ids {
        desk.sandbox.submit(id).unwrap();
    }
    desk.run(&["poll"]).await.exits(0);
    for id in &ids {
        desk.sandbox.withdraw(id).unwrap();
    }
    assert_eq!(desk.json(&["poll"]).await["transitions"], 0);
    let said = desk.run(&["status"]).await.exits(3).out;
    assert!(said.contains("implausible answers since") && said.contains("7 customers lost an entry"), "{said}");
    assert!(said.contains("`vetwatch poll --accept --partner emea`"), "{said}");
    desk.run(&["poll", "--accept", "School 1"]).await.exits(2);
    assert_eq!(desk.json(&["poll", "--accept", "--partner", "emea"]).await["transitions"], 7);
    assert_eq!(desk.rows("select distinct event_type from v_transitions").await, ["vetting.vanished"]);
    let status = desk.run(&["status", "--json"]).await.exits(3).json();
    let reasons: Vec<_> = status["reasons"].as_array().unwrap().iter().map(|need| &need["reason"]).collect();
    assert_eq!(reasons, ["not_running"], "{status}");
}

#[tokio::test]
async fn a_verdict_that_waits_for_confirmation_is_not_called_nothing() {
    let mut desk = Desk::new().await;
    let school = desk.customer("Contoso School").await;
    desk.sandbox.submit(&school).unwrap();
    desk.run(&["poll"]).await.exits(0);
    let long_ago = json!({
        "qualification": "Education", "vettingStatus": "Denied", "vettingReason": "Not an Academic Domain",
        "vettingCreatedDate": "2020-01-01T08:00:00Z",
    });
    desk.sandbox.set_entry(&school, long_ago).unwrap();
    let said = desk.run(&["poll", "Contoso School"]).await.exits(0).out;
    assert!(said.contains("1 verdict is to be confirmed by later polls"), "{said}");
}
