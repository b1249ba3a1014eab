//! Prints to stdout. Nothing else in the crate does.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use textwrap::core::display_width;

use crate::cli::{Exit, Failure};
use crate::text;

/// Between two columns.
const GAP: usize = 2;

/// No screen is taken to be narrower.
const MIN_WIDTH: usize = 60;

/// A longer line continues below the text after its label, if the label ends here at the latest.
const LABEL_MAX_WIDTH: usize = 24;

/// Standard output.
#[derive(Debug)]
pub(super) struct Output {
    pub style: Style,
    /// In columns: no line is longer, but for words and whole columns that are.
    pub width: usize,
    /// The reader closed the pipe: the rest is dropped.
    closed: AtomicBool,
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    colour: bool,
}

impl Style {
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
    /// Uses colours only on a terminal without `NO_COLOR`; lines as long as the terminal is wide, or whole for a program
    /// that reads them.
    #[must_use]
    pub(super) fn stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let colour = std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        Self { style: Style { colour }, width: width_of(std::io::stdout()), closed: AtomicBool::new(false) }
    }

    /// Uses no colours, and this width.
    pub(super) fn plain(width: usize) -> Self {
        Self { style: Style::PLAIN, width, closed: AtomicBool::new(false) }
    }

    /// Writes `text`, with lines that are wider than the screen continued on the next.
    pub(super) fn write(&self, text: &str) -> Result<(), Failure> {
        self.write_exact(&wrap(text, self.width))
    }

    /// Writes `text` as it is: for programs. A closed pipe (`| head`) is no failure: the rest is dropped.
    pub(super) fn write_exact(&self, text: &str) -> Result<(), Failure> {
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
            self.write_exact("\u{feff}")?;
        }
        self.write_exact(text)
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
        self.write_exact(&(text::inert_json(&json) + "\n"))
    }

    /// Writes JSON on one line without terminal control characters.
    pub(super) fn json_line(&self, value: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(value)
            .map_err(|error| Failure::new(Exit::Failed, "cannot print the result").because(error.to_string()))?;
        self.write_exact(&(text::inert_json(&json) + "\n"))
    }

    /// Renders a table without borders, one line a row. Columns that do not fit are left out or cut; its cells are
    /// cleaned.
    #[must_use]
    pub(super) fn table(&self, columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let clean = |row: Vec<String>| row.iter().map(|cell| text::terminal(cell).into_owned()).collect();
        let rows: Vec<Vec<String>> = rows.into_iter().map(clean).collect();
        let header = columns.iter().map(|column| column.name.clone().into_owned()).collect();
        let widths = widths(columns, &natural_widths(&header, &rows), self.width);
        let mut table = String::new();
        let titled = columns.iter().any(|column| !column.name.is_empty());
        for row in std::iter::once(&header).filter(|_| titled).chain(&rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths).filter(|(_, width)| **width > 0) {
                let cell = cut(cell, *width);
                line += &cell;
                line.extend(std::iter::repeat_n(' ', width - display_width(&cell) + GAP));
            }
            table += line.trim_end();
            table.push('\n');
        }
        table
    }

    /// The same, and a line that names what this screen has no room for.
    #[must_use]
    pub(super) fn table_with_note(&self, columns: &[Column], rows: Vec<Vec<String>>) -> String {
        let header = columns.iter().map(|column| column.name.clone().into_owned()).collect();
        let widths = widths(columns, &natural_widths(&header, &rows), self.width);
        let left_out = header.into_iter().zip(widths).filter(|(_, width)| *width == 0).map(|(name, _)| name);
        let note = match left_out.collect::<Vec<_>>().join(", ") {
            names if names.is_empty() => String::new(),
            names => self.style.faint(&format!("not shown at {} columns: {names}", self.width)) + "\n",
        };
        self.table(columns, rows) + &note
    }
}

/// True for a regular file of which nothing is written yet (`>`; with `>>` the mark would stand in the middle).
fn is_new_file(output: BorrowedFd<'_>) -> bool {
    let file = output.try_clone_to_owned().map(std::fs::File::from).and_then(|file| file.metadata());
    file.is_ok_and(|file| file.is_file() && file.len() == 0)
}

/// A column of a table, and what becomes of it on a narrow screen.
#[derive(Debug, Clone)]
pub(super) struct Column {
    name: Cow<'static, str>,
    /// `None`: never cut.
    least_width: Option<usize>,
    /// 0: never left out.
    rank: u8,
}

impl Column {
    /// Never cut: a time, a number, an id.
    pub(super) fn whole(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), least_width: None, rank: 0 }
    }

    /// Cut with `…` to no less than `least_width` or its title: a name, a reason.
    pub(super) fn cut(name: impl Into<Cow<'static, str>>, least_width: usize) -> Self {
        Self { name: name.into(), least_width: Some(least_width), rank: 0 }
    }

    /// Left out where it does not fit, the highest rank first.
    pub(super) const fn optional(mut self, rank: u8) -> Self {
        self.rank = rank;
        self
    }
}

/// The width of a terminal; `COLUMNS` overrides it. Practically unlimited if it is none.
pub(super) fn width_of(stream: impl AsFd) -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0));
    columns.or_else(terminal).map_or(10_000, |width| width.max(MIN_WIDTH))
}

/// The lines of the terminal that stdout is, if it is one.
pub(super) fn height() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(_, height)| usize::from(height.0))
}

/// `text` instead of what the terminal shows, without the lines that it has no room for.
pub(super) fn screenful(text: &str, width: usize, height: usize) -> String {
    let text = wrap(text, width);
    let lines: Vec<&str> = text.lines().collect();
    let room = height.saturating_sub(1);
    let mut screen = "\u{1b}[H\u{1b}[2J".to_owned();
    if lines.len() <= room {
        return screen + &text;
    }
    let shown = room.saturating_sub(1);
    screen += &lines[..shown].join("\n");
    screen + &format!("\n… {} more lines: make the terminal higher", lines.len() - shown)
}

/// Continues lines that are wider than `width` on the next, below the text after their label. Words are never broken.
pub(super) fn wrap(text: &str, width: usize) -> Cow<'_, str> {
    if text.lines().all(|line| display_width(line) <= width) {
        return text.into();
    }
    let mut wrapped = String::new();
    for line in text.split_inclusive('\n') {
        if display_width(line.trim_end()) <= width {
            wrapped += line;
            continue;
        }
        let (start, hanging) = (" ".repeat(indent(line)), " ".repeat(hanging_indent(line)));
        let options = textwrap::Options::new(width)
            .initial_indent(&start)
            .subsequent_indent(&hanging)
            .break_words(false)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
        wrapped += &textwrap::fill(line.trim(), options);
        wrapped.push('\n');
    }
    wrapped.into()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Below the text after a label (`  last error     …`), else two more than the line's own.
fn hanging_indent(line: &str) -> usize {
    let start = indent(line);
    let text = &line[start..];
    let label = text.find("  ").map(|end| start + display_width(&text[..end]) + indent(&text[end..]));
    label.filter(|text| *text <= LABEL_MAX_WIDTH).unwrap_or(start + 2)
}

/// At most `width` wide, with `…` for what is left out.
pub(super) fn cut(cell: &str, width: usize) -> Cow<'_, str> {
    if display_width(cell) <= width {
        return cell.into();
    }
    let fits = |end: &usize| display_width(&cell[..*end]) < width;
    let end = cell.char_indices().map(|(at, _)| at).take_while(fits).last().unwrap_or(0);
    (cell[..end].trim_end().to_owned() + "…").into()
}

fn natural_widths(header: &Vec<String>, rows: &[Vec<String>]) -> Vec<usize> {
    let of = |n: usize| std::iter::once(header).chain(rows).filter_map(move |row| row.get(n));
    (0..header.len()).map(|n| of(n).map(|cell| display_width(cell)).max().unwrap_or(0)).collect()
}

/// The width of each column: 0 for one that is left out.
fn widths(columns: &[Column], natural: &[usize], screen: usize) -> Vec<usize> {
    let mut widths = natural.to_vec();
    let least_of = |n: usize, least: usize| least.max(display_width(&columns[n].name)).min(natural[n]);
    let least = |n: usize| columns[n].least_width.map_or(natural[n], |least| least_of(n, least));
    let total = |width_of: &dyn Fn(usize) -> usize, widths: &[usize]| {
        let shown = (0..widths.len()).filter(|n| widths[*n] > 0);
        shown.map(|n| width_of(n) + GAP).sum::<usize>().saturating_sub(GAP)
    };
    while total(&least, &widths) > screen {
        let optional = (0..columns.len()).filter(|n| columns[*n].rank > 0 && widths[*n] > 0);
        let Some(dropped) = optional.max_by_key(|n| columns[*n].rank) else { break };
        widths[dropped] = 0;
    }
    // The widest gives way first.
    while total(&|n| widths[n], &widths) > screen {
        let longer = (0..columns.len()).filter(|n| widths[*n] > least(*n));
        let Some(widest) = longer.max_by_key(|n| widths[*n]) else { break };
        widths[widest] -= 1;
    }
    widths
}

/// What a command shows at 80 and at 120 columns, for a snapshot.
#[cfg(test)]
pub(super) fn on_screens(render: impl Fn(&Output) -> String) -> String {
    let screens = [80, 120].map(|width| {
        let shown = wrap(&render(&Output::plain(width)), width).into_owned();
        let wide = shown.lines().find(|line| display_width(line) > width && line.trim().contains(' '));
        assert_eq!(wide, None, "wider than {width} columns");
        format!("--- {width} columns ---\n{shown}")
    });
    screens.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> [Column; 4] {
        let reason = Column::cut("REASON", 12);
        [Column::whole("SEEN"), Column::cut("CUSTOMER", 10), reason, Column::whole("EVENT ID").optional(1)]
    }

    fn row() -> Vec<String> {
        let name = "Contoso\u{1b}[31m School of a long name";
        ["2026-11-20 14:03", name, "Not an Education Customer - After Review", "0193b000-0000"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn a_row_is_one_line_within_the_width_and_its_cells_cannot_act() {
        for width in [60, 80, 100] {
            let shown = Output::plain(width).table(&columns(), [row()]);
            assert!(shown.lines().all(|line| line.chars().count() <= width), "{shown}");
            assert_eq!(shown.lines().count(), 2);
            assert!(!shown.contains('\u{1b}'), "{shown}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_by_rank_then_cut_with_an_ellipsis() {
        insta::assert_snapshot!(Output::plain(60).table(&columns(), [row()]), @r"
        SEEN              CUSTOMER       REASON        EVENT ID
        2026-11-20 14:03  Contoso�[31m…  Not an Educ…  0193b000-0000
        ");
        let noted = |width| Output::plain(width).table_with_note(&columns(), vec![row()]);
        assert!(noted(50).ends_with("\nnot shown at 50 columns: EVENT ID\n"));
        assert_eq!(noted(200).lines().count(), 2);
    }

    #[test]
    fn a_screenful_leaves_a_line_for_the_cursor_and_says_what_is_missing() {
        let text = "one\ntwo\nthree\nfour\n";
        assert_eq!(screenful(text, 80, 5).lines().count(), 4);
        assert!(screenful(text, 80, 4).ends_with("one\ntwo\n… 2 more lines: make the terminal higher"));
    }

    #[test]
    fn a_wide_character_counts_twice() {
        let rows = ["学校学校学校学校", "école"].map(|name| vec![name.to_owned(), "1".to_owned()]);
        let columns = [Column::cut("CUSTOMER", 8), Column::whole("TRY")];
        insta::assert_snapshot!(Output::plain(14).table(&columns, rows), @r"
        CUSTOMER   TRY
        学校学校…  1
        école      1
        ");
    }

    #[test]
    fn a_long_line_continues_below_its_text_and_no_word_is_broken() {
        let text = "  last error     the mail server smtp.contoso.example refuses https://a.long.example/that/does/not/fit/into/the/line\nshort\n";
        insta::assert_snapshot!(wrap(text, 60), @r"
          last error     the mail server smtp.contoso.example
                         refuses
                         https://a.long.example/that/does/not/fit/into/the/line
        short
        ");
        assert!(matches!(wrap("short\n", 60), Cow::Borrowed(_)));
    }
}
