//! The daemon's log, as a person filters it.

use serde_json::Value;
use vetwatch::sandbox::smtp_server::{MailRule, SmtpAction, Stage};

use super::Desk;
use crate::cli::daemon::Daemon;

#[tokio::test]
async fn each_line_names_its_endpoint_its_customer_and_partner_and_the_first_what_runs() {
    let mut desk = Desk::new().await;
    let school = desk.customer("Contoso School").await;
    desk.sandbox.submit(&school).unwrap();
    let daemon = Daemon::start(&desk, &["--json"]);
    desk.until("select vetting_status from v_current", &["InReview"]).await;
    desk.mail.script(MailRule::at(Stage::Rcpt, SmtpAction::Reply("550 5.1.1 no such user".into())));
    desk.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    desk.until("select state from v_deliveries order by endpoint, created_at limit 1", &["delivered"]).await;
    desk.until("select distinct state from v_deliveries where endpoint = 'sales-mail'", &["dead"]).await;
    let log = daemon.stop(&desk).await;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let lines: Vec<&Value> = lines.iter().map(|line| &line["fields"]).collect();
    let about = |text: &str| -> Vec<_> {
        lines.iter().filter(|line| line["message"].as_str().is_some_and(|message| message.contains(text))).collect()
    };
    let [start] = about(" starts")[..] else { panic!("{log}") };
    assert_eq!((&start["partners"], &start["endpoints"]), (&"emea".into(), &"sales-mail, crm".into()), "{log}");
    assert!(start["configuration"].as_str().unwrap().ends_with("/vetwatch.toml"), "{log}");
    assert!(start["database"].as_str().unwrap().ends_with("/vetwatch.db"), "{log}");
    assert!(start["pid"].is_u64() && start["version"].is_string(), "{log}");

    let of_customers: Vec<_> = lines.iter().filter(|line| line["customer.id"].is_string()).collect();
    assert!(!of_customers.is_empty(), "{log}");
    for line in of_customers {
        assert_eq!((&line["customer.name"], &line["partner"]), (&"Contoso School".into(), &"emea".into()), "{line}");
    }
    for endpoint in ["crm", "sales-mail"] {
        let named =
            lines.iter().filter(|line| line["message"].as_str().is_some_and(|message| message.contains(endpoint)));
        for line in named {
            assert!(line["endpoint"].is_string() || line["endpoints"].is_string(), "{line}");
        }
    }
    assert!(about("given up").iter().all(|line| line["endpoint"] == "sales-mail" && line["delivery.id"].is_string()));
    assert!(!log.contains("/.cargo/"), "{log}");
}

#[tokio::test]
async fn the_configuration_says_what_is_logged_and_a_reload_follows_it() {
    let mut desk = Desk::with("", |text| text + "[log]\nlevel = \"warn\"\n").await;
    desk.customer("Contoso School").await;
    let config = desk.path("vetwatch.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let daemon = Daemon::start(&desk, &[]);
    desk.until("select count(*) from configuration", &["1"]).await;
    let json = text.replace("\"warn\"", "\"info\"\nformat = \"json\"");
    std::fs::write(&config, json).unwrap();
    let said = desk.run(&["reload"]).await.exits(0).out;
    assert!(said.contains("log.level") || said.contains("log: level"), "{said}");
    let log = daemon.stop(&desk).await;
    // At first warnings alone, as text; then everything, as objects.
    let (lines, text_lines): (Vec<_>, Vec<_>) = log.lines().partition(|line| line.starts_with('{'));
    assert!(text_lines.iter().all(|line| line.contains(" WARN ")) && !log.contains(" starts"), "{log}");
    let lines: Vec<Value> = lines.into_iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().any(|line| line["fields"]["message"] == "stopped"), "{log}");

    let daemon = Daemon::start(&desk, &["-v"]);
    desk.until("select begun from configuration", &["3"]).await;
    std::fs::write(&config, text.replace("\"warn\"", "\"error\"")).unwrap();
    desk.run(&["reload"]).await.exits(0);
    let log = daemon.stop(&desk).await;
    assert!(log.contains("reloaded: ") && log.contains("stopped"), "-v wins: {log}");
}
