//! Why a file operation failed, in the words that the log shows.

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

impl Failure {
    /// A system call failed.
    #[must_use]
    pub fn new(op: &'static str, path: impl AsRef<[u8]>, errno: Errno) -> Self {
        Self { op, path: path.as_ref().to_vec(), why: Why::Errno(errno) }
    }

    /// The daemon refuses.
    #[must_use]
    pub fn refused(op: &'static str, path: impl AsRef<[u8]>, reason: &'static str) -> Self {
        Self { op, path: path.as_ref().to_vec(), why: Why::Refused(reason) }
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
        check(
            Failure::new("open", b"/a", Errno::ELOOP),
            r#"open "/a": ELOOP (a symbolic link that is not followed)"#,
        );
    }
}
