//! What the loader asks of the machine: files, users and groups. `shell::host` has the real one.

use std::io;
use std::path::{Path, PathBuf};

use crate::pattern::PathPattern;
use crate::types::Identity;

/// What the loader must know of the machine.
pub trait Host {
    /// Reads a file, with its owner as of the descriptor that was read.
    ///
    /// # Errors
    ///
    /// Those of open(2) and read(2), and a file that is no regular file or far too large.
    fn read(&self, path: &Path) -> io::Result<HostFile>;

    /// The files below `base` that a pattern means, sorted by name. A pattern without wildcards
    /// means one file, whether it exists or not.
    ///
    /// # Errors
    ///
    /// Those of listing a directory, except that a missing one holds nothing.
    fn list(&self, base: &Path, pattern: &PathPattern) -> io::Result<Vec<PathBuf>>;

    /// A user by name or number. Without `group` the primary group is the user's own.
    ///
    /// # Errors
    ///
    /// Those of the user database.
    fn user(&self, name: &str, group: Option<u32>) -> io::Result<Option<Identity>>;

    /// A group's number, by name or number.
    ///
    /// # Errors
    ///
    /// Those of the group database.
    fn group(&self, name: &str) -> io::Result<Option<u32>>;

    /// How many watches the kernel allows the user, if it says so.
    fn watches_max(&self) -> Option<u64> {
        None
    }

    /// Whether the daemon runs as root.
    fn is_root(&self) -> bool;
}

/// A file as read.
#[derive(Clone, Debug)]
pub struct HostFile {
    /// What it holds.
    pub text: Vec<u8>,
    /// Whose it is.
    pub ownership: Ownership,
    /// The directory it was found in and, when that was by a symbolic link, the one it is in.
    pub directories: Vec<(PathBuf, Ownership)>,
}

/// Whose a file or directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}
