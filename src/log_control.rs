//! Lets the configuration decide what is logged: logging begins before it is read, and goes on when it is reloaded.

use std::sync::OnceLock;

use crate::config::LogSettings;

type Follow = Box<dyn Fn(LogSettings) + Send + Sync>;

static FOLLOW: OnceLock<Follow> = OnceLock::new();

/// Sets what [`follow`] calls. Only the first call counts, as a process has one logger.
pub(crate) fn set(follow: Follow) {
    let _ = FOLLOW.set(follow);
}

/// Logs as the configuration in force says.
pub(crate) fn follow(settings: LogSettings) {
    if let Some(follow) = FOLLOW.get() {
        follow(settings);
    }
}
