//! Where each key stands in the file, and how the place is called.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::section::{join, quote_key};

/// The lines of a file's keys, and the names of its `[[sections]]`, by path: `endpoint[0].url`.
#[derive(Clone, Default)]
pub struct Places {
    lines: BTreeMap<String, usize>,
    names: BTreeMap<String, String>,
}

impl Places {
    /// A file that is not TOML has those of its readable part.
    pub(super) fn of(text: &str) -> Self {
        let mut places = Self::default();
        places.add_table(text, "", DeTable::parse_recoverable(text).0.get_ref());
        places
    }

    fn add_table(&mut self, text: &str, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = join(path, &quote_key(key.get_ref()));
            self.lines.insert(path.clone(), line_of(text, key.span().start));
            self.add(text, &path, value);
        }
    }

    fn add(&mut self, text: &str, path: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(text, path, table),
            DeValue::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    let path = format!("{path}[{n}]");
                    self.lines.insert(path.clone(), line_of(text, item.span().start));
                    if let Some(name) = item.get_ref().get("name").and_then(|name| name.get_ref().as_str()) {
                        self.names.insert(path.clone(), super::values::quote(name).trim_matches('"').to_owned());
                    }
                    self.add(text, &path, item);
                }
            }
            _ => {}
        }
    }

    /// The line of the key, or of the innermost section around it that stands in the file.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// The place for people: `endpoint "crm": url`, `endpoint 2: to, entry 3`, `schedule.in_review`.
    pub(super) fn label(&self, path: &str) -> String {
        if let Some(name) = self.names.get(path) {
            return format!("{} \"{name}\"", path.split('[').next().unwrap_or_default());
        }
        let (of_section, key) = path.split_once("].").unwrap_or(("", path));
        let (key, entry) = match key.strip_suffix(']').and_then(|key| key.rsplit_once('[')) {
            Some((key, n)) => (key, n.parse().ok().map(|n: usize| n + 1)),
            None => (key, None),
        };
        let entry = entry.map(|n| format!(", entry {n}")).unwrap_or_default();
        let Some((kind, n)) = of_section.split_once('[') else { return format!("{key}{entry}") };
        let name = self.names.get(&format!("{of_section}]")).map(|name| format!("\"{name}\""));
        let name = name.unwrap_or_else(|| n.parse().map_or_else(|_| n.to_owned(), |n: usize| (n + 1).to_string()));
        format!("{kind} {name}: {key}{entry}")
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Places")
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
}
