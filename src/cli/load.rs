//! Loads the configuration for a command.

use std::path::Path;

use crate::cli::{Exit, Failure};
use crate::config::{Config, CredentialDirs, Problems, PublicConfig};

/// Loads the configuration with its secrets, or fails with every problem at once.
pub(super) fn load_config(path: &Path) -> Result<Config, Failure> {
    Config::load(path, &CredentialDirs::from_env()).map_err(|problems| bad(path, &problems))
}

/// Loads the part for commands that only read the database.
pub(super) fn load_outline(path: &Path) -> Result<PublicConfig, Failure> {
    PublicConfig::load(path).map_err(|problems| bad(path, &problems))
}

fn bad(path: &Path, problems: &Problems) -> Failure {
    Failure::new(Exit::Configuration, format!("cannot use {}", path.display()))
        .listing(problems.problems.iter().map(|problem| format!("{}: {problem}", problems.file)))
        .advise("`vetwatch check` shows this list; `--config FILE` or VETWATCH_CONFIG names another file")
}
