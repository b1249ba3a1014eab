//! Commands run as root, where another user may write to the database's directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{DaemonHarness, complaint};

/// An unused user id.
const SERVICE: u32 = 12_345;
const SELDOM: &str = "in_review = \"1h\"";
const COMMANDS: [&[&str]; 5] = [
    &["customers", "add", "00000001-0000-4000-8000-000000000000", "--name", "Contoso School"],
    &["status"],
    &["poll"],
    &["test-send", "crm"],
    &["run"],
];

/// A world-writable folder with one of the service user's in it; `None` unless root.
fn home() -> Option<(TempDir, PathBuf)> {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    if chown(&home, Some(SERVICE), Some(SERVICE)).is_err() {
        eprintln!("skipped: only root can be somebody else");
        return None;
    }
    Some((folder, home))
}

/// A file of root's that must stay unchanged.
fn precious(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("precious");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

#[track_caller]
fn is_untouched(path: &Path, text: &str) {
    let file = fs::metadata(path).unwrap();
    assert_eq!((fs::read_to_string(path).unwrap().as_str(), file.uid(), file.mode() & 0o777), (text, 0, 0o600));
    for more in ["-wal", "-shm", "-journal", ".lock"] {
        let beside = PathBuf::from(format!("{}{more}", path.display()));
        assert!(!beside.exists(), "{} was made", beside.display());
    }
}

#[track_caller]
fn are_refused(town: &DaemonHarness, why: &str) {
    for command in COMMANDS {
        let output = town.run(command);
        assert!(!output.status.success(), "{command:?}");
        assert!(complaint(&output).contains(why), "{command:?}: {}", complaint(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_opens_no_database_that_is_a_link_to_a_file_of_its_own() {
    for text in ["", "not a database"] {
        let Some((folder, home)) = home() else { return };
        let target = precious(folder.path(), text);
        symlink(&target, home.join("vetwatch.db")).unwrap();
        let town = DaemonHarness::with(folder, Some(&home), SELDOM, "").await;
        are_refused(&town, "it is a link");
        is_untouched(&target, text);
        assert_eq!(fs::read_dir(&home).unwrap().count(), 1, "something was made beside the link");
        // Created by root itself it is no better: the directory's owner can replace it.
        fs::remove_file(home.join("vetwatch.db")).unwrap();
        fs::hard_link(&target, home.join("vetwatch.db")).unwrap();
        are_refused(&town, "it belongs to user 0, and its directory");
        is_untouched(&target, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_follows_nobodys_link_to_another_directory() {
    let Some((folder, home)) = home() else { return };
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let link = home.join("link");
    symlink(&elsewhere, &link).unwrap();
    lchown(&link, Some(SERVICE), Some(SERVICE)).unwrap();
    let town = DaemonHarness::with(folder, Some(&link), SELDOM, "").await;
    are_refused(&town, "others than root can change what is at");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "something was made there");

    // In a world-writable directory, another user creates a link just before.
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    for mode in [0o777, 0o1777] {
        chown(&home, Some(0), Some(0)).unwrap();
        fs::set_permissions(&link, Permissions::from_mode(mode)).unwrap();
        are_refused(&town, "others than root can change what is at");
        assert_eq!(fs::read_dir(&link).unwrap().count(), 0, "something was made there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_root_makes_is_the_directorys_owners_and_links_beside_it_lead_root_nowhere() {
    let Some((folder, home)) = home() else { return };
    let (target, other) = (precious(folder.path(), "precious"), folder.path().join("not-there"));
    symlink(&target, home.join("vetwatch.db.lock")).unwrap();
    symlink(&other, home.join("tokens")).unwrap();
    // Root's own link leads where root wants.
    let way = folder.path().join("way");
    symlink("home", &way).unwrap();
    let town = DaemonHarness::with(folder, Some(&way), SELDOM, "").await;
    town.tell(COMMANDS[0]);
    let _ = town.run(&["poll"]);
    is_untouched(&target, "precious");
    assert!(!other.exists());
    let made = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path());
    let made: Vec<PathBuf> = made.filter(|path| !path.is_symlink()).collect();
    assert!(made.contains(&home.join("vetwatch.db")), "{made:?}");
    for path in made {
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.uid(), file.gid()), (SERVICE, SERVICE), "{}", path.display());
    }

    fs::remove_file(home.join("vetwatch.db.lock")).unwrap();
    for name in ["vetwatch.db-wal", "vetwatch.db-shm", "vetwatch.db-journal"] {
        let _ = fs::remove_file(home.join(name));
        symlink(&target, home.join(name)).unwrap();
        let _ = town.run(&["status"]);
        let _ = town.run(&["poll"]);
        is_untouched(&target, "precious");
        fs::remove_file(home.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_backs_up_into_its_own_directory_and_is_led_to_no_other_file() {
    let Some((folder, home)) = home() else { return };
    let precious = precious(folder.path(), "precious");
    let town = DaemonHarness::with(folder, Some(&home), SELDOM, "").await;
    town.tell(COMMANDS[0]);
    let (root, both) = (town.folder.path().join("root"), town.folder.path().join("both"));
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
    let file = root.join("copy.db");
    for _ in 0..2 {
        let told = town.tell(&["backup", file.to_str().unwrap()]);
        assert_eq!((told["file"].as_str(), &told["pending"]), (file.to_str(), &0.into()), "{told}");
    }
    let found = file.metadata().unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (SERVICE, SERVICE, 0o640));
    assert_eq!(crate::world::rows(&file, "select count(*) from v_customers").await, ["1"]);
    let beside =
        || fs::read_dir(&home).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    assert!(!beside().iter().any(|name| name.contains("backup")), "{:?}", beside());

    // Everybody may write there, and somebody foresaw the name.
    fs::create_dir(&both).unwrap();
    fs::set_permissions(&both, Permissions::from_mode(0o1777)).unwrap();
    fs::hard_link(&precious, both.join("copy.db.partial")).unwrap();
    let output = town.run(&["backup", both.join("copy.db").to_str().unwrap()]);
    assert!(complaint(&output).contains("belongs to another user"), "{}", complaint(&output));
    fs::remove_file(both.join("copy.db.partial")).unwrap();
    symlink(&precious, both.join("copy.db.partial")).unwrap();
    let output = town.run(&["backup", both.join("copy.db").to_str().unwrap()]);
    assert!(!output.status.success(), "{}", complaint(&output));
    is_untouched(&precious, "precious");

    // What went wrong in the other process is told as it is.
    fs::write(home.join("vetwatch.db"), vec![b'x'; 9000]).unwrap();
    let output = town.run(&["backup", file.to_str().unwrap()]);
    assert!(complaint(&output).contains("is no SQLite database"), "{}", complaint(&output));

    // A backup that only root can read is restored all the same, and becomes the service's.
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    chown(&file, Some(0), Some(0)).unwrap();
    town.tell(&["restore", file.to_str().unwrap()]);
    let found = home.join("vetwatch.db").metadata().unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (SERVICE, SERVICE, 0o640));
    let foreign =
        fs::read_dir(&home).unwrap().map(|it| it.unwrap()).filter(|it| it.metadata().unwrap().uid() != SERVICE);
    assert_eq!(foreign.map(|it| it.file_name()).collect::<Vec<_>>(), [""; 0]);
}
