//! A Debian that is thrown away after the test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{BINARY, available, is_root, repository, succeed};

/// Runs a script of `tests/` in it, with the program and further files below `/given`; see
/// `tests/in-debian.sh` for the options. Does nothing where that is not possible, and says so.
#[track_caller]
pub fn run(options: &[&str], script: &str, files: &[&Path]) {
    let root = std::env::var_os("RINOTIFYD_DEBIAN_ROOT")
        .map_or_else(|| repository().join("target/debian-root"), PathBuf::from);
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if is_root()
        && available("target/debian-root (tools/debian-root.sh makes it)", root.is_dir())
        && available(
            "overlayfs and cgroup2",
            ["overlay", "cgroup2"].iter().all(|name| filesystems.contains(name)),
        )
    {
        let mut command = Command::new("tests/in-debian.sh");
        let said =
            succeed(command.current_dir(repository()).args(options).args([BINARY, script]).args(files));
        assert!(said.ends_with("everything passed\n"), "{said}");
    }
}
