//! Secrets come from files of their own: the configuration can be shown to anybody.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::section::{Section, quote};
use crate::redact;

/// More than any key or token; what is larger is the wrong file.
const LARGEST: u64 = 64 * 1024;

/// Where an answer repeats a shorter one, it is blacked out only as a word of its own.
const SHORT: usize = 4;

/// The name under which the shipped unit loads the whole directory of credentials. systemd then calls
/// `client-secret` by the name `credentials_client-secret`, and no line of the unit has to name each file.
const LOADED_AS: &str = "credentials_";

/// Where a secret's file is looked for if its path is relative.
#[derive(Debug, Clone)]
pub struct CredentialDirs {
    /// `$CREDENTIALS_DIRECTORY`: what systemd loaded for the service.
    pub service: Option<PathBuf>,
    /// Looked in next, for commands beside the service.
    pub fallback: PathBuf,
}

impl CredentialDirs {
    pub const FALLBACK: &str = "/etc/vetwatch/credentials";

    /// Those of this process.
    #[must_use]
    pub fn from_env() -> Self {
        let service = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Self { service, fallback: Self::FALLBACK.into() }
    }

    /// This one and no other.
    #[must_use]
    pub fn only(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { service: Some(dir.clone()), fallback: dir }
    }

    /// The file that exists, or a text that says where it was looked for. A relative name is not repeated: somebody
    /// may have written the secret itself there.
    fn find(&self, name: &str) -> Result<PathBuf, String> {
        if Path::new(name).is_absolute() {
            return Ok(name.into());
        }
        let loaded = format!("{LOADED_AS}{}", name.replace('/', "_"));
        let service = self.service.iter().flat_map(|dir| [(dir, dir.join(name)), (dir, dir.join(&loaded))]);
        for (dir, path) in service.chain([(&self.fallback, self.fallback.join(name))]) {
            match path.symlink_metadata() {
                Ok(_) => return Ok(path),
                // The next place is no substitute: what lies here might be meant.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(format!("{} may not be looked into by this user: {error}", dir.display()));
                }
                Err(_) => {}
            }
        }
        let mut places: Vec<String> = self.service.iter().map(|dir| dir.display().to_string()).collect();
        places.push(self.fallback.display().to_string());
        places.dedup();
        Err(format!("there is no file of this name in {}", places.join(" or in ")))
    }
}

impl Section<'_> {
    /// The secret in the file that `key` names, without the line end that editors leave.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<SecretString> {
        let text = self.secret_text(key)?;
        if text.contains('\n') {
            self.problem(key, "the file holds more than one line");
            return None;
        }
        if text.chars().count() < SHORT {
            self.warning(
                key,
                "the secret is so short that it cannot be told from a word where another side repeats it",
            );
        }
        Some(text.into())
    }

    /// A secret that is sent in a header. `Some(None)`: there is none, and nothing is wrong.
    #[expect(clippy::option_option, reason = "whether it is there and whether it is good are two questions")]
    pub(super) fn secret_in_header(&mut self, key: &'static str) -> Option<Option<SecretString>> {
        let given = self.has(key);
        let secret = self.secret(key);
        if !given {
            return Some(None);
        }
        let secret = secret?;
        if secret.expose_secret().chars().all(|c| matches!(c, ' '..='~')) {
            return Some(Some(secret));
        }
        self.problem(key, "the file holds something that cannot stand in a header");
        None
    }

    /// Everything in the file that `key` names, without line ends at its end; never empty.
    pub(super) fn secret_text(&mut self, key: &'static str) -> Option<String> {
        self.secret_file(key).map(|(_, text)| text)
    }

    /// The same, and where the file is.
    pub(super) fn secret_file(&mut self, key: &'static str) -> Option<(PathBuf, String)> {
        let name = self.secret_path(key)?;
        let found = self.context().credentials.find(&name).and_then(|path| {
            let (text, mode) = read(&path).map_err(|problem| {
                // Only what the configuration spells out as a path is repeated.
                let subject = if Path::new(&name).is_absolute() { quote(&name) } else { "the file".into() };
                format!("{subject} {problem}")
            })?;
            Ok((path, text, mode))
        });
        match found {
            Ok((path, text, mode)) => {
                if mode & 0o007 != 0 {
                    self.warning(
                        key,
                        format!("everybody on this machine can get at the file (mode {:03o})", mode & 0o777),
                    );
                }
                // Whatever is wrong with it: it is none of anybody's business.
                redact::learn(&text);
                Some((path, text))
            }
            Err(problem) => {
                self.problem(key, problem);
                None
            }
        }
    }
}

/// The text and the mode.
fn read(path: &Path) -> Result<(String, u32), String> {
    // Asked before it is opened: opening a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("is no ordinary file".into());
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let read = file.take(LARGEST + 1).read_to_string(&mut text);
    match read {
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err("does not hold text".into()),
        Err(error) => return Err(format!("cannot be read: {error}")),
        Ok(length) if length as u64 > LARGEST => return Err("is too large for a secret".into()),
        Ok(_) => {}
    }
    let trimmed = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if trimmed.trim().is_empty() {
        return Err("is empty".into());
    }
    Ok((trimmed.into(), metadata.permissions().mode()))
}
