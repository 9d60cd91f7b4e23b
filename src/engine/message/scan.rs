//! Directories to be watched and listed, and what was found there.

use crate::engine::ids::NodeId;
use crate::types::Wd;

/// Directories with one parent, to be watched and listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// The parent's path; empty when the item is `/`.
    pub base: Vec<u8>,
    /// So many bytes of `base` lead to the watch path, which may go through symbolic links; none
    /// is followed behind them.
    pub trusted: usize,
    /// The watch that the parent carries. If the directory at `base` is another one by now, or there
    /// is none, every item is [`ScanError::Stale`].
    pub expect: Option<Wd>,
    /// What to look at.
    pub items: Vec<Item>,
}

/// One directory to be watched and listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// The directory's node, for the answer.
    pub node: NodeId,
    /// Its name in the parent.
    pub name: Vec<u8>,
    /// What to ask the kernel for, in addition to what is asked already or instead of it.
    pub mask: u32,
    /// The mask replaces the one there is.
    pub replace: bool,
    /// The name may be a symbolic link: it is a watch path or leads to one.
    pub follow: bool,
    /// What to list.
    pub list: List,
    /// For [`List::Named`].
    pub names: Vec<Box<[u8]>>,
}

impl Item {
    /// Whether nothing but its subdirectories matters, so that it may be watched by its name in a watched
    /// parent: each step may then find another directory, of which an event of the parent's tells.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.follow && !self.replace && matches!(self.list, List::Nothing | List::Directories)
    }
}

/// How much of a directory's content is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Nothing.
    Nothing,
    /// The directories in it.
    Directories,
    /// All entries.
    Everything,
    /// All entries, and whether a process holds a regular file open for writing.
    Writers,
    /// The entries of these names, as [`List::Writers`]; what is gone or no regular file is left out.
    Named,
    /// As [`List::Writers`], and which entries were made, moved or changed since.
    Changes {
        /// Nanoseconds of the wall clock.
        since_ns: i64,
    },
}

/// What was found in a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its watch.
    pub wd: Wd,
    /// Its content, as much as was asked for.
    pub entries: Vec<Entry>,
    /// For a watch path or one on the way to it: the name of a filesystem on which changes may be
    /// made that the kernel does not see.
    pub remote: Option<&'static str>,
}

/// One directory entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Box<[u8]>,
    /// What it is.
    pub kind: EntryKind,
    /// Its inode has changed since the moment that was asked for.
    pub changed: bool,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file that no process holds open for writing, as far as that was asked.
    File,
    /// A regular file that a process holds open for writing, or whose name was gone when that was
    /// asked.
    OpenFile,
    /// A regular file on a filesystem that cannot say who writes to it, or does not say it to the daemon.
    Unsure {
        /// Stands for size and times: another number when they are others.
        stamp: u64,
    },
    /// A symbolic link, a device, a socket, a FIFO.
    Other,
}

/// Why a directory could not be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// There is nothing of this name.
    NotFound,
    /// It is no directory, or a link where none is followed.
    NotDirectory,
    /// The parent is not where it was, or something else has taken the name while it was looked at.
    /// The directory that was found instead has this watch, which may be new.
    Stale(Option<Wd>),
    /// A symbolic link on the way to it, or in its place, is not followed: it may be another user's.
    Untrusted {
        /// The link's path.
        link: Vec<u8>,
        /// Why it is not followed, in words.
        why: String,
    },
    /// No right to read it.
    Denied,
    /// `fs.inotify.max_user_watches` is reached (ENOSPC).
    NoSpace {
        /// Its value, if it can be read.
        limit: Option<u64>,
    },
    /// The machine is short of descriptors or memory: worth another try.
    Exhausted(String),
    /// Anything else, in words.
    Other(String),
}
