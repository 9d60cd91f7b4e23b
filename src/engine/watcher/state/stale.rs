//! Renamed directories below which covers are still to be computed again; see `cover_again`.
//!
//! Time is counted in renames here. The cover of a directory is right if it was computed since the last
//! rename of each directory above it.

use std::collections::{HashMap, VecDeque};

use crate::engine::ids::NodeId;

/// How far a walk below a renamed directory is. Both directories are pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The directory that was renamed.
    pub top: NodeId,
    /// The last directory that was dealt with.
    pub at: NodeId,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Stale {
    /// How many renames there were.
    renames: u64,
    /// By renamed directory, which is pinned: its last rename.
    tops: HashMap<NodeId, u64>,
    /// The same directories, in the order in which they are dealt with.
    queue: VecDeque<NodeId>,
    /// By directory: how many renames there had been when its cover was computed.
    computed: HashMap<NodeId, u64>,
    walk: Option<Walk>,
}

impl Stale {
    /// Whether all covers are right.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tops.is_empty()
    }

    /// A directory is renamed: covers that are computed from now on are right.
    pub fn note_rename(&mut self) {
        self.renames += 1;
    }

    /// What is below this directory is to be computed again since the last rename. Returns whether the
    /// directory is a new one, which the caller then pins.
    pub fn add(&mut self, top: NodeId) -> bool {
        let is_new = self.tops.insert(top, self.renames).is_none();
        if !is_new {
            // Directories that are renamed less often come first.
            self.queue.retain(|other| *other != top);
        }
        self.queue.push_back(top);
        is_new
    }

    /// The last rename of this directory, if what is below it is to be computed again.
    #[must_use]
    pub fn renamed(&self, node: NodeId) -> Option<u64> {
        self.tops.get(&node).copied()
    }

    /// The directory to deal with next.
    #[must_use]
    pub fn next(&self) -> Option<NodeId> {
        self.queue.front().copied()
    }

    /// All below this directory was dealt with; its pin passes to the caller.
    pub fn remove(&mut self, top: NodeId) {
        self.tops.remove(&top);
        self.queue.retain(|other| *other != top);
        if self.tops.is_empty() {
            self.computed = HashMap::new();
            self.queue = VecDeque::new();
        }
    }

    /// How far the walk is that is under way.
    #[must_use]
    pub fn walk(&self) -> Option<Walk> {
        self.walk
    }

    /// Says how far the walk is. The pins of the one before pass to the caller.
    pub fn set_walk(&mut self, walk: Option<Walk>) -> Option<Walk> {
        std::mem::replace(&mut self.walk, walk)
    }

    /// The cover of this directory was computed.
    pub fn note_computed(&mut self, node: NodeId) {
        if !self.tops.is_empty() {
            self.computed.insert(node, self.renames);
        }
    }

    /// The cover of a new directory was computed: it is as right as its parent's.
    pub fn note_new(&mut self, node: NodeId, parent: NodeId) {
        if self.tops.is_empty() {
            return;
        }
        match self.computed.get(&parent).copied() {
            Some(renames) => drop(self.computed.insert(node, renames)),
            None => drop(self.computed.remove(&node)),
        }
    }

    /// Whether the cover of this directory was computed since that rename.
    #[must_use]
    pub fn is_computed(&self, node: NodeId, rename: u64) -> bool {
        self.computed.get(&node).is_some_and(|renames| *renames >= rename)
    }
}
