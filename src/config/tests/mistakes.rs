//! Typical mistakes, and the line that each gets.

use std::fmt::Write as _;

use super::*;

const CREDENTIAL: &str = "client_secret_file = \"client-secret\"";
const URL_FILE: &str = "url_file = \"crm-url\"";
const TO: &str = "to = [\"it-operations@contoso.example\"]";
const WEBHOOK: &str = "kind = \"webhook\" ";
const IN_REVIEW: &str = "# in_review = \"15m\"";
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
    (IN_REVIEW, "in_review = 15"),
    (IN_REVIEW, "in_review = \"15\""),
    (IN_REVIEW, "in_review = \"5s\""),
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
    // More TOML
    (IN_REVIEW, "in_review ="),
    (IN_REVIEW, "in_review => \"15m\""),
    (IN_REVIEW, "in_review == \"15m\""),
    (IN_REVIEW, "in_review = \"15m\";"),
    (IN_REVIEW, "; in_review = \"15m\""),
    (IN_REVIEW, "in_review =\u{a0}\"15m\""),
    (IN_REVIEW, "in_review = \"\u{200b}15m\""),
    ("# working_days_only = true", "working_days_only = TRUE"),
    ("# working_days_only = true", "working_days_only = yes"),
    ("# working_days_only = true", "working_days_only = \"yes\""),
    ("# requests_per_minute = 300", "requests_per_minute = 1,000"),
    ("# requests_per_minute = 300", "requests_per_minute = 0300"),
    (CREDENTIAL, "client_secret_file = \"C:\\secrets\\emea\""),
    ("[schedule]\n", "[schedule]\n[schedule]\n"),
    ("[smtp.office]", "[smtp office]"),
    ("[[route]]", "[[route]"),
    ("[operators]  ", "# [operators]  "),
    ("[database]\n", "---\ndatabase:\n  path: /var/lib/vetwatch.db\n"),
    ("[database]\n", "[database]]\n"),
    (TO, "to = [it-operations@contoso.example]"),
    // Sections in the wrong form or place
    ("[smtp.office]", "[smtp]"),
    ("[smtp.office]", "[mail.office]"),
    ("[partner.credential]", "[credential]"),
    ("[partner.credential]", "[[partner.credential]]"),
    ("[operators]", "[[operators]]"),
    ("[[route]]", "[route]"),
    ("[[route]]", "[[routes]]"),
    ("[[endpoint]]\nname = \"crm\"", "[endpoint.crm]"),
    ("name = \"crm\"", ""),
    ("name = \"crm\"", "name = \"ops-mail\""),
    ("name = \"crm\"", "name = \"CRM\""),
    // Times
    (IN_REVIEW, "in_review = \"15M\""),
    (IN_REVIEW, "in_review = \"-15m\""),
    (IN_REVIEW, "in_review = \"8d\""),
    (IN_REVIEW, "in_review = 00:15:00"),
    ("# customer_sync = \"0 0 3 * * *\"", "customer_sync = \"@daily\""),
    ("# customer_sync = \"0 0 3 * * *\"", "customer_sync = \"0 0 3 * * Monday\""),
    ("# working_days = [\"Mon\"", "working_days = [\"Mon-Fri\", \"Mon\""),
    ("# quiet_hours = \"18:00-07:00\"", "quiet_hours = \"18.00-07.00\""),
    ("# quiet_hours = \"18:00-07:00\"", "quiet_hours = \"18:00-18:00\""),
    ("timezone = \"Europe/Amsterdam\"", "timezone = \"EST\""),
    ("timezone = \"Europe/Amsterdam\"", "timezone = \"Europe/Berl\u{ed}n\""),
    ("timezone = \"Europe/Amsterdam\"", "timezone = \"W. Europe Standard Time\""),
    ("# business_days = [3, 5]", "business_days = 3"),
    // Values of another kind, or in another place
    ("tenant = \"contoso.onmicrosoft.com\"", "tenant = \"fabrikam\""),
    ("tenant = ", "tenant_id = "),
    ("client_id = ", "app_id = "),
    (CREDENTIAL, "client_secret_file = \"~/client-secret\""),
    (CREDENTIAL, "client_secret_file = \"'client-secret'\""),
    (CREDENTIAL, "client_secret_file = \"/tmp\""),
    (CREDENTIAL, "password = \"hunter2\""),
    (CREDENTIAL, "certificate_file = \"app.pem\""),
    ("# path = \"/var/lib/vetwatch/vetwatch.db\"", "path = \"$HOME/vetwatch.db\""),
    ("# path = \"/var/lib/vetwatch/vetwatch.db\"", "path = \"/tmp\""),
    ("# port = 587 ", "port = 465 "),
    ("from = \"vetwatch@contoso.example\"", "from = \"Vetting vetwatch@contoso.example\""),
    (TO, "to = [\"it-operations@contoso.example\"]\nurl_file = \"crm-url\""),
    ("kind = \"email\"  ", "kind = \"mail\"  "),
    ("kind = \"email\"  ", "type = \"email\"  "),
    (URL_FILE, "url = \"crm.contoso.example:8443/hook\""),
    (URL_FILE, "url_file = \"https://crm.contoso.example/hunter2\""),
    ("secret_file = \"crm-signing-secret\"", "signing_secret_file = \"crm-signing-secret\""),
    ("# partners = [\"emea\"]", "partners = []"),
    ("events = [\"vetting.approved\", ", "events = [\"*\", "),
    ("endpoints = [\"ops-mail\", \"crm\"]", "endpoints = \"ops-mail, crm\""),
    ("endpoints = [\"ops-mail\", \"crm\"]", "endpoints = [\"ops-mail, crm\"]"),
    ("endpoints = [\"ops-mail\", \"crm\"]", "endpoints = [\"Ops-Mail\", \"crm\"]"),
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
    let numbers = 1..=EXAMPLE.lines().count() + 3;
    let log = numbers.fold(log, |log, n| log.replace(&format!("in line {n} "), "in line N "));
    insta::assert_snapshot!(log.replace(&desk.0.path().display().to_string(), "DIR"));
}

/// What is no configuration at all.
#[test]
fn a_file_of_another_sort_is_told_as_what_it_is() {
    let desk = Desk::new();
    let load = |name: &str| {
        Config::load(&desk.path(name), &CredentialDirs::only(desk.0.path())).map(|_| ()).map_err(|found| {
            let text = found.to_string().replace(&desk.0.path().display().to_string(), "DIR");
            text.lines().next().unwrap_or_default().to_owned()
        })
    };
    for (name, bytes) in [
        ("byte-order-mark", [b"\xef\xbb\xbf", EXAMPLE.as_bytes()].concat()),
        ("windows-lines", EXAMPLE.replace('\n', "\r\n").into_bytes()),
    ] {
        fs::write(desk.path(name), bytes).unwrap();
        assert_eq!(load(name), Ok(()), "{name}");
    }
    let utf_16 = EXAMPLE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes) in [
        ("old-mac-lines", EXAMPLE.replace('\n', "\r").into_bytes()),
        ("latin-1", b"# Z\xfcrich\n".to_vec()),
        ("utf-16", [vec![0xff, 0xfe], utf_16].concat()),
        ("json", b"{\"database\": {}}".to_vec()),
        ("large", "# x\n".repeat(2 << 20).into_bytes()),
    ] {
        fs::write(desk.path(name), bytes).unwrap();
    }
    fs::create_dir(desk.path("directory")).unwrap();
    // Without a writer, opening a pipe would wait for ever.
    let made = std::process::Command::new("mkfifo").arg(desk.path("pipe")).status().unwrap();
    assert!(made.success());
    let names = ["old-mac-lines", "latin-1", "utf-16", "json", "large", "directory", "pipe", "nowhere"];
    let shown: Vec<_> = names.iter().map(|name| load(name).unwrap_err()).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    old-mac-lines:1: column 1: the file ends its lines with a carriage return alone: save it with LF or CRLF line ends
    latin-1: DIR/latin-1 is not text in UTF-8: save it as UTF-8
    utf-16: DIR/utf-16 is not text in UTF-8: save it as UTF-8
    json:1: column 1: this is not a [section], nor a key with = and its value
    large: DIR/large is too large for a configuration
    directory: DIR/directory is a directory, not a file
    pipe: DIR/pipe is a pipe or a device, not a file
    nowhere: DIR/nowhere does not exist; `vetwatch init` writes one, and --config FILE or VETWATCH_CONFIG names another
    "#);
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
