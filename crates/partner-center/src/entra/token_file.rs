//! A user's refresh token, in a file of its own outside the database, which people query.
//!
//! Each redemption brings a replacement and may invalidate the old token. So the file changes often, must never be half
//! written, and belongs to one process at a time: the daemon and `vetwatch login` share a lock. The previous token is
//! kept, in case a replacement turns out to be worthless.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::file;
use vetwatch_core::time::Timestamp;

/// Microsoft's lifetime of a refresh token; each redemption brings a new one.
const LIFETIME: Duration = Duration::from_hours(90 * 24);
/// Interval between tries to take the lock. It is held for one request to the login server.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Larger than any refresh token.
const FILE_MAX_BYTES: u64 = 256 * 1024;

/// The file of one partner: `tokens/PARTNER` beside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFile(PathBuf);

#[derive(Debug, Clone)]
pub(super) struct StoredToken {
    pub(super) current: SecretString,
    /// The token that was redeemed for the current one.
    pub(super) previous: Option<SecretString>,
    /// When the current token was issued.
    pub(super) obtained_at: Timestamp,
}

/// The lock on the file, released on drop and when the process ends.
#[derive(Debug)]
pub(super) struct LockedTokenFile {
    path: PathBuf,
    _lock: File,
}

impl TokenFile {
    /// The file of `partner` in `directory`, which is created when a token is stored.
    #[must_use]
    pub fn new(directory: &Path, partner: &str) -> Self {
        Self(directory.join(partner))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// When the token expires unless it is redeemed before. `None` if no user has signed in.
    ///
    /// # Errors
    /// If there is a file and it cannot be read, or is not what vetwatch writes.
    pub fn ends_at(&self) -> io::Result<Option<Timestamp>> {
        Ok(read(&self.0)?.map(|kept| kept.obtained_at.after(LIFETIME)))
    }

    /// Waits for the lock until `until`. `None` on timeout. Creates the directory.
    pub(super) async fn lock(&self, until: Instant) -> io::Result<Option<LockedTokenFile>> {
        if let Some(directory) = self.0.parent() {
            // Not its parents: they are not ours.
            match DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        // Not the token's own file: replacing it would lose the lock.
        let path = sibling_path(&self.0, "lock");
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Some(LockedTokenFile { path: self.0.clone(), _lock: lock })),
                Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(LOCK_RETRY).await,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl LockedTokenFile {
    /// Reads the token. `None` if no user has signed in.
    pub(super) fn read(&self) -> io::Result<Option<StoredToken>> {
        read(&self.path)
    }

    /// Checks that a replacement can be stored, before a token is redeemed that would be lost otherwise.
    pub(super) fn check_writable(&self, kept: &StoredToken) -> io::Result<()> {
        self.write_beside(&kept.to_json()).map(drop)
    }

    /// Replaces the content atomically. On return it is on disk.
    pub(super) fn replace(&self, kept: &StoredToken) -> io::Result<()> {
        let new = self.write_beside(&kept.to_json())?;
        fs::rename(new, &self.path)?;
        // Without this, a power failure could undo the rename.
        self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }

    fn write_beside(&self, text: &str) -> io::Result<PathBuf> {
        let path = sibling_path(&self.path, "new");
        // A file left by a killed process may have another mode.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(path)
    }
}

impl StoredToken {
    /// The content after `redeemed` was exchanged for `replacement`.
    pub(super) fn replaced(redeemed: &SecretString, replacement: SecretString, now: Timestamp) -> Self {
        Self { current: replacement, previous: Some(redeemed.clone()), obtained_at: now }
    }

    fn to_json(&self) -> String {
        let previous = self.previous.as_ref().map(ExposeSecret::expose_secret);
        let json = json!({
            "about": "A user's refresh token for Partner Center, by `vetwatch login`. Its holder is that user.",
            "refresh_token": self.current.expose_secret(),
            "previous": previous,
            "obtained_at": self.obtained_at,
        });
        format!("{json:#}\n")
    }

    fn from_json(text: &str) -> Option<Self> {
        let mut json: Value = serde_json::from_str(text).ok()?;
        let mut token = |key: &str| match json.get_mut(key).map(Value::take) {
            Some(Value::String(token)) if is_token(&token) => Some(SecretString::from(token)),
            _ => None,
        };
        let (current, previous) = (token("refresh_token")?, token("previous"));
        let obtained_at = serde_json::from_value(json.get("obtained_at")?.clone()).ok()?;
        Some(Self { current, previous, obtained_at })
    }
}

/// True if `text` can be a token.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn read(path: &Path) -> io::Result<Option<StoredToken>> {
    let text = match file::read(path, FILE_MAX_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let stored = str::from_utf8(&text).ok().and_then(StoredToken::from_json);
    stored.map(Some).ok_or_else(|| odd("not what vetwatch writes; sign in again"))
}

fn odd(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

/// A name that no partner can have.
fn sibling_path(path: &Path, what: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(format!("~{what}"));
    path.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_795_262_400_000);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn a_refresh_token_is_its_owners_alone_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(&folder.path().join("tokens"), "emea");
        assert_eq!(file.ends_at().unwrap(), None);
        let held = file.lock(soon()).await.unwrap().unwrap();
        assert!(held.read().unwrap().is_none());
        let kept = StoredToken { current: "0.one".into(), previous: None, obtained_at: NOON };
        held.check_writable(&kept).unwrap();
        assert!(held.read().unwrap().is_none(), "nothing is there before it is stored");
        // Left behind by a killed process, with another mode.
        fs::set_permissions(sibling_path(&file.0, "new"), fs::Permissions::from_mode(0o644)).unwrap();
        held.replace(&kept).unwrap();
        held.replace(&StoredToken::replaced(&kept.current, "0.two".into(), NOON)).unwrap();
        let kept = held.read().unwrap().unwrap();
        assert_eq!((kept.current.expose_secret(), kept.previous.unwrap().expose_secret()), ("0.two", "0.one"));
        assert_eq!(file.ends_at().unwrap(), Some(NOON.after(LIFETIME)));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file.path()), mode(file.path().parent().unwrap())), (0o600, 0o700));
    }

    #[tokio::test]
    async fn one_process_at_a_time_has_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path(), "emea");
        let held = file.lock(soon()).await.unwrap().unwrap();
        assert!(file.lock(Instant::now()).await.unwrap().is_none());
        drop(held);
        assert!(file.lock(Instant::now()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_foreign_file_is_not_taken_for_no_sign_in() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path(), "emea");
        for text in ["", "0.AVYA", "{}", r#"{"refresh_token":"a b","obtained_at":"2026-11-21T00:00:00Z"}"#] {
            fs::write(file.path(), text).unwrap();
            let held = file.lock(soon()).await.unwrap().unwrap();
            assert_eq!(held.read().unwrap_err().kind(), ErrorKind::InvalidData, "{text}");
        }
    }
}
