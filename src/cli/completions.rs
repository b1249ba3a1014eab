//! Generates completions and manual pages from the texts of `--help`.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Cli, Context, Exit, Failure};

pub(super) fn completions(context: &Context, shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vetwatch", &mut script);
    context.out.write_exact(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Writes a page per command: `vetwatch.1`, `vetwatch-customers-add.1`, …
pub(super) fn man(context: &Context, directory: &Path) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("cannot write manual pages to {}", directory.display()))
            .because(error.to_string())
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
    if context.json {
        context.out.json(&serde_json::json!({ "directory": directory }))?;
    } else {
        context.out.line(&format!("wrote the manual pages to {}", directory.display()))?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &clap::Command) {
        for inner in command.get_subcommands() {
            check(inner);
            let help = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(inner.has_subcommands() || help.starts_with("Examples:\n  vetwatch "), "{}", inner.get_name());
        }
    }

    #[test]
    fn the_command_line_is_well_formed_and_each_command_shows_an_example() {
        Cli::command().debug_assert();
        check(&Cli::command());
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let directory = tempfile::tempdir().unwrap();
        let context = Context::new("vetwatch.toml".into(), true);
        man(&context, &directory.path().join("man1")).unwrap();
        assert!(directory.path().join("man1/vetwatch-deliveries-redrive.1").exists());
    }
}
