//! Filesystems that are mounted for a test and gone when it is over.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Something mounted at a directory. Needs root.
pub struct Mount {
    point: PathBuf,
}

impl Mount {
    /// A new, empty filesystem in memory.
    pub fn tmpfs(point: impl Into<PathBuf>) -> Self {
        Self::new(&["-t", "tmpfs", "tmpfs"], point)
    }

    /// The directory `source` at a second place.
    pub fn bind(source: &Path, point: impl Into<PathBuf>) -> Self {
        Self::new(&["--bind", source.to_str().unwrap()], point)
    }

    /// What `mount(8)` makes of these arguments.
    pub fn new(args: &[&str], point: impl Into<PathBuf>) -> Self {
        let point = point.into();
        let status = Command::new("mount").args(args).arg(&point).status().unwrap();
        assert!(status.success(), "mount {args:?} {}", point.display());
        Self { point }
    }

    /// What is mounted already, to be unmounted later.
    pub fn mounted(point: impl Into<PathBuf>) -> Self {
        Self { point: point.into() }
    }

    /// It is somewhere else, since a directory above it was renamed.
    pub fn moved(mut self, point: impl Into<PathBuf>) -> Self {
        self.point = point.into();
        self
    }

    /// Takes it away, as an administrator does.
    pub fn unmount(self) {
        drop(self);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.point).status());
    }
}
