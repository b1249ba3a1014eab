//! `vetwatch man`: manual pages, from the texts of `--help` and the pages of `docs/`.

mod markdown;

use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::attention::Reason;
use crate::cli::{Context, Exit, Failure, help};
use crate::event::EventType;

const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const GUARANTEES: &str = include_str!("../../docs/guarantees.md");

/// Of the release, not of the day on which the pages are written: packages are reproducible.
const DATE: &str = "2026-11-28";

const EXIT_STATUS: [(&str, &str); 8] = [
    ("0", "done"),
    ("1", "failed"),
    ("2", "wrong usage"),
    ("3", "`status`: a person is needed"),
    ("4", "not found: no such customer, partner, endpoint, message or database, or several that could be meant"),
    ("5", "refused by Partner Center"),
    ("75", "temporary: the same command may work in a moment"),
    ("78", "the configuration is wrong"),
];

const FILES: [(&str, &str); 7] = [
    ("/etc/vetwatch/vetwatch.toml", "the configuration: vetwatch.toml(5)"),
    ("/etc/vetwatch/credentials/", "the secrets that it names, if `$CREDENTIALS_DIRECTORY` has none of that name"),
    ("/var/lib/vetwatch/vetwatch.db", "the database: SQLite, to be read while the daemon runs"),
    ("/var/lib/vetwatch/vetwatch.db-wal", "its log: a copy needs both while the daemon runs"),
    ("/var/lib/vetwatch/vetwatch.db.lock", "held by the daemon"),
    ("/var/lib/vetwatch/tokens/", "refresh tokens of users"),
    ("/usr/lib/systemd/system/vetwatch.service", "the unit"),
];

const ENVIRONMENT: [(&str, &str); 5] = [
    ("VETWATCH_CONFIG", "the configuration, if there is no `--config`"),
    ("CREDENTIALS_DIRECTORY", "where relative names of secrets are looked up first; systemd sets it"),
    ("RUST_LOG", "what is logged, such as `vetwatch=debug,info`; instead of `-v`"),
    ("NO_COLOR", "no colours, if it is not empty"),
    ("COLUMNS", "how wide tables may be"),
];

/// Writes the pages where `man` looks for them below `directory`: `man1/vetwatch.1` and one for each command
/// (`man1/vetwatch-customers-add.1`), `man5/vetwatch.toml.5`, `man7/vetwatch.7`.
pub(super) fn man(context: &Context, directory: &Path) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("cannot write manual pages to {}", directory.display()))
            .because(error.to_string())
    };
    for (name, page) in pages() {
        let section = name.rsplit('.').next().unwrap_or_default();
        let folder = directory.join(format!("man{section}"));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        std::fs::write(folder.join(name), page).map_err(failed)?;
    }
    if context.json {
        context.out.json(&serde_json::json!({ "directory": directory }))?;
    } else {
        context.out.line(&format!("wrote the manual pages to {}", directory.display()))?;
    }
    Ok(Exit::Done)
}

/// The pages: file name and text.
fn pages() -> Vec<(String, String)> {
    let mut command = help::command();
    command.build();
    let mut pages = Vec::new();
    of_commands(&command, "vetwatch", &mut pages);
    pages.push(("vetwatch.toml.5".to_owned(), configuration()));
    pages.push(("vetwatch.7".to_owned(), concepts()));
    pages
}

fn of_commands(command: &Command, name: &str, pages: &mut Vec<(String, String)>) {
    pages.push((format!("{name}.1"), of_command(command, name)));
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        of_commands(inner, &format!("{name}-{}", inner.get_name()), pages);
    }
}

fn of_command(command: &Command, name: &str) -> String {
    let page = Man::new(command.clone()).title(name.to_uppercase()).date(DATE).source(source()).manual("vetwatch");
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = page.render_title(&mut text);
    let _ = page.render_name_section(&mut text);
    let usage = command.clone().render_usage().to_string();
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]);
    synopsis.text([roman(usage.trim_start_matches("Usage: "))]);
    text.extend(synopsis.render().into_bytes());
    let _ = page.render_description_section(&mut text);
    let _ = page.render_options_section(&mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    let mut rest = Roff::new();
    let inner: Vec<_> = command.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
    if !inner.is_empty() {
        rest.control("SH", ["COMMANDS"]);
        for inner in &inner {
            let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
            entry(&mut rest, &format!("{name}-{}(1)", inner.get_name()), &about);
        }
    }
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if let Some(examples) = examples.strip_prefix("Examples:\n") {
        rest.control("SH", ["EXAMPLES"]);
        markdown::verbatim(&mut rest, &examples.lines().map(str::trim_start).collect::<Vec<_>>().join("\n"));
    }
    entries(&mut rest, "EXIT STATUS", &EXIT_STATUS);
    entries(&mut rest, "FILES", &FILES);
    entries(&mut rest, "ENVIRONMENT", &ENVIRONMENT);
    let parent = name.rsplit_once('-').map(|_| "vetwatch(1), ").unwrap_or_default();
    see_also(&mut rest, &format!("{parent}vetwatch.toml(5), vetwatch(7)"));
    text += &rest.render();
    tidy(&text)
}

fn configuration() -> String {
    let mut page = titled("VETWATCH.TOML", "5", "vetwatch.toml", "the configuration of vetwatch");
    page.control("SH", ["DESCRIPTION"]);
    markdown::convert(&mut page, CONFIGURATION, true);
    page.control("SH", ["EXAMPLES"]);
    markdown::verbatim(&mut page, include_str!("../../deploy/vetwatch.toml"));
    entries(&mut page, "FILES", &FILES);
    see_also(&mut page, "vetwatch(1), vetwatch-check(1), vetwatch(7)");
    tidy(&page.render())
}

fn concepts() -> String {
    let mut page = titled("VETWATCH", "7", "vetwatch", "what it guarantees, its events, and what needs a person");
    page.control("SH", ["DESCRIPTION"]);
    markdown::convert(
        &mut page,
        "vetwatch watches the vetting of customers' qualifications in Microsoft Partner Center, and notifies people when a \
         review has ended: approved, or denied and why. It polls Partner Center, records each transition in a SQLite \
         database in one transaction with the messages that it causes, and delivers them by mail, webhook or chat until \
         they are accepted.",
        false,
    );
    page.control("SH", ["GUARANTEES"]);
    markdown::convert(&mut page, GUARANTEES, false);
    page.control("SH", ["EVENTS"]);
    for event in EventType::ALL {
        entry(&mut page, event.as_str(), event.when());
    }
    page.control("SH", ["WHAT NEEDS A PERSON"]);
    markdown::convert(
        &mut page,
        "Each of these is a line of `attention` in `vetwatch status`, whose exit status is 3 then.",
        false,
    );
    for reason in Reason::ALL {
        let [listed, reported, remedy] = reason.words();
        entry(
            &mut page,
            reason.as_str(),
            &format!("{listed}. The operators are notified: {reported}. Remedy: {remedy}."),
        );
    }
    entries(&mut page, "FILES", &FILES);
    see_also(&mut page, "vetwatch(1), vetwatch.toml(5)");
    tidy(&page.render())
}

fn titled(title: &str, section: &str, name: &str, about: &str) -> Roff {
    let mut page = Roff::new();
    page.control("TH", [title, section, DATE, &source(), "vetwatch"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {about}"))]);
    page
}

fn entries(page: &mut Roff, heading: &str, all: &[(&str, &str)]) {
    page.control("SH", [heading]);
    for (name, about) in all {
        entry(page, name, about);
    }
}

fn entry(page: &mut Roff, name: &str, about: &str) {
    page.control("TP", []);
    page.text([bold(name)]);
    page.text(markdown::inline(about));
}

fn see_also(page: &mut Roff, pages: &str) {
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(pages)]);
}

fn source() -> String {
    format!("vetwatch {}", env!("CARGO_PKG_VERSION"))
}

/// Without the breaks that formatters ignore and complain about: after a heading, and beside an empty line.
fn tidy(page: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in page.lines() {
        let last = lines.last().copied().unwrap_or_default();
        match line {
            ".PP" if last.starts_with(".S") => {}
            ".br" if last == ".sp" || last.is_empty() => {}
            ".sp" | "" if last == ".br" => *lines.last_mut().expect("there is a last one") = line,
            _ => lines.push(line),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_the_configuration_have_a_manual_page() {
        let pages = pages();
        let page = |name: &str| &pages.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}")).1;
        for (name, page) in pages.iter().filter(|(name, _)| name.ends_with(".1")) {
            for section in ["NAME", "SYNOPSIS", "GLOBAL OPTIONS", "EXIT STATUS", "FILES", "ENVIRONMENT", "SEE ALSO"] {
                assert!(
                    page.contains(&format!(".SH {section}\n")) || page.contains(&format!(".SH \"{section}\"\n")),
                    "{section} is not in {name}:\n{page}"
                );
            }
        }
        assert!(page("vetwatch-deliveries-redrive.1").contains("EXAMPLES"));
        // Every key of the reference.
        let toml = page("vetwatch.toml.5");
        for key in CONFIGURATION.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()) {
            let written = key.replace('-', "\\-");
            assert!(toml.contains(&written) || toml.contains(key), "{key} is not in vetwatch.toml(5)");
        }
        for reason in Reason::ALL {
            assert!(page("vetwatch.7").contains(reason.as_str()), "{}", reason.as_str());
        }
        assert!(!page("vetwatch.7").contains("killed_at_any_instant"), "tests are for the page in docs/");
    }
}
