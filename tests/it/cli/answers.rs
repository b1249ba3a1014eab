//! Common to all commands: exit codes, errors, closed pipes, `check`, completions and manuals.

use std::fs;
use std::process::Stdio;

use super::{Desk, SECRETS};

#[tokio::test]
async fn wrong_usage_is_2_and_with_json_one_object() {
    let desk = Desk::new().await;
    for arguments in [
        &["pol"][..],
        &["history", "--sinc", "1d"],
        &["deliveries", "redrive"],
        &["deliveries", "redrive", "0193", "--endpoint", "crm"],
        &["customers", "add"],
        &["deliveries", "list", "--limit", "0"],
    ] {
        assert_eq!(desk.run(arguments).await.exits(2).out, "");
        let error = desk.run(&[arguments, &["--json"]].concat()).await.exits(2).error();
        assert_eq!(error["kind"], "usage", "{error}");
    }
    assert!(desk.run(&["--help"]).await.exits(0).out.contains("Exit codes:"));
    assert!(desk.run(&["--version"]).await.exits(0).out.starts_with("vetwatch "));
}

#[tokio::test]
async fn a_check_tells_every_problem_at_once_and_no_secret() {
    let desk = Desk::new().await;
    let said = desk.run(&["check"]).await.exits(0).out;
    assert!(said.starts_with("vetwatch.toml:") && said.contains("webhook at 127.0.0.1"), "{said}");
    assert_eq!(desk.json(&["check"]).await["ok"], true);

    let good = fs::read_to_string(desk.path("vetwatch.toml")).unwrap();
    let bad = good
        .replace("in_review =", "in_revew =")
        .replace("client_secret_file = \"client-secret\"", &format!("client_secret = \"{}\"", SECRETS[0]))
        .replace("kind = \"webhook\"", "kind = \"pigeon\"");
    fs::write(desk.path("vetwatch.toml"), bad).unwrap();
    let said = desk.run(&["check"]).await.exits(78);
    for seen in ["did you mean in_review?", "a secret does not belong in this file", "pigeon"] {
        assert!(said.err.contains(seen), "{seen} is not in {said:?}");
    }
    let checked = desk.run(&["check", "--json"]).await.exits(78).json();
    assert!(checked["problems"].as_array().unwrap().len() >= 3, "{checked}");
    for command in [&["run"][..], &["poll"], &["customers", "sync"]] {
        let error = desk.run(&[command, &["--json"]].concat()).await.exits(78).error();
        assert_eq!(error["details"].as_array().unwrap().len(), checked["problems"].as_array().unwrap().len());
    }
    fs::remove_file(desk.path("vetwatch.toml")).unwrap();
    desk.run(&["status"]).await.exits(78);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let mut desk = Desk::new().await;
    for n in 0..40 {
        desk.unwatched_customer(&format!("School {n}"));
    }
    desk.run(&["customers", "sync", "--partner", "emea"]).await.exits(0);
    for arguments in
        [&["customers", "list"][..], &["customers", "list", "--json"], &["completions", "bash"], &["--help"]]
    {
        let mut child = desk.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        // The read end is closed before anything is written.
        drop(child.stdout.take());
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{arguments:?}");
    }
}

#[tokio::test]
async fn completions_and_manuals_are_generated() {
    let desk = Desk::new().await;
    for shell in ["bash", "zsh", "fish"] {
        let script = desk.run(&["completions", shell]).await.exits(0).out;
        assert!(script.contains("VETWATCH_COMPLETE="), "{shell}");
    }
    let pages = desk.path("man");
    desk.run(&["man", pages.to_str().unwrap()]).await.exits(0);
    assert!(fs::read_to_string(pages.join("man1/vetwatch-poll.1")).unwrap().contains(".SH"));
}

#[tokio::test]
async fn a_command_of_before_the_first_release_is_an_error_that_suggests_the_one_of_today() {
    let desk = Desk::new().await;
    let said = desk.run(&["notifications", "list"]).await.exits(2).err;
    assert!(said.contains("'deliveries'"), "{said}");
}

#[tokio::test]
async fn a_route_test_is_a_few_lines_needs_no_database_and_shows_the_messages_when_asked() {
    let desk = Desk::new().await;
    assert!(!desk.path("vetwatch.db").exists());
    let said = desk.run(&["route", "test"]).await.exits(0).out;
    assert!(said.lines().count() <= 8 && !said.contains("Subject:"), "{said}");
    assert!(said.contains("sales-mail  at once; ") && said.contains("; to sales@contoso.example"), "{said}");
    let said = desk.run(&["route", "test", "--show"]).await.exits(0).out;
    assert!(said.contains("Subject: ") && said.contains("\"type\": \"vetting.denied\""), "{said}");
    assert!(!desk.path("vetwatch.db").exists());
}
