//! The command line: arguments, output and exit codes.
//!
//! Each command has its own file: a function takes the `Context` and the arguments, prints through `Output`
//! and returns an `Exit` or a `Failure`. Only [`main`] turns those into the process's end.

mod args;
mod backoff;
mod backup;
pub(crate) mod check; // the configuration's tests look for secrets in its summary
mod context;
pub(crate) mod customers;
mod demo;
mod explain;
mod feeds;
mod failure;
mod fit;
mod completions;
mod help;
mod history;
mod init;
mod manual;
mod mime;
mod connectivity_check;
mod logging;
mod login;
mod deliveries;
mod output;
mod page;
mod poll;
mod privileges;
mod reload;
mod report;
mod route;
mod run;
mod sandbox;
mod status;
mod submit;
mod support_bundle;
mod sync;
mod test_send;
mod validation;
mod time_args;
mod lookup;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::FromArgMatches as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config;
use crate::delivery::webhook::template_trial;
use crate::descriptors;

pub use args::Cli;
use args::Command;
use context::Context;
use failure::{Exit, Failure};

/// Runs the command and returns the process's exit code. Failures were printed to stderr.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let [_, trial, content_type, secret] = arguments.as_slice()
        && trial == template_trial::ARGUMENT
    {
        // Started by another vetwatch: see there.
        let tried = template_trial::run(&content_type.to_string_lossy(), !secret.is_empty());
        return if tried.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    template_trial::offer();
    if completions::answer(&arguments) {
        return ExitCode::SUCCESS;
    }
    let parsed = help::command().try_get_matches_from(&arguments).and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(&with_former_names(error), arguments.iter().any(|argument| argument == "--json")),
    };
    let (json, lasts) = (cli.json, logging::lasts(&cli));
    let (ended, logging) = match logging::start(&cli) {
        Ok(logging) => (start(cli), Some(logging)),
        Err(failure) => (Err(failure), None),
    };
    // Flush the log before the failure, which comes last.
    drop(logging);
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let exit = failure.exit;
            if lasts {
                logging::say_within(move || failure.print(json));
            } else {
                failure.print(json);
            }
            exit.into()
        }
    }
}

fn start(cli: Cli) -> Result<Exit, Failure> {
    descriptors::raise_limit();
    // Fails only if it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let context = Context::new(cli.config, cli.json);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "cannot start").because(error.to_string()))?;
    let end = runtime.block_on(async {
        let end = dispatch(&context, cli.command).await;
        context.close().await;
        end
    });
    // Do not wait for blocking calls, such as a name's resolution.
    runtime.shutdown_timeout(Duration::from_millis(500));
    end
}

async fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Demo(args) => demo::demo(context, args).await,
        Command::Init(args) => init::init(context, *args).await,
        Command::Run(args) => run::run(context, &args).await,
        Command::Reload => reload::reload(context).await,
        Command::Check(args) => check::run(context, &args).await,
        Command::Login(args) => login::login(context, args).await,
        Command::Sandbox(args) => sandbox::sandbox(context, args).await,
        Command::Customers(command) => customers::customers(context, command).await,
        Command::Poll(args) => poll::poll(context, args).await,
        Command::Status(args) => status::status(context, args).await,
        Command::Submit(args) => submit::submit(context, args).await,
        Command::ValidationCodes(args) => validation::codes(context, args).await,
        Command::Route(route::Command::Test(args)) => route::test(context, args).await,
        Command::History(args) => history::history(context, args).await,
        Command::Report(args) => report::report(context, args).await,
        Command::Explain(args) => explain::explain(context, args).await,
        Command::TestSend(args) => test_send::test_send(context, args).await,
        Command::Deliveries(command) => deliveries::deliveries(context, command).await,
        Command::Backup(args) => backup::backup(context, args).await,
        Command::Restore(args) => backup::restore(context, args).await,
        Command::Page(args) => page::page(context, &args).await,
        Command::Feeds => feeds::feeds(context),
        Command::SupportBundle(args) => support_bundle::write(context, &args).await,
        Command::Completions { shell } => completions::completions(context, shell),
        Command::Man { directory } => manual::man(context, &directory),
    }
}

/// Suggests today's name of a renamed command.
fn with_former_names(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
        && let Some(now) = config::current_name(name)
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![now.to_owned()]));
    }
    error
}

/// Prints clap's message: help and version to stdout, wrong usage to stderr.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if json && error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let text = error.render().to_string();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let what = lines.next().unwrap_or("wrong usage").trim_start_matches("error: ").to_owned();
        Failure::new(Exit::Usage, what).listing(lines.map(|line| line.trim().to_owned())).print(true);
        return Exit::Usage.into();
    }
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Help knows the terminal's width. A closed pipe (`| head`) is no failure.
        let _ = error.print();
        return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
    }
    let text = error.render();
    let text = if std::io::stderr().is_terminal() { text.ansi().to_string() } else { text.to_string() };
    let _ = std::io::stderr().write_all(output::wrap(&text, output::width_of(std::io::stderr())).as_bytes());
    Exit::Usage.into()
}
