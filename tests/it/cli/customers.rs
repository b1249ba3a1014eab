//! `vetwatch customers`.

use std::time::Duration;

use serde_json::json;
use vetwatch::sandbox::{Fault, FaultRule, Kind, Operation};

use super::{Desk, EVIL};

#[tokio::test]
async fn customers_are_kept_by_hand_and_the_output_says_what_was_done() {
    let mut desk = Desk::new().await;
    assert_eq!(desk.run(&["customers", "list", "--json"]).await.exits(4).error()["kind"], "not_found");
    let id = desk.unwatched_customer("Contoso School");
    let add = ["customers", "add", &id, "--name", "Contoso School", "--tag", "north", "--tag", "vip"];
    let added = desk.json(&add).await;
    assert_eq!((&added["result"], &added["customer"]["tags"]), (&json!("added"), &json!("north,vip")));
    desk.assert_columns(&json!([added["customer"]]), "v_customers", &[]).await;
    assert_eq!(desk.json(&["customers", "add", &id, "--domain", "contoso.example"]).await["result"], "updated");

    desk.customer("Fabrikam").await;
    let listed = desk.json(&["customers", "list"]).await;
    desk.assert_columns(&listed, "v_customers", &[]).await;
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let north = desk.run(&["customers", "list", "--tag", "NORTH"]).await.exits(0).out;
    assert!(north.contains("Contoso School (contoso.example)") && !north.contains("Fabrikam"), "{north}");

    let paused = desk.json(&["customers", "pause", "contoso school"]).await;
    assert_eq!((&paused[0]["changed"], &paused[0]["customer_id"]), (&json!(true), &json!(id)));
    assert!(desk.run(&["customers", "pause", &id]).await.exits(0).out.contains("was paused already"));
    assert!(desk.run(&["customers", "list"]).await.exits(0).out.contains("paused"));
    assert!(desk.run(&["customers", "resume", "CONTOSO.example"]).await.exits(0).out.contains("is polled again, now"));

    // One unknown name, and nothing changes.
    let error = desk.run(&["customers", "remove", &id, "Fabrikan", "--json"]).await.exits(4).error();
    assert!(error["details"][0].as_str().unwrap().contains("Fabrikam"), "{error}");
    assert_eq!(desk.rows("select count(*) from v_customers").await, ["2"]);
    let said = desk.run(&["customers", "remove", &id]).await.exits(0).out;
    assert!(said.contains("No sync brings it back") && said.contains(&format!("customers add {id}")), "{said}");
    assert_eq!(desk.rows("select name from v_customers").await, ["Fabrikam"]);

    assert_eq!(desk.run(&["customers", "add", "contoso.example"]).await.exits(2).out, "");
    assert_eq!(desk.run(&["customers", "add", &id, "--partner", "amer"]).await.exits(4).out, "");
}

#[tokio::test]
async fn a_sync_takes_over_who_is_new_and_brings_nobody_back() {
    let mut desk = Desk::new().await;
    let (id, _) = (desk.unwatched_customer("Contoso School"), desk.unwatched_customer(EVIL));
    let said = desk.run(&["customers", "sync"]).await.exits(0).out;
    assert!(said.contains("--partner NAME"), "nobody is synced unasked: {said}");
    let synced = desk.json(&["customers", "sync", "--partner", "emea"]).await;
    assert_eq!(
        synced,
        json!([{ "partner": "emea", "listed": 2, "added": 2, "returned": 0, "complete": true, "expected": null,
                 "missing": 0, "missing_names": [], "left": 0 }])
    );
    desk.run(&["customers", "remove", &id]).await.exits(0);
    desk.unwatched_customer("Fabrikam");
    let said = desk.run(&["customers", "sync", "--partner", "emea"]).await.exits(0).out;
    assert_eq!(said, "emea: 3 customers listed, 1 of them new.\n");
    let listed = desk.run(&["customers", "list"]).await.exits(0).out;
    assert!(listed.contains("Fabrikam") && listed.contains("School") && !listed.contains("Contoso"), "{listed}");
    desk.run(&["customers", "add", &id]).await.exits(0);
    assert_eq!(desk.rows("select count(*) from v_customers").await, ["3"]);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_says_why_and_changes_nothing() {
    let mut desk = Desk::new().await;
    desk.unwatched_customer("Contoso School");
    desk.sandbox.set_client_secret("another");
    let error = desk.run(&["customers", "sync", "--partner", "emea", "--json"]).await.exits(5).error();
    assert!(error["message"].as_str().unwrap().contains("AADSTS7000215"), "{error}");
    desk.sandbox.stop().await.unwrap();
    desk.run(&["customers", "sync", "--partner", "emea"]).await.exits(75);
    assert_eq!(desk.rows("select count(*) from v_customers").await, ["0"]);
}

#[tokio::test]
async fn a_sync_says_who_is_missing_and_when_a_list_does_not_count() {
    let mut desk = Desk::with("", |text| text.replace("customers = \"manual\"", "customers = \"synced\"")).await;
    let ids: Vec<_> = (0..40).map(|n| desk.unwatched_customer(&format!("School {n:02}"))).collect();
    let evil = desk.unwatched_customer(EVIL);
    assert_eq!(desk.run(&["customers", "sync"]).await.exits(0).out, "emea: 41 customers listed, 41 of them new.\n");
    for id in [&ids[3], &evil] {
        desk.sandbox.apply(id, Operation::Unlist).unwrap();
    }
    let said = desk.run(&["customers", "sync"]).await.exits(0).out;
    assert!(
        said.contains("39 customers listed, 0 of them new.\nMissing: Evil") && said.contains(", School 03.\n"),
        "{said}"
    );
    assert!(desk.run(&["customers", "list"]).await.exits(0).out.contains("School 03"), "still a customer");
    desk.sandbox.apply(&ids[3], Operation::Relist).unwrap();
    let said = desk.run(&["customers", "sync"]).await.exits(0).out;
    assert!(said.contains("\n1 who were missing from the last list are back.\nMissing: Evil"), "{said}");

    for id in &ids[10..25] {
        desk.sandbox.apply(id, Operation::Unlist).unwrap();
    }
    let short = desk.json(&["customers", "sync"]).await;
    assert_eq!(
        (&short[0]["complete"], &short[0]["listed"], &short[0]["expected"]),
        (&json!(false), &json!(25), &json!(40))
    );
    assert!(desk.run(&["customers", "sync"]).await.exits(0).out.contains("does not count as complete"));
    let said = desk.run(&["status"]).await.exits(3).out; // no daemon runs
    assert!(said.contains("the customer list holds 25 instead of 40 customers"), "{said}");
    let said = desk.run(&["customers", "sync"]).await.exits(0);
    assert_eq!(said.err, "", "progress is for terminals");
}

#[tokio::test]
async fn a_throttled_list_is_not_asked_for_again_before_its_time_by_anybody() {
    let mut desk = Desk::with("", |text| text.replace("customers = \"manual\"", "customers = \"synced\"")).await;
    desk.unwatched_customer("Contoso School");
    desk.sandbox.fault(FaultRule::on(Kind::Customers, Fault::throttled(Duration::from_mins(5))).times(1));
    desk.run(&["poll"]).await.exits(75);
    for command in [&["poll"][..], &["customers", "sync"]] {
        let said = desk.run(command).await.exits(75).err;
        assert!(said.contains("the customer list of emea is not read for now") && said.contains("429"), "{said}");
        assert!(said.contains("nothing is sent there before 20"), "{said}");
    }
    assert_eq!((desk.sandbox.count(Kind::Customers), desk.sandbox.count(Kind::Qualifications)), (1, 0));
}

#[tokio::test]
async fn who_left_is_shown_as_such_and_watched_again_when_a_person_says_so() {
    let mut desk =
        Desk::with("in_review = \"20ms\"\nsettled = \"20ms\"\nconfirm_absence = [\"20ms\", \"1h\"]", |text| text).await;
    let id = desk.customer("Contoso School").await;
    desk.sandbox.end_relationship(&id).unwrap();
    for _ in 0..2 {
        desk.run(&["poll"]).await.exits(1);
    }
    let said = desk.run(&["customers", "list"]).await.exits(0).out;
    assert!(said.contains("; left"), "{said}");
    let said = desk.run(&["status", "Contoso School"]).await.exits(0).out;
    assert!(said.contains("polled rarely, for 90 days") && said.contains("20002"), "{said}");
    let listed = desk.json(&["customers", "list"]).await;
    assert!(listed[0]["departed_since"].is_string() && listed[0]["tags"] == "", "{listed}");
    desk.run(&["customers", "add", &id]).await.exits(0);
    let listed = desk.json(&["customers", "list"]).await;
    assert!(listed[0]["departed_since"].is_null(), "{listed}");
    desk.sandbox.apply(&id, Operation::RestoreRelationship).unwrap();
    desk.run(&["poll"]).await.exits(0);
    assert!(desk.run(&["customers", "list"]).await.exits(0).out.contains("no qualification"));
}

#[tokio::test]
async fn customers_are_listed_with_what_they_hold_and_by_its_status() {
    let mut desk = Desk::new().await;
    desk.denied("Contoso School").await;
    desk.customer("Fabrikam University").await;
    let said = desk.run(&["customers", "list"]).await.exits(0).out;
    assert!(said.contains("Education: Denied") && said.contains("NEXT POLL (UTC)"), "{said}");
    for (status, names) in [
        ("Denied", vec!["Contoso School"]),
        ("denied", vec!["Contoso School"]),
        ("in-review", vec![]),
        ("none", vec!["Fabrikam University"]),
    ] {
        let listed = desk.json(&["customers", "list", "--status", status]).await;
        let found: Vec<_> = listed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(found, names, "{status}");
    }
    let unknown = desk.run(&["customers", "list", "--status", "denid"]).await.exits(4).err;
    assert!(unknown.contains("of status \"denid\"") && unknown.contains("did you mean denied?"), "{unknown}");
    let said = desk.run(&["customers", "list", "--status", "in review"]).await.exits(0).out;
    assert_eq!(said, "No such customers.\n");
}
