//! How many directories each watch has, of those that it may have; see the rules of `room`.

use std::collections::BTreeMap;

use crate::engine::ids::WatchIndex;
use crate::engine::store::wheel::TimerId;

/// A watch that has no room for more directories.
#[derive(Clone, Copy, Debug)]
pub struct Full {
    /// Since when directories have gone unwatched, in nanoseconds of the wall clock.
    pub since_ns: i64,
    /// How many directories were held back, as far as they are remembered.
    pub held: usize,
    /// There were more.
    pub forgot: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Room {
    counts: Vec<u32>,
    full: BTreeMap<WatchIndex, Full>,
    /// Runs out when directories that had to wait are visited.
    pub timer: Option<TimerId>,
}

impl Room {
    /// The watch has one directory more.
    pub fn add(&mut self, watch: WatchIndex) {
        if self.counts.len() <= watch.index() {
            self.counts.resize(watch.index() + 1, 0);
        }
        self.counts[watch.index()] += 1;
    }

    /// The watch has one directory less.
    pub fn take(&mut self, watch: WatchIndex) {
        if let Some(count) = self.counts.get_mut(watch.index()) {
            debug_assert!(*count > 0, "what is taken away was added");
            *count = count.saturating_sub(1);
        }
    }

    /// How many directories the watch has.
    #[must_use]
    pub fn count(&self, watch: WatchIndex) -> u32 {
        self.counts.get(watch.index()).copied().unwrap_or(0)
    }

    /// A directory of the watch has to wait. Returns whether it is the first.
    pub fn note_full(&mut self, watch: WatchIndex, since_ns: i64) -> bool {
        let is_first = !self.full.contains_key(&watch);
        self.full.entry(watch).or_insert(Full { since_ns, held: 0, forgot: false }).held += 1;
        is_first
    }

    /// Changes what is known of a full watch.
    pub fn full_mut(&mut self, watch: WatchIndex) -> Option<&mut Full> {
        self.full.get_mut(&watch)
    }

    /// All directories of the watch are watched.
    pub fn end_full(&mut self, watch: WatchIndex) {
        self.full.remove(&watch);
    }

    /// Since when directories of this watch wait, if any does.
    #[must_use]
    pub fn full(&self, watch: WatchIndex) -> Option<Full> {
        self.full.get(&watch).copied()
    }

    /// The watches of which directories wait.
    #[must_use]
    pub fn all_full(&self) -> Vec<WatchIndex> {
        self.full.keys().copied().collect()
    }

    /// After a reload the watches have other numbers, or are gone, and all is counted anew.
    pub fn renumber(&mut self, new: &dyn Fn(WatchIndex) -> Option<WatchIndex>) {
        self.counts.clear();
        let full = std::mem::take(&mut self.full);
        self.full = full.into_iter().filter_map(|(watch, full)| Some((new(watch)?, full))).collect();
    }
}
