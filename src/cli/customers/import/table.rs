//! The file of `customers import`: CSV after RFC 4180, with the names of the columns in the first line.
//!
//! A row is accepted or rejected as a whole, and so is the file: the caller reports all rejected rows at once.

use std::collections::VecDeque;
use std::io::{self, Read};

use csv::{ByteRecord, Position, Reader, ReaderBuilder};
use uuid::Uuid;

use crate::cli::customers::add::{EXAMPLE_ID, guid, is_tag, spelled};
use crate::store::customers::ImportedCustomer;

/// The possible columns; only the first one is required.
pub(super) const COLUMNS: [&str; 5] = ["id", "name", "domain", "tags", "contact"];

/// In characters. A missing quote makes one cell of all that follows.
const CELL_MAX_CHARS: usize = 500;

/// Reads rows one by one; it holds none.
pub(super) struct Table<R> {
    reader: Reader<Lines<R>>,
    record: ByteRecord,
    /// The positions of `COLUMNS`.
    places: [Option<usize>; COLUMNS.len()],
    width: usize,
}

/// A row that can be imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub line: u64,
    pub guid: Uuid,
    pub customer: ImportedCustomer,
}

/// Why a file or a line is rejected, for people.
#[derive(Debug)]
pub(super) enum Problem {
    Line {
        line: u64,
        why: String,
    },
    /// The file could not be read to its end.
    Io(io::Error),
}

impl<R: Read> Table<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// If the names of the columns are wrong; lists all problems.
    pub(super) fn open(input: R) -> Result<Self, Problem> {
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(Lines::of(input));
        let mut record = ByteRecord::new();
        if !reader.read_byte_record(&mut record).map_err(broken)? {
            return Err(Problem::Line { line: 1, why: format!("the file is empty; {}", names_of_columns()) });
        }
        let mut line = line_of(&mut reader, &record);
        // Excel's own line before the first one. Its separator must be the one that is read here.
        let said = record.iter().next().unwrap_or_default().trim_ascii();
        if let Some(separator) = said.strip_prefix(b"sep=").or_else(|| said.strip_prefix(b"SEP=")) {
            // `sep=,` is itself cut at its comma.
            if !separator.is_empty() || record.len() != 2 {
                let separator = String::from_utf8_lossy(separator);
                let why = format!(
                    "cells are separated by commas, and this line says \"{separator}\": save the file with commas"
                );
                return Err(Problem::Line { line, why });
            }
            if !reader.read_byte_record(&mut record).map_err(broken)? {
                return Err(Problem::Line { line, why: format!("the file is empty; {}", names_of_columns()) });
            }
            line = line_of(&mut reader, &record);
        }
        let places =
            places(&record).and_then(|places| misquoted(&reader).map_or(Ok(places), |why| Err(why.to_owned())));
        let places = places.map_err(|why| Problem::Line { line, why })?;
        Ok(Self { reader, width: places.1, record, places: places.0 })
    }

    /// Returns the next row, `None` at the end. Rows of only empty cells, which spreadsheets leave behind, are skipped.
    ///
    /// # Errors
    /// If the row is wrong; lists all problems. The next call continues after it.
    pub(super) fn next(&mut self) -> Result<Option<Row>, Problem> {
        while self.reader.read_byte_record(&mut self.record).map_err(broken)? {
            if self.record.iter().any(|cell| !cell.trim_ascii().is_empty()) {
                let line = line_of(&mut self.reader, &self.record);
                let row = misquoted(&self.reader).map_or_else(|| self.row(line), |why| Err(vec![why.to_owned()]));
                return row.map(Some).map_err(|why| Problem::Line { line, why: why.join("; ") });
            }
        }
        Ok(None)
    }

    fn row(&self, line: u64) -> Result<Row, Vec<String>> {
        // Spreadsheets leave empty cells at the end of a line. A blank after a comma is a sign that the comma is a name's.
        let is_empty = |cell: &[u8]| cell.trim_ascii().is_empty();
        let only_empty_more = self.record.len() > self.width
            && self.record.iter().skip(self.width).all(is_empty)
            && !self.record.iter().any(|cell| cell.starts_with(b" ") && !is_empty(cell));
        if self.record.len() != self.width && !only_empty_more {
            let (seen, wanted) = (self.record.len(), self.width);
            let advice = if seen > wanted { ": a cell that holds a comma is written in double quotes" } else { "" };
            return Err(vec![format!("{seen} cells where the first line has {wanted}{advice}")]);
        }
        let mut wrong = Vec::new();
        let mut take = |column: usize| {
            let cell = self.places[column].and_then(|place| self.record.get(place)).unwrap_or_default();
            cell_text(cell).map_err(|why| wrong.push(format!("{} {why}", COLUMNS[column]))).ok().flatten()
        };
        let [id, name, domain, tags, contact] = std::array::from_fn(&mut take);
        let guid = id.as_deref().and_then(guid);
        match &id {
            Some(id) if guid.is_none() => {
                wrong.push(format!("\"{id}\" is not a tenant id, which is a GUID such as {EXAMPLE_ID}"));
            }
            None if wrong.is_empty() => wrong.push("no tenant id".into()),
            _ => {}
        }
        let tags = tags.map(|text| split_tags(&text).map_err(|why| wrong.push(why)).unwrap_or_default());
        match (guid, id) {
            (Some(guid), Some(id)) if wrong.is_empty() => {
                let tags = tags.filter(|tags| !tags.is_empty());
                let id = spelled(&id, guid);
                Ok(Row { line, guid, customer: ImportedCustomer { id, name, domain, tags, contact } })
            }
            _ => Err(wrong),
        }
    }
}

/// A cell without surrounding blanks. `None` if nothing is left.
fn cell_text(cell: &[u8]) -> Result<Option<String>, String> {
    let text = std::str::from_utf8(cell).map_err(|_| "is not UTF-8; save the file as \"CSV UTF-8\"".to_owned())?.trim();
    if text.contains(['\n', '\r']) {
        return Err("goes over several lines; is a double quote missing?".into());
    }
    if text.chars().nth(CELL_MAX_CHARS).is_some() {
        return Err(format!("is longer than {CELL_MAX_CHARS} characters"));
    }
    if text.contains(char::is_control) {
        return Err("holds a control character".into());
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Splits tags and removes duplicates.
fn split_tags(text: &str) -> Result<Vec<String>, String> {
    let mut tags: Vec<String> = Vec::new();
    for tag in text.split([';', '|']).map(str::trim).filter(|tag| !tag.is_empty()) {
        if !is_tag(tag) {
            return Err(format!("\"{tag}\" is not a tag: tags are separated by semicolons, and hold no comma"));
        }
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }
    Ok(tags)
}

/// The position of each column and their number, without empty ones at the end; or all problems with their names.
fn places(header: &ByteRecord) -> Result<([Option<usize>; COLUMNS.len()], usize), String> {
    let mut cells: Vec<String> = header.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
    // With its mark, or with a zero byte in each character.
    let is_utf_16 = |cell: &[u8]| cell.starts_with(b"\xFF\xFE") || cell.starts_with(b"\xFE\xFF") || cell.contains(&0);
    let is_workbook = header.get(0).is_some_and(|cell| cell.starts_with(b"PK\x03\x04"));
    if header.iter().any(is_utf_16) && !is_workbook {
        return Err("the file is UTF-16; save it as \"CSV UTF-8\"".into());
    }
    if is_workbook {
        return Err("the file is an Excel workbook; save it as \"CSV UTF-8\"".into());
    }
    if cells[0].starts_with(['[', '{']) && guid(&cells[0]).is_none() {
        return Err("the file is JSON; write a table with commas between the cells (CSV)".into());
    }
    while cells.len() > 1 && cells.last().is_some_and(String::is_empty) {
        cells.pop();
    }
    if let ([only], Some(separator)) = (cells.as_slice(), cells[0].chars().find(|c| matches!(c, ';' | '\t'))) {
        let name = if separator == ';' { "semicolons" } else { "tabs" };
        if only.split(separator).any(|cell| COLUMNS.contains(&cell.trim().to_lowercase().as_str())) {
            return Err(format!("cells are separated by commas, not by {name}"));
        }
    }
    if cells.iter().any(|cell| guid(cell).is_some()) {
        return Err(format!("a customer where the names of the columns belong; {}", names_of_columns()));
    }
    let (mut places, mut wrong) = ([None; COLUMNS.len()], Vec::new());
    for (place, cell) in cells.iter().enumerate() {
        let name = cell.to_lowercase();
        match COLUMNS.iter().position(|column| *column == name) {
            Some(column) if places[column].is_some() => wrong.push(format!("the column {name} is there twice")),
            Some(column) => places[column] = Some(place),
            None if name.is_empty() => wrong.push(format!("the column {} has no name", place + 1)),
            None => wrong.push(format!("unknown column \"{cell}\"{}", suggestion(&name))),
        }
    }
    if places[0].is_none() {
        wrong.push("there is no column id".into());
    }
    if wrong.is_empty() {
        Ok((places, cells.len()))
    } else {
        Err(format!("{}; {}", wrong.join("; "), names_of_columns()))
    }
}

fn names_of_columns() -> String {
    format!("the first line names the columns: {}; only id is needed", COLUMNS.join(", "))
}

/// Returns `, did you mean COLUMN?` if the name contains a column's name (`customer_id`) or is close to one.
fn suggestion(name: &str) -> String {
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
    let holds = |column: &&&str| words.contains(*column) || (column.len() > 2 && name.contains(**column));
    let near = |column: &&&str| strsim::damerau_levenshtein(name, column) <= column.len().div_ceil(3);
    let meant = COLUMNS.iter().find(holds).or_else(|| COLUMNS.iter().find(near));
    meant.map_or_else(String::new, |column| format!(", did you mean {column}?"))
}

/// The number of the line where the last record begins, as an editor shows it.
fn line_of<R: Read>(reader: &mut Reader<Lines<R>>, record: &ByteRecord) -> u64 {
    reader.get_mut().number(record.position().map_or(0, Position::byte))
}

/// Counts lines: the CSV reader counts a blank line and the second half of `\r\n` to the record that follows.
struct Lines<R> {
    input: R,
    /// Bytes read and not counted yet, and their offset in the file.
    ahead: VecDeque<u8>,
    begin: u64,
    line: u64,
}

impl<R> Lines<R> {
    fn of(input: R) -> Self {
        Self { input, ahead: VecDeque::new(), begin: 0, line: 1 }
    }

    /// The line of the first byte from `offset` on that is no line end. Offsets only grow.
    fn number(&mut self, offset: u64) -> u64 {
        let before = usize::try_from(offset.saturating_sub(self.begin)).unwrap_or(usize::MAX).min(self.ahead.len());
        let ends = self.ahead.range(before..).take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let counted = self.ahead.drain(..before + ends);
        self.begin += (before + ends) as u64;
        self.line += counted.filter(|byte| *byte == b'\n').count() as u64;
        self.line
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.ahead.extend(&buffer[..read]);
        Ok(read)
    }
}

/// What is wrong with the quotes of the row that was read last, whose line was counted: the reader takes any.
fn misquoted<R: Read>(reader: &Reader<Lines<R>>) -> Option<&'static str> {
    enum At {
        Start,
        Plain,
        Quoted,
        Closed,
    }
    let lines = reader.get_ref();
    let length = usize::try_from(reader.position().byte().saturating_sub(lines.begin)).unwrap_or(usize::MAX);
    let mark = if lines.begin == 0 && lines.ahead.iter().take(3).eq(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let mut at = At::Start;
    for byte in lines.ahead.iter().take(length).skip(mark) {
        at = match (at, byte) {
            (At::Plain, b'"') => {
                return Some("a quote stands inside a cell: put the cell in double quotes, and double those inside it");
            }
            (At::Quoted, b'"') => At::Closed,
            (At::Quoted, _) | (At::Start | At::Closed, b'"') => At::Quoted,
            (At::Start | At::Plain | At::Closed, b',' | b'\r' | b'\n') => At::Start,
            (At::Closed, _) => return Some("text follows the closing quote of a cell"),
            (At::Start | At::Plain, _) => At::Plain,
        };
    }
    matches!(at, At::Quoted).then_some("the quote that opens a cell is never closed")
}

/// With `flexible`, reading bytes fails only if reading the file does.
fn broken(error: csv::Error) -> Problem {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Problem::Io(error),
        other => Problem::Io(io::Error::other(format!("{other:?}"))),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
