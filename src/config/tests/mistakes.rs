//! Typical mistakes, and the line that each gets.

use std::fmt::Write as _;

use super::*;

const CREDENTIAL: &str = "client_secret_file = \"client-secret\"";
const URL_FILE: &str = "url_file = \"crm-url\"";
const TO: &str = "to = [\"it-operations@contoso.example\"]";
const WEBHOOK: &str = "kind = \"webhook\" ";
const ROUTE: &str = "endpoints = [\"sales-mail\", \"crm\"]";

/// What is done to the example: the text that is replaced, and by what.
const MISTAKES: &[(&str, &str)] = &[
    // TOML
    ("name = \"emea\"", "name = emea"),
    ("name = \"emea\"", "name = \"emea"),
    ("name = \"emea\"", "name = “emea”"),
    ("name = \"emea\"", "name: \"emea\""),
    ("name = \"emea\"", "name = \"emea\"\nname = \"apac\""),
    ("[partner.credential]", "[partner.credential"),
    ("[[endpoint]]", "[endpoint]"),
    ("[schedule]", "[[schedule]]"),
    (ROUTE, "endpoints = [\"sales-mail\" \"crm\"]"),
    (ROUTE, "endpoints = [\"sales-mail\", \"crm\""),
    // The partner
    ("name = \"emea\"", ""),
    ("name = \"emea\"", "name = \"EMEA North\""),
    ("tenant = ", "tenat = "),
    ("tenant = \"contoso.onmicrosoft.com\"", "tenant = \"https://contoso.onmicrosoft.com\""),
    ("client_id = \"00000000-0000-0000-0000-000000000000\"", "client_id = \"vetwatch\""),
    ("# cloud = \"commercial\"", "cloud = \"gov\""),
    ("# requests_per_minute = 300", "requests_per_minute = \"300\""),
    ("# customers = \"synced\"", "customers = \"all\""),
    ("kind = \"client-secret\"", "kind = \"secret\""),
    (CREDENTIAL, "client_secret = \"hunter2~hunter2\""),
    (CREDENTIAL, "client_secret_file = \"emea-client-secret\""),
    (CREDENTIAL, "client_secret_file = \"hunter2\""),
    (CREDENTIAL, "client_secret_file = \"/etc/shadow/secret\""),
    ("# client_secret_expires = \"2027-01-31\"", "client_secret_expires = \"31.01.2027\""),
    ("# client_secret_expires = \"2027-01-31\"", "client_secret_expires = \"2024-01-31\""),
    // The schedule
    ("# in_review = \"15m\"", "in_review = 15"),
    ("# in_review = \"15m\"", "in_review = \"15\""),
    ("# in_review = \"15m\"", "in_review = \"5s\""),
    ("# confirm_absence = [\"2m\", \"1h\"]", "second_look = \"2m\""),
    ("# customer_sync = \"0 0 3 * * *\"", "customer_sync = \"0 3 * * *\""),
    ("# customer_sync = \"0 0 3 * * *\"", "customer_sync = \"0 0 25 * * *\""),
    ("timezone = \"Europe/Amsterdam\"", "timezone = \"CET/Amsterdam\""),
    ("# holidays_file = \"holidays.txt\"", "holidays_file = \"holidays.txt\""),
    ("# path = \"/var/lib/vetwatch/vetwatch.db\"", "path = \"/srv/nowhere/vetwatch.db\""),
    // Mail
    ("host = \"smtp.contoso.example\"", "host = \"smtp.contoso.example:587\""),
    ("host = \"smtp.contoso.example\"", "host = \"smtps://smtp.contoso.example\""),
    ("# tls = \"starttls\"", "tls = \"ssl\""),
    ("username = \"vetwatch\"", ""),
    ("smtp = \"office\"", "smtp = \"ofice\""),
    (TO, "to = \"it-operations@contoso.example\""),
    (TO, "to = [\"it-operations\"]"),
    (TO, "to = [\"a@contoso.example; b@contoso.example\"]"),
    // Webhooks and chats
    (URL_FILE, "url = \"http://crm.contoso.example/hook\""),
    (URL_FILE, "url = \"crm.contoso.example/hook\""),
    (URL_FILE, "url = \"https://crm.contoso.example/my hook\""),
    (URL_FILE, "url = \"https://crm.contoso.example/hook\"\nurl_file = \"crm-url\""),
    ("secret_file = \"crm-signing-secret\"", ""),
    ("secret_file = \"crm-signing-secret\"", "secret_file = \"smtp-password\""),
    (WEBHOOK, "kind = \"teams\" "),
    (WEBHOOK, "kind = \"discord\" "),
    // Routes and operators
    ("events = [\"vetting.approved\", ", "events = [\"approved\", "),
    ("events = [\"vetting.approved\", ", "events = [\"vetting.aproved\", "),
    (ROUTE, "endpoints = [\"sales\", \"crm\"]"),
    ("# quiet_hours = \"18:00-07:00\"", "quiet_hours = \"6pm-7am\""),
    ("# group_wait = \"10m\"", "group_wait = \"2d\""),
    ("endpoints = [\"ops-mail\", \"crm\"]", "endpoints = [\"ops-mail\"]"),
    ("endpoints = [\"ops-mail\", \"crm\"]", "endpoint = [\"ops-mail\", \"crm\"]"),
    ("[retention]", "[retension]"),
    ("# give_up_after = \"7d\"", "give_up_after = \"never\""),
];

#[test]
fn every_typical_mistake_has_its_line() {
    let desk = Desk::new();
    let mut log = String::new();
    for (old, new) in MISTAKES {
        assert!(EXAMPLE.contains(old), "the example has no {old}");
        let text = EXAMPLE.replacen(old, new, 1);
        let (problems, warnings) = match desk.load(&text) {
            Ok(config) => (Vec::new(), config.warnings),
            Err(problems) => (problems.problems, Vec::new()),
        };
        let _ = writeln!(log, "# {}", if new.is_empty() { format!("without {old}") } else { new.replace('\n', " ⏎ ") });
        // The number of the line is another one when the example changes.
        let at = |problem: &Problem| if problem.line.is_some() { "vetwatch.toml:N: " } else { "vetwatch.toml: " };
        for problem in &problems {
            let number = problem.line.map(|line| format!("{line:>6} |")).unwrap_or_default();
            let _ = writeln!(log, "{}{}", at(problem), problem.to_string().replace(&number, "     N |"));
        }
        for warning in &warnings {
            let _ = writeln!(log, "{}warning: {warning}", at(warning));
        }
        let _ = writeln!(log);
    }
    assert!(!log.lines().any(|line| !line.starts_with('#') && line.contains("hunter2")), "{log}");
    insta::assert_snapshot!(log.replace(&desk.0.path().display().to_string(), "DIR"));
}

#[test]
fn the_examples_placeholders_are_warned_about_unless_only_this_machine_is_polled() {
    let desk = Desk::new();
    let load = |text: &str| {
        fs::write(desk.path("vetwatch.toml"), text).unwrap();
        let config = Config::load(&desk.path("vetwatch.toml"), &CredentialDirs::only(desk.0.path())).unwrap();
        config.warnings.iter().map(|warning| warning.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(load(EXAMPLE), ["partner[0].tenant", "partner[0].client_id"]);
    let loopback = "api_url = \"http://127.0.0.1:1/\"\nlogin_url = \"http://127.0.0.1:1/\"";
    assert_eq!(load(&EXAMPLE.replace("# api_url = \"https://…\"", loopback)), [""; 0]);
}
