//! `vetwatch demo` and `vetwatch sandbox`, as a visitor starts them.

mod screen;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The shipped binary if `VETWATCH_BIN` names it, or else the one of this build.
fn vetwatch(arguments: &[&str]) -> Command {
    let program = std::env::var_os("VETWATCH_BIN").map_or_else(|| env!("CARGO_BIN_EXE_vetwatch").into(), PathBuf::from);
    let mut command = Command::new(program);
    command.args(arguments).env_remove("RUST_LOG").env_remove("VETWATCH_CONFIG").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A demo with its temporary files in `folder`.
fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = vetwatch(&[&["demo"], arguments].concat());
    command.env("TMPDIR", folder);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().unwrap().next().is_none()
}

#[test]
fn the_demo_shows_an_approval_and_a_denial_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path(), &["--duration", "8s"]).output().unwrap();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}{complained}");
    assert_eq!(complained, "", "{said}");
    for wanted in [
        "vetwatch        Northwind Library, Education: InReview → Approved\n",
        "│ Subject: Approved: Northwind Library – Education\n",
        "│ Microsoft has approved Northwind Library for Education.\n",
        "│ Subject: Denied: Fabrikam College – Education (Not an Academic Domain)\n",
        "│ Microsoft's reason: Not an Academic Domain\n",
        "webhook         vetting.denied Fabrikam College, signature verified\n",
        "│   \"type\": \"vetting.approved\",\n",
        "  lost         0\n",
        "  sent twice   0\n",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is missing:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "colours without a terminal:\n{said}");
    assert!(is_empty(folder.path()), "{:?} is left", folder.path().read_dir().unwrap().collect::<Vec<_>>());
}

#[test]
fn two_demos_at_once_do_not_meet_and_each_tells_the_whole_story() {
    let folder = tempfile::tempdir().unwrap();
    let start = || demo(folder.path(), &["--duration", "15s", "--json"]).spawn().unwrap();
    for demo in [start(), start()] {
        let output = demo.wait_with_output().unwrap();
        let complained = text(&output.stderr);
        assert_eq!((output.status.code(), complained.as_str()), (Some(0), ""), "{}", text(&output.stdout));
        let lines = lines(&output);
        let kinds = |pointer: &str| -> Vec<_> {
            lines.iter().filter_map(|line| line.pointer(pointer)).map(|kind| kind.as_str().unwrap()).collect()
        };
        let told = ["approved", "denied", "approved", "approved", "revoked"].map(|kind| format!("vetting.{kind}"));
        assert_eq!(kinds("/mail/kind"), told, "the mails");
        assert_eq!(kinds("/body/type"), told, "the webhooks");
        let summary = lines.last().unwrap();
        assert_eq!(
            (&summary["kind"], &summary["lost"], &summary["repeated"]),
            (&"summary".into(), &0.into(), &0.into())
        );
        assert_eq!(summary["signatures_verified"], 5);
        // The mail server was down at the third verdict.
        let late: Vec<_> = lines.iter().filter(|line| line["attempts"].as_u64() > Some(1)).collect();
        assert_eq!(late.len(), 1, "{late:?}");
        assert!(late[0]["mail"]["subject"].as_str().unwrap().contains("Wingtip Town Council"), "{late:?}");
    }
    assert!(is_empty(folder.path()));
}

#[tokio::test]
async fn what_arrived_is_shown_as_pages_that_run_nothing_and_obey_only_their_own_host() {
    crate::world::tls();
    let folder = tempfile::tempdir().unwrap();
    let (running, mut out) = Running::start(&mut demo(folder.path(), &["--json"]));
    // In any order.
    let mut seen = HashMap::new();
    while !["stage", "mail", "card"].iter().all(|kind| seen.contains_key(*kind)) {
        let mut line = String::new();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended by itself");
        let value: Value = serde_json::from_str(&line).unwrap();
        seen.insert(value["kind"].as_str().unwrap().to_owned(), value);
    }
    let (mail, card) = (&seen["mail"], &seen["card"]);
    let base = seen["stage"]["arrived"].as_str().unwrap().to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: String| {
        let answer = http.get(format!("{base}{path}")).send().await.unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        (answer.status(), policy, answer.text().await.unwrap())
    };
    let (status, policy, list) = get(String::new()).await;
    assert_eq!(status, 200, "{list}");
    assert!(policy.starts_with("default-src 'none'; style-src 'self'; frame-src 'self'"), "{policy}");
    assert!(list.contains(mail["mail"]["subject"].as_str().unwrap()), "{list}");
    let number = mail["number"].as_u64().unwrap();
    let (_, _, page) = get(number.to_string()).await;
    assert!(page.contains("<iframe sandbox=") && page.contains(&format!("/{number}/mail.html")), "{page}");
    let (_, policy, html) = get(format!("{number}/mail.html")).await;
    assert!(
        policy.contains("sandbox") && !policy.contains("allow-scripts") && !policy.contains("script-src"),
        "{policy}"
    );
    assert!(html.contains("<!doctype html>") && html.contains("What to do next"), "{html}");
    let text = mail["mail"]["text"].as_str().unwrap();
    let page = text.lines().find_map(|line| line.strip_prefix("History and evidence: ")).expect("a link to the page");
    assert!(html.replace("&#x2f;", "/").contains(&format!("<a class=\"link\" href=\"{page}\"")), "{html}");
    let answer = http.get(page).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{page}");
    assert!(answer.text().await.unwrap().contains("<h2"), "{page}");
    let (_, _, source) = get(format!("{number}/source")).await;
    assert!(source.contains("Message-ID: <"), "{source}");
    let (_, _, drawn) = get(card["number"].to_string()).await;
    assert!(drawn.contains("<div class=\"card\">") && drawn.contains("Open in Partner Center</a>"), "{drawn}");
    assert_eq!(get("999".to_owned()).await.0, 404);
    let elsewhere = http.get(&base).header("host", "evil.example").send().await.unwrap();
    assert_eq!(elsewhere.status(), 421);
    assert_eq!(http.post(&base).send().await.unwrap().status(), 405);
    running.tell(Signal::SIGTERM);
    assert_eq!(running.code(), Some(0));
}

#[test]
fn a_demo_that_was_too_short_to_deliver_anything_says_so_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path(), &["--duration", "1ms"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("0 approvals and 0 denials were delivered"), "{}", text(&output.stderr));
    assert!(is_empty(folder.path()));
}

#[test]
fn a_demo_without_end_ends_cleanly_when_told_to() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let folder = tempfile::tempdir().unwrap();
        let (running, mut out) = Running::start(&mut demo(folder.path(), &["--json"]));
        let mut line = String::new();
        while !line.contains("\"kind\":\"transition\"") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended by itself");
        }
        running.tell(signal);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(running.code(), Some(0), "{signal}: {rest}");
        let summary: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
        assert_eq!((&summary["kind"], &summary["lost"]), (&"summary".into(), &0.into()), "{signal}");
        assert!(is_empty(folder.path()), "{signal}");
    }
}

#[tokio::test]
async fn a_flood_of_verdicts_is_gathered_and_none_of_them_counts_as_lost() {
    crate::world::tls();
    let folder = tempfile::tempdir().unwrap();
    let (running, mut out) = Running::start(&mut demo(folder.path(), &["--json"]));
    let stage = until(&mut out, |line| line["kind"] == "stage");
    until(&mut out, |line| line["kind"] == "baseline");
    let api = Api::of(&stage);
    let mut ids = api.add_in_review(30).await.into_iter();
    let mut gathers = false;
    while !gathers {
        let id = ids.next().expect("a flood");
        api.approve(&id).await;
        until(&mut out, |line| {
            gathers |= line["text"].as_str().is_some_and(|text| text.starts_with("more than ten verdicts"));
            line["kind"] == "webhook" && line["body"]["data"]["customer"]["id"] == id.as_str()
        });
    }
    for id in ids.by_ref().take(2) {
        api.approve(&id).await;
    }
    until(&mut out, |line| line["mail"]["kind"] == "vetting.digest");
    // It ends while it gathers again.
    let id = ids.next().expect("another customer");
    api.approve(&id).await;
    until(&mut out, |line| line["body"]["data"]["customer"]["id"] == id.as_str());
    running.tell(Signal::SIGINT);
    let summary = until(&mut out, |line| line["kind"] == "summary");
    assert_eq!(summary["lost"], 0, "{summary}");
    // The cards; a mail goes by its own rules while its server is down.
    assert!(summary["waiting"].as_u64() >= Some(2), "{summary}");
    assert_eq!(running.code(), Some(0));
    assert!(is_empty(folder.path()));
}

#[tokio::test]
async fn a_verdict_of_a_muted_customer_does_not_count_as_lost() {
    crate::world::tls();
    let folder = tempfile::tempdir().unwrap();
    let (running, mut out) = Running::start(&mut demo(folder.path(), &["--json"]));
    let stage = until(&mut out, |line| line["kind"] == "stage");
    until(&mut out, |line| line["kind"] == "baseline");
    let (config, yours) = (stage["config"].as_str().unwrap(), stage["yours"].as_str().unwrap());
    let muted = vetwatch(&["--config", config, "customers", "mute", yours]).output().unwrap();
    assert_eq!(muted.status.code(), Some(0), "{}", text(&muted.stderr));
    Api::of(&stage).approve(yours).await;
    until(&mut out, |line| line["transition"]["customer_id"] == yours);
    running.tell(Signal::SIGINT);
    let summary = until(&mut out, |line| line["kind"] == "summary");
    assert_eq!(summary["lost"], 0, "{summary}");
    assert_eq!(running.code(), Some(0));
}

/// The next line that `ends` is true for.
fn until(out: &mut BufReader<ChildStdout>, mut ends: impl FnMut(&Value) -> bool) -> Value {
    loop {
        let mut line = String::new();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended by itself");
        let value: Value = serde_json::from_str(&line).unwrap();
        if ends(&value) {
            return value;
        }
    }
}

/// The control API of a demo's Partner Center.
struct Api {
    http: reqwest::Client,
    control: String,
}

impl Api {
    fn of(stage: &Value) -> Self {
        let control = format!("{}control", stage["partner_center"].as_str().unwrap());
        Self { http: reqwest::Client::builder().no_proxy().build().unwrap(), control }
    }

    async fn ask(&self, request: reqwest::RequestBuilder) {
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    async fn approve(&self, customer: &str) {
        self.ask(self.http.post(format!("{}/customers/{customer}/approve", self.control))).await;
    }

    /// Adds customers, and waits until their first response is recorded. Returns their ids.
    async fn add_in_review(&self, count: usize) -> Vec<String> {
        let ids: Vec<_> = (0..count).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        for id in &ids {
            let customer = serde_json::json!({"id": id, "name": id, "domain": format!("{id}.example")});
            self.ask(self.http.post(format!("{}/customers", self.control)).json(&customer)).await;
            self.ask(self.http.post(format!("{}/customers/{id}/submit", self.control))).await;
        }
        for id in &ids {
            // The second poll follows the first one's record.
            self.ask(self.http.get(format!("{}/wait?customer={id}&nth=2&wait=20s", self.control))).await;
        }
        ids
    }
}

#[test]
fn a_demo_whose_reader_goes_away_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (running, out) = Running::start(&mut demo(folder.path(), &[]));
    drop(out);
    assert_eq!(running.code(), Some(0));
    assert!(is_empty(folder.path()));
}

#[test]
fn what_is_to_be_kept_is_kept_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("it's kept");
    let arguments = ["--duration", "3s", "--keep", kept.to_str().unwrap()];
    let first = demo(folder.path(), &arguments).output().unwrap();
    assert!(text(&first.stdout).contains("Kept: "), "{}{}", text(&first.stdout), text(&first.stderr));
    assert!(kept.join("vetwatch.db").exists() && kept.join("vetwatch.log").exists());
    assert!(!kept.join("vetwatch.db-wal").exists(), "the daemon was killed, or somebody reads still");
    let config = kept.join("vetwatch.toml");
    let check = vetwatch(&["check", "--config", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}{}", text(&check.stdout), text(&check.stderr));
    let second = demo(folder.path(), &arguments).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("is not empty"), "{}", text(&second.stderr));
}

/// Kills the child process if a test fails.
struct Running(Option<Child>);

impl Running {
    fn start(command: &mut Command) -> (Self, BufReader<ChildStdout>) {
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (Self(Some(child)), out)
    }

    fn tell(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.as_ref().unwrap().id()).unwrap())
    }

    /// Waits for the exit code, no longer than a delivery takes.
    fn code(mut self) -> Option<i32> {
        let (pid, mut child) = (self.pid(), self.0.take().unwrap());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(child.wait()));
        let Ok(status) = told.recv_timeout(Duration::from_secs(20)) else {
            kill(pid, Signal::SIGKILL).unwrap();
            panic!("it does not end");
        };
        status.unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test]
async fn the_sandbox_says_where_it_is_answers_and_ends_when_told_to() {
    crate::world::tls();
    let arguments = ["sandbox", "--json", "--customers", "5", "--in-review", "2", "--settled", "2"];
    let (running, mut out) = Running::start(&mut vetwatch(&arguments));
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    let url = said["url"].as_str().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", said["client_id"].as_str().unwrap()),
        ("client_secret", said["client_secret"].as_str().unwrap()),
        ("resource", "https://graph.windows.net"),
    ];
    let login = format!("{url}{}/oauth2/token", said["tenant"].as_str().unwrap());
    let answer = http.post(login).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let customers = http.get(format!("{url}control/customers")).send().await.unwrap();
    assert_eq!(customers.json::<Value>().await.unwrap()["total"], 5);
    running.tell(Signal::SIGTERM);
    assert_eq!(running.code(), Some(0));
}

#[test]
fn the_first_line_of_the_sandbox_is_its_address_and_what_it_prints_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = vetwatch(&["sandbox", "--listen", "127.0.0.1:0"]);
    let (running, mut out) = Running::start(command.current_dir(folder.path()));
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    let url = first.trim_end().strip_prefix("listening on ").unwrap();
    assert!(url.starts_with("http://127.0.0.1:") && url.ends_with('/'), "{url}");
    running.tell(Signal::SIGINT);
    assert_eq!(running.code(), Some(0));
    let mut page = String::new();
    out.read_to_string(&mut page).unwrap();
    let (_, from_here) = page.split_once("[[partner]]").unwrap();
    let (snippet, _) = from_here.split_once("\nThe secret").unwrap();
    let endpoint = "[[endpoint]]\nname = \"crm\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n\
                    secret_file = \"/dev/null/x\"\n[operators]\nendpoints = [\"crm\"]\n"
        .replace("/dev/null/x", folder.path().join("signing-secret").to_str().unwrap());
    std::fs::write(folder.path().join("signing-secret"), crate::world::SIGNING_SECRET).unwrap();
    std::fs::write(folder.path().join("sandbox-secret"), "sandbox-secret\n").unwrap();
    let config = folder.path().join("vetwatch.toml");
    std::fs::write(&config, format!("[[partner]]{snippet}\n{endpoint}")).unwrap();
    let check = vetwatch(&["check", "--config", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{snippet}\n{}{}", text(&check.stdout), text(&check.stderr));
}

#[test]
fn a_sandbox_is_for_this_machine_only() {
    let output = vetwatch(&["sandbox", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("not a loopback address"), "{}", text(&output.stderr));
}
