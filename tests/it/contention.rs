//! Other programs at the database: locks, long reads, and writes beside the daemon.

use std::fs::{Permissions, metadata, set_permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, query, query_scalar};
use tempfile::TempDir;
use tokio::time::sleep;
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::sandbox::{CustomerDetails, Kind};

use crate::process::{DaemonHarness, SOON, complaint, eventually, now};
use crate::world::seconds;

const REASON: &str = "Not an Education Customer";
/// Polls are frequent.
const OFTEN: &str = "in_review = \"200ms\"";

async fn somebody(database: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(database).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_somebody_holds_for_ten_seconds_costs_nothing_but_time() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(8).await;
    let daemon = town.running().await;
    // One message is in flight when it begins.
    town.hook.script(WebhookAction::Delay(Duration::from_millis(500)), Some(1));
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.hook.wait_for(1, SOON).await.unwrap();
    town.until("select state from v_deliveries where endpoint = 'sales-mail'", &["delivered"]).await;

    let mut somebody = somebody(&town.database).await;
    query("begin immediate").execute(&mut somebody).await.unwrap();
    for id in &ids[1..7] {
        town.sandbox.deny(id, REASON).unwrap();
    }
    let pause = ["customers", "pause", &ids[7]];
    let (held, paused, status) = tokio::join!(
        async {
            sleep(seconds(10)).await;
            let told = (town.hook.hooks().len(), town.mail.mails().len());
            query("rollback").execute(&mut somebody).await.unwrap();
            (told, now())
        },
        town.run_beside(&pause),
        async {
            let began = now();
            (town.run_beside(&["status"]).await, now().since(began))
        },
    );
    let (told, released_at) = held;
    assert_eq!(told, (1, 1), "nothing is told that is not recorded");
    assert!(status.0.status.code() == Some(3) && status.1 < seconds(4), "{:?}: {}", status.1, complaint(&status.0));
    assert!(String::from_utf8_lossy(&status.0.stdout).contains("another program holds the database"));
    town.delivered(7).await;
    eprintln!("all was told {:?} after the database was free again", now().since(released_at));
    assert_eq!((town.hook.hooks().len(), town.mail.mails().len()), (7, 7), "nothing came twice");
    assert_eq!(town.rows("select distinct attempts from v_deliveries").await, ["1"]);

    let is_paused = town.rows(&format!("select paused from v_customers where customer_id = '{}'", ids[7])).await;
    match paused.status.code() {
        Some(0) => assert_eq!(is_paused, ["1"]),
        Some(75) => assert_eq!(is_paused, ["0"]),
        _ => panic!("{}", complaint(&paused)),
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_ends_costs_nothing_but_disk() {
    const VERDICTS: usize = 300;
    const MEGABYTE: u64 = 1 << 20;
    let town = DaemonHarness::new("in_review = \"3s\"", "").await;
    let ids = town.in_review(VERDICTS + 100).await;
    let daemon = town.running().await;
    let mut reader = somebody(&town.database).await;
    query("begin").execute(&mut reader).await.unwrap();
    let seen = "select count(*) from v_transitions";
    assert_eq!(query_scalar::<_, i64>(seen).fetch_one(&mut reader).await.unwrap(), 0);
    let wal = town.database.with_file_name("vetwatch.db-wal");
    let size = |path: &Path| metadata(path).unwrap().len();
    let before = size(&town.database);

    for id in &ids[..VERDICTS] {
        town.sandbox.deny(id, REASON).unwrap();
    }
    town.delivered(VERDICTS).await;
    let writes: u64 = town.rows("select count(*) * 2 from attempt").await[0].parse().unwrap();
    assert_eq!(query_scalar::<_, i64>(seen).fetch_one(&mut reader).await.unwrap(), 0, "it reads what it read");
    let grown = size(&wal);
    eprintln!("{writes} writes of deliveries alone; -wal is {grown} bytes long, the database {before}");
    assert!(grown > 8 * MEGABYTE, "the reader keeps nothing from being taken over: -wal is {grown} bytes long");
    assert!(size(&town.database) < before + MEGABYTE);

    query("rollback").execute(&mut reader).await.unwrap();
    for id in &ids[VERDICTS..] {
        town.sandbox.deny(id, REASON).unwrap();
    }
    town.delivered(VERDICTS + 100).await;
    assert!(size(&town.database) > before + MEGABYTE, "the log is taken over into the database again");
    let now_long = size(&wal);
    assert!(now_long < grown + MEGABYTE, "-wal is written from its beginning again: {now_long} bytes");
    let told = (town.hook.hooks().len(), town.mail.mails().len());
    assert_eq!(told, (VERDICTS + 100, VERDICTS + 100), "each once");
    assert_eq!(town.rows("pragma integrity_check").await, ["ok"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_changes_is_seen_by_the_daemon_within_a_second() {
    let town =
        DaemonHarness::new("in_review = \"1h\"", "[retry]\nschedule = [\"50ms\"]\ngive_up_after = \"200ms\"\n").await;
    let ids = town.in_review(3).await;
    let daemon = town.running().await;

    let new = "99999999-0000-4000-8000-000000000000";
    town.sandbox.add_customer(CustomerDetails::new(new, "New School", "new.example")).unwrap();
    town.tell(&["customers", "add", new, "--name", "New School"]);
    let told_at = now();
    town.sandbox.wait_for_customer(new, 1, SOON).await.unwrap();
    let add = now().since(told_at);

    town.hook.script(WebhookAction::status(500), None);
    town.sandbox.deny(&ids[0], REASON).unwrap();
    assert_eq!(town.tell(&["poll", &ids[0]])["polled_by"], "daemon");
    let told_at = now();
    town.sandbox.wait_for_customer(&ids[0], 2, SOON).await.unwrap();
    let poll = now().since(told_at);

    town.until("select state from v_deliveries where endpoint = 'crm'", &["dead"]).await;
    town.hook.clear_script();
    let failed = town.hook.hooks();
    town.tell(&["deliveries", "redrive", "--endpoint", "crm"]);
    let told_at = now();
    let all = town.hook.wait_for(failed.len() + 1, SOON).await.unwrap();
    let redrive = now().since(told_at);
    assert!(all.iter().all(|hook| hook.id() == failed[0].id() && hook.body == failed[0].body));
    town.delivered(1).await;

    town.tell(&["customers", "pause", &ids[1]]);
    town.tell(&["poll"]);
    town.sandbox.wait_for_customer(&ids[2], 2, SOON).await.unwrap();
    let told_at = now();
    town.tell(&["customers", "resume", &ids[1]]);
    town.sandbox.wait_for_customer(&ids[1], 2, SOON).await.unwrap();
    let asked = town.sandbox.requests_about(&ids[1]);
    assert!(asked[1].at >= told_at, "it was asked while it was paused: {asked:#?}");
    daemon.stop().await;
    eprintln!("seen after: add {add:?}, poll {poll:?}, redrive {redrive:?}");
    assert!(
        [add, poll, redrive].iter().all(|pause| *pause < seconds(1)),
        "add {add:?}, poll {poll:?}, redrive {redrive:?}"
    );
    assert_eq!(town.sandbox.count(Kind::Unknown), 0);
}

/// An unused user id and group id.
const SERVICE: u32 = 64_301;
const GROUP: u32 = 64_302;
const ANALYST: u32 = 64_303;

/// What a member of the service's group without write access reads with SQLite's own program.
fn analyst_reads(database: &Path, sql: &str) -> Result<String, String> {
    as_analyst("sqlite3", &[&format!("file:{}?mode=ro", database.display()), sql])
}

/// Runs a program as a member of the database's group.
fn as_analyst(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("setpriv")
        .args([format!("--reuid={ANALYST}"), format!("--regid={GROUP}"), "--clear-groups".into(), program.into()])
        .args(arguments)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(complaint(&output))
}

/// A daemon's folder whose owner is the service's user, and whose group may read; `None` unless root.
async fn of_the_service() -> Option<(DaemonHarness, PathBuf)> {
    let folder = TempDir::new().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    if chown(&home, Some(SERVICE), Some(GROUP)).is_err() {
        eprintln!("skipped: only root can be somebody else");
        return None;
    }
    set_permissions(&home, Permissions::from_mode(0o750)).unwrap();
    set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    Some((DaemonHarness::with(folder, Some(&home), OFTEN, "").await, home))
}

/// Holds the table of `docs/database.md`.
#[tokio::test(flavor = "multi_thread")]
async fn each_file_is_read_by_the_uri_that_the_page_names() {
    let Some((town, home)) = of_the_service().await else { return };
    let reads = |file: &str, mode: &str, expected: bool, when: &str| {
        let uri = format!("file:{}?{mode}", home.join(file).display());
        let sql = "select count(*) from v_customers";
        let read = as_analyst("sqlite3", &[&uri, sql]);
        assert_eq!(read.as_deref() == Ok("0"), expected, "{file} with {mode} {when}: {read:?}");
        if Path::new("/usr/bin/python3").exists() {
            let script =
                format!("import sqlite3; print(*sqlite3.connect({uri:?}, uri=True).execute({sql:?}).fetchone())");
            let read = as_analyst("/usr/bin/python3", &["-c", &script]);
            assert_eq!(read.as_deref() == Ok("0"), expected, "Python: {file} with {mode} {when}: {read:?}");
        }
    };
    let copy = |sql: &str| {
        let uri = format!("file:{}?mode=ro", town.database.display());
        let copied = Command::new("sqlite3").current_dir(&home).args([&uri, sql]).status().unwrap();
        assert!(copied.success(), "{sql}");
        for entry in std::fs::read_dir(&home).unwrap() {
            let path = entry.unwrap().path();
            chown(&path, Some(SERVICE), Some(GROUP)).unwrap();
            set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        }
    };
    let daemon = town.running().await;
    reads("vetwatch.db", "mode=ro", true, "beside the daemon");
    copy(".backup 'backup.db'");
    copy("vacuum into 'vacuum.db'");
    reads("backup.db", "mode=ro", false, "after .backup beside the daemon");
    reads("backup.db", "immutable=1", true, "after .backup beside the daemon");
    reads("vacuum.db", "mode=ro", true, "after vacuum into");
    daemon.stop().await;
    reads("vetwatch.db", "mode=ro", true, "after a stop");
    copy(".backup 'later.db'");
    reads("vetwatch.db", "mode=ro", true, "after a stop and .backup");
    reads("later.db", "mode=ro", true, "after a stop and .backup");

    town.running().await.kill();
    reads("vetwatch.db", "mode=ro", true, "after a kill");
    // The service's user, or root, opens it without a daemon, and takes the -wal and -shm files along.
    let opened = Command::new("sqlite3").arg(&town.database).arg("select count(*) from v_customers").status().unwrap();
    assert!(opened.success() && !home.join("vetwatch.db-shm").exists());
    reads("vetwatch.db", "mode=ro", false, "after a kill, and another program");
    reads("vetwatch.db", "immutable=1", true, "after a kill, and another program");
    town.running().await.stop().await;
    reads("vetwatch.db", "mode=ro", true, "after the next stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_can_read_while_the_daemon_runs_and_when_it_does_not() {
    let Some((town, home)) = of_the_service().await else { return };
    // The first command creates the database, as the service's user.
    let ids: Vec<_> = (1..=2).map(|n| format!("{n:08x}-0000-4000-8000-000000000000")).collect();
    for id in &ids {
        town.sandbox.add_customer(CustomerDetails::new(id, "Contoso School", "contoso.example")).unwrap();
        town.sandbox.submit(id).unwrap();
        town.tell(&["customers", "add", id, "--name", "Contoso School"]);
    }
    let reads = |sql: &str, expected: &str, when: &str| {
        assert_eq!(analyst_reads(&town.database, sql).as_deref(), Ok(expected), "{when}");
    };
    let known = "select count(*) from v_customers";
    reads(known, "2", "after a command, before the daemon ever ran");
    town.tell(&["poll"]);
    reads("select count(*) from v_current", "2", "after another command");

    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    eventually("the verdict is read", SOON, async || {
        let seen = analyst_reads(&town.database, "select outcome from v_decisions");
        if seen.as_deref() == Ok("Denied") { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    town.delivered(2).await; // the baseline and the verdict
    daemon.stop().await;
    reads("select distinct state from v_deliveries where endpoint = 'crm'", "delivered", "after SIGTERM");
    town.tell(&["customers", "pause", &ids[1]]);
    reads("select sum(paused) from v_customers", "1", "after a command without a daemon");
    town.running().await.kill();
    reads(known, "2", "after SIGKILL");
    for name in ["vetwatch.db", "vetwatch.db-wal", "vetwatch.db-shm"] {
        let mode = metadata(home.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "{name} is {mode:o}");
    }
    assert!(analyst_reads(&town.database, "delete from customer").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_a_reader_lets_grow_is_named_with_the_reader_and_logged_once() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let daemon = town.running().await;
    let uri = format!("file:{}?mode=ro", town.database.display());
    let mut reader = Command::new("sqlite3")
        .arg(&uri)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(reader.stdin.as_mut().unwrap(), b"begin; select count(*) from v_customers;\n").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(reader.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "0\n");
    // Zeros at its end are no part of the log.
    let wal = std::fs::File::options().write(true).open(town.database.with_file_name("vetwatch.db-wal")).unwrap();
    wal.set_len(70 << 20).unwrap();
    let status = town.run_beside(&["status", "--json"]).await;
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.code(), Some(3), "{said}");
    let named = format!("has grown to 73 MB, because sqlite3 (process {}) has not ended what it reads", reader.id());
    assert!(said.contains("\"log_large\"") && said.contains(&named), "{said}");
    town.logged(&named).await;
    drop(reader.stdin.take());
    reader.wait().unwrap();
    wal.set_len(0).unwrap();
    town.logged("the -wal file beside the database is small again").await;
    assert_eq!(town.log().matches("has grown to").count(), 1);
    daemon.kill();
}
