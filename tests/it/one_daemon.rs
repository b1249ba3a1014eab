//! There is one daemon for a database, whatever name leads to the file.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::{DaemonHarness, SOON, complaint, eventually};

const SELDOM: &str = "in_review = \"1h\"";
const SERVICE: u32 = 12_345;
const GROUP: u32 = 12_346;
const ANALYST: u32 = 12_347;

/// Runs another daemon on `database`, after a line of a shell, in mounts of its own if it is root. Returns its output.
async fn second(town: &DaemonHarness, database: &Path, before: &str) -> String {
    let text = fs::read_to_string(&town.config).unwrap();
    let other = town.folder.path().join("other.toml");
    let text = text.replace(&town.database.display().to_string(), &database.display().to_string());
    assert!(text.contains(&database.display().to_string()));
    fs::write(&other, text).unwrap();
    let binary = std::env::var("VETWATCH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_vetwatch").into());
    let run = format!("{before}\nexec '{binary}' --config '{}' run", other.display());
    let mut command = Command::new(if before.is_empty() { "sh" } else { "unshare" });
    if !before.is_empty() {
        command.args(["--mount", "sh"]);
    }
    let child =
        command.args(["-c", &run]).env("CREDENTIALS_DIRECTORY", town.folder.path()).stderr(Stdio::piped()).spawn();
    let mut child = Ended(child.unwrap());
    let status = eventually("the second daemon ends", SOON, async || {
        child.0.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
    });
    let code = status.await.code();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.0.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(code, Some(1), "{said}");
    said
}

/// Killed with the test, should it not end by itself.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_refused_under_any_name_of_the_file() {
    let town = DaemonHarness::new(SELDOM, "").await;
    let daemon = town.running().await;
    let elsewhere = town.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();

    let linked = elsewhere.join("linked.db");
    fs::hard_link(&town.database, &linked).unwrap();
    let said = second(&town, &linked, "").await;
    assert!(said.contains("another vetwatch runs on"), "{said}");

    fs::remove_file(town.database.with_file_name("vetwatch.db.lock")).unwrap();
    let said = second(&town, &town.database, "").await;
    assert!(said.contains("another vetwatch runs on"), "without its lock file: {said}");

    let mounted = elsewhere.join("mounted.db");
    fs::write(&mounted, "").unwrap();
    let is_root = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if is_root {
        let mount = format!("mount --bind '{}' '{}' || exit 9", town.database.display(), mounted.display());
        let said = second(&town, &mounted, &mount).await;
        assert!(said.contains("another vetwatch runs on"), "{said}");
    } else {
        eprintln!("skipped: only root can mount a file");
    }

    // The first one was not disturbed, and its lock ends with it.
    assert_eq!(town.tell(&["status"])["daemon_running"], true);
    assert_eq!(town.rows("pragma integrity_check").await, ["ok"]);
    daemon.kill();
    let again = town.running().await;
    again.stop().await;
    let stopped = town.run(&["status", "--json"]);
    assert!(complaint(&stopped).contains("\"daemon_running\": false"), "{}", complaint(&stopped));
}

/// `python3 -c` as another user, until its standard input is closed.
fn as_analyst(script: &str, arguments: &[&Path]) -> Child {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={ANALYST}"), format!("--regid={GROUP}"), "--clear-groups".into()]);
    command.args(["/usr/bin/python3", "-c", script]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_cannot_keep_the_daemon_from_starting() {
    let folder = TempDir::new().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    if chown(&home, Some(SERVICE), Some(GROUP)).is_err() || !Path::new("/usr/bin/python3").exists() {
        eprintln!("skipped: only root can be somebody else, who needs a Python of the system's");
        return;
    }
    fs::set_permissions(&home, Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let town = DaemonHarness::with(folder, Some(&home), SELDOM, "").await;
    town.running().await.stop().await;
    // Locks whatever can be opened, in every way there is.
    let script = "
import fcntl, sys
held = []
for path in sys.argv[1:]:
    try:
        held.append(open(path))
    except PermissionError:
        print('refused', path.rsplit('.', 1)[1], flush=True)
        continue
    fcntl.flock(held[-1], fcntl.LOCK_EX)
    fcntl.lockf(held[-1], fcntl.LOCK_SH, 1, 1 << 62)
    print('held', path.rsplit('.', 1)[1], flush=True)
sys.stdin.read()
";
    let mut analyst = Ended(as_analyst(script, &[&town.database, &home.join("vetwatch.db.lock")]));
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(analyst.0.stdout.take().unwrap()));
    let said: Vec<String> = [lines.next(), lines.next()].into_iter().flatten().map(Result::unwrap).collect();
    assert_eq!(said, ["held db", "refused lock"]);
    let daemon = town.running().await;
    let said = second(&town, &town.database, "").await;
    assert!(said.contains("another vetwatch runs on"), "{said}");
    daemon.stop().await;
}
