//! The exit status, and the only place where the command line writes to standard output and standard error.
//! Characters that are not safe to show are escaped here at the latest.

use std::io::{self, Write};

use crate::quote::lines;

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Success = 0,
    /// A system call failed.
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
