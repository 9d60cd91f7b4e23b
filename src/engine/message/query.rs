//! Questions from the control socket, and the replies.

use crate::record::{Level, LogName};
use crate::rows::Rows;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// How things are.
    Status,
    /// Which tasks there are. A long list comes in pieces.
    Tasks {
        /// Where the piece begins; 0 at first.
        from: u32,
    },
    /// How the watch paths are. A long list comes in pieces.
    Watches {
        /// Where the piece begins; 0 at first.
        from: u32,
    },
    /// Run a waiting task now.
    Run(u64),
    /// Take a waiting task out, terminate one that runs.
    Cancel(u64),
    /// Log more or less, under one name or all others.
    LogLevel {
        /// The name; without one, all names that have no level of their own.
        name: Option<LogName>,
        /// The least that is logged.
        level: Level,
    },
}

/// The reply to a [`Question`].
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// The client that asked.
    pub client: u32,
    /// What there is to say.
    pub rows: Rows,
    /// What follows.
    pub end: ReplyEnd,
}

/// What follows a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyEnd {
    /// Nothing: that was all.
    Done,
    /// More, for this question.
    More(Question),
    /// It cannot be done, and why.
    Refused(String),
}
