//! Where the log goes: to the journal if systemd reads our stderr, to stderr otherwise.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::{Cli, Command, Exit, Failure};

/// Starts logging. The daemon says what it does; other commands only what went wrong; `-v` more of both. With `--json`
/// each line is an object.
pub(super) fn start(cli: &Cli) -> Result<(), Failure> {
    let registry = tracing_subscriber::registry().with(filter(cli)?);
    if stderr_is_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal).init();
        return Ok(());
    }
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // The time is RFC 3339 in UTC, as everywhere in vetwatch.
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    if cli.json {
        registry.with(stderr.json()).init();
    } else {
        registry.with(stderr.with_ansi(colour)).init();
    }
    Ok(())
}

fn filter(cli: &Cli) -> Result<EnvFilter, Failure> {
    if let Some(wish) = std::env::var("RUST_LOG").ok().filter(|wish| !wish.trim().is_empty()) {
        return EnvFilter::try_new(&wish).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot read RUST_LOG={wish}"))
                .because(error.to_string())
                .advise("write for example RUST_LOG=vetwatch=debug,info")
        });
    }
    let daemon = matches!(cli.command, Command::Run(_));
    Ok(EnvFilter::new(match cli.verbose {
        0 if daemon => "info,sqlx=warn,tokio_cron_scheduler=warn",
        // What stands on stderr then is one object: the error.
        0 if cli.json => "off",
        // What goes wrong there goes wrong on purpose, and the demo says so itself.
        0 if matches!(cli.command, Command::Demo(_)) => "error",
        0 => "warn",
        1 => "vetwatch=debug,info,sqlx=warn",
        _ => "debug",
    }))
}

/// systemd says in `JOURNAL_STREAM` which file the journal reads. A child whose stderr was redirected inherits the
/// variable all the same, so the file is compared.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let Ok(metadata) = stderr.and_then(|file| file.metadata()) else { return false };
    stream == format!("{}:{}", metadata.dev(), metadata.ino())
}
