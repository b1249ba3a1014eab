//! Mail over SMTP.

use std::path::PathBuf;

use lettre::message::Mailbox;
use secrecy::SecretString;
use uuid::Uuid;

use crate::delivery::{Outgoing, Report};
use crate::event::Event;
use crate::time::Timestamp;

/// A mail server: `[smtp.NAME]`.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub login: Option<Login>,
    /// PEM; trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Starttls,
    Implicit,
    /// Only to loopback.
    None,
}

#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    pub password: SecretString,
}

#[derive(Debug, Clone)]
pub struct EmailSettings {
    pub smtp: SmtpSettings,
    pub from: Mailbox,
    pub to: Vec<Mailbox>,
}

#[derive(Debug)]
pub struct EmailChannel {
    #[expect(dead_code)]
    settings: EmailSettings,
}

impl EmailChannel {
    #[must_use]
    pub fn new(settings: EmailSettings) -> Self {
        Self { settings }
    }

    #[must_use]
    pub fn render(&self, _id: Uuid, _events: &[Event], _now: Timestamp) -> String {
        todo!()
    }

    pub async fn deliver(&self, _outgoing: Outgoing<'_>) -> Report {
        todo!()
    }
}
