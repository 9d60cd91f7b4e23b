//! Renames that are half read: an IN_MOVED_FROM that waits for its IN_MOVED_TO.
//!
//! The kernel queues the two halves one after the other, but not as one: events of other processes
//! may stand between them, and the second may not be queued yet when the first is read
//! (`inotify(7)`, "Dealing with rename() events"). A half is given up when everything has been read
//! that the kernel had queued some time after the half was seen.

use std::collections::VecDeque;

use super::arrivals::Visit;
use super::tree::NodeId;
use crate::event::RawEvent;
use crate::types::{Millis, Wd};

/// How long after an IN_MOVED_FROM its other half may be queued. Both are queued within one
/// `rename(2)`, after its work is done: only a preempted thread can take longer than microseconds.
pub const PAIR_WAIT_MS: Millis = 20;

/// The longest name that Linux allows.
const NAME_SIZE_MAX: usize = 255;

/// An IN_MOVED_FROM.
#[derive(Debug)]
pub struct Half {
    cookie: u32,
    /// The directory it left, pinned.
    pub parent: NodeId,
    /// The directory that moved, when it has a node.
    pub node: Option<NodeId>,
    name: [u8; NAME_SIZE_MAX],
    name_len: u8,
    seen_at: Millis,
    /// Once this much of the stream is read, the other half will not come.
    give_up_at: Option<u64>,
    /// Events of the moved directory and those below it, kept until its path is known.
    pub deferred: Vec<Deferred>,
    /// Visits to the moved directory and those below it, kept likewise.
    pub visits: Vec<Visit>,
}

impl Half {
    /// The name it had.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_len)]
    }
}

/// An event that waits for its directory's path.
#[derive(Debug)]
pub struct Deferred {
    wd: Wd,
    mask: u32,
    cookie: u32,
    name: Box<[u8]>,
}

impl Deferred {
    /// Keeps a copy.
    #[must_use]
    pub fn new(event: &RawEvent<'_>) -> Self {
        Self { wd: event.wd, mask: event.mask, cookie: event.cookie, name: event.name.into() }
    }

    /// The event again.
    #[must_use]
    pub fn event(&self) -> RawEvent<'_> {
        RawEvent { wd: self.wd, mask: self.mask, cookie: self.cookie, name: &self.name }
    }
}

/// All halves that wait, oldest first.
#[derive(Debug, Default)]
pub struct Pairing {
    halves: VecDeque<Half>,
    /// How many of them are directories with a node.
    directories: usize,
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

    /// Keeps a first half. `parent` must be pinned by the caller.
    pub fn put(&mut self, cookie: u32, parent: NodeId, node: Option<NodeId>, name: &[u8], now: Millis) {
        let name_len = name.len().min(NAME_SIZE_MAX);
        let mut bytes = [0; NAME_SIZE_MAX];
        bytes[..name_len].copy_from_slice(&name[..name_len]);
        self.directories += usize::from(node.is_some());
        self.halves.push_back(Half {
            cookie,
            parent,
            node,
            name: bytes,
            name_len: u8::try_from(name_len).unwrap_or(u8::MAX),
            seen_at: now,
            give_up_at: None,
            deferred: Vec::new(),
            visits: Vec::new(),
        });
    }

    /// The half with this cookie; the parent's pin passes to the caller.
    pub fn take(&mut self, cookie: u32) -> Option<Half> {
        // The pair is nearly always the newest.
        let index = self.halves.iter().rposition(|half| half.cookie == cookie)?;
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
        pairing.put(1, ROOT, None, b"a", 0);
        pairing.put(2, ROOT, None, b"b", 15);
        pairing.age(PAIR_WAIT_MS - 1, 0);
        assert!(pairing.take_given_up(100).is_none());
        pairing.age(PAIR_WAIT_MS, 100);
        assert!(pairing.take_given_up(99).is_none());
        assert_eq!(pairing.take_given_up(100).unwrap().name(), b"a");
        assert!(pairing.take_given_up(100).is_none());
        assert_eq!(pairing.next_age(), Some(15 + PAIR_WAIT_MS));
        assert_eq!(pairing.take(2).unwrap().name(), b"b");
        assert!(pairing.take(2).is_none() && pairing.is_empty());
    }
}
