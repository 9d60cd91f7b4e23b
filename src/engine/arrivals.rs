//! Directories to be looked at, and entries whose events the kernel did not see.
//!
//! A directory is watched first and listed after. An entry that was there before the watch made no
//! event, so its events are made up; one that came between watch and listing is in the listing and
//! in the queue. The listing carries a *mark*, the position in the event stream at which all that
//! was queued then has been read. Until the reader has passed the mark, the made-up events are
//! held, and a real event for a held name decides what remains of them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::tree::NodeId;
use crate::event::EventKind;
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
    /// Events about it may have been missed; see `reconcile`.
    Changed,
}

/// An entry of a listing whose events are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// It is a directory.
    pub is_dir: bool,
    /// The event that says it is there, unless a real one did.
    pub appeared: Option<EventKind>,
    /// IN_CLOSE_WRITE, unless a real one came or one will come.
    pub closed: bool,
    /// It was there at start: only watches with `catch_up` are told.
    pub catch_up: bool,
}

/// By name; the order makes the engine deterministic.
pub type HeldEntries = BTreeMap<Box<[u8]>, Held>;

/// What must be told before an event, in order.
pub type Before = [Option<EventKind>; 2];

/// What is held for one directory.
#[derive(Debug, Default)]
pub struct Fresh {
    /// Before this position, events of the parent that name this directory mean an earlier one.
    pub born: u64,
    /// Its entries.
    pub held: HeldEntries,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Arrivals {
    visits: VecDeque<Visit>,
    fresh: HashMap<NodeId, Fresh>,
    marks: VecDeque<(u64, NodeId)>,
    /// Visits to be made once the reader has passed a position.
    later: VecDeque<(u64, Visit)>,
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

    /// Takes all visits of one kind out; their pins pass to the caller.
    pub fn take_all(&mut self, news: News) -> Vec<Visit> {
        let all = std::mem::take(&mut self.visits);
        let (taken, kept): (VecDeque<Visit>, _) = all.into_iter().partition(|visit| visit.news == news);
        self.visits = kept;
        taken.into()
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

    /// Holds what a listing found until the reader has passed `mark`. Returns whether the
    /// directory is new here, and so to be pinned and marked as fresh.
    pub fn hold(&mut self, node: NodeId, mark: u64, held: HeldEntries) -> bool {
        self.marks.push_back((mark, node));
        let new = !self.fresh.contains_key(&node);
        let fresh = self.fresh.entry(node).or_default();
        fresh.born = mark;
        for (name, entry) in held {
            fresh.held.entry(name).or_insert(entry);
        }
        new
    }

    /// Before this position, events that name the directory mean an earlier one.
    #[must_use]
    pub fn born(&self, node: NodeId) -> Option<u64> {
        self.fresh.get(&node).map(|fresh| fresh.born)
    }

    /// A real event for a held name. Returns the events that must be told before it: the entry was
    /// there before the watch, so that nobody will tell of them.
    pub fn saw(&mut self, node: NodeId, name: &[u8], kind: EventKind) -> Before {
        let Some(held) = self.fresh.get_mut(&node).and_then(|fresh| fresh.held.get_mut(name)) else {
            return [None; 2];
        };
        if held.catch_up {
            // Told at the mark, unless it is gone by then.
            if matches!(kind, EventKind::Delete | EventKind::MovedFrom) {
                (held.appeared, held.closed) = (None, false);
            }
            held.closed &= kind != EventKind::CloseWrite;
            return [None; 2];
        }
        match kind {
            // Everything about it is in the queue.
            EventKind::Create | EventKind::MovedTo => {
                held.closed = false;
                held.appeared = None;
                [None; 2]
            }
            // Nobody has opened it for writing since.
            EventKind::Delete | EventKind::MovedFrom => {
                let closed = std::mem::take(&mut held.closed);
                [held.appeared.take(), closed.then_some(EventKind::CloseWrite)]
            }
            EventKind::CloseWrite => {
                held.closed = false;
                [held.appeared.take(), None]
            }
            _ => [held.appeared.take(), None],
        }
    }

    /// A directory whose mark the reader has passed; its pin passes to the caller.
    pub fn take_passed(&mut self, position: u64) -> Option<(NodeId, Fresh)> {
        while let Some(&(mark, node)) = self.marks.front() {
            if mark > position {
                return None;
            }
            self.marks.pop_front();
            let last = self.fresh.get(&node).is_some_and(|fresh| fresh.born == mark);
            let Some(fresh) = self.fresh.get_mut(&node) else { continue };
            if last {
                return self.fresh.remove(&node).map(|fresh| (node, fresh));
            }
            // Listed again meanwhile: all of it waits for the later mark.
            fresh.held.retain(|_, held| held.appeared.is_some() || held.closed);
        }
        None
    }
}
