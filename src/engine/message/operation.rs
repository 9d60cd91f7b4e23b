//! File operations to carry out, and how they ended.

use std::sync::Arc;

use super::look::FileKind;
use crate::config::Rule;
use crate::engine::ids::TaskId;

/// A file operation to carry out.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// The task that it carries out, for the answer.
    pub task: TaskId,
    /// What is done, and how.
    pub rule: Arc<Rule>,
    /// With what.
    pub source: TrustedPath,
    /// Whether that was a directory, when there was an event for it.
    pub is_dir: bool,
    /// FIFOs, sockets and devices are files too.
    pub special: bool,
    /// Where to; nowhere when it is deleted.
    pub target: Option<TrustedPath>,
}

/// A path, and how far it may be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedPath {
    /// Absolute, without `.`, `..` and empty components, ending in a name.
    pub path: Vec<u8>,
    /// So many bytes of it lead to a directory that the configuration names, possibly through
    /// symbolic links; none is followed behind them. 0 is `/`.
    pub trusted: usize,
}

/// How a file operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationEnd {
    /// It is done.
    Done(OperationDone),
    /// It failed, for this reason. Unless the reason says otherwise, nothing has changed.
    Failed(String),
    /// The same, because it was told to end.
    Aborted(String),
    /// It had not started.
    Withdrawn,
    /// Nothing was done: the source is this, which counts as no file.
    LeftOut(FileKind),
}

/// What is told of an operation that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationDone {
    /// Bytes that were copied.
    pub bytes: u64,
    /// Files, directories and all else that was made.
    pub entries: u64,
    /// What a person should know, such as attributes that could not be kept.
    pub remarks: Vec<String>,
}
