//! Mail with a token login (XOAUTH2), to a real server that checks it.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use url::Url;
use vetwatch::delivery::Outcome;
use vetwatch::delivery::email::{EmailChannel, EmailSettings, Login, LoginBy, Tls};
use vetwatch::partner_center::{Application, Audience, ClientAuth, Proxy};
use vetwatch::time::{ManualClock, Timestamp};

use super::script::scripted;
use super::{deliver, settings};
use crate::peers::{Certificates, MailServer};
use crate::process::{DaemonHarness, complaint};
use crate::world::World;

const MAILBOX: &str = "vetting@contoso.example";
const SECRET: &str = "m4il-s3cret-of-the-application";
const MINUTE: Duration = Duration::from_mins(1);

/// A login server: issues a token for each good request, and writes the valid ones into a file for the mail server.
struct LoginServer {
    url: Url,
    shared: Arc<Shared>,
    folder: tempfile::TempDir,
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<HashMap<String, String>>>,
    answers: Mutex<VecDeque<(u16, String)>>,
    good: Mutex<Vec<String>>,
    file: PathBuf,
}

impl LoginServer {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared { file: folder.path().join("good.json"), ..Shared::default() });
        shared.write();
        let app = Router::new().route("/{tenant}/oauth2/v2.0/token", post(give)).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, shared, folder }
    }

    /// Sets the response to the next request, instead of a token.
    fn say(&self, status: u16, body: &Value) {
        self.shared.answers.lock().unwrap().push_back((status, body.to_string()));
    }

    /// Revokes every token so far.
    fn revoke(&self) {
        self.shared.good.lock().unwrap().clear();
        self.shared.write();
    }

    fn asked(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    fn channel(&self, port: u16, clock: &Arc<ManualClock>) -> EmailChannel {
        let plain = settings(port, Tls::None);
        EmailChannel::new(self.with_token(plain)).with_clock(clock.clone())
    }

    fn with_token(&self, mut settings: EmailSettings) -> EmailSettings {
        let application = Application {
            login_url: self.url.clone(),
            tenant: "contoso.onmicrosoft.com".to_owned(),
            client_id: "5a9e0c6d-0000-4000-8000-00000000000b".to_owned(),
            audience: Audience::Scope("https://outlook.office365.com/.default".to_owned()),
            proof: ClientAuth::ClientSecret { secret: SECRET.into(), ends_at: None },
            proxy: None,
        };
        settings.smtp.login = Some(Login { username: MAILBOX.to_owned(), by: LoginBy::Token(Box::new(application)) });
        settings
    }

    fn mail_server(&self) -> MailServer {
        MailServer::with_tokens(&self.shared.file, None)
    }

    /// Asserts that `text` contains no secret.
    #[track_caller]
    fn is_not_in(&self, text: &str) {
        assert!(!text.contains(SECRET), "the secret: {text}");
        for number in 1..=self.asked() {
            let token = token(number);
            let sent = format!("user={MAILBOX}\u{1}auth=Bearer {token}");
            let sent = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sent);
            // Any piece of it, past the user name.
            for form in [&token, &sent] {
                let pieces = (64..form.len() - 24).map(|at| &form[at..at + 24]);
                assert!(pieces.into_iter().all(|piece| !text.contains(piece)), "token {number}: {text}");
            }
        }
    }
}

impl Shared {
    fn write(&self) {
        let good = json!({"user": MAILBOX, "tokens": *self.good.lock().unwrap()});
        std::fs::write(&self.file, good.to_string()).unwrap();
    }
}

/// As long as a real one, from the same characters.
fn token(number: usize) -> String {
    format!(
        "eyJ0eXAiOiJKV1QifQ.{}.token-{number}-{}",
        "eyJhdWQiOiJodHRwczovL291dGxvb2sub2ZmaWNl".repeat(38),
        "x7Qz".repeat(50)
    )
}

async fn give(
    State(shared): State<Arc<Shared>>,
    Path(tenant): Path<String>,
    Form(form): Form<HashMap<String, String>>,
) -> (StatusCode, String) {
    assert_eq!(tenant, "contoso.onmicrosoft.com");
    let number = {
        let mut asked = shared.asked.lock().unwrap();
        asked.push(form);
        asked.len()
    };
    if let Some((status, body)) = shared.answers.lock().unwrap().pop_front() {
        return (StatusCode::from_u16(status).unwrap(), body);
    }
    shared.good.lock().unwrap().push(token(number));
    shared.write();
    (StatusCode::OK, json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token(number)}).to_string())
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_795_252_445_000)))
}

#[tokio::test]
async fn a_token_logs_in_where_user_and_token_are_checked_and_is_kept_until_shortly_before_its_end() {
    let (logins, clock, certificates) = (LoginServer::new().await, clock(), Certificates::new());
    let server = MailServer::with_tokens(&logins.shared.file, Some(&certificates));
    let mut settings = logins.with_token(settings(server.port, Tls::Starttls));
    settings.smtp.ca_file = Some(certificates.ca());
    let channel = EmailChannel::new(settings).with_clock(clock.clone());

    let report = deliver(&channel).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    let received = server.only();
    assert_eq!((received.envelope["tls"].clone(), received.envelope["login"].clone()), (json!(true), json!(MAILBOX)));
    let asked = logins.shared.asked.lock().unwrap()[0].clone();
    let expected = [
        ("grant_type", "client_credentials"),
        ("scope", "https://outlook.office365.com/.default"),
        ("client_id", "5a9e0c6d-0000-4000-8000-00000000000b"),
        ("client_secret", SECRET),
    ];
    assert_eq!(asked, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());

    // A new connection each, with the same token.
    for (pass, requests) in [(Duration::ZERO, 1), (54 * MINUTE, 1), (MINUTE, 2), (30 * MINUTE, 2)] {
        clock.advance(pass);
        let probe = channel.probe().await.unwrap();
        assert_eq!(probe, format!("localhost:{}: reached, STARTTLS, logged in as {MAILBOX} with a token", server.port));
        assert_eq!(logins.asked(), requests, "after {pass:?}");
    }
    logins.is_not_in(&format!("{channel:?} {report:?}"));
}

#[tokio::test]
async fn a_token_that_is_refused_is_got_anew_once() {
    let (logins, clock) = (LoginServer::new().await, clock());
    let server = logins.mail_server();
    let channel = logins.channel(server.port, &clock);
    channel.probe().await.unwrap();
    logins.revoke();
    let report = deliver(&channel).await;
    assert_eq!(report.outcome, Outcome::Accepted, "{}", report.detail);
    assert_eq!((server.received().len(), logins.asked()), (1, 2));
}

#[tokio::test]
async fn a_server_that_refuses_every_token_is_the_endpoints_trouble_and_costs_two_tokens_not_one_an_attempt() {
    let (logins, clock) = (LoginServer::new().await, clock());
    let server = logins.mail_server();
    let mut settings = logins.with_token(settings(server.port, Tls::None));
    settings.smtp.login.as_mut().unwrap().username = "somebody.else@contoso.example".to_owned();
    let channel = EmailChannel::new(settings).with_clock(clock.clone());
    for _ in 0..5 {
        let report = deliver(&channel).await;
        assert_eq!((report.outcome, report.final_replies.len()), (Outcome::AuthRejected, 0), "{}", report.detail);
        // The server gave the reason in a challenge, and got the empty response it expected.
        assert!(report.detail.contains("logging in: 535 5.7.3 Authentication unsuccessful"), "{}", report.detail);
        assert!(report.detail.contains("the server says: status 401"), "{}", report.detail);
        assert!(report.detail.contains("SMTP.SendAsApp"), "what to do: {}", report.detail);
        logins.is_not_in(&format!("{report:?}"));
        clock.advance(MINUTE / 2);
    }
    assert_eq!((logins.asked(), server.received().len()), (2, 0));
    let refusal = channel.probe().await.unwrap_err();
    assert!(refusal.at_login, "{refusal}");
}

#[tokio::test]
async fn a_token_that_is_not_given_is_told_in_words_and_no_mail_server_is_asked() {
    let (logins, clock) = (LoginServer::new().await, clock());
    let channel = logins.channel(9, &clock);
    let refused = |code: u32, text: &str| {
        let text = format!("AADSTS{code}: {text} '{SECRET}'. Trace ID: 1 Correlation ID: 2 Timestamp: 3");
        json!({"error": "invalid_client", "error_description": text, "error_codes": [code]})
    };
    logins.say(401, &refused(7_000_222, "The provided client secret keys are expired"));
    let report = deliver(&channel).await;
    assert_eq!(report.outcome, Outcome::AuthRejected, "{}", report.detail);
    let said =
        ["getting a token for its login: the credential was refused: 401 AADSTS7000222", "make a new one in Entra"];
    assert!(said.iter().all(|words| report.detail.contains(words)), "{}", report.detail);
    logins.is_not_in(&report.detail);

    for (status, body, words) in [
        (500, json!({"error": "server_error"}), "500"),
        (503, json!({}), "503"),
        (429, json!({"error": "temporarily_unavailable"}), "429"),
        (200, json!({"token_type": "Bearer"}), "is not a token"),
        (200, json!({"token_type": "Bearer", "access_token": "two words\r\nQUIT"}), "is not a token"),
    ] {
        logins.say(status, &body);
        let report = deliver(&channel).await;
        assert_eq!(report.outcome, Outcome::Unavailable, "{status} {body}: {}", report.detail);
        assert!(report.detail.contains(words), "{words}: {}", report.detail);
    }
    logins.say(401, &refused(7_000_215, "Invalid client secret provided"));
    let refusal = channel.probe_token().await.unwrap_err();
    assert!(refusal.at_login && refusal.to_string().contains("not its id"), "{refusal}");
    let unreachable = LoginServer { url: Url::parse("http://127.0.0.1:9/").unwrap(), ..logins }.channel(9, &clock);
    let report = deliver(&unreachable).await;
    assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);
    assert!(report.detail.contains("the login server cannot be reached"), "{}", report.detail);
}

#[tokio::test]
async fn a_server_that_repeats_the_login_does_not_bring_the_token_to_light() {
    let (logins, clock) = (LoginServer::new().await, clock());
    // A token makes a line longer than the reply limit, so a server that repeats it is not read at all.
    for answer in ["502 5.5.2 unknown command: {start}", "454 4.7.0 later: {start}...", "235x {start}", "502 {line}"] {
        let script = ["250-localhost\r\n250 AUTH XOAUTH2", answer];
        let (port, server) = scripted("220 hello", &script).await;
        let report = deliver(&logins.channel(port, &clock)).await;
        assert!(matches!(report.outcome, Outcome::AuthRejected | Outcome::Unavailable), "{report:?}");
        logins.is_not_in(&format!("{report:?}"));
        server.abort();
    }
    let (port, server) = scripted("220 hello", &["250-localhost\r\n250 AUTH PLAIN LOGIN"]).await;
    let report = deliver(&logins.channel(port, &clock)).await;
    assert_eq!(report.outcome, Outcome::AuthRejected, "{}", report.detail);
    assert!(report.detail.contains("does not offer AUTH XOAUTH2"), "{}", report.detail);
    assert!(server.await.unwrap().iter().all(|line| !line.starts_with("AUTH")), "a token for who did not ask");
}

/// From the configuration to the mailbox: the message waits while the token is rejected, and is sent once it is
/// accepted.
#[tokio::test]
async fn a_message_waits_while_the_application_may_not_log_in() {
    let logins = LoginServer::new().await;
    let server = logins.mail_server();
    let url = &logins.url;
    let oauth = format!(
        "username = \"{MAILBOX}\"\n[smtp.office.oauth]\ntenant = \"contoso.onmicrosoft.com\"\nclient_id = \"app\"\n\
         client_secret_file = \"client-secret\"\nlogin_url = \"{url}\"\n"
    );
    let smtp = format!("[smtp.office]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n{oauth}", server.port);
    let mut world = World::edited("", "", |text| {
        let (before, rest) = text.split_once("[smtp.office]").unwrap();
        format!("{before}{smtp}\n[[endpoint]]{}", rest.split_once("[[endpoint]]").unwrap().1)
    })
    .await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.poll_later().await;
    let refusal = json!({"error": "unauthorized_client", "error_description": "AADSTS700016: not found", "error_codes": [700_016]});
    for _ in 0..2 {
        logins.say(400, &refusal);
        world.deliver().await;
        let waits = "select state || ': ' || last_error from v_deliveries where endpoint like '%mail%'";
        let rows = world.rows(waits).await;
        assert!(!rows.is_empty() && rows.iter().all(|row| row.starts_with("pending: ")), "{rows:?}");
        assert!(
            rows[0].contains("AADSTS700016") && rows[0].contains("this tenant does not know the application"),
            "{rows:?}"
        );
        world.pass(10 * MINUTE);
    }
    world.deliver().await;
    let rows = world.rows("select distinct state from v_deliveries where endpoint like '%mail%'").await;
    assert_eq!(rows, ["delivered"]);
    assert_eq!(server.only().envelope["login"], MAILBOX);
    drop(logins.folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_tells_the_token_from_the_login_of_a_mail_server() {
    let (logins, town) = (LoginServer::new().await, DaemonHarness::new("", "").await);
    let server = logins.mail_server();
    let oauth = format!(
        "username = \"{MAILBOX}\"\n[smtp.office.oauth]\ntenant = \"contoso.onmicrosoft.com\"\nclient_id = \"app\"\n\
         client_secret_file = \"client-secret\"\nclient_secret_expires = \"2099-01-31\"\nlogin_url = \"{}\"",
        logins.url
    );
    town.change(&format!("port = {}\n", town.mail.address().port()), &format!("port = {}\n", server.port));
    town.change("tls = \"none\"", &format!("tls = \"none\"\n{oauth}"));
    let live = async |code: i32| {
        let output = town.run_beside(&["check", "--live", "-vv"]).await;
        assert_eq!(output.status.code(), Some(code), "{}", complaint(&output));
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), complaint(&output));
        logins.is_not_in(&said);
        assert!(!said.contains("sandbox-secret"), "{said}");
        said
    };
    let said = live(0).await;
    assert!(
        said.contains("token         ok      received for the application; the client secret ends 2099-01-31"),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "login         ok      127.0.0.1:{}: reached, no TLS, logged in as {MAILBOX}",
            server.port
        )),
        "{said}"
    );

    logins.say(401, &json!({"error": "invalid_client", "error_description": "AADSTS7000222: expired. Trace ID: 1"}));
    let said = live(78).await;
    assert!(said.contains("token         FAILED  the credential was refused: 401 AADSTS7000222"), "{said}");
    assert!(!said.contains("login         FAILED"), "what needs the token makes no sense without it: {said}");
    logins.say(503, &json!({}));
    let said = live(75).await;
    assert!(said.contains("token         FAILED  no token: 503"), "{said}");
    town.change(MAILBOX, "somebody.else@contoso.example");
    let said = live(78).await;
    assert!(said.contains("login         FAILED") && said.contains("SMTP.SendAsApp"), "{said}");
}

#[tokio::test]
async fn the_token_is_asked_for_by_the_proxy_and_nothing_of_its_login_is_shown() {
    crate::world::tls();
    let proxy = crate::tunnel::Proxy::new("407 Proxy Authentication Required", 0).await;
    let application = Application {
        login_url: "https://login.microsoftonline.com/".parse().unwrap(),
        tenant: "contoso.onmicrosoft.com".to_owned(),
        client_id: "5a9e0c6d-0000-4000-8000-00000000000b".to_owned(),
        audience: Audience::Scope("https://outlook.office365.com/.default".to_owned()),
        proof: ClientAuth::ClientSecret { secret: SECRET.into(), ends_at: None },
        proxy: Some(Proxy::new(proxy.url("127.0.0.1"))),
    };
    let mut settings = settings(9, Tls::None);
    settings.smtp.login = Some(Login { username: MAILBOX.to_owned(), by: LoginBy::Token(Box::new(application)) });
    let report = deliver(&EmailChannel::new(settings.clone())).await;
    assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);
    assert!(report.detail.contains("by the proxy http://127.0.0.1:"), "{}", report.detail);
    assert!(!format!("{} {settings:?}", report.detail).contains("T0KEN"), "{}", report.detail);
    assert!(proxy.heads()[0].starts_with("CONNECT login.microsoftonline.com:443 HTTP/1.1\r\n"));
}
