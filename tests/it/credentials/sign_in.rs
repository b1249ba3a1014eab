//! `vetwatch login`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use reqwest::redirect::Policy;
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

/// A sign-in that waits for its browser.
struct Waiting {
    login: std::process::Child,
    /// The page of the login server.
    url: url::Url,
    /// Where the browser is sent back to.
    port: u16,
    browser: reqwest::Client,
}

impl Waiting {
    fn start(town: &DaemonHarness, more: &[&str]) -> Self {
        let mut login = town.start_command(&[&["login", "--browser", "--json"], more].concat());
        let mut line = String::new();
        BufReader::new(login.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let prompt: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let url = prompt["url"].as_str().unwrap().parse().unwrap();
        let browser = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { login, url, port: prompt["port"].as_u64().unwrap().try_into().unwrap(), browser }
    }

    fn parameter(&self, name: &str) -> String {
        self.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap()
    }

    /// Opens the login server's page; returns where it leads.
    async fn signs_in(&self) -> String {
        let answer = self.browser.get(self.url.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 302, "{}", answer.text().await.unwrap());
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    /// Comes back to vetwatch: the status and the page.
    async fn comes_back(&self, query: &str) -> (u16, String) {
        let answer = self.browser.get(format!("http://127.0.0.1:{}{query}", self.port)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn ends(self) -> (Option<i32>, String) {
        let ended = tokio::task::spawn_blocking(move || self.login.wait_with_output().unwrap());
        let output = tokio::time::timeout(SOON, ended).await.unwrap().unwrap();
        (output.status.code(), complaint(&output))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_with_a_browser_and_only_the_answer_to_this_sign_in_counts() {
    let town = DaemonHarness::with_credential(USER).await;
    let ids = town.add_customers(1).await;
    let waiting = Waiting::start(&town, &[]);
    assert_eq!(waiting.parameter("code_challenge_method"), "S256");
    assert_eq!(waiting.parameter("redirect_uri"), format!("http://localhost:{}", waiting.port));
    assert_eq!(waiting.parameter("scope"), "https://api.partnercenter.microsoft.com/user_impersonation offline_access");
    let state = waiting.parameter("state");
    for query in [
        "/",
        "/favicon.ico",
        "/?code=stolen",
        "/?code=stolen&state=wrong",
        &format!("/?code=stolen&state=wrong&state={state}"),
        &format!("/?error=access_denied&state={}", &state[1..]),
        &format!("/?state={state}"),
    ] {
        let (status, page) = waiting.comes_back(query).await;
        assert_eq!((status, page.as_str()), (400, "This is not the sign-in that vetwatch waits for."), "{query}");
    }
    let location = waiting.signs_in().await;
    let query = location.strip_prefix(&format!("http://localhost:{}", waiting.port)).expect(&location);
    // A stolen code cannot be redeemed: the verifier never leaves vetwatch.
    let code = url::Url::parse(&location).unwrap().query_pairs().find(|(key, _)| key == "code").unwrap().1.into_owned();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", &waiting.parameter("client_id")),
        ("client_secret", "sandbox-secret"),
        ("scope", &waiting.parameter("scope")),
        ("redirect_uri", &waiting.parameter("redirect_uri")),
        ("code", &code),
        ("code_verifier", "guessed"),
    ];
    let token = waiting.url.join("token").unwrap();
    let stolen = waiting.browser.post(token).form(&form).send().await.unwrap().text().await.unwrap();
    assert!(stolen.contains("AADSTS501481"), "{stolen}");

    // A browser may open a connection that it does not use.
    let _unused = tokio::net::TcpStream::connect(("127.0.0.1", waiting.port)).await.unwrap();
    let (status, page) = waiting.comes_back(query).await;
    assert!(status == 200 && page.contains("The terminal says whether it worked"), "{status} {page}");
    let again = reqwest::get(format!("http://127.0.0.1:{}{query}", waiting.port)).await;
    assert!(again.is_err(), "nobody listens any more: {again:?}");
    let (exit, said) = waiting.ends().await;
    assert_eq!(exit, Some(0), "{said}");
    for secret in tokens(&town).iter().map(String::as_str).chain([ACCESS, "sandbox-secret", &code]) {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    let poll = town.run_beside(&["poll", &ids[0]]).await;
    assert!(poll.status.success(), "{}", complaint(&poll));
    // What v2 gave out is redeemed at v2.
    let asked = town.sandbox.requests().into_iter().filter(|request| request.kind == Kind::Token);
    let paths: Vec<_> = asked.map(|request| request.path).collect();
    assert!(paths.len() > 2 && paths.iter().all(|path| path.ends_with("/oauth2/v2.0/token")), "{paths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_comes_back_without_a_code_says_why_and_changes_nothing() {
    let town = DaemonHarness::with_credential(USER).await;
    town.keep_sign_in();
    let before = tokens(&town);
    town.sandbox.set_sign_ins(SignIns { browser_declines: true, ..SignIns::default() });
    let waiting = Waiting::start(&town, &[]);
    let location = waiting.signs_in().await;
    let (status, page) =
        waiting.comes_back(location.rsplit_once('/').map(|(_, query)| format!("/{query}")).as_deref().unwrap()).await;
    assert!(status == 200 && page.contains("The terminal says why"), "{status} {page}");
    let (exit, said) = waiting.ends().await;
    assert!(exit == Some(5) && said.contains("it was declined"), "{said}");

    for (error, words) in [
        ("error=invalid_request&error_description=AADSTS50011%3A+No+match.", "add http://localhost to it in Entra ID"),
        ("error=access_denied&error_description=AADSTS53003%3A+Blocked.", "Conditional Access blocks the application"),
        ("error=server_error&error_description=Try+later.", "without a code: server_error Try later."),
    ] {
        let waiting = Waiting::start(&town, &[]);
        waiting.comes_back(&format!("/?{error}&state={}", waiting.parameter("state"))).await;
        let (exit, said) = waiting.ends().await;
        assert!(exit == Some(5) && said.contains(words), "{words}: {said}");
    }
    // The page of the login server does not send back to anywhere else.
    let elsewhere = town.sandbox.url().join("5a4d0b1e-0c5c-4c8e-9f0e-2f6d3b1a7c11/oauth2/v2.0/authorize?client_id=8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22&response_type=code&redirect_uri=https://evil.example/&scope=https://api.partnercenter.microsoft.com/.default").unwrap();
    let answer = reqwest::get(elsewhere).await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("AADSTS50011"));
    assert_eq!(tokens(&town), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_a_browsers_sign_in_can_be_chosen_to_forward_it() {
    let town = DaemonHarness::with_credential(USER).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let login = town.run_beside(&["login", "--browser", "--port", &port.to_string()]).await;
    let said = complaint(&login);
    assert_eq!(login.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}")) && said.contains("without --port"), "{said}");
    let login = town.run_beside(&["login", "--port", "8400"]).await;
    assert_eq!(login.status.code(), Some(2), "{}", complaint(&login));
    drop(taken);
    let waiting = Waiting::start(&town, &["--port", &port.to_string()]);
    assert_eq!(waiting.port, port);
    let location = waiting.signs_in().await;
    waiting.browser.get(location).send().await.unwrap();
    let (exit, said) = waiting.ends().await;
    assert_eq!(exit, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_device_codes_are_blocked_the_browser_is_offered() {
    let town = DaemonHarness::with_credential(USER).await;
    town.sandbox.set_sign_ins(SignIns { device_codes_blocked: true, ..SignIns::default() });
    let (login, ()) = tokio::join!(town.run_beside(&["login"]), decide(&town, Decision::Approved));
    let said = complaint(&login);
    assert_eq!(login.status.code(), Some(5), "{said}");
    assert!(said.contains("AADSTS53003") && said.contains("`vetwatch login emea --browser` needs none"), "{said}");
    // Microsoft may say so to the person alone, and then nobody types the code.
    town.sandbox.set_sign_ins(SignIns { code_lifetime: Duration::from_secs(1), ..SignIns::default() });
    let said = complaint(&town.run_beside(&["login"]).await);
    assert!(said.contains("the code has expired") && said.contains("login emea --browser"), "{said}");
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
