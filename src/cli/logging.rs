//! Sets up the log: to the journal if it reads our stderr, otherwise to stderr.

mod json;
mod journal;
mod queue;

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tracing::{Event, Subscriber, error};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{self, FmtContext, FormatEvent, FormatFields, format};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::{Cli, Command, Exit, Failure};
use crate::config::LogLevel;
use crate::log_control;
use journal::Journal;
use queue::Queue;

/// How long a hanging reader may delay the end.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Flushes the queue on drop.
pub(super) struct Logging(Option<Queue>);

impl Drop for Logging {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.flush(FINAL_WRITE_TIMEOUT);
        }
    }
}

/// True if the command runs until it is stopped, and must not wait for its log's reader.
pub(super) fn lasts(cli: &Cli) -> bool {
    matches!(cli.command, Command::Run(_) | Command::Sandbox(_) | Command::Demo(_))
}

/// Lets `say` write to stderr, and returns early if the reader hangs.
pub(super) fn say_within(say: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel::<()>();
    let saying = std::thread::Builder::new().spawn(move || {
        say();
        drop(done);
    });
    if saying.is_ok() {
        let _ = finished.recv_timeout(FINAL_WRITE_TIMEOUT);
    }
}

/// Starts logging. The daemon logs its actions; other commands only failures; `-v` more of both. With `--json` each
/// line is an object.
pub(super) fn start(cli: &Cli) -> Result<Logging, Failure> {
    let (filter, reloads) = reload::Layer::new(filter(cli)?);
    let registry = tracing_subscriber::registry().with(filter);
    let is_json = Arc::new(AtomicBool::new(cli.json));
    follow_configuration(cli, reloads, Arc::clone(&is_json));
    if lasts(cli) {
        // Otherwise a panic that costs one response would wait for the reader of stderr.
        std::panic::set_hook(Box::new(|panic| error!("{}", panic_line(panic))));
    } else {
        std::panic::set_hook(Box::new(|panic| {
            let _ = writeln!(std::io::stderr(), "vetwatch: {}", panic_line(panic));
        }));
    }
    if stderr_is_the_journal()
        && let Ok((journal, queue)) = Journal::connect()
    {
        registry.with(journal).init();
        return Ok(Logging(Some(queue)));
    }
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let queue = lasts(cli).then(|| Queue::into(|lines| drop(std::io::stderr().write_all(&lines.concat()))));
    let queue =
        queue.transpose().map_err(|error| Failure::new(Exit::Failed, "cannot start").because(error.to_string()))?;
    let writer = match queue.clone() {
        Some(queue) => BoxMakeWriter::new(move || queue.clone()),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    // Times are RFC 3339 in UTC, as everywhere in vetwatch.
    let stderr = fmt::layer().with_writer(writer).with_ansi(colour);
    registry.with(stderr.event_format(Format { is_json, text: format().with_target(false) })).init();
    Ok(Logging(queue))
}

/// Has the daemon log as its configuration says, where nothing else does.
fn follow_configuration(cli: &Cli, filter: reload::Handle<Targets, Registry>, is_json: Arc<AtomicBool>) {
    if !matches!(cli.command, Command::Run(_)) {
        return;
    }
    let (says_level, says_format) = (cli.verbose > 0 || wish().is_some(), cli.json);
    log_control::set(Box::new(move |settings| {
        if !says_format {
            is_json.store(settings.is_json, Ordering::Relaxed);
        }
        if !says_level && let Ok(targets) = settings.level.targets().parse::<Targets>() {
            let _ = filter.reload(targets); // fails only if the logger is gone
        }
    }));
}

/// Text or JSON, whichever is asked for now.
struct Format {
    is_json: Arc<AtomicBool>,
    text: format::Format,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, line: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        if self.is_json.load(Ordering::Relaxed) {
            json::Lines.format_event(context, line, event)
        } else {
            self.text.format_event(context, line, event)
        }
    }
}

/// A panic as one line, without the folder in which the program was built.
fn panic_line(panic: &std::panic::PanicHookInfo<'_>) -> String {
    let text = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(|at| format!(" at {}:{}", short_path(at.file()), at.line())).unwrap_or_default();
    format!("panicked{place}: {}", text.replace('\n', " "))
}

/// `/home/me/.cargo/registry/src/index.example-1949cf8c6b5b557f/url-2.5.8/src/lib.rs` is `url-2.5.8/src/lib.rs`.
fn short_path(path: &str) -> &str {
    if !path.starts_with('/') {
        return path;
    }
    let start = path.rfind("/src/").map_or(0, |src| path[..src].rfind('/').map_or(0, |slash| slash + 1));
    if start == 0 { path.rsplit('/').next().unwrap_or(path) } else { &path[start..] }
}

fn wish() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|wish| !wish.trim().is_empty())
}

fn filter(cli: &Cli) -> Result<Targets, Failure> {
    let wish = wish();
    let daemon = matches!(cli.command, Command::Run(_));
    let usual = match cli.verbose {
        0 if daemon => LogLevel::default().targets(),
        // Then stderr holds one object only: the error.
        0 if cli.json => "off",
        // The demo's failures are intended, and it shows them itself.
        0 if matches!(cli.command, Command::Demo(_)) => "error",
        // A slow statement is the daemon's business.
        0 => "warn,sqlx=error",
        1 => LogLevel::Debug.targets(),
        _ => "debug",
    };
    wish.as_deref().unwrap_or(usual).parse().map_err(|error: tracing_subscriber::filter::ParseError| {
        Failure::new(Exit::Usage, format!("cannot read RUST_LOG={}", wish.as_deref().unwrap_or(usual)))
            .because(error.to_string())
            .advise("write for example RUST_LOG=vetwatch=debug,info")
    })
}

/// `JOURNAL_STREAM` names the file that the journal reads. A child whose stderr was redirected inherits the variable,
/// so the file is compared.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let Ok(metadata) = stderr.and_then(|file| file.metadata()) else { return false };
    stream == format!("{}:{}", metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_panic_names_the_crate_and_not_the_machine_that_built_it() {
        for (path, shown) in [
            ("src/cli.rs", "src/cli.rs"),
            ("/home/me/.cargo/registry/src/index.example-1949/url-2.5.8/src/lib.rs", "url-2.5.8/src/lib.rs"),
            ("/rustc/0123abc/library/core/src/option.rs", "core/src/option.rs"),
            ("/home/me/build.rs", "build.rs"),
        ] {
            assert_eq!(short_path(path), shown);
        }
    }
}
