//! Renames that are half read: an IN_MOVED_FROM that waits for its IN_MOVED_TO.
//!
//! The kernel queues the two halves one after the other, but not as one: events of other processes
//! may stand between them, and the second may not be queued yet when the first is read
//! (`inotify(7)`, "Dealing with rename() events"). A half is given up when everything has been read
//! that the kernel had queued some time after the half was seen.

use std::collections::VecDeque;

use super::answers::Kept;
use super::arrivals::Visit;
use super::tree::NodeId;
use crate::types::Millis;

/// How long after an IN_MOVED_FROM its other half may be queued. Both are queued within one
/// `rename(2)`, after its work is done: only a preempted thread can take longer than microseconds.
pub const PAIR_WAIT_MS: Millis = 20;

/// As many halves as this may wait for longer, since visits might find what they have moved: more of
/// them are given up like all others. That takes thousands of directories moved out within moments.
const HALVES_MAX: usize = 4096;

/// The longest name that Linux allows.
const NAME_SIZE_MAX: usize = 255;

/// What a half waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The IN_MOVED_TO with this cookie.
    Arrival(u32),
    /// Its own IN_MOVED_FROM. Something was renamed to the directory's name: if that was
    /// RENAME_EXCHANGE, which holds its parent's lock, this is the next entry to change there. If
    /// it was replaced, no further event names it.
    Exchange,
    /// A visit that finds it. It is not where we thought.
    Search,
}

/// A name in a directory, to be compared with.
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
pub struct Half {
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
    /// It is a file that somebody may have closed after writing without being seen; see `writers`.
    pub unsettled: bool,
    /// Events of the moved directory and those below it, kept until its path is known, in order.
    pub deferred: Vec<Kept>,
    /// Visits to the moved directory and those below it, kept likewise.
    pub visits: Vec<Visit>,
}

impl Half {
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

/// All halves that wait, oldest first.
#[derive(Debug, Default)]
pub struct Pairing {
    halves: VecDeque<Half>,
    /// How many of them are directories with a node.
    directories: usize,
    /// How many of them wait for their own IN_MOVED_FROM.
    displaced: usize,
}

impl Pairing {
    /// Whether any watched directory is between two names.
    #[must_use]
    pub fn has_directories(&self) -> bool {
        self.directories > 0
    }

    /// Whether any half waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.halves.is_empty()
    }

    /// Whether so many wait that no more can be kept for longer than it takes their arrival to be read.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.halves.len() > HALVES_MAX
    }

    /// Keeps a half; its parent must be pinned by the caller.
    pub fn put(&mut self, half: Half) {
        self.directories += usize::from(half.node.is_some());
        self.displaced += usize::from(half.wait == Wait::Exchange);
        self.halves.push_back(half);
    }

    /// The half with this cookie; the parent's pin passes to the caller.
    /// Where directories have several names there is one for each; that of the same name is `likely`.
    pub fn take(&mut self, cookie: u32, likely: impl Fn(&Half) -> bool) -> Option<Half> {
        // The pair is nearly always the newest.
        let is_it = |half: &Half| half.wait == Wait::Arrival(cookie);
        let index = self.halves.iter().rposition(|half| is_it(half) && likely(half));
        let index = index.or_else(|| self.halves.iter().rposition(is_it))?;
        self.remove(index)
    }

    /// The directory whose own IN_MOVED_FROM would be the next change in `parent`. Another event
    /// ends the waiting; the half's pins then pass to the caller.
    pub fn displaced(&mut self, parent: NodeId) -> Option<Half> {
        if self.displaced == 0 {
            return None;
        }
        let is_it = |half: &Half| half.wait == Wait::Exchange && half.parent == parent;
        let index = self.halves.iter().position(is_it)?;
        self.remove(index)
    }

    /// The visits that wait for an arrival.
    pub fn visits(&self) -> impl Iterator<Item = &Visit> {
        self.halves.iter().flat_map(|half| &half.visits)
    }

    /// Whether visits wait for an arrival.
    #[must_use]
    pub fn holds_visits(&self) -> bool {
        self.halves.iter().any(|half| !half.visits.is_empty())
    }

    /// Whether visits wait for an arrival that may yet come; they may find other directories.
    #[must_use]
    pub fn has_visits(&self, position: u64) -> bool {
        if self.directories == 0 {
            return false;
        }
        let waits = |half: &Half| half.give_up_at.is_none_or(|mark| mark > position);
        self.halves.iter().any(|half| waits(half) && !half.visits.is_empty())
    }

    /// The half that moves this directory, which was found where it is now.
    pub fn take_of_node(&mut self, node: NodeId) -> Option<Half> {
        let index = self.halves.iter().position(|half| half.node == Some(node))?;
        self.remove(index)
    }

    /// The half that moves this directory.
    pub fn of_node(&mut self, node: NodeId) -> Option<&mut Half> {
        self.halves.iter_mut().find(|half| half.node == Some(node))
    }

    /// Time has passed: halves seen long enough ago are given up once the stream is read up to
    /// `mark`, the end of what is queued now.
    pub fn age(&mut self, now: Millis, mark: u64) {
        for half in &mut self.halves {
            if half.give_up_at.is_none() && now >= half.seen_at + PAIR_WAIT_MS {
                half.give_up_at = Some(mark);
            }
        }
    }

    /// When [`Pairing::age`] has something to do next.
    #[must_use]
    pub fn next_age(&self) -> Option<Millis> {
        let youngest = self.halves.iter().find(|half| half.give_up_at.is_none());
        youngest.map(|half| half.seen_at + PAIR_WAIT_MS)
    }

    /// A half whose other half will not come, now that the stream is read up to `position`.
    pub fn take_given_up(&mut self, position: u64) -> Option<Half> {
        let front = self.halves.front()?;
        if front.give_up_at.is_some_and(|mark| position >= mark) { self.remove(0) } else { None }
    }

    fn remove(&mut self, index: usize) -> Option<Half> {
        let half = self.halves.remove(index)?;
        self.directories -= usize::from(half.node.is_some());
        self.displaced -= usize::from(half.wait == Wait::Exchange);
        if self.halves.is_empty() {
            // A burst of moves out of the tree must not hold its memory for ever.
            self.halves.shrink_to(16);
        }
        Some(half)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::ROOT;
    use super::*;

    #[test]
    fn a_half_waits_for_its_pair_until_the_stream_is_read() {
        let mut pairing = Pairing::default();
        pairing.put(Half::new(Wait::Arrival(1), ROOT, None, b"a", 0));
        pairing.put(Half::new(Wait::Arrival(2), ROOT, None, b"b", 15));
        pairing.age(PAIR_WAIT_MS - 1, 0);
        assert!(pairing.take_given_up(100).is_none());
        pairing.age(PAIR_WAIT_MS, 100);
        assert!(pairing.take_given_up(99).is_none());
        assert_eq!(pairing.take_given_up(100).unwrap().name(), b"a");
        assert!(pairing.take_given_up(100).is_none());
        assert_eq!(pairing.next_age(), Some(15 + PAIR_WAIT_MS));
        assert_eq!(pairing.take(2, |_| true).unwrap().name(), b"b");
        assert!(pairing.take(2, |_| true).is_none() && pairing.is_empty());
    }
}
