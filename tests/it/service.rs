//! The daemon under systemd: start, stop and notifications.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::time::timeout;
use vetwatch::sandbox::Kind;
use vetwatch::sandbox::webhook_receiver::{WebhookAction, WebhookRequest};

use crate::disk::Disk;
use crate::process::{DaemonHarness, SOON, complaint, now};
use crate::world::seconds;

const REASON: &str = "Not an Education Customer";
/// Polls are frequent.
const OFTEN: &str = "in_review = \"100ms\"";
/// No polls, unless by command.
const SELDOM: &str = "in_review = \"1h\"";

/// The next message to the service manager.
async fn told(socket: &UnixDatagram) -> String {
    let mut text = [0; 1000];
    let length = timeout(SOON, socket.recv(&mut text)).await.expect("the service manager hears nothing").unwrap();
    String::from_utf8_lossy(&text[..length]).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_when_it_works_that_it_works_and_when_it_stops() {
    let town = DaemonHarness::new(OFTEN, "").await;
    town.in_review(1).await;
    let path = town.folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let mut daemon = town.start_with(&environment);
    assert_eq!(told(&socket).await, "READY=1");
    assert_eq!(town.tell(&["poll"])["polled_by"], "daemon", "it works");
    while socket.try_recv(&mut [0; 1000]).is_ok() {} // drop earlier messages
    let since = now();
    for _ in 0..5 {
        assert_eq!(told(&socket).await, "WATCHDOG=1");
    }
    let took = now().since(since);
    assert!(took > Duration::from_millis(300), "fed five times in {took:?}, and not as if somebody waited for it");
    daemon.terminate();
    let last = loop {
        match told(&socket).await.as_str() {
            "WATCHDOG=1" => {}
            other => break other.to_owned(),
        }
    };
    assert_eq!(last, "STOPPING=1");
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_says_that_it_lives_and_its_url_is_in_no_log() {
    let town = DaemonHarness::new(OFTEN, "heartbeat_url_file = \"heartbeat\"").await;
    let url = town.hook.url().join("/ping/0123-s3cr3t").unwrap();
    std::fs::write(town.folder.path().join("heartbeat"), url.as_str()).unwrap();
    town.hook.script(WebhookAction::status(500), Some(1));
    let daemon = town.running().await;
    let beat = town.hook.wait_for(1, SOON).await.unwrap().remove(0);
    assert!(beat.body.is_empty() && beat.id().is_none(), "{beat:?}");
    town.until(
        "select heartbeat_error from daemon where heartbeat_failing_since > 0",
        &["HTTP 500 Internal Server Error"],
    )
    .await;
    daemon.stop().await;
    let log = town.log();
    assert!(log.contains("the heartbeat to http://127.0.0.1") && !log.contains("s3cr3t"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_delivery_in_flight_end() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(2).await;
    let mut daemon = town.running().await;
    town.hook.script(WebhookAction::Delay(seconds(1)), Some(1));
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.hook.wait_for(1, SOON).await.unwrap();
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", town.log());
    assert_eq!(town.hook.hooks()[0].answered, Some(200), "it waited for the answer");
    let delivered = town.rows("select state, attempts from v_deliveries where endpoint = 'crm'").await;
    assert_eq!(delivered, ["delivered | 1"]);

    let daemon = town.running().await;
    town.sandbox.deny(&ids[1], REASON).unwrap();
    town.delivered(2).await;
    assert_eq!((town.hook.hooks().len(), town.mail.mails().len()), (2, 2), "nothing was repeated");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_stops_at_once_and_the_next_start_takes_up_what_was_under_way() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(1).await;
    let mut daemon = town.running().await;
    town.hook.script(WebhookAction::Hang, Some(1));
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.hook.wait_for(1, SOON).await.unwrap();
    daemon.terminate();
    town.logged("stopping; what is under way may end").await;
    assert!(daemon.runs());
    let since = now();
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", town.log());
    assert!(now().since(since) < seconds(5));

    let daemon = town.running().await;
    town.delivered(1).await;
    let hooks = town.hook.hooks();
    assert_eq!(hooks.len(), 2, "{hooks:#?}");
    assert_eq!((hooks[0].id(), &hooks[0].body), (hooks[1].id(), &hooks[1].body));
    daemon.stop().await;
}

#[tokio::test]
async fn a_bad_configuration_ends_with_78_and_is_not_tried_again() {
    let town = DaemonHarness::new("in_review = \"soon\"", "").await;
    let output = town.run(&["run"]);
    assert_eq!(output.status.code(), Some(78), "{}", complaint(&output));
    assert!(complaint(&output).contains("schedule.in_review"), "{}", complaint(&output));
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/vetwatch.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    // After any other end it is restarted.
    for line in ["Restart=always", "RestartPreventExitStatus=78"] {
        assert!(unit.lines().any(|found| found == line), "{unit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(1).await;
    let daemon = town.running().await;
    let second = town.run_beside(&["run"]).await;
    assert_eq!(second.status.code(), Some(1), "{}", complaint(&second));
    assert!(complaint(&second).contains("another vetwatch runs on"), "{}", complaint(&second));
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_nobody_is_asked_who_is_not_due() {
    let town = DaemonHarness::new(SELDOM, "").await;
    let ids = town.in_review(5).await;
    let asked = |town: &DaemonHarness| ids.iter().map(|id| town.sandbox.count_of(id)).collect::<Vec<_>>();
    assert_eq!(asked(&town), [1; 5]);
    town.running().await.stop().await;
    town.running().await.kill();
    let daemon = town.running().await;
    // A heartbeat shows that there was an opportunity.
    town.tell(&["poll", &ids[0]]);
    town.sandbox.wait_for_customer(&ids[0], 2, SOON).await.unwrap();
    assert_eq!(asked(&town), [2, 1, 1, 1, 1]);
    daemon.stop().await;
    assert_eq!(asked(&town), [2, 1, 1, 1, 1]);
    assert_eq!(town.sandbox.count(Kind::Qualifications), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_lets_nothing_be_told_that_is_not_stored_and_nothing_be_lost() {
    let folder = TempDir::new().unwrap();
    let Some(disk) = Disk::mount(folder.path().join("disk")) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let town = DaemonHarness::with(folder, Some(&disk.0), OFTEN, "").await;
    let ids = town.in_review(3).await;
    let daemon = town.running().await;
    town.hook.script(WebhookAction::Delay(seconds(1)), Some(1));
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.hook.wait_for(1, SOON).await.unwrap();
    town.until("select state from v_deliveries where endpoint = 'sales-mail'", &["delivered"]).await;
    disk.fill();
    town.sandbox.deny(&ids[1], REASON).unwrap();
    town.hook.wait_for_those(1, SOON, |hook| hook.answered.is_some()).await.unwrap();
    town.logged("the outcome of an attempt cannot be stored yet").await;
    town.logged("partner emea: a round failed").await;
    assert_eq!((town.hook.hooks().len(), town.mail.mails().len()), (1, 1), "what is not stored is not told");
    let deliveries = town.rows("select endpoint, state from v_deliveries order by 1").await;
    assert_eq!(deliveries, ["crm | pending", "sales-mail | delivered"]);

    // Operators are notified once, bypassing the outbox, and `status` agrees.
    let is_late = |hook: &WebhookRequest| hook.json()["type"] == "monitor.polling_late";
    let alert = town.hook.wait_for_those(1, SOON * 2, is_late).await.unwrap().remove(0).json();
    assert!(alert["data"]["summary"].as_str().unwrap().contains("Customers of emea are polled late"), "{alert}");
    let status = town.run_beside(&["status", "--json"]).await;
    assert_eq!(status.status.code(), Some(3), "{}", complaint(&status));
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["reasons"][0]["reason"], "polling_late", "{status}");

    disk.empty();
    town.sandbox.deny(&ids[2], REASON).unwrap();
    town.delivered(3).await;
    let verdicts = town.hook.hooks().iter().filter(|hook| hook.json()["type"] == "vetting.denied").count();
    assert_eq!(verdicts, 3, "what was accepted is not sent again");
    assert_eq!(town.hook.hooks().iter().filter(|hook| is_late(hook)).count(), 1);
    assert_eq!(town.rows("select distinct attempts from v_deliveries").await, ["1"]);
    assert_eq!(town.rows("pragma integrity_check").await, ["ok"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_that_a_daemon_has_noted_nothing_for_three_minutes() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let daemon = town.running().await;
    town.until("select count(*) from daemon where alive_since is not null", &["1"]).await;
    let noted = async |minutes_ago: u64| {
        let sql = format!(
            "begin immediate; drop trigger if exists full;
             update daemon set alive_at = unixepoch() * 1000 - {};
             create trigger full before update on daemon begin select raise(abort, 'disk full'); end; commit",
            minutes_ago * 60_000
        );
        let mut writer = SqliteConnectOptions::new().filename(&town.database).connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut writer).await.unwrap();
        let status = town.run_beside(&["status", "--json"]).await;
        let said: Value = serde_json::from_slice(&status.stdout).unwrap();
        let reasons: Vec<_> = said["reasons"].as_array().unwrap().iter().map(|it| it["reason"].to_string()).collect();
        (status.status.code(), reasons)
    };
    assert_eq!(noted(2).await, (Some(0), vec![]));
    assert_eq!(noted(4).await, (Some(3), vec!["\"cannot_write\"".to_owned()]));
    daemon.kill();
}
