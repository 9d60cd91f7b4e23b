//! Directories to be looked at: which, why, and which of them are being looked at.

use std::collections::VecDeque;

use super::tree::NodeId;
use crate::types::Wd;

/// A directory to be watched and listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Which; pinned while it waits.
    pub node: NodeId,
    /// What its content is to the user.
    pub news: News,
    /// How often it was put off because the directory found is known under another name.
    pub tries: u8,
    /// The watch by which that directory is known.
    pub known: Option<Wd>,
}

/// Where a directory comes from, which says what events its content gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It was there before the watch: none.
    Existing,
    /// It was created: IN_CREATE, and IN_CLOSE_WRITE for what is written.
    Created,
    /// It was moved in: IN_MOVED_TO.
    Moved,
    /// Nothing is new but its mask, or a doubt whether it is still the same directory.
    Verify,
    /// It was moved from one watch to another, for which its content gets IN_MOVED_TO; see `joining`.
    Joined,
    /// Nothing is new, but some of its files may not be written to any more; see `writers`.
    Writers,
    /// Events about it may have been missed; see `reconcile`.
    Changed,
}

/// A visit that the shell is making.
#[derive(Debug)]
pub struct Asked {
    /// Which.
    pub visit: Visit,
    /// Where it was looked for.
    pub parent: Option<NodeId>,
    /// And under which name.
    pub name: Box<[u8]>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Arrivals {
    visits: VecDeque<Visit>,
    /// Visits to be made once the reader has passed a position.
    later: VecDeque<(u64, Visit)>,
    /// In the order of the shell's answers.
    asked: VecDeque<Asked>,
}

impl Arrivals {
    /// Adds a directory to be looked at. The caller pins it.
    pub fn push(&mut self, visit: Visit) {
        self.visits.push_back(visit);
    }

    /// Adds a directory to be looked at once the reader has passed `mark`. The caller pins it.
    pub fn push_at(&mut self, mark: u64, visit: Visit) {
        self.later.push_back((mark, visit));
    }

    /// Queues the visits whose mark the reader has passed.
    pub fn resume(&mut self, position: u64) {
        while self.later.front().is_some_and(|(mark, _)| *mark <= position) {
            self.visits.extend(self.later.pop_front().map(|(_, visit)| visit));
        }
    }

    /// The next directory to be looked at; its pin passes to the caller.
    pub fn pop(&mut self) -> Option<Visit> {
        let visit = self.visits.pop_front();
        if self.visits.is_empty() {
            // The first scan of a large tree must not hold its memory for ever.
            self.visits.shrink_to(64);
        }
        visit
    }

    /// The next one, left where it is.
    #[must_use]
    pub fn peek(&self) -> Option<&Visit> {
        self.visits.front()
    }

    /// All visits that are to be made, now or later, or are being made.
    pub fn all(&self) -> impl Iterator<Item = &Visit> {
        let later = self.later.iter().map(|(_, visit)| visit);
        self.visits.iter().chain(later).chain(self.asked.iter().map(|asked| &asked.visit))
    }

    /// Takes all visits out; their pins pass to the caller.
    pub fn take_all(&mut self) -> VecDeque<Visit> {
        std::mem::take(&mut self.visits)
    }

    /// Takes all visits of one kind out; their pins pass to the caller.
    pub fn take_all_of(&mut self, news: News) -> Vec<Visit> {
        let all = self.take_all();
        let (taken, kept): (VecDeque<Visit>, _) = all.into_iter().partition(|visit| visit.news == news);
        self.visits = kept;
        taken.into()
    }

    /// The shell is asked; its answers come in the same order.
    pub fn ask(&mut self, asked: Asked) {
        self.asked.push_back(asked);
    }

    /// What the shell's next answer is about; the visit's pin passes to the caller.
    pub fn answered(&mut self) -> Option<Asked> {
        self.asked.pop_front()
    }

    /// Whether the shell is to answer yet.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// How many directories are to be looked at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.visits.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.visits.is_empty()
    }

    /// Whether any is, now or later.
    #[must_use]
    pub fn has_visits(&self) -> bool {
        !self.visits.is_empty() || !self.later.is_empty()
    }
}
