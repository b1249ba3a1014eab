//! Backups by hand and by the daemon, and what is restored from them.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use vetwatch::backup::Nightly;
use vetwatch::sandbox::webhook_receiver::WebhookRequest;
use vetwatch::store::backup::{self, Purpose};
use vetwatch::time::{Clock, Timestamp};

use crate::disk::Disk;
use crate::process::{DaemonHarness, SOON, complaint, eventually};
use crate::world::{World, hours, minutes, rows};

const OFTEN: &str = "in_review = \"100ms\"\nsettled = \"100ms\"";
const REASON: &str = "Not an Education Customer";

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn denials(town: &DaemonHarness) -> Vec<WebhookRequest> {
    town.hook.hooks().into_iter().filter(|hook| hook.json()["type"] == "vetting.denied").collect()
}

/// A folder for backups beside the town.
fn shelf(town: &DaemonHarness) -> PathBuf {
    let shelf = town.folder.path().join("shelf");
    fs::create_dir(&shelf).unwrap();
    shelf
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_whole_and_checked_while_the_daemon_writes_and_when_it_does_not_run() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let (shelf, ids) = (shelf(&town), town.in_review(3).await);
    let (first, second) = (shelf.join("first.db"), shelf.join("second.db"));
    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    let output = town.run_beside(&["backup", path(&first), "--json"]).await;
    assert!(output.status.success(), "{}", complaint(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["file"], &told["pending"]), (&path(&first).into(), &0.into()), "{told}");
    assert_eq!(told["transitions"].to_string(), rows(&first, "select count(*) from transition").await[0]);
    assert_eq!(told["bytes"], fs::metadata(&first).unwrap().len());
    daemon.kill();

    let output = town.run(&["backup", path(&second)]);
    assert!(output.status.success(), "{}", complaint(&output));
    assert!(complaint(&output).contains("checked, in "), "{}", complaint(&output));
    assert_eq!(names(&shelf), ["first.db", "second.db"], "one file each, and nothing left over");
    for file in [&first, &second] {
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(rows(file, "pragma integrity_check").await, ["ok"]);
        assert_eq!(rows(file, "pragma journal_mode").await, ["delete"]);
    }
    let every = "select count(*) from v_transitions";
    assert_eq!(rows(&second, every).await, town.rows(every).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_replaces_a_backup_and_nothing_else() {
    let town = DaemonHarness::new(OFTEN, "").await;
    town.in_review(1).await;
    let shelf = shelf(&town);
    let (fixed, note) = (shelf.join("nightly.db"), shelf.join("note.txt"));
    fs::write(&note, "Dear Ada").unwrap();
    fs::hard_link(&town.database, shelf.join("linked.db")).unwrap();
    symlink(&note, shelf.join("symbolic.db")).unwrap();
    let beside = |suffix: &str| format!("{}{suffix}", town.database.display());
    // Another instance's database.
    let theirs = shelf.join("theirs.db");
    fs::copy(&town.database, &theirs).unwrap();
    for (target, why) in [
        (path(&theirs).to_owned(), "it is a database of vetwatch and no backup"),
        (path(&town.database).to_owned(), "it is the database that vetwatch runs on"),
        (beside("-wal"), "or belongs to it"),
        (beside(".lock"), "or belongs to it"),
        (format!("{}/../vetwatch.db", shelf.display()), "it is the database that vetwatch runs on"),
        (format!("{}/linked.db", shelf.display()), "another name of the database"),
        (format!("{}/symbolic.db", shelf.display()), "not a regular file"),
        (path(&note).to_owned(), "that is no backup"),
        (path(&shelf).to_owned(), "not a regular file"),
        (format!("{}/missing/x.db", shelf.display()), "there is no directory"),
        ("-".to_owned(), "which a pipe cannot be"),
        ("/dev/null".to_owned(), "not a regular file"),
    ] {
        let output = town.run(&["backup", &target]);
        assert_eq!(output.status.code(), Some(1), "{target}: {}", complaint(&output));
        assert!(complaint(&output).contains(why), "{target}: {}", complaint(&output));
    }
    assert_eq!(fs::read_to_string(&note).unwrap(), "Dear Ada");
    assert_eq!(town.rows("pragma integrity_check").await, ["ok"]);
    fs::remove_file(shelf.join("linked.db")).unwrap();
    fs::remove_file(theirs).unwrap();

    // A cron job of a fixed name; the second run finds what a crash left.
    town.tell(&["backup", path(&fixed)]);
    let before = fixed.metadata().unwrap().ino();
    fs::write(shelf.join("nightly.db.partial"), vec![7; 100_000]).unwrap();
    town.tell(&["backup", path(&fixed)]);
    assert_ne!(fixed.metadata().unwrap().ino(), before);
    assert_eq!(names(&shelf), ["nightly.db", "note.txt", "symbolic.db"]);

    let other = File::create(shelf.join("nightly.db.partial")).unwrap();
    other.lock().unwrap();
    let output = town.run(&["backup", path(&fixed)]);
    assert!(complaint(&output).contains("another copy is being written"), "{}", complaint(&output));
    assert_eq!(rows(&fixed, "pragma integrity_check").await, ["ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_fails_leaves_the_one_before_and_nothing_half() {
    let town = DaemonHarness::new(OFTEN, "").await;
    town.in_review(1).await;
    let shelf = shelf(&town);
    let fixed = shelf.join("nightly.db");
    town.tell(&["backup", path(&fixed)]);
    let good = fs::read(&fixed).unwrap();

    // A row that refers to nothing: SQLite copies it, and only the check of the copy sees it.
    let mut writer = open_writer(&town.database).await;
    let sql = "pragma foreign_keys = off; insert into attempt (delivery, number, began_at) values ('nobody', 1, 1)";
    sqlx::raw_sql(sql).execute(&mut writer).await.unwrap();
    let output = town.run(&["backup", path(&fixed)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("a row of the table attempt refers to a row"), "{}", complaint(&output));
    sqlx::raw_sql("delete from attempt where delivery = 'nobody'").execute(&mut writer).await.unwrap();
    sqlx::Connection::close(writer).await.unwrap();
    assert_eq!((fs::read(&fixed).unwrap(), names(&shelf)), (good, vec!["nightly.db".to_owned()]));

    let Some(disk) = Disk::mount(town.folder.path().join("disk")) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let output = town.run(&["backup", path(&disk.0.join("x.db"))]);
    assert!(complaint(&output).contains("MB are needed in"), "{}", complaint(&output));
    assert_eq!(names(&disk.0), [""; 0]);
}

/// A connection that writes past vetwatch.
async fn open_writer(database: &Path) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    sqlx::ConnectOptions::connect(&options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_readers_has_every_view_and_no_answer_message_or_contact_and_is_never_restored() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(2).await;
    let mut writer = open_writer(&town.database).await;
    sqlx::raw_sql("update customer set contact = 'jan@contoso.example'").execute(&mut writer).await.unwrap();
    sqlx::Connection::close(writer).await.unwrap();
    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    daemon.stop().await;
    let shelf = shelf(&town);
    let file = shelf.join("analysts.db");
    town.tell(&["backup", path(&file), "--for-readers"]);
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o644);
    assert_eq!(names(&shelf), ["analysts.db"]);
    let bytes = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
    for text in ["\"qualification\":", "jan@contoso.example", "Message-ID", "Attempt 1 of 3"] {
        assert!(!bytes.contains(text), "{text}");
    }
    for view in ["v_current", "v_transitions", "v_decisions", "v_deliveries", "v_customers"] {
        let all =
            format!("select * from {view}").replace("* from v_customers", "partner, name, poll_class from v_customers");
        assert_eq!(rows(&file, &all).await, town.rows(&all).await, "{view}");
    }
    let before = town.rows("select count(*) from v_transitions").await;
    let output = town.run(&["restore", path(&file)]);
    assert!(complaint(&output).contains("is a copy for readers"), "{}", complaint(&output));
    assert_eq!(town.rows("select count(*) from v_transitions").await, before);
    fs::set_permissions(&shelf, Permissions::from_mode(0o555)).unwrap();
    assert_eq!(rows(&file, "pragma journal_mode").await, ["delete"], "a medium that is read only will do");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_sound_backup_of_vetwatch_is_not_restored_and_changes_nothing() {
    let town = DaemonHarness::new(OFTEN, "").await;
    town.in_review(1).await;
    let shelf = shelf(&town);
    let good = shelf.join("good.db");
    town.tell(&["backup", path(&good)]);
    let made = |name: &str, sql: &str| {
        let file = shelf.join(name);
        fs::copy(&good, &file).unwrap();
        let done = std::process::Command::new("sqlite3").arg(&file).arg(sql).status().unwrap();
        assert!(done.success());
        file
    };
    let other = shelf.join("other.db");
    let done = std::process::Command::new("sqlite3").arg(&other).arg("create table transition (id)").status().unwrap();
    assert!(done.success());
    let garbage = shelf.join("garbage.db");
    fs::write(&garbage, vec![b'x'; 8192]).unwrap();
    let damaged = shelf.join("damaged.db");
    let mut bytes = fs::read(&good).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x55);
    fs::write(&damaged, &bytes).unwrap();
    let short = shelf.join("short.db");
    fs::write(&short, &fs::read(&good).unwrap()[..20_000]).unwrap();
    let newer = made("newer.db", "update _sqlx_migrations set version = 999");
    let changed = made("changed.db", "update _sqlx_migrations set checksum = x'00'");
    let orphan = made("orphan.db", "insert into attempt (delivery, number, began_at) values ('nobody', 1, 1)");
    let linked = shelf.join("linked.db");
    fs::hard_link(&town.database, &linked).unwrap();
    let before = fs::read(&town.database).unwrap();
    for (file, why) in [
        (&other, "is no database of vetwatch"),
        (&garbage, "is no SQLite database"),
        (&damaged, "is damaged"),
        (&short, "is damaged"),
        (&newer, "was written by a newer vetwatch"),
        (&changed, "before the first release"),
        (&orphan, "refers to a row that is not there"),
        (&linked, "it is the database itself"),
        (&town.database, "it is the database itself"),
        (&shelf, "it is not a regular file"),
        (&shelf.join("missing.db"), "No such file"),
    ] {
        let kept = fs::read(file).ok();
        let output = town.run(&["restore", path(file)]);
        assert_eq!(output.status.code(), Some(1), "{}: {}", file.display(), complaint(&output));
        assert!(complaint(&output).contains(why), "{}: {}", file.display(), complaint(&output));
        assert_eq!(fs::read(file).ok(), kept);
        assert_eq!(fs::read(&town.database).unwrap(), before, "{}", file.display());
    }
    fs::remove_file(&linked).unwrap();
    assert!(!names(town.folder.path()).iter().any(|name| name.contains("restor") || name.contains("replaced")));

    let daemon = town.running().await;
    let output = town.run_beside(&["restore", path(&good)]).await;
    assert!(complaint(&output).contains("systemctl stop vetwatch"), "{}", complaint(&output));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_takes_the_place_of_a_database_that_was_killed_and_its_log_damages_nothing() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(2).await;
    let shelf = shelf(&town);
    let file = shelf.join("good.db");
    let daemon = town.running().await;
    let output = town.run_beside(&["backup", path(&file)]).await;
    assert!(output.status.success(), "{}", complaint(&output));
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    let told = denials(&town);
    daemon.kill();
    let wal = town.database.with_file_name("vetwatch.db-wal");
    assert!(wal.metadata().unwrap().len() > 0, "the log that must not meet the backup");
    let old = town.rows("select count(*) from v_transitions").await;

    let restored = town.tell(&["restore", path(&file)]);
    let kept = PathBuf::from(restored["kept"].as_str().unwrap());
    assert!(!wal.exists());
    assert_eq!(rows(&kept, "select count(*) from v_transitions").await, old, "the old one is whole, with its log");
    assert_eq!(rows(&kept, "pragma integrity_check").await, ["ok"]);
    assert_eq!(town.database.metadata().unwrap().mode() & 0o777, 0o640);
    assert!(file.exists(), "the backup stays");
    let output = town.run(&["status"]);
    assert!(complaint(&output).contains("from a backup as of"), "{}", complaint(&output));

    let daemon = town.running().await;
    town.logged("the database was restored at").await;
    let again = town.hook.wait_for_those(2, SOON, |hook| hook.json()["type"] == "vetting.denied").await.unwrap();
    assert_eq!(again[1].id(), told[0].id(), "the receiver can drop it");
    assert_eq!(again[1].json()["data"]["event_id"], told[0].json()["data"]["event_id"]);
    daemon.stop().await;
    assert_eq!(town.rows("pragma integrity_check").await, ["ok"]);
    let log = town.log();
    let daemon = town.running().await;
    daemon.stop().await;
    assert_eq!(
        town.log().matches("the database was restored at").count(),
        log.matches("the database was restored at").count()
    );

    // The kept one can be restored in turn, and so can one without an old database.
    fs::remove_file(&town.database).unwrap();
    let back = town.tell(&["restore", path(&kept)]);
    assert_eq!(back["transitions"].to_string(), old[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_left_beside_a_backup_is_not_taken_for_its_own() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let (shelf, ids) = (shelf(&town), town.in_review(2).await);
    let daemon = town.running().await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.delivered(1).await;
    let wal = |of: &Path| PathBuf::from(format!("{}-wal", of.display()));
    let old = shelf.join("old-wal");
    fs::copy(wal(&town.database), &old).unwrap();
    town.sandbox.deny(&ids[1], REASON).unwrap();
    town.delivered(2).await;
    let backup = shelf.join("x.db");
    fs::copy(&old, wal(&backup)).unwrap();
    assert!(town.run_beside(&["backup", path(&backup)]).await.status.success());
    assert!(!wal(&backup).exists(), "the log of a file that is gone");
    fs::copy(&old, wal(&backup)).unwrap();
    daemon.stop().await;
    let told = town.tell(&["restore", path(&backup)]);
    let transitions = "select count(*) from transition where to_status = 'Denied'";
    assert_eq!(rows(&town.database, transitions).await, ["2"], "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_a_transaction_keeps_its_database_from_being_replaced() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let backup = shelf(&town).join("x.db");
    town.in_review(1).await;
    town.tell(&["backup", path(&backup)]);
    // After an orderly end there is no log that would show the program.
    assert!(!PathBuf::from(format!("{}-wal", town.database.display())).exists());
    let mut writer = open_writer(&town.database).await;
    sqlx::query("begin immediate").execute(&mut writer).await.unwrap();
    let output = town.run_beside(&["restore", path(&backup)]).await;
    assert_eq!(output.status.code(), Some(75), "{}", complaint(&output));
    sqlx::query("update customer set name = 'x'").execute(&mut writer).await.unwrap();
    sqlx::query("commit").execute(&mut writer).await.unwrap();
    assert_eq!(town.rows("select name from v_customers").await, ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_kept_with_its_log_and_replaced() {
    let town = DaemonHarness::new(OFTEN, "").await;
    town.in_review(2).await;
    let shelf = shelf(&town);
    let file = shelf.join("good.db");
    town.tell(&["backup", path(&file)]);
    town.running().await.kill();
    let wal = town.database.with_file_name("vetwatch.db-wal");
    let log = fs::read(&wal).unwrap();
    fs::write(&town.database, vec![b'x'; 50_000]).unwrap();
    // The log would hide the garbage.
    fs::write(&wal, &log[..log.len().min(32)]).unwrap();
    let output = town.run(&["status"]);
    assert!(complaint(&output).contains("is no SQLite database"), "{}", complaint(&output));
    assert!(complaint(&output).contains("vetwatch restore"), "{}", complaint(&output));
    assert!(!complaint(&output).contains("code: 26"), "{}", complaint(&output));
    let restored = town.tell(&["restore", path(&file)]);
    let kept = restored["kept"].as_str().unwrap();
    assert_eq!(fs::read(kept).unwrap(), vec![b'x'; 50_000]);
    assert!(!wal.exists());
    let daemon = town.running().await;
    daemon.stop().await;
    assert_eq!(town.rows("pragma integrity_check").await, ["ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_at_any_instant_leaves_the_old_database_or_the_new_one() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(2).await;
    let shelf = shelf(&town);
    let file = shelf.join("good.db");
    let daemon = town.running().await;
    town.until("select count(*) from daemon", &["1"]).await;
    daemon.stop().await;
    town.tell(&["backup", path(&file)]);
    // `strace` ends the process with a signal at each of the calls that change a name.
    let strace = std::process::Command::new("strace").arg("-V").output();
    if !strace.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: strace is not here");
        return;
    }
    let mut seen = std::collections::BTreeSet::new();
    for call in ["rename", "link,linkat", "unlink", "fsync,fdatasync", "ftruncate", "pwrite64", "write,copy_file_range"]
    {
        for n in 1..40 {
            // What the old database holds is in its log alone.
            let daemon = town.running().await;
            let paused = town.run_beside(&["customers", "pause", &ids[0]]).await;
            assert!(paused.status.success(), "{}", complaint(&paused));
            daemon.kill();
            let inject = format!("inject={call}:signal=KILL:when={n}");
            let mut strace = std::process::Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
            let command = town.command(&["restore", path(&file)]);
            strace.arg(command.get_program()).args(command.get_args());
            for (key, value) in command.get_envs() {
                strace.env(key, value.unwrap());
            }
            let done = strace.output().unwrap();
            // As the daemon does it: reading alone cannot take over what a process left that was killed.
            let mut writer = open_writer(&town.database).await;
            let sound: String = sqlx::query_scalar("pragma integrity_check").fetch_one(&mut writer).await.unwrap();
            let look = "select (select restored_at is not null from daemon), (select count(paused_at) from customer)";
            let (is_new, paused): (i64, i64) = sqlx::query_as(look).fetch_one(&mut writer).await.unwrap();
            assert_eq!(sound, "ok", "{call} {n}");
            assert_eq!(paused, 1 - is_new, "{call} {n}: neither the old one nor the new one");
            seen.insert(is_new);
            let again = "update customer set paused_at = null; update daemon set restored_at = null";
            sqlx::raw_sql(again).execute(&mut writer).await.unwrap();
            sqlx::Connection::close(writer).await.unwrap();
            if done.status.success() {
                break;
            }
        }
    }
    assert_eq!(seen.len(), 2, "both were seen");
}

/// The backups of a world, at night and after it.
fn nightly(world: &World) -> Nightly {
    let settings = world.config.backup.clone().unwrap();
    let clock: Arc<dyn Clock> = world.clock.clone();
    Nightly::new(settings, world.store.clone(), clock, CancellationToken::new())
}

async fn world_with_backups(keep: usize) -> (World, PathBuf) {
    let world =
        World::with("timezone = \"Europe/Amsterdam\"", &format!("[backup]\ndir = \"backups\"\nkeep = {keep}\n")).await;
    let dir = world.config.backup.clone().unwrap().dir;
    world.note_running().await;
    world.store.tick(world.clock.now()).await.unwrap();
    (world, dir)
}

fn at(text: &str) -> Timestamp {
    serde_json::from_value(text.into()).unwrap()
}

#[tokio::test]
async fn a_backup_is_made_at_the_first_start_and_each_night_by_local_time_and_the_newest_are_kept() {
    let (world, dir) = world_with_backups(3).await;
    let nightly = nightly(&world);
    // A Monday in November, 09:00 UTC.
    let next = nightly.round().await.unwrap().unwrap();
    assert_eq!(next, at("2025-11-25T01:30:00Z"), "02:30 in Amsterdam");
    assert_eq!(names(&dir), ["vetwatch-2025-11-24T090000Z.db"]);
    assert_eq!(dir.metadata().unwrap().mode() & 0o777, 0o750);
    for foreign in
        ["vetwatch-notes.db", "other-2025-11-24T090000Z.db", "vetwatch-2025-11-01T090000Z.db.txt", "a.partial"]
    {
        fs::write(dir.join(foreign), "keep me").unwrap();
    }
    fs::write(dir.join("vetwatch-2025-11-24T100000Z.db.partial"), "a crash left it").unwrap();
    fs::write(dir.join("vetwatch-2025-11-24T100000Z.db.partial-journal"), "and that").unwrap();
    fs::write(dir.join("vetwatch-2027-01-01T010000Z.db"), "of a clock that was ahead").unwrap();
    assert_eq!(nightly.round().await.unwrap(), Some(next), "once a night");
    world.pass(hours(16));
    nightly.round().await.unwrap();
    assert_eq!(names(&dir).len(), 8, "not before the time: {:?}", names(&dir));
    for _ in 0..3 {
        world.pass(hours(24));
        nightly.round().await.unwrap();
    }
    assert_eq!(
        names(&dir),
        [
            "a.partial",
            "other-2025-11-24T090000Z.db",
            "vetwatch-2025-11-01T090000Z.db.txt",
            "vetwatch-2025-11-26T010000Z.db",
            "vetwatch-2025-11-27T010000Z.db",
            "vetwatch-2025-11-28T010000Z.db",
            "vetwatch-notes.db",
        ]
    );
    let file = dir.join("vetwatch-2025-11-28T010000Z.db");
    assert_eq!(rows(&file, "pragma integrity_check").await, ["ok"]);
    let state = world.store.backup_state().await.unwrap();
    assert_eq!((state.at, state.file.as_deref()), (Some(world.clock.now()), Some(path(&file))));
}

#[tokio::test]
async fn a_directory_that_is_a_link_is_pruned_like_another_and_a_new_one_is_filled_at_once() {
    let (mut world, dir) = world_with_backups(1).await;
    let real = dir.with_file_name("elsewhere");
    fs::create_dir(&real).unwrap();
    symlink(&real, &dir).unwrap();
    for night in ["vetwatch-2025-11-24T090000Z.db", "vetwatch-2025-11-25T090200Z.db"] {
        for _ in 0..2 {
            nightly(&world).round().await.unwrap();
            assert_eq!(names(&real), [night]);
            world.pass(minutes(1));
        }
        world.pass(hours(24));
    }
    world.config.backup.as_mut().unwrap().dir = dir.with_file_name("new");
    world.suspend(hours(1));
    nightly(&world).round().await.unwrap();
    assert_eq!(names(&dir.with_file_name("new")).len(), 1);
}

#[tokio::test]
async fn a_night_that_was_missed_is_made_up_for_at_the_start() {
    let (mut world, dir) = world_with_backups(14).await;
    nightly(&world).round().await.unwrap();
    world.suspend(hours(71));
    world.restart().await;
    nightly(&world).round().await.unwrap();
    assert_eq!(names(&dir), ["vetwatch-2025-11-24T090000Z.db", "vetwatch-2025-11-27T080000Z.db"]);
    // A clock that was ahead for a while does not put off the backups for good.
    world.execute("update daemon set backup_at = backup_at + 400000000000").await;
    world.pass(minutes(1));
    nightly(&world).round().await.unwrap();
    assert_eq!(names(&dir).len(), 3);
}

#[tokio::test]
async fn a_backup_that_fails_is_told_once_and_its_end_too_and_no_old_one_is_lost() {
    let (world, dir) = world_with_backups(1).await;
    let nightly = nightly(&world);
    nightly.round().await.unwrap();
    let good = names(&dir);
    let told = || world.webhooks().into_iter().filter(|hook| hook.contains("backup")).collect::<Vec<_>>();
    world
        .execute("pragma foreign_keys = off; insert into attempt (delivery, number, began_at) values ('x', 1, 1)")
        .await;
    world.pass(hours(18));
    let next = nightly.round().await.unwrap();
    assert_eq!(next, Some(world.clock.now().after(hours(1))), "tried again");
    assert_eq!(names(&dir), good, "nothing is pruned before a new one is there");
    for _ in 0..3 {
        world.watch().await;
        world.deliver().await;
        world.pass(minutes(1));
        nightly.round().await.unwrap();
    }
    assert_eq!(told(), ["monitor.backup_failed - -"]);
    assert!(!world.parts.alerts.late.load(Ordering::Relaxed), "the heartbeat goes on: vetwatch sees and tells");
    let hook = world.hook.hooks().into_iter().find(|hook| hook.json()["type"] == "monitor.backup_failed").unwrap();
    let summary = hook.json()["data"]["summary"].as_str().unwrap().to_owned();
    assert!(summary.starts_with("No backup has been made since ") && summary.contains("attempt"), "{summary}");

    world.execute("delete from attempt where delivery = 'x'").await;
    world.pass(hours(1));
    nightly.round().await.unwrap();
    for _ in 0..3 {
        world.watch().await;
        world.deliver().await;
        world.pass(minutes(1));
    }
    assert_eq!(told(), ["monitor.backup_failed - -", "monitor.backup_recovered - -"]);
    assert_eq!(names(&dir).len(), 1);
    assert_ne!(names(&dir), good);
}

#[tokio::test]
async fn a_backup_that_is_older_than_twice_its_period_is_told_though_none_failed() {
    let (world, _) = world_with_backups(14).await;
    nightly(&world).round().await.unwrap();
    let failed = || world.webhooks().iter().any(|hook| hook.starts_with("monitor.backup_failed"));
    world.live(hours(40)).await;
    assert!(!failed(), "one night was missed");
    world.live(hours(1)).await;
    assert!(failed(), "two nights were missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_backs_up_by_itself_and_status_shows_the_last_one() {
    let town = DaemonHarness::new(OFTEN, "[backup]\ndir = \"backups\"\n").await;
    town.in_review(1).await;
    let said = complaint(&town.run(&["status"]));
    assert!(said.contains("last backup: none yet"), "{said}");
    let daemon = town.running().await;
    town.logged("backup written: ").await;
    let dir = town.folder.path().join("backups");
    assert_eq!(names(&dir).len(), 1);
    eventually("the backup is noted", SOON, async || {
        let said = complaint(&town.run_beside(&["status"]).await);
        if said.contains("last backup: 2") { Ok(()) } else { Err(said) }
    })
    .await;
    let status: Value = serde_json::from_slice(&town.run_beside(&["status", "--json"]).await.stdout).unwrap();
    assert_eq!(status["backup"]["file"], path(&dir.join(&names(&dir)[0])));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drill_of_the_page_recovers_and_a_verdict_arrives_once() {
    let page = include_str!("../../docs/backup.md");
    let drill = page.split("## The drill").nth(1).unwrap().split("```console\n").nth(1).unwrap();
    let commands = drill.split("```").next().unwrap();
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(2).await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    let mut daemon = Some(town.running().await);
    town.delivered(1).await;
    let (mut began, mut shown) = (None, String::new());
    let home = town.folder.path().display().to_string();
    for line in commands.lines() {
        let line = line.strip_prefix("# ").unwrap().replace("/var/lib/vetwatch", &home).replace("/root", &home);
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["systemctl", "stop", "vetwatch"] => {
                daemon.take().unwrap().stop().await;
                town.sandbox.deny(&ids[1], REASON).unwrap();
                began = Some(std::time::Instant::now());
            }
            ["systemctl", "start", "vetwatch"] => daemon = Some(town.running().await),
            ["rm", file] => fs::remove_file(file).unwrap(),
            ["vetwatch", ref arguments @ ..] => {
                let output = town.run_beside(arguments).await;
                assert!(output.status.success(), "{line}: {}", complaint(&output));
                shown = complaint(&output);
            }
            _ => panic!("the page has a line that is no step of the drill: {line}"),
        }
    }
    assert!(shown.contains("restored on ") && shown.contains("the daemon runs"), "{shown}");
    town.delivered(2).await;
    eprintln!("from the stop to the verdict: {:?}", began.unwrap().elapsed());
    let told: Vec<_> = denials(&town).iter().map(|hook| hook.json()["data"]["customer"]["id"].to_string()).collect();
    assert_eq!(told, [format!("\"{}\"", ids[0]), format!("\"{}\"", ids[1])]);
    daemon.unwrap().stop().await;
}

/// Damages a page that no query of the daemon meets.
async fn damage_a_quiet_page(database: &Path) {
    let mut writer = open_writer(database).await;
    let sql = "create table quiet (n); insert into quiet values (1); pragma wal_checkpoint(truncate)";
    sqlx::raw_sql(sql).execute(&mut writer).await.unwrap();
    let place = "select rootpage from sqlite_schema where name = 'quiet'";
    let page: i64 = sqlx::query_scalar(place).fetch_one(&mut writer).await.unwrap();
    sqlx::Connection::close(writer).await.unwrap();
    // Not by a descriptor of this process, whose end would drop its locks on the file.
    let write = format!(
        "printf '\\125%.0s' $(seq 4096) | dd of='{}' bs=4096 seek={} conv=notrunc",
        database.display(),
        page - 1
    );
    let done = std::process::Command::new("sh").args(["-c", &write]).output().unwrap();
    assert!(done.status.success(), "{}", complaint(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_after_the_start() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(1).await;
    damage_a_quiet_page(&town.database).await;
    let daemon = town.running().await;
    town.logged("the database is damaged: ").await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.hook.wait_for_those(1, SOON, |hook| hook.json()["type"] == "vetting.denied").await.unwrap();
    daemon.kill();
}

#[tokio::test]
async fn damage_that_a_check_found_is_told() {
    let world = World::new().await;
    assert_eq!(world.store.check_quickly(|| true).await.unwrap(), None);
    damage_a_quiet_page(&world.config.database).await;
    world.watch().await;
    assert_eq!(world.store.damage_found_at(), None);
    let found = world.store.check_quickly(|| true).await.unwrap().unwrap();
    assert!(found.contains("page ") || found.contains("malformed"), "{found}");
    world.watch().await;
    world.deliver().await;
    let hook = world.hook.hooks().pop().unwrap().json();
    assert_eq!(
        (&hook["type"], &hook["data"]["figures"]["reason"]),
        (&"monitor.polling_late".into(), &"database_damaged".into())
    );
    assert!(hook["data"]["detail"].as_str().unwrap().contains("vetwatch restore"), "{hook}");
}

#[tokio::test]
async fn what_is_forgotten_shrinks_the_file_step_by_step() {
    let world = World::new().await;
    world
        .execute(
            "insert into delivery (id, endpoint, state, created_at, first_due_at, finished_at)
             values ('00000000-0000-4000-8000-000000000000', 'crm', 'delivered', 0, 0, 0)",
        )
        .await;
    world
        .execute(
            "insert into attempt (delivery, number, began_at, ended_at, outcome, response)
             with recursive n (n) as (select 1 union all select n + 1 from n where n < 2000)
             select '00000000-0000-4000-8000-000000000000', n, 1, 2, 'accepted', hex(zeroblob(4000)) from n",
        )
        .await;
    let size = async || {
        world.execute("pragma wal_checkpoint(truncate)").await;
        world.config.database.metadata().unwrap().len()
    };
    let full = size().await;
    assert!(full > 16_000_000, "{full}");
    for _ in 0..2 {
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(tx.forget_attempts(world.clock.now()).await.unwrap(), 1000);
        tx.commit().await.unwrap();
        world.store.maintain().await.unwrap();
    }
    let left = size().await;
    assert!(left < full / 8, "{left} of {full} bytes are left");
    assert_eq!(world.rows("pragma integrity_check").await, ["ok"]);
}

#[tokio::test]
async fn a_copy_or_a_check_that_is_ended_ends_soon_and_leaves_nothing() {
    let world = World::new().await;
    world
        .execute(
            "insert into unknown_status (partner, status_key, status, first_seen_at)
             with recursive n (n) as (select 1 union all select n + 1 from n where n < 20000) select 1, n, n, n from n",
        )
        .await;
    assert_eq!(world.store.check_quickly(|| false).await.unwrap(), None);
    assert_eq!(world.store.damage_found_at(), None);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("x.db");
    for purpose in [Purpose::Restore, Purpose::Readers] {
        let error = backup::write(&world.config.database, &target, purpose, || false).await.unwrap_err();
        assert!(matches!(error, vetwatch::store::Error::Interrupted), "{error:?}");
        assert_eq!(names(folder.path()), [""; 0]);
    }
    backup::write(&world.config.database, &target, Purpose::Restore, || true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_holds_the_database_holds_no_backup_up() {
    let world = World::new().await;
    let mut holder = open_writer(&world.config.database).await;
    sqlx::raw_sql("begin immediate; update partner set list_size = 7").execute(&mut holder).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("x.db");
    backup::write(&world.config.database, &target, Purpose::Restore, || true).await.unwrap();
    assert_eq!(rows(&target, "select list_size from partner").await, ["null"], "what is not committed is not in it");
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
}
