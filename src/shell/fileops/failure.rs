//! Why a file operation failed, in the words that the log shows.

use std::ffi::CStr;
use std::fmt;

use crate::quote::Quoted;
use crate::sys::Errno;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The step that failed, in one word, such as `open`.
    pub op: &'static str,
    /// The path that the step was about.
    pub path: Vec<u8>,
    /// The reason.
    pub why: Why,
    /// The step was about the copy of what has this path.
    is_of_copy: bool,
}

/// The reason of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A system call failed.
    Errno(Errno),
    /// The daemon refuses, for this reason.
    Refused(&'static str),
    /// The daemon is shutting down and has stopped waiting.
    Aborted,
}

/// The path of something in a tree, in two parts. It is joined only when a failure shows it: joining it
/// for every entry would take time that grows with the square of the tree's depth.
#[derive(Clone, Copy, Debug)]
pub struct PathRef<'a> {
    dir: &'a [u8],
    name: Option<&'a CStr>,
}

impl<'a> PathRef<'a> {
    /// The path of a name in a directory.
    #[must_use]
    pub fn in_dir(dir: &'a [u8], name: &'a CStr) -> Self {
        Self { dir, name: Some(name) }
    }

    /// The path as one.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.name.map_or_else(|| self.dir.to_vec(), |name| [self.dir, b"/", name.to_bytes()].concat())
    }
}

impl<'a> From<&'a [u8]> for PathRef<'a> {
    fn from(path: &'a [u8]) -> Self {
        Self { dir: path, name: None }
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for PathRef<'a> {
    fn from(path: &'a [u8; N]) -> Self {
        Self { dir: path, name: None }
    }
}

impl<'a> From<&'a Vec<u8>> for PathRef<'a> {
    fn from(path: &'a Vec<u8>) -> Self {
        Self { dir: path, name: None }
    }
}

impl Failure {
    /// A system call failed.
    #[must_use]
    pub fn new<'a>(op: &'static str, path: impl Into<PathRef<'a>>, errno: Errno) -> Self {
        Self { op, path: path.into().to_vec(), why: Why::Errno(errno), is_of_copy: false }
    }

    /// The daemon refuses.
    #[must_use]
    pub fn refused<'a>(op: &'static str, path: impl Into<PathRef<'a>>, reason: &'static str) -> Self {
        Self { op, path: path.into().to_vec(), why: Why::Refused(reason), is_of_copy: false }
    }

    /// The operation was told to stop.
    #[must_use]
    pub fn aborted<'a>(op: &'static str, path: impl Into<PathRef<'a>>) -> Self {
        Self { op, path: path.into().to_vec(), why: Why::Aborted, is_of_copy: false }
    }

    /// A failure that is about the copy of what has this path.
    #[must_use]
    pub fn of_copy(self) -> Self {
        Self { is_of_copy: true, ..self }
    }

    /// Names the copy, if the failure is about it: in a tree, the path below `source` belongs below `copy`.
    #[must_use]
    pub fn naming_copy(mut self, source: PathRef<'_>, copy: PathRef<'_>) -> Self {
        if self.is_of_copy
            && let Some(rest) = self.path.strip_prefix(source.to_vec().as_slice())
        {
            self.path = [&copy.to_vec(), rest].concat();
        }
        self
    }

    /// Whether a system call failed with this error.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        self.why == Why::Errno(errno)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.op, Quoted(&self.path))?;
        match self.why {
            Why::Errno(Errno::ELOOP) => f.write_str("ELOOP (a symbolic link that is not followed)"),
            Why::Errno(Errno::EEXIST) => f.write_str("EEXIST (File exists; override = yes replaces it)"),
            Why::Errno(Errno::ENOTDIR) => {
                f.write_str("ENOTDIR (no directory, or a symbolic link that is not followed)")
            }
            Why::Errno(Errno::EROFS) => f.write_str(
                "EROFS (Read-only file system; a systemd service can write only to its ReadWritePaths)",
            ),
            Why::Errno(errno) => write!(f, "{errno:?} ({})", errno.desc()),
            Why::Refused(reason) => f.write_str(reason),
            Why::Aborted => f.write_str("given up: the daemon ends"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_operation_path_and_reason() {
        let check = |failure: Failure, expected: &str| assert_eq!(failure.to_string(), expected);
        check(
            Failure::new("open", b"/a\n", Errno::ENOSPC),
            r#"open "/a\n": ENOSPC (No space left on device)"#,
        );
        check(Failure::refused("copy", b"/a", "it is a socket"), r#"copy "/a": it is a socket"#);
        let in_tree = Failure::new("create", PathRef::in_dir(b"/in/t/sub", c"f"), Errno::ENOSPC);
        let named = |failure: Failure| failure.naming_copy(b"/in/t".into(), b"/out/u".into());
        check(named(in_tree.clone()), r#"create "/in/t/sub/f": ENOSPC (No space left on device)"#);
        check(named(in_tree.of_copy()), r#"create "/out/u/sub/f": ENOSPC (No space left on device)"#);
        check(
            Failure::new("open", b"/a", Errno::ELOOP),
            r#"open "/a": ELOOP (a symbolic link that is not followed)"#,
        );
    }
}
