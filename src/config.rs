//! Reads the configuration file: TOML to [`Config`], or every problem at once.
//!
//! The text is parsed to a table and each section is read by hand: a key that was not read is unknown. A derived reader
//! stops at the first mistake and cannot suggest what was meant.

mod address;
mod calendar;
mod chat;
mod content;
mod credential;
mod endpoint;
mod http;
mod log;
mod public_config;
mod partner;
mod places;
mod diagnostics;
mod route;
mod schedule;
mod secret;
mod syntax;
mod section;
mod standby;
mod summary;
mod template;
mod values;
mod web;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize as _;
use toml::de::DeTable;

use crate::attention::look::Scope;
use crate::backup;
use crate::calendar::{Calendar, Reminders};
use crate::delivery::chat::ChatSettings;
use crate::delivery::email::{self, EmailSettings};
use crate::delivery::retry;
use crate::delivery::route::Routes;
use crate::delivery::webhook::{Template, WebhookSettings};
use crate::heartbeat::Heartbeat;
use crate::partner_center::PartnerSettings;
use crate::schedule::Intervals;

pub use content::{Content, Keys};
pub use diagnostics::{Problem, Problems};
pub use log::{LogLevel, LogSettings};
pub use places::Places;
pub use public_config::PublicConfig;
pub use secret::CredentialDirs;
pub(crate) use secret::UNIT_PREFIX;
pub use summary::SummarySettings;
pub(crate) use values::{closest, current_name, duration};
pub use web::{TrustedProxy, WebSettings};

use diagnostics::Report;
use section::{Context, Section};

/// Default path of the database.
const DATABASE: &str = "/var/lib/vetwatch/vetwatch.db";

/// Where the database is if the configuration does not say.
pub(crate) fn default_database() -> &'static Path {
    Path::new(DATABASE)
}

/// Larger than any configuration; a larger file is the wrong one.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Directory of the refresh tokens, beside the database.
const TOKENS: &str = "tokens";

/// A checked configuration: every name resolves, every secret was read.
#[derive(Debug, Clone)]
pub struct Config {
    /// Absolute if the file's own path was.
    pub database: PathBuf,
    pub partners: Vec<PartnerSettings>,
    pub schedule: Schedule,
    /// The zone of `schedule`, and its working days.
    pub calendar: Calendar,
    /// When long reviews are reported as overdue.
    pub reminders: Reminders,
    pub retry: retry::RetryPolicy,
    pub endpoints: Vec<EndpointSettings>,
    pub routes: Routes,
    /// Where heartbeats are sent.
    pub heartbeat: Option<Heartbeat>,
    /// Where the page is served.
    pub web: Option<WebSettings>,
    /// How long the details of delivery attempts are kept.
    pub keep_attempts: Duration,
    /// What the daemon logs.
    pub log: LogSettings,
    /// Where the daemon's backups go.
    pub backup: Option<backup::Settings>,
    /// When a summary is sent, and where.
    pub summary: Option<SummarySettings>,
    /// The hosts of which this is one; `None` if there is no other.
    pub standby: Option<crate::standby::Settings>,
    /// Allowed but probably not meant; `check` shows them.
    pub warnings: Vec<Problem>,
    /// Where each key stands in the file.
    pub places: Places,
    /// To compare it with the next one.
    pub content: Content,
}

/// `[schedule]`.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub in_review: Duration,
    pub settled: Duration,
    pub unqualified: Duration,
    pub activity_log: Duration,
    pub first_confirmation: Duration,
    pub second_confirmation: Duration,
    /// Cron with seconds.
    pub customer_sync: String,
    pub timezone: chrono_tz::Tz,
}

impl Schedule {
    /// The intervals that the poller needs.
    #[must_use]
    pub const fn intervals(&self) -> Intervals {
        Intervals {
            in_review: self.in_review,
            settled: self.settled,
            unqualified: self.unqualified,
            first_confirmation: self.first_confirmation,
            second_confirmation: self.second_confirmation,
            log_is_read: false,
        }
    }
}

/// `[[endpoint]]`.
#[derive(Debug, Clone)]
pub struct EndpointSettings {
    pub name: String,
    pub kind: EndpointKind,
}

/// Each kind's `Debug` hides its secrets.
#[derive(Debug, Clone)]
pub enum EndpointKind {
    Email(EmailSettings),
    Webhook(WebhookSettings),
    Chat(ChatSettings),
}

impl EndpointKind {
    /// Maximum number of events in one message, and whether people read it.
    #[must_use]
    pub const fn reach(&self) -> (u32, bool) {
        match self {
            Self::Email(_) => (email::MAX_EVENTS, true),
            // A webhook with a template is mostly another chat.
            Self::Webhook(webhook) => (webhook.max_events, webhook.template.is_some()),
            Self::Chat(chat) => (chat.service.max_events, true),
        }
    }
}

impl EndpointSettings {
    /// Identifies the endpoint's destination, and its template. A digest, because its parts may be secret.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let settings = match &self.kind {
            EndpointKind::Email(email) => format!("{}:{} {:?}", email.smtp.host, email.smtp.port, email.to),
            EndpointKind::Webhook(webhook) => {
                format!("{} {:?}", webhook.http.url, webhook.template.as_ref().map(Template::source))
            }
            EndpointKind::Chat(chat) => chat.address(),
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, settings.as_bytes());
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest)
    }
}

impl Config {
    #[must_use]
    pub fn endpoint_names(&self) -> Vec<String> {
        self.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect()
    }

    #[must_use]
    pub fn partner_names(&self) -> Vec<String> {
        self.partners.iter().map(|partner| partner.name.clone()).collect()
    }

    /// The part that needs no secret.
    #[must_use]
    pub fn outline(&self) -> PublicConfig {
        let schedule = &self.schedule;
        PublicConfig {
            database: self.database.clone(),
            partners: self.partner_names(),
            endpoints: self.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
            budgets: self.partners.iter().map(|it| (it.name.clone(), it.requests_per_minute)).collect(),
            in_review: schedule.in_review,
            settled: schedule.settled,
            unqualified: schedule.unqualified,
            first_confirmation: schedule.first_confirmation,
            activity_log: schedule.activity_log,
            backup: self.backup.as_ref().map(|backup| backup.times.clone()),
            calendar: self.calendar.clone(),
        }
    }

    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope {
            partners: self.partner_names(),
            endpoints: self.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
            intervals: self.schedule.intervals(),
            backup: self.backup.as_ref().map(|backup| backup.times.clone()),
        }
    }

    /// Reads the file and the secrets that it names.
    ///
    /// # Errors
    /// All problems found. None shows a secret.
    pub fn load(path: &Path, credentials: &CredentialDirs) -> Result<Self, Problems> {
        Self::parse(path, &read_file(path)?, credentials)
    }

    /// The same configuration, with the secrets and the other files that it names read anew.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn read_files_again(&self, credentials: &CredentialDirs) -> Result<Self, Problems> {
        Self::parse(self.content.path(), self.content.text(), credentials)
    }

    /// As [`Self::load`], with the text that the file has or will have.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(path: &Path, text: &str, credentials: &CredentialDirs) -> Result<Self, Problems> {
        let (table, places) = parse(path, text)?;
        let report = Report::default();
        let context = Context { report: &report, directory: path.parent().unwrap_or(Path::new("")), credentials };
        let config = read(Section::new(&context, String::new(), table.clone()));
        // With a mistake in the file, what is not routed says nothing.
        if let Some(config) = config.as_ref().filter(|_| report.is_clean()) {
            route::warn_unrouted(&report, &config.routes, &config.endpoints);
        }
        let said = Content::new(path, text, &table, &report.files.borrow());
        let (config, warnings) = report.finish(file_name(path), &places, config)?;
        Ok(Self { warnings, places, content: said, ..config })
    }
}

/// Reads in the documentation's order, which is the order of the problems.
fn read(mut root: Section<'_>) -> Option<Config> {
    let database = database(&mut root);
    // Without a database a problem was reported already.
    let home = database.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let partners = partner::read(&mut root, &home.join(TOKENS));
    let (schedule, calendar) = schedule::schedule(root.section("schedule"), partners.loopback);
    let reminders = calendar::reminders(root.section("overdue"), &calendar);
    let servers = endpoint::servers(&mut root);
    let endpoints = endpoint::read(&mut root, &servers);
    let (mut routes, heartbeat) = route::read(&mut root, &endpoints, &partners.names, &calendar);
    let retry = schedule::retries(root.section("retry"));
    let web = web::web(&mut root);
    routes.public_url = web.as_ref().and_then(|web| web.public_url.as_ref()).map(ToString::to_string);
    let keep_attempts = schedule::retention(root.section("retention"));
    let backup = schedule::backup(&mut root, schedule.timezone, database.as_deref(), partners.loopback);
    let summary = summary::summary(&mut root, schedule.timezone, &endpoints, partners.loopback);
    let standby = standby::standby(&mut root, heartbeat.is_some());
    let log = log::log(root.section("log"));
    Some(Config {
        summary,
        standby,
        database: database?,
        partners: partners.settings,
        schedule,
        calendar,
        reminders,
        retry,
        endpoints: endpoints.settings,
        routes,
        heartbeat,
        web,
        keep_attempts,
        log,
        backup,
        warnings: Vec::new(),
        places: Places::default(),
        content: Content::default(),
    })
}

/// A relative path is relative to the file, not to the working directory.
fn database(root: &mut Section<'_>) -> Option<PathBuf> {
    let mut section = root.section("database");
    let given = section.has("path");
    let path = section.path("path");
    let path = if given { path? } else { DATABASE.into() };
    if path.is_dir() {
        section.problem("path", format!("{} is a directory: add the file's name, such as vetwatch.db", path.display()));
        return None;
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty() && !directory.exists());
    if let Some(directory) = directory.filter(|_| path != Path::new(DATABASE)) {
        let text = format!(
            "there is no directory {}: create it, owned by the user that vetwatch runs as",
            directory.display()
        );
        section.warning("path", text);
    }
    Some(path)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads the file and parses it to a table; of a file that is not TOML, what can be parsed, if that names a database.
fn open_tolerantly(path: &Path) -> Result<(toml::Table, Places), Problems> {
    let text = read_file(path)?;
    parse(path, &text).or_else(|problems| {
        let (table, _) = DeTable::parse_recoverable(&text);
        let table = toml::Table::deserialize(toml::Deserializer::from(table)).ok();
        let names_database = |table: &toml::Table| {
            let given = table.get("database").and_then(|section| section.get("path")?.as_str());
            path.parent().unwrap_or(Path::new("")).join(given.unwrap_or(DATABASE)).is_file()
        };
        table.filter(names_database).map(|table| (table, Places::default())).ok_or(problems)
    })
}

fn read_file(path: &Path) -> Result<String, Problems> {
    values::read_text(path, FILE_MAX_BYTES, "a configuration").map_err(|problem| {
        let other = "; `vetwatch init` writes one, and --config FILE or VETWATCH_CONFIG names another";
        let other = if path.exists() { "" } else { other };
        let text = format!("{} {problem}{other}", path.display());
        unusable(path, Problem::new(&Places::default(), String::new(), text))
    })
}

fn parse(path: &Path, text: &str) -> Result<(toml::Table, Places), Problems> {
    match text.parse() {
        Ok(table) => Ok((table, Places::of(text))),
        Err(_) => Err(unusable(path, syntax::problem(text))),
    }
}

fn unusable(path: &Path, problem: Problem) -> Problems {
    Problems { file: file_name(path), problems: vec![problem], warnings: Vec::new() }
}
