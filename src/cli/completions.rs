//! Completions: a shell's script asks the program, which knows partners, endpoints, customers and messages.
//!
//! What is offered is read without secrets and without writing. Whatever fails, nothing is offered and nothing is said.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, CompletionCandidate, Shell};

use crate::cli::{Context, Exit, Failure, help};
use crate::config::PublicConfig;
use crate::event::EventType;
use crate::store::{self, Store};
use crate::text;

/// Set by the scripts. Not clap's `COMPLETE`, which somebody may have set for another program.
const VARIABLE: &str = "VETWATCH_COMPLETE";
/// A terminal that hangs at a key is worse than one that offers nothing.
const MAX_WAIT: Duration = Duration::from_millis(500);
const MAX_OFFERED: u32 = 50;

/// Answers a shell that completes, if one asks.
pub(super) fn answer(arguments: &[std::ffi::OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    // An unknown shell: it gets nothing, and reads no error.
    CompleteEnv::with_factory(help::command).var(VARIABLE).try_complete(arguments.iter().cloned(), None).unwrap_or(true)
}

pub(super) fn completions(context: &Context, shell: Shell) -> Result<Exit, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, format!("cannot write completions for {shell}")).because(why);
    let known = Shells::builtins();
    let completer = known.completer(&shell.to_string()).ok_or_else(|| failed("it is not known".to_owned()))?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "vetwatch", "vetwatch", "vetwatch", &mut script)
        .map_err(|error| failed(error.to_string()))?;
    context.out.write_exact(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

pub(super) fn partners(typed: &OsStr) -> Vec<CompletionCandidate> {
    names(typed, |outline| outline.partners)
}

pub(super) fn endpoints(typed: &OsStr) -> Vec<CompletionCandidate> {
    names(typed, |outline| outline.endpoints)
}

fn names(typed: &OsStr, of: fn(PublicConfig) -> Vec<String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let names = context().outline().map(of).unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

pub(super) fn event_types(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let matching = EventType::ALL.iter().filter(|event| event.as_str().starts_with(&*typed));
    matching.map(|event| CompletionCandidate::new(event.as_str())).collect()
}

/// The newest deliveries' ids.
pub(super) fn deliveries(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().to_lowercase();
    let ids = read(async |store| store.complete_delivery(&typed, MAX_OFFERED).await);
    ids.into_iter().map(|(id, about)| candidate(&id, &about)).collect()
}

/// The newest events' ids.
pub(super) fn events(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().to_lowercase();
    let ids = read(async |store| store.complete_event(&typed, MAX_OFFERED).await);
    ids.into_iter().map(|(id, about)| candidate(&id, &about)).collect()
}

/// Customers whose domain, id or name begins with what was typed. Bash does not quote what it inserts, so there a
/// customer that is typed by name is completed to its domain or id.
pub(super) fn customers(typed: &OsStr) -> Vec<CompletionCandidate> {
    let quotes = std::env::var_os("_CLAP_COMPLETE_COMP_TYPE").is_none();
    let typed = typed.to_string_lossy().replace('\\', "").to_lowercase();
    let found = read(async |store| store.complete_customer(&typed, MAX_OFFERED).await);
    let offered = found.into_iter().filter_map(|customer| {
        let is_plain =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let begins = |text: &str| text.to_lowercase().starts_with(&typed);
        let stable = if is_plain(&customer.domain) { &customer.domain } else { &customer.id };
        let can_be_typed = text::terminal(&customer.name) == customer.name;
        if begins(&customer.domain) && is_plain(&customer.domain) {
            return Some(candidate(&customer.domain, &customer.name));
        }
        if begins(&customer.id) {
            return Some(candidate(&customer.id, &customer.name));
        }
        let by_name = is_plain(&customer.name) || quotes && can_be_typed;
        is_plain(stable)
            .then(|| if by_name { candidate(&customer.name, stable) } else { candidate(stable, &customer.name) })
    });
    offered.collect()
}

fn candidate(value: &str, about: &str) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(text::terminal(about).into_owned().into()))
}

/// What the database says, or nothing.
fn read<T>(query: impl AsyncFnOnce(&Store) -> Result<Vec<T>, store::Error>) -> Vec<T> {
    let reading = async {
        let context = context();
        let outline = context.outline().ok()?;
        let store = context.reading_store(&outline.database).await.ok()?;
        let found = query(&store).await.ok();
        context.close().await;
        found
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(MAX_WAIT, reading).await });
    // Without waiting for what hangs.
    runtime.shutdown_background();
    found.ok().flatten().unwrap_or_default()
}

/// With the `--config` of the line that is completed, as far as it is written.
fn context() -> Context {
    let words: Vec<_> = std::env::args().collect();
    let after = words.iter().position(|word| word == "--config").and_then(|at| words.get(at + 1)).cloned();
    let joined = words.iter().find_map(|word| word.strip_prefix("--config=").map(str::to_owned));
    let variable = std::env::var("VETWATCH_CONFIG").ok();
    let path = after.or(joined).or(variable).unwrap_or_else(|| super::args::CONFIG.to_owned());
    Context::new(PathBuf::from(path), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &clap::Command) {
        for inner in command.get_subcommands() {
            check(inner);
            let help = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n  "), "{}", inner.get_name());
        }
    }

    #[test]
    fn the_command_line_is_well_formed_and_each_command_shows_an_example() {
        help::command().debug_assert();
        check(&help::command());
    }
}
