//! The questions, one after the other; each answer is judged and tried before the next.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::args::{Chat, Kind};
use super::ask::Asker;
use super::draft::{
    CERTIFICATE, CHAT_SECRET, CHAT_URL, CLIENT_SECRET, Draft, PRIVATE_KEY, SMTP_CLIENT_SECRET, SMTP_PASSWORD,
};
use super::place::Place;
use super::{UNCHANGED, addresses, entra, read_secret};
use crate::cli::connectivity_check::{self, Step};
use crate::cli::{Context, Exit, Failure};
use crate::config::Config;

pub(super) struct Wizard<'c> {
    pub(super) context: &'c Context,
    pub(super) asker: Asker,
    pub(super) place: Place,
    pub(super) draft: Draft,
    /// The steps tried so far.
    pub(super) steps: Vec<Step>,
    pub(super) tries: bool,
}

impl Wizard<'_> {
    /// Judges what is never asked for.
    pub(super) fn settle_options(&self) -> Result<(), Failure> {
        let keys = ["partner[0].name", "partner[0].cloud", "partner[0].api_url", "partner[0].login_url", "database"];
        let (problems, _) = self.draft.judge(&self.place, &keys);
        if problems.is_empty() { Ok(()) } else { Asker::SILENT.refuse(problems) }
    }

    /// Without a terminal: every missing answer at once, then every bad one.
    pub(super) fn complete(&mut self) -> Result<(), Failure> {
        for name in [CLIENT_SECRET, SMTP_PASSWORD, SMTP_CLIENT_SECRET, CHAT_URL] {
            if self.draft.secret(name).is_none()
                && let Some(text) = self.place.existing(name)
            {
                self.draft.set_secret(name, text);
            }
        }
        let draft = &mut self.draft;
        draft.credential.get_or_insert(Kind::ClientSecret);
        draft.chat.get_or_insert(Chat::None);
        draft.timezone.get_or_insert_with(local_timezone);
        draft.drop_unused_logins();
        let draft = &self.draft;
        let no_secret = |name| draft.secret(name).is_none();
        let kind = |kind| draft.credential == Some(kind);
        let missing: Vec<String> = [
            ("--tenant", draft.tenant.is_none()),
            ("--client-id", draft.client_id.is_none()),
            ("--client-secret-file", kind(Kind::ClientSecret) && no_secret(CLIENT_SECRET)),
            ("--certificate-file", kind(Kind::Certificate) && no_secret(CERTIFICATE)),
            ("--federated-token-file", kind(Kind::WorkloadIdentity) && draft.federated_token_file.is_none()),
            ("--smtp-host", draft.smtp_host.is_none()),
            (
                "--smtp-password-file",
                draft.smtp_username.is_some() && draft.smtp_client_id.is_none() && no_secret(SMTP_PASSWORD),
            ),
            ("--smtp-username", draft.smtp_username.is_none() && draft.smtp_client_id.is_some()),
            (
                "--smtp-client-secret-file",
                draft.smtp_client_id.is_some() && !draft.sends_and_reads() && no_secret(SMTP_CLIENT_SECRET),
            ),
            ("--from", draft.from.is_none()),
            ("--to", draft.to.is_empty()),
            ("--operators", draft.operators.is_empty()),
            ("--chat-url-file", draft.chat().is_some() && no_secret(CHAT_URL)),
        ]
        .into_iter()
        .filter(|(_, is_missing)| *is_missing)
        .map(|(option, _)| option.to_owned())
        .collect();
        if !missing.is_empty() {
            return Err(Failure::new(Exit::Usage, "answers are missing, and there is no terminal to ask at")
                .listing(missing)
                .advise(
                    "give them as options (`vetwatch init --help`), or run `vetwatch init` at a terminal; \
                     `vetwatch init --entra-commands` prints how to register the application",
                ));
        }
        self.sign_webhook()?;
        let (problems, _) = self.draft.judge(&self.place, &[""]);
        if problems.is_empty() { Ok(()) } else { self.asker.refuse(problems) }
    }

    pub(super) async fn tenant(&mut self) -> Result<(), Failure> {
        let mut again = false;
        loop {
            let question = "Your partner tenant: its domain (contoso.onmicrosoft.com) or its GUID";
            self.draft.tenant = Some(self.required(self.draft.tenant.as_deref(), again, question, None)?);
            again = true;
            if !self.accepts(&["partner[0].tenant", "partner[0].name"])? {
                continue;
            }
            if !self.tries {
                break;
            }
            let config = self.config()?;
            let Some(partner) = config.partners.first() else { continue };
            let steps = connectivity_check::try_tenant(self.context, partner).await?;
            if self.passed(steps)? {
                break;
            }
        }
        again = false;
        loop {
            let (given, usual) = (self.draft.partner.clone(), self.draft.partner_name().to_owned());
            let question = "A short name for it in messages and tables, which stays";
            self.draft.partner = Some(self.required(given.as_deref(), again, question, Some(&usual))?);
            again = true;
            if self.accepts(&["partner[0].name"])? {
                return Ok(());
            }
        }
    }

    pub(super) async fn application(&mut self) -> Result<(), Failure> {
        let mut again = false;
        loop {
            let usual = self.draft.credential.unwrap_or(Kind::ClientSecret);
            let question =
                "The application's credential: client-secret, certificate, managed-identity or workload-identity";
            self.draft.credential = Some(self.choice(self.draft.credential, again, question, usual)?);
            self.client_id(again)?;
            match self.draft.credential {
                Some(Kind::Certificate) => self.certificate(again)?,
                Some(Kind::ManagedIdentity) => {
                    let question = "The client id of the machine's user-assigned identity (Enter alone: Azure chooses)";
                    let given = self.draft.managed_identity_client_id.clone();
                    self.draft.managed_identity_client_id = self.optional(given, again, question)?;
                }
                Some(Kind::WorkloadIdentity) => {
                    let question = "The file into which the platform writes its token";
                    let given = self.draft.federated_token_file.as_ref().map(|path| path.display().to_string());
                    self.draft.federated_token_file =
                        Some(self.required(given.as_deref(), again, question, None)?.into());
                }
                _ => self.client_secret(again)?,
            }
            again = true;
            if !self.accepts(&["partner[0].client_id", "partner[0].credential"])? {
                continue;
            }
            if !self.tries {
                return Ok(());
            }
            let config = self.config()?;
            let Some(partner) = config.partners.first() else { continue };
            let steps = connectivity_check::try_partner(self.context, partner).await?;
            if self.passed(steps)? {
                return Ok(());
            }
        }
    }

    /// Shows how to register the application as long as there is no client id.
    fn client_id(&mut self, again: bool) -> Result<(), Failure> {
        while again || self.draft.client_id.is_none() {
            let question = "The application's client id (Enter alone: how to register an application)";
            let default = self.draft.client_id.clone();
            if let Some(answer) = Asker::line(question, default.as_deref())? {
                self.draft.client_id = Some(answer);
                break;
            }
            let (tenant, kind) = (self.draft.tenant.as_deref().unwrap_or_default(), self.draft.credential);
            let issuer = self.steps.iter().rev().find_map(Step::issuer);
            let commands = entra::commands(tenant, kind.unwrap_or(Kind::ClientSecret), self.draft.cloud, issuer);
            self.asker.say("");
            self.asker.say("Run this where the Azure CLI is, such as Azure's Cloud Shell, and come back:");
            self.asker.say("");
            commands.lines().for_each(|line| self.asker.say(line));
            self.asker.say("");
        }
        Ok(())
    }

    fn client_secret(&mut self, again: bool) -> Result<(), Failure> {
        self.hidden(CLIENT_SECRET, again, "The client secret's value")?;
        let question = "The day on which it ends, such as 2027-01-31 (Enter alone: unknown)";
        let mut again = again;
        loop {
            self.draft.client_secret_expires =
                self.optional(self.draft.client_secret_expires.clone(), again, question)?;
            if self.accepts(&["partner[0].credential.client_secret_expires"])? {
                return Ok(());
            }
            // A day that is none is not offered again.
            self.draft.client_secret_expires = None;
            again = true;
        }
    }

    fn certificate(&mut self, again: bool) -> Result<(), Failure> {
        while again || self.draft.secret(CERTIFICATE).is_none() {
            let file = self.required(None, true, "The certificate's file (PEM)", None)?;
            let key = self.optional(None, true, "Its key's file (Enter alone: in the same)")?;
            let read = read_secret(Path::new(&file))
                .and_then(|certificate| Ok((certificate, key.map(|key| read_secret(Path::new(&key))).transpose()?)));
            match read {
                Ok((certificate, key)) => {
                    self.draft.set_secret(CERTIFICATE, certificate);
                    self.draft.drop_secret(PRIVATE_KEY);
                    if let Some(key) = key {
                        self.draft.set_secret(PRIVATE_KEY, key);
                    }
                    break;
                }
                Err(failure) => self.asker.say(&format!("  {}", failure.message())),
            }
        }
        Ok(())
    }

    pub(super) fn addresses(&mut self) -> Result<(), Failure> {
        let mut again = false;
        loop {
            self.draft.from = Some(self.required(self.draft.from.as_deref(), again, "The mails' sender", None)?);
            again = true;
            if self.accepts(&["endpoint[0].from"])? {
                break;
            }
        }
        again = false;
        loop {
            let given = joined(&self.draft.to);
            let question = "Who gets the verdicts (addresses, with commas)";
            self.draft.to = addresses(&self.required(given.as_deref(), again, question, None)?);
            again = true;
            if self.accepts(&["endpoint[0].to"])? {
                break;
            }
        }
        again = false;
        loop {
            let (given, usual) = (joined(&self.draft.operators), joined(&self.draft.to));
            let question = "Who is told about trouble with vetwatch itself";
            self.draft.operators = addresses(&self.required(given.as_deref(), again, question, usual.as_deref())?);
            again = true;
            if self.accepts(&["endpoint[1].to"])? {
                return Ok(());
            }
        }
    }

    pub(super) fn chat(&mut self) -> Result<(), Failure> {
        let mut again = false;
        loop {
            let question = "Also tell a chat or a webhook: teams, slack, webhook or none";
            let usual = self.draft.chat.unwrap_or(Chat::None);
            self.draft.chat = Some(self.choice(self.draft.chat, again, question, usual)?);
            if self.draft.chat().is_none() {
                self.draft.drop_secret(CHAT_URL);
                return Ok(());
            }
            self.hidden(CHAT_URL, again, "Its URL")?;
            self.sign_webhook()?;
            again = true;
            if self.accepts(&["endpoint[2]"])? {
                return Ok(());
            }
        }
    }

    /// A webhook's messages are signed: with the secret that is there, or a new one.
    fn sign_webhook(&mut self) -> Result<(), Failure> {
        if self.draft.chat != Some(Chat::Webhook) {
            self.draft.drop_secret(CHAT_SECRET);
        } else if self.draft.secret(CHAT_SECRET).is_none() {
            let mut key = [0; 32];
            let no_numbers = |_| Failure::new(Exit::Failed, "the system has no random numbers to make a key of");
            let secret = if let Some(secret) = self.place.existing(CHAT_SECRET) {
                secret
            } else {
                SystemRandom::new().fill(&mut key).map_err(no_numbers)?;
                format!("whsec_{}", BASE64_STANDARD.encode(key)).into()
            };
            self.draft.set_secret(CHAT_SECRET, secret);
        }
        Ok(())
    }

    pub(super) fn timezone(&mut self) -> Result<(), Failure> {
        let mut again = false;
        loop {
            let (given, usual) = (self.draft.timezone.clone(), local_timezone());
            let question = "The time zone of mails and of working days";
            self.draft.timezone = Some(self.required(given.as_deref(), again, question, Some(&usual))?);
            again = true;
            if self.accepts(&["schedule.timezone"])? {
                return Ok(());
            }
        }
    }

    pub(super) fn config(&self) -> Result<Config, Failure> {
        self.draft.config(&self.place).map_err(|problems| {
            Failure::new(Exit::Usage, "an answer cannot be used")
                .listing(problems.iter().map(ToString::to_string))
                .advise(UNCHANGED)
        })
    }

    /// True if the configuration takes the answers below `keys`.
    pub(super) fn accepts(&self, keys: &[&str]) -> Result<bool, Failure> {
        let (problems, doubts) = self.draft.judge(&self.place, keys);
        for doubt in doubts {
            self.asker.say(&format!("  warning: {doubt}"));
        }
        if problems.is_empty() {
            return Ok(true);
        }
        self.asker.refuse(problems)?;
        Ok(false)
    }

    /// True if every step succeeded. Without a terminal a failure is the end.
    pub(super) fn passed(&mut self, steps: Vec<Step>) -> Result<bool, Failure> {
        let end = connectivity_check::end(&steps);
        self.steps.extend(steps);
        match end {
            Ok(_) => Ok(true),
            Err(failure) if self.asker.asks => {
                let advice = failure.advice.unwrap_or_default();
                self.asker.say(&format!("  {advice}. Once more, or Ctrl-C:"));
                // What failed is tried again.
                self.steps.retain(Step::is_ok);
                Ok(false)
            }
            Err(failure) => {
                let advice = failure.advice.clone().unwrap_or_default();
                Err(failure.advise(format!("{advice}; {UNCHANGED}")))
            }
        }
    }
}

/// Asking, by what kind of answer is wanted.
impl Wizard<'_> {
    /// An answer that there must be.
    pub(super) fn required(
        &self,
        given: Option<&str>,
        again: bool,
        question: &str,
        usual: Option<&str>,
    ) -> Result<String, Failure> {
        if let Some(given) = given.filter(|_| !again || !self.asker.asks) {
            return Ok(given.to_owned());
        }
        if !self.asker.asks {
            // What must be given was looked for before.
            return Ok(usual.unwrap_or_default().to_owned());
        }
        loop {
            if let Some(answer) = Asker::line(question, given.or(usual))? {
                return Ok(answer);
            }
        }
    }

    pub(super) fn optional(
        &self,
        given: Option<String>,
        again: bool,
        question: &str,
    ) -> Result<Option<String>, Failure> {
        if !self.asker.asks || (given.is_some() && !again) {
            return Ok(given);
        }
        Asker::line(question, given.as_deref())
    }

    fn choice<T: clap::ValueEnum + Copy>(
        &self,
        given: Option<T>,
        again: bool,
        question: &str,
        usual: T,
    ) -> Result<T, Failure> {
        if let Some(given) = given.filter(|_| !again || !self.asker.asks) {
            return Ok(given);
        }
        let usual = usual.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        loop {
            let answer = self.required(None, true, question, Some(&usual))?;
            match T::from_str(&answer, true) {
                Ok(choice) => return Ok(choice),
                Err(_) => self.asker.say(&format!("  {answer} is none of them")),
            }
        }
    }

    /// A secret that there must be: given, there already, or typed.
    pub(super) fn hidden(&mut self, name: &'static str, again: bool, question: &str) -> Result<(), Failure> {
        if !self.asker.asks || (self.draft.secret(name).is_some() && !again) {
            return Ok(());
        }
        let existing = self.place.existing(name);
        let question = match (&existing, self.draft.secret(name)) {
            (_, Some(_)) => format!("{question} (Enter alone: as before)"),
            (Some(_), None) => format!("{question} (Enter alone: the one in {})", self.place.file_of(name).display()),
            (None, None) => question.to_owned(),
        };
        loop {
            if let Some(answer) = Asker::secret(&question)? {
                self.draft.set_secret(name, answer);
            } else if self.draft.secret(name).is_none()
                && let Some(existing) = &existing
            {
                self.draft.set_secret(name, existing.clone());
            }
            if self.draft.secret(name).is_some() {
                return Ok(());
            }
        }
    }
}

fn joined(addresses: &[String]) -> Option<String> {
    (!addresses.is_empty()).then(|| addresses.join(", "))
}

/// This machine's time zone, or UTC.
fn local_timezone() -> String {
    let link = fs::read_link("/etc/localtime").ok();
    let linked = link.and_then(|path| Some(path.to_str()?.split_once("zoneinfo/")?.1.to_owned()));
    let named = || fs::read_to_string("/etc/timezone").ok().map(|text| text.trim().to_owned());
    let zone = linked.or_else(named).filter(|zone| zone.parse::<chrono_tz::Tz>().is_ok() && !zone.starts_with("Etc/"));
    zone.unwrap_or_else(|| "UTC".to_owned())
}
