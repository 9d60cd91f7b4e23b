//! Files that a process seemed to write to when their directory was listed; see the rules of the same
//! name.

use std::collections::BTreeMap;

use crate::engine::ids::NodeId;
use crate::engine::store::wheel::TimerId;
use crate::types::Millis;

/// Until a file is asked about the first time; doubled each time.
const FIRST_MS: Millis = 10;

/// Files at once; about a megabyte.
const FILES_MAX: usize = 8_192;

/// A file that is asked about again.
#[derive(Clone, Copy, Debug)]
pub struct UnsettledFile {
    /// When.
    pub due: Millis,
    /// How often it was asked about.
    pub round: u8,
    /// What size and times were, where they are all there is.
    pub stamp: Option<u64>,
    /// A visit that asks about it is to be made.
    pub asked: bool,
    /// It was there at start: only watches with `catch_up` are told.
    pub catch_up: bool,
}

impl UnsettledFile {
    /// A file that is asked about after this round's time.
    #[must_use]
    pub fn at(round: u8, now: Millis, stamp: Option<u64>, catch_up: bool) -> Self {
        Self { due: now + (FIRST_MS << round), round, stamp, asked: false, catch_up }
    }
}

/// By name, in an order that makes the engine deterministic.
type Files = BTreeMap<Box<[u8]>, UnsettledFile>;

/// All such files, by directory.
#[derive(Debug, Default)]
pub struct Unsettled {
    /// The directories are pinned.
    files: BTreeMap<NodeId, Files>,
    count: usize,
    /// Runs out when the next file is due, or before.
    pub timer: Option<(Millis, TimerId)>,
}

impl Unsettled {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there is no room for more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count >= FILES_MAX
    }

    /// The names in a directory that a visit is to ask about.
    #[must_use]
    pub fn asked(&self, dir: NodeId) -> Vec<Box<[u8]>> {
        let files = self.files.get(&dir).into_iter().flatten();
        files.filter(|(_, file)| file.asked).map(|(name, _)| name.clone()).collect()
    }

    /// Adds a file, or replaces what is known of it. Returns whether it is the first of its directory,
    /// which the caller then pins.
    pub fn put(&mut self, dir: NodeId, name: &[u8], file: UnsettledFile) -> bool {
        let files = self.files.entry(dir).or_default();
        let is_first = files.is_empty();
        self.count += usize::from(files.insert(name.into(), file).is_none());
        is_first
    }

    /// What is known of a file.
    pub fn get_mut(&mut self, dir: NodeId, name: &[u8]) -> Option<&mut UnsettledFile> {
        self.files.get_mut(&dir)?.get_mut(name)
    }

    /// Removes a file. Returns whether there was one, and whether it was the last of its directory,
    /// whose pin then passes to the caller.
    pub fn remove(&mut self, dir: NodeId, name: &[u8]) -> (bool, bool) {
        let Some(files) = self.files.get_mut(&dir) else { return (false, false) };
        let known = files.remove(name).is_some();
        self.count -= usize::from(known);
        let was_last = files.is_empty() && self.files.remove(&dir).is_some();
        (known, was_last)
    }

    /// Removes all files of a directory. Returns whether there was any: then the directory's pin passes
    /// to the caller.
    pub fn remove_all(&mut self, dir: NodeId) -> bool {
        let files = self.files.remove(&dir);
        self.count -= files.as_ref().map_or(0, Files::len);
        files.is_some()
    }

    /// Marks the files that are due as asked about. Returns their directories, each once, and when the
    /// next of the other files is due.
    pub fn ask_due(&mut self, now: Millis) -> (Vec<NodeId>, Option<Millis>) {
        let mut dirs = Vec::new();
        let mut next: Option<Millis> = None;
        for (&dir, files) in &mut self.files {
            // What is asked about already waits for its visit.
            for file in files.values_mut().filter(|file| !file.asked) {
                if file.due <= now {
                    file.asked = true;
                    dirs.push(dir);
                } else {
                    next = Some(next.map_or(file.due, |next| next.min(file.due)));
                }
            }
        }
        dirs.dedup();
        (dirs, next)
    }
}
