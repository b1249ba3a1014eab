//! `vetwatch login`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use vetwatch::sandbox::{Decision, Kind, Rotation, SignIns};

use super::ACCESS;
use crate::process::{DaemonHarness, SOON, complaint, eventually};

const USER: &str = "kind = 'refresh-token'\nclient_secret_file = 'client-secret'";

/// Waits for the one device, and decides about it.
async fn decide(town: &DaemonHarness, decision: Decision) {
    let code = eventually("a device waits", SOON, async || {
        let devices = town.sandbox.devices();
        devices
            .into_iter()
            .find(|device| device.decision == Decision::Pending && device.asked > 0)
            .ok_or_else(String::new)
    })
    .await
    .user_code;
    assert!(town.sandbox.decide(&code, decision));
}

/// The refresh tokens in the file.
fn tokens(town: &DaemonHarness) -> Vec<String> {
    let text = fs::read_to_string(town.folder.path().join("tokens/emea")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    ["refresh_token", "previous"].into_iter().filter_map(|key| json[key].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_with_a_code_and_no_token_is_seen() {
    let town = DaemonHarness::with_credential(USER).await;
    let ids = town.add_customers(1).await;
    let nobody = town.run_beside(&["poll"]).await;
    assert_eq!(nobody.status.code(), Some(5), "{}", complaint(&nobody));
    assert!(complaint(&nobody).contains("`vetwatch login PARTNER` signs in"), "{}", complaint(&nobody));

    let (login, ()) = tokio::join!(town.run_beside(&["login", "-vv"]), decide(&town, Decision::Approved));
    assert!(login.status.success(), "{}", complaint(&login));
    let said = complaint(&login);
    assert!(said.contains("Signed in as admin.agent@contoso.example"), "{said}");
    assert!(said.contains("/control/devices in a browser, on any machine, and type the code "), "{said}");
    let path = town.folder.path().join("tokens/emea");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path), mode(town.folder.path().join("tokens"))), (0o600, 0o700));
    let first = tokens(&town);

    // The backoff for lack of a signed-in user.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let poll = town.run_beside(&["poll", "-vv", &ids[0]]).await;
    assert!(poll.status.success(), "{}", complaint(&poll));
    let said = said + &complaint(&poll);
    for secret in first.iter().chain(&tokens(&town)).map(String::as_str).chain([ACCESS, "sandbox-secret"]) {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    let database = fs::read(&town.database).unwrap();
    for token in tokens(&town) {
        assert!(!database.windows(token.len()).any(|window| window == token.as_bytes()), "a token in the database");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_is_declined_or_abandoned_changes_nothing() {
    let town = DaemonHarness::with_credential(USER).await;
    town.keep_sign_in();
    let before = tokens(&town);
    let (login, ()) = tokio::join!(town.run_beside(&["login"]), decide(&town, Decision::Declined));
    assert_eq!(login.status.code(), Some(5), "{}", complaint(&login));
    assert!(complaint(&login).contains("it was declined"), "{}", complaint(&login));

    town.sandbox.set_sign_ins(SignIns { code_lifetime: Duration::from_secs(2), ..SignIns::default() });
    let login = town.run_beside(&["login", "--json"]).await;
    assert_eq!(login.status.code(), Some(75), "{}", complaint(&login));
    let prompt: Value = serde_json::from_slice(&login.stdout).unwrap();
    assert_eq!((&prompt["partner"], &prompt["expires_in_s"]), (&"emea".into(), &2.into()));
    assert_eq!(tokens(&town), before);

    let login = town.run_beside(&["login", "apac"]).await;
    assert_eq!(login.status.code(), Some(4), "{}", complaint(&login));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_user_is_configured_login_says_so() {
    let town = DaemonHarness::new("", "").await;
    let login = town.run_beside(&["login"]).await;
    assert_eq!(login.status.code(), Some(78), "{}", complaint(&login));
    assert!(complaint(&login).contains("reading needs no user"), "{}", complaint(&login));
    assert_eq!(town.sandbox.count(Kind::Token), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_signs_in_while_the_daemon_renews_and_both_go_on() {
    let town = DaemonHarness::with_credential(USER).await;
    town.sandbox.set_sign_ins(SignIns { rotation: Rotation::Strict, ..SignIns::default() });
    town.sandbox.set_token_lifetime(Duration::from_secs(1));
    town.keep_sign_in();
    town.add_customers(2).await;
    let daemon = town.running().await;
    for _ in 0..3 {
        let (login, ()) = tokio::join!(town.run_beside(&["login"]), decide(&town, Decision::Approved));
        assert!(login.status.success(), "{}", complaint(&login));
        let (renewals, questions) = (town.sandbox.count(Kind::Token), town.sandbox.count(Kind::Qualifications));
        town.sandbox.wait_for_requests(Kind::Token, renewals + 2, SOON).await.expect("a renewal");
        town.sandbox.wait_for_requests(Kind::Qualifications, questions + 4, SOON).await.expect("questions");
    }
    let errors = town.rows("select count(*) from v_customers where last_error is not null").await;
    assert_eq!(errors, ["0"], "{}", town.log());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_sign_in() {
    let town = DaemonHarness::with_credential(USER).await;
    let login = town.start_command(&["login"]);
    let pid = login.id();
    eventually(
        "a device waits",
        SOON,
        async || {
            if town.sandbox.devices().is_empty() { Err(String::new()) } else { Ok(()) }
        },
    )
    .await;
    let ended: JoinHandle<_> = tokio::task::spawn_blocking(move || login.wait_with_output().unwrap());
    // The prompt is printed before Ctrl-C is handled.
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::process::Command::new("kill").arg("-INT").arg(pid.to_string()).status().unwrap();
    let output = tokio::time::timeout(SOON, ended).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains("cancelled; nothing was changed"), "{}", complaint(&output));
}

/// In a rehearsal no test approves.
#[tokio::test(flavor = "multi_thread")]
async fn the_sandboxs_users_and_certificates_are_there_for_curl() {
    let town = DaemonHarness::with_credential(USER).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let at = |path: &str| town.sandbox.url().join(&format!("control/{path}")).unwrap();
    let settings = r#"{"rotation":"strict","mfa":false,"mfa_refusal":"code","interval":"2s","code_lifetime":"1m"}"#;
    for (request, status) in [
        (client.put(at("sign-ins")).body(settings), 200),
        (client.put(at("sign-ins")).body(r#"{"rotations":"strict"}"#), 400),
        (client.put(at("certificates")).body(super::APP), 200),
        (client.put(at("certificates")).body("no certificate"), 400),
        (client.delete(at("certificates")), 200),
        (client.put(at("federated-token")).body("a.b.c"), 200),
        (client.delete(at("federated-token")), 200),
        (client.delete(at("sign-ins")), 200),
        (client.post(at("devices/NOBODY/approve")), 404),
        (client.post(at("devices/NOBODY/marry")), 400),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{:?}", answer.text().await);
    }
    let approve = async {
        let code = eventually("a device waits", SOON, async || {
            let text = client.get(at("devices")).send().await.unwrap().text().await.unwrap();
            let json: Value = serde_json::from_str(&text).unwrap();
            json["devices"][0]["user_code"].as_str().map(str::to_owned).ok_or(text)
        })
        .await;
        let path = format!("devices/{}/approve", code.to_lowercase());
        assert_eq!(client.post(at(&path)).send().await.unwrap().status(), 200);
    };
    let (login, ()) = tokio::join!(town.run_beside(&["login"]), approve);
    assert!(login.status.success(), "{}", complaint(&login));
    let warned = complaint(&login).contains("Warning: this was without a second factor");
    assert!(warned, "{}", complaint(&login));
}
