//! `vetwatch check --live`: which step failed, and why.

use serde_json::Value;
use vetwatch::sandbox::{Fault, FaultRule, Kind};

use super::{ACCESS, SCHOOL};
use crate::process::{DaemonHarness, complaint};
use vetwatch::sandbox::CustomerDetails;

/// Each step and its success; the exit code; all output.
async fn live(town: &DaemonHarness) -> (Vec<String>, Option<i32>, String) {
    let output = town.run_beside(&["check", "--live", "--json"]).await;
    let said = complaint(&output);
    for secret in [ACCESS, "sandbox-secret"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let steps = json["live"].as_array().unwrap_or_else(|| panic!("{said}"));
    let step = |step: &Value| format!("{} {}", step["step"].as_str().unwrap(), step["ok"]);
    if !output.status.success() {
        let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!(error["error"]["exit_code"].as_i64(), output.status.code().map(i64::from));
    }
    (steps.iter().map(step).collect(), output.status.code(), said)
}

async fn town() -> DaemonHarness {
    let town = DaemonHarness::new("", "").await;
    town.sandbox.add_customer(CustomerDetails::new(SCHOOL, "Contoso School", "school.example")).unwrap();
    town
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_walks_all_the_way_and_says_so() {
    let town = town().await;
    let (steps, code, said) = live(&town).await;
    assert_eq!(code, Some(0), "{said}");
    let way = ["connection", "token", "customers", "qualification", "rights", "login"];
    assert_eq!(steps, way.map(|step| format!("{step} true")), "{said}");
    assert!(said.contains("may read customers and qualifications"), "{said}");
    let text = town.run_beside(&["check", "--live"]).await;
    assert!(text.status.success(), "{}", complaint(&text));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("  partner emea  token         ok      received for the application"), "{text}");
    assert!(text.contains("login         ok      127.0.0.1:"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_says_which_step_failed_and_goes_on_elsewhere() {
    let town = town().await;
    for (on, code, fault, steps, words) in [
        (Kind::Customers, 5, Fault::status(403), vec!["customers false"], "a permission is missing: 403 2032"),
        (
            Kind::Qualifications,
            5,
            Fault::status(403),
            vec!["customers true", "qualification false"],
            "give it the role",
        ),
        (Kind::Customers, 75, Fault::status(503), vec!["customers false"], "503"),
        (Kind::Qualifications, 1, Fault::Garbage, vec!["customers true", "qualification false"], "not understood"),
    ] {
        town.sandbox.fault(FaultRule::on(on, fault));
        let (seen, exit, said) = live(&town).await;
        let expected = [&["connection true", "token true"], steps.as_slice(), &["login true"]].concat();
        assert_eq!((seen, exit), (expected.iter().map(|step| (*step).to_owned()).collect(), Some(code)), "{said}");
        assert!(said.contains(words), "{words}: {said}");
        town.sandbox.clear_faults();
    }
    town.sandbox.expire_client_secret();
    let (steps, code, said) = live(&town).await;
    assert_eq!((steps[1].as_str(), code), ("token false", Some(5)), "{said}");
    assert!(said.contains("AADSTS7000222") && said.contains("make a new one"), "{said}");
    town.sandbox.stop().await.unwrap();
    let (steps, code, said) = live(&town).await;
    assert_eq!((steps, code), (vec!["connection false".to_owned(), "login true".to_owned()], Some(75)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_tells_a_name_from_tls_and_both_from_a_mail_server() {
    let town = town().await;
    let login = format!("login_url = \"{}\"", town.sandbox.url());
    town.change(&login, "login_url = \"https://login.nowhere.invalid/\"");
    let (steps, code, said) = live(&town).await;
    assert_eq!((steps[0].as_str(), steps.len(), code), ("dns false", 2, Some(75)), "{said}");
    let plain = format!("login_url = \"https://{}/\"", town.sandbox.address());
    town.change("login_url = \"https://login.nowhere.invalid/\"", &plain);
    let (steps, code, said) = live(&town).await;
    assert_eq!((steps[0].as_str(), steps.len(), code), ("tls false", 2, Some(75)), "{said}");
    town.change(&plain, &login);
    town.change(&format!("port = {}", town.mail.address().port()), "port = 9");
    let (steps, code, said) = live(&town).await;
    assert_eq!((steps.last().unwrap().as_str(), code), ("login false", Some(75)), "{said}");
    assert!(said.contains("connecting"), "{said}");
    town.change("port = 9", "port = 9\nprot = 9");
    let output = town.run_beside(&["check", "--live"]).await;
    assert_eq!(output.status.code(), Some(78), "{}", complaint(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_says_each_failure_once_and_what_it_did_not_try() {
    let town = town().await;
    let (_, _, said) = live(&town).await;
    assert!(said.contains("\"not_tried\""), "{said}");
    std::fs::write(town.folder.path().join("heartbeat"), town.hook.url().join("/nowhere").unwrap().as_str()).unwrap();
    town.hook.script(vetwatch::sandbox::webhook_receiver::WebhookAction::status(404), None);
    town.change("[operators]", "[operators]\nheartbeat_url_file = \"heartbeat\"");
    town.change(&format!("port = {}", town.mail.address().port()), "port = 9");
    let output = town.run_beside(&["check", "--live"]).await;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches("Connection refused").count(), 1, "{said}");
    assert_eq!(said.matches("HTTP 404").count(), 1, "{said}");
    assert!(said.contains("not tried: crm; `vetwatch test-send --all`"), "{said}");
    assert!(said.contains("2 steps failed: mail server 127.0.0.1:9: login; http://127.0.0.1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_tries_the_user_who_submits() {
    let town = town().await;
    town.change("[schedule]", "[partner.user_credential]\nkind = \"refresh-token\"\n[schedule]");
    let (steps, code, said) = live(&town).await;
    assert_eq!((steps[4].as_str(), code), ("rights false", Some(5)), "{said}");
    assert!(said.contains("`vetwatch login PARTNER`"), "{said}");
    town.keep_sign_in();
    let (steps, code, said) = live(&town).await;
    assert_eq!((steps[4].as_str(), code), ("rights true", Some(0)), "{said}");
    assert!(said.contains("a user is signed in; the refresh token ends"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_says_that_api_url_is_another_servers() {
    const QUESTION: &str = "check api_url: the commercial cloud's is https://api.partnercenter.microsoft.com/";
    let town = town().await;
    let api = format!("api_url = \"{}\"", town.sandbox.url());
    for (answer, words) in [
        ("200 OK\n\n<!DOCTYPE html><html>Welcome</html>", "a web page, and not the API's answer"),
        ("404 Not Found\n\n<html>nginx</html>", "a web page, and not the API's answer"),
        ("404 Not Found", "404: Not Found"),
        ("405 Method Not Allowed", "405: Method Not Allowed"),
        (
            "302 Found\r\nLocation: https://partner.example/login?token=T0KEN",
            "a redirect to https://partner.example, which is not followed: check `api_url`",
        ),
        ("200 OK\n\n{\"status\":\"ok\",\"version\":3}", "not understood: "),
        ("200 OK\n\n[]", "not understood: "),
        ("401 Unauthorized\n\n{\"error\":\"no session\"}", "no session"),
        ("403 Forbidden\n\n<html>no</html>", "a web page, and not the API's answer"),
    ] {
        let other = format!("api_url = \"http://127.0.0.1:{}/\"", crate::tunnel::always(answer).await);
        town.change(&api, &other);
        let (steps, code, said) = live(&town).await;
        assert!(steps.contains(&"token true".to_owned()) && steps.contains(&"customers false".to_owned()), "{said}");
        assert!(code != Some(0) && said.contains(words) && said.contains(QUESTION), "{answer}: {said}");
        assert!(!said.contains("T0KEN"), "{said}");
        town.change(&other, &api);
    }
    // An error of the API itself is not put down to the address.
    town.sandbox.fault(FaultRule::on(Kind::Customers, Fault::status(403)));
    let (_, _, said) = live(&town).await;
    assert!(!said.contains("is api_url the API's"), "{said}");
}
