//! How the process ends, and what it writes on the way: the only place that writes to standard output and
//! standard error on behalf of the command line.

use std::io::{self, Write};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success = 0,
    /// The machine did not let us.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
}

/// Standard output that is closed or full is a failure, not a panic.
pub(super) fn print(text: &[u8]) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}

/// Writes a message to standard error.
pub(super) fn complain(text: &str) {
    // If standard error is closed, no place is left to report it to.
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end_matches('\n'));
}
