//! How the process ends, and what it writes on the way: the only place that writes to standard output and
//! standard error on behalf of the command line. What is not safe to show is escaped here at the latest.

use std::io::{self, Write};

use crate::quote::lines;

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
    match out.write_all(lines(text).as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}

/// Writes a message to standard error.
pub(super) fn complain(text: &str) {
    // If standard error is closed, no place is left to report it to.
    let _ = writeln!(io::stderr().lock(), "{}", lines(text.trim_end_matches('\n').as_bytes()));
}
