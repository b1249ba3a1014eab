//! Becoming the service's user.
//!
//! An administrator types `sudo vetwatch status`. If root then made the database, its journal or the lock file, the
//! service could not write to them any more. So a command run as root becomes the owner of the database first; it
//! has read the configuration and its secrets by then, which only root may.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};

use crate::cli::{Exit, Failure};

/// Becomes the owner of `database`, or of its directory if there is no such file, for good. Does nothing unless this
/// process is root's and the owner is not root. New files are readable by the owner's group, and by nobody else.
///
/// # Errors
/// If the owner cannot be found out or become: going on as root is what this prevents.
pub fn become_owner_of(database: &Path) -> Result<(), Failure> {
    // The database is 0640: analysts join the group.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    if !geteuid().is_root() {
        return Ok(());
    }
    let Some((uid, gid)) = owner(database)? else { return Ok(()) };
    if uid.is_root() {
        return Ok(());
    }
    change_to(uid, gid).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot become the owner of {} (user {uid})", database.display()))
            .because(error.to_string())
            .advise("run the command as that user")
    })
}

/// `None`: neither the file nor its directory is there, so nobody's files can be spoilt.
fn owner(database: &Path) -> Result<Option<(Uid, Gid)>, Failure> {
    let directory = database.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for path in [database, directory] {
        match std::fs::metadata(path) {
            Ok(metadata) => return Ok(Some((Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid())))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::new(Exit::Failed, format!("cannot find out whose {} is", path.display()))
                    .because(error.to_string()));
            }
        }
    }
    Ok(None)
}

/// Groups first: without root's rights they cannot be changed any more.
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
