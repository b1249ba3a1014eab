//! The database file: what it holds when it is copied alone, and what happens when it is removed or replaced.

use std::fs::{copy, hard_link, remove_file, rename};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, query};

use vetwatch::sandbox::webhook_receiver::WebhookRequest;

use crate::process::{Daemon, DaemonHarness, SOON, complaint};
use crate::world::rows;

const REASON: &str = "Not an Education Customer";
const OFTEN: &str = "in_review = \"100ms\"";
/// No polls, unless by command.
const SELDOM: &str = "in_review = \"1h\"";

/// The contents of the file alone, without the two beside it.
async fn alone(town: &DaemonHarness, sql: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join("copy.db");
    copy(&town.database, &copied).unwrap();
    rows(&copied, sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_end_in_order_the_file_alone_holds_everything() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(3).await;
    let polled = "select count(*) from v_current where vetting_status = 'InReview'";
    assert_eq!(alone(&town, polled).await, ["3"], "after a command");

    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    daemon.stop().await;
    let decided = "select count(*) from v_decisions";
    assert_eq!(alone(&town, decided).await, ["1"], "after SIGTERM");
    assert_eq!(alone(&town, "select distinct state from v_deliveries").await, ["delivered"]);

    let daemon = town.running().await;
    town.sandbox.deny(&ids[1], REASON).unwrap();
    town.delivered(2).await;
    daemon.kill();
    town.running().await.stop().await;
    assert_eq!(alone(&town, decided).await, ["2"], "after SIGKILL, a start and SIGTERM");

    town.tell(&["customers", "pause", &ids[2]]);
    assert_eq!(alone(&town, "select sum(paused) from v_customers").await, ["1"], "after another command");
    for name in ["vetwatch.db-wal", "vetwatch.db-shm"] {
        assert!(!town.database.with_file_name(name).exists(), "{name}: the file alone is all");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_while_the_daemon_ends_delays_that_little_and_is_named() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(1).await;
    let daemon = town.running().await;
    let mut reader = SqliteConnectOptions::new().filename(&town.database).read_only(true).connect().await.unwrap();
    query("begin").execute(&mut reader).await.unwrap();
    query("select count(*) from v_transitions").execute(&mut reader).await.unwrap();
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    daemon.stop().await;
    town.logged("a copy needs both files").await;
}

/// The daemon ends by itself, with an exit code after which systemd restarts it, and logs why.
async fn ends(town: &DaemonHarness, mut daemon: Daemon, why: &str) {
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(1), "{why}: {}", town.log());
    town.logged(why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_deleted_ends_the_daemon_and_the_next_start_says_that_it_begins_anew() {
    let town = DaemonHarness::new(SELDOM, "").await;
    let ids = town.in_review(1).await;
    let daemon = town.running().await;
    assert!(!town.log().contains("begins anew"), "{}", town.log());
    remove_file(&town.database).unwrap();
    ends(&town, daemon, "was deleted or moved while it was in use").await;
    assert!(!town.database.exists());

    let daemon = town.running().await;
    town.logged("It begins anew").await;
    assert_eq!(town.rows("select count(*) from customer").await, ["0"]);
    daemon.stop().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_exchanged_ends_the_daemon_and_the_new_one_is_left_as_it_is() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(2).await;
    let kept = town.folder.path().join("kept.db");
    copy(&town.database, &kept).unwrap();

    // Another file, moved into its place.
    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    let new = town.folder.path().join("new.db");
    copy(&kept, &new).unwrap();
    rename(&new, &town.database).unwrap();
    ends(&town, daemon, "was replaced by another file while it was in use").await;
    assert_eq!(std::fs::read(&town.database).unwrap(), std::fs::read(&kept).unwrap(), "nothing was written into it");

    // Put back as documented: it continues from there.
    take_logs_away(&town.database);
    let daemon = town.running().await;
    town.until("select count(*) from v_decisions", &["1"]).await;
    daemon.stop().await;
    let newer = town.folder.path().join("newer.db");
    copy(&town.database, &newer).unwrap();

    // Overwritten: the same file.
    let over = |path: &Path| std::fs::write(&town.database, std::fs::read(path).unwrap()).unwrap();
    let daemon = town.running().await;
    over(&kept);
    ends(&town, daemon, "was overwritten with an older copy while it was in use").await;

    over(&newer);
    take_logs_away(&town.database);
    let daemon = town.running().await;
    std::fs::write(&town.database, "").unwrap();
    ends(&town, daemon, "was emptied while it was in use").await;
    over(&newer);
    take_logs_away(&town.database);
}

fn take_logs_away(database: &Path) {
    for name in ["vetwatch.db-wal", "vetwatch.db-shm"] {
        let _ = remove_file(database.with_file_name(name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_deleted_ends_the_daemon_with_everything_in_the_file() {
    for name in ["vetwatch.db-wal", "vetwatch.db-shm"] {
        let town = DaemonHarness::new(OFTEN, "").await;
        let ids = town.in_review(1).await;
        let daemon = town.running().await;
        town.sandbox.deny(&ids[0], REASON).unwrap();
        town.delivered(1).await;
        remove_file(town.database.with_file_name(name)).unwrap();
        ends(&town, daemon, "was deleted or replaced while it was in use").await;
        let daemon = town.running().await;
        assert_eq!(town.rows("select count(*) from v_decisions").await, ["1"], "{name}");
        town.delivered(1).await;
        daemon.stop().await;
        assert_eq!(town.rows("pragma integrity_check").await, ["ok"]);
        assert_eq!((town.hook.hooks().len(), town.mail.mails().len()), (1, 1), "each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_renamed_ends_the_daemon_and_nothing_is_made_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let town = DaemonHarness::with(folder, Some(&home), OFTEN, "").await;
    town.in_review(1).await;
    let daemon = town.running().await;
    let away = town.folder.path().join("away");
    rename(&home, &away).unwrap();
    ends(&town, daemon, "was deleted or moved while it was in use").await;
    assert!(!home.exists());
    let output = town.run_beside(&["run"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    rename(&away, &home).unwrap();
    town.running().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_moved_and_linked_back_ends_the_daemon_and_put_back_it_holds_everything() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(1).await;
    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    // What `mv` and `ln -s` do, in one step: later openers of the path use another log than the daemon.
    let (away, link) = (town.folder.path().join("away.db"), town.folder.path().join("link"));
    hard_link(&town.database, &away).unwrap();
    symlink(&away, &link).unwrap();
    rename(&link, &town.database).unwrap();
    ends(&town, daemon, "was moved, and a link put in its place while it was in use").await;
    // Put back, it holds everything.
    rename(&away, &town.database).unwrap();
    let daemon = town.running().await;
    assert_eq!(town.rows("select count(*) from v_decisions").await, ["1"]);
    town.delivered(1).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_moved_and_linked_back_is_the_same_folder() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let town = DaemonHarness::with(folder, Some(&home), OFTEN, "").await;
    let ids = town.in_review(1).await;
    let daemon = town.running().await;
    let away = town.folder.path().join("away");
    rename(&home, &away).unwrap();
    symlink(&away, &home).unwrap();
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_told_past_the_outbox_and_by_status_and_keep_nobody_else_from_hearing() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(2).await;
    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;

    // One page is overwritten; SQLite rereads it, because another program wrote.
    write(&town.database, "pragma wal_checkpoint(truncate)").await;
    let page = town.rows("select rootpage from sqlite_schema where name = 'delivery'").await[0].parse::<u64>().unwrap();
    let size = town.rows("pragma page_size").await[0].parse::<u64>().unwrap();
    let file = std::fs::File::options().write(true).open(&town.database).unwrap();
    file.write_all_at(&[0xa5; 4096][..usize::try_from(size).unwrap()], (page - 1) * size).unwrap();
    write(&town.database, "update daemon set alive_since = alive_since").await;
    town.sandbox.deny(&ids[1], REASON).unwrap();

    let is_late = |hook: &WebhookRequest| hook.json()["type"] == "monitor.polling_late";
    let alert = town.hook.wait_for_those(1, SOON, is_late).await.unwrap().remove(0).json();
    assert_eq!(alert["data"]["figures"]["reason"], "database_damaged", "{alert}");
    town.logged("malformed").await;
    let told = |hook: &WebhookRequest| hook.json()["type"] == "vetting.denied";
    assert_eq!(town.hook.hooks().iter().filter(|hook| told(hook)).count(), 1, "what is not stored is not told");
    daemon.stop().await;
    assert_eq!(town.hook.hooks().iter().filter(|hook| is_late(hook)).count(), 1);
    let status = town.run_beside(&["status"]).await;
    assert!(complaint(&status).contains("damaged"), "{}", complaint(&status));
}

async fn write(database: &Path, sql: &'static str) {
    let mut writer = SqliteConnectOptions::new().filename(database).connect().await.unwrap();
    query(sql).execute(&mut writer).await.unwrap();
}
