//! The numbers by which the two rooms and the shell name directories, tasks, workers and watches.

use std::collections::HashMap;

use crate::config::{Config, Scheduler, Watch};

/// A directory that the watcher knows: a node of its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

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
    pub(super) slot: u32,
    pub(super) number: u64,
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
pub struct WorkerId(pub(super) u32);

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

/// The number of each scheduler, by its name.
#[must_use]
pub fn schedulers_by_name(schedulers: &[Scheduler]) -> HashMap<&str, usize> {
    schedulers.iter().enumerate().map(|(index, scheduler)| (scheduler.name.as_str(), index)).collect()
}
