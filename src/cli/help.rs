//! The command line as it is parsed and shown: `--help` in groups, and completions for each argument.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};
use clap_complete::ArgValueCompleter;

use crate::cli::{Cli, completions};

/// The commands by what they are for, in the order of `--help`.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Try it and set it up", &["demo", "sandbox", "init", "check", "login"]),
    ("Run it", &["run", "reload", "poll", "backup", "restore"]),
    ("See what happened", &["status", "history", "explain", "report", "page", "feeds"]),
    ("Customers and reviews", &["customers", "submit", "validation-codes"]),
    ("Messages", &["route", "test-send", "deliveries"]),
    ("Help", &["support-bundle", "completions", "man", "help"]),
];

const NAME_WIDTH: usize = 18;

/// The whole command line.
pub(super) fn command() -> Command {
    let command = Cli::command();
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}Global options:\n{{options}}\n\n\
         `vetwatch COMMAND --help` shows a command with its options and examples.{{after-help}}",
        groups(&command)
    );
    with_completers(command.help_template(template))
}

fn groups(command: &Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        let _ = writeln!(text, "{heading}:");
        for name in names {
            let about = match command.find_subcommand(name) {
                Some(found) => found.get_about().map(ToString::to_string).unwrap_or_default(),
                // clap adds it later.
                None => "Show the help of a command".to_owned(),
            };
            let _ = writeln!(text, "  {name:NAME_WIDTH$}{about}");
        }
        text.push('\n');
    }
    text
}

/// By the names of the arguments, which mean the same in every command.
fn with_completers(command: Command) -> Command {
    command.mut_subcommands(with_completers).mut_args(|arg| {
        let values: fn(&std::ffi::OsStr) -> Vec<clap_complete::CompletionCandidate> = match arg.get_id().as_str() {
            "partner" => completions::partners,
            "endpoint" | "to" => completions::endpoints,
            "customer" | "customers" => completions::customers,
            "event" if arg.is_positional() => completions::events,
            "event" => completions::event_types,
            "id" if arg.get_value_names().is_none_or(|names| names != ["ID"]) => completions::deliveries,
            _ => return arg,
        };
        arg.add(ArgValueCompleter::new(values))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The help of a command and of those below it.
    fn helps(command: &mut Command, all: &mut String) {
        let text = command.clone().term_width(80).render_long_help().to_string();
        let _ = writeln!(all, "=== {}\n{text}", command.get_bin_name().unwrap_or("vetwatch"));
        for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
            helps(inner, all);
        }
    }

    #[test]
    fn every_help_fits_80_columns() {
        let mut command = command();
        command.build();
        let mut all = String::new();
        helps(&mut command, &mut all);
        // The only value that depends on who runs it.
        let all = all.replace(
            &format!("[env: VETWATCH_CONFIG={}]", std::env::var("VETWATCH_CONFIG").unwrap_or_default()),
            "[env: VETWATCH_CONFIG=]",
        );
        let long = |line: &&str| {
            line.chars().count() > 80 && !line.trim_start().starts_with("vetwatch ") && !line.contains(" | vetwatch")
        };
        assert_eq!(all.lines().filter(long).collect::<Vec<_>>(), [""; 0]);
        let all: String = all.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        insta::assert_snapshot!(all);
    }

    #[test]
    fn every_command_is_in_one_group() {
        let command = Cli::command();
        let mut shown: Vec<_> =
            GROUPS.iter().flat_map(|(_, names)| *names).copied().filter(|name| *name != "help").collect();
        let mut known: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
        shown.sort_unstable();
        known.sort_unstable();
        assert_eq!(shown, known);
    }
}
