//! No command writes a line that is wider than the screen, at 80 and at 120 columns; no word is broken.

use std::fmt::Write as _;

use super::Desk;

/// A name that breaks many a table.
const LONG: &str = "Städtisches Berufsbildungszentrum für Gesundheits- und Sozialberufe Mönchengladbach";

#[tokio::test]
async fn every_command_fits_80_and_120_columns() {
    let mut desk = Desk::with("in_review = \"1h\"\nsettled = \"24h\"", |text| text).await;
    let (long, school) = (desk.customer(LONG).await, desk.customer("Contoso School").await);
    desk.sandbox.submit(&long).unwrap();
    desk.sandbox.submit(&school).unwrap();
    desk.run(&["poll"]).await.exits(0);
    desk.sandbox.deny(&long, "The domain that was given is not an academic one - After Review").unwrap();
    desk.run(&["poll"]).await.exits(0);
    let event = desk.rows("select event_id from v_transitions where to_status = 'Denied'").await.remove(0);
    let delivery = desk.rows("select delivery_id from v_deliveries where endpoint = 'crm'").await.remove(0);
    let mut printed = String::new();
    for arguments in [
        &["status"][..],
        &["status", LONG],
        &["history"],
        &["customers", "list"],
        &["deliveries", "list"],
        &["deliveries", "show", &delivery],
        &["explain", &event],
        &["route", "test"],
        &["route", "test", "--show"],
        &["check"],
        &["check", "--live"],
        &["poll", LONG],
        &["sync"],
        &["deliveries", "redrive", &delivery],
        &["customers", "add", &long],
        &["customers", "remove", "nobody"],
        &["login"],
        &["route", "test", "--event", "vetting.nothing"],
        &["test-send", "--all"],
        &["validation-codes"],
        &["customers", "pause", LONG],
        &["customers", "list", "--status", "nothing"],
        &["status", "nobody"],
        &["history", "--partner", "nobody"],
        &["deliveries", "show", "nothing"],
    ] {
        for columns in [80, 120] {
            let said = desk.run_at(columns, arguments).await;
            for line in said.out.lines().chain(said.err.lines()) {
                // A word that is longer (an address, a header of a mail) stays whole.
                let fits = line.chars().count() <= columns || !line.trim().contains(' ');
                assert!(fits, "{arguments:?} at {columns} columns: {line}\n{}{}", said.out, said.err);
            }
            // Names of days and months differ in their length, as does how long something took.
            if matches!(arguments, ["route" | "test-send", ..] | ["check", "--live"]) {
                continue;
            }
            if arguments == ["status"] {
                assert!(said.out.lines().count() <= 24, "a small set-up fits a small screen:\n{}", said.out);
            }
            let _ = write!(
                printed,
                "$ vetwatch {} # {columns} columns, exit {}\n{}{}\n",
                arguments.join(" "),
                said.code.unwrap(),
                said.out,
                said.err
            );
        }
    }
    // By which day a review will be decided depends on today.
    let without_day = |line: &str| match line.split_once("    by ") {
        Some((before, _)) if line.starts_with("Contoso School") => format!("{before}    by …\n"),
        _ => format!("{line}\n"),
    };
    let printed: String = printed.lines().map(without_day).collect();
    let folder = desk.folder.path().display().to_string();
    insta::assert_snapshot!(same_every_time(&printed.replace(&folder, "/a/folder")));
}

/// Ids, ports and times differ from run to run, but not in their length.
fn same_every_time(printed: &str) -> String {
    let is_id = |word: &str| word.len() >= 13 && word.contains('-') && word.chars().any(|c| c.is_ascii_digit());
    let mut shown = String::new();
    for piece in printed.split_inclusive(|c: char| !(c.is_ascii_hexdigit() || c == '-')) {
        let word = piece.trim_end_matches(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
        let hidden = |c: char| if c.is_ascii_digit() || (is_id(word) && c.is_ascii_hexdigit()) { '0' } else { c };
        shown.extend(word.chars().map(hidden));
        shown += &piece[word.len()..];
    }
    shown
}

#[tokio::test]
async fn a_program_gets_whole_lines() {
    let mut desk = Desk::new().await;
    desk.customer(LONG).await;
    let said = desk.run(&["customers", "list"]).await.exits(0);
    assert!(said.out.contains(LONG), "{said:?}");
    let said = desk.run_at(80, &["customers", "list", "--json"]).await.exits(0);
    assert_eq!(said.json()[0]["name"], LONG);
}
