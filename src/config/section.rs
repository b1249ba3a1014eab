//! Reads one table of the file as typed values; keys that were not read are unknown.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use super::content;
use super::diagnostics::Report;
use super::secret::CredentialDirs;
use super::values::{closest, did_you_mean, duration, plain_path, quote, suggestion};

/// Shared by all sections.
#[derive(Debug)]
pub(super) struct Context<'c> {
    pub(super) report: &'c Report,
    /// The file's directory: relative paths that are not secrets start here.
    pub(super) directory: &'c Path,
    pub(super) credentials: &'c CredentialDirs,
}

/// A table being read. A reader returns `None` if the key is absent *or* its value was reported as a problem. Dropping
/// the section reports the remaining keys as unknown.
#[derive(Debug)]
pub(super) struct Section<'c> {
    context: &'c Context<'c>,
    path: String,
    table: Table,
    known: Vec<&'static str>,
    missing: Vec<(&'static str, &'static str)>,
    secrets: Vec<&'static str>,
    /// It is no table, which was reported: what it lacks is no second mistake.
    is_unreadable: bool,
}

impl<'c> Section<'c> {
    pub(super) fn new(context: &'c Context<'c>, path: String, table: Table) -> Self {
        Self { context, path, table, known: Vec::new(), missing: Vec::new(), secrets: Vec::new(), is_unreadable: false }
    }

    pub(super) fn context(&self) -> &'c Context<'c> {
        self.context
    }

    /// Returns a string without marking it as read.
    pub(super) fn peek(&self, key: &str) -> Option<&str> {
        self.table.get(key).and_then(Value::as_str)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn problem(&self, key: &str, text: impl Into<String>) {
        self.context.report.problem(join(&self.path, key), text);
    }

    pub(super) fn warning(&self, key: &str, text: impl Into<String>) {
        self.context.report.warning(join(&self.path, key), text);
    }

    /// Notes what the file that `key` names holds.
    pub(super) fn note_file(&self, key: &str, text: &str) {
        self.context.report.files.borrow_mut().insert(join(&self.path, key), content::of_file(text));
    }

    /// Reports missing keys. Call it before they are read.
    pub(super) fn require(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.require_or(key, "is missing");
        }
    }

    /// As [`Self::require`], with another text.
    pub(super) fn require_or(&mut self, key: &'static str, text: &'static str) {
        if !self.has(key) {
            self.missing.push((key, text));
        }
    }

    /// Skips the remaining keys, which cannot be judged.
    pub(super) fn discard_rest(&mut self) {
        self.table.clear();
    }

    /// Reports a known key that makes no sense here.
    pub(super) fn reject(&mut self, key: &'static str, why: &str) {
        if self.table.remove(key).is_some() {
            self.problem(key, why);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        #[cfg(test)]
        self.context.report.keys.borrow_mut().push(join(&self.path, key));
        self.known.push(key);
        self.table.remove(key)
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: &Value) {
        self.problem(key, format!("must be {wanted}, not {}", in_words(found)));
    }

    /// Reports a value that is no list. One entry is written as a list, too.
    fn not_a_list(&self, key: &str, example: &str) {
        self.problem(key, format!("must be a list, even of one entry: {key} = [{example}]"));
    }

    /// The name in a header: `partner.credential`, without the number of the partner.
    fn header(&self, key: &str) -> String {
        let path = join(&self.path, key);
        path.split('.').map(|part| part.split('[').next().unwrap_or_default()).collect::<Vec<_>>().join(".")
    }

    /// Reads a string: not empty, without control characters.
    pub(super) fn string(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        self.text(key, value)
    }

    fn text(&self, key: &str, value: Value) -> Option<String> {
        match value {
            Value::String(text) if text.trim().is_empty() => self.problem(key, "is empty"),
            Value::String(text) if text.chars().any(char::is_control) => {
                self.problem(key, "contains a control character");
            }
            Value::String(text) => return Some(text),
            other => self.wrong_type(key, "text in quotes", &other),
        }
        None
    }

    /// Reads the path of a secret's file. The key without `_file` has its own problem.
    pub(super) fn secret_path(&mut self, key: &'static str) -> Option<String> {
        self.secrets.push(key);
        self.string(key)
    }

    pub(super) fn parsed<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.string(key)?;
        parse(&text).map_err(|problem| self.problem(key, problem)).ok()
    }

    /// Reads one of `words` and returns its value.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                format!("{} is not one of {}{}", quote(text), all.join(", "), did_you_mean(text, all.iter().copied()))
            })
        })
    }

    /// Reads strings as [`Section::string`] does; an absent key is an empty list.
    pub(super) fn strings(&mut self, key: &'static str) -> Vec<String> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.not_a_list(key, "\"…\"");
                return Vec::new();
            }
        };
        let items = items.into_iter().enumerate();
        items.filter_map(|(index, item)| self.text(&format!("{key}[{index}]"), item)).collect()
    }

    /// Reads a path that is not a secret's; a relative one begins in the file's directory.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.string(key)?;
        match plain_path(&text) {
            Ok(()) => Some(self.context.directory.join(text)),
            Err(problem) => {
                self.problem(key, problem);
                None
            }
        }
    }

    /// Reads integers or strings, as strings; a single one needs no brackets.
    pub(super) fn scalar_list(&mut self, key: &'static str) -> Vec<String> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(item) => vec![item],
        };
        let word = |(index, item): (usize, Value)| match item {
            Value::Integer(number) => Some(number.to_string()),
            other => self.text(&format!("{key}[{index}]"), other),
        };
        items.into_iter().enumerate().filter_map(word).collect()
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> bool {
        match self.take(key) {
            None => false,
            Some(Value::Boolean(yes)) => yes,
            Some(other) => {
                self.wrong_type(key, "true or false", &other);
                false
            }
        }
    }

    /// As [`Section::strings`], but an empty list is a problem.
    pub(super) fn non_empty_strings(&mut self, key: &'static str) -> Vec<String> {
        self.no_empty_list(key);
        self.strings(key)
    }

    /// Reports an empty list: whether it means all or none is anybody's guess.
    pub(super) fn no_empty_list(&self, key: &str) {
        if self.table.get(key).and_then(Value::as_array).is_some_and(Vec::is_empty) {
            self.problem(key, "is an empty list: it needs at least one entry");
        }
    }

    pub(super) fn integer<T: TryFrom<i64>>(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<T> {
        match self.take(key)? {
            Value::Integer(number) if range.contains(&number) => return T::try_from(number).ok(),
            Value::Integer(number) => {
                self.problem(key, format!("{number} is not between {} and {}", range.start(), range.end()));
            }
            other => self.wrong_type(key, "a whole number", &other),
        }
        None
    }

    /// Reads integers within the range; an absent key is an empty list.
    pub(super) fn integers<T: TryFrom<i64>>(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Vec<T> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.not_a_list(key, "3");
                return Vec::new();
            }
        };
        let mut numbers = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{key}[{index}]");
            match item {
                Value::Integer(number) if range.contains(&number) => numbers.extend(T::try_from(number)),
                Value::Integer(number) => {
                    let text = format!("{number} is not between {} and {}", range.start(), range.end());
                    self.problem(&path, text);
                }
                other => self.wrong_type(&path, "a whole number", &other),
            }
        }
        numbers
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.parsed(key, duration)
    }

    /// Opens `[key]`; an absent one is empty.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'c> {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                let header = self.header(key);
                let instead = if other.is_array() { format!(", not [[{header}]]") } else { String::new() };
                self.problem(key, format!("is one section: write [{header}]{instead}"));
                let mut empty = Section::new(self.context, join(&self.path, key), Table::new());
                empty.is_unreadable = true;
                return empty;
            }
        };
        Section::new(self.context, join(&self.path, key), table)
    }

    /// Opens each `[[key]]`.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'c>> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.problem(
                    key,
                    format!("must be written [[{key}]], with two pairs of brackets: there may be several"),
                );
                return Vec::new();
            }
        };
        let mut sections = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{key}[{index}]");
            match item {
                Value::Table(table) => sections.push(Section::new(self.context, join(&self.path, &name), table)),
                other => self.wrong_type(&name, &format!("a section [[{key}]]"), &other),
            }
        }
        sections
    }

    /// Opens each `[key.NAME]`, with its name. `None` if the names are missing, which was reported.
    pub(super) fn named_sections(&mut self, key: &'static str) -> Option<Vec<(String, Section<'c>)>> {
        let table = match self.take(key) {
            None => return Some(Vec::new()),
            Some(Value::Table(table)) if table.values().all(Value::is_table) => table,
            Some(_) => {
                self.problem(key, format!("needs a name of your choice in the header: [{key}.office]"));
                return None;
            }
        };
        let mut sections = Vec::new();
        for (name, value) in table {
            let path = format!("{key}.{}", quote_key(&name));
            if let Value::Table(table) = value {
                sections.push((name, Section::new(self.context, join(&self.path, &path), table)));
            }
        }
        Some(sections)
    }
}

impl Section<'_> {
    /// The problem of a key that nothing reads.
    fn unknown(&self, value: &Value, meant: Option<&str>) -> String {
        let is_section = value.is_table() || value.as_array().is_some_and(|items| items.iter().any(Value::is_table));
        match (is_section, meant, self.path.split_once('[')) {
            (false, _, _) => format!("unknown key{}", suggestion(meant)),
            (true, Some(meant @ ("partner" | "endpoint" | "route")), _) => {
                format!("unknown section; did you mean [[{meant}]]?")
            }
            (true, Some(meant), _) => format!("unknown section; did you mean [{}]?", self.header(meant)),
            (true, None, Some((kind, n))) if n.ends_with(']') => {
                format!("unknown section; a new {kind} begins with [[{kind}]], and its name goes in name = \"…\"")
            }
            (true, None, _) => "unknown section".to_owned(),
        }
    }
}

/// The type of a value, for people who do not know TOML's names.
fn in_words(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text in quotes",
        Value::Integer(_) => "a number",
        Value::Float(_) => "a number with a decimal point",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or a time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        if self.is_unreadable {
            return;
        }
        let mut missing = std::mem::take(&mut self.missing);
        for (key, value) in std::mem::take(&mut self.table) {
            // The value is never shown: it may be a secret in the wrong place.
            let as_file = self.secrets.iter().find(|secret| secret.strip_suffix("_file") == Some(&key));
            let only = match self.secrets[..] {
                [only] if matches!(key.as_str(), "secret" | "password" | "token" | "key") => Some(only),
                _ => None,
            };
            let (meant, text) = if let Some(file) = as_file.copied().or(only) {
                let text = format!(
                    "a secret does not belong in this file: put it in a file of its own, and that file's name in {file}"
                );
                (Some(file), text)
            } else {
                let meant = closest(&key, self.known.iter().copied());
                (meant, self.unknown(&value, meant))
            };
            self.problem(&quote_key(&key), text);
            // A misspelt key is one mistake, not two.
            missing.retain(|(key, _)| Some(*key) != meant);
        }
        for (key, text) in missing {
            self.problem(key, text);
        }
    }
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() || key.is_empty() { format!("{path}{key}") } else { format!("{path}.{key}") }
}

/// Formats a key like TOML: quoted unless it is plain.
pub(super) fn quote_key(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain { key.into() } else { format!("\"{}\"", quote(key).trim_matches('"')) }
}
