//! Renames of which one half was read: an IN_MOVED_FROM that waits for its IN_MOVED_TO.
//!
//! The kernel queues the two halves one after the other, but not as one: events of other processes
//! may stand between them, and the second may not be queued yet when the first is read
//! (`inotify(7)`, "Dealing with rename() events"). A rename is given up when everything has been read
//! that the kernel had queued some time after its first half was seen.

use std::collections::VecDeque;

use super::stream::Kept;
use super::visit_queue::Visit;
use crate::engine::ids::NodeId;
use crate::engine::store::wheel::TimerId;
use crate::types::Millis;

/// How long after an IN_MOVED_FROM its other half may be queued. Both are queued within one
/// `rename(2)`, after its work is done: only a preempted thread can take longer than microseconds.
pub const HALF_WAIT_MS: Millis = 20;

/// So many renames may wait for longer, since visits might find what they have moved. When there are
/// more, the oldest are given up like all others. That takes thousands of directories moved out within
/// moments.
const RENAMES_MAX: usize = 4096;

/// The longest name that Linux allows.
const NAME_SIZE_MAX: usize = 255;

/// What a rename waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The IN_MOVED_TO with this cookie.
    Arrival(u32),
    /// Its own IN_MOVED_FROM. Something was renamed to the directory's name: if that was
    /// RENAME_EXCHANGE, which holds its parent's lock, this is the next entry to change there. If
    /// it was replaced, no further event names it.
    Exchange,
    /// A visit that finds it. It is not at the path that the tree has for it.
    Search,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    parent: NodeId,
    name: Box<[u8]>,
}

impl Origin {
    /// Whether it is this name.
    #[must_use]
    pub fn is(&self, parent: NodeId, name: &[u8]) -> bool {
        self.parent == parent && *self.name == *name
    }
}

/// A directory that is between two names.
#[derive(Debug)]
pub struct PendingRename {
    /// What ends that.
    pub wait: Wait,
    /// The directory it left, pinned.
    pub parent: NodeId,
    /// The directory that moved, when it has a node.
    pub node: Option<NodeId>,
    name: [u8; NAME_SIZE_MAX],
    name_len: u8,
    seen_at: Millis,
    /// Once this much of the stream is read, the other half will not come.
    give_up_at: Option<u64>,
    /// Where the directory had come from just before. If it is said to move back there, the two names
    /// may have been exchanged (RENAME_EXCHANGE): then it has stayed where it was.
    pub origin: Option<Origin>,
    /// It is a file that a process may have closed after writing without being seen; see `unsettled`.
    pub unsettled: bool,
    /// Events of the moved directory and those below it, kept until its path is known, in order.
    pub deferred: Vec<Kept>,
    /// Visits to the moved directory and those below it, kept likewise.
    pub visits: Vec<Visit>,
}

impl PendingRename {
    /// What left `parent` under this name.
    #[must_use]
    pub fn new(wait: Wait, parent: NodeId, node: Option<NodeId>, name: &[u8], now: Millis) -> Self {
        let name_len = name.len().min(NAME_SIZE_MAX);
        let mut bytes = [0; NAME_SIZE_MAX];
        bytes[..name_len].copy_from_slice(&name[..name_len]);
        Self {
            wait,
            parent,
            node,
            name: bytes,
            name_len: u8::try_from(name_len).unwrap_or(u8::MAX),
            seen_at: now,
            give_up_at: None,
            origin: None,
            unsettled: false,
            deferred: Vec::new(),
            visits: Vec::new(),
        }
    }

    /// The name it had.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_len)]
    }

    /// Directory and name that it left.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { parent: self.parent, name: self.name().into() }
    }
}

/// All renames that wait, oldest first.
#[derive(Debug, Default)]
pub struct Renames {
    pending: VecDeque<PendingRename>,
    /// How many of them are directories with a node.
    directories: usize,
    /// How many of them wait for their own IN_MOVED_FROM.
    exchanges: usize,
    /// Runs out when renames are to be looked through.
    pub timer: Option<TimerId>,
    /// The directory that the latest IN_MOVED_TO has brought, and from where, if that is watched.
    pub last_arrival: Option<(NodeId, Option<Origin>)>,
}

impl Renames {
    /// Whether any watched directory is between two names.
    #[must_use]
    pub fn has_directories(&self) -> bool {
        self.directories > 0
    }

    /// Whether any rename waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether so many wait that no more can be kept for longer than it takes their arrival to be read.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.pending.len() > RENAMES_MAX
    }

    /// Keeps a rename; its parent must be pinned by the caller.
    pub fn put(&mut self, rename: PendingRename) {
        self.directories += usize::from(rename.node.is_some());
        self.exchanges += usize::from(rename.wait == Wait::Exchange);
        self.pending.push_back(rename);
    }

    /// The rename with this cookie; the parent's pin passes to the caller.
    /// Where directories have several names there is one for each; that of the same name is `likely`.
    pub fn take(&mut self, cookie: u32, likely: impl Fn(&PendingRename) -> bool) -> Option<PendingRename> {
        // The pair is nearly always the newest.
        let is_it = |rename: &PendingRename| rename.wait == Wait::Arrival(cookie);
        let index = self.pending.iter().rposition(|rename| is_it(rename) && likely(rename));
        let index = index.or_else(|| self.pending.iter().rposition(is_it))?;
        self.remove(index)
    }

    /// The directory whose own IN_MOVED_FROM would be the next change in `parent`. Another event
    /// ends the waiting; the rename's pins then pass to the caller.
    pub fn take_exchange(&mut self, parent: NodeId) -> Option<PendingRename> {
        if self.exchanges == 0 {
            return None;
        }
        let is_it = |rename: &PendingRename| rename.wait == Wait::Exchange && rename.parent == parent;
        let index = self.pending.iter().position(is_it)?;
        self.remove(index)
    }

    /// The visits that wait for an arrival.
    pub fn visits(&self) -> impl Iterator<Item = &Visit> {
        self.pending.iter().flat_map(|rename| &rename.visits)
    }

    /// Whether visits wait for an arrival.
    #[must_use]
    pub fn holds_visits(&self) -> bool {
        self.pending.iter().any(|rename| !rename.visits.is_empty())
    }

    /// Whether visits wait for an arrival that may yet come; they may find other directories.
    #[must_use]
    pub fn has_visits(&self, position: u64) -> bool {
        if self.directories == 0 {
            return false;
        }
        let waits = |rename: &PendingRename| rename.give_up_at.is_none_or(|mark| mark > position);
        self.pending.iter().any(|rename| waits(rename) && !rename.visits.is_empty())
    }

    /// The rename that moves this directory, which was found where it is now.
    pub fn take_of_node(&mut self, node: NodeId) -> Option<PendingRename> {
        let index = self.pending.iter().position(|rename| rename.node == Some(node))?;
        self.remove(index)
    }

    /// Whether a rename moves this directory.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.pending.iter().any(|rename| rename.node == Some(node))
    }

    /// The rename that moves this directory.
    pub fn of_node(&mut self, node: NodeId) -> Option<&mut PendingRename> {
        self.pending.iter_mut().find(|rename| rename.node == Some(node))
    }

    /// Time has passed: renames seen long enough ago are given up once the stream is read up to
    /// `mark`, the end of what is queued now.
    pub fn age(&mut self, now: Millis, mark: u64) {
        for rename in &mut self.pending {
            if rename.give_up_at.is_none() && now >= rename.seen_at + HALF_WAIT_MS {
                rename.give_up_at = Some(mark);
            }
        }
    }

    /// When [`Renames::age`] has something to do next.
    #[must_use]
    pub fn next_age(&self) -> Option<Millis> {
        let youngest = self.pending.iter().find(|rename| rename.give_up_at.is_none());
        youngest.map(|rename| rename.seen_at + HALF_WAIT_MS)
    }

    /// A rename whose other half will not come, now that the stream is read up to `position`.
    pub fn take_given_up(&mut self, position: u64) -> Option<PendingRename> {
        let front = self.pending.front()?;
        if front.give_up_at.is_some_and(|mark| position >= mark) { self.remove(0) } else { None }
    }

    fn remove(&mut self, index: usize) -> Option<PendingRename> {
        let rename = self.pending.remove(index)?;
        self.directories -= usize::from(rename.node.is_some());
        self.exchanges -= usize::from(rename.wait == Wait::Exchange);
        if self.pending.is_empty() {
            // A burst of moves out of the tree must not keep its memory.
            self.pending.shrink_to(16);
        }
        Some(rename)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::ROOT;
    use super::*;

    #[test]
    fn a_half_waits_for_its_pair_until_the_stream_is_read() {
        let mut renames = Renames::default();
        renames.put(PendingRename::new(Wait::Arrival(1), ROOT, None, b"a", 0));
        renames.put(PendingRename::new(Wait::Arrival(2), ROOT, None, b"b", 15));
        renames.age(HALF_WAIT_MS - 1, 0);
        assert!(renames.take_given_up(100).is_none());
        renames.age(HALF_WAIT_MS, 100);
        assert!(renames.take_given_up(99).is_none());
        assert_eq!(renames.take_given_up(100).unwrap().name(), b"a");
        assert!(renames.take_given_up(100).is_none());
        assert_eq!(renames.next_age(), Some(15 + HALF_WAIT_MS));
        assert_eq!(renames.take(2, |_| true).unwrap().name(), b"b");
        assert!(renames.take(2, |_| true).is_none() && renames.is_empty());
    }
}
