//! `vetwatch run`: the daemon, in the foreground.

use crate::cli::context::load_config;
use crate::cli::failure::error_chain;
use crate::cli::{Context, Exit, Failure, privileges};
use crate::daemon::{self, Error, Signals};

pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    // Before anything that may block: a signal during that is handled or ignored.
    let mut signals = Signals::of_daemon().map_err(|error| without_signals(&error))?;
    let path = context.config_path.clone();
    // A secret may be on a disk that hangs.
    let config = tokio::select! {
        config = tokio::task::spawn_blocking(move || load_config(&path)) => config.map_err(|panic| {
            Failure::new(Exit::Failed, "cannot read the configuration").because(panic.to_string())
        })??,
        () = signals.next() => return Ok(Exit::Done),
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    privileges::become_owner_of(&config.database)?;
    daemon::run(config, signals).await.map_err(failure)?;
    Ok(Exit::Done)
}

pub(super) fn without_signals(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, "cannot start").because(format!("signals cannot be received: {error}"))
}

pub(super) fn failure(error: Error) -> Failure {
    match error {
        Error::Store(error) => error.into(),
        Error::Locked(database) => Failure::new(Exit::Failed, "cannot start")
            .because(format!("another vetwatch runs on {}", database.display()))
            .advise("there may be only one: stop the other one first (`systemctl stop vetwatch`)"),
        error @ (Error::Descriptors { .. } | Error::Lock { .. }) => {
            Failure::new(Exit::Failed, "cannot start").because(error_chain(&error))
        }
        error => Failure::new(Exit::Failed, "the daemon stopped").because(error_chain(&error)),
    }
}
