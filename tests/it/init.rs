//! `vetwatch init`: with options, and on a real terminal; against the sandbox and a real mail server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use vetwatch::config::{Config, CredentialDirs};
use vetwatch::sandbox::webhook_receiver::Receiver;
use vetwatch::sandbox::{Bulk, Options, Sandbox};
use vetwatch::time::SystemClock;

use crate::disk::Disk;
use crate::peers::{Certificates, MailServer, run};
use crate::process::SOON;
use crate::world::tls;

const PASSWORD: &str = "pass word";
/// In place of an answer: nothing is typed.
const SEEN: &str = "(seen)";

/// An administrator at an empty directory, with a mail server and a Partner Center.
struct Desk {
    sandbox: Sandbox,
    mail: MailServer,
    certificates: Certificates,
    folder: TempDir,
}

impl Desk {
    async fn new() -> Self {
        tls();
        let sandbox = Sandbox::start(Options::default(), Arc::new(SystemClock)).await.unwrap();
        sandbox.add_customers(Bulk { count: 6, in_review: 2, settled: 2 });
        let certificates = Certificates::new();
        let mail = MailServer::secured("starttls", &certificates);
        let desk = Self { sandbox, mail, certificates, folder: TempDir::new().unwrap() };
        desk.file("given-secret", &Options::default().client_secret);
        desk.file("given-password", PASSWORD);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), format!("{text}\n")).unwrap();
    }

    /// Every question as an option.
    fn all(&self) -> Vec<(&'static str, String)> {
        let Options { tenant, client_id, .. } = Options::default();
        vec![
            ("--tenant", tenant),
            ("--client-id", client_id),
            ("--client-secret-file", "given-secret".to_owned()),
            ("--api-url", self.sandbox.url().to_string()),
            ("--login-url", self.sandbox.url().to_string()),
            ("--smtp-host", "localhost".to_owned()),
            ("--smtp-port", self.mail.port.to_string()),
            ("--smtp-ca-file", self.certificates.ca().display().to_string()),
            ("--smtp-username", "watch".to_owned()),
            ("--smtp-password-file", "given-password".to_owned()),
            ("--from", "vetwatch@contoso.example".to_owned()),
            ("--to", "sales@contoso.example, more@contoso.example".to_owned()),
            ("--operators", "it@contoso.example".to_owned()),
        ]
    }

    /// The options, with one of another value; an empty one is left out.
    fn with(&self, option: &str, value: &str) -> Vec<String> {
        let mut all = self.all();
        match all.iter_mut().find(|(known, _)| *known == option) {
            Some(found) => value.clone_into(&mut found.1),
            None => all.push((Box::leak(option.to_owned().into_boxed_str()), value.to_owned())),
        }
        let given = all.into_iter().filter(|(_, value)| !value.is_empty());
        given.flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }

    fn options(&self) -> Vec<String> {
        self.with("--tenant", &Options::default().tenant)
    }

    fn binary() -> PathBuf {
        std::env::var_os("VETWATCH_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_vetwatch").into()).into()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Self::binary());
        command.args(["--config", "vetwatch.toml"]).args(arguments);
        command.current_dir(self.folder.path()).env_clear().env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    /// Runs `init` without a terminal.
    async fn init(&self, options: Vec<String>, more: &[&str]) -> Output {
        let mut command = self.command(&["init"]);
        command.args(options).args(more);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs `init` on a terminal.
    async fn at_terminal(&self, options: &[&str], answers: &[(&str, &str)]) -> Value {
        let program = Self::binary().display().to_string();
        let argv = [&[program.as_str(), "--config", "vetwatch.toml", "init"], options].concat();
        let answers: Vec<_> =
            answers.iter().map(|(question, answer)| json!([question, (*answer != SEEN).then_some(answer)])).collect();
        let input = json!({"argv": argv, "cwd": self.folder.path(), "env": {"TERM": "dumb"}, "answers": answers});
        let seen = tokio::task::spawn_blocking(move || run("terminal.py", Path::new("-"), &input).unwrap());
        let seen = seen.await.unwrap();
        assert_eq!(seen["stuck"], Value::Null, "{seen:#}");
        shows_no_secret(seen["output"].as_str().unwrap());
        assert_eq!(seen["echo"], true, "the terminal is as before");
        seen
    }

    /// Nothing but the files of the test is there.
    fn is_untouched(&self) -> bool {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("given-"))
            .collect();
        names.sort();
        names.is_empty() || panic!("{names:?} was left")
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
    shows_no_secret(&text);
    text
}

#[track_caller]
fn shows_no_secret(text: &str) {
    for secret in [Options::default().client_secret.as_str(), PASSWORD, "wrong-secret", "wrong-password", "s3cr3t"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_answer_as_an_option_it_ends_with_a_mail_that_arrives() {
    let desk = Desk::new().await;
    let output = desk.init(desk.options(), &[]).await;
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for words in [
        "the first page has 6 customers",
        "STARTTLS, logged in as watch",
        "warning: operators.endpoints: names one endpoint only",
        "accepted: 250",
        "vetwatch --config vetwatch.toml run",
        "vetwatch --config vetwatch.toml status",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert_eq!(desk.mail.only().to(), ["it@contoso.example"], "the test is for the operators");
    let files = ["vetwatch.toml", "credentials", "credentials/client-secret", "credentials/smtp-password"];
    assert_eq!(files.map(|name| mode(&desk.path(name))), [0o644, 0o700, 0o600, 0o600]);

    let config = Config::load(&desk.path("vetwatch.toml"), &CredentialDirs::only("/no/such")).unwrap();
    let doubts: Vec<_> = config.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(doubts, ["operators.endpoints"], "the one true doubt");
    let output = desk.command(&["check", "--live"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_umask_that_forbids_or_permits_everything_changes_no_mode() {
    let desk = Desk::new().await;
    for umask in ["0777", "0000"] {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]).arg(Desk::binary());
        shell.args(["--config", "vetwatch.toml", "init", "--force"]).args(desk.options());
        shell.current_dir(desk.folder.path()).env_clear().stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let files = ["vetwatch.toml", "credentials", "credentials/client-secret", "credentials/smtp-password"];
        assert_eq!(files.map(|name| mode(&desk.path(name))), [0o644, 0o700, 0o600, 0o600], "umask {umask}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_answers_are_named_all_at_once_without_a_terminal() {
    let desk = Desk::new().await;
    let output = desk.init(Vec::new(), &[]).await;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2));
    for option in ["tenant", "client-id", "client-secret-file", "smtp-host", "from", "to", "operators"] {
        assert!(text.contains(&format!("\n  --{option}\n")), "{option} in {text}");
    }
    let output = desk.init(desk.with("--chat", "webhook"), &["--credential", "certificate"]).await;
    let text = said(&output);
    assert!(text.contains("\n  --certificate-file\n  --chat-url-file\n"), "{text}");
    assert!(desk.is_untouched());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_answer_says_what_failed_and_nothing_is_written() {
    let desk = Desk::new().await;
    desk.file("given-wrong", "wrong-secret");
    desk.file("given-empty", "");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = closed.local_addr().unwrap().port().to_string();
    drop(closed);
    for (option, value, exit, words) in [
        ("--tenant", "elsewhere.onmicrosoft.com", 5, "AADSTS90002"),
        ("--tenant", "two words", 2, "is neither a GUID nor a domain"),
        ("--client-id", "11111111-2222-4333-8444-555555555555", 5, "AADSTS700016"),
        ("--client-secret-file", "given-wrong", 5, "AADSTS7000215"),
        ("--client-secret-file", "given-nothing", 2, "No such file"),
        ("--client-secret-file", "given-empty", 2, "it is empty"),
        ("--login-url", "http://login.example/", 2, "is not https"),
        ("--smtp-password-file", "given-wrong", 78, "535"),
        ("--smtp-port", &nobody, 75, "login"),
        ("--smtp-tls", "implicit", 75, "login"),
        ("--smtp-ca-file", "", 75, "no authority that this machine trusts"),
        ("--smtp-host", "a host", 2, "is not a host name"),
        ("--from", "nobody", 2, "is no mail address"),
        ("--to", "sales@contoso.example,sales@contoso.example", 2, "is named twice"),
        ("--operators", "it at contoso", 2, "is no mail address"),
        ("--timezone", "Europe/Amsterdamm", 2, "timezone"),
        ("--client-secret-expires", "31.1.2027", 2, "is not a date"),
        ("--partner", "two words", 2, "is not a name"),
    ] {
        let output = desk.init(desk.with(option, value), &[]).await;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(exit), "{option} {value}: {text}");
        assert!(text.contains(words), "{option} {value}: {text}");
        assert!(text.contains("nothing was written"), "{option} {value}: {text}");
        assert!(desk.is_untouched(), "{option} {value}");
    }
    assert!(desk.mail.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_there_is_kept_unless_forced_and_then_kept_aside() {
    let desk = Desk::new().await;
    desk.file("vetwatch.toml", "# mine");
    let output = desk.init(desk.options(), &[]).await;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("there is a configuration already") && text.contains("--force"), "{text}");
    assert_eq!(fs::read_to_string(desk.path("vetwatch.toml")).unwrap(), "# mine\n");
    assert!(!desk.path("credentials").exists() && desk.sandbox.connections() == 0, "nothing was begun");

    let output = desk.init(desk.options(), &["--force"]).await;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(desk.path("vetwatch.toml.bak")).unwrap(), "# mine\n");
    // Secrets that are there need not be given again.
    let output = desk.init(desk.with("--client-secret-file", ""), &["--force"]).await;
    assert!(output.status.success(), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_may_not_be_written_is_told_before_anything_is_tried() {
    let desk = Desk::new().await;
    let closed = desk.path("given-closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    for (config, words) in [
        ("given-secret/vetwatch.toml", "given-secret is not a directory"),
        ("given-closed/vetwatch.toml", "given-closed: Permission denied"),
    ] {
        if config.starts_with("given-closed") && nix::unistd::geteuid().is_root() {
            continue; // root may write anywhere
        }
        let mut command = Command::new(Desk::binary());
        command.args(["--config", config, "init"]).args(desk.options());
        command.current_dir(desk.folder.path()).env_clear().stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("cannot write") && text.contains(words), "{text}");
        assert_eq!(desk.sandbox.connections(), 0, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_the_mail_server_refuses_leaves_the_files_and_says_so() {
    let desk = Desk::new().await;
    let refuses = MailServer::plain(&json!({"rcpt": [["it@", "550 5.1.1 no such mailbox"]]}));
    let mut options = desk.with("--smtp-port", &refuses.port.to_string());
    let login = options.iter().position(|option| option == "--smtp-username").unwrap();
    options.drain(login..login + 4);
    let output = desk.init(options, &[]).await;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("550 5.1.1 no such mailbox") && text.contains("the configuration is written"), "{text}");
    assert!(desk.path("vetwatch.toml").exists());
    assert!(fs::read_to_string(desk.path("vetwatch.toml")).unwrap().contains("tls = \"none\""), "on this machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_a_test_that_is_signed_with_a_new_secret() {
    let desk = Desk::new().await;
    let receiver = Receiver::start(None, Arc::new(SystemClock)).await.unwrap();
    desk.file("given-url", receiver.url().join("/s3cr3t").unwrap().as_str());
    let output = desk.init(desk.with("--chat", "webhook"), &["--chat-url-file", "given-url"]).await;
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    receiver.wait_for(1, SOON).await.unwrap();
    let secret = fs::read_to_string(desk.path("credentials/webhook-signing-secret")).unwrap();
    assert!(secret.starts_with("whsec_") && !text.contains(secret.trim()), "{text}");
    assert!(text.contains("credentials/webhook-signing-secret"), "where the receiver's owner finds it: {text}");
    let config = Config::load(&desk.path("vetwatch.toml"), &CredentialDirs::only("/no/such")).unwrap();
    assert_eq!(config.warnings, [], "two ways that fail apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_identity_needs_no_secret_file() {
    let desk = Desk::new().await;
    let mut options = desk.with("--client-secret-file", "");
    let imds = desk.sandbox.url().to_string();
    options.extend(
        ["--managed-identity-client-id", "11111111-2222-4333-8444-555555555555", "--imds-url"].map(str::to_owned),
    );
    options.push(imds);
    let output = desk.init(options.clone(), &[]).await;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(75), "{text}");
    assert!(text.contains("Identity not found") && text.contains("docs/registering.md"), "{text}");
    assert!(desk.is_untouched());
    desk.sandbox.set_federated_token(Some("eyJhbGciOi.of.azure"));
    let output = desk.init(options, &[]).await;
    assert!(output.status.success(), "{}", said(&output));
    assert!(!desk.path("credentials/client-secret").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn exchange_online_is_logged_in_to_with_an_application() {
    let mut desk = Desk::new().await;
    desk.file("given-good", &json!({"user": "vetting@contoso.example", "tokens": "any"}).to_string());
    desk.mail = MailServer::with_tokens(&desk.path("given-good"), Some(&desk.certificates));
    let options = |client_id: &str| {
        let mut options = desk.with("--smtp-username", "vetting@contoso.example");
        let password = options.iter().position(|option| option == "--smtp-password-file").unwrap();
        options.drain(password..password + 2);
        [options, vec!["--smtp-client-id".to_owned(), client_id.to_owned()]].concat()
    };
    // The application that reads, which needs no second secret.
    let output = desk.init(options(&Options::default().client_id), &[]).await;
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("logged in as vetting@contoso.example with a token"), "{text}");
    assert_eq!(desk.mail.received().len(), 1);
    assert!(!desk.path("credentials/smtp-password").exists());

    let other = "11111111-2222-4333-8444-555555555555";
    let output = desk.init(options(other), &["--force"]).await;
    assert!(said(&output).contains("\n  --smtp-client-secret-file\n"), "{}", said(&output));
    let output = desk.init(options(other), &["--force", "--smtp-client-secret-file", "given-password"]).await;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("AADSTS700016") && text.contains("nothing was written"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reads_one_object() {
    let desk = Desk::new().await;
    let output = desk.init(desk.options(), &["--json"]).await;
    said(&output);
    let json: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(json["tests"][0]["outcome"], "accepted", "{json:#}");
    assert_eq!(json["files"].as_array().map(Vec::len), Some(3), "{json:#}");
    assert!(json["live"].as_array().unwrap().iter().all(|step| step["ok"] == true), "{json:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_each_question_is_asked_and_a_wrong_answer_again() {
    let desk = Desk::new().await;
    let Options { tenant, client_id, client_secret, .. } = Options::default();
    let url = desk.sandbox.url().to_string();
    let server = format!("localhost:{}", desk.mail.port);
    let ca = desk.certificates.ca().display().to_string();
    let seen = desk
        .at_terminal(
            &["--api-url", &url, "--login-url", &url],
            &[
                ("or its GUID: ", "elsewhere.onmicrosoft.com"),
                ("AADSTS90002", SEEN),
                ("[elsewhere.onmicrosoft.com]: ", "two words"),
                ("is neither a GUID nor a domain", SEEN),
                ("[two words]: ", &tenant),
                ("[main]: ", "emea"),
                ("[client-secret]: ", "a password"),
                ("a password is none of them", SEEN),
                ("[client-secret]: ", ""),
                ("(Enter alone: how to register an application): ", ""),
                (&format!("az login --tenant {tenant}"), SEEN),
                ("(Enter alone: how to register an application): ", &client_id),
                ("value (not shown): ", "wrong-secret"),
                ("unknown): ", "2099-01-31"),
                ("AADSTS7000215", SEEN),
                ("[client-secret]: ", ""),
                (&format!("[{client_id}]: "), ""),
                ("(Enter alone: as before) (not shown): ", &client_secret),
                ("[2099-01-31]: ", ""),
                ("host:port: ", &server),
                ("none): ", "watch"),
                ("Its password (not shown): ", "wrong-password"),
                ("no authority that this machine trusts", SEEN),
                (&format!("[{server}]: "), ""),
                ("[watch]: ", ""),
                ("as before) (not shown): ", ""),
                ("(Enter alone: the system's): ", &ca),
                ("535", SEEN),
                (&format!("[{server}]: "), ""),
                ("[watch]: ", ""),
                ("as before) (not shown): ", PASSWORD),
                (&format!("[{ca}]: "), ""),
                ("The mails' sender: ", "nobody"),
                ("is no mail address", SEEN),
                ("[nobody]: ", "Vetting <vetwatch@contoso.example>"),
                ("with commas): ", "sales@contoso.example"),
                ("[sales@contoso.example]: ", "it@contoso.example, night@contoso.example"),
                ("[none]: ", ""),
                ("working days [UTC]: ", "Europe/Paris"),
            ],
        )
        .await;
    let text = seen["output"].as_str().unwrap();
    assert_eq!(seen["exit"], 0, "{text}");
    assert!(text.contains("accepted: 250") && text.contains("test-send sales-mail"), "{text}");
    assert_eq!(desk.mail.only().to(), ["it@contoso.example", "night@contoso.example"]);
    let config = Config::load(&desk.path("vetwatch.toml"), &CredentialDirs::only("/no/such")).unwrap();
    assert_eq!(config.partners[0].name, "emea");
    assert_eq!(config.schedule.timezone, chrono_tz::Europe::Paris);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_at_any_question_leaves_nothing() {
    let desk = Desk::new().await;
    let options: Vec<String> = desk.with("--smtp-password-file", "");
    let options: Vec<&str> = options
        .iter()
        .map(String::as_str)
        .chain(["--partner", "emea", "--client-secret-expires", "2099-01-31"])
        .collect();
    let without = |option: &str| {
        let at = options.iter().position(|known| *known == option).unwrap();
        [&options[..at], &options[at + 2..]].concat()
    };
    // A visible question, and one whose answer is not shown.
    for (given, question) in [(without("--tenant"), "or its GUID: "), (without("--from"), "Its password (not shown): ")]
    {
        for (key, exit) in [("^C", 130), ("^D", 1)] {
            let seen = desk.at_terminal(&given, &[(question, key)]).await;
            assert_eq!(seen["exit"], exit, "{question} {key}: {seen:#}");
            assert!(desk.is_untouched(), "{question} {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_everything_as_it_was() {
    let desk = Desk::new().await;
    let Some(small) = Disk::mount(desk.path("given-disk")) else { return };
    fs::write(small.0.join("vetwatch.toml"), "# mine\n").unwrap();
    let config = small.0.join("vetwatch.toml").display().to_string();
    small.fill();
    let mut command = Command::new(Desk::binary());
    command.args(["--config", &config, "init", "--force"]).args(desk.options());
    command.current_dir(desk.folder.path()).env_clear().stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("No space left") && text.contains("nothing was changed"), "{text}");
    assert_eq!(fs::read_to_string(small.0.join("vetwatch.toml")).unwrap(), "# mine\n");
    assert!(!small.0.join("credentials").exists() && !small.0.join("vetwatch.toml.bak").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_configuration_is_sent_to_init() {
    let desk = Desk::new().await;
    for command in ["check", "run", "status"] {
        let output = desk.command(&[command]).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{command}");
        assert!(said(&output).contains("`vetwatch init` writes one"), "{command}: {}", said(&output));
    }
}
