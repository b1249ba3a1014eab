//! A database that another program locks: what waits for it, for how long, and what is reported.

use std::time::Duration;

use sqlx::query;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::net::UnixDatagram;
use tokio::time::timeout;
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::store::Store;

use crate::process::{DaemonHarness, SOON, complaint, eventually, now};
use crate::world::seconds;

const REASON: &str = "Not an Education Customer";
const OFTEN: &str = "in_review = \"200ms\"";

/// Another program that locks the database.
async fn holder(town: &DaemonHarness, how: &'static str) -> SqliteConnection {
    let mut holder = SqliteConnectOptions::new().filename(&town.database).connect().await.unwrap();
    for sql in how.split(';') {
        query(sql).execute(&mut holder).await.unwrap();
    }
    holder
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_waits_for_ever_for_a_held_database_and_each_says_who_holds_it() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(1).await;
    let mut holder = holder(&town, "begin immediate").await;
    let new = "99999999-0000-4000-8000-000000000000";
    let since = now();
    let commands: [&[&str]; 6] = [
        &["customers", "mute", &ids[0]],
        &["poll"],
        &["customers", "add", new],
        &["test-send", "crm"],
        &["deliveries", "redrive", "--endpoint", "crm"],
        &["customers", "pause", &ids[0], "--json"],
    ];
    let outputs = futures_util::future::join_all(commands.map(|command| town.run_beside(command))).await;
    let took = now().since(since);
    assert!(took >= seconds(9) && took < seconds(30), "{took:?}");
    let us = format!("(process {}) has held the database", std::process::id());
    for output in outputs {
        let said = complaint(&output);
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains(&us) && said.contains("try again"), "{said}");
    }
    query("rollback").execute(&mut holder).await.unwrap();
    town.tell(&["customers", "pause", &ids[0]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_waits_for_the_database_says_so_and_obeys_sigterm_at_once() {
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(3).await;
    let path = town.folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut daemon = town.start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "4000000")]);
    daemon.ready().await;
    town.hook.script(WebhookAction::Delay(Duration::from_millis(700)), Some(1));
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.hook.wait_for(1, SOON).await.unwrap();
    town.until("select state from v_deliveries where endpoint = 'sales-mail'", &["delivered"]).await;
    let mut holder = holder(&town, "begin immediate").await;
    let mut fed = 0;
    let said = timeout(SOON, async {
        loop {
            let mut text = [0; 1000];
            let length = socket.recv(&mut text).await.unwrap();
            let text = String::from_utf8_lossy(&text[..length]).trim().to_owned();
            fed += u32::from(text == "WATCHDOG=1");
            if text.contains("waits for the database") && fed >= 2 {
                return text;
            }
            if fed > 30 {
                return text;
            }
        }
    })
    .await
    .unwrap();
    assert!(said.starts_with("STATUS=waits for the database, which another program holds since "), "{said}");
    town.logged(&format!("(process {}) holds the database; waiting for it", std::process::id())).await;
    town.hook.wait_for_those(1, SOON, |hook| hook.answered.is_some()).await.unwrap();
    town.logged("the outcome of an attempt cannot be stored yet").await;

    let since = now();
    daemon.terminate();
    assert_eq!(daemon.ended().await.code(), Some(0), "{}", town.log());
    assert!(now().since(since) < seconds(12), "{:?}\n{}", now().since(since), town.log());
    town.logged("could not be stored before the end").await;
    query("rollback").execute(&mut holder).await.unwrap();
    drop(holder);

    // What could not be stored is created again, under the same id.
    let daemon = town.running().await;
    town.delivered(1).await;
    let hooks = town.hook.hooks();
    assert!(hooks.len() == 2 && hooks[0].id() == hooks[1].id(), "{hooks:#?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_held_database_obeys_sigterm_and_begins_when_it_is_free() {
    for how in ["begin immediate", "pragma locking_mode = exclusive;begin exclusive"] {
        let town = DaemonHarness::new(OFTEN, "").await;
        town.in_review(1).await;
        let path = town.folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
        let holder = holder(&town, how).await;
        let mut daemon = town.start_with(&environment);
        town.logged("cannot start before the database is free").await;
        let mut text = [0; 1000];
        let length = timeout(SOON, socket.recv(&mut text)).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&text[..length]).into_owned();
        assert!(said.starts_with("STATUS=waits for the database"), "{how}: {said}");
        daemon.signal("HUP");
        town.logged("SIGHUP").await;
        let since = now();
        daemon.terminate();
        assert_eq!(daemon.ended().await.code(), Some(0), "{how}: {}", town.log());
        assert!(now().since(since) < seconds(5), "{how}: {:?}", now().since(since));

        let mut daemon = town.start_with(&environment);
        eventually("it waits again", SOON, async || {
            let times = town.log().matches("cannot start before the database is free").count();
            if times >= 2 { Ok(()) } else { Err(format!("{times} times")) }
        })
        .await;
        holder.close().await.unwrap();
        daemon.ready().await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn whether_a_database_is_held_can_be_asked_without_leaving_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vetwatch.db");
    Store::open(&path).await.unwrap().close_connections().await;
    let store = Store::open_to_read(&path).await.unwrap();
    assert!(!store.is_held().await);
    let mut holder = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    query("begin immediate").execute(&mut holder).await.unwrap();
    assert!(store.is_held().await);
    query("rollback").execute(&mut holder).await.unwrap();
    assert!(!store.is_held().await);
    holder.close().await.unwrap();
    store.close().await;
    for name in ["vetwatch.db-wal", "vetwatch.db-shm"] {
        assert!(folder.path().join(name).exists(), "who may only read needs {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_that_holds_the_folder_is_not_waited_for_for_ever() {
    let town = DaemonHarness::new(OFTEN, "").await;
    town.in_review(1).await;
    let folder = std::fs::File::open(town.folder.path()).unwrap();
    folder.lock().unwrap();
    let output = town.run_beside(&["customers", "add", "99999999-0000-4000-8000-000000000000"]).await;
    assert_eq!(output.status.code(), Some(75), "{}", complaint(&output));
    drop(folder);
}
