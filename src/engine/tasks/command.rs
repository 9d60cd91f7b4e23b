//! From a task to the command line and the environment of its child.

use std::ffi::CString;

use crate::config::{Action, Scheduler};
use crate::template::Values;

/// The program and its arguments.
pub(super) fn argv(action: &Action, values: &Values<'_>) -> Vec<CString> {
    match action {
        Action::Files { .. } => Vec::new(),
        Action::Shell { cmd, .. } => {
            vec![c"/bin/sh".to_owned(), c"-c".to_owned(), c_string(cmd.fill_quoted(values))]
        }
        Action::Exec { words, .. } => words.iter().map(|word| c_string(word.fill(values))).collect(),
        Action::Worker(worker) => worker.words.clone(),
    }
}

/// The task's variables.
pub(super) fn environment(scheduler: &Scheduler, values: &Values<'_>) -> Vec<CString> {
    let variable = |name: &str, value: &[u8]| c_string([name.as_bytes(), b"=", value].concat());
    vec![
        variable("RINOTIFYD_EVENT", values.kind.name().as_bytes()),
        variable("RINOTIFYD_PATH", values.path),
        variable("RINOTIFYD_SRC_PATH", values.src_path),
        variable("RINOTIFYD_TASK_ID", values.task_id.to_string().as_bytes()),
        variable("RINOTIFYD_SCHEDULER", scheduler.name.as_bytes()),
        variable("RINOTIFYD_IS_DIR", if values.is_dir { b"1" } else { b"0" }),
    ]
}

/// Paths hold no NUL, nor does the configuration; should one turn up, the rest is cut off.
pub(super) fn c_string(bytes: Vec<u8>) -> CString {
    CString::new(bytes).unwrap_or_else(|error| {
        let end = error.nul_position();
        let mut bytes = error.into_vec();
        bytes.truncate(end);
        CString::new(bytes).unwrap_or_default()
    })
}

/// A command line for the log.
pub(super) fn printable(argv: &[CString]) -> Vec<u8> {
    argv.iter().map(|word| word.as_bytes()).collect::<Vec<_>>().join(&b' ')
}
