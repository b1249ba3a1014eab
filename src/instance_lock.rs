//! Ensures that only one process polls and delivers. `run`, and `poll` and `test-send` without a daemon, hold two locks:
//!
//! - on a byte of the database file itself, so that no other name of the file (a hard link, a bind mount) leads past it;
//! - on `<database>.lock`, which only the owner can open: who may only read the database cannot hold it.
//!
//! The kernel releases both with the process, however that ends.

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::statfs::{FsType, statfs};

/// The byte that is locked, beyond the end of any file. SQLite's own locks are at 1 GiB.
const BYTE: i64 = 1 << 62;

/// File systems on which locks and shared memory do not reach every process that may open the file: by the magic number of
/// `statfs`, as in `linux/magic.h` and the kernel's sources.
const NETWORK: [(i64, &str); 14] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
    (0x786F_4256, "a VirtualBox share"),
    (0x1983_0326, "BeeGFS"),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{} is not a regular file; remove it", .0.display())]
    NoFile(PathBuf),
    #[error(
        "it is on {0}, where SQLite's locks cannot be relied on and two machines could write at once; move it to a local \
         disk, and set `path` in [database] to it"
    )]
    NetworkFileSystem(&'static str),
}

#[derive(Debug)]
pub struct Lock {
    by_path: File,
    /// Never closed: closing any descriptor of the database drops SQLite's locks on it.
    database: ManuallyDrop<File>,
}

impl Lock {
    /// Writes this process's id into the lock file, for [`daemon`]. Best effort: only `vetwatch reload` needs it.
    pub fn name_daemon(&self) {
        let name = format!("{} {}", std::process::id(), process_namespace());
        if let Err(error) = self.by_path.set_len(0).and_then(|()| self.by_path.write_all_at(name.as_bytes(), 0)) {
            tracing::warn!("`vetwatch reload` cannot find this daemon: its lock file cannot be written to: {error}");
        }
    }
}

/// Where a process id means the same process: another container has others.
fn process_namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|name| name.display().to_string()).unwrap_or_default()
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fcntl(&*self.database, FcntlArg::F_OFD_SETLK(&request(libc::F_UNLCK)));
    }
}

/// Takes the lock of a database, and creates its file if it is missing. `None` if another process holds it.
///
/// # Errors
/// Also if the database is on a network file system.
pub fn take(database: &Path) -> Result<Option<Lock>, Error> {
    if let Some(kind) = network_file_system(database)? {
        return Err(Error::NetworkFileSystem(kind));
    }
    let by_path = path(database);
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    // A FIFO or a link that somebody put there leads nowhere.
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&by_path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::NoFile(by_path));
    }
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let mut options = File::options();
    let database = options.create(true).truncate(false).read(true).write(true).mode(0o640).open(database)?;
    let database = ManuallyDrop::new(database);
    match fcntl(&*database, FcntlArg::F_OFD_SETLK(&request(libc::F_WRLCK))) {
        Ok(_) => {}
        // Not the lock of a vetwatch: a program that may only read holds a lock on the whole file.
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) if holder(&database)? != Some(libc::F_WRLCK) => {
            tracing::warn!("another program holds a lock on the whole database file, which vetwatch ignores");
        }
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => return Ok(None),
        Err(error) => return Err(io::Error::from(error).into()),
    }
    file.set_len(0)?;
    Ok(Some(Lock { by_path: file, database }))
}

/// True if a daemon runs; `None` if this user may not know, or cannot because another program has locked the file.
#[must_use]
pub fn daemon_runs(database: &Path) -> Option<bool> {
    match File::open(database) {
        Ok(file) => match holder(&ManuallyDrop::new(file)) {
            Ok(None) => Some(false),
            Ok(Some(libc::F_WRLCK)) => Some(true),
            Ok(Some(_)) | Err(_) => None,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// The process id of the daemon on a database; `None` if none runs, or this user may not know.
#[must_use]
pub fn daemon(database: &Path) -> Option<i32> {
    if daemon_runs(database) != Some(true) {
        return None;
    }
    // A command that holds the lock leaves it empty.
    let name = std::fs::read_to_string(path(database)).ok()?;
    let (id, namespace) = name.split_once(' ')?;
    id.parse().ok().filter(|id| *id > 0 && namespace == process_namespace())
}

/// The kind of another process's lock on the byte. Only looks: takes no lock.
fn holder(database: &File) -> io::Result<Option<libc::c_int>> {
    let mut found = request(libc::F_WRLCK);
    fcntl(database, FcntlArg::F_OFD_GETLK(&mut found))?;
    let kind = libc::c_int::from(found.l_type);
    Ok((kind != libc::F_UNLCK).then_some(kind))
}

fn request(kind: libc::c_int) -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "the kinds are 0, 1 and 2, the origin is 0")]
    let [l_type, l_whence] = [kind, libc::SEEK_SET].map(|value| value as libc::c_short);
    libc::flock { l_type, l_whence, l_start: BYTE, l_len: 1, l_pid: 0 }
}

/// The network file system that the database (or, before it is made, its directory) is on.
pub fn network_file_system(database: &Path) -> io::Result<Option<&'static str>> {
    let parent = database.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = statfs(database).or_else(|_| statfs(parent))?;
    Ok(network_name(found.filesystem_type()))
}

fn network_name(FsType(magic): FsType) -> Option<&'static str> {
    // The kernel's numbers have 32 bits; the type is wider or signed on some machines.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only these bits count")]
    let magic = magic as u32;
    NETWORK.iter().find(|(known, _)| *known == i64::from(magic)).map(|(_, name)| *name)
}

/// The lock file of a database. The file remains; only the lock on it counts.
#[must_use]
pub fn path(database: &Path) -> PathBuf {
    // One lock per file, whatever path names it.
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut path = real.into_os_string();
    path.push(".lock");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_seen_while_its_holder_lives() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("vetwatch.db");
        assert_eq!(daemon_runs(&database), Some(false));
        let held = take(&database).unwrap().expect("no other process holds it");
        assert_eq!(daemon_runs(&database), Some(true));
        assert!(take(&database).unwrap().is_none());
        drop(held);
        assert_eq!(daemon_runs(&database), Some(false));
        assert!(path(&database).exists());
    }

    #[test]
    fn a_lock_of_a_program_that_may_only_read_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("vetwatch.db");
        std::fs::write(&database, "").unwrap();
        let reader = File::open(&database).unwrap();
        fcntl(&reader, FcntlArg::F_OFD_SETLK(&request(libc::F_RDLCK))).unwrap();
        assert_eq!(daemon_runs(&database), None);
        let held = take(&database).unwrap();
        assert!(held.is_some());
        assert!(take(&database).unwrap().is_none(), "there is still only one");
        assert_eq!(path(&database).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_file_in_place_of_the_lock_file_is_named_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("vetwatch.db");
        nix::unistd::mkfifo(&path(&database), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = take(&database).unwrap_err();
        assert!(matches!(error, Error::NoFile(_)), "{error}");
    }

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(network_name(nix::sys::statfs::NFS_SUPER_MAGIC), Some("NFS"));
        assert_eq!(network_name(nix::sys::statfs::FUSE_SUPER_MAGIC), Some("FUSE"));
        assert_eq!(network_name(FsType(0xFF53_4D42)), Some("CIFS"));
        assert_eq!(network_name(nix::sys::statfs::EXT4_SUPER_MAGIC), None);
        assert_eq!(network_name(nix::sys::statfs::TMPFS_MAGIC), None);
        assert_eq!(network_file_system(&std::env::temp_dir().join("not-there.db")).unwrap(), None);
    }
}
