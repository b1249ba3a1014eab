//! The words that the glossary gives up stay given up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of these folders, and these files.
const PLACES: [&str; 8] = ["src", "crates", "migrations", "deploy", "docs", "README.md", "CONTRIBUTING.md", "tests/it"];
/// Where the words themselves are the matter, and what is quoted from elsewhere.
const EXEMPT: [&str; 5] = [
    "docs/development/glossary.md",
    "tests/it/words.rs",
    "crates/core/src/redact/tests.rs",
    "src/config/values.rs",
    "src/config/tests/problems.rs",
];

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), found);
        }
    } else if path
        .extension()
        .is_some_and(|ending| ["rs", "md", "sql", "toml", "html", "txt"].iter().any(|e| *e == ending))
    {
        found.push(path.to_owned());
    }
}

/// The first column of the table under "Given up"; remarks in brackets are for people.
fn given_up() -> Vec<String> {
    let glossary = fs::read_to_string("docs/development/glossary.md").unwrap();
    let (_, table) = glossary.split_once("## Given up").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let cells = rows.skip(1).filter(|cell| !cell.starts_with("--") && !cell.contains('('));
    cells.flat_map(|cell| cell.split(", ").map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn nobody_uses_a_word_that_was_given_up() {
    let words = given_up();
    assert!(words.len() >= 8, "{words:?}");
    let mut found = Vec::new();
    for place in PLACES {
        files(Path::new(place), &mut found);
    }
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in found.iter().filter(|path| !EXEMPT.iter().any(|exempt| path.ends_with(exempt))) {
        let text = fs::read_to_string(path).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
                if words.iter().any(|given_up| given_up == word) {
                    uses.entry(word.to_owned()).or_default().push(format!("{}:{}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(uses.is_empty(), "docs/development/glossary.md has a word for each of these: {uses:#?}");
}
