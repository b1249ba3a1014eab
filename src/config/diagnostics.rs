//! Collects all problems of a configuration, so that ten mistakes do not take ten starts.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

/// One mistake or warning, and its place. The text never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Such as `endpoint[0].url`; empty if it concerns the whole file.
    pub path: String,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

/// Why a configuration is invalid. Displays one line for each problem, the file's name first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// Its name without directories.
    pub file: String,
    /// At least one, in the order of the file's sections.
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
            write!(f, "{}: {problem}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems while the sections are read.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Report {
    pub(super) fn problem(&self, path: String, text: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { path, text: text.into() });
    }

    pub(super) fn warning(&self, path: String, text: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem { path, text: text.into() });
    }

    /// Returns what was read and the warnings, if there is no problem.
    pub(super) fn finish<T>(self, file: String, read: Option<T>) -> Result<(T, Vec<Problem>), Problems> {
        let (mut problems, warnings) = (self.problems.into_inner(), self.warnings.into_inner());
        match read {
            Some(read) if problems.is_empty() => return Ok((read, warnings)),
            None if problems.is_empty() => {
                let text = "cannot be used; that the reason is missing here is a mistake of vetwatch".into();
                problems.push(Problem { path: String::new(), text });
            }
            _ => {}
        }
        Err(Problems { file, problems, warnings })
    }
}
