//! A file system that can be filled.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// A small file system.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    /// `None` if this user may not mount.
    pub(crate) fn mount(path: PathBuf) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=4m,mode=0755", "vetwatch-test"]).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a daemon of a failed test may still use it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
