//! The parts of the configuration for commands that only read the database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;

use crate::attention::look::Scope;
use crate::backup::Times;
use crate::calendar::Calendar;
use crate::schedule::Intervals;

use super::diagnostics::{Problems, Report};
use super::secret::CredentialDirs;
use super::section::{Context, Section};
use super::values::duration;
use super::{database, file_name, open_tolerantly, partner, schedule};

/// What `status`, `history` and similar commands need. Loading it opens no secret, so an analyst may, and a mistake
/// elsewhere in the file does not hide what the database holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicConfig {
    pub database: PathBuf,
    /// The names that could be read.
    pub partners: Vec<String>,
    /// The names that could be read.
    pub endpoints: Vec<String>,
    /// Requests a minute, by the partner's name. An invalid value counts as the default; `check` reports it.
    pub budgets: BTreeMap<String, u32>,
    /// How often customers in review are polled; likewise.
    pub in_review: Duration,
    pub settled: Duration,
    pub unqualified: Duration,
    pub first_confirmation: Duration,
    pub activity_log: Duration,
    /// When backups are due; likewise.
    pub backup: Option<Times>,
    /// The working days, in the zone of `[schedule]`; likewise.
    pub calendar: Calendar,
}

impl PublicConfig {
    /// # Errors
    /// If the file cannot be read, its `database.path` is not a path, or it is not TOML and what can be read of it names no
    /// database.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let (table, places) = open_tolerantly(path)?;
        let report = Report::default();
        let directory = path.parent().unwrap_or(Path::new(""));
        let credentials = CredentialDirs::only(directory);
        let sections = |key: &str| table.get(key).and_then(Value::as_array).into_iter().flatten();
        let name = |section: &Value| section.get("name")?.as_str().map(str::to_owned);
        let budget = |section: &Value| {
            let written = section.get("requests_per_minute").and_then(Value::as_integer);
            let budget = written.and_then(|written| u32::try_from(written).ok());
            Some((name(section)?, budget.unwrap_or(partner::REQUESTS_PER_MINUTE)))
        };
        let every = |key: &str, default: Duration| {
            let written = table.get("schedule").and_then(|schedule| schedule.get(key)?.as_str());
            written.and_then(|written| duration(written).ok()).unwrap_or(default)
        };
        let partners = sections("partner").filter_map(name).collect();
        let endpoints = sections("endpoint").filter_map(name).collect();
        let budgets = sections("partner").filter_map(budget).collect();
        let in_review = every("in_review", schedule::IN_REVIEW);
        let settled = every("settled", schedule::SETTLED);
        let unqualified = every("unqualified", schedule::UNQUALIFIED);
        let confirm_absence =
            table.get("schedule").and_then(|schedule| schedule.get("confirm_absence")?.get(0)?.as_str());
        let first_confirmation =
            confirm_absence.and_then(|text| duration(text).ok()).unwrap_or(schedule::CONFIRM_ABSENCE[0]);
        let activity_log = every("activity_log", schedule::ACTIVITY_LOG);
        let text = |section: &str, key: &str| table.get(section).and_then(|section| section.get(key)?.as_str());
        let backup = text("backup", "dir").map(|_| Times {
            schedule: text("backup", "schedule").unwrap_or(schedule::BACKUP).to_owned(),
            zone: text("schedule", "timezone").and_then(|zone| zone.parse().ok()).unwrap_or(chrono_tz::UTC),
        });
        let context = Context { report: &report, directory, credentials: &credentials };
        let ignored = Report::default();
        let lenient = Context { report: &ignored, directory, credentials: &credentials };
        let (_, calendar) =
            schedule::schedule(Section::new(&lenient, String::new(), table.clone()).section("schedule"), true);
        let mut root = Section::new(&context, String::new(), table);
        let database = database(&mut root);
        root.discard_rest();
        drop(root);
        let outline = database.map(|database| Self {
            database,
            partners,
            endpoints,
            budgets,
            in_review,
            settled,
            unqualified,
            first_confirmation,
            activity_log,
            backup,
            calendar,
        });
        report.finish(file_name(path), &places, outline).map(|(outline, _)| outline)
    }

    #[must_use]
    pub fn scope(&self) -> Scope {
        let intervals = Intervals {
            in_review: self.in_review,
            settled: self.settled,
            unqualified: self.unqualified,
            first_confirmation: self.first_confirmation,
            second_confirmation: self.first_confirmation,
            log_is_read: false,
        };
        Scope {
            partners: self.partners.clone(),
            endpoints: self.endpoints.clone(),
            intervals,
            backup: self.backup.clone(),
        }
    }
}
