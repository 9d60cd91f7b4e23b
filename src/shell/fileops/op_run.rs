//! One operation while it is carried out: what it is about, and what it has to say at its end.

use super::attributes;
use super::control::Control;
use super::entry::Entry;
use super::failure::{Failure, PathRef};
use super::inode_locks::InodeLocks;
use super::sweep::SweptDirs;
use crate::config::Rule;
use crate::engine::message::{FileKind, Operation};
use crate::sys::stat::{Stat, stat_at};

/// What all operations share, whichever thread carries them out.
#[derive(Debug, Default)]
pub struct Shared {
    /// Where leftovers were looked for.
    pub swept: SweptDirs,
    /// Which inodes an operation changes.
    pub inode_locks: InodeLocks,
}

/// One operation that is being carried out.
pub struct OpRun<'a> {
    /// What is to be done.
    pub operation: &'a Operation,
    /// How it is to be done.
    pub rule: &'a Rule,
    /// What is done, in one word, for failures.
    pub verb: &'static str,
    /// How far it is, and whether it is to stop.
    pub control: &'a Control,
    /// What all operations share.
    pub shared: &'a Shared,
    /// What the destination's filesystem could not keep.
    pub not_kept: attributes::NotKept,
    /// Remarks for the log.
    pub notes: Vec<String>,
    /// Files, directories and other things that were copied.
    pub entries: u64,
    /// Nothing was done, because the source is this.
    pub left_out: Option<FileKind>,
}

impl<'a> OpRun<'a> {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(operation: &'a Operation, control: &'a Control, shared: &'a Shared) -> Self {
        let rule = &*operation.rule;
        let verb = rule.action.verb();
        let (not_kept, notes) = (attributes::NotKept::new(), Vec::new());
        Self { operation, rule, verb, control, shared, not_kept, notes, entries: 0, left_out: None }
    }

    /// The path of the source.
    #[must_use]
    pub fn source_path(&self) -> PathRef<'a> {
        PathRef::from(&self.operation.source.path)
    }

    /// The path of the destination; empty when there is none.
    #[must_use]
    pub fn target_path(&self) -> PathRef<'a> {
        self.operation.target.as_ref().map_or(PathRef::from(b""), |target| PathRef::from(&target.path))
    }

    /// What the source is now.
    ///
    /// # Errors
    ///
    /// As `stat(2)`.
    pub fn source(&self, from: &Entry) -> Result<Stat, Failure> {
        stat_at(from.dir(), &from.name).map_err(|errno| Failure::new(self.verb, self.source_path(), errno))
    }

    /// Notes what was replaced and could not be removed. The operation has succeeded all the same.
    pub fn note_left(&mut self, removed: Result<(), Failure>) {
        if let Err(failure) = removed {
            self.notes.push(format!("what was replaced could not be removed: {failure}"));
        }
    }
}
