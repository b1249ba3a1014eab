//! The few names that a command needs which only looks at the database.

use std::path::{Path, PathBuf};

use super::problem::{Problems, Report};
use super::secret::CredentialDirs;
use super::section::{Context, Section};
use super::{database, file_name, open};

/// What `status`, `history` and their like need. Reading it opens no secret, so an analyst may, and a mistake
/// elsewhere in the file does not hide what the database knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    pub database: PathBuf,
    /// Their names, as far as they are written.
    pub partners: Vec<String>,
    /// Their names, as far as they are written.
    pub endpoints: Vec<String>,
}

impl Outline {
    /// # Errors
    /// When the file cannot be read, is no TOML, or its `database.path` is no path.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let (report, file) = (Report::default(), file_name(path));
        let directory = path.parent().unwrap_or(Path::new(""));
        let credentials = CredentialDirs::only(directory);
        let outline = open(path, &report).and_then(|table| {
            let names = |key: &str| {
                let sections = table.get(key).and_then(toml::Value::as_array).into_iter().flatten();
                sections.filter_map(|section| section.get("name")?.as_str().map(str::to_owned)).collect()
            };
            let (partners, endpoints) = (names("partner"), names("endpoint"));
            let context = Context { report: &report, directory, credentials: &credentials };
            let mut root = Section::new(&context, String::new(), table);
            let database = database(&mut root);
            root.ignore_rest();
            Some(Self { database: database?, partners, endpoints })
        });
        report.finish(file, outline).map(|(outline, _)| outline)
    }
}
