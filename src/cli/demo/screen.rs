//! The live screen: the customers as the database has them, and the story beneath, a line an event.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use textwrap::core::display_width;
use tokio::time::Instant;

use super::controls::browser;
use super::environment::Stage;
use super::observer::{DemoEvent, DemoEventKind};
use super::renderer;
use super::terminal::Terminal;
use crate::cli::output::{Column, Output, Style, cut};
use crate::cli::time_args::instant;
use crate::cli::{Context, Failure};
use crate::store::reports::CurrentRow;
use crate::text::span;
use crate::time::Timestamp;

/// How long a row stays marked after a change.
const MARKED_FOR: Duration = Duration::from_secs(4);
/// How many lines of the story are kept, for when the screen is gone.
const STORY_MAX: usize = 200;
/// Width of who did something, and of the time before it as well.
const WHO: usize = 16;
const MARGIN: usize = WHO + 8;
/// Width of the mark before a row, and of the gap after it.
const MARK: usize = 3;

pub(super) struct Screen<'c> {
    out: &'c Output,
    pub(super) terminal: Terminal,
    began: Timestamp,
    story: VecDeque<Line>,
    changed: HashMap<(String, String), Instant>,
    /// What is shown, and how large the terminal was then.
    shown: Vec<String>,
    size: (usize, usize),
    has_links: bool,
    pub(super) ending: bool,
}

struct Line {
    at: Timestamp,
    who: &'static str,
    what: String,
    number: Option<usize>,
}

impl<'c> Screen<'c> {
    pub(super) fn new(context: &'c Context, terminal: Terminal) -> Self {
        Self {
            out: &context.out,
            terminal,
            began: context.now(),
            story: VecDeque::new(),
            changed: HashMap::new(),
            shown: Vec::new(),
            size: (0, 0),
            has_links: std::env::var_os("TERM").is_some_and(|terminal| terminal != "linux"),
            ending: false,
        }
    }

    pub(super) fn note(&mut self, event: &DemoEvent) {
        let (who, what) = renderer::line(Style::PLAIN, &event.what);
        if let DemoEventKind::Transition(row) = &event.what {
            self.changed.insert((row.customer_id.clone(), row.qualification.clone()), Instant::now());
        }
        self.story.push_back(Line { at: event.at, who, what, number: event.number });
        if self.story.len() > STORY_MAX {
            self.story.pop_front();
        }
    }

    /// Draws what differs from what is shown.
    pub(super) fn draw(
        &mut self,
        stage: &Stage,
        rows: &[CurrentRow],
        pending: usize,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let size = terminal_size::terminal_size().map_or((80, 24), |(width, height)| (width.0.into(), height.0.into()));
        let resized = size != self.size;
        if resized {
            (self.size, self.shown) = (size, Vec::new());
        }
        let lines = self.lines(stage, rows, pending, now);
        let changed = lines.iter().enumerate().filter(|(index, line)| self.shown.get(*index) != Some(line));
        let changed: Vec<_> = changed.map(|(index, line)| format!("\u{1b}[{};1H{line}\u{1b}[K", index + 1)).collect();
        let changed = changed.concat();
        self.shown = lines;
        if resized {
            return self.out.write_exact(&format!("\u{1b}[2J{changed}"));
        }
        if changed.is_empty() { Ok(()) } else { self.out.write_exact(&changed) }
    }

    fn lines(&self, stage: &Stage, rows: &[CurrentRow], pending: usize, now: Timestamp) -> Vec<String> {
        let (width, height) = self.size;
        let style = self.out.style;
        let mut lines = self.head(stage, pending, now);
        // About half of the screen, and at least a row: the story tells the rest.
        let room = (height / 2).saturating_sub(lines.len()).max(4);
        lines.extend(self.table(stage, rows, room, now));
        lines.push(style.faint(&"─".repeat(width)));
        let room = height.saturating_sub(lines.len() + 1);
        let story: Vec<_> = self.story.iter().rev().take(room).collect();
        let mut told: Vec<_> = story.into_iter().rev().flat_map(|line| self.told(stage, line)).collect();
        told.drain(..told.len().saturating_sub(room));
        told.resize(room, String::new());
        lines.extend(told);
        lines.truncate(height.saturating_sub(1));
        lines.push(self.keys(stage));
        lines
    }

    fn head(&self, stage: &Stage, pending: usize, now: Timestamp) -> Vec<String> {
        let (width, _) = self.size;
        let style = self.out.style;
        let mail = if stage.mail_is_down() { style.bad("off") } else { style.good("on") };
        let daemon = match stage.daemon.pid() {
            Some(pid) => style.good(&format!("pid {pid}")),
            None => style.bad("killed"),
        };
        let seconds = if width < 70 { String::new() } else { format!("  {} s", now.since(self.began).as_secs()) };
        let title = style.heading("vetwatch demo");
        let mut lines = vec![format!("{title}  daemon {daemon}  mail server {mail}  waiting {pending}{seconds}")];
        let (page, arrived) = (stage.page.as_str(), stage.pages.url());
        let [page_line, arrived_line] = [("page  ", page), ("mails and cards  ", &arrived)]
            .map(|(name, url)| format!("{name}{}", self.link(url, url)));
        if 29 + page.len() + arrived.len() <= width {
            lines.push(format!("{page_line}      {arrived_line}"));
        } else {
            lines.extend([page_line, arrived_line]);
        }
        lines.push(String::new());
        lines
    }

    /// In review first, the oldest first; then what changed last.
    fn table(&self, stage: &Stage, rows: &[CurrentRow], room: usize, now: Timestamp) -> Vec<String> {
        let style = self.out.style;
        let is_in_review = |row: &&CurrentRow| row.vetting_status.as_deref() == Some("InReview");
        let (mut waiting, mut settled): (Vec<_>, Vec<_>) = rows.iter().partition(is_in_review);
        waiting.sort_by(|a, b| a.vetting_created_at.cmp(&b.vetting_created_at));
        settled.sort_by(|a, b| b.status_since.cmp(&a.status_since));
        let rows: Vec<_> = waiting.into_iter().chain(settled).collect();
        let shown = if rows.len() < room { rows.len() } else { room.saturating_sub(2) };
        let is_marked = |row: &CurrentRow| {
            let changed = self.changed.get(&(row.customer_id.clone(), row.qualification.clone()));
            changed.is_some_and(|changed| changed.elapsed() < MARKED_FOR)
        };
        let cells = rows.iter().take(shown).map(|row| {
            let mark = if is_marked(row) { "▸" } else { "" };
            let since = self.since(row, now);
            let attempt = row.attempt.to_string();
            vec![mark.to_owned(), row.customer_name.clone(), row.qualification.clone(), status(row), since, attempt]
        });
        let columns = [
            Column::whole(" "),
            Column::cut("CUSTOMER", 16),
            Column::cut("QUALIFICATION", 9).optional(1),
            Column::cut("STATUS", 12),
            Column::whole("SINCE"),
            Column::whole("ATTEMPT").optional(2),
        ];
        let table = Output::plain(self.size.0).table(&columns, cells);
        let mut lines = table.lines();
        let mut styled_rows: Vec<_> = lines.next().map(|title| style.faint(title)).into_iter().collect();
        for (line, row) in lines.zip(&rows) {
            styled_rows.push(self.styled(stage, line, row, is_marked(row)));
        }
        if shown < rows.len() {
            styled_rows.push(style.faint(&format!("   and {} more", rows.len() - shown)));
        }
        styled_rows
    }

    /// A row with a link to the customer's page, its status coloured, and marked by more than a colour.
    fn styled(&self, stage: &Stage, line: &str, row: &CurrentRow, is_marked: bool) -> String {
        let style = self.out.style;
        let strong = |text: &str| if is_marked && !text.is_empty() { style.heading(text) } else { text.to_owned() };
        let name_at = line.char_indices().nth(MARK).map_or(line.len(), |(at, _)| at);
        let (mark, rest) = line.split_at(name_at);
        let (name, rest) = rest.split_at(rest.find("  ").unwrap_or(rest.len()));
        let url = format!("{}customer/{}/{}", stage.page, row.partner, row.customer_id);
        let word = row.vetting_status.as_deref().unwrap_or_default();
        let painted = match word {
            "Approved" => style.good(word),
            "Denied" => style.bad(word),
            _ => strong(word),
        };
        // The reason behind it has no such word.
        let rest = match rest.rfind(word) {
            Some(at) => format!("{}{painted}{}", strong(&rest[..at]), strong(&rest[at + word.len()..])),
            None => strong(rest),
        };
        format!("{}{}{rest}", strong(mark), self.link(&url, &strong(name)))
    }

    /// Of what was settled at the first look, nobody knows.
    fn since(&self, row: &CurrentRow, now: Timestamp) -> String {
        let known = row.vetting_created_at.as_ref().filter(|_| row.vetting_status.as_deref() == Some("InReview"));
        let changed = self.changed.contains_key(&(row.customer_id.clone(), row.qualification.clone()));
        match known.or_else(|| changed.then_some(&row.status_since)).and_then(|time| instant(time)) {
            Some(time) => span(now.since(time)),
            None => "–".to_owned(),
        }
    }

    /// A line of the story; one of words alone goes on below.
    fn told(&self, stage: &Stage, line: &Line) -> Vec<String> {
        let style = self.out.style;
        let (width, _) = self.size;
        let time = style.faint(&format!("{:6.1}", line.at.since(self.began).as_secs_f64()));
        let (who, url) = match line.number {
            Some(number) => (format!("{} #{number}", line.who), stage.pages.url_of(number)),
            None => (line.who.to_owned(), String::new()),
        };
        let padding = " ".repeat(WHO.saturating_sub(display_width(&who)));
        let who = if url.is_empty() { who } else { self.link(&url, &who) };
        let mut what = line.what.clone();
        if !url.is_empty() && MARGIN + display_width(&what) + 2 + url.len() <= width {
            what = format!("{what}  {url}");
        }
        let room = width.saturating_sub(MARGIN).max(20);
        // Of what arrived, a page tells the rest.
        let wrapped = if url.is_empty() { textwrap::wrap(&what, room) } else { vec![cut(&what, room)] };
        let words = |text: &str| match line.who {
            "Partner Center" | "mail server" | "daemon" => style.heading(text),
            _ => text.to_owned(),
        };
        let mut lines = wrapped.iter();
        let first = lines.next().map(|first| words(first)).unwrap_or_default();
        let more = lines.map(|more| format!("{}{}", " ".repeat(MARGIN), words(more)));
        std::iter::once(format!("{time}  {who}{padding}{first}")).chain(more).collect()
    }

    fn keys(&self, stage: &Stage) -> String {
        let style = self.out.style;
        if self.ending {
            return style.heading("ending: what waits is still delivered; again: at once");
        }
        let mail = if stage.mail_is_down() { "mail server on" } else { "mail server off" };
        let open = browser().then_some(("o", "open page"));
        let keys: Vec<_> =
            [("a", "approve"), ("d", "deny"), ("m", mail), ("k", "kill the daemon")].into_iter().chain(open).collect();
        let width = keys.iter().map(|(_, does)| does.len() + 4).sum::<usize>() + "q quit".len();
        // On a narrow screen the first word must do.
        let words = |does: &'static str| does.split(' ').next().filter(|_| width > self.size.0).unwrap_or(does);
        let keys = keys.into_iter().chain([("q", "quit")]);
        keys.map(|(key, does)| format!("{} {}", style.heading(key), words(does))).collect::<Vec<_>>().join("  ")
    }

    /// A link where the terminal knows such.
    fn link(&self, url: &str, words: &str) -> String {
        if self.has_links { format!("\u{1b}]8;;{url}\u{1b}\\{words}\u{1b}]8;;\u{1b}\\") } else { words.to_owned() }
    }

    /// Restores the terminal. Returns the story, for the screen that comes back.
    pub(super) fn end(self) -> String {
        let lines = self.story.iter().map(|line| {
            let time = line.at.since(self.began).as_secs_f64();
            format!("{time:6.1} s  {:<14}  {}\n", line.who, line.what)
        });
        lines.collect()
    }
}

fn status(row: &CurrentRow) -> String {
    let status = row.vetting_status.as_deref().unwrap_or("no status");
    let reason = row.vetting_reason.as_deref().filter(|_| status == "Denied");
    reason.map_or(status.to_owned(), |reason| format!("{status} ({reason})"))
}
