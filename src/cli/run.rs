//! `vetwatch run`: the daemon, in the foreground.

use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::context::load_config;
use crate::cli::failure::{ACCESS, error_chain};
use crate::cli::{Context, Exit, Failure, privileges};
use crate::config::Config;
use crate::daemon::{self, Error, Signals};
use crate::log_control;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End when stdin ends: `demo` starts its daemon so, which then ends with it, even if it is killed
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    // Before anything that may block: a signal during that is handled or ignored.
    let mut signals = Signals::of_daemon().map_err(|error| without_signals(&error))?;
    if args.until_stdin_ends {
        // A thread, because such a read cannot be cancelled.
        std::thread::spawn(|| {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            let _ = kill(Pid::this(), Signal::SIGTERM);
        });
    }
    let path = context.config_path.clone();
    // A secret may be on a disk that hangs.
    let config = tokio::select! {
        config = tokio::task::spawn_blocking(move || load_config(&path)) => config.map_err(|panic| {
            Failure::new(Exit::Failed, "cannot read the configuration").because(panic.to_string())
        })??,
        () = signals.end() => return Ok(Exit::Done),
    };
    log_control::follow(config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    privileges::become_owner_of(&config.database)?;
    starts(context, &config);
    daemon::run(config, signals).await.map_err(failure)?;
    Ok(Exit::Done)
}

/// What somebody who reads the log wants to know first: which vetwatch this is, and with what.
fn starts(context: &Context, config: &Config) {
    let partners: Vec<_> = config.partners.iter().map(|partner| partner.name.as_str()).collect();
    let endpoints: Vec<_> = config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        configuration = %context.config_path.display(),
        database = %config.database.display(),
        partners = partners.join(", "),
        endpoints = endpoints.join(", "),
        "vetwatch {} starts", env!("CARGO_PKG_VERSION")
    );
}

pub(super) fn without_signals(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, "cannot start").because(format!("signals cannot be received: {error}"))
}

pub(super) fn failure(error: Error) -> Failure {
    match error {
        Error::Store(error) => error.into(),
        Error::Locked(database) => Failure::new(Exit::Failed, "cannot start")
            .because(format!("another vetwatch runs on {}", database.display()))
            .advise("there may be only one: stop the other one first (`systemctl stop vetwatch`)"),
        error @ Error::Lock { .. } => {
            Failure::new(Exit::Failed, "cannot start").because(error_chain(&error)).advise(ACCESS)
        }
        error @ Error::Descriptors { .. } => Failure::new(Exit::Failed, "cannot start").because(error_chain(&error)),
        Error::Standby(error) => Failure::new(Exit::Failed, "cannot stand by").because(error_chain(&error)),
        error => Failure::new(Exit::Failed, "the daemon stopped").because(error_chain(&error)),
    }
}
