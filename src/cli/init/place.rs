//! Where the files go, and how they get there: all of them, or none.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, User, access, chown, geteuid};
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::NamedTempFile;

use crate::cli::{Exit, Failure};
use crate::config::{self, CredentialDirs};

/// What the packages put where the configuration goes.
const EXAMPLE: &str = include_str!("../../../deploy/vetwatch.toml");
const SERVICE_USER: &str = "vetwatch";

/// The paths, absolute.
#[derive(Debug)]
pub(super) struct Place {
    pub config: PathBuf,
    pub directory: PathBuf,
    pub credentials: PathBuf,
    /// The database's path.
    pub database: PathBuf,
    /// The service finds its credentials here: their names suffice.
    pub is_the_services: bool,
    /// What is there may be replaced.
    pub force: bool,
}

impl Place {
    /// `database` as given, relative to the configuration.
    pub(super) fn new(config: &Path, database: Option<&Path>) -> Self {
        let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
        let directory = config.parent().unwrap_or(Path::new("/")).to_owned();
        let credentials = directory.join("credentials");
        let is_the_services = credentials == CredentialDirs::from_env().fallback;
        let database = match database {
            Some(path) => directory.join(path),
            None if is_the_services => config::default_database().to_owned(),
            None => directory.join("vetwatch.db"),
        };
        Self { config, directory, credentials, database, is_the_services, force: false }
    }

    pub(super) fn file_of(&self, secret: &str) -> PathBuf {
        self.credentials.join(secret)
    }

    /// How the configuration names a secret's file.
    pub(super) fn key_of(&self, secret: &str) -> String {
        if self.is_the_services { secret.to_owned() } else { self.file_of(secret).display().to_string() }
    }

    /// A secret that is there already.
    pub(super) fn existing(&self, secret: &str) -> Option<SecretString> {
        fs::read_to_string(self.file_of(secret)).ok().filter(|text| !text.trim().is_empty()).map(SecretString::from)
    }

    /// Refuses before anything is asked: what is there already, and a directory that may not be written.
    pub(super) fn check(&self, force: bool) -> Result<(), Failure> {
        let config = self.config.display();
        let failed = || Failure::new(Exit::Failed, format!("cannot write {config}"));
        let there = match fs::read_to_string(&self.config) {
            Ok(text) => Some(text),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(error) if self.config.is_dir() => return Err(failed().because(error.to_string())),
            Err(_) => Some(String::new()),
        };
        if there.as_deref().is_some_and(|text| text != EXAMPLE) && !force {
            return Err(Failure::new(Exit::Failed, format!("there is a configuration already: {config}")).advise(
                "change it with an editor, and try it with `vetwatch check --live`; `vetwatch init --force` asks \
                 everything again and keeps the old file as .bak; `--config FILE` writes another one",
            ));
        }
        let nearest = |path: &Path| path.ancestors().find(|path| path.exists()).map(Path::to_owned);
        for path in [&self.directory, &self.credentials] {
            let Some(nearest) = nearest(path) else { continue };
            if !nearest.is_dir() {
                return Err(failed().because(format!("{} is not a directory", nearest.display())));
            }
            if let Err(error) = access(&nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
                return Err(failed().because(format!("{}: {}", nearest.display(), error.desc())).advise(
                    "run it with sudo; or, to rehearse as yourself, name a file of your own: \
                     `vetwatch --config ./vetwatch.toml init`",
                ));
            }
        }
        if self.needs_state_directory() && !matches!(User::from_name(SERVICE_USER), Ok(Some(_))) {
            return Err(Failure::new(Exit::Failed, "cannot make the directory of the database")
                .because(format!("there is no user {SERVICE_USER}"))
                .advise(
                    "install the package, or run systemd-sysusers after copying vetwatch.sysusers; to rehearse, name a \
                     file of your own: `vetwatch --config ./vetwatch.toml init`",
                ));
        }
        Ok(())
    }

    fn needs_state_directory(&self) -> bool {
        geteuid().is_root()
            && self.database == config::default_database()
            && self.database.parent().is_some_and(|directory| !directory.exists())
    }

    /// Writes the secrets and then the configuration. If anything fails, all is as it was.
    pub(super) fn write(&self, text: &str, secrets: &[(&'static str, SecretString)]) -> Result<Vec<PathBuf>, Failure> {
        let mut made = Made::default();
        let written = self.write_all(text, secrets, &mut made);
        if written.is_ok() {
            made.0.clear();
        }
        written.map_err(|(path, error)| {
            Failure::new(Exit::Failed, format!("cannot write {}", path.display()))
                .because(error.to_string())
                .advise("nothing was changed; run the command again when there is room and the right to write")
        })
    }

    fn write_all(
        &self,
        text: &str,
        secrets: &[(&'static str, SecretString)],
        made: &mut Made,
    ) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| (path, error)
        };
        made.directory(&self.directory, 0o755).map_err(at(&self.directory))?;
        if !secrets.is_empty() {
            made.directory(&self.credentials, 0o700).map_err(at(&self.credentials))?;
        }
        if self.needs_state_directory()
            && let Some(directory) = self.database.parent()
        {
            made.directory(directory, 0o750).map_err(at(directory))?;
            give_to_the_service(directory).map_err(at(directory))?;
        }
        let mut staged = Vec::new();
        for (name, secret) in secrets {
            let path = self.file_of(name);
            let is_another =
                self.existing(name).is_some_and(|old| old.expose_secret().trim() != secret.expose_secret().trim());
            if is_another && !self.force {
                let why = "there is one already, and another configuration may use it: `--force` replaces it";
                return Err((path, io::Error::new(io::ErrorKind::AlreadyExists, why)));
            }
            let line_end = if secret.expose_secret().ends_with('\n') { "" } else { "\n" };
            let text = [secret.expose_secret(), line_end].concat();
            staged.push((stage(&self.credentials, &text, 0o600).map_err(at(&path))?, path));
        }
        match fs::read_to_string(&self.config) {
            Ok(old) if old == EXAMPLE => {}
            Ok(old) => {
                let bits = fs::metadata(&self.config).map_or(0o644, |found| found.permissions().mode() & 0o777);
                let mut kept = self.config.clone().into_os_string();
                kept.push(".bak");
                let kept = PathBuf::from(kept);
                // First: what fails here has changed nothing.
                staged.insert(0, (stage(&self.directory, &old, bits).map_err(at(&kept))?, kept));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err((self.config.clone(), error)),
        }
        staged.push((stage(&self.directory, text, 0o644).map_err(at(&self.config))?, self.config.clone()));
        let mut paths = Vec::new();
        for (file, path) in staged {
            file.persist(&path).map_err(|error| (path.clone(), error.error))?;
            paths.push(path);
        }
        for directory in [&self.credentials, &self.directory] {
            if directory.exists() {
                File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))?;
            }
        }
        Ok(paths)
    }

    /// What names this configuration in a command.
    pub(super) fn option(&self, given: &Path) -> String {
        if self.is_the_services && self.config == Path::new(crate::cli::args::CONFIG) {
            String::new()
        } else {
            format!("--config {} ", given.display())
        }
    }
}

/// Directories that were made, and are removed again on failure.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn directory(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent, 0o755)?;
        }
        fs::DirBuilder::new().mode(mode).create(path)?;
        self.0.push(path.to_owned());
        // Whatever the umask says.
        fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Writes a file beside its place, complete and on the disk.
fn stage(directory: &Path, text: &str, mode: u32) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".vetwatch-init-").tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn give_to_the_service(directory: &Path) -> io::Result<()> {
    let user = User::from_name(SERVICE_USER)?;
    let user = user.ok_or_else(|| io::Error::other(format!("there is no user {SERVICE_USER}")))?;
    Ok(chown(directory, Some(user.uid), Some(user.gid))?)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn everything_is_written_with_its_mode_or_nothing_is() {
        let folder = TempDir::new().unwrap();
        let place = Place::new(&folder.path().join("deep/vetwatch.toml"), None);
        let secrets = [("client-secret", SecretString::from("s3cret"))];
        place.write("a = 1\n", &secrets).unwrap();
        assert_eq!(fs::read_to_string(&place.config).unwrap(), "a = 1\n");
        assert_eq!(fs::read_to_string(place.file_of("client-secret")).unwrap(), "s3cret\n");
        let modes = [&place.config, &place.credentials, &place.file_of("client-secret")].map(|path| mode(path));
        assert_eq!(modes, [0o644, 0o700, 0o600]);

        place.write("a = 2\n", &secrets).unwrap();
        assert_eq!(fs::read_to_string(place.directory.join("vetwatch.toml.bak")).unwrap(), "a = 1\n");
        assert_eq!(place.existing("client-secret").map(|text| text.expose_secret().len()), Some(7));

        // The configuration's name is taken by a directory: the secret is as before.
        let mut place = Place::new(&folder.path().join("deep/taken.toml"), None);
        place.force = true;
        fs::create_dir(&place.config).unwrap();
        let failure = place.write("a = 3\n", &[("client-secret", SecretString::from("other"))]).unwrap_err();
        assert!(failure.message().contains("taken.toml"), "{}", failure.message());
        assert_eq!(fs::read_to_string(place.file_of("client-secret")).unwrap(), "s3cret\n");
        let left: Vec<_> = fs::read_dir(&place.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 4, "no temporary file is left: {left:?}");

        // Nor does a second configuration in the folder take the first one's secret away.
        let mut second = Place::new(&folder.path().join("deep/second.toml"), None);
        let other = [("client-secret", SecretString::from("other"))];
        let failure = second.write("a = 4\n", &other).unwrap_err();
        assert!(failure.message().contains("another configuration may use it"), "{}", failure.message());
        assert!(!second.config.exists());
        assert_eq!(fs::read_to_string(second.file_of("client-secret")).unwrap(), "s3cret\n");
        second.force = true;
        second.write("a = 4\n", &other).unwrap();
    }

    #[test]
    fn directories_that_were_made_for_nothing_are_removed() {
        let folder = TempDir::new().unwrap();
        let place = Place::new(&folder.path().join("new/vetwatch.toml"), None);
        // A name that is too long for a file.
        let long: &'static str = Box::leak("x".repeat(300).into_boxed_str());
        place.write("a = 1\n", &[(long, SecretString::from("s3cret"))]).unwrap_err();
        assert!(!place.directory.exists());
    }

    #[test]
    fn only_the_shipped_example_is_replaced_without_being_told() {
        let folder = TempDir::new().unwrap();
        let place = Place::new(&folder.path().join("vetwatch.toml"), None);
        place.check(false).unwrap();
        fs::write(&place.config, EXAMPLE).unwrap();
        place.check(false).unwrap();
        fs::write(&place.config, format!("{EXAMPLE}\n# mine\n")).unwrap();
        let failure = place.check(false).unwrap_err();
        assert!(failure.message().contains("there is a configuration already"), "{}", failure.message());
        place.check(true).unwrap();
    }
}
