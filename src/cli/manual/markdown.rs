//! The Markdown of `docs/` as a manual page shows it.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Without its title, links' targets and comments; without lists unless `lists`. Of a table each row is an entry: the
/// first cell in bold, then the others.
pub(super) fn convert(page: &mut Roff, text: &str, lists: bool) {
    let mut state = State { lists, ..State::default() };
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        state.take(page, event);
    }
}

/// One paragraph.
pub(super) fn inline(text: &str) -> Vec<Inline> {
    let mut state = State::default();
    for event in Parser::new(text) {
        state.gather(event);
    }
    state.text
}

/// Lines as they are.
pub(super) fn verbatim(page: &mut Roff, text: &str) {
    page.control("PP", []);
    page.control("nf", []);
    for line in text.trim_end().lines() {
        // An empty line is one in groff as well, but not without complaint.
        if line.is_empty() {
            page.control("sp", [])
        } else {
            page.text([roman(line)])
        };
    }
    page.control("fi", []);
}

#[derive(Default)]
struct State {
    lists: bool,
    text: Vec<Inline>,
    font: Font,
    /// Inside this many lists.
    depth: u32,
    /// An item's first paragraph needs no break.
    in_item: bool,
    block: Block,
    headers: Vec<String>,
    cells: Vec<Vec<Inline>>,
}

#[derive(Default, PartialEq)]
enum Font {
    #[default]
    Roman,
    Bold,
    Italic,
}

#[derive(Default, PartialEq)]
enum Block {
    #[default]
    Text,
    Code,
    TableHead,
}

impl State {
    fn take(&mut self, page: &mut Roff, event: Event<'_>) {
        let shown = self.lists || self.depth == 0;
        match event {
            Event::Start(Tag::List(_)) => self.depth += 1,
            Event::End(TagEnd::List(_)) => {
                self.depth -= 1;
                self.text.clear();
            }
            Event::Start(Tag::Item) if shown => {
                page.control("IP", ["\\(bu", "2"]);
                self.in_item = true;
            }
            Event::End(TagEnd::Item) => {
                let text = std::mem::take(&mut self.text);
                if shown && !text.is_empty() {
                    page.text(text);
                }
                self.in_item = false;
            }
            Event::End(TagEnd::Heading(level)) => {
                let text = plain(&std::mem::take(&mut self.text));
                match level {
                    HeadingLevel::H1 => {}
                    _ => drop(page.control("SS", [text.as_str()])),
                }
            }
            Event::End(TagEnd::Paragraph) => {
                let text = std::mem::take(&mut self.text);
                if shown && !text.is_empty() {
                    if !std::mem::take(&mut self.in_item) {
                        page.control("PP", []);
                    }
                    page.text(text);
                }
            }
            Event::Start(Tag::CodeBlock(_)) => self.block = Block::Code,
            Event::Text(text) if self.block == Block::Code => {
                if shown {
                    verbatim(page, &text);
                }
            }
            Event::Start(Tag::Table(_)) => self.headers.clear(),
            Event::Start(Tag::TableHead) => self.block = Block::TableHead,
            Event::End(TagEnd::TableCell) => {
                let cell = std::mem::take(&mut self.text);
                if self.block == Block::TableHead { self.headers.push(plain(&cell)) } else { self.cells.push(cell) }
            }
            Event::End(TagEnd::TableHead | TagEnd::CodeBlock) => self.block = Block::Text,
            Event::End(TagEnd::TableRow) => self.row(page),
            Event::Html(_) | Event::InlineHtml(_) => {}
            other => self.gather(other),
        }
    }

    fn gather(&mut self, event: Event<'_>) {
        match event {
            Event::Start(Tag::Strong) => self.font = Font::Bold,
            Event::Start(Tag::Emphasis) => self.font = Font::Italic,
            Event::End(TagEnd::Strong | TagEnd::Emphasis) => self.font = Font::Roman,
            Event::Text(text) => self.text.push(match self.font {
                Font::Roman => roman(text.into_string()),
                Font::Bold => bold(text.into_string()),
                Font::Italic => italic(text.into_string()),
            }),
            Event::Code(code) => self.text.push(bold(code.into_string())),
            Event::SoftBreak | Event::HardBreak => self.text.push(roman(" ")),
            _ => {}
        }
    }

    fn row(&mut self, page: &mut Roff) {
        let mut cells =
            std::mem::take(&mut self.cells).into_iter().zip(&self.headers).filter(|(cell, _)| !cell.is_empty());
        let Some((first, _)) = cells.next() else { return };
        page.control("TP", []);
        page.text(first);
        let mut text = Vec::new();
        for (cell, header) in cells {
            if !text.is_empty() {
                text.push(roman(". "));
            }
            if !header.is_empty() {
                text.push(roman(format!("{header}: ")));
            }
            text.extend(cell);
        }
        page.text(text);
    }
}

fn plain(text: &[Inline]) -> String {
    text.iter()
        .map(|piece| match piece {
            Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text.as_str(),
            Inline::LineBreak => " ",
        })
        .collect()
}
