//! Children and workers: programs to start, and the signals that end them.

use std::ffi::CString;
use std::sync::Arc;

use crate::config::Run;
use crate::engine::ids::{TaskId, WorkerId};
use crate::record::LogName;

/// A child to start.
#[derive(Debug, PartialEq, Eq)]
pub struct StartChild {
    /// The task that it carries out, for the answer.
    pub task: TaskId,
    /// The program and its arguments.
    pub argv: Vec<CString>,
    /// The task's variables, in addition to the scheduler's.
    pub env: Vec<CString>,
    /// How to set it up.
    pub run: Arc<Run>,
    /// Under which name its output is logged.
    pub logname: LogName,
}

/// A worker to start.
#[derive(Debug, PartialEq, Eq)]
pub struct StartWorker {
    /// Its number, for the answer.
    pub id: WorkerId,
    /// What the log calls it.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<CString>,
    /// Variables in addition to the scheduler's.
    pub env: Vec<CString>,
    /// How to set it up.
    pub run: Arc<Run>,
    /// Under which name its output is logged.
    pub logname: LogName,
    /// Its standard output has answers.
    pub ack: bool,
    /// Lines to write before all others, which [`Input::Written`](super::Input::Written) does not count.
    pub first: Vec<u8>,
}

/// Why a child could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// The machine is short of something (EAGAIN, ENOMEM, EMFILE, ENFILE): worth another try.
    pub temporary: bool,
    /// Operation and reason, in words.
    pub text: String,
}

/// The two signals a task can get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}
