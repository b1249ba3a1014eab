//! `vetwatch submit` and `vetwatch validation-codes`.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use vetwatch::qualification::key;
use vetwatch::sandbox::response_options::Shape;
use vetwatch::sandbox::{BodyOptions, Fault, FaultRule, Kind, Operation, Quirk, QuirkRule};
use vetwatch::time::{Clock as _, SystemClock};

use super::{Desk, EVIL, Said};
use crate::process::{DaemonHarness, SOON, complaint};

const USER: &str =
    "[partner.user_credential]\nkind = 'refresh-token'\nclient_secret_file = 'client-secret'\n\n[schedule]";
const K12: [&str; 5] = ["Education", "--segment", "K12", "--yes", "--json"];

/// A test desk with a signed-in user.
async fn desk() -> Desk {
    let more = "in_review = \"100ms\"\nsettled = \"100ms\"";
    let desk = Desk::with(more, |text| text.replace("[schedule]", USER)).await;
    fs::create_dir_all(desk.path("tokens")).unwrap();
    let token = json!({ "refresh_token": desk.sandbox.sign_in(), "obtained_at": SystemClock.now() });
    fs::write(desk.path("tokens/emea"), token.to_string()).unwrap();
    desk
}

async fn submit(desk: &Desk, customer: &str, more: &[&str]) -> Said {
    desk.run(&[&["submit", customer], more].concat()).await
}

fn submissions(desk: &Desk) -> u64 {
    desk.sandbox.count(Kind::Submissions)
}

/// True if the customer is polled as often as one in review, because a change is expected.
async fn is_expected(desk: &Desk, id: &str) -> bool {
    let sql = format!(
        "select poll_class, watch_closely_until > last_seen_at or last_seen_at is null from customer where customer_id = '{id}'"
    );
    desk.rows(&sql).await == ["in_review | 1"]
}

async fn events(desk: &Desk, id: &str) -> Vec<String> {
    let sql = format!("select event_type from v_transitions where customer_id = '{id}' order by transition_id");
    desk.rows(&sql).await
}

#[tokio::test]
async fn a_submission_is_sent_as_the_user_and_what_microsoft_decides_is_news() {
    let mut desk = desk().await;
    let id = desk.customer("Contoso School").await;
    desk.sandbox.apply(&id, Operation::Submit { qualification: "StateOwnedEntity".into() }).unwrap();
    desk.run(&["poll"]).await.exits(0);
    let more = ["education", "--segment", "higher_education", "--website", "contoso.edu", "--yes", "--json"];
    let said = submit(&desk, "contoso school", &more).await.exits(0).json();
    for (key, value) in [
        ("submitted", json!(true)),
        ("qualification", json!("Education")),
        ("vetting_status", json!("InReview")),
        ("answer_understood", json!(true)),
        ("attempt", json!(1)),
        ("partner", json!("emea")),
        ("customer", json!({ "id": id, "name": "Contoso School" })),
    ] {
        assert_eq!(said[key], value, "{said}");
    }
    assert_eq!((desk.sandbox.attempts_of(&id), submissions(&desk)), (1, 1));
    assert_eq!(events(&desk, &id).await, ["vetting.submitted"]);
    // What the response lacked is not missing.
    let current = "select qualification, missing_since from v_current order by qualification";
    assert_eq!(desk.rows(current).await, ["Education | null", "StateOwnedEntity | null"]);
    assert!(is_expected(&desk, &id).await);

    desk.run(&["poll"]).await.exits(0);
    assert_eq!(events(&desk, &id).await, ["vetting.submitted"]);
    desk.sandbox.approve(&id).unwrap();
    desk.run(&["poll"]).await.exits(0);
    assert_eq!(events(&desk, &id).await, ["vetting.submitted", "vetting.approved"]);
    assert_eq!(desk.rows("select endpoint from v_deliveries order by endpoint").await, ["crm", "sales-mail"]);
    assert_eq!(desk.rows("select attempt, outcome from v_decisions").await, ["1 | Approved"]);
    // Other fields, such as the account state, are irrelevant.
    for asked in desk.sandbox.requests() {
        let known = matches!(asked.kind, Kind::Token | Kind::Qualifications | Kind::Submissions);
        assert!(known && !asked.path.contains("validationStatus"), "{asked:?}");
        assert!(asked.kind != Kind::Submissions || !asked.path.contains("code="), "{asked:?}");
    }
}

#[tokio::test]
async fn one_submission_is_one_attempt_though_its_answer_and_what_is_shown_later_are_dated_seconds_apart() {
    let mut desk = desk().await;
    let id = desk.customer("Contoso School").await;
    desk.run(&["poll"]).await.exits(0);
    submit(&desk, "contoso school", &[&["education"], &K12[1..]].concat()).await.exits(0);
    let dated = |seconds| Quirk::Writing(BodyOptions { date_shift: seconds, ..BodyOptions::default() });
    for seconds in [3, -10] {
        desk.sandbox.clear_quirks();
        desk.sandbox.quirk(QuirkRule::on(Kind::Qualifications, dated(seconds)));
        desk.run(&["poll"]).await.exits(0);
    }
    desk.sandbox.deny(&id, "Not an Academic Domain").unwrap();
    for seconds in [-10, -13, -10] {
        desk.sandbox.clear_quirks();
        desk.sandbox.quirk(QuirkRule::on(Kind::Qualifications, dated(seconds)));
        desk.run(&["poll"]).await.exits(0);
    }
    let seen = "select event_type, attempt from v_transitions order by transition_id";
    assert_eq!(desk.rows(seen).await, ["vetting.submitted | 1", "vetting.denied | 1"]);
    // So the next attempt is the second of three. It is dated a minute later: the test takes less than a second.
    desk.sandbox.clear_quirks();
    desk.sandbox.quirk(QuirkRule::on(Kind::Submissions, dated(60)));
    let said = submit(&desk, "contoso school", &[&["education"], &K12[1..]].concat()).await.exits(0).json();
    assert_eq!(said["attempt"], json!(2), "{said}");
}

#[tokio::test]
async fn in_whatever_words_a_submission_is_taken_the_verdict_is_told_even_of_a_customer_never_seen() {
    let mut desk = desk().await;
    let writing = |shape| Quirk::Writing(BodyOptions { shape: Some(shape), ..BodyOptions::default() });
    let shapes = [Shape::Array, Shape::Wrapper, Shape::Object].map(|shape| (Some(writing(shape)), None));
    let faults = [Fault::Empty, Fault::Null, Fault::Object, Fault::Html, Fault::Garbage, Fault::Cut];
    let manners = shapes.into_iter().chain(faults.map(|fault| (None, Some(fault))));
    for (n, (quirk, fault)) in manners.enumerate() {
        let id = desk.customer(&format!("School {n}")).await;
        // Held for years, without a date: submitting another qualification does not notify it.
        desk.sandbox.set_entry(&id, json!({ "qualification": "StateOwnedEntity" })).unwrap();
        if let Some(quirk) = quirk {
            desk.sandbox.quirk(QuirkRule::on(Kind::Submissions, quirk).times(1));
        }
        let understood = fault.is_none();
        if let Some(fault) = fault {
            desk.sandbox.fault(FaultRule::on(Kind::Submissions, fault).times(1));
        }
        let said = submit(&desk, &id, &K12).await.exits(0).json();
        assert_eq!(said["answer_understood"], understood, "{n}: {said}");
        assert_eq!(desk.sandbox.attempts_of(&id), 1, "{n}");
        assert!(is_expected(&desk, &id).await, "{n}");
        // The sample of an approval has no date.
        desk.sandbox.approve(&id).unwrap();
        desk.run(&["poll", &id]).await.exits(0);
        let seen = events(&desk, &id).await;
        let expected = if understood { &["vetting.submitted", "vetting.approved"][..] } else { &["vetting.approved"] };
        assert_eq!(seen, expected, "{n}");
        let sql = format!("select vetting_status from v_current where customer_id = '{id}' order by qualification");
        assert_eq!(desk.rows(&sql).await, ["Approved", "null"], "{n}");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_costs_one_attempt_and_no_more() {
    let mut desk = desk().await;
    let (id, other) = (desk.customer("Contoso School").await, desk.customer("Fabrikam School").await);
    desk.run(&["poll"]).await.exits(0);
    desk.sandbox.fault(FaultRule::on(Kind::Submissions, Fault::Lost).times(1));
    let said = submit(&desk, &id, &K12).await.exits(0).json();
    assert_eq!((desk.sandbox.attempts_of(&id), submissions(&desk)), (1, 2), "{said}");
    let ids: Vec<_> = desk.sandbox.requests().into_iter().filter(|asked| asked.kind == Kind::Submissions).collect();
    assert_eq!(ids[0].request_id, ids[1].request_id);
    assert_eq!(said["request_id"].as_str(), ids[1].request_id.as_deref());

    // There is never a response: this is reported, and polls look for the result.
    desk.sandbox.fault(FaultRule::on(Kind::Submissions, Fault::Lost));
    let error = submit(&desk, &other, &K12).await.exits(1).error();
    assert!(error["message"].as_str().unwrap().contains("nobody knows whether Microsoft took"), "{error}");
    let advice = error["advice"].as_str().unwrap();
    assert!(advice.contains("may have arrived") && advice.contains("nothing is sent again by itself"), "{error}");
    assert!(advice.contains(&format!("vetwatch poll {other}")), "{error}");
    assert_eq!((desk.sandbox.attempts_of(&other), submissions(&desk)), (1, 5));
    assert!(is_expected(&desk, &other).await);
    desk.run(&["poll", &other]).await.exits(0);
    assert_eq!(events(&desk, &other).await, ["vetting.submitted"]);
    assert!(submit(&desk, &other, &K12).await.exits(1).err.contains("in review"));
    desk.sandbox.deny(&other, "Not an Academic Domain").unwrap();
    desk.run(&["poll", &other]).await.exits(0);
    assert_eq!(events(&desk, &other).await, ["vetting.submitted", "vetting.denied"]);

    // A submission that never arrived changes nothing.
    desk.sandbox.clear_faults();
    desk.sandbox.stop().await.unwrap();
    submit(&desk, &other, &K12).await.exits(75);
    assert_eq!(desk.sandbox.attempts_of(&other), 1);
}

#[tokio::test]
async fn what_does_not_fit_is_wrong_usage_before_anything_is_sent() {
    let mut desk = desk().await;
    let id = desk.customer("Contoso School").await;
    let connections = desk.sandbox.connections();
    for (arguments, says) in [
        (&["Education", "--yes"][..], "needs a segment"),
        (&["Education", "--yes", "--segment", "K13"], "K12 or HigherEducation"),
        (&["Education", "--yes", "--segment", "K12", "--validation-code", "1"], "--validation-code does not belong"),
        (&["Education", "--yes", "--segment", "K12", "--website", "a b"], "one word"),
        (&["GovernmentCommunityCloud", "--yes"], "needs a validation code"),
        (&["government_community_cloud", "--yes", "--validation-code", "1", "--segment", "K12"], "--segment does not"),
        (&["GovernmentCommunityCloud", "--yes", "--validation-code", "-"], "standard input holds no validation code"),
        (&["StateOwnedEntity", "--yes", "--website", "contoso.edu"], "--website does not belong"),
        (&["StateOwnedEntity", "--yes", "--validation-code", "1"], "--validation-code does not belong"),
        (&["Nonprofit", "--yes"], "cannot be submitted"),
        (&["None", "--yes"], "cannot be submitted"),
        (&["StateOwnedEntity"], "`--yes` submits without asking"),
    ] {
        let said = submit(&desk, &id, arguments).await.exits(2);
        assert!(said.err.contains(says), "{arguments:?}: {said:?}");
        let more = [arguments, &["--json"]].concat();
        submit(&desk, &id, &more).await.exits(2).error();
    }
    submit(&desk, "nobody", &K12).await.exits(4);
    assert_eq!(desk.sandbox.connections(), connections);
}

#[tokio::test]
async fn a_submission_in_vain_is_refused_unless_it_is_forced() {
    let mut desk = desk().await;
    let id = desk.customer("Contoso School").await;
    desk.run(&["poll"]).await.exits(0);
    for attempt in 1..=3 {
        let said = submit(&desk, &id, &K12).await.exits(0).json();
        assert_eq!(said["attempt"], attempt);
        let again = submit(&desk, &id, &K12).await.exits(1).error();
        assert!(again["message"].as_str().unwrap().contains("is in review"), "{again}");
        desk.sandbox.deny(&id, "Not an Academic Domain").unwrap();
        desk.run(&["poll"]).await.exits(0);
        // A create date has seconds.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let fourth = submit(&desk, &id, &K12).await.exits(1).error();
    assert!(fourth["message"].as_str().unwrap().contains("has used all 3 attempts"), "{fourth}");
    assert_eq!(submissions(&desk), 3);
    let forced = submit(&desk, &id, &[&K12[..], &["--force"]].concat()).await.exits(5).error();
    assert!(forced["message"].as_str().unwrap().contains("exhausted"), "{forced}");
    assert_eq!(submissions(&desk), 4);
    desk.run(&["customers", "pause", &id]).await.exits(0);
    assert!(submit(&desk, &id, &["StateOwnedEntity", "--yes"]).await.exits(1).err.contains("customers resume"));
}

#[tokio::test]
async fn a_qualification_that_does_not_go_with_another_one_is_refused_unless_it_is_forced() {
    const GCC: [&str; 5] = ["GovernmentCommunityCloud", "--validation-code", "12345", "--yes", "--json"];
    let mut desk = desk().await;
    let id = desk.customer("City of Contoso").await;
    for (entry, held) in [
        (json!({ "qualification": "Education", "vettingStatus": "Approved" }), Some("Education (Approved)")),
        (json!({ "qualification": "education", "vettingStatus": "InReview" }), Some("education (InReview)")),
        (json!({ "qualification": "education", "vettingStatus": "Denied" }), None),
        (json!({ "qualification": "StateOwnedEntity" }), Some("StateOwnedEntity (held)")),
    ] {
        desk.sandbox.set_entry(&id, entry).unwrap();
        desk.run(&["poll"]).await.exits(0);
        let before = submissions(&desk);
        let said = submit(&desk, &id, &GCC).await;
        match held {
            Some(held) => {
                let error = said.exits(1).error();
                assert!(error["message"].as_str().unwrap().contains(held), "{error}");
                assert_eq!(submissions(&desk), before);
            }
            // It is sent, and the code is none that the sandbox knows.
            None => assert!(submissions(&desk) > before, "{}", said.err),
        }
    }
    let before = submissions(&desk);
    submit(&desk, &id, &[&GCC[..], &["--force"]].concat()).await;
    assert_eq!(submissions(&desk), before + 1);
    // The other way round; a StateOwnedEntity goes with anything.
    let id = desk.customer("Contoso School").await;
    desk.sandbox
        .set_entry(&id, json!({ "qualification": "government_community_cloud", "vettingStatus": "Approved" }))
        .unwrap();
    desk.run(&["poll"]).await.exits(0);
    let error = submit(&desk, &id, &K12).await.exits(1).error();
    assert!(error["message"].as_str().unwrap().contains("government_community_cloud (Approved)"), "{error}");
    submit(&desk, &id, &["StateOwnedEntity", "--yes"]).await.exits(0);
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code_its_meaning_and_what_to_do() {
    let mut desk = desk().await;
    let id = desk.customer(EVIL).await;
    desk.run(&["poll"]).await.exits(0);
    let before = desk.rows("select watch_closely_until, poll_class from customer").await;
    let text = Fault::Custom { status: 409, headers: [].into(), body: "\"Customer tagging denied.\"".into() };
    for (fault, code, message, remedy) in [
        (Fault::error(400, 3000), 5, "400 3000", "a value was not accepted"),
        (Fault::error(403, 20002), 5, "403 20002", "no relationship"),
        (Fault::error(403, 2032), 5, "403 2032", ""),
        (Fault::error(404, 60003), 5, "404 60003", "does not know the customer"),
        (text, 5, "409: Customer tagging denied.", "conflicts with how the customer stands"),
        (Fault::error(406, 2006), 5, "406 2006", "does not document"),
        (Fault::status(401), 5, "401", ""),
    ] {
        desk.sandbox.fault(FaultRule::on(Kind::Submissions, fault));
        let error = submit(&desk, &id, &K12).await.exits(code).error();
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        assert!(error["advice"].as_str().unwrap_or_default().contains(remedy), "{error}");
        desk.sandbox.clear_faults();
    }
    assert_eq!(desk.rows("select watch_closely_until, poll_class from customer").await, before);
    let other = desk.customer("Fabrikam").await;
    desk.sandbox.approve(&other).unwrap();
    let more = ["GovernmentCommunityCloud", "--validation-code", "123456", "--yes", "--json"];
    assert!(submit(&desk, &other, &more).await.exits(5).error()["message"].as_str().unwrap().contains("be combined"));

    // Throttling applies to all requests of the partner.
    desk.sandbox.fault(FaultRule::on(Kind::Submissions, Fault::throttled(Duration::from_secs(57))));
    let (asked, sent) = (desk.sandbox.count(Kind::Qualifications), submissions(&desk));
    submit(&desk, &id, &K12).await.exits(75);
    let again = submit(&desk, &id, &K12).await.exits(75).error();
    assert!(again["advice"].as_str().unwrap().contains("nothing is sent there before"), "{again}");
    desk.run(&["poll"]).await.exits(75);
    desk.run(&["validation-codes"]).await.exits(75);
    assert_eq!((desk.sandbox.count(Kind::Qualifications), submissions(&desk)), (asked, sent + 1));
}

#[tokio::test]
async fn submitting_needs_a_user_who_is_signed_in() {
    let mut desk = Desk::new().await;
    let id = desk.customer("Contoso School").await;
    let said = submit(&desk, &id, &K12[..4]).await.exits(78).err;
    assert!(said.contains("[partner.user_credential]") && said.contains("`vetwatch login`"), "{said}");

    let mut desk = self::desk().await;
    let id = desk.customer("Contoso School").await;
    fs::remove_file(desk.path("tokens/emea")).unwrap();
    let said = submit(&desk, &id, &K12[..4]).await.exits(5).err;
    assert!(said.contains("`vetwatch login PARTNER`"), "{said}");
    assert_eq!((submissions(&desk), desk.sandbox.count(Kind::Token)), (0, 0));
}

#[tokio::test]
async fn validation_codes_are_asked_for_where_they_are_and_used_from_standard_input() {
    let mut desk = desk().await;
    let id = desk.customer("City of Contoso").await;
    let codes = desk.json(&["validation-codes"]).await;
    assert_eq!(codes[0]["validation_id"], "123456", "{codes}");
    assert_eq!((&codes[0]["remaining_creates"], &codes[0]["partner"]), (&json!(5), &json!("emea")));

    let mut command = desk.command(&["submit", &id, "GOVERNMENT_community_cloud", "--validation-code", "-", "--yes"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"123456\n").unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    desk.keep(&complaint(&output));
    let held = desk.rows("select qualification, vetting_status from v_current").await;
    assert_eq!((held.len(), key(&held[0])), (1, key("GovernmentCommunityCloud | InReview")));

    let table = desk.run(&["validation-codes", "--partner", "emea"]).await.exits(0).out;
    assert!(table.contains("123456") && table.contains("Contoso, Inc.") && table.contains("4     5"), "{table}");
    desk.run(&["validation-codes", "--partner", "amer"]).await.exits(4);
    desk.sandbox.set_validation_codes(Vec::new());
    assert!(desk.run(&["validation-codes"]).await.exits(0).out.contains("no validation codes"));
    desk.sandbox.fault(FaultRule::on(Kind::Validations, Fault::Html));
    desk.run(&["validation-codes", "--json"]).await.exits(1).error();
    let asked: Vec<_> = desk.sandbox.requests().into_iter().filter(|asked| asked.kind == Kind::Validations).collect();
    assert!(asked.iter().all(|asked| asked.path == "/v1/customers/all/validations"), "{asked:?}");
    let raw = desk.rows("select count(*) from transition where raw_answer like '%123456%'").await;
    assert_eq!(raw, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_the_daemon_a_submission_is_recorded_and_the_daemon_tells_the_outcome() {
    let town = DaemonHarness::new("in_review = \"100ms\"\nsettled = \"24h\"", "").await;
    town.change("[schedule]", USER);
    town.keep_sign_in();
    let id = town.add_customers(1).await.remove(0);
    let daemon = town.running().await;
    town.until("select last_seen_at is not null from v_customers", &["1"]).await;
    let said = town.run_beside(&["submit", &id, "Education", "--segment", "K12", "--yes", "--json"]).await;
    assert!(said.status.success(), "{}", complaint(&said));
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(said["vetting_status"], "InReview");
    let asked = town.sandbox.count_of(&id);
    town.sandbox.wait_for_customer(&id, asked + 2, SOON).await.expect("it is asked as one in review");
    town.sandbox.deny(&id, "Not an Academic Domain").unwrap();
    town.delivered(1).await;
    let types = town.rows("select event_type from v_transitions order by transition_id").await;
    assert_eq!(types, ["vetting.submitted", "vetting.denied"]);
    daemon.stop().await;
}
