//! What the loader asks of the machine: files, users and groups. `shell::host` has the real one.

use std::io;
use std::path::{Path, PathBuf};

use super::trust::Part;
use crate::pattern::PathPattern;
use crate::types::Identity;

/// What the loader must know of the machine.
pub trait Host {
    /// Reads a file. `may_pass` judges each part of the path, from `/` down, before the part is used. The
    /// host reads the file that was judged. `None`: `may_pass` has refused a part.
    ///
    /// # Errors
    ///
    /// Those of open(2) and read(2), and a file that is no regular file or far too large.
    fn read(&self, path: &Path, may_pass: &mut dyn FnMut(Part<'_>) -> bool) -> io::Result<Option<Vec<u8>>>;

    /// The files below `base` that a pattern means, sorted by name. A pattern without wildcards
    /// means one file, whether it exists or not.
    ///
    /// # Errors
    ///
    /// Those of listing a directory, except that a missing one holds nothing.
    fn list(&self, base: &Path, pattern: &PathPattern) -> io::Result<Vec<PathBuf>>;

    /// Whether a path leads to anything.
    fn exists(&self, path: &[u8]) -> bool;

    /// Whether anything is there that a watch path with wildcards means.
    fn has_match(&self, pattern: &PathPattern) -> bool;

    /// Whether a program can be found: at its path, or in PATH if its name has no slash.
    fn finds_program(&self, name: &[u8]) -> bool;

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
