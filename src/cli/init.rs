//! `vetwatch init`: asks for what the configuration needs, tries each answer, writes the files, and sends a test.
//!
//! Nothing is written before the last answer: until then every answer is in memory, and Ctrl-C leaves nothing behind.

mod args;
mod ask;
mod draft;
mod entra;
mod place;

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::SecretString;
use serde_json::json;

pub(super) use self::args::Args;
use self::args::{Chat, Kind, Tls};
use self::ask::Asker;
use self::draft::{CERTIFICATE, CHAT_SECRET, CHAT_URL, CLIENT_SECRET, Draft, PRIVATE_KEY, SMTP_PASSWORD};
use self::place::Place;
use crate::cli::connectivity_check::{self, Step};
use crate::cli::{Context, Exit, Failure, run, test_send};
use crate::config::{Config, EndpointKind};
use crate::daemon::Signals;
use crate::delivery::email::EmailSettings;
use crate::instance_lock;

/// The operators' mailbox gets the test; the others are not told of a rehearsal.
const TESTED: &str = "ops-mail";
/// Larger than any key or certificate.
const SECRET_MAX_BYTES: u64 = 64 * 1024;
const UNCHANGED: &str = "nothing was written";

pub(super) async fn init(context: &Context, args: Args) -> Result<Exit, Failure> {
    if args.entra_commands {
        return print_commands(context, &args);
    }
    let place = Place::new(&context.config_path, args.database.as_deref());
    place.check(args.force)?;
    let draft = given(&args, &place)?;
    let asker = Asker::new(context.json);
    let mut wizard = Wizard { context, asker, place, draft, steps: Vec::new(), tries: !args.no_check };
    wizard.settle_options()?;
    if wizard.asker.asks {
        wizard.asker.say(&format!(
            "This writes {}. Enter alone takes what is in brackets; Ctrl-C ends, and nothing is written.",
            wizard.place.config.display()
        ));
    } else {
        wizard.complete()?;
    }
    wizard.tenant().await?;
    wizard.application().await?;
    wizard.mail_server(&args).await?;
    wizard.addresses()?;
    wizard.chat()?;
    wizard.timezone()?;
    wizard.finish().await
}

/// The answers on the command line.
fn given(args: &Args, place: &Place) -> Result<Draft, Failure> {
    let files = [&args.client_secret_file, &args.smtp_password_file, &args.chat_url_file];
    if files.into_iter().flatten().filter(|file| *file == Path::new("-")).count() > 1 {
        return Err(Failure::new(Exit::Usage, "only one secret can come from stdin")
            .advise("put the others into files, and delete those afterwards"));
    }
    let credential = args.credential.or(match args {
        _ if args.certificate_file.is_some() => Some(Kind::Certificate),
        _ if args.managed_identity_client_id.is_some() => Some(Kind::ManagedIdentity),
        _ if args.federated_token_file.is_some() => Some(Kind::WorkloadIdentity),
        _ if args.client_secret_file.is_some() => Some(Kind::ClientSecret),
        _ => None,
    });
    // Another directory than the configuration's would be meant otherwise.
    let absolute = |path: &std::path::PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let mut draft = Draft {
        partner: args.partner.clone(),
        tenant: args.tenant.clone(),
        client_id: args.client_id.clone(),
        credential,
        client_secret_expires: args.client_secret_expires.clone(),
        managed_identity_client_id: args.managed_identity_client_id.clone(),
        federated_token_file: args.federated_token_file.as_ref().map(absolute),
        cloud: args.cloud,
        api_url: args.api_url.clone(),
        login_url: args.login_url.clone(),
        imds_url: args.imds_url.clone(),
        smtp_host: args.smtp_host.clone(),
        smtp_port: args.smtp_port,
        smtp_tls: args.smtp_tls,
        smtp_ca_file: args.smtp_ca_file.as_ref().map(absolute),
        smtp_username: args.smtp_username.clone(),
        from: args.from.clone(),
        to: args.to.iter().flat_map(|text| addresses(text)).collect(),
        operators: args.operators.iter().flat_map(|text| addresses(text)).collect(),
        chat: args.chat,
        timezone: args.timezone.clone(),
        database: match &args.database {
            Some(path) => Some(path.display().to_string()),
            None if place.is_the_services => None,
            None => Some("vetwatch.db".to_owned()),
        },
        secrets: Vec::new(),
    };
    for (name, file) in [
        (CLIENT_SECRET, &args.client_secret_file),
        (CERTIFICATE, &args.certificate_file),
        (PRIVATE_KEY, &args.private_key_file),
        (SMTP_PASSWORD, &args.smtp_password_file),
        (CHAT_URL, &args.chat_url_file),
    ] {
        if let Some(file) = file {
            draft.set_secret(name, read_secret(file)?);
        }
    }
    Ok(draft)
}

/// Reads a secret from a file, or from stdin.
fn read_secret(file: &Path) -> Result<SecretString, Failure> {
    let failed = |why: String| {
        let exit = Exit::Usage;
        Failure::new(exit, format!("cannot read the secret in {}", file.display())).because(why).advise(UNCHANGED)
    };
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(SECRET_MAX_BYTES).read_to_string(&mut text)
    } else {
        match fs::metadata(file) {
            Ok(found) if found.is_dir() => return Err(failed("it is a directory".to_owned())),
            _ => fs::File::open(file).and_then(|opened| opened.take(SECRET_MAX_BYTES).read_to_string(&mut text)),
        }
    };
    read.map_err(|error| failed(error.to_string()))?;
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() { Err(failed("it is empty".to_owned())) } else { Ok(text.into()) }
}

fn print_commands(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let tenant = args.tenant.as_deref().unwrap_or("contoso.onmicrosoft.com");
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if tenant.is_empty() || !is_word(tenant) {
        return Err(Failure::new(
            Exit::Usage,
            "--tenant is neither a GUID nor a domain such as contoso.onmicrosoft.com",
        ));
    }
    let commands = entra::commands(tenant, args.credential.unwrap_or(Kind::ClientSecret), args.cloud, None);
    if context.json {
        context.out.json(&json!({"commands": commands.lines().collect::<Vec<_>>()}))?;
    } else {
        context.out.write_exact(&commands)?;
    }
    Ok(Exit::Done)
}

/// Splits at commas.
fn addresses(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect()
}

struct Wizard<'c> {
    context: &'c Context,
    asker: Asker,
    place: Place,
    draft: Draft,
    /// The steps tried so far.
    steps: Vec<Step>,
    tries: bool,
}

impl Wizard<'_> {
    /// Judges what is never asked for.
    fn settle_options(&self) -> Result<(), Failure> {
        let keys = ["partner[0].name", "partner[0].cloud", "partner[0].api_url", "partner[0].login_url", "database"];
        let (problems, _) = self.draft.judge(&self.place, &keys);
        if problems.is_empty() { Ok(()) } else { Asker { asks: false }.refuse(problems) }
    }

    /// Without a terminal: every missing answer at once, then every bad one.
    fn complete(&mut self) -> Result<(), Failure> {
        for name in [CLIENT_SECRET, SMTP_PASSWORD, CHAT_URL] {
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
        if draft.smtp_username.is_none() {
            draft.drop_secret(SMTP_PASSWORD);
        }
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
            ("--smtp-password-file", draft.smtp_username.is_some() && no_secret(SMTP_PASSWORD)),
            ("--from", draft.from.is_none()),
            ("--to", draft.to.is_empty()),
            ("--operators", draft.operators.is_empty()),
            ("--chat-url-file", draft.chat().is_some() && no_secret(CHAT_URL)),
        ]
        .into_iter()
        .filter_map(|(option, is_missing)| is_missing.then(|| option.to_owned()))
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

    async fn tenant(&mut self) -> Result<(), Failure> {
        let mut again = false;
        loop {
            let question = "Your partner tenant: its domain (contoso.onmicrosoft.com) or its GUID";
            self.draft.tenant = Some(self.required(self.draft.tenant.clone(), again, question, None)?);
            again = true;
            if !self.accepts(&["partner[0].tenant", "partner[0].name"])? {
                continue;
            }
            if !self.tries {
                return Ok(());
            }
            let config = self.config()?;
            let Some(partner) = config.partners.first() else { continue };
            let steps = connectivity_check::try_tenant(self.context, partner).await?;
            if self.passed(steps)? {
                return Ok(());
            }
        }
    }

    async fn application(&mut self) -> Result<(), Failure> {
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
                    self.draft.federated_token_file = Some(self.required(given, again, question, None)?.into());
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
            if let Some(answer) = self.ask(default.as_deref(), question)? {
                self.draft.client_id = Some(answer);
                break;
            }
            let (tenant, kind) = (self.draft.tenant.as_deref().unwrap_or_default(), self.draft.credential);
            let issuer = self.steps.iter().rev().find_map(Step::issuer);
            let commands = entra::commands(tenant, kind.unwrap_or(Kind::ClientSecret), self.draft.cloud, issuer);
            self.asker.say("\nRun this where the Azure CLI is, such as Azure's Cloud Shell, and come back:\n");
            commands.lines().for_each(|line| self.asker.say(line));
            self.asker.say("");
        }
        Ok(())
    }

    fn client_secret(&mut self, again: bool) -> Result<(), Failure> {
        self.hidden(CLIENT_SECRET, again, "The client secret's value")?;
        let question = "The day on which it ends, such as 2027-01-31 (Enter alone: unknown)";
        self.draft.client_secret_expires = self.optional(self.draft.client_secret_expires.clone(), again, question)?;
        Ok(())
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

    async fn mail_server(&mut self, args: &Args) -> Result<(), Failure> {
        let (mut port, mut tls) = (args.smtp_port, args.smtp_tls);
        let mut again = false;
        loop {
            if self.asker.asks && (again || self.draft.smtp_host.is_none()) {
                let default = self.draft.smtp_host.clone().map(|host| match self.draft.smtp_port {
                    Some(port) => format!("{host}:{port}"),
                    None => host,
                });
                let answer = self.required(default, true, "The mail server: its host, or host:port", None)?;
                let (host, named) = host_and_port(&answer);
                (self.draft.smtp_host, port) = (Some(host), named.or(port.filter(|_| !again)));
                tls = tls.filter(|_| !again);
            }
            let login = if again { "The login there (- for none)" } else { "The login there (Enter alone: none)" };
            self.draft.smtp_username = self.optional(self.draft.smtp_username.clone(), again, login)?;
            if self.draft.smtp_username.as_deref() == Some("-") {
                self.draft.smtp_username = None;
            }
            if self.draft.smtp_username.is_some() {
                self.hidden(SMTP_PASSWORD, again, "Its password")?;
            } else {
                self.draft.drop_secret(SMTP_PASSWORD);
            }
            if again {
                let question = "Authorities that signed its certificate, a file in PEM (Enter alone: the system's)";
                let given = self.draft.smtp_ca_file.as_ref().map(|path| path.display().to_string());
                self.draft.smtp_ca_file = self.optional(given, again, question)?.map(Into::into);
            }
            again = true;
            (self.draft.smtp_port, self.draft.smtp_tls) = (port, tls);
            if !self.accepts(&["smtp"])? {
                continue;
            }
            self.find_port(port, tls).await?;
            if !self.tries {
                return Ok(());
            }
            let Some(settings) = self.mail_settings()? else { continue };
            let steps = connectivity_check::try_mail(self.context, &settings).await?;
            if self.passed(steps)? {
                return Ok(());
            }
        }
    }

    /// Sets port and encryption to the first pair at which a mail server answers; to the usual one if none does.
    async fn find_port(&mut self, port: Option<u16>, tls: Option<Tls>) -> Result<(), Failure> {
        let host = self.draft.smtp_host.clone().unwrap_or_default();
        let is_here = matches!(&*host, "localhost" | "::1") || host.starts_with("127.");
        let pairs = pairs(port, tls, is_here);
        let mut found = pairs.first().copied();
        if self.tries && pairs.len() > 1 {
            for pair in &pairs {
                (self.draft.smtp_port, self.draft.smtp_tls) = (Some(pair.0), Some(pair.1));
                let settings = self.mail_settings()?;
                if let Some(settings) = settings
                    && connectivity_check::is_mail_server(self.context, &settings).await
                {
                    found = Some(*pair);
                    break;
                }
            }
        }
        if let Some((port, tls)) = found {
            (self.draft.smtp_port, self.draft.smtp_tls) = (Some(port), Some(tls));
        }
        Ok(())
    }

    fn addresses(&mut self) -> Result<(), Failure> {
        let mut again = false;
        loop {
            self.draft.from = Some(self.required(self.draft.from.clone(), again, "The mails' sender", None)?);
            again = true;
            if self.accepts(&["endpoint[0].from"])? {
                break;
            }
        }
        again = false;
        loop {
            let given = joined(&self.draft.to);
            let question = "Who gets the verdicts (addresses, with commas)";
            self.draft.to = addresses(&self.required(given, again, question, None)?);
            again = true;
            if self.accepts(&["endpoint[0].to"])? {
                break;
            }
        }
        again = false;
        loop {
            let (given, usual) = (joined(&self.draft.operators), joined(&self.draft.to));
            let question = "Who is told about trouble with vetwatch itself";
            self.draft.operators = addresses(&self.required(given, again, question, usual.as_deref())?);
            again = true;
            if self.accepts(&["endpoint[1].to"])? {
                return Ok(());
            }
        }
    }

    fn chat(&mut self) -> Result<(), Failure> {
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
            let secret = match self.place.existing(CHAT_SECRET) {
                Some(secret) => secret,
                None => {
                    SystemRandom::new().fill(&mut key).map_err(no_numbers)?;
                    format!("whsec_{}", BASE64_STANDARD.encode(key)).into()
                }
            };
            self.draft.set_secret(CHAT_SECRET, secret);
        }
        Ok(())
    }

    fn timezone(&mut self) -> Result<(), Failure> {
        let mut again = false;
        loop {
            let (given, usual) = (self.draft.timezone.clone(), local_timezone());
            let question = "The time zone of mails and of working days";
            self.draft.timezone = Some(self.required(given, again, question, Some(&usual))?);
            again = true;
            if self.accepts(&["schedule.timezone"])? {
                return Ok(());
            }
        }
    }

    /// Writes everything, sends the test, and shows what to run next.
    async fn finish(mut self) -> Result<Exit, Failure> {
        let (context, place) = (self.context, &self.place);
        if let Err(problems) = self.draft.config(place) {
            let lines = problems.iter().map(ToString::to_string);
            return Err(Failure::new(Exit::Configuration, "the answers make no configuration")
                .listing(lines)
                .advise(UNCHANGED));
        }
        let keep = match self.draft.credential {
            Some(Kind::ClientSecret) => &[CLIENT_SECRET][..],
            Some(Kind::Certificate) => &[CERTIFICATE, PRIVATE_KEY][..],
            _ => &[],
        };
        for name in [CLIENT_SECRET, CERTIFICATE, PRIVATE_KEY] {
            if !keep.contains(&name) {
                self.draft.drop_secret(name);
            }
        }
        // A signal during the writing waits.
        let mut signals = Signals::of_program().map_err(|error| run::without_signals(&error))?;
        let had_one = place.config.exists();
        let files = place.write(&self.draft.render(place), &self.draft.secrets)?;
        if !context.json {
            context.out.line("\nwritten:")?;
            for file in &files {
                context.out.line(&format!("  {}", file.display()))?;
            }
        }
        let option = place.option(&context.config_path);
        let daemon_runs = had_one && instance_lock::daemon_runs(&place.database) == Some(true);
        let (sent, failure) = if daemon_runs || !self.tries {
            (Vec::new(), None)
        } else {
            if !context.json {
                context.out.line("")?;
            }
            let names: Vec<&str> =
                [Some(TESTED), self.draft.chat().map(|chat| name_of(chat))].into_iter().flatten().collect();
            let config = context.config()?;
            tokio::select! {
                tested = test_send::send(context, &config, &names) => {
                    tested.unwrap_or_else(|failure| (Vec::new(), Some(failure)))
                }
                () = signals.next() => {
                    return Err(Failure::new(Exit::Failed, "the test was interrupted")
                        .because("the configuration is written")
                        .advise(format!("`vetwatch {option}test-send --all` sends the test")));
                }
            }
        };
        if context.json {
            context.out.json(&json!({
                "config": place.config, "files": files, "live": self.steps, "tests": sent, "daemon_running": daemon_runs,
            }))?;
        }
        if let Some(failure) = failure {
            let advice = format!(
                "the configuration is written: correct it ({}), and send the test again with `vetwatch {option}test-send --all`",
                place.config.display()
            );
            return Err(failure.advise(advice));
        }
        if !context.json {
            self.show_next(&option, daemon_runs)?;
        }
        Ok(Exit::Done)
    }

    fn show_next(&self, option: &str, daemon_runs: bool) -> Result<(), Failure> {
        let out = &self.context.out;
        let mut next = vec![];
        if daemon_runs {
            out.line("\nA daemon runs with the former configuration; the test waits for the new one.")?;
        }
        next.push(match (option.is_empty(), daemon_runs) {
            (true, true) => "systemctl restart vetwatch".to_owned(),
            (true, false) => "systemctl enable --now vetwatch".to_owned(),
            (false, _) => format!("vetwatch {option}run"),
        });
        next.push(format!("vetwatch {option}status"));
        if daemon_runs || !self.tries {
            next.push(format!("vetwatch {option}test-send {TESTED}"));
        }
        next.push(format!("vetwatch {option}test-send sales-mail"));
        out.line(&format!("\n{}", out.style.heading("Next")))?;
        for command in next {
            out.line(&format!("  {command}"))?;
        }
        if self.draft.chat == Some(Chat::Webhook) {
            let file = self.place.file_of(CHAT_SECRET);
            out.line(&format!(
                "\nThe webhook's receiver checks the signatures with the secret in {}.",
                file.display()
            ))?;
        }
        Ok(())
    }

    fn config(&self) -> Result<Config, Failure> {
        self.draft.config(&self.place).map_err(|problems| {
            Failure::new(Exit::Usage, "an answer cannot be used")
                .listing(problems.iter().map(ToString::to_string))
                .advise(UNCHANGED)
        })
    }

    fn mail_settings(&self) -> Result<Option<EmailSettings>, Failure> {
        let endpoints = self.config()?.endpoints;
        Ok(endpoints.into_iter().find_map(|endpoint| match endpoint.kind {
            EndpointKind::Email(settings) => Some(settings),
            _ => None,
        }))
    }

    /// True if the configuration takes the answers below `keys`.
    fn accepts(&self, keys: &[&str]) -> Result<bool, Failure> {
        let (problems, doubts) = self.draft.judge(&self.place, keys);
        doubts.iter().for_each(|doubt| self.asker.say(&format!("  warning: {doubt}")));
        if problems.is_empty() {
            return Ok(true);
        }
        self.asker.refuse(problems)?;
        Ok(false)
    }

    /// True if every step succeeded. Without a terminal a failure is the end.
    fn passed(&mut self, steps: Vec<Step>) -> Result<bool, Failure> {
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

    fn ask(&self, default: Option<&str>, question: &str) -> Result<Option<String>, Failure> {
        self.asker.line(question, default)
    }

    /// An answer that there must be.
    fn required(
        &self,
        given: Option<String>,
        again: bool,
        question: &str,
        usual: Option<&str>,
    ) -> Result<String, Failure> {
        if let Some(given) = given.as_ref().filter(|_| !again || !self.asker.asks) {
            return Ok(given.clone());
        }
        loop {
            if let Some(answer) = self.ask(given.as_deref().or(usual), question)? {
                return Ok(answer);
            }
        }
    }

    fn optional(&self, given: Option<String>, again: bool, question: &str) -> Result<Option<String>, Failure> {
        if !self.asker.asks || (given.is_some() && !again) {
            return Ok(given);
        }
        self.ask(given.as_deref(), question)
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
    fn hidden(&mut self, name: &'static str, again: bool, question: &str) -> Result<(), Failure> {
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
            if let Some(answer) = self.asker.secret(&question)? {
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

fn name_of(chat: Chat) -> &'static str {
    match chat {
        Chat::None => "",
        Chat::Teams => "teams",
        Chat::Slack => "slack",
        Chat::Webhook => "webhook",
    }
}

/// `smtp.contoso.example:2525`; an IPv6 address has no port here.
fn host_and_port(text: &str) -> (String, Option<u16>) {
    let pair = text.rsplit_once(':').filter(|(host, _)| !host.contains(':'));
    match pair.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?))) {
        Some((host, port)) => (host, Some(port)),
        None => (text.to_owned(), None),
    }
}

/// The pairs of port and encryption to try, the safer ones first.
fn pairs(port: Option<u16>, tls: Option<Tls>, is_here: bool) -> Vec<(u16, Tls)> {
    let all = [(587, Tls::Starttls), (465, Tls::Implicit), (25, Tls::Starttls), (25, Tls::None)];
    let pairs: Vec<(u16, Tls)> = match (port, tls) {
        (Some(port), Some(tls)) => vec![(port, tls)],
        (Some(465), None) => vec![(465, Tls::Implicit), (465, Tls::Starttls), (465, Tls::None)],
        (Some(port), None) => vec![(port, Tls::Starttls), (port, Tls::Implicit), (port, Tls::None)],
        (None, Some(tls)) => all.into_iter().filter(|(_, other)| *other == tls).collect(),
        (None, None) => all.to_vec(),
    };
    // Asked for by name it is judged, and refused with the reason.
    pairs.into_iter().filter(|(_, other)| is_here || tls.is_some() || *other != Tls::None).collect()
}

/// This machine's time zone, or UTC.
fn local_timezone() -> String {
    let link = fs::read_link("/etc/localtime").ok();
    let linked = link.and_then(|path| Some(path.to_str()?.split_once("zoneinfo/")?.1.to_owned()));
    let named = || fs::read_to_string("/etc/timezone").ok().map(|text| text.trim().to_owned());
    let zone = linked.or_else(named).filter(|zone| zone.parse::<chrono_tz::Tz>().is_ok() && !zone.starts_with("Etc/"));
    zone.unwrap_or_else(|| "UTC".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_ports_are_tried_first_and_plain_text_only_on_this_machine() {
        use Tls::{Implicit, None as Plain, Starttls};
        assert_eq!(pairs(None, None, false), [(587, Starttls), (465, Implicit), (25, Starttls)]);
        assert_eq!(pairs(None, None, true).last(), Some(&(25, Plain)));
        assert_eq!(pairs(Some(465), None, false), [(465, Implicit), (465, Starttls)]);
        assert_eq!(pairs(Some(2525), None, true), [(2525, Starttls), (2525, Implicit), (2525, Plain)]);
        assert_eq!(pairs(None, Some(Implicit), false), [(465, Implicit)]);
        assert_eq!(pairs(Some(2525), Some(Plain), false), [(2525, Plain)]);
    }

    #[test]
    fn a_host_may_have_a_port() {
        for (text, host, port) in [
            ("smtp.contoso.example", "smtp.contoso.example", None),
            ("smtp.contoso.example:2525", "smtp.contoso.example", Some(2525)),
            ("127.0.0.1:25", "127.0.0.1", Some(25)),
            ("::1", "::1", None),
            ("smtp.contoso.example:x", "smtp.contoso.example:x", None),
        ] {
            assert_eq!(host_and_port(text), (host.to_owned(), port), "{text}");
        }
    }
}
