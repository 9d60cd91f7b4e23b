//! Looks at files: what the engine has to know of a file before its task runs.

use crate::engine::ids::TaskId;

/// A file to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspect {
    /// The task that is about it, for the answer.
    pub task: TaskId,
    /// Its path, absolute.
    pub path: Vec<u8>,
    /// The task's command would follow the path if it is a symbolic link.
    pub follow: bool,
    /// An event map names IN_CLOSE_NOWRITE: the file must not be opened, not even with `O_PATH`.
    pub quiet: bool,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the path leads to.
    pub kind: FileKind,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing, or the daemon may not know.
    Unknown,
    /// A regular file, a directory, or a symbolic link that was not to be followed.
    Plain,
    /// A FIFO, also called a named pipe.
    Fifo,
    /// A socket or a device.
    Other,
}

impl FileKind {
    /// In words, if it is what `special` is about.
    #[must_use]
    pub const fn special(self) -> Option<&'static str> {
        match self {
            Self::Unknown | Self::Plain => None,
            Self::Fifo => Some("a FIFO"),
            Self::Other => Some("a socket or a device"),
        }
    }
}
