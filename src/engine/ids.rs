//! The numbers by which the two rooms and the shell name directories, tasks, workers and watches.

use crate::config::{Config, Watch};

/// A directory that the watcher knows: a node of its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(in crate::engine) u32);

impl NodeId {
    /// A number for hashing.
    #[must_use]
    pub fn index(self) -> u32 {
        self.0
    }
}

/// A task. Its number is never used again, also once the task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    pub(in crate::engine) slot: u32,
    pub(in crate::engine) number: u64,
}

impl TaskId {
    /// One for tests of what carries operations out.
    #[cfg(test)]
    pub fn for_tests() -> Self {
        Self { slot: 0, number: 1 }
    }

    /// The number that the user sees.
    #[must_use]
    pub fn number(self) -> u64 {
        self.number
    }
}

/// One start of a worker's program. Its number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub(in crate::engine) u32);

/// The place of a watch in [`Config::watches`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchIndex(pub u16);

impl WatchIndex {
    /// All watches of a configuration, with their numbers.
    pub fn all(config: &Config) -> impl Iterator<Item = (Self, &Watch)> {
        (0..).map(Self).zip(&config.watches)
    }

    /// As an index into a list with one item for each watch.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The watch itself.
    #[must_use]
    pub fn of(self, config: &Config) -> &Watch {
        &config.watches[self.index()]
    }
}
