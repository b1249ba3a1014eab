//! A configuration that is changed while the daemon runs.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use tokio::net::UnixDatagram;
use vetwatch::sandbox::smtp_server::SmtpServer;
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::store::Store;
use vetwatch::time::SystemClock;

use crate::process::{DaemonHarness, SOON, complaint, eventually, now};
use crate::world::seconds;

const REASON: &str = "Not an Education Customer";
/// Polls are frequent.
const OFTEN: &str = "in_review = \"100ms\"";

/// The exit code, and what was printed.
async fn reload(town: &DaemonHarness) -> (Option<i32>, String) {
    let output = town.run_beside(&["reload"]).await;
    let printed = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_says_what_changed_and_the_next_verdict_goes_by_it() {
    let town = DaemonHarness::new("in_review = \"1h\"", "").await;
    let ids = town.in_review(2).await;
    let daemon = town.running().await;
    assert_eq!(reload(&town).await, (Some(0), "reloaded: nothing has changed\n".to_owned()));

    let other = SmtpServer::start(std::sync::Arc::new(SystemClock)).await.unwrap();
    town.change("in_review = \"1h\"", OFTEN);
    town.change(
        "[[route]]",
        &format!(
            "[smtp.other]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n[[endpoint]]\nname = \"north\"\nkind = \"email\"\n\
             smtp = \"other\"\nfrom = \"vetwatch@contoso.example\"\nto = [\"n@contoso.example\"]\n\n[[route]]",
            other.address().port()
        ),
    );
    town.change(
        "\"vetting.vanished\"]\nendpoints = [\"sales-mail\", \"crm\"]",
        "\"vetting.vanished\"]\nendpoints = [\"north\", \"crm\"]",
    );
    let (code, printed) = reload(&town).await;
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(
        printed,
        "reloaded, with 4 changes:\n  endpoint \"north\": added\n  route 1: endpoints: changed\n  \
         schedule.in_review: \"1h\" → \"100ms\"\n  smtp.other: added\n"
    );
    town.sandbox.deny(&ids[0], REASON).unwrap();
    other.wait_for(1, SOON).await.unwrap();
    town.hook.wait_for(1, SOON).await.unwrap();

    // The endpoint goes, with a message that waits for it. The first one's reply has been read by then.
    town.until("select state from v_deliveries where endpoint = 'north'", &["delivered"]).await;
    other.stop().await.unwrap();
    town.sandbox.deny(&ids[1], REASON).unwrap();
    town.until("select state from v_deliveries where endpoint = 'north' order by 1", &["delivered", "pending"]).await;
    town.change("endpoints = [\"north\", \"crm\"]", "endpoints = [\"sales-mail\", \"crm\"]");
    let text = std::fs::read_to_string(&town.config).unwrap();
    let (begin, end) = (text.find("[smtp.other]").unwrap(), text.find("[[route]]").unwrap());
    std::fs::write(&town.config, format!("{}{}", &text[..begin], &text[end..])).unwrap();
    let (code, printed) = reload(&town).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("endpoint \"north\": removed"), "{printed}");
    let status = town.run(&["status", "--json"]);
    assert_eq!(status.status.code(), Some(3), "{}", complaint(&status));
    assert!(complaint(&status).contains("endpoint_not_configured"), "{}", complaint(&status));
    assert!(town.mail.mails().is_empty(), "nothing was for sales-mail");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_configuration_changes_nothing_and_everybody_says_so() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(2).await;
    let path = town.folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut daemon = town.start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    daemon.ready().await;
    let good = std::fs::read_to_string(&town.config).unwrap();
    town.change(OFTEN, "in_review = \"soon\"");
    town.change("kind = \"webhook\"", "kind = \"webhok\"");
    let (code, printed) = reload(&town).await;
    assert_eq!(code, Some(78), "{printed}");
    assert!(printed.contains("schedule.in_review") && printed.contains("endpoint \"crm\": kind"), "{printed}");
    town.logged("the configuration is refused, and that of").await;
    let status = town.run(&["status"]);
    assert_eq!(status.status.code(), Some(3));
    assert!(complaint(&status).contains("the configuration file is refused since"), "{}", complaint(&status));

    // Not even TOML, then another database.
    std::fs::write(&town.config, "[[partner]\n").unwrap();
    let (code, printed) = reload(&town).await;
    assert_eq!(code, Some(78), "{printed}");
    std::fs::write(&town.config, good.replace("vetwatch.db", "another.db")).unwrap();
    daemon.signal("HUP");
    town.logged("needs a restart").await;

    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;

    std::fs::write(&town.config, &good).unwrap();
    assert_eq!(reload(&town).await, (Some(0), "reloaded: nothing has changed\n".to_owned()));
    assert_eq!(town.run(&["status"]).status.code(), Some(0));

    // What the service manager was told.
    let mut told = Vec::new();
    let mut text = [0; 1000];
    while let Ok(length) = socket.try_recv(&mut text) {
        told.push(String::from_utf8_lossy(&text[..length]).trim().to_owned());
    }
    let reloads: Vec<_> = told.iter().filter(|message| message.starts_with("RELOADING=1\nMONOTONIC_USEC=")).collect();
    assert_eq!(reloads.len(), 3, "{told:?}");
    assert_eq!(told.iter().filter(|message| *message == "READY=1").count(), 4, "{told:?}");
    assert!(told.iter().any(|message| message.contains("is refused (2 problems), that of")), "{told:?}");
    assert!(!told.last().unwrap().contains("refused"), "{told:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_flight_ends_with_what_it_began_and_is_sent_once() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(2).await;
    let daemon = town.running().await;
    town.hook.script(WebhookAction::Delay(seconds(3)), Some(1));
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.hook.wait_for(1, SOON).await.unwrap();
    // The endpoint leaves and comes back meanwhile.
    let with = std::fs::read_to_string(&town.config).unwrap();
    town.change("[[endpoint]]\nname = \"crm\"", "[[endpoint]]\nname = \"other\"");
    town.change("\"sales-mail\", \"crm\"", "\"sales-mail\", \"other\"");
    assert_eq!(reload(&town).await.0, Some(0));
    std::fs::write(&town.config, with).unwrap();
    assert_eq!(reload(&town).await.0, Some(0));
    town.sandbox.deny(&ids[1], REASON).unwrap();
    town.delivered(2).await;
    assert_eq!(town.hook.hooks().len(), 2, "{:#?}", town.hook.hooks());
    assert!(town.hook.hooks().iter().all(|hook| hook.answered == Some(200)));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_refused_is_read_again_by_a_reload_and_by_itself() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(1).await;
    let secret: PathBuf = town.folder.path().join("client-secret");
    let good = std::fs::read_to_string(&secret).unwrap();
    std::fs::write(&secret, "a-secret-of-yesterday").unwrap();
    back_off(&town, false).await;
    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    std::fs::write(&secret, &good).unwrap();
    let (code, printed) = reload(&town).await;
    let expected = "reloaded, with 1 change:\n  partner \"emea\": credential.client_secret_file: the content of the file changed\n";
    assert_eq!((code, printed.as_str()), (Some(0), expected));
    // At once, and not when the backoff ends.
    town.delivered(1).await;

    // A webhook's: nobody asks for a reload.
    town.hook.script(WebhookAction::status(401), None);
    town.sandbox.submit(&ids[0]).unwrap();
    town.until("select vetting_status from v_current", &["InReview"]).await;
    town.sandbox.approve(&ids[0]).unwrap();
    town.until("select failures > 0 from endpoint where name = 'crm'", &["1"]).await;
    let signing = town.folder.path().join("signing-secret");
    let old = std::fs::read_to_string(&signing).unwrap();
    std::fs::write(&signing, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    eventually("the secret is read again", Duration::from_mins(2), async || {
        let log = town.log();
        if log.contains("read anew: endpoint \"crm\": secret_file") { Ok(()) } else { Err(log) }
    })
    .await;
    std::fs::write(&signing, old).unwrap();
    town.hook.clear_script();
    assert_eq!(reload(&town).await.0, Some(0));
    town.delivered(2).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_settings_do_not_end_a_wait_that_partner_center_asked_for() {
    let town = DaemonHarness::new(OFTEN, "").await;
    town.in_review(1).await;
    back_off(&town, true).await;
    let daemon = town.running().await;
    let requests = town.sandbox.requests().len();
    town.change("requests_per_minute = 60000", "requests_per_minute = 50000");
    assert_eq!(reload(&town).await.0, Some(0));
    assert_eq!(town.rows("select backoff_until > unixepoch() * 1000 from partner").await, ["1"]);
    assert_eq!(town.sandbox.requests().len(), requests);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_never_taken_for_none() {
    let route = |events: &str| format!("[[route]]\nname = \"a\"\nevents = [\"{events}\"]\nendpoints = [\"crm\"]\n");
    let town = DaemonHarness::new(OFTEN, &[route("vetting.submitted"), route("vetting.changed")].concat()).await;
    town.in_review(1).await;
    let daemon = town.running().await;
    // The first of two routes of one name.
    town.change(&route("vetting.submitted"), "");
    let (code, printed) = reload(&town).await;
    assert_eq!((code, printed.contains("route \"a\", 3: removed")), (Some(0), true), "{printed}");
    town.logged("reloaded: route \"a\"").await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_waits_for_the_database_holds_up_no_end() {
    let town = DaemonHarness::new(OFTEN, "").await;
    town.in_review(1).await;
    let mut daemon = town.running().await;
    let mut holder = sqlx::sqlite::SqliteConnectOptions::new().filename(&town.database).connect().await.unwrap();
    sqlx::query("begin exclusive").execute(&mut holder).await.unwrap();
    town.change(OFTEN, "in_review = \"200ms\"");
    daemon.signal("HUP");
    town.logged("SIGHUP").await;
    town.logged("holds the database; waiting for it").await;
    daemon.terminate();
    town.logged("stopping").await;
    sqlx::query("rollback").execute(&mut holder).await.unwrap();
    // Within a minute; it took 95 seconds.
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", town.log());
}

/// Has the partner back off for most of an hour. No daemon may run.
async fn back_off(town: &DaemonHarness, is_throttling: bool) {
    let store = Store::open(&town.database).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let partner = tx.partner("emea", now()).await.unwrap().id;
    tx.start_backoff(partner, now().after(Duration::from_mins(50)), "refused", is_throttling).await.unwrap();
    tx.commit().await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_there_is_nothing_to_reload() {
    let town = DaemonHarness::new(OFTEN, "").await;
    town.in_review(1).await;
    let (code, printed) = reload(&town).await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("no daemon runs on") && printed.contains("systemctl start vetwatch"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_follows_a_reload_and_nothing_is_owed_for_the_time_without_one() {
    let every_second = "[summary]\nschedule = \"* * * * * *\"\nendpoints = [\"crm\"]\n";
    let town = DaemonHarness::new("in_review = \"1h\"", every_second).await;
    town.in_review(1).await;
    let daemon = town.running().await;
    town.hook.wait_for(1, SOON).await.unwrap();
    assert_eq!(town.hook.hooks()[0].json()["type"], "summary");

    town.change(every_second, &every_second.replace("crm", "sales-mail"));
    let (code, printed) = reload(&town).await;
    assert_eq!((code, printed.contains("summary.endpoints")), (Some(0), true), "{printed}");
    town.mail.wait_for(1, SOON).await.unwrap();

    town.change(&every_second.replace("crm", "sales-mail"), "");
    let (code, printed) = reload(&town).await;
    assert_eq!((code, printed.contains("summary")), (Some(0), true), "{printed}");
    town.until("select summary_until is null from daemon", &["1"]).await;
    let summaries = town.rows("select count(*) from event where type = 'summary'").await;

    let text = std::fs::read_to_string(&town.config).unwrap();
    std::fs::write(&town.config, format!("{text}\n[summary]\nendpoints = [\"crm\"]\n")).unwrap();
    let added = now();
    let (code, printed) = reload(&town).await;
    assert_eq!(code, Some(0), "{printed}");
    // It tells from then on, and its first time is next Monday.
    let since = format!("select summary_until >= {} from daemon", added.as_millis());
    town.until(&since, &["1"]).await;
    assert_eq!(town.rows("select count(*) from event where type = 'summary'").await, summaries);
    daemon.stop().await;
}
