//! No command writes a line that is wider than the screen, at 80 and at 120 columns; no word is broken.

use super::Desk;

/// A name that breaks many a table.
const LONG: &str = "Städtisches Berufsbildungszentrum für Gesundheits- und Sozialberufe Mönchengladbach";

#[tokio::test]
async fn every_command_fits_80_and_120_columns() {
    let mut desk = Desk::new().await;
    let (long, school) = (desk.customer(LONG).await, desk.customer("Contoso School").await);
    desk.sandbox.submit(&long).unwrap();
    desk.sandbox.submit(&school).unwrap();
    desk.run(&["poll"]).await.exits(0);
    desk.sandbox.deny(&long, "The domain that was given is not an academic one - After Review").unwrap();
    desk.run(&["poll"]).await.exits(0);
    let event = desk.rows("select event_id from v_transitions where to_status = 'Denied'").await.remove(0);
    let delivery = desk.rows("select delivery_id from v_deliveries").await.remove(0);
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
        }
    }
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
