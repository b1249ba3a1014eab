//! `support-bundle`: what leaves the house.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Desk, EVIL, SECRETS, Said};
use crate::cli::daemon::Daemon;

impl Desk {
    /// Runs it with a journal that holds these lines. Returns what was printed, and the content of all files.
    async fn bundle(&self, file: &str, journal: &[String], options: &[&str]) -> (Said, String) {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let entries: Vec<String> = journal
            .iter()
            .map(|line| serde_json::json!({ "MESSAGE": line, "PRIORITY": "4", "F_ENDPOINT": "crm" }).to_string() + "\n")
            .collect();
        fs::write(bin.join("journal"), entries.concat()).unwrap();
        let script = format!("#!/bin/sh\ncat '{}'\n", bin.join("journal").display());
        fs::write(bin.join("journalctl"), script).unwrap();
        fs::set_permissions(bin.join("journalctl"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = self.path(file);
        let arguments = [&["support-bundle", path.to_str().unwrap()], options].concat();
        let mut command = self.command(&arguments);
        let old = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{old}", bin.display()));
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        self.keep(&said.out);
        self.keep(&said.err);
        let content = Command::new("tar").arg("-xOzf").arg(&path).output().unwrap();
        let content = String::from_utf8(content.stdout).unwrap();
        // The desk searches it for secrets at its end.
        self.keep(&content);
        (said, content)
    }
}

#[tokio::test]
async fn a_support_bundle_shows_how_vetwatch_stands_and_neither_a_secret_nor_a_customer() {
    let pasted = "Zq8~pasted.by-mistake_4711";
    let mut desk = Desk::with("in_review = \"100ms\"\nsettled = \"24h\"", |text| text).await;
    let (school, evil) = (desk.customer("Contoso School").await, desk.customer(EVIL).await);
    desk.sandbox.submit(&school).unwrap();
    desk.sandbox.submit(&evil).unwrap();
    let daemon = Daemon::start(&desk, &[]);
    desk.until("select vetting_status from v_current", &["InReview", "InReview"]).await;
    let secret = SECRETS[0];
    let journal = [
        format!("the answer was {secret}"),
        format!("in capitals {}", secret.to_uppercase()),
        format!("in base64 {}", STANDARD.encode(format!("client:{secret}"))),
        format!("escaped {}", secret.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()),
        format!("POST https://hooks.example/{}", SECRETS[1]),
        "Contoso School (school1.example) cannot be read".to_owned(),
    ];
    let (said, content) = desk.bundle("support.tar.gz", &journal, &[]).await;
    let said = said.exits(0);
    assert!(said.out.contains("by their ids only") && !said.out.contains("without"), "{said:?}");
    let mode = fs::metadata(desk.path("support.tar.gz")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for seen in [
        "vetwatch 0.",
        "SQLite 3.",
        "kernel ",
        "vetwatch.toml: OK",
        "the daemon runs",
        "IN REVIEW (2)",
        "\"daemon_running\": true",
        "\"quick_check\": [",
        "\"wal_bytes\"",
        "kind = \"webhook\"",
        "client_secret_file = \"client-secret\"",
        "to = [\"[hidden]@contoso.example\"]",
        "in capitals [hidden]",
        "ENDPOINT=crm",
        &format!("{school} ({school}) cannot be read"),
    ] {
        assert!(content.contains(seen), "{seen} is not in\n{content}");
    }
    let encoded = STANDARD.encode(format!("client:{secret}"));
    for hidden in
        [&encoded[12..], "Contoso School", "school1.example", "School\r", "sales@", &secret.to_uppercase(), "%2D"]
    {
        assert!(!content.contains(hidden), "{hidden:?} is in\n{content}");
    }
    let again = desk.run(&["support-bundle", desk.path("support.tar.gz").to_str().unwrap()]).await.exits(1);
    assert!(again.err.contains("there is a file of this name"), "{again:?}");
    let (_, content) = desk.bundle("named.tar.gz", &journal, &["--with-customers"]).await;
    assert!(content.contains("Contoso School (school1.example) cannot be read"), "{content}");

    // No daemon, and a file with mistakes, among them secrets in wrong places.
    daemon.stop(&desk).await;
    let path = desk.path("vetwatch.toml");
    let whole = fs::read_to_string(&path).unwrap();
    let broken = whole.replace("client_secret_file = \"client-secret\"", &format!("client_secret = \"{pasted}\""));
    assert_ne!(broken, whole);
    fs::write(&path, broken).unwrap();
    let (said, content) = desk.bundle("broken.tar.gz", &[format!("what is {pasted}?")], &[]).await;
    said.exits(0);
    assert!(
        content.contains("client_secret = \"[hidden]\"") && content.contains("a secret does not belong in this file"),
        "{content}"
    );
    assert!(content.contains("no daemon runs") && content.contains("what is [hidden]?"), "{content}");
    assert!(!content.contains("mistake_4711"), "{content}");
    fs::write(
        &path,
        whole.replace("client_secret_file = \"client-secret\"", &format!("client_secret_file = \"{pasted}")),
    )
    .unwrap();
    let (said, content) = desk.bundle("no-toml.tar.gz", &[], &[]).await;
    assert!(said.exits(0).out.contains("without configuration.toml: "), "{content}");
    assert!(content.contains("vetwatch.toml:") && !content.contains("mistake_4711"), "{content}");

    // A database that is none, then none at all.
    fs::write(&path, &whole).unwrap();
    for file in ["vetwatch.db-wal", "vetwatch.db-shm"] {
        let _ = fs::remove_file(desk.path(file));
    }
    fs::write(desk.path("vetwatch.db"), "this is no database, and long enough to be read as one".repeat(100)).unwrap();
    let (said, content) = desk.bundle("damaged.tar.gz", &journal, &[]).await;
    let said = said.exits(0);
    for part in ["status.txt", "database.json", "log.txt"] {
        assert!(said.out.contains(&format!("without {part}: ")), "{said:?}");
    }
    assert!(content.contains("vetwatch.toml: OK") && !content.contains("Contoso School"), "{content}");
    fs::remove_file(desk.path("vetwatch.db")).unwrap();
    let (said, content) = desk.bundle("missing.tar.gz", &journal, &["--with-customers"]).await;
    assert!(said.exits(0).out.contains("without database.json: there is no database"), "{content}");
    assert!(content.contains("Contoso School"), "{content}");
}
