//! Every credential: secret, certificate, a platform's token, a user. The sandbox checks what Entra ID checks.

mod connectivity_check;
mod managed_identity;
mod proxy;
mod repeated;
mod rotation;
mod sign_in;

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use vetwatch::config::{Config, CredentialDirs};
use vetwatch::daemon::{self, Kept};
use vetwatch::partner_center::{
    Budget, Certificate, ClientAuth, Credential, Customers, Error, PartnerCenter, PartnerSettings, RESOURCE, TokenFile,
};
use vetwatch::sandbox::{CustomerDetails, Kind, Options, Sandbox};
use vetwatch::store::Store;
use vetwatch::store::customers::NewCustomer;
use vetwatch::time::{Clock, ManualClock, Timestamp};

use crate::world::{self, START, hours, tls};

const APP: &str = include_str!("../data/certificates/app.pem");
const OTHER: &str = include_str!("../data/certificates/other.pem");
const SCHOOL: &str = "00000001-0000-4000-8000-000000000000";
/// Prefixes of every access token and every refresh token.
const ACCESS: &str = "eyJ0eXAi";

/// A time within the validity of the certificates.
const NOW: Timestamp = Timestamp::from_millis(START.as_millis() + 2 * 365 * 24 * 3_600_000);

/// A sandbox with one school, and clients for it.
struct Office {
    sandbox: Sandbox,
    clock: Arc<ManualClock>,
    folder: TempDir,
}

impl Office {
    async fn new() -> Self {
        tls();
        let clock = Arc::new(ManualClock::at(NOW));
        let sandbox = Sandbox::start(Options::default(), clock.clone()).await.expect("a sandbox");
        sandbox.add_customer(CustomerDetails::new(SCHOOL, "Contoso School", "school.example")).expect("a customer");
        Self { sandbox, clock, folder: tempfile::tempdir().expect("a folder") }
    }

    fn settings(&self, credential: Credential) -> PartnerSettings {
        let Options { tenant, client_id, .. } = Options::default();
        PartnerSettings {
            name: "emea".into(),
            tenant,
            client_id,
            api_url: self.sandbox.url(),
            login_url: self.sandbox.url(),
            resource: RESOURCE,
            proxy: None,
            credential,
            user_credential: None,
            requests_per_minute: 60_000,
            max_in_flight: 8,
            customers: Customers::Manual,
        }
    }

    fn client(&self, credential: Credential) -> PartnerCenter {
        let budget = Arc::new(Budget::per_minute(60_000));
        PartnerCenter::new(self.settings(credential), budget, self.clock.clone()).expect("a client")
    }

    fn secret() -> ClientAuth {
        ClientAuth::ClientSecret { secret: SecretString::from(Options::default().client_secret), ends_at: None }
    }

    fn tokens(&self) -> TokenFile {
        TokenFile::new(&self.folder.path().join("tokens"), "emea")
    }

    fn user(&self) -> Credential {
        Credential { proof: Self::secret(), user: Some(self.tokens()) }
    }

    /// Puts refresh tokens into the file, as a sign-in and a redemption would have.
    fn keep(&self, current: &str, previous: Option<&str>) {
        let file = self.tokens();
        std::fs::create_dir_all(file.path().parent().expect("a directory")).expect("a directory");
        let text = json!({ "refresh_token": current, "previous": previous, "obtained_at": self.clock.now() });
        std::fs::write(file.path(), text.to_string()).expect("a file");
    }

    /// The stored tokens: the current and the previous one.
    fn kept(&self) -> (String, Option<String>) {
        let text = std::fs::read_to_string(self.tokens().path()).expect("a file");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        (text("refresh_token").expect("a token"), text("previous"))
    }

    fn token_requests(&self) -> u64 {
        self.sandbox.count(Kind::Token)
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.sandbox.unknown_requests(), [], "nobody knows these requests");
            assert_eq!(self.sandbox.violations(), [], "a careful client does not send these requests");
        }
    }
}

async fn refused(client: &PartnerCenter) -> String {
    let error = client.qualifications(SCHOOL).await.expect_err("a refusal");
    assert!(error.affects_partner(), "{error:?}");
    let said = format!("{error} {error:?} {client:?}");
    for secret in [ACCESS, "\"1.", "sandbox-secret", "PRIVATE"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    error.to_string()
}

fn certificate(pem: &str) -> Credential {
    Credential {
        proof: ClientAuth::Certificate(Arc::new(Certificate::from_pem(pem, pem).expect("a certificate"))),
        user: None,
    }
}

#[tokio::test]
async fn a_certificate_gets_tokens_and_one_that_is_not_registered_does_not() {
    let office = Office::new().await;
    let client = office.client(certificate(APP));
    let said = refused(&client).await;
    assert!(said.contains("AADSTS700027") && said.contains("is it uploaded to the application"), "{said}");
    assert!(office.sandbox.register_certificate(APP));
    client.qualifications(SCHOOL).await.expect("an answer");
    // Each request has a new assertion.
    office.clock.advance(hours(1));
    client.qualifications(SCHOOL).await.expect("an answer");
    assert_eq!(office.token_requests(), 3);
    assert!(refused(&office.client(certificate(OTHER))).await.contains("AADSTS700027"));
}

/// Checks the sandbox: it rejects what vetwatch never sends.
#[tokio::test]
async fn the_sandbox_refuses_an_assertion_that_is_reused_stale_forged_or_for_somebody_else() {
    let office = Office::new().await;
    office.sandbox.register_certificate(APP);
    let Options { tenant, client_id, .. } = Options::default();
    let endpoint = office.sandbox.url().join(&format!("{tenant}/oauth2/token")).unwrap();
    let key = Certificate::from_pem(APP, APP).unwrap();
    let other = Certificate::from_pem(OTHER, OTHER).unwrap();
    let now = office.clock.now();
    let good = key.assertion(&client_id, endpoint.as_str(), now).unwrap();
    let mut bent = key.assertion(&client_id, endpoint.as_str(), now).unwrap().into_bytes();
    let middle = bent.len() - 100;
    bent[middle] = if bent[middle] == b'A' { b'B' } else { b'A' };
    // Another key's signature under the right thumbprint.
    let theirs = other.assertion(&client_id, endpoint.as_str(), now).unwrap();
    let (head, rest) = (good.split('.').next().unwrap(), theirs.split_once('.').unwrap().1);
    for (assertion, code) in [
        (good.clone(), 0),
        (good.clone(), 700_024),
        (String::from_utf8(bent).unwrap(), 700_027),
        (format!("{head}.{rest}"), 700_027),
        (key.assertion(&client_id, "https://login.example/", now).unwrap(), 700_023),
        (key.assertion("somebody", endpoint.as_str(), now).unwrap(), 700_021),
        (key.assertion(&client_id, endpoint.as_str(), now.before(hours(1))).unwrap(), 700_024),
        (key.assertion(&client_id, endpoint.as_str(), now.after(hours(1))).unwrap(), 700_024),
        ("a.b.c".to_owned(), 50027),
    ] {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &client_id),
            ("resource", "https://api.partnercenter.microsoft.com"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ];
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.post(endpoint.clone()).form(&form).send().await.unwrap();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error_codes"][0].as_u64().unwrap_or(0), code, "{body}");
    }
}

#[tokio::test]
async fn a_platforms_token_is_read_again_for_each_request() {
    let office = Office::new().await;
    let path = office.folder.path().join("federated-token");
    let client = office.client(Credential { proof: ClientAuth::WorkloadIdentity(path.clone()), user: None });
    let error = client.qualifications(SCHOOL).await.expect_err("no token");
    assert!(matches!(&error, Error::NoToken(why) if why.contains("is not there")), "{error}");
    for token in ["eyJhbGciOi.first.one", "eyJhbGciOi.second.one"] {
        std::fs::write(&path, format!("{token}\n")).unwrap();
        office.sandbox.set_federated_token(Some(token));
        office.clock.advance(hours(1));
        client.qualifications(SCHOOL).await.expect("an answer");
    }
    office.sandbox.set_federated_token(Some("eyJhbGciOi.third.one"));
    office.clock.advance(hours(1));
    let said = refused(&client).await;
    assert!(!said.contains("second") && said.contains("AADSTS50027"), "{said}");
}

#[tokio::test]
async fn several_partners_have_each_their_own_credential_and_none_suffers_from_anothers() {
    tls();
    let clock = Arc::new(ManualClock::at(NOW));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("vetwatch.db")).await.unwrap();
    for (name, text) in
        [("app.pem", APP), ("signing-secret", world::SIGNING_SECRET), ("client-secret", "sandbox-secret")]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(folder.path().join("wrong-secret"), "wrong-secret").unwrap();
    let (mut partners, mut sandboxes) = (Vec::new(), Vec::new());
    for (name, credential) in [
        ("amer", "kind = 'client-secret'\nclient_secret_file = 'wrong-secret'"),
        ("apac", "kind = 'client-secret'\nclient_secret_file = 'client-secret'"),
        ("emea", "kind = 'certificate'\ncertificate_file = 'app.pem'"),
        ("ukie", "kind = 'refresh-token'\nclient_secret_file = 'client-secret'"),
    ] {
        let sandbox = Sandbox::start(Options::default(), clock.clone()).await.unwrap();
        sandbox.register_certificate(APP);
        sandbox.add_customer(CustomerDetails::new(SCHOOL, name, "school.example")).unwrap();
        let Options { tenant, client_id, .. } = Options::default();
        let url = sandbox.url();
        partners.push(format!(
            "[[partner]]\nname = '{name}'\ntenant = '{tenant}'\nclient_id = '{client_id}'\napi_url = '{url}'\n\
             login_url = '{url}'\ncustomers = 'manual'\n[partner.credential]\n{credential}\n"
        ));
        let new = NewCustomer { partner: name, id: SCHOOL, name: Some(name), domain: None, tags: None, contact: None };
        let mut tx = store.begin().await.unwrap();
        tx.add_customer(new, clock.now()).await.unwrap();
        tx.commit().await.unwrap();
        sandboxes.push(sandbox);
    }
    let partners = partners.concat();
    let text = format!(
        "[database]\npath = '{}'\n{partners}\n[[endpoint]]\nname = 'crm'\nkind = 'webhook'\nurl = 'http://127.0.0.1:9/'\n\
         secret_file = 'signing-secret'\n[operators]\nendpoints = ['crm']\n",
        folder.path().join("vetwatch.db").display()
    );
    let path = folder.path().join("vetwatch.toml");
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path, &CredentialDirs::only(folder.path())).unwrap();
    let signed_in = PathBuf::from(folder.path()).join("tokens");
    std::fs::create_dir(&signed_in).unwrap();
    let token = json!({ "refresh_token": sandboxes[3].sign_in(), "obtained_at": clock.now() });
    std::fs::write(signed_in.join("ukie"), token.to_string()).unwrap();

    let stop = CancellationToken::new();
    let clock: Arc<dyn Clock> = clock;
    let parts = daemon::assemble(&config, &store, &clock, &Kept::new(&*clock, stop)).await.unwrap();
    for part in &parts.partners {
        part.poller.round().await.unwrap();
    }
    let rows = world::rows(
        &config.database,
        "select partner, last_seen_at is not null, coalesce(last_error like '%AADSTS7000215%', 0) from v_customers order by 1",
    )
    .await;
    assert_eq!(rows[1..], ["apac | 1 | 0", "emea | 1 | 0", "ukie | 1 | 0"]);
    assert!(rows[0].starts_with("amer | 0"), "{rows:?}");
    for sandbox in &sandboxes {
        assert_eq!(sandbox.count(Kind::Token), 1, "each asks its own login server, once");
        assert_eq!(sandbox.violations(), []);
    }
}
