//! `vetwatch customers`.

use serde_json::json;

use super::{Desk, EVIL};

#[tokio::test]
async fn the_roster_is_kept_by_hand_and_says_what_it_did() {
    let mut desk = Desk::new().await;
    assert_eq!(desk.run(&["customers", "list", "--json"]).await.exits(4).error()["kind"], "not_found");
    let id = desk.stranger("Contoso School");
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
    assert!(desk.run(&["customers", "resume", "CONTOSO.example"]).await.exits(0).out.contains("asked about again"));

    // One unknown name, and nothing happens.
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
    let (id, _) = (desk.stranger("Contoso School"), desk.stranger(EVIL));
    let said = desk.run(&["customers", "sync"]).await.exits(0).out;
    assert!(said.contains("--partner NAME"), "nobody is synced unasked: {said}");
    let synced = desk.json(&["customers", "sync", "--partner", "emea"]).await;
    assert_eq!(synced, json!([{ "partner": "emea", "listed": 2, "added": 2 }]));
    desk.run(&["customers", "remove", &id]).await.exits(0);
    desk.stranger("Fabrikam");
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
    desk.stranger("Contoso School");
    desk.sandbox.set_client_secret("another");
    let error = desk.run(&["customers", "sync", "--partner", "emea", "--json"]).await.exits(5).error();
    assert!(error["message"].as_str().unwrap().contains("AADSTS7000215"), "{error}");
    desk.sandbox.stop().await.unwrap();
    desk.run(&["customers", "sync", "--partner", "emea"]).await.exits(75);
    assert_eq!(desk.rows("select count(*) from v_customers").await, ["0"]);
}
