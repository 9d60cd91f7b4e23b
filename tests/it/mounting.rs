//! Filesystems that are mounted for a test and gone when it is over.

use std::fs::File;
use std::io::Write;
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

    /// A new filesystem on a file, made by the program `mkfs` and mounted by `driver`. Says so when there
    /// is none, as in a container without loop devices.
    pub fn image(image: &Path, mkfs: &[&str], driver: &str, point: impl Into<PathBuf>) -> Option<Self> {
        let point = point.into();
        File::create(image).unwrap().set_len(320 << 20).unwrap();
        let quiet = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = quiet(Command::new(mkfs[0]).args(&mkfs[1..]).arg(image))
            && quiet(Command::new("mount").args(["-t", driver, "-o", "loop"]).arg(image).arg(&point));
        if !made {
            let text = format!("\n*** NOT TESTED: nothing made by {} can be mounted here ***\n", mkfs[0]);
            std::io::stderr().write_all(text.as_bytes()).unwrap();
        }
        made.then_some(Self { point })
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
