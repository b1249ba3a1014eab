//! How a command ends: the exit codes, which are stable, and the error message.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::output::{width_of, wrap};
use crate::partner_center::Error;
use crate::store;
use crate::text;

pub(super) use crate::text::error_chain;

/// The exit codes, on which scripts and service managers rely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    /// `status` only: something cannot be read or delivered.
    Attention = 3,
    NotFound = 4,
    /// Rejected by Partner Center.
    Refused = 5,
    /// `EX_TEMPFAIL`.
    TryAgain = 75,
    /// `EX_CONFIG`; the service is not restarted.
    Configuration = 78,
}

impl Exit {
    const fn kind(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Attention => "attention",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::TryAgain => "try_again",
            Self::Configuration => "configuration",
        }
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Throttled { .. }
            | Error::NoToken(_)
            | Error::Server(_)
            | Error::TimedOut { .. }
            | Error::Unreachable(_)
            | Error::NoDescriptor => Self::TryAgain,
            Error::Unreadable { .. } => Self::Failed,
            Error::Credential(_)
            | Error::Forbidden(_)
            | Error::NoRelationship(_)
            | Error::NotFound(_)
            | Error::Refused(_) => Self::Refused,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error: what could not be done, why, and what to do. Never a secret, a token or a whole webhook URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub exit: Exit,
    pub what: String,
    pub why: Option<String>,
    /// One line for each problem or candidate.
    pub list: Vec<String>,
    pub advice: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: None, list: Vec::new(), advice: None }
    }

    #[must_use]
    pub(super) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    #[must_use]
    pub(super) fn listing(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.list.extend(lines);
        self
    }

    #[must_use]
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(super) fn message(&self) -> String {
        match &self.why {
            Some(why) => format!("{}: {why}", self.what),
            None => self.what.clone(),
        }
    }

    /// Renders lines for people, without terminal control characters.
    #[must_use]
    pub(super) fn to_text(&self) -> String {
        let mut lines = format!("vetwatch: {}\n", text::terminal(&self.message()));
        for line in &self.list {
            for line in line.lines() {
                let _ = writeln!(lines, "  {}", text::terminal(line));
            }
        }
        if let Some(advice) = &self.advice {
            let _ = writeln!(lines, "{}", text::terminal(advice));
        }
        lines
    }

    /// Renders one JSON object on one line.
    #[must_use]
    pub(super) fn to_json(&self) -> String {
        let error = json!({
            "kind": self.exit.kind(),
            "exit_code": self.exit as u8,
            "message": self.message(),
            "details": self.list,
            "advice": self.advice,
        });
        text::inert_json(&json!({ "error": error }).to_string()) + "\n"
    }

    /// Prints it to stderr. If that fails, the exit code remains.
    pub(super) fn print(&self, json: bool) {
        let text = if json { self.to_json() } else { wrap(&self.to_text(), width_of(std::io::stderr())).into_owned() };
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// What to see to if a file of the database cannot be used.
pub(super) const ACCESS: &str = "see that this user may use the database and its directory (analysts: the group vetwatch; else the \
                                 service's user or root), and that the disk is not mounted read-only";

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        let why = error_chain(&error);
        if error.is_busy() {
            return Self::new(Exit::TryAgain, "the database is busy")
                .because(why)
                .advise("another program is in a transaction: wait for it to end, or stop it, then try again");
        }
        if error.is_damage() {
            let failure = match error {
                store::Error::NotADatabase { .. } | store::Error::Unsound { .. } => Self::new(Exit::Failed, why),
                _ => Self::new(Exit::Failed, "the file is damaged, or is not a database").because(why),
            };
            return failure.advise(
                "stop vetwatch, and `vetwatch restore FILE` puts a backup in its place and keeps this one. Was a file copied \
                 over the database while it was in use? A disk that cannot be read looks the same, and a copy of the file on \
                 another disk may be whole: see `dmesg` first",
            );
        }
        if let store::Error::Lost { .. } | store::Error::LogLost { .. } = error {
            return Self::new(Exit::Failed, "stopped before anything more is written").because(why).advise(
                "stop vetwatch, and put the database back together with its own -wal and -shm, or a backup without them",
            );
        }
        if matches!(error, store::Error::Unreleased { .. }) {
            return Self::new(Exit::Failed, why).advise(
                "move it and its -wal and -shm away; vetwatch then creates a new one, and the first poll of each customer sends no message",
            );
        }
        if let store::Error::InUse { .. } = error {
            return Self::new(Exit::TryAgain, why).advise("end it (`fuser -v FILE` shows it), then try again");
        }
        if error.is_disk_full() {
            return Self::new(Exit::Failed, "the disk of the database is full").because(why).advise(
                "free some of it, then try again (`systemctl start vetwatch`): what was recorded is still there",
            );
        }
        if error.is_denied() {
            return Self::new(Exit::Failed, why).advise(format!("{ACCESS} (`dmesg` names a disk that fails)"));
        }
        let failure = Self::new(Exit::Failed, why);
        if matches!(error, store::Error::Row { .. }) {
            return failure.advise(
                "the database was damaged, or changed by another program: repair the row with sqlite3, or `vetwatch restore` a backup",
            );
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure::new(Exit::NotFound, "cannot find \"x\u{1b}[2J\"")
            .because("nobody\nhas that name")
            .listing(["Contoso\u{202e}".to_owned()])
            .advise("see `vetwatch customers list`")
    }

    #[test]
    fn a_failure_says_what_why_and_what_to_do_without_terminal_escapes() {
        insta::assert_snapshot!(failure().to_text(), @r#"
        vetwatch: cannot find "x�[2J": nobody has that name
          Contoso�
        see `vetwatch customers list`
        "#);
    }

    #[test]
    fn with_json_a_failure_is_one_object_on_one_line() {
        let line = failure().to_json();
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains('\u{202e}'), "{line}");
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["error"]["exit_code"], 4);
        assert_eq!(object["error"]["kind"], "not_found");
        assert_eq!(object["error"]["details"][0], "Contoso\u{202e}");
    }
}
