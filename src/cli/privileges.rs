//! Becoming the service's user.
//!
//! An administrator types `sudo vetwatch status`. If root then created the database, its journal or the lock file, the
//! service could no longer write to them. So a command run as root becomes the owner of the database first; by then it
//! has read the configuration and its secrets, which only root may.
//!
//! The database's owner is that of its directory, not of the target of a name in it: a user who may write to the
//! directory can put a link to one of root's files there, and root would write into that (CWE-59). After the change of
//! user a link gains nothing.

use std::ffi::{CString, OsString};
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};

use crate::cli::{Exit, Failure};

/// The kernel's limit.
const LINKS_MAX: usize = 40;

/// Becomes, for good, the owner of `database` or, if there is no such file, of its directory. Does nothing unless this
/// process is root's and the owner is another user. New files are readable by the owner's group only.
///
/// # Errors
/// If the owner is unknown or the change fails, or if another user could redirect root to another file, which is what
/// this prevents.
pub(super) fn become_owner_of(database: &Path) -> Result<(), Failure> {
    // The database is 0640: analysts join the group.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    if !geteuid().is_root() {
        return Ok(());
    }
    let Some(Owner { uid, gid }) = owner(database)? else { return Ok(()) };
    change_to(uid, gid).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot become the owner of {} (user {uid})", database.display()))
            .because(error.to_string())
            .advise("run the command as that user")
    })
}

/// The user that [`become_owner_of`] would become; `None` if none. The process stays root.
///
/// # Errors
/// As [`become_owner_of`].
pub(super) fn other_owner(database: &Path) -> Result<Option<u32>, Failure> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    Ok(owner(database)?.map(|owner| owner.uid.as_raw()))
}

/// A user other than root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    /// `None` for root.
    fn of(metadata: &Metadata) -> Option<Self> {
        let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
        // Do not give root's group to a user outside of it.
        let gid = if gid.as_raw() == 0 { Gid::from_raw(uid.as_raw()) } else { gid };
        (!uid.is_root()).then_some(Self { uid, gid })
    }
}

/// The user to become. `None` if the database is root's and no other user can redirect its path.
fn owner(database: &Path) -> Result<Option<Owner>, Failure> {
    let refused = |why: String| Failure::new(Exit::Failed, refusal(database)).because(why);
    let unknown = |path: &Path, error: &std::io::Error| {
        Failure::new(Exit::Failed, format!("cannot find out whose {} is", path.display())).because(error.to_string())
    };
    let dir = ResolvedDir::to(database.parent().unwrap_or(Path::new("")))?;
    let file = match database.symlink_metadata() {
        Ok(file) => Some(file),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        Err(error) => return Err(unknown(database, &error)),
    };
    if file.as_ref().is_some_and(Metadata::is_symlink) {
        return Err(refused("it is a link, and its author chose what root would write to".to_owned())
            .advise("name the file itself in `path` of [database]"));
    }
    if file.as_ref().is_some_and(|file| !file.is_file()) {
        return Err(refused("it is not a regular file".to_owned()).advise("name another one in `path` of [database]"));
    }
    if let Some(owner) = dir.owner {
        // A hard link to another user's file, or a file that root left behind.
        if let Some(file) = file.filter(|file| file.uid() != owner.uid.as_raw()) {
            let (theirs, uid, folder) = (file.uid(), owner.uid, dir.folder.display());
            let why = format!("it belongs to user {theirs}, and its directory {folder} to user {uid}");
            return Err(refused(why).advise(if file.nlink() > 1 {
                "it is another name of a file elsewhere (a hard link): find out who made it, and remove it".to_owned()
            } else {
                format!("if it is the database, give it to that user: chown -h {uid} {}", database.display())
            }));
        }
        return Ok(Some(owner));
    }
    if let Some(owner) = file.as_ref().and_then(Owner::of) {
        return Ok(Some(owner));
    }
    let others = dir.others.or(dir.others_write.then_some(dir.folder));
    let Some(others) = others else { return Ok(None) };
    Err(refused(format!("others than root can change what is at {}", others.display()))
        .advise("name a file in `path` of [database] whose directory is the service's user's, or root's alone"))
}

fn refusal(database: &Path) -> String {
    format!("root does not open the database {}", database.display())
}

/// A resolved directory, and the users that can redirect its path.
struct ResolvedDir {
    /// The directory itself, or its last existing parent.
    folder: PathBuf,
    /// Its owner, unless that is root.
    owner: Option<Owner>,
    others_write: bool,
    is_sticky: bool,
    /// A link or directory on the path that users other than root can redirect.
    others: Option<PathBuf>,
}

impl ResolvedDir {
    /// Resolves the path step by step, like the kernel.
    fn to(directory: &Path) -> Result<Self, Failure> {
        let failed = |path: &Path, why: &str| {
            Failure::new(Exit::Failed, format!("cannot find out whose {} is", path.display())).because(why)
        };
        let start = std::path::absolute(if directory.as_os_str().is_empty() { Path::new(".") } else { directory });
        let start = start.map_err(|error| failed(directory, &error.to_string()))?;
        let mut ahead: Vec<OsString> = steps(&start);
        let mut dir = Self { folder: "/".into(), owner: None, others_write: false, is_sticky: false, others: None };
        let mut links = 0;
        dir.enter("/".into()).map_err(|error| failed(&start, &error.to_string()))?;
        while let Some(step) = ahead.pop() {
            if step == ".." {
                let above = dir.folder.parent().unwrap_or(Path::new("/")).to_owned();
                dir.enter(above).map_err(|error| failed(&start, &error.to_string()))?;
                continue;
            }
            let path = dir.folder.join(&step);
            let found = match path.symlink_metadata() {
                Ok(found) => found,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Ok(dir);
                }
                Err(error) => return Err(failed(&path, &error.to_string())),
            };
            if found.is_symlink() {
                links += 1;
                if links > LINKS_MAX {
                    return Err(failed(&path, "too many links lead there"));
                }
                if Owner::of(&found).is_some() {
                    dir.others = Some(path.clone());
                }
                let target = std::fs::read_link(&path).map_err(|error| failed(&path, &error.to_string()))?;
                if target.is_absolute() {
                    dir.folder = "/".into();
                }
                ahead.extend(steps(&target));
            } else {
                dir.enter(path.clone()).map_err(|error| failed(&path, &error.to_string()))?;
            }
        }
        Ok(dir)
    }

    fn enter(&mut self, folder: PathBuf) -> std::io::Result<()> {
        let found = folder.symlink_metadata()?;
        // In a sticky directory (/tmp) others can create missing entries, but not replace root's.
        if self.owner.is_some() || (self.others_write && !self.is_sticky) {
            self.others = Some(self.folder.clone());
        }
        let mode = found.mode();
        self.owner = Owner::of(&found);
        self.others_write = mode & 0o002 != 0 || (mode & 0o020 != 0 && found.gid() != 0);
        self.is_sticky = mode & 0o1000 != 0;
        self.folder = folder;
        Ok(())
    }
}

/// The components, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let named = path.components().filter(|step| matches!(step, Component::Normal(_) | Component::ParentDir));
    named.map(|step| step.as_os_str().to_owned()).rev().collect()
}

/// Groups first: they cannot be changed without root's rights.
fn change_to(uid: Uid, file_gid: Gid) -> nix::Result<()> {
    let gid = if let Some(user) = User::from_uid(uid)? {
        let name = CString::new(user.name).map_err(|_| nix::errno::Errno::EINVAL)?;
        initgroups(&name, user.gid)?;
        user.gid
    } else {
        setgroups(&[file_gid])?;
        file_gid
    };
    setgid(gid)?;
    setuid(uid)?;
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(nix::errno::Errno::EPERM);
    }
    Ok(())
}
