//! From a task to the command line and the environment of its child.

use std::ffi::CString;

use crate::config::Action;
use crate::template::{Values, c_string};

/// The program and its arguments.
pub(super) fn argv(action: &Action, values: &Values<'_>) -> Vec<CString> {
    match action {
        Action::Files { .. } => Vec::new(),
        Action::Shell { cmd, .. } => cmd.argv(),
        Action::Exec { words, .. } => words.iter().map(|word| c_string(word.fill(values))).collect(),
        Action::Worker(worker) => worker.words.clone(),
    }
}

/// The task's variables.
pub(super) fn environment(scheduler: &str, action: &Action, values: &Values<'_>) -> Vec<CString> {
    let further = match action {
        Action::Shell { cmd, .. } => cmd.values(),
        _ => &[],
    };
    values.environment(scheduler, further)
}

/// A task's command with its values, for the log.
pub(super) fn shown(action: &Action, values: &Values<'_>, argv: &[CString]) -> Vec<u8> {
    match action {
        Action::Shell { cmd, .. } => cmd.shown(values),
        _ => printable(argv),
    }
}

/// A command line for the log.
pub(super) fn printable(argv: &[CString]) -> Vec<u8> {
    argv.iter().map(|word| word.as_bytes()).collect::<Vec<_>>().join(&b' ')
}
