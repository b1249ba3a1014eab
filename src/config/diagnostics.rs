//! Collects all problems of a configuration, so that ten mistakes do not take ten starts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::places::Places;

/// Two texts of this length that are the same have one cause; shorter ones, such as `is missing`, need not.
const ONE_CAUSE_BYTES: usize = 80;

/// One mistake or warning, and its place. The text never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Such as `endpoint[0].url`; empty if it concerns the whole file.
    pub path: String,
    /// The line of the key, or of the section that lacks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The place for people: `endpoint "crm": url`.
    #[serde(skip)]
    pub place: String,
    pub text: String,
    /// Other places with the same cause.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The line with a mark below it, if the file is no TOML.
    #[serde(skip)]
    pub excerpt: String,
}

impl Problem {
    #[must_use]
    pub fn new(places: &Places, path: String, text: String) -> Self {
        Self {
            line: places.line(&path),
            place: places.label(&path),
            path,
            text,
            also: Vec::new(),
            excerpt: String::new(),
        }
    }

    /// `vetwatch.toml:112: `, as editors and compilers write it.
    #[must_use]
    pub fn position(&self, file: &str) -> String {
        self.line.map_or_else(|| format!("{file}: "), |line| format!("{file}:{line}: "))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}{}", self.text, self.excerpt)?;
        if self.also.is_empty() { Ok(()) } else { write!(f, " (the same for {})", self.also.join("; ")) }
    }
}

/// Why a configuration is invalid. Displays one line for each problem, the file's name first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// Its name without directories.
    pub file: String,
    /// At least one, in the order of the file; last what is missing in it.
    pub problems: Vec<Problem>,
    /// Warnings found as well.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}{problem}", problem.position(&self.file))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems while the sections are read.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The paths of all keys that were read, present or not.
    #[cfg(test)]
    pub(super) keys: RefCell<Vec<String>>,
    /// The digest of each file that was read, by the path of its key.
    pub(super) files: RefCell<BTreeMap<String, [u8; 32]>>,
    problems: RefCell<Vec<(String, String)>>,
    warnings: RefCell<Vec<(String, String)>>,
}

impl Report {
    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    pub(super) fn problem(&self, path: String, text: impl Into<String>) {
        self.problems.borrow_mut().push((path, text.into()));
    }

    pub(super) fn warning(&self, path: String, text: impl Into<String>) {
        self.warnings.borrow_mut().push((path, text.into()));
    }

    /// Returns what was read and the warnings, if there is no problem.
    pub(super) fn finish<T>(
        self,
        file: String,
        places: &Places,
        read: Option<T>,
    ) -> Result<(T, Vec<Problem>), Problems> {
        let sorted = |found: Vec<(String, String)>| {
            let mut found: Vec<_> = found.into_iter().map(|(path, text)| Problem::new(places, path, text)).collect();
            found.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
            found
        };
        // One cause, such as a directory that may not be read, is one problem.
        let folded = |found: Vec<Problem>| {
            let mut kept: Vec<Problem> = Vec::new();
            for problem in found {
                match kept.iter_mut().find(|one| one.text == problem.text && one.text.len() >= ONE_CAUSE_BYTES) {
                    Some(one) => one.also.push(problem.place),
                    None => kept.push(problem),
                }
            }
            kept
        };
        let (mut problems, warnings) = (sorted(self.problems.into_inner()), sorted(self.warnings.into_inner()));
        problems = folded(problems);
        match read {
            Some(read) if problems.is_empty() => return Ok((read, warnings)),
            None if problems.is_empty() => {
                let text = "cannot be used; that the reason is missing here is a mistake of vetwatch".into();
                problems.push(Problem::new(places, String::new(), text));
            }
            _ => {}
        }
        Err(Problems { file, problems, warnings })
    }
}
