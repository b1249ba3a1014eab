//! `history --follow` and `status --watch`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Desk;

#[tokio::test(flavor = "multi_thread")]
async fn history_follows_what_is_recorded_and_ends_with_its_reader() {
    let mut desk = Desk::new().await;
    let school = desk.customer("Contoso School").await;
    desk.run(&["poll"]).await.exits(0);
    desk.sandbox.submit(&school).unwrap();
    desk.run(&["poll"]).await.exits(0);
    let mut followed = desk.command(&["history", "--follow", "--format", "ndjson"]).spawn().unwrap();
    let mut lines = BufReader::new(followed.stdout.take().unwrap()).lines();
    let next = |lines: &mut std::io::Lines<_>| -> Value {
        let line: String = lines.next().unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    };
    // What was recorded before comes first.
    let row = tokio::task::block_in_place(|| next(&mut lines));
    assert_eq!(row["to_status"], "InReview");
    desk.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    desk.run(&["poll"]).await.exits(0);
    let row = tokio::task::block_in_place(|| next(&mut lines));
    assert_eq!((row["to_status"].as_str(), row["customer_name"].as_str()), (Some("Denied"), Some("Contoso School")));
    followed.kill().unwrap();
    followed.wait().unwrap();

    let said = desk.run(&["history", "--follow", "--json"]).await.exits(2);
    assert!(said.err.contains("ndjson"), "{said:?}");
    let said = desk.run(&["history", "--format", "ndjson"]).await.exits(0);
    assert_eq!(said.out.lines().count(), 2);
}

/// `script` gives it a terminal of 24 lines.
#[tokio::test(flavor = "multi_thread")]
async fn status_watches_on_a_terminal_only_and_shows_what_changes() {
    let mut desk = Desk::new().await;
    let school = desk.customer("Contoso School").await;
    let said = desk.run(&["status", "--watch"]).await.exits(2);
    assert!(said.err.contains("history --follow"), "{said:?}");

    let inner = desk.command(&[]);
    let command = format!("stty rows 24 cols 80; exec {} status --watch", inner.get_program().display());
    let mut watched = Command::new("script");
    watched.args(["-qefc", &command, "/dev/null"]).env("VETWATCH_CONFIG", desk.path("vetwatch.toml"));
    let mut watched = watched.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = watched.stdout.take().unwrap();
    let mut shown = String::new();
    let mut until = |wanted: &str| {
        while !shown.contains(wanted) {
            let mut bytes = [0; 4096];
            let read = out.read(&mut bytes).unwrap();
            assert!(read > 0, "ended: {shown}");
            shown += &String::from_utf8_lossy(&bytes[..read]);
        }
    };
    tokio::task::block_in_place(|| until("In review: nobody"));
    desk.sandbox.submit(&school).unwrap();
    desk.run(&["poll"]).await.exits(0);
    tokio::task::block_in_place(|| until("IN REVIEW (1)"));
    watched.kill().unwrap();
    watched.wait().unwrap();
    // Each screen leaves a line for the cursor.
    let last = shown.rsplit("\u{1b}[2J").nth(1).unwrap();
    assert!(last.lines().count() < 24, "{last}");
}
