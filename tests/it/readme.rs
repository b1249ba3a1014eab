//! The README is accurate: its queries run, its views have the columns it describes, its commands parse, its example
//! verifies, and the tests it names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use clap::Parser as _;
use serde_json::{Value, json};
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::sandbox::{Fault, FaultRule, Operation};
use vetwatch::store::Store;
use vetwatch::store::customers::NewCustomer;
use vetwatch::time::{Clock as _, Timestamp};

use crate::world::{SIGNING_SECRET, World};

const README: &str = include_str!("../../README.md");

/// Contents of the code blocks in a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    let found: Vec<_> = README.split(&start).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    assert!(!found.is_empty(), "no block of {language}");
    found
}

/// The text below a heading, up to the next one.
fn section(heading: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n{heading}")).unwrap_or_else(|| panic!("there is no {heading}"));
    rest.split("\n#").next().unwrap()
}

/// The texts between backticks.
fn ticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A year of a small provider: schools that were approved, denied, denied and approved, or are still waiting; one that
/// cannot be read; a receiver that accepts nothing any more.
async fn a_year() -> World {
    let mut world = World::new().await;
    let mut schools = Vec::new();
    for n in 0..12 {
        schools.push(world.in_review(&format!("Contoso School {n}")).await);
    }
    world.sandbox.apply(&schools[0], Operation::Submit { qualification: "GovernmentCommunityCloud".into() }).unwrap();
    for (n, school) in schools.iter().enumerate().take(9) {
        world.poll_later().await;
        if n % 3 == 0 {
            world.sandbox.approve(school).unwrap();
        } else {
            world.sandbox.deny(school, ["Not an Academic Domain", "Not an Education Customer"][n % 2]).unwrap();
        }
        world.poll_later().await;
    }
    world.deliver().await;
    world.sandbox.submit(&schools[1]).unwrap();
    world.poll_later().await;
    world.sandbox.approve(&schools[1]).unwrap();
    world.sandbox.fault(FaultRule::about(&schools[11], Fault::status(500)));
    world.poll_later().await;
    world.hook.script(WebhookAction::status(500), None);
    world.deliver().await;
    world
}

/// Writes, one transaction after the other, until it is told to stop.
async fn write(store: Store, id: String, now: Timestamp, stop: Arc<AtomicBool>, written: Arc<AtomicU32>) {
    while !stop.load(Ordering::Relaxed) {
        let name = format!("Contoso School {}", written.fetch_add(1, Ordering::Relaxed));
        let renamed = NewCustomer { partner: "emea", id: &id, name: Some(&name), domain: None, tags: None };
        let mut tx = store.begin().await.unwrap();
        tx.add_customer(renamed, now).await.unwrap();
        tx.make_due(None, None, now).await.unwrap();
        tx.commit().await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// Opens read-only by URI, as the README says.
fn sqlite3(database: &Path, sql: &str) -> Vec<Value> {
    let uri = format!("file:{}?mode=ro", database.display());
    let output = Command::new("sqlite3").args(["-json", &uri, sql]).output().expect("sqlite3 is installed");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}\n{sql}");
    if output.stdout.is_empty() {
        return Vec::new();
    }
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{sql}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_readme_runs_through_sqlite3_while_somebody_writes() {
    let world = a_year().await;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let id = world.rows("select customer_id from v_customers where name = 'Contoso School 10'").await.remove(0);
    let writer = write(world.store.clone(), id, world.clock.now(), stop.clone(), written.clone());
    let writer = tokio::spawn(writer);

    let queries = blocks("sql");
    assert_eq!(queries.len(), 10);
    let mut answers = Vec::new();
    for sql in &queries {
        let before = written.load(Ordering::Relaxed);
        let rows = sqlite3(&world.config.database, sql);
        assert!(!rows.is_empty(), "nothing to show for\n{sql}");
        // The writer was not blocked, and the next query reads beside it again.
        while written.load(Ordering::Relaxed) == before {
            assert!(!writer.is_finished(), "the writer failed");
            tokio::task::yield_now().await;
        }
        answers.push(rows);
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();

    // How long reviews take, and what share is approved.
    let education = answers[0].iter().find(|row| row["qualification"] == "Education").unwrap();
    assert_eq!(education["reviews"], 10, "{education}");
    let days = ["median_days", "p90_days", "longest_days"].map(|column| education[column].as_f64().unwrap());
    assert!(0.0 < days[0] && days[0] <= days[1] && days[1] <= days[2] && days[2] < 40.0, "{education}");
    let sum = |rows: &[Value], column: &str| rows.iter().map(|row| row[column].as_i64().unwrap()).sum::<i64>();
    assert_eq!((sum(&answers[1], "verdicts"), sum(&answers[1], "approved")), (10, 4));
    assert_eq!((answers[2].len(), sum(&answers[2], "denials")), (2, 6), "{:?}", answers[2]);
    // The longest first; a customer that could not be read still counts as in review.
    let waiting: Vec<_> = answers[3].iter().map(|row| row["days"].as_f64().unwrap()).collect();
    assert!(waiting.len() == 4 && waiting.is_sorted_by(|a, b| a >= b), "{:?}", answers[3]);
    let second = answers[4].iter().find(|row| row["attempt"] == 2).unwrap();
    assert_eq!((&second["reviews"], &second["approved"]), (&json!(1), &json!(1)));
    assert_eq!(answers[5].len(), 5, "{:?}", answers[5]);
    assert!(answers[6].iter().any(|row| row["from"] == "InReview" && row["to"] == "Approved"));
    assert_eq!(sum(&answers[7], "verdicts"), 10);
    assert_eq!((&answers[8][0]["endpoint"], &answers[8][0]["state"]), (&json!("crm"), &json!("pending")));
    assert!(answers[8][0]["an_error"].as_str().unwrap().contains("500"), "{:?}", answers[8]);
    let unseen: Vec<_> = answers[9].iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(unseen.contains(&"Contoso School 11"), "{unseen:?}");
}

#[tokio::test]
async fn every_column_of_every_view_is_described() {
    let world = World::new().await;
    let views = world.rows("select name from sqlite_schema where type = 'view' order by name").await;
    assert_eq!(views.len(), 5);
    for view in views {
        let columns = world.rows(&format!("select name from pragma_table_info('{view}')")).await;
        let described: BTreeSet<&str> = section(&format!("### {view}:"))
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .flat_map(|line| ticked_cell(line).collect::<Vec<_>>())
            .collect();
        assert_eq!(described, columns.iter().map(String::as_str).collect::<BTreeSet<_>>(), "{view}");
    }
}

/// The texts between backticks in the first cell of a row whose first backtick was stripped.
fn ticked_cell(line: &str) -> impl Iterator<Item = &str> {
    line.split(" |").next().unwrap().split('`').step_by(2)
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let mut sources = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    read(&root.join("src"), &mut sources);
    read(&root.join("tests/it"), &mut sources);
    let rows: Vec<_> = section("## Guarantees").lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 2 + 7);
    for row in &rows[2..] {
        let names: Vec<_> = ticked(row.rsplit('|').nth(1).unwrap()).collect();
        assert!(names.len() >= 3, "{row}");
        for name in names {
            let is_there = sources.contains(&format!("fn {name}("));
            assert!(is_there, "the README names the test {name}, and there is none");
        }
    }
}

/// Adds all of the Rust sources below a folder.
pub(crate) fn read(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *into += &fs::read_to_string(&path).unwrap();
        }
    }
}

#[test]
fn every_command_of_the_readme_can_be_typed() {
    let mut typed = 0;
    for block in blocks("sh") {
        for line in block.replace("\\\n", " ").lines() {
            let line = line.split(" # ").next().unwrap().split(['|', '>']).next().unwrap();
            let Some(arguments) = line.trim().strip_prefix("vetwatch ") else { continue };
            let words = arguments.split('"').enumerate().flat_map(|(n, piece)| match n % 2 {
                0 => piece.split_whitespace().collect(),
                _ => vec![piece],
            });
            if let Err(error) = vetwatch::cli::Cli::try_parse_from(["vetwatch"].into_iter().chain(words)) {
                panic!("{line}\n{error}");
            }
            typed += 1;
        }
    }
    assert!(typed >= 20, "{typed} were found");
}

#[tokio::test]
async fn the_receiver_in_the_readme_verifies_what_is_sent_and_nothing_else() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.poll_later().await;
    // The library compares the timestamp with the clock on the wall.
    world.clock.set(vetwatch::time::SystemClock.now());
    world.deliver().await;
    let hook = world.hook.hooks().remove(0);
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: Value = headers.iter().map(|name| (*name, hook.header(name).unwrap())).collect();
    let body = String::from_utf8(hook.body).unwrap();

    let receiver = blocks("python").into_iter().find(|block| block.contains("standardwebhooks")).unwrap();
    let script = format!(
        "{}\nimport json, sys\ngiven = json.load(sys.stdin)\n\
         print(receive(given['body'].encode(), given['headers'])['type'])",
        receiver.replace("whsec_…", SIGNING_SECRET)
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("receive.py"), script).unwrap();
    let receive = |body: &str| {
        let given = json!({ "body": body, "headers": headers });
        fs::write(folder.path().join("given"), given.to_string()).unwrap();
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
        let mut python = Command::new(python);
        let given = fs::File::open(folder.path().join("given")).unwrap();
        let output = python.arg(folder.path().join("receive.py")).stdin(given).output().unwrap();
        String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr }).into_owned()
    };
    assert_eq!(receive(&body).trim(), "vetting.denied");
    let refused = receive(&body.replace("Denied", "Approved"));
    assert!(refused.contains("WebhookVerificationError"), "{refused}");
}

#[test]
fn the_table_of_what_needs_a_person_is_the_one_of_the_code() {
    let (_, rest) = README.split_once("<!-- reasons: written by the program; a test compares -->\n").unwrap();
    let (written, _) = rest.split_once("<!-- reasons end -->").unwrap();
    let table = vetwatch::attention::table();
    assert!(written == table, "the README's table is to be:\n{table}");
}
