//! Valid configurations.

mod calendar;
mod chat;
mod mail;
mod mistakes;
mod problems;
mod schema;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::*;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;
use crate::delivery::email::{LoginBy, Tls};
use crate::event::EventType;
use crate::partner_center::{ClientAuth, Credential, Customers};

const EXAMPLE: &str = include_str!("../../deploy/vetwatch.toml");
/// 24 bytes in base64: the minimum length of a key.
const SIGNING: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u";

/// The lines of the example's credential.
fn credential_lines() -> &'static str {
    let (begin, last) = ("kind = \"client-secret\"", "client_secret_file = \"client-secret\"\n");
    let start = EXAMPLE.find(begin).unwrap();
    &EXAMPLE[start..start + EXAMPLE[start..].find(last).unwrap() + last.len()]
}

/// A directory with the example's credentials, readable by their owner only.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        desk.secret("client-secret", "the-client-secret\n");
        desk.secret("smtp-password", "the-smtp-password\n");
        desk.secret("crm-url", "https://crm.contoso.example/hooks/the-secret-url\n");
        desk.secret("crm-signing-secret", &format!("{SIGNING}\n"));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes a valid certificate with its key, another one's key, one that is too short, and one under a passphrase.
    fn certificates(&self) {
        self.secret("app.pem", include_str!("../../tests/data/certificates/app.pem"));
        self.secret("other.key", include_str!("../../tests/data/certificates/other.pem"));
        self.secret("short.pem", include_str!("../../tests/data/certificates/short.pem"));
        self.secret("encrypted.key", include_str!("../../tests/data/certificates/encrypted.key"));
    }

    fn load(&self, text: &str) -> Result<Config, Problems> {
        fs::write(self.path("vetwatch.toml"), text).unwrap();
        let config = Config::load(&self.path("vetwatch.toml"), &CredentialDirs::only(self.0.path()));
        config.map(|mut config| {
            // The example's placeholders have a test of their own.
            config.warnings.retain(|warning| !warning.text.contains("the example's"));
            config
        })
    }

    /// All problems, without the directory's name.
    fn problems(&self, text: &str) -> String {
        let problems = self.load(text).expect_err("a configuration with problems").to_string();
        problems.replace(&self.0.path().display().to_string(), "DIR")
    }

    /// Loads the example with one text replaced.
    fn with(&self, old: &str, new: &str) -> Result<Config, Problems> {
        assert!(EXAMPLE.contains(old), "the example has no {old}");
        self.load(&EXAMPLE.replacen(old, new, 1))
    }

    fn warnings(&self, old: &str, new: &str) -> Vec<String> {
        self.with(old, new).unwrap().warnings.iter().map(Problem::to_string).collect()
    }

    /// The one problem of the example with one text replaced.
    fn problem(&self, old: &str, new: &str) -> String {
        let problems = self.with(old, new).expect_err("a configuration with a problem");
        assert_eq!(problems.problems.len(), 1, "{problems}");
        // Without the line, which is another one when the example changes.
        format!("{}: {}", problems.file, problems.problems[0]).replace(&self.0.path().display().to_string(), "DIR")
    }
}

#[test]
fn the_shipped_example_is_good_and_leaves_no_doubt() {
    let config = Desk::new().load(EXAMPLE).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.database, PathBuf::from("/var/lib/vetwatch/vetwatch.db"));
    let partner = &config.partners[0];
    assert_eq!(partner.api_url.as_str(), "https://api.partnercenter.microsoft.com/");
    assert_eq!(partner.login_url.as_str(), "https://login.microsoftonline.com/");
    assert_eq!((partner.requests_per_minute, partner.max_in_flight), (300, 8));
    assert_eq!(partner.customers, Customers::Synced);
    let ClientAuth::ClientSecret { secret, ends_at: None } = &partner.credential.proof else { panic!("not a secret") };
    assert_eq!(secret.expose_secret(), "the-client-secret", "without the line end");
    let EndpointKind::Email(email) = &config.endpoints[0].kind else { panic!("not a mail endpoint") };
    assert_eq!((email.smtp.port, email.smtp.tls), (587, Tls::Starttls));
    let by = &email.smtp.login.as_ref().unwrap().by;
    assert!(matches!(by, LoginBy::Password(password) if password.expose_secret() == "the-smtp-password"));
    let EndpointKind::Webhook(webhook) = &config.endpoints[2].kind else { panic!("not a webhook") };
    assert_eq!((webhook.http.url.path(), webhook.secrets.len()), ("/hooks/the-secret-url", 1));
    assert_eq!(config.routes.operators, ["ops-mail", "crm"]);
    assert!(config.routes.routes[0].filter.events.contains(&EventType::Denied));
    let web = config.web.unwrap();
    assert_eq!((web.listen.to_string().as_str(), web.is_open()), ("127.0.0.1:9464", true));
}

/// What the hosts of a pair compare.
#[test]
fn a_digest_tells_in_which_sections_configurations_differ_and_not_in_which_files() {
    let desk = Desk::new();
    let usual = desk.load(EXAMPLE).unwrap().content;
    let differing = |old: &str, new: &str| {
        let (usual, other) = (usual.digests(), desk.with(old, new).unwrap().content.digests());
        assert_eq!(usual.len(), other.len());
        usual.into_iter().filter(|(kind, digest)| other[kind] != *digest).map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    assert_eq!(differing("name = \"crm\"", "name = \"crm\" # a comment"), [""; 0]);
    assert_eq!(differing("endpoints = [\"sales-mail\", \"crm\"]", "endpoints = [\"sales-mail\"]"), ["route"]);
    assert_eq!(differing("kind = \"webhook\"", "kind = \"webhook\"\nmax_events = 7"), ["endpoint"]);
    desk.secret("other-url", "https://crm.contoso.example/hooks/another-secret-url\n");
    assert_eq!(differing("url_file = \"crm-url\"", "url_file = \"other-url\""), [""; 0]);
    assert_eq!(
        differing("listen = \"127.0.0.1:9464\"", "listen = \"127.0.0.1:9465\""),
        [""; 0],
        "each host has its own"
    );

    // Files count where anything at all has changed.
    desk.secret("client-secret", "another-client-secret\n");
    assert_ne!(desk.load(EXAMPLE).unwrap().content.fingerprint(), usual.fingerprint());
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = Desk::new().with("timezone = \"Europe/Amsterdam\"", "").unwrap();
    let (minute, hour, day) = (Duration::from_mins(1), Duration::from_hours(1), Duration::from_hours(24));
    let schedule = &config.schedule;
    assert_eq!((schedule.in_review, schedule.settled, schedule.unqualified), (15 * minute, day, 7 * day));
    assert_eq!(
        (schedule.activity_log, schedule.first_confirmation, schedule.second_confirmation),
        (5 * minute, 2 * minute, hour)
    );
    assert_eq!((schedule.customer_sync.as_str(), schedule.timezone), ("0 0 3 * * *", chrono_tz::UTC));
    assert_eq!(config.retry.schedule, [5, 30, 120, 600, 1800, 3600].map(Duration::from_secs));
    assert_eq!((config.retry.give_up_after, config.keep_attempts), (7 * day, 180 * day));
}

/// The example says that commented-out keys show their defaults.
#[test]
fn the_defaults_that_the_example_shows_are_the_defaults() {
    let shown: String = EXAMPLE
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.contains(" = ") && !line.contains("no default")).unwrap_or(line)
        })
        .filter(|line| !["login_url", "partners", "qualifications", "tags"].iter().any(|key| line.starts_with(key)))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(shown.contains("\nin_review = \"15m\"") && shown.contains("\nport = 587"), "{shown}");
    let desk = Desk::new();
    assert_eq!(format!("{:?}", desk.load(&shown).unwrap()), format!("{:?}", desk.load(EXAMPLE).unwrap()));
}

#[test]
fn against_loopback_there_is_no_least() {
    let desk = Desk::new();
    let here =
        "api_url = 'http://127.0.0.1:8080/base'\nlogin_url = 'http://localhost:8080'\nrequests_per_minute = 60000\n";
    let fast = "in_review = '1s'\nsettled = '1s'\nunqualified = '2s'\nconfirm_absence = ['10ms', '20ms']\n";
    let text = EXAMPLE.replacen("# cloud", &format!("{here}# cloud"), 1).replacen(
        "[schedule]",
        &format!("[schedule]\ncustomer_sync = '*/5 * * * * *'\n{fast}"),
        1,
    );
    let config = desk.load(&text).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.schedule.first_confirmation, Duration::from_millis(10));
    assert_eq!(config.partners[0].api_url.as_str(), "http://127.0.0.1:8080/base/", "paths are added to it");
    let second = "[[partner]]\nname='b'\ntenant='t'\nclient_id='c'\ncredential={kind='client-secret',client_secret_file='client-secret'}";
    let problems = desk.problems(&text.replacen("[schedule]", &format!("{second}\n[schedule]"), 1));
    assert_eq!(problems.lines().count(), 6, "one partner abroad brings the least back\n{problems}");
}

#[test]
fn each_cloud_has_its_own_addresses_and_by_hand_wins() {
    let desk = Desk::new();
    let urls = |lines: &str| {
        let config = desk.with("# cloud", &format!("{lines}\n# cloud")).unwrap();
        let partner = &config.partners[0];
        let is_chinas = partner.resource == "https://partner.partnercenterapi.microsoftonline.cn";
        assert_eq!(is_chinas, lines.contains("cn") || lines.contains("china"), "{lines}");
        assert!(is_chinas || partner.resource == "https://api.partnercenter.microsoft.com");
        format!("{} {}", partner.api_url, partner.login_url)
    };
    assert_eq!(
        urls("cloud = 'us-government'"),
        "https://api.partnercenter.microsoft.com/ https://login.microsoftonline.us/"
    );
    assert_eq!(
        urls("cloud = 'china'"),
        "https://partner.partnercenterapi.microsoftonline.cn/ https://login.partner.microsoftonline.cn/"
    );
    let older = "cloud = 'china'\nlogin_url = 'https://login.chinacloudapi.cn'";
    assert_eq!(urls(older), "https://partner.partnercenterapi.microsoftonline.cn/ https://login.chinacloudapi.cn/");
    let by_hand = "https://partner.partnercenterapi.microsoftonline.cn/ https://login.chinacloudapi.cn/";
    assert_eq!(
        urls(
            "api_url = 'https://partner.partnercenterapi.microsoftonline.cn'\nlogin_url = 'https://login.chinacloudapi.cn'"
        ),
        by_hand
    );
    let gateway = "cloud = 'china'\napi_url = 'https://gateway.contoso.example'";
    assert_eq!(urls(gateway), "https://gateway.contoso.example/ https://login.partner.microsoftonline.cn/");
}

#[test]
fn the_port_follows_from_the_encryption() {
    let desk = Desk::new();
    let port = |lines: &str| {
        let config = desk.with("host = \"smtp.contoso.example\"", lines).unwrap();
        let EndpointKind::Email(email) = &config.endpoints[0].kind else { panic!("not a mail endpoint") };
        email.smtp.port
    };
    assert_eq!(port("host = 'smtp.contoso.example'\ntls = 'implicit'"), 465);
    assert_eq!(port("host = '::1'\ntls = 'none'"), 25);
    assert_eq!(port("host = 'localhost'\ntls = 'none'\nport = 2525"), 2525);
}

#[test]
fn a_secret_is_searched_in_systemds_directory_first() {
    let desk = Desk::new();
    let service = TempDir::new().unwrap();
    let dirs = CredentialDirs { service: Some(service.path().into()), ..CredentialDirs::only(desk.0.path()) };
    desk.load(EXAMPLE).unwrap();
    let secret = || {
        let config = Config::load(&desk.path("vetwatch.toml"), &dirs).unwrap();
        let ClientAuth::ClientSecret { secret, .. } = &config.partners[0].credential.proof else {
            panic!("not a secret")
        };
        secret.expose_secret().to_owned()
    };
    assert_eq!(secret(), "the-client-secret", "the fallback");
    fs::write(service.path().join("credentials_client-secret"), "of the loaded directory").unwrap();
    assert_eq!(secret(), "of the loaded directory");
    fs::write(service.path().join("client-secret"), "loaded by its name").unwrap();
    assert_eq!(secret(), "loaded by its name");
}

#[test]
fn a_webhook_can_have_several_secrets_while_one_is_replaced() {
    let desk = Desk::new();
    desk.secret("crm-signing-secret", &format!("{SIGNING}\r\n\r\n{SIGNING}\r\n"));
    let config = desk.load(EXAMPLE).unwrap();
    let EndpointKind::Webhook(webhook) = &config.endpoints[2].kind else { panic!("not a webhook") };
    assert_eq!(webhook.secrets.len(), 2);
    desk.secret("crm-signing-secret", &format!("{SIGNING}\nhunter2\n"));
    let problems = desk.problems(EXAMPLE);
    assert!(problems.contains("endpoint \"crm\": secret_file: line 2") && !problems.contains("hunter2"), "{problems}");
}

#[test]
fn the_way_to_a_webhook_is_read_from_its_keys() {
    let desk = Desk::new();
    desk.certificates();
    desk.secret("proxy", "http://me:hunter2@proxy.contoso.example:3128\n");
    let keys = "url_file = 'crm-url'\nallow_networks = ['10.1.0.0/16', 'fd12::/16', '192.168.1.9']\nca_file = 'app.pem'\n\
                client_certificate_file = 'app.pem'\nproxy_url_file = 'proxy'";
    let config = desk.with("url_file = \"crm-url\"", keys).unwrap();
    let EndpointKind::Webhook(WebhookSettings { http, .. }) = &config.endpoints[2].kind else {
        panic!("not a webhook")
    };
    let networks: Vec<String> = http.allow_networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.1.0.0/16", "fd12::/16", "192.168.1.9/32"]);
    assert_eq!(http.ca_file, Some(desk.path("app.pem")));
    assert!(http.client_certificate.as_ref().unwrap().expose_secret().contains("PRIVATE KEY"));
    assert_eq!(http.proxy.as_ref().unwrap().password(), Some("hunter2"));
    assert_eq!(http.place(), "crm.contoso.example by the proxy http://proxy.contoso.example:3128");
    let shown = format!("{config:#?}");
    for secret in ["hunter2", "PRIVATE KEY", "the-secret-url"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn nothing_that_is_secret_is_in_the_debug_output() {
    let shown = format!("{:#?}", Desk::new().load(EXAMPLE).unwrap());
    for secret in ["the-client-secret", "the-smtp-password", "the-secret-url", "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("crm.contoso.example"), "the host may be seen: {shown}");
}

#[test]
fn a_command_that_only_reads_the_database_needs_no_secret() {
    let desk = Desk::new();
    fs::write(desk.path("vetwatch.toml"), EXAMPLE.replace("kind = \"email\"", "kind = \"pigeon\"")).unwrap();
    fs::remove_file(desk.path("client-secret")).unwrap();
    let outline = PublicConfig::load(&desk.path("vetwatch.toml")).unwrap();
    assert_eq!(outline.database, PathBuf::from(DATABASE));
    assert_eq!(
        (outline.partners.join(" "), outline.endpoints.join(" ")),
        ("emea".into(), "sales-mail ops-mail crm".into())
    );
    assert_eq!((outline.budgets["emea"], outline.in_review, outline.settled), (300, 15 * minute(), 24 * 60 * minute()));

    let odd = "[[partner]]\nname = 'emea'\nrequests_per_minute = 'many'\n[[partner]]\nname = 'amer'\n\
               requests_per_minute = 60\n[schedule]\nin_review = 5\nsettled = '12h'\n";
    fs::write(desk.path("vetwatch.toml"), odd).unwrap();
    let outline = PublicConfig::load(&desk.path("vetwatch.toml")).unwrap();
    assert_eq!((outline.budgets["emea"], outline.budgets["amer"]), (300, 60));
    assert_eq!((outline.in_review, outline.settled), (15 * minute(), 12 * 60 * minute()));
}

#[test]
fn a_file_that_is_not_toml_hides_no_database_that_it_names() {
    let desk = Desk::new();
    let path = desk.path("vetwatch.toml");
    fs::write(&path, "[database]\npath = 'here.db'\n[[partner]]\nname = 'emea'\n[[endpoint\nname = 'crm'\n").unwrap();
    let problem = PublicConfig::load(&path).unwrap_err();
    assert!(problem.to_string().contains("closing bracket"), "{problem}");
    fs::write(desk.path("here.db"), "").unwrap();
    let outline = PublicConfig::load(&path).unwrap();
    assert_eq!((outline.database, outline.partners), (desk.path("here.db"), vec!["emea".to_owned()]));
}

fn minute() -> Duration {
    Duration::from_mins(1)
}

#[test]
fn a_relative_database_lies_beside_the_file() {
    let desk = Desk::new();
    let config = desk.with("[database]", "[database]\npath = 'here.db'").unwrap();
    assert_eq!(config.database, desk.path("here.db"));
}

/// The line, or a damaged form of it.
fn slipped(line: &str, slip: u8) -> String {
    let value = match slip {
        0 => return String::new(),
        1 => "\"\"",
        2 => "0",
        3 => "[]",
        4 => "\"x\"",
        5 => "[\"x\"]",
        _ => return format!("{line}\n"),
    };
    let key = line.split_once(" = ").filter(|_| !line.starts_with('#')).map(|(key, _)| key);
    key.map_or_else(|| format!("{line}\n"), |key| format!("{key} = {value}\n"))
}

proptest! {
    /// To lose a partner, endpoint or route silently would be this module's worst mistake.
    #[test]
    fn nothing_is_dropped_without_a_problem(slips in proptest::collection::vec(0..200u8, EXAMPLE.lines().count())) {
        let lines: Vec<String> = EXAMPLE.lines().zip(slips).map(|(line, slip)| slipped(line, slip)).collect();
        let text = lines.concat();
        if let Ok(config) = Desk::new().load(&text) {
            let count = |header: &str| text.lines().filter(|line| line.starts_with(header)).count();
            prop_assert_eq!(config.partners.len(), count("[[partner]]"));
            prop_assert_eq!(config.endpoints.len(), count("[[endpoint]]"));
            prop_assert_eq!(config.routes.routes.len(), count("[[route]]"));
            prop_assert!(!config.routes.operators.is_empty());
        }
    }

    /// No text makes it panic.
    #[test]
    fn no_text_makes_it_panic(at in 0..EXAMPLE.len(), junk in "\\PC{0,12}") {
        let at = (0..=at).rev().find(|at| EXAMPLE.is_char_boundary(*at)).unwrap_or(0);
        let _ = Desk::new().load(&format!("{}{junk}{}", &EXAMPLE[..at], &EXAMPLE[at..]));
    }
}

#[test]
fn every_kind_of_credential_is_read() {
    let desk = Desk::new();
    desk.secret("both.pem", include_str!("../../tests/data/certificates/app.pem"));
    desk.secret("a.key", include_str!("../../tests/data/certificates/app-pkcs1.key"));
    let old = credential_lines();
    let read = |lines: &str| desk.with(old, &format!("{lines}\n")).unwrap().partners.remove(0);
    let about = |lines: &str| {
        let partner = read(lines);
        let proof = match &partner.credential.proof {
            ClientAuth::ClientSecret { ends_at, .. } => format!("secret until {ends_at:?}"),
            ClientAuth::Certificate(certificate) => format!("certificate until {}", certificate.ends_at()),
            ClientAuth::WorkloadIdentity(path) => format!("platform by {}", path.file_name().unwrap().display()),
            ClientAuth::ManagedIdentity(identity) => format!("{identity:?}"),
        };
        let file = |credential: Option<&Credential>| {
            credential.and_then(|credential| Some(credential.user.as_ref()?.path().display().to_string()))
        };
        (proof, file(Some(&partner.credential)), file(partner.user_credential.as_ref()))
    };
    let tokens = || Some("/var/lib/vetwatch/tokens/emea".to_owned());
    let ends = include_str!("../../tests/data/certificates/app.dates").trim().split(' ').nth(1).unwrap();
    let certificate = format!("certificate until {ends}");
    let secret = "kind = 'client-secret'\nclient_secret_file = 'client-secret'";
    for (lines, proof, file, users) in [
        (
            format!("{secret}\nclient_secret_expires = '2027-01-31'"),
            "secret until Some(2027-01-31T00:00:00.000Z)",
            None,
            None,
        ),
        ("kind = 'certificate'\ncertificate_file = 'both.pem'".into(), certificate.as_str(), None, None),
        (
            "kind = 'certificate'\ncertificate_file = 'both.pem'\nprivate_key_file = 'a.key'".into(),
            &certificate,
            None,
            None,
        ),
        (
            "kind = 'workload-identity'\nfederated_token_file = 'client-secret'".into(),
            "platform by client-secret",
            None,
            None,
        ),
        ("kind = 'managed-identity'".into(), "ManagedIdentity { client_id: None, .. }", None, None),
        (
            "kind = 'managed-identity'\nmanaged_identity_client_id = '8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22'\n\
             imds_url = 'http://127.0.0.1:8765/'"
                .into(),
            "ManagedIdentity { client_id: Some(\"8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22\"), .. }",
            None,
            None,
        ),
        ("kind = 'refresh-token'\ncertificate_file = 'both.pem'".into(), &certificate, tokens(), None),
        (
            "kind = 'refresh-token'\nmanaged_identity_client_id = '8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22'".into(),
            "ManagedIdentity { client_id: Some(\"8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22\"), .. }",
            tokens(),
            None,
        ),
        (format!("{secret}\n[partner.user_credential]\nkind = 'refresh-token'"), "secret until None", None, tokens()),
    ] {
        assert_eq!(about(&lines), (proof.to_owned(), file, users), "{lines}");
    }
    let both = format!("{secret}\n[partner.user_credential]\nkind = 'refresh-token'\ncertificate_file = 'both.pem'");
    let user = read(&both).as_user().unwrap().credential;
    assert!(matches!(user.proof, ClientAuth::Certificate(_)) && user.user.is_some(), "the user's own proof counts");
    assert!(read(secret).as_user().is_none());
}

#[test]
fn a_ca_file_that_is_a_pipe_or_endless_is_a_problem_and_hangs_nobody() {
    let desk = Desk::new();
    let pipe = desk.path("pipe.pem");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let huge = fs::File::create(desk.path("huge.pem")).unwrap();
    huge.set_len(crate::partner_center::tls::CA_FILE_MAX_BYTES + 1).unwrap();
    for (file, words) in [
        ("pipe.pem", "is a pipe or a device, not a file"),
        ("/dev/zero", "is a pipe or a device, not a file"),
        (".", "is a directory"),
        ("huge.pem", "is too large for certificates"),
    ] {
        let with = format!("url_file = 'crm-url'\nca_file = '{file}'");
        let problem = desk.problem("url_file = \"crm-url\"", &with);
        assert!(problem.contains("ca_file") && problem.contains(words), "{file}: {problem}");
        // As it is read when a connection is made: the file may have been replaced since.
        let why = crate::partner_center::tls::config(Some(&desk.path(file)), None).unwrap_err();
        assert!(why.contains("not a regular file") || why.contains("too large"), "{file}: {why}");
    }
}
