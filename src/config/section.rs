//! Reads one table of the file as typed values; keys that were not read are unknown.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use super::diagnostics::Report;
use super::secret::CredentialDirs;
use super::values::{closest, did_you_mean, duration, quote, suggestion};

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
}

impl<'c> Section<'c> {
    pub(super) fn new(context: &'c Context<'c>, path: String, table: Table) -> Self {
        Self { context, path, table, known: Vec::new(), missing: Vec::new(), secrets: Vec::new() }
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
        let article = if found.type_str().starts_with(['a', 'i']) { "an" } else { "a" };
        self.problem(key, format!("must be {wanted}, not {article} {}", found.type_str()));
    }

    /// Reads a string: not empty, without control characters.
    pub(super) fn string(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        self.text(key, value)
    }

    fn text(&self, key: &str, value: Value) -> Option<String> {
        match value {
            Value::String(text) if text.trim().is_empty() => self.problem(key, "is empty"),
            Value::String(text) if text.chars().any(char::is_control) => self.problem(key, "holds a control character"),
            Value::String(text) => return Some(text),
            other => self.wrong_type(key, "a text in quotes", &other),
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
                format!("{} is none of {}{}", quote(text), all.join(", "), did_you_mean(text, all.iter().copied()))
            })
        })
    }

    /// Reads strings as [`Section::string`] does; an absent key is an empty list.
    pub(super) fn strings(&mut self, key: &'static str) -> Vec<String> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong_type(key, "a list of texts", &other);
                return Vec::new();
            }
        };
        let items = items.into_iter().enumerate();
        items.filter_map(|(index, item)| self.text(&format!("{key}[{index}]"), item)).collect()
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
        if self.table.get(key).and_then(Value::as_array).is_some_and(Vec::is_empty) {
            self.problem(key, "is an empty list");
        }
        self.strings(key)
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
            Some(other) => {
                self.wrong_type(key, "a list of whole numbers", &other);
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
                self.wrong_type(key, &format!("one section [{key}], with one pair of brackets"), &other);
                Table::new()
            }
        };
        Section::new(self.context, join(&self.path, key), table)
    }

    /// Opens each `[[key]]`.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'c>> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong_type(key, &format!("sections [[{key}]], with two brackets"), &other);
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

    /// Opens each `[key.NAME]`, with its name.
    pub(super) fn named_sections(&mut self, key: &'static str) -> Vec<(String, Section<'c>)> {
        let table = std::mem::take(&mut self.section(key).table);
        let mut sections = Vec::new();
        for (name, value) in table {
            let path = format!("{key}.{}", quote_key(&name));
            match value {
                Value::Table(table) => {
                    sections.push((name, Section::new(self.context, join(&self.path, &path), table)));
                }
                other => self.wrong_type(&path, &format!("a section [{path}]"), &other),
            }
        }
        sections
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let mut missing = std::mem::take(&mut self.missing);
        for (key, _) in std::mem::take(&mut self.table) {
            // The value is never shown: it may be a secret in the wrong place.
            let as_file = self.secrets.iter().find(|secret| secret.strip_suffix("_file") == Some(&key));
            let (meant, text) = if let Some(file) = as_file {
                let text = format!(
                    "a secret has no place in this file: write it into one of its own and name that with {file}"
                );
                (Some(*file), text)
            } else {
                let meant = closest(&key, self.known.iter().copied());
                (meant, format!("unknown key{}", suggestion(meant)))
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
