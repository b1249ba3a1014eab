//! The configuration file: TOML to [`Config`], or every problem at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::delivery::email::EmailSettings;
use crate::delivery::retry;
use crate::delivery::route::Routes;
use crate::delivery::webhook::WebhookSettings;
use crate::partner_center::PartnerSettings;

/// A configuration that was checked: every name in it resolves, every secret was read.
#[derive(Debug, Clone)]
pub struct Config {
    pub database: PathBuf,
    pub partners: Vec<PartnerSettings>,
    pub schedule: Schedule,
    pub retry: retry::Policy,
    pub endpoints: Vec<EndpointSettings>,
    pub routes: Routes,
    pub web: Option<SocketAddr>,
    /// How long the details of attempts are kept.
    pub keep_attempts: Duration,
    /// What is allowed but probably not meant, for `check` to show.
    pub warnings: Vec<String>,
}

/// `[schedule]`.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub in_review: Duration,
    pub settled: Duration,
    pub unqualified: Duration,
    pub activity_log: Duration,
    pub second_look: Duration,
    pub third_look: Duration,
    /// Cron with seconds.
    pub customer_sync: String,
    pub timezone: chrono_tz::Tz,
}

/// `[[endpoint]]`.
#[derive(Debug, Clone)]
pub struct EndpointSettings {
    pub name: String,
    pub kind: EndpointKind,
}

#[derive(Debug, Clone)]
pub enum EndpointKind {
    Email(EmailSettings),
    Webhook(WebhookSettings),
}

impl EndpointSettings {
    /// A text that changes when the endpoint's settings change, and tells nothing of its secrets.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        todo!()
    }
}
