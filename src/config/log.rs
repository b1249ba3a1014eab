//! `[log]`: what the daemon logs, and how.

use super::section::Section;

/// What the daemon logs unless `-v`, `--json` or `RUST_LOG` says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSettings {
    pub level: LogLevel,
    /// An object a line, where the journal does not read it.
    pub is_json: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

impl LogLevel {
    /// The levels by target, in the syntax of `RUST_LOG`.
    #[must_use]
    pub const fn targets(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info,sqlx=warn,tokio_cron_scheduler=warn",
            Self::Debug => "vetwatch=debug,info,sqlx=warn",
        }
    }
}

pub(super) fn log(mut section: Section<'_>) -> LogSettings {
    let levels =
        [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
    LogSettings {
        level: section.choice("level", &levels).unwrap_or_default(),
        is_json: section.choice("format", &[("text", false), ("json", true)]).unwrap_or_default(),
    }
}
