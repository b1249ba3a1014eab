//! `vetwatch run`: the daemon, in the foreground.

use crate::cli::failure::chain;
use crate::cli::{Context, Exit, Failure, privileges};
use crate::daemon::{self, Error};

#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) async fn run(context: &Context, _args: Args) -> Result<Exit, Failure> {
    let config = context.config()?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    privileges::become_owner_of(&config.database)?;
    daemon::run(config).await.map_err(failure)?;
    Ok(Exit::Done)
}

pub(super) fn failure(error: Error) -> Failure {
    match error {
        Error::Store(error) => error.into(),
        Error::Locked(database) => Failure::new(Exit::Failed, "cannot start")
            .because(format!("another vetwatch runs on {}", database.display()))
            .advise("there may be only one: stop the other one first (`systemctl stop vetwatch`)"),
        error => Failure::new(Exit::Failed, "the daemon stopped").because(chain(&error)),
    }
}
