//! The answers so far, and the configuration that they make. What is not answered yet has a stand-in, so that each
//! answer is judged by the configuration's own rules when it is given.

use std::path::{Path, PathBuf};

use minijinja::{Environment, UndefinedBehavior};
use secrecy::SecretString;
use serde::Serialize;

use super::args::{Chat, Cloud, Kind, Tls};
use super::place::Place;
use crate::config::{self, Config, CredentialDirs, Problem};
use crate::text;

const TEMPLATE: &str = include_str!("vetwatch.toml.j2");

/// The files of secrets, by their names in the directory of credentials.
pub(super) const CLIENT_SECRET: &str = "client-secret";
pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const PRIVATE_KEY: &str = "private-key.pem";
pub(super) const SMTP_PASSWORD: &str = "smtp-password";
pub(super) const SMTP_CLIENT_SECRET: &str = "smtp-client-secret";
pub(super) const CHAT_URL: &str = "chat-url";
pub(super) const CHAT_SECRET: &str = "webhook-signing-secret";

/// The answers; `None` is not answered.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub partner: Option<String>,
    pub tenant: Option<String>,
    pub client_id: Option<String>,
    pub credential: Option<Kind>,
    pub client_secret_expires: Option<String>,
    pub managed_identity_client_id: Option<String>,
    pub federated_token_file: Option<PathBuf>,
    pub cloud: Option<Cloud>,
    pub api_url: Option<String>,
    pub login_url: Option<String>,
    pub imds_url: Option<String>,
    pub smtp_host: Option<String>,
    pub smtp_port: Option<u16>,
    pub smtp_tls: Option<Tls>,
    pub smtp_ca_file: Option<PathBuf>,
    pub smtp_username: Option<String>,
    /// Of the application that sends, where passwords are not taken.
    pub smtp_client_id: Option<String>,
    pub from: Option<String>,
    pub to: Vec<String>,
    pub operators: Vec<String>,
    pub chat: Option<Chat>,
    pub timezone: Option<String>,
    pub database: Option<String>,
    /// Contents by file name; the files are written last.
    pub secrets: Vec<(&'static str, SecretString)>,
}

/// What the template shows.
#[derive(Serialize)]
struct Page<'a> {
    database: Option<&'a str>,
    backups: String,
    partner: &'a str,
    tenant: &'a str,
    client_id: &'a str,
    cloud: Option<Cloud>,
    api_url: Option<&'a str>,
    login_url: Option<&'a str>,
    credential: Kind,
    client_secret: String,
    client_secret_expires: Option<&'a str>,
    certificate: String,
    private_key: Option<String>,
    managed_identity_client_id: Option<&'a str>,
    imds_url: Option<&'a str>,
    federated_token: &'a Path,
    timezone: &'a str,
    is_rehearsal: bool,
    smtp_host: &'a str,
    smtp_port: u16,
    smtp_tls: Tls,
    smtp_username: Option<&'a str>,
    smtp_password: String,
    smtp_client_id: Option<&'a str>,
    smtp_client_secret: String,
    smtp_ca_file: Option<&'a Path>,
    from: &'a str,
    to: Vec<&'a str>,
    operators: Vec<&'a str>,
    chat: Option<Chat>,
    chat_url: String,
    chat_secret: String,
}

impl Draft {
    pub(super) fn secret(&self, name: &str) -> Option<&SecretString> {
        self.secrets.iter().find(|(known, _)| *known == name).map(|(_, text)| text)
    }

    pub(super) fn set_secret(&mut self, name: &'static str, text: SecretString) {
        self.drop_secret(name);
        self.secrets.push((name, text));
    }

    pub(super) fn drop_secret(&mut self, name: &str) {
        self.secrets.retain(|(known, _)| *known != name);
    }

    /// Drops the secrets of logins that are not used.
    pub(super) fn drop_unused_logins(&mut self) {
        if self.smtp_username.is_none() || self.smtp_client_id.is_some() {
            self.drop_secret(SMTP_PASSWORD);
        }
        if self.smtp_client_id.is_none() || self.sends_and_reads() {
            self.drop_secret(SMTP_CLIENT_SECRET);
        }
    }

    /// The partner's name: given, or the first part of the tenant's domain.
    pub(super) fn partner_name(&self) -> &str {
        let domain = self.tenant.as_deref().and_then(|tenant| Some(tenant.split_once('.')?.0));
        self.partner.as_deref().or(domain.filter(|name| !name.is_empty())).unwrap_or("main")
    }

    pub(super) fn chat(&self) -> Option<Chat> {
        self.chat.filter(|chat| *chat != Chat::None)
    }

    /// True if one application reads Partner Center and sends the mails: its proof is the same.
    pub(super) fn sends_and_reads(&self) -> bool {
        self.smtp_client_id.is_some() && self.smtp_client_id == self.client_id
    }

    /// True for a Partner Center on this machine.
    fn is_rehearsal(&self) -> bool {
        let url = self.api_url.as_deref().and_then(|url| url::Url::parse(url).ok());
        url.is_some_and(|url| crate::delivery::egress_policy::is_loopback(&url))
    }

    /// The text of the configuration.
    pub(super) fn render(&self, place: &Place) -> String {
        let or_stand_in = |answer: &'_ [String]| -> Vec<String> {
            if answer.is_empty() { vec![STAND_IN_ADDRESS.to_owned()] } else { answer.to_vec() }
        };
        let (to, operators) = (or_stand_in(&self.to), or_stand_in(&self.operators));
        let credential = self.credential.filter(|kind| self.has_what(*kind)).unwrap_or(Kind::ClientSecret);
        let tls = self.smtp_tls.unwrap_or(Tls::Starttls);
        let page = Page {
            database: self.database.as_deref(),
            backups: self.backups(),
            partner: self.partner_name(),
            tenant: self.tenant.as_deref().unwrap_or("contoso.onmicrosoft.com"),
            client_id: self.client_id.as_deref().unwrap_or("00000000-0000-0000-0000-000000000000"),
            cloud: self.cloud.filter(|cloud| *cloud != Cloud::Commercial),
            api_url: self.api_url.as_deref(),
            login_url: self.login_url.as_deref(),
            credential,
            client_secret: place.key_of(CLIENT_SECRET),
            client_secret_expires: self.client_secret_expires.as_deref(),
            certificate: place.key_of(CERTIFICATE),
            private_key: self.secret(PRIVATE_KEY).map(|_| place.key_of(PRIVATE_KEY)),
            managed_identity_client_id: self.managed_identity_client_id.as_deref(),
            imds_url: self.imds_url.as_deref(),
            federated_token: self.federated_token_file.as_deref().unwrap_or(Path::new("")),
            timezone: self.timezone.as_deref().unwrap_or("UTC"),
            is_rehearsal: self.is_rehearsal(),
            smtp_host: self.smtp_host.as_deref().unwrap_or("localhost"),
            smtp_port: self.smtp_port.unwrap_or(if tls == Tls::Implicit { 465 } else { 587 }),
            smtp_tls: tls,
            smtp_username: self.smtp_username.as_deref(),
            smtp_password: place.key_of(SMTP_PASSWORD),
            smtp_client_id: self.smtp_client_id.as_deref(),
            smtp_client_secret: place.key_of(if self.sends_and_reads() { CLIENT_SECRET } else { SMTP_CLIENT_SECRET }),
            smtp_ca_file: self.smtp_ca_file.as_deref(),
            from: self.from.as_deref().unwrap_or(STAND_IN_ADDRESS),
            to: to.iter().map(String::as_str).collect(),
            operators: operators.iter().map(String::as_str).collect(),
            chat: self.chat().filter(|_| self.secret(CHAT_URL).is_some()),
            chat_url: place.key_of(CHAT_URL),
            chat_secret: place.key_of(CHAT_SECRET),
        };
        render(&page).expect("the template fits its page")
    }

    /// The directory of the backups: beside the database.
    fn backups(&self) -> String {
        let database = self.database.as_ref().map_or(config::default_database(), Path::new);
        database.with_file_name("backups").display().to_string()
    }

    /// True if the credential's own answer is there.
    fn has_what(&self, kind: Kind) -> bool {
        match kind {
            Kind::ClientSecret | Kind::ManagedIdentity => true,
            Kind::Certificate => self.secret(CERTIFICATE).is_some(),
            Kind::WorkloadIdentity => self.federated_token_file.is_some(),
        }
    }

    /// The configuration that these answers make, or what is wrong with them.
    pub(super) fn config(&self, place: &Place) -> Result<Config, Vec<Problem>> {
        let mut dirs = CredentialDirs::from_env();
        let secrets = self.secrets.iter().map(|(name, text)| (place.key_of(name), text.clone()));
        dirs.drafts = secrets.collect();
        for name in [CLIENT_SECRET, SMTP_PASSWORD, SMTP_CLIENT_SECRET] {
            if self.secret(name).is_none() {
                dirs.drafts.push((place.key_of(name), "not answered yet".into()));
            }
        }
        Config::parse(&place.config, &self.render(place), &dirs).map_err(|found| found.problems)
    }

    /// What is wrong below one of `keys`, and what is doubtful.
    pub(super) fn judge(&self, place: &Place, keys: &[&str]) -> (Vec<String>, Vec<String>) {
        let (problems, warnings) = match self.config(place) {
            Ok(config) => (Vec::new(), config.warnings),
            Err(problems) => (problems, Vec::new()),
        };
        let of = |found: Vec<Problem>| {
            let below = |path: &str| keys.iter().any(|key| path.starts_with(key));
            let lines = found.iter().filter(|problem| below(&problem.path));
            lines.map(|problem| text::terminal(&problem.to_string()).into_owned()).collect()
        };
        (of(problems), of(warnings))
    }
}

const STAND_IN_ADDRESS: &str = "vetwatch@contoso.example";

fn render(page: &Page<'_>) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The library's own writer: no answer can end a string and begin something else.
    environment.add_filter("toml", |value: minijinja::Value| {
        toml::Value::try_from(&value)
            .map(|value| value.to_string())
            .map_err(|error| minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, error.to_string()))
    });
    environment.render_str(TEMPLATE, minijinja::Value::from(minijinja::value::Serde(page))).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place() -> Place {
        Place::new(Path::new("/etc/vetwatch/vetwatch.toml"), None)
    }

    fn full() -> Draft {
        Draft {
            tenant: Some("fabrikam.onmicrosoft.com".into()),
            client_id: Some("8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22".into()),
            credential: Some(Kind::ClientSecret),
            client_secret_expires: Some("2099-01-31".into()),
            smtp_host: Some("smtp.fabrikam.example".into()),
            smtp_port: Some(587),
            smtp_tls: Some(Tls::Starttls),
            smtp_username: Some("vetwatch".into()),
            from: Some("Vetting <vetwatch@fabrikam.example>".into()),
            to: vec!["sales@fabrikam.example".into(), "more@fabrikam.example".into()],
            operators: vec!["it@fabrikam.example".into()],
            chat: Some(Chat::Webhook),
            timezone: Some("Europe/Amsterdam".into()),
            secrets: vec![
                (CLIENT_SECRET, "the-client-secret".into()),
                (SMTP_PASSWORD, "the-password".into()),
                (CHAT_URL, "https://crm.fabrikam.example/the-url".into()),
                (CHAT_SECRET, "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u".into()),
            ],
            ..Draft::default()
        }
    }

    #[test]
    fn the_file_is_short_and_readable_and_leaves_no_doubt() {
        let draft = full();
        let config = draft.config(&place()).unwrap();
        assert_eq!(config.warnings, []);
        let text = draft.render(&place());
        assert!(!text.contains("the-"), "no secret: {text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn every_credential_and_chat_makes_a_configuration() {
        let app = include_str!("../../../tests/data/certificates/app.pem");
        for kind in [Kind::ClientSecret, Kind::Certificate, Kind::ManagedIdentity, Kind::WorkloadIdentity] {
            for chat in [None, Some(Chat::None), Some(Chat::Teams), Some(Chat::Slack), Some(Chat::Webhook)] {
                for rehearses in [false, true] {
                    let mut draft = Draft { credential: Some(kind), chat, ..full() };
                    draft.set_secret(CERTIFICATE, app.into());
                    draft.managed_identity_client_id = Some("8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22".into());
                    let token = tempfile::NamedTempFile::new().unwrap();
                    std::fs::write(token.path(), "eyJ.a.b").unwrap();
                    draft.federated_token_file = Some(token.path().to_owned());
                    let url = rehearses.then(|| "http://127.0.0.1:8765/".to_owned());
                    (draft.api_url, draft.login_url, draft.imds_url) = (url.clone(), url.clone(), url);
                    draft.database = rehearses.then(|| "vetwatch.db".to_owned());
                    let place = Place::new(Path::new("/home/me/vetwatch.toml"), None);
                    let problems = draft.config(&place).err();
                    assert!(problems.is_none(), "{kind:?} {chat:?}: {problems:?}\n{}", draft.render(&place));
                }
            }
        }
    }

    #[test]
    fn exchange_online_gets_an_application_in_place_of_a_password() {
        let app = include_str!("../../../tests/data/certificates/app.pem");
        let other = "11111111-2222-4333-8444-555555555555";
        for kind in [Kind::ClientSecret, Kind::Certificate, Kind::ManagedIdentity] {
            for sender in [full().client_id.unwrap().as_str(), other] {
                let mut draft = Draft { credential: Some(kind), smtp_client_id: Some(sender.into()), ..full() };
                draft.managed_identity_client_id = Some(other.into());
                draft.set_secret(CERTIFICATE, app.into());
                draft.set_secret(SMTP_CLIENT_SECRET, "the-senders-secret".into());
                draft.smtp_host = Some("smtp.office365.com".into());
                let config = draft.config(&place());
                assert!(config.is_ok(), "{kind:?} {sender}: {config:?}");
                assert_eq!(config.unwrap().warnings, [], "{kind:?} {sender}");
                let text = draft.render(&place());
                assert!(!text.contains("smtp-password") && text.contains("[smtp.office.oauth]"), "{text}");
            }
        }
    }

    #[test]
    fn before_anything_is_answered_the_stand_ins_are_good() {
        assert!(Draft::default().config(&place()).is_ok());
    }

    proptest! {
        /// Whatever is answered stands in its key, and nowhere else.
        #[test]
        fn no_answer_breaks_out_of_its_string(answer in "\\PC{0,20}|[\"'\\\\\n\r\t\u{0}#=\\[\\]]{0,20}") {
            let mut draft = full();
            (draft.tenant, draft.from) = (Some(answer.clone()), Some(answer.clone()));
            draft.to = vec![answer.clone()];
            draft.smtp_username = Some(answer.clone());
            draft.partner = Some("p".into());
            let table: toml::Table = draft.render(&place()).parse().expect("TOML");
            prop_assert_eq!(table["partner"][0]["tenant"].as_str(), Some(answer.as_str()));
            prop_assert_eq!(table["endpoint"][0]["from"].as_str(), Some(answer.as_str()));
            prop_assert_eq!(table["endpoint"][0]["to"][0].as_str(), Some(answer.as_str()));
            let keys: Vec<_> = table.keys().map(String::as_str).collect();
            prop_assert_eq!(keys, ["backup", "database", "endpoint", "operators", "partner", "route", "schedule", "smtp", "web"]);
        }
    }
}
