//! Litestream beside the daemon: what it replicated is restored and started.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use vetwatch::sandbox::webhook_receiver::WebhookRequest;

use crate::process::{DaemonHarness, SOON, complaint, eventually};
use crate::world::rows;

const OFTEN: &str = "in_review = \"100ms\"\nsettled = \"100ms\"";
const REASON: &str = "Not an Education Customer";

/// Installed by `tests/run`, or by hand.
fn litestream() -> Option<PathBuf> {
    let installed = [PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/litestream")), "litestream".into()];
    installed
        .into_iter()
        .find(|path| Command::new(path).arg("version").output().is_ok_and(|done| done.status.success()))
}

/// Killed with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_litestream_replicated_while_the_daemon_worked_is_restored_and_each_verdict_arrives_once() {
    let Some(litestream) = litestream() else {
        eprintln!("skipped: litestream is not here");
        return;
    };
    let town = DaemonHarness::new(OFTEN, "").await;
    let ids = town.in_review(20).await;
    let daemon = town.running().await;
    let (replica, copy) = (town.folder.path().join("replica"), town.folder.path().join("copy.db"));
    let url = format!("file://{}", replica.display());
    let log = std::fs::File::create(town.folder.path().join("litestream.log")).unwrap();
    let mut replicate = Command::new(&litestream);
    replicate.arg("replicate").arg(&town.database).arg(&url).stdin(Stdio::null());
    replicate.stdout(log.try_clone().unwrap()).stderr(log);
    let replicating = Killed(replicate.spawn().unwrap());

    for id in &ids[..10] {
        town.sandbox.deny(id, REASON).unwrap();
    }
    town.delivered(10).await;
    let told = |town: &DaemonHarness| {
        let hooks = town.hook.hooks().into_iter().filter(|hook| hook.json()["type"] == "vetting.denied");
        hooks.map(|hook| hook.id().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut first = told(&town);
    // Complete once a restored copy has all of them delivered.
    eventually("the replica has what was delivered", SOON, async || {
        for suffix in ["", "-wal", "-shm", "-txid"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", copy.display()));
        }
        let restored = Command::new(&litestream).arg("restore").arg("-o").arg(&copy).arg(&url).output().unwrap();
        if !restored.status.success() {
            return Err(complaint(&restored));
        }
        let seen = rows(&copy, "select count(*) from v_deliveries where state = 'delivered'").await;
        if seen == ["20"] { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    daemon.kill();
    let refused = complaint(&town.run(&["restore", copy.to_str().unwrap()]));
    assert!(refused.contains("another program has the database"), "{refused}");
    drop(replicating);
    std::fs::remove_file(&town.database).unwrap();

    let restored = town.tell(&["restore", copy.to_str().unwrap()]);
    assert_eq!(restored["pending"], 0, "{restored}");
    let daemon = town.running().await;
    town.logged("the database was restored at").await;
    for id in &ids[10..] {
        town.sandbox.deny(id, REASON).unwrap();
    }
    let is_denial = |hook: &WebhookRequest| hook.json()["type"] == "vetting.denied";
    town.hook.wait_for_those(20, SOON, is_denial).await.unwrap();
    town.delivered(20).await;
    daemon.stop().await;
    let mut all = told(&town);
    assert_eq!(all.len(), 20, "each once");
    all.sort();
    first.sort();
    assert!(first.iter().all(|id| all.contains(id)));
    all.dedup();
    assert_eq!(all.len(), 20);
    assert_eq!(town.rows("pragma integrity_check").await, ["ok"]);
}

/// A log that somebody else begins anew is read by Litestream in part only, and it says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn beside_litestream_the_replica_of_a_busy_database_is_sound() {
    let Some(litestream) = litestream() else {
        eprintln!("skipped: litestream is not here");
        return;
    };
    let town = DaemonHarness::new("in_review = \"50ms\"\nsettled = \"50ms\"", "").await;
    let ids = town.in_review(60).await;
    let at = |name: &str| town.folder.path().join(name);
    let (socket, copy) = (at("litestream.sock"), at("copy.db"));
    let url = format!("file://{}", at("replica").display());
    let text = format!(
        "socket: {{enabled: true, path: {}}}\ndbs: [{{path: {}, replica: {{url: \"{url}\"}}}}]\n",
        socket.display(),
        town.database.display()
    );
    std::fs::write(at("litestream.yml"), text).unwrap();
    let log = std::fs::File::create(at("litestream.log")).unwrap();
    let mut replicate = Command::new(&litestream);
    replicate.args(["replicate", "-config"]).arg(at("litestream.yml")).stdin(Stdio::null());
    replicate.stdout(log.try_clone().unwrap()).stderr(log);
    let replicating = Killed(replicate.spawn().unwrap());
    let sync =
        || Command::new(&litestream).args(["sync", "-wait", "-socket"]).arg(&socket).arg(&town.database).output();
    eventually("Litestream has begun", SOON, async || {
        let synced = sync().unwrap();
        if synced.status.success() { Ok(()) } else { Err(complaint(&synced)) }
    })
    .await;
    let daemon = town.running().await;
    // More than the 1,000 pages at which SQLite would begin the log anew.
    for round in 0..5 {
        for id in &ids {
            if round % 2 == 0 {
                town.sandbox.deny(id, REASON).unwrap();
            } else {
                town.sandbox.submit(id).unwrap();
            }
            let _ = sync();
        }
        let seen = format!("{}", (round + 1) * ids.len());
        town.until("select count(*) from v_transitions", &[&seen]).await;
    }
    daemon.kill();
    drop(replicating);
    let restored = Command::new(&litestream).arg("restore").arg("-o").arg(&copy).arg(&url).output().unwrap();
    assert!(restored.status.success(), "{}", complaint(&restored));
    assert_eq!(rows(&copy, "pragma integrity_check").await, ["ok"]);
}
