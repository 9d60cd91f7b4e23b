//! Renames of which one half was read: an IN_MOVED_FROM that waits for its IN_MOVED_TO.
//!
//! The kernel queues the two halves one after the other, but not as one: events of other processes
//! may stand between them, and the second may not be queued yet when the first is read
//! (`inotify(7)`, "Dealing with rename() events"). A rename is given up when everything has been read
//! that the kernel had queued some time after its first half was seen.

use std::collections::{BTreeSet, HashMap};

use super::stream::Kept;
use super::visit_queue::Visit;
use crate::engine::ids::NodeId;
use crate::engine::store::sorted_queue::SortedQueue;
use crate::engine::store::wheel::TimerId;
use crate::event::EventKind;
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
    deferred: Vec<Kept>,
    /// There were more than could be kept. Since this moment of the wall clock, in nanoseconds, changes in the
    /// directory and those below it are to be looked for.
    pub missed_since_ns: Option<i64>,
    /// Visits to the moved directory and those below it, kept likewise.
    visits: Vec<Visit>,
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
            missed_since_ns: None,
            visits: Vec::new(),
        }
    }

    /// The name it had.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_len)]
    }

    /// The position at which it is given up, as far as that is known.
    fn mark(&self) -> u64 {
        self.give_up_at.unwrap_or(u64::MAX)
    }

    /// The events that were kept, and the visits.
    #[must_use]
    pub fn into_kept(self) -> (Vec<Kept>, Vec<Visit>) {
        (self.deferred, self.visits)
    }

    /// Directory and name that it left.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { parent: self.parent, name: self.name().into() }
    }
}

/// The number of a rename that waits; an older one has a smaller number.
type Number = u64;

/// The renames of one cookie. Nearly always it is one, for which nothing is allocated.
#[derive(Debug, Default)]
struct Numbers {
    newest: Option<Number>,
    /// Oldest first.
    older: Vec<Number>,
}

impl Numbers {
    fn push(&mut self, number: Number) {
        self.older.extend(self.newest.replace(number));
    }

    fn remove(&mut self, number: Number) {
        if self.newest == Some(number) {
            self.newest = self.older.pop();
        } else {
            self.older.retain(|other| *other != number);
        }
    }

    fn newest_first(&self) -> impl Iterator<Item = Number> {
        self.newest.into_iter().chain(self.older.iter().rev().copied())
    }
}

/// All renames that wait. Each is found at once, however many there are.
#[derive(Debug, Default)]
pub struct Renames {
    /// Oldest first.
    pending: SortedQueue<Number, PendingRename>,
    next: Number,
    by_node: HashMap<NodeId, Number>,
    /// Events that are kept for all of them.
    deferred_len: usize,
    /// Those that wait for an arrival, by cookie, oldest first.
    by_cookie: HashMap<u32, Numbers>,
    /// Those that wait for their own IN_MOVED_FROM, by the directory around them.
    exchanges: BTreeSet<(NodeId, Number)>,
    /// Those for which [`Renames::age`] has not set a mark.
    young: SortedQueue<(Millis, Number), ()>,
    /// Those that hold visits, by the mark at which they are given up.
    visited: BTreeSet<(u64, Number)>,
    /// Runs out when renames are to be looked through.
    pub timer: Option<TimerId>,
    /// The directory that the latest IN_MOVED_TO has brought, and from where, if that is watched.
    pub last_arrival: Option<(NodeId, Option<Origin>)>,
}

impl Renames {
    /// Whether any watched directory is between two names.
    #[must_use]
    pub fn has_directories(&self) -> bool {
        !self.by_node.is_empty()
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
        let number = self.next;
        self.next += 1;
        if let Some(node) = rename.node {
            let other = self.by_node.insert(node, number);
            debug_assert!(other.is_none(), "a directory is between two names only");
        }
        match rename.wait {
            Wait::Arrival(cookie) => self.by_cookie.entry(cookie).or_default().push(number),
            Wait::Exchange => drop(self.exchanges.insert((rename.parent, number))),
            Wait::Search => {}
        }
        if rename.give_up_at.is_none() {
            self.young.insert((rename.seen_at, number), ());
        }
        self.deferred_len += rename.deferred.len();
        if !rename.visits.is_empty() {
            self.visited.insert((rename.mark(), number));
        }
        self.pending.insert(number, rename);
    }

    /// The rename with this cookie; the parent's pin passes to the caller.
    /// Where directories have several names there is one for each; that of the same name is `likely`.
    pub fn take(&mut self, cookie: u32, likely: impl Fn(&PendingRename) -> bool) -> Option<PendingRename> {
        let numbers = self.by_cookie.get(&cookie)?;
        let is_likely = |number: &&Number| self.pending.get(number).is_some_and(&likely);
        let number = numbers.newest_first().find(|number| is_likely(&number)).or(numbers.newest)?;
        self.remove(number)
    }

    /// The directory whose own IN_MOVED_FROM would be the next change in `parent`. Another event
    /// ends the waiting; the rename's pins then pass to the caller.
    pub fn take_exchange(&mut self, parent: NodeId) -> Option<PendingRename> {
        let (_, number) = *self.exchanges.range((parent, 0)..=(parent, Number::MAX)).next()?;
        self.remove(number)
    }

    /// The visits that wait for an arrival.
    pub fn visits(&self) -> impl Iterator<Item = &Visit> {
        self.visited
            .iter()
            .filter_map(|(_, number)| self.pending.get(number))
            .flat_map(|rename| &rename.visits)
    }

    /// Whether visits wait for an arrival.
    #[must_use]
    pub fn holds_visits(&self) -> bool {
        !self.visited.is_empty()
    }

    /// Whether visits wait for an arrival that may yet come; they may find other directories.
    #[must_use]
    pub fn has_visits(&self, position: u64) -> bool {
        self.visited.last().is_some_and(|(mark, _)| *mark > position)
    }

    /// Keeps a visit until this directory has arrived. Returns whether it is between two names.
    pub fn keep_visit(&mut self, node: NodeId, visit: Visit) -> bool {
        let Some(number) = self.by_node.get(&node) else { return false };
        let Some(rename) = self.pending.get_mut(number) else { return false };
        rename.visits.push(visit);
        self.visited.insert((rename.mark(), *number));
        true
    }

    /// Keeps an event until this directory, or the one above it that is between two names, has arrived. Returns
    /// whether this is the first that is too many: then those before it are dropped too.
    pub fn defer(&mut self, node: NodeId, event: Kept, kept_max: usize) -> bool {
        let Some(rename) = self.by_node.get(&node).and_then(|number| self.pending.get_mut(number)) else {
            return false;
        };
        // No visit would tell that a watch has ended. That is told once for each watch.
        let is_needed = |kept: &Kept| kept.mask & EventKind::Ignored.bit() != 0;
        if is_needed(&event) || rename.missed_since_ns.is_none() && self.deferred_len < kept_max {
            self.deferred_len += 1;
            rename.deferred.push(event);
            return false;
        }
        if rename.missed_since_ns.is_some() {
            return false;
        }
        let oldest = rename.deferred.iter().map(|kept| kept.place.since_ns).min();
        rename.missed_since_ns = Some(oldest.map_or(event.place.since_ns, |ns| ns.min(event.place.since_ns)));
        self.deferred_len -= rename.deferred.len();
        rename.deferred.retain(is_needed);
        self.deferred_len += rename.deferred.len();
        true
    }

    /// Takes the events out that are kept for the rename of this directory, and says since when some are missed.
    pub fn take_deferred(&mut self, node: NodeId) -> (Vec<Kept>, Option<i64>) {
        let Some(rename) = self.of_node(node) else { return (Vec::new(), None) };
        let (events, missed_since_ns) = (std::mem::take(&mut rename.deferred), rename.missed_since_ns);
        self.deferred_len -= events.len();
        (events, missed_since_ns)
    }

    /// The rename that moves this directory, which was found where it is now.
    pub fn take_of_node(&mut self, node: NodeId) -> Option<PendingRename> {
        self.remove(*self.by_node.get(&node)?)
    }

    /// Whether a rename moves this directory.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.by_node.contains_key(&node)
    }

    /// The rename that moves this directory.
    pub fn of_node(&mut self, node: NodeId) -> Option<&mut PendingRename> {
        self.pending.get_mut(self.by_node.get(&node)?)
    }

    /// Time has passed: renames seen long enough ago are given up once the stream is read up to
    /// `mark`, the end of what is queued now.
    pub fn age(&mut self, now: Millis, mark: u64) {
        while let Some(&((seen_at, number), ())) = self.young.first()
            && now >= seen_at + HALF_WAIT_MS
        {
            self.young.pop_first();
            let Some(rename) = self.pending.get_mut(&number) else { continue };
            if self.visited.remove(&(rename.mark(), number)) {
                self.visited.insert((mark, number));
            }
            rename.give_up_at = Some(mark);
        }
    }

    /// When [`Renames::age`] has something to do next.
    #[must_use]
    pub fn next_age(&self) -> Option<Millis> {
        self.young.first().map(|((seen_at, _), ())| seen_at + HALF_WAIT_MS)
    }

    /// A rename whose other half will not come, now that the stream is read up to `position`.
    pub fn take_given_up(&mut self, position: u64) -> Option<PendingRename> {
        let &(number, ref oldest) = self.pending.first()?;
        if oldest.give_up_at.is_some_and(|mark| position >= mark) { self.remove(number) } else { None }
    }

    fn remove(&mut self, number: Number) -> Option<PendingRename> {
        let rename = self.pending.remove(&number)?;
        self.deferred_len -= rename.deferred.len();
        if let Some(node) = rename.node {
            self.by_node.remove(&node);
        }
        match rename.wait {
            Wait::Arrival(cookie) => {
                if let Some(numbers) = self.by_cookie.get_mut(&cookie) {
                    numbers.remove(number);
                    if numbers.newest.is_none() {
                        self.by_cookie.remove(&cookie);
                    }
                }
            }
            Wait::Exchange => drop(self.exchanges.remove(&(rename.parent, number))),
            Wait::Search => {}
        }
        self.young.remove(&(rename.seen_at, number));
        self.visited.remove(&(rename.mark(), number));
        if self.pending.is_empty() {
            // A burst of moves out of the tree must not keep its memory.
            self.by_node.shrink_to(16);
            self.by_cookie.shrink_to(16);
        }
        Some(rename)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{ROOT, Tree};
    use super::super::visit_queue::VisitReason;
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

    /// Every way to a rename leads to the same ones, however they were put in and taken out.
    #[test]
    fn each_rename_is_found_by_all_that_is_known_of_it() {
        let mut tree = Tree::new();
        let nodes = [b"a", b"b", b"c"].map(|name| tree.insert(ROOT, name).unwrap());
        let visit = |node| Visit { node, reason: VisitReason::Verify, tries: 0, failures: 0, known: None };
        let mut renames = Renames::default();
        for (node, wait) in nodes.into_iter().zip([Wait::Arrival(7), Wait::Exchange, Wait::Search]) {
            renames.put(PendingRename::new(wait, ROOT, Some(node), tree.name(node), 0));
            assert!(renames.contains(node) && renames.keep_visit(node, visit(node)));
        }
        // Another name of a directory that has two.
        renames.put(PendingRename::new(Wait::Arrival(7), nodes[0], None, b"d", 0));
        assert_eq!(renames.visits().count(), 3);
        assert!(renames.has_visits(u64::MAX - 1));
        renames.age(HALF_WAIT_MS, 10);
        assert!(renames.has_visits(9) && !renames.has_visits(10) && renames.holds_visits());
        assert_eq!(renames.take(7, |rename| rename.name() == b"a").unwrap().name(), b"a");
        assert_eq!(renames.take(7, |rename| rename.name() == b"a").unwrap().name(), b"d");
        assert!(renames.take_exchange(nodes[0]).is_none());
        let mut exchange = renames.take_exchange(ROOT).unwrap();
        exchange.wait = Wait::Arrival(8);
        renames.put(exchange);
        assert!(renames.take_exchange(ROOT).is_none());
        assert_eq!(renames.of_node(nodes[1]).unwrap().name(), b"b");
        assert_eq!(renames.take_of_node(nodes[2]).unwrap().name(), b"c");
        assert_eq!(renames.take(8, |_| true).unwrap().visits.len(), 1);
        let Renames { pending, by_node, by_cookie, exchanges, young, visited, .. } = renames;
        assert!(pending.is_empty() && by_node.is_empty() && by_cookie.is_empty() && exchanges.is_empty());
        assert!(young.is_empty() && visited.is_empty());
    }

    /// Time would tell the same: with a walk over all of them this takes minutes.
    #[test]
    fn a_hundred_thousand_renames_are_found_one_by_one() {
        let mut tree = Tree::new();
        let mut renames = Renames::default();
        let nodes: Vec<NodeId> =
            (0_u32..100_000).map(|number| tree.insert(ROOT, &number.to_be_bytes()).unwrap()).collect();
        for (cookie, node) in (0..).zip(&nodes) {
            renames.put(PendingRename::new(Wait::Arrival(cookie), ROOT, Some(*node), tree.name(*node), 0));
        }
        for (cookie, node) in (0..).zip(&nodes) {
            assert!(renames.contains(*node) && renames.of_node(*node).is_some());
            assert_eq!(renames.take(cookie, |_| true).unwrap().node, Some(*node));
        }
        assert!(renames.is_empty());
    }
}
