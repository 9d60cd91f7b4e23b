//! Directories to be visited: which, why, and which of them the shell is visiting.

use std::collections::VecDeque;

use crate::engine::ids::NodeId;
use crate::types::Wd;

/// A directory to be watched and listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The directory, which is pinned while the visit waits.
    pub node: NodeId,
    /// What the visit is for.
    pub reason: VisitReason,
    /// How often it was put off because the directory found is known under another name.
    pub tries: u8,
    /// The watch by which that directory is known.
    pub known: Option<Wd>,
    /// How often it has failed for a reason that may pass.
    pub failures: u8,
}

/// Why a directory is visited, which says what events its content gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisitReason {
    /// It was there before the watch: no events.
    Existing,
    /// It was created: IN_CREATE, and IN_CLOSE_WRITE for what is written.
    Created,
    /// It was moved in: IN_MOVED_TO.
    Moved,
    /// Its mask is a new one, or there is doubt whether it is still the same directory: no events.
    Verify,
    /// It was moved from one watch to another, for which its content gets IN_MOVED_TO; see `joins`.
    Joined,
    /// Some of its files may not be written to any more; see `unsettled`.
    Unsettled,
    /// Events about it may have been missed; see `repair`.
    Changed,
}

/// A visit that the shell is making.
#[derive(Debug)]
pub struct Asked {
    /// The visit.
    pub visit: Visit,
    /// The directory in which it was looked for.
    pub parent: Option<NodeId>,
    /// The name under which it was looked for.
    pub name: Box<[u8]>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct VisitQueue {
    visits: VecDeque<Visit>,
    /// Visits to be made once the reader has passed a position.
    later: VecDeque<(u64, Visit)>,
    /// Visits to be made when their timer runs out, since the machine was short of something.
    postponed: Vec<Visit>,
    /// In the order of the shell's answers.
    asked: VecDeque<Asked>,
    /// When more visits than this wait, they are sifted.
    pub sift_at: usize,
    /// Watches to be taken away once all answers are there.
    pub unwanted: Vec<Wd>,
}

impl VisitQueue {
    /// Adds a directory to be visited. The caller pins it.
    pub fn push(&mut self, visit: Visit) {
        self.visits.push_back(visit);
    }

    /// Adds a directory to be visited once the reader has passed `mark`. The caller pins it.
    pub fn push_at(&mut self, mark: u64, visit: Visit) {
        self.later.push_back((mark, visit));
    }

    /// Adds a visit to those that a timer brings back. The caller pins the directory. Returns whether it
    /// is the first, for which the timer has to be set.
    pub fn postpone(&mut self, visit: Visit) -> bool {
        self.postponed.push(visit);
        self.postponed.len() == 1
    }

    /// Queues the visits that were postponed.
    pub fn resume_postponed(&mut self) {
        self.visits.extend(self.postponed.drain(..));
    }

    /// Whether visits were postponed.
    #[must_use]
    pub fn has_postponed(&self) -> bool {
        !self.postponed.is_empty()
    }

    /// Queues the visits whose mark the reader has passed.
    pub fn resume(&mut self, position: u64) {
        while self.later.front().is_some_and(|(mark, _)| *mark <= position) {
            self.visits.extend(self.later.pop_front().map(|(_, visit)| visit));
        }
    }

    /// The next directory to be visited; its pin passes to the caller.
    pub fn pop(&mut self) -> Option<Visit> {
        let visit = self.visits.pop_front();
        if self.visits.is_empty() {
            // The first scan of a large tree must not keep its memory.
            self.visits.shrink_to(64);
        }
        visit
    }

    /// The next visit, which stays in the queue.
    #[must_use]
    pub fn peek(&self) -> Option<&Visit> {
        self.visits.front()
    }

    /// All visits that are to be made, now, later or when their timer runs out, or are being made.
    pub fn all(&self) -> impl Iterator<Item = &Visit> {
        let later = self.later.iter().map(|(_, visit)| visit);
        let asked = self.asked.iter().map(|asked| &asked.visit);
        self.visits.iter().chain(later).chain(asked).chain(&self.postponed)
    }

    /// Takes out the visits that are to be made now; their pins pass to the caller.
    pub fn take_all(&mut self) -> VecDeque<Visit> {
        std::mem::take(&mut self.visits)
    }

    /// The directories that are to be visited now for this reason.
    pub fn queued(&self, reason: VisitReason) -> impl Iterator<Item = NodeId> {
        self.visits.iter().filter(move |visit| visit.reason == reason).map(|visit| visit.node)
    }

    /// The shell is asked; its answers come in the same order.
    pub fn ask(&mut self, asked: Asked) {
        self.asked.push_back(asked);
    }

    /// What the shell's next answer is about; the visit's pin passes to the caller.
    pub fn answered(&mut self) -> Option<Asked> {
        self.asked.pop_front()
    }

    /// Whether answers of the shell are missing.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// How many directories are to be visited now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.visits.len()
    }

    /// Whether none is to be visited now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.visits.is_empty()
    }

    /// Whether any is to be visited, now or once the reader has passed a position.
    #[must_use]
    pub fn has_visits(&self) -> bool {
        !self.visits.is_empty() || !self.later.is_empty()
    }
}
