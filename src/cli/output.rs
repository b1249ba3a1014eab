//! Prints to stdout. Nothing else in the crate does.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;

use crate::cli::{Exit, Failure};
use crate::text;

/// A column of at most this width (`2026-11-20 14:03`, `InReview → Approved`) is never broken.
const WHOLE_WIDTH: u16 = 19;

/// Between two columns.
const GAP: u16 = 2;

/// A longer word (`GovernmentCommunityCloud` is the longest that Microsoft uses) may be broken.
const WORD_WIDTH: u16 = 24;

/// Standard output.
#[derive(Debug)]
pub(super) struct Output {
    pub style: Style,
    /// Maximum width of a table.
    pub width: u16,
    /// The reader closed the pipe: the rest is dropped.
    closed: AtomicBool,
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    colour: bool,
}

impl Style {
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { colour: false };

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    #[must_use]
    pub(super) fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }

    #[must_use]
    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    #[must_use]
    pub(super) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    #[must_use]
    pub(super) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

impl Output {
    /// Uses colours only on a terminal without `NO_COLOR`; tables as wide as the terminal, or one line a row for a
    /// program that reads them.
    #[must_use]
    pub(super) fn stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let colour = std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let terminal = || terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0);
        let width = columns.or_else(terminal).unwrap_or(1000);
        Self { style: Style { colour }, width: width.max(60), closed: AtomicBool::new(false) }
    }

    /// Uses no colours, and this width.
    #[cfg(test)]
    pub(super) fn plain(width: u16) -> Self {
        Self { style: Style::PLAIN, width, closed: AtomicBool::new(false) }
    }

    /// Writes all of `text`. A closed pipe (`| head`) is no failure: the rest is dropped.
    pub(super) fn write(&self, text: &str) -> Result<(), Failure> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(Failure::new(Exit::Failed, "cannot print the result").because(error.to_string())),
        }
    }

    /// Writes CSV: into a file with a byte order mark, without which Excel takes UTF-8 for something else. A program that
    /// reads a pipe would take the mark for a part of the first name.
    pub(super) fn csv(&self, text: &str) -> Result<(), Failure> {
        if is_new_file(std::io::stdout().as_fd()) {
            self.write("\u{feff}")?;
        }
        self.write(text)
    }

    /// True if the pipe was closed: a command that runs until it is stopped may end.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn line(&self, text: &str) -> Result<(), Failure> {
        self.write(&format!("{text}\n"))
    }

    /// Writes indented JSON without terminal control characters.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(Exit::Failed, "cannot print the result").because(error.to_string()))?;
        self.line(&text::inert_json(&json))
    }

    /// Renders a table without borders; its cells are cleaned, and wrapped if it is wider than the terminal.
    #[must_use]
    pub(super) fn table(&self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(self.width);
        if header.iter().any(|name| !name.is_empty()) {
            table.set_header(header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        }
        for row in rows {
            table.add_row(row.iter().map(|cell| text::terminal(cell).into_owned()).collect::<Vec<_>>());
        }
        for (column, constraint) in constraints(&mut table, header, self.width).into_iter().enumerate() {
            if let Some(column) = table.column_mut(column) {
                column.set_padding((0, GAP)).set_constraint(constraint);
            }
        }
        table.trim_fmt() + "\n"
    }
}

/// True for a regular file of which nothing is written yet (`>`; with `>>` the mark would stand in the middle).
fn is_new_file(output: BorrowedFd<'_>) -> bool {
    let file = output.try_clone_to_owned().map(std::fs::File::from).and_then(|file| file.metadata());
    file.is_ok_and(|file| file.is_file() && file.len() == 0)
}

/// A time, number or word broken over two lines is hard to read, and an id cannot be copied; names and reasons can
/// wrap. If the width does not hold every word, long ones are broken.
fn constraints(table: &mut Table, header: &[&str], width: u16) -> Vec<ColumnConstraint> {
    let words: Vec<u16> = (0..table.column_count()).map(|column| longest_word(table, column)).collect();
    let widest = table.column_max_content_widths();
    let whole: Vec<bool> =
        widest.iter().zip(header).map(|(widest, name)| *widest <= WHOLE_WIDTH || name.ends_with(" ID")).collect();
    let least = |limit: u16| {
        let columns = widest.iter().zip(&words);
        columns.zip(&whole).map(move |((widest, word), whole)| if *whole { *widest } else { limit.min(*word) } + GAP)
    };
    let fits = |limit: &u16| least(*limit).map(u32::from).sum::<u32>() <= u32::from(width);
    let limit = [WORD_WIDTH, 16, 12].into_iter().find(fits).unwrap_or(8);
    let constraint = |(whole, least): (&bool, u16)| {
        if *whole {
            return ColumnConstraint::ContentWidth;
        }
        ColumnConstraint::LowerBoundary(Width::Fixed(least))
    };
    whole.iter().zip(least(limit)).map(constraint).collect()
}

/// In characters, header included.
fn longest_word(table: &Table, column: usize) -> u16 {
    let cells = table.column_cells_with_header_iter(column).flatten().map(comfy_table::Cell::content);
    let longest = cells.filter_map(|text| text.split(' ').map(|word| word.chars().count()).max()).max();
    u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_stays_within_its_width_and_its_cells_cannot_act() {
        let rows = [vec!["2026-11-20 14:03".into(), "Contoso\u{1b}[31m School of a long name".into(), "x ".repeat(80)]];
        let shown = Output::plain(60).table(&["SEEN", "CUSTOMER", "REASON"], rows);
        assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(shown.starts_with("SEEN"), "{shown}");
    }
}
