//! Reads secrets from their own files, so that the configuration can be shown to anyone.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::section::Section;
use super::values::{plain_path, quote, read_text};
use crate::redact;

/// Larger than any key or token; a larger file is the wrong one.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// A shorter one is redacted only as a whole word.
const SHORT_SECRET_CHARS: usize = 4;

/// The shipped unit loads the whole directory of credentials by this name. systemd then calls `client-secret`
/// `credentials_client-secret`, and the unit need not list the files.
pub(crate) const UNIT_PREFIX: &str = "credentials_";

/// Where a secret's file is searched if its path is relative.
#[derive(Debug, Clone)]
pub struct CredentialDirs {
    /// `$CREDENTIALS_DIRECTORY`: systemd's for the service.
    pub service: Option<PathBuf>,
    /// Searched next, for commands beside the service.
    pub fallback: PathBuf,
    /// Files that are not written yet, by the names in the configuration: `init` tries them first.
    pub drafts: Vec<(String, SecretString)>,
}

impl CredentialDirs {
    pub(crate) const FALLBACK: &str = "/etc/vetwatch/credentials";

    #[must_use]
    pub fn from_env() -> Self {
        let service = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Self { service, fallback: Self::FALLBACK.into(), drafts: Vec::new() }
    }

    #[must_use]
    pub fn only(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { service: Some(dir.clone()), fallback: dir, drafts: Vec::new() }
    }

    /// Finds the file. The error says where it was searched, and repeats a relative name only if it looks like one: it
    /// may be the secret itself, put there by mistake.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf, String> {
        if Path::new(name).is_absolute() {
            return Ok(name.into());
        }
        plain_path(name)?;
        let loaded = format!("{UNIT_PREFIX}{}", name.replace('/', "_"));
        let service = self.service.iter().flat_map(|dir| [(dir, dir.join(name)), (dir, dir.join(&loaded))]);
        for (dir, path) in service.chain([(&self.fallback, self.fallback.join(name))]) {
            match path.symlink_metadata() {
                Ok(_) => return Ok(path),
                // A service is given the files of this directory, and may not look into it.
                Err(error)
                    if error.kind() == ErrorKind::PermissionDenied
                        && self.service.as_ref().is_some_and(|own| own != dir) => {}
                // Do not go on: the file meant may be in this one.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(format!(
                        "{} may not be opened by this user: run the command as root. The service gets the files in it when it \
                         starts: after adding one, restart it",
                        dir.display()
                    ));
                }
                Err(_) => {}
            }
        }
        let mut places: Vec<String> = self.service.iter().map(|dir| dir.display().to_string()).collect();
        places.push(self.fallback.display().to_string());
        places.dedup();
        let (shown, file) = if is_file_name(name) {
            (format!("\"{name}\""), name)
        } else {
            ("of this name (not shown, as it may be the secret)".into(), "FILE")
        };
        let first = self.service.as_ref().unwrap_or(&self.fallback);
        let is_loaded = first.starts_with("/run");
        let target = if is_loaded { &self.fallback } else { first };
        Err(format!(
            "there is no file {shown} in {}; write it with (umask 077; cat > {}){}",
            places.join(" or in "),
            target.join(file).display(),
            if is_loaded { " as root, and restart the service" } else { "" }
        ))
    }
}

/// True for words with a separator between them, which few secrets are: `crm-signing-secret`, `app.pem`.
fn is_file_name(name: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
    name.len() <= 40 && name.contains(['-', '_', '.']) && name.split(['-', '_', '.']).all(is_word)
}

impl Section<'_> {
    /// Reads the secret from the file that `key` names, without the line end that editors leave.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<SecretString> {
        let text = self.secret_text(key)?;
        if text.contains('\n') {
            self.problem(key, "the file contains more than one line");
            return None;
        }
        if text.trim() != text {
            self.warning(key, "the secret in the file begins or ends with a blank, which is sent as a part of it");
        }
        if text.chars().count() < SHORT_SECRET_CHARS {
            self.warning(key, "the secret is too short to be hidden wherever a server repeats it");
        }
        Some(text.into())
    }

    /// Reads a secret for a header. `Some(None)` if the key is absent.
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
        self.problem(key, "the file contains a character that cannot stand in an HTTP header");
        None
    }

    /// Reads the file that `key` names, without trailing line ends; never empty.
    pub(super) fn secret_text(&mut self, key: &'static str) -> Option<String> {
        self.secret_file(key).map(|(_, text)| text)
    }

    /// As [`Self::secret_text`], with the file's path.
    pub(super) fn secret_file(&mut self, key: &'static str) -> Option<(PathBuf, String)> {
        let name = self.secret_path(key)?;
        let credentials = self.context().credentials;
        let draft = credentials.drafts.iter().find(|(draft, _)| *draft == name);
        let draft = draft.map(|(_, text)| tidy(text.expose_secret()).map(|text| (PathBuf::from(&name), text)));
        let found = draft.unwrap_or_else(|| {
            let path = credentials.find(&name)?;
            let text = read(&path).map_err(|problem| {
                // Only a full path is repeated.
                let subject = if Path::new(&name).is_absolute() { quote(&name) } else { "the file".into() };
                format!("{subject} {problem}")
            })?;
            Ok((path, text))
        });
        match found {
            Ok((path, text)) => {
                let mode = fs::metadata(&path).map_or(0, |found| found.permissions().mode());
                if mode & 0o007 != 0 {
                    self.warning(
                        key,
                        format!(
                            "every user of this machine can open the file (mode {:03o}): chmod 600 it",
                            mode & 0o777
                        ),
                    );
                }
                // Even if it is invalid, it must not be shown.
                redact::learn(&text);
                self.note_file(key, &text);
                Some((path, text))
            }
            Err(problem) => {
                self.problem(key, problem);
                None
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = read_text(path, FILE_MAX_BYTES, "a secret")?;
    tidy(&text)
}

fn tidy(text: &str) -> Result<String, String> {
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() { Err("is empty".into()) } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_a_credential_says_which_one_and_how_root_gives_it() {
        let dirs = CredentialDirs {
            service: Some("/run/credentials/vetwatch.service".into()),
            ..CredentialDirs::only("/no/such")
        };
        assert_eq!(
            dirs.find("client-secret").unwrap_err(),
            "there is no file \"client-secret\" in /run/credentials/vetwatch.service or in /no/such; write it with (umask \
             077; cat > /no/such/client-secret) as root, and restart the service"
        );
    }
}
