//! `/metrics`, `/healthz` and `/readyz` of the shipped daemon, scraped by the Prometheus that Debian ships.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use prometheus::TextEncoder;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use vetwatch::in_force::InForce;
use vetwatch::metrics::Metrics;
use vetwatch::metrics::list::ALL;
use vetwatch::worker_loop::{self, Progress};

use crate::process::{DaemonHarness, SOON, complaint, eventually};
use crate::world::World;

const SELDOM: &str = "in_review = \"1h\"";
const TOKEN: &str = "a-token-of-more-than-16-characters";

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn with_page(more: &str) -> (DaemonHarness, String) {
    let port = free_port();
    let town = DaemonHarness::new(SELDOM, &format!("[web]\nlisten = \"127.0.0.1:{port}\"\n{more}")).await;
    (town, format!("127.0.0.1:{port}"))
}

/// The status and the body, once the page is served.
async fn get(url: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response =
        eventually(url, SOON, async || client.get(url).send().await.map_err(|error| error.to_string())).await;
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Prometheus; killed when this is dropped.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The value of an instant query, once there is one.
async fn query(prometheus: &str, expression: &str) -> f64 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    eventually(expression, SOON, async || {
        let url = format!("http://{prometheus}/api/v1/query");
        let response =
            client.get(url).query(&[("query", expression)]).send().await.map_err(|error| error.to_string())?;
        let answer: Value = response.json().await.map_err(|error| error.to_string())?;
        let value = answer["data"]["result"][0]["value"][1].as_str().ok_or(answer.to_string())?;
        value.parse::<f64>().map_err(|error| error.to_string())
    })
    .await
}

fn promtool_reads(exposition: &str) {
    let mut check =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn().expect("promtool");
    check.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    assert!(check.wait().unwrap().success(), "{exposition}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_the_daemon_and_says_what_status_says() {
    let (town, page) = with_page("").await;
    let ids = town.in_review(3).await;
    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], "Not an Education Customer").unwrap();
    town.tell(&["poll"]);
    town.delivered(1).await;

    let (status, text) = get(&format!("http://{page}/metrics")).await;
    assert_eq!(status, 200, "{text}");
    promtool_reads(&text);
    no_unknown_metric_in(&text.replace("_sum{", "{"));
    for id in &ids {
        assert!(!text.contains(id.as_str()) && !text.contains("School"), "no customer: {text}");
    }

    let prometheus = format!("127.0.0.1:{}", free_port());
    let folder = town.folder.path();
    let config = format!(
        "scrape_configs: [{{job_name: vetwatch, scrape_interval: 1s, static_configs: [{{targets: [\"{page}\"]}}]}}]\n"
    );
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
    command.arg(format!("--web.listen-address={prometheus}")).stdout(Stdio::null()).stderr(Stdio::null());
    let _prometheus = Prometheus(command.spawn().expect("prometheus is installed by tests/run"));

    let status: Value = serde_json::from_slice(&town.run_beside(&["status", "--json"]).await.stdout).unwrap();
    let (partner, endpoints) = (&status["partners"][0], status["endpoints"].as_array().unwrap());
    let of_endpoints = |key: &str| endpoints.iter().map(|endpoint| endpoint[key].as_f64().unwrap()).sum::<f64>();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let length = |key: &str| status[key].as_array().unwrap().len() as f64;
    for (expression, expected) in [
        ("vetwatch_database_up", 1.0),
        ("sum(vetwatch_customers)", partner["customers"].as_f64().unwrap()),
        ("vetwatch_customers{status=\"in_review\"}", partner["in_review"].as_f64().unwrap()),
        ("vetwatch_reviews", length("in_review")),
        ("sum(vetwatch_pending_messages)", of_endpoints("pending")),
        ("sum(vetwatch_dead_letters)", of_endpoints("dead")),
        ("sum(vetwatch_attention)", length("reasons")),
        ("vetwatch_transitions_total{type=\"vetting.denied\"}", 1.0),
        ("vetwatch_deliveries_total{endpoint=\"crm\",outcome=\"delivered\"}", 1.0),
        ("vetwatch_verdict_latency_seconds_count{endpoint=\"crm\"}", 1.0),
        ("vetwatch_config_last_reload_successful", 1.0),
        ("count(vetwatch_polls_total)", 11.0),
    ] {
        assert_eq!(query(&prometheus, expression).await.to_string(), expected.to_string(), "{expression}");
    }
    assert_eq!(length("in_review").to_string(), "2", "{status}");

    // An endpoint leaves.
    town.change("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"crm\"]");
    town.change("[[endpoint]]\nname = \"sales-mail\"", "[[endpoint]]\nname = \"other-mail\"");
    assert!(town.run_beside(&["reload"]).await.status.success(), "{}", town.log());
    let series = "vetwatch_deliveries_total{endpoint=\"other-mail\",outcome=\"delivered\"}";
    assert_eq!(query(&prometheus, series).await.to_string(), "0");
    let (_, text) = get(&format!("http://{page}/metrics")).await;
    assert!(!text.contains("vetwatch_deliveries_total{endpoint=\"sales-mail\""), "{text}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_say_why_to_who_may_know_and_one_word_to_strangers() {
    let (town, page) = with_page("token_file = \"page-token\"").await;
    std::fs::write(town.folder.path().join("page-token"), TOKEN).unwrap();
    town.in_review(1).await;
    let daemon = town.running().await;
    for probe in ["healthz", "readyz"] {
        let url = format!("http://{page}/{probe}");
        assert_eq!(get(&url).await, (200, "{\"status\":\"ok\"}".to_owned()), "{probe}");
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let known = client.get(&url).bearer_auth(TOKEN).send().await.unwrap().text().await.unwrap();
        assert_eq!(known, "{\"reasons\":[],\"status\":\"ok\"}", "{probe}");
        let head = client.head(&url).send().await.unwrap();
        assert_eq!((head.status().as_u16(), head.text().await.unwrap().as_str()), (200, ""), "{probe}");
        assert_eq!(client.post(&url).send().await.unwrap().status().as_u16(), 405, "{probe}");
    }
    let (status, text) = get(&format!("http://{page}/metrics")).await;
    assert!(status == 401 && !text.contains("vetwatch_"), "{text}");
    daemon.stop().await;
}

/// Another program that does this to the database.
async fn holder_of(database: &Path, how: &'static str) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions as _;
    let mut holder = sqlx::sqlite::SqliteConnectOptions::new().filename(database).connect().await.unwrap();
    sqlx::query(how).execute(&mut holder).await.unwrap();
    holder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_or_unreadable_database_is_a_figure_and_no_error() {
    let (town, page) = with_page("").await;
    town.in_review(1).await;
    let daemon = town.running().await;
    let url = format!("http://{page}/metrics");
    assert!(get(&url).await.1.contains("vetwatch_attention{reason=\"database_held\"} 0\n"));

    let hold = async |how| holder_of(&town.database, how).await;
    let holder = hold("begin immediate").await;
    eventually("held", SOON, async || {
        let text = get(&url).await.1;
        let (up, is_held) = ("vetwatch_database_up 1\n", "vetwatch_attention{reason=\"database_held\"} 1\n");
        if text.contains(up) && text.contains(is_held) { Ok(()) } else { Err(text) }
    })
    .await;
    let (status, text) = get(&format!("http://{page}/readyz")).await;
    assert!(status == 503 && text.contains("another program holds the database"), "{text}");
    assert_eq!(get(&format!("http://{page}/healthz")).await.0, 200, "a restart would wait as well");
    drop(holder);

    let mut holder = hold("alter table configuration rename to elsewhere").await;
    eventually("unreadable", SOON, async || {
        let (status, text) = get(&url).await;
        let polls = text.contains("vetwatch_polls_total{outcome=\"answered\"");
        let is_said = text.contains("vetwatch_database_up 0\n") && !text.contains("vetwatch_attention");
        if status == 200 && is_said && polls { Ok(()) } else { Err(text) }
    })
    .await;
    let (status, text) = get(&format!("http://{page}/readyz")).await;
    assert!(status == 503 && text.contains("the database cannot be read"), "{text}");
    sqlx::query("alter table elsewhere rename to configuration").execute(&mut holder).await.unwrap();
    daemon.stop().await;
}

fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// `promtool` with these arguments succeeds.
fn promtool(folder: &Path, arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(folder).output().expect("promtool");
    assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
}

#[test]
fn the_shipped_alerts_fire_when_they_should_and_the_operator_gets_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let alerts = std::fs::read_to_string(deployed("alerts.yml")).unwrap();
    std::fs::write(folder.path().join("alerts.yml"), &alerts).unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/alerts_test.yml");
    std::fs::copy(tests, folder.path().join("alerts_test.yml")).unwrap();
    promtool(folder.path(), &["check", "rules", "alerts.yml"]);
    promtool(folder.path(), &["test", "rules", "alerts_test.yml"]);
    let manifest = std::fs::read_to_string(deployed("alerts-prometheusrule.yml")).unwrap();
    let groups = &alerts[alerts.find("groups:").unwrap()..];
    let indented: Vec<_> = groups.lines().map(|line| format!("  {line}\n")).collect();
    let indented = indented.concat();
    assert_eq!(manifest.split_once("spec:\n").unwrap().1, indented);
    for page in alerts.lines().filter_map(|line| line.trim().strip_prefix("docs: ")) {
        assert!(deployed("../docs").join(page).exists(), "no page {page}");
    }
    no_unknown_metric_in(&alerts);
}

#[test]
fn every_expression_of_the_dashboard_is_one_and_names_only_metrics_that_there_are() {
    let text = std::fs::read_to_string(deployed("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let rules: Vec<Value> = targets
        .enumerate()
        .map(|(n, target)| {
            let expression = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
            let expression = expression.replace("$partner", ".*").replace("$endpoint", ".*");
            assert!(!expression.contains('$'), "{expression}");
            serde_json::json!({ "record": format!("panel:{n}"), "expr": expression })
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    // JSON is YAML.
    let file = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    std::fs::write(folder.path().join("rules.yml"), file).unwrap();
    promtool(folder.path(), &["check", "rules", "rules.yml"]);
    no_unknown_metric_in(&text);
}

fn no_unknown_metric_in(text: &str) {
    let words =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("vetwatch_"));
    for word in words {
        let name = word.trim_end_matches("_bucket").trim_end_matches("_count");
        assert!(ALL.iter().any(|metric| metric.name == name), "no metric {word}");
    }
}

/// The daemon's page beside loops of which one never comes round; its patience is none, in place of minutes.
#[tokio::test(flavor = "multi_thread")]
async fn healthz_fails_while_a_loop_hangs_unless_it_waits_for_the_database() {
    let page = format!("127.0.0.1:{}", free_port());
    let world = World::with("", &format!("[web]\nlisten = \"{page}\"\n")).await;
    let good = Progress::new("a good loop".to_owned(), Duration::from_hours(1));
    let hung = Progress::new("the dispatcher".to_owned(), Duration::ZERO);
    let config = Arc::new(world.config.clone());
    let in_force = InForce { config, progress: vec![good], pokes: Vec::new(), refused: None };
    let (in_force, stop) = (watch::Sender::new(Arc::new(in_force)), CancellationToken::new());
    let (seen, store) = (in_force.subscribe(), world.store.clone());
    let serving = tokio::spawn(vetwatch::web::run(seen, store, Arc::default(), world.clock.clone(), stop.clone()));
    let url = format!("http://{page}/healthz");
    assert_eq!(get(&url).await, (200, json!({ "reasons": [], "status": "ok" }).to_string()));

    let round = std::future::pending::<Result<_, std::io::Error>>;
    let (poke, clock) = (Arc::new(Notify::new()), world.clock.clone());
    let hanging = tokio::spawn(worker_loop::run(hung.clone(), poke, clock, stop.clone(), round));
    in_force.send_modify(|now| {
        let mut progress = now.progress.clone();
        progress.push(hung);
        *now = Arc::new(InForce { config: now.config.clone(), progress, pokes: Vec::new(), refused: None });
    });
    let becomes = async |expected| {
        eventually("another answer", SOON, async || {
            let (status, text) = get(&url).await;
            if status == expected { Ok(text) } else { Err(text) }
        })
        .await
    };
    let said = becomes(503).await;
    let is_named = said.contains("the dispatcher has not come round for ") && said.contains("\"status\":\"failing\"");
    assert!(is_named, "{said}");

    // A restart would wait as well.
    let holder = holder_of(&world.config.database, "begin immediate").await;
    let store = world.store.clone();
    let waiting = tokio::spawn(async move { store.begin().await.map(drop) });
    becomes(200).await;
    drop(holder);
    waiting.await.unwrap().unwrap();
    becomes(503).await;

    hanging.abort();
    stop.cancel();
    serving.await.unwrap();
}

/// A name that would end its label, its line, and begin a series of its own.
const HOSTILE: &str = "a \\ \"b\"} 1\nvetwatch_database_up{x=\"";

#[test]
fn hostile_names_stay_within_their_labels() {
    let metrics = Metrics::default();
    metrics.configure(vec![HOSTILE.to_owned()], vec![HOSTILE.to_owned()]);
    metrics.polled(HOSTILE, None, Duration::from_secs(1));
    let text = TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    let escaped = r#""a \\ \"b\"} 1\nvetwatch_database_up{x=\"""#;
    assert!(text.contains(&format!("vetwatch_polls_total{{outcome=\"answered\",partner={escaped}}} 1\n")), "{text}");
    assert!(
        text.contains(&format!("vetwatch_deliveries_total{{endpoint={escaped},outcome=\"delivered\"}} 0\n")),
        "{text}"
    );
    assert!(!text.lines().any(|line| line.starts_with("vetwatch_database_up")), "{text}");
    promtool_reads(&text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_takes_no_hostile_name() {
    let town = DaemonHarness::new(SELDOM, "").await;
    for (name, hostile) in
        [("emea", "a\"b"), ("emea", "a\\b"), ("emea", "a\nb"), ("crm", "a\"b"), ("crm", "a\\b"), ("crm", "a\nb")]
    {
        let config = std::fs::read_to_string(&town.config).unwrap();
        town.change(&format!("name = \"{name}\""), &format!("name = {}", json!(hostile)));
        let checked = town.run_beside(&["check"]).await;
        let said = complaint(&checked);
        let is_refused =
            said.contains(": name: ") && ["is not a name", "control character"].iter().any(|why| said.contains(why));
        assert!(checked.status.code() == Some(78) && is_refused, "{hostile:?}: {said}");
        std::fs::write(&town.config, config).unwrap();
    }
}
