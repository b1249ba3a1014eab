//! What a configuration says, key by key, to compare it with the next one. Values that may be secret are kept as digests.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::digest::{self, SHA256, digest};
use toml::{Table, Value};

use super::section::{join, quote_key};

/// Sections whose values may be shown: they hold times and numbers only.
const HARMLESS: [&str; 8] = ["schedule", "overdue", "retry", "retention", "summary", "backup", "web", "log"];

/// Sections that differ between the hosts of a pair.
const OWN: [&str; 4] = ["standby", "database", "web", "backup"];

type Digest = [u8; 32];

/// The content of a file and of the files that it names.
#[derive(Clone, Default)]
pub struct Content {
    path: PathBuf,
    text: String,
    files: BTreeMap<String, Digest>,
    /// By section, as people call it: `endpoint "crm"`, `schedule`.
    sections: BTreeMap<String, Keys>,
}

/// The keys of a section. Equal if nothing in it changed, the files that it names included.
pub type Keys = BTreeMap<String, Leaf>;

/// The value of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    /// `None` if it may be secret.
    shown: Option<String>,
    value: Digest,
    /// Of the file that the value names.
    file: Option<Digest>,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown.as_deref().unwrap_or("[hidden]"))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The digest of a file's text.
pub(super) fn of_file(text: &str) -> Digest {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap_or_default()
}

impl Content {
    /// `files` are the digests of the files that were read, by the path of their key.
    pub(super) fn new(path: &Path, text: &str, table: &Table, files: &BTreeMap<String, Digest>) -> Self {
        let mut content =
            Self { path: path.to_owned(), text: text.to_owned(), files: files.clone(), sections: BTreeMap::new() };
        let top = Place { path: String::new(), section: String::new(), key: String::new(), is_item: false };
        content.add_table(table, &top, files);
        content
    }

    /// The configuration's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// True if nothing differs, the files that it names included.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.text == other.text && self.files == other.files
    }

    /// The keys of a section.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Keys> {
        self.sections.get(name)
    }

    /// True if a section of `[smtp]` is another one.
    #[must_use]
    pub fn has_other_mail_servers(&self, other: &Self) -> bool {
        let servers = |content: &Self| {
            let of_smtp = content.sections.iter().filter(|(name, _)| name.starts_with("smtp"));
            of_smtp.map(|(name, keys)| (name.clone(), keys.clone())).collect::<Vec<_>>()
        };
        servers(self) != servers(other)
    }

    /// A digest of it all, the files that it names included.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut digest = digest::Context::new(&SHA256);
        digest.update(self.text.as_bytes());
        self.files.values().for_each(|file| digest.update(file));
        STANDARD_NO_PAD.encode(digest.finish())
    }

    /// A short digest of each kind of section that the hosts of a pair should have in common: of all endpoints, of
    /// `schedule`. The names of files may differ, and so may what is in them.
    #[must_use]
    pub fn digests(&self) -> BTreeMap<String, String> {
        let mut kinds: BTreeMap<&str, digest::Context> = BTreeMap::new();
        for (name, keys) in &self.sections {
            let kind = name.split([' ', '.']).next().unwrap_or_default();
            if OWN.contains(&kind) {
                continue;
            }
            let digest = kinds.entry(kind).or_insert_with(|| digest::Context::new(&SHA256));
            digest.update(&of_file(name));
            for (key, leaf) in keys.iter().filter(|(key, _)| !key.ends_with("_file")) {
                digest.update(&of_file(key));
                digest.update(&leaf.value);
            }
        }
        let short = |digest: digest::Context| STANDARD_NO_PAD.encode(&digest.finish().as_ref()[..6]);
        kinds.into_iter().map(|(kind, digest)| (kind.to_owned(), short(digest))).collect()
    }

    fn add_table(&mut self, table: &Table, place: &Place, files: &BTreeMap<String, Digest>) {
        for (key, value) in table {
            let path = join(&place.path, &quote_key(key));
            match value {
                Value::Table(inner) => {
                    let mut inside = Place { path, ..place.clone() };
                    if place.is_item {
                        inside.key = join(&place.key, key);
                    } else {
                        inside.section = join(&place.section, key);
                    }
                    self.add_table(inner, &inside, files);
                }
                Value::Array(items) if !place.is_item && items.iter().all(Value::is_table) && !items.is_empty() => {
                    for (n, item) in items.iter().filter_map(Value::as_table).enumerate() {
                        let name = item.get("name").and_then(Value::as_str);
                        let name = name.map_or_else(|| (n + 1).to_string(), |name| format!("\"{name}\""));
                        let mut section = format!("{} {name}", join(&place.section, key));
                        // Routes may have the same name.
                        if self.sections.contains_key(&section) {
                            section = format!("{section}, {}", n + 1);
                        }
                        let inside = Place { path: format!("{path}[{n}]"), section, key: String::new(), is_item: true };
                        self.add_table(item, &inside, files);
                    }
                }
                leaf => {
                    let is_plain = matches!(leaf, Value::Integer(_) | Value::Float(_) | Value::Boolean(_));
                    let may_show = is_plain || HARMLESS.contains(&place.section.as_str()) && !key.ends_with("_file");
                    let leaf = Leaf {
                        shown: may_show.then(|| leaf.to_string()),
                        value: of_file(&leaf.to_string()),
                        file: files.get(&path).copied(),
                    };
                    self.sections.entry(place.section.clone()).or_default().insert(join(&place.key, key), leaf);
                }
            }
        }
    }

    /// What changes from this one to `new`, a line for each key: `schedule.in_review: "15m" → "5m"`. Empty if nothing does.
    #[must_use]
    pub fn changes_to(&self, new: &Self) -> Vec<String> {
        let mut names: Vec<&String> = self.sections.keys().chain(new.sections.keys()).collect();
        names.sort();
        names.dedup();
        let mut changes = Vec::new();
        for name in names {
            match (self.sections.get(name), new.sections.get(name)) {
                (Some(old), Some(new)) => changes.extend(key_changes(name, old, new)),
                (None, _) => changes.push(format!("{name}: added")),
                (_, None) => changes.push(format!("{name}: removed")),
            }
        }
        changes
    }
}

fn key_changes(section: &str, old: &Keys, new: &Keys) -> Vec<String> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let separator = if section.ends_with(|c: char| c == '"' || c.is_ascii_digit()) { ": " } else { "." };
    let mut changes = Vec::new();
    for key in keys {
        let what = match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(old), Some(new)) if old.value == new.value => "the content of the file changed".to_owned(),
            (Some(Leaf { shown: Some(old), .. }), Some(Leaf { shown: Some(new), .. })) => format!("{old} → {new}"),
            (Some(_), Some(_)) => "changed".to_owned(),
            (None, Some(Leaf { shown: Some(new), .. })) => format!("added: {new}"),
            (None, _) => "added".to_owned(),
            (Some(_), None) => "removed".to_owned(),
        };
        changes.push(format!("{section}{separator}{key}: {what}"));
    }
    changes
}

#[derive(Clone)]
struct Place {
    /// As problems name it: `endpoint[0]`.
    path: String,
    section: String,
    /// Within the section: `credential`.
    key: String,
    /// One of several sections of a name.
    is_item: bool,
}
