//! The stream of events: how far it was read, how far it was dealt with, and what waits in between.
//!
//! The disk is always ahead of the events that were read. So a visit to a directory has two marks:
//! what was queued *before* it, and what was queued when all was seen. What the visit has found waits
//! until the events up to the second mark are read; then the events up to the first are dealt with,
//! the finding is taken up, and the other events follow. They are read already, and tell:
//!
//! - whether the name led to one and the same directory meanwhile: if an event names it, the visit is
//!   repeated;
//! - what was in the directory before: an entry that was listed, unless an event says that it came
//!   only then, and one that left before the listing;
//! - whether a file's IN_CLOSE_WRITE is among them.
//!
//! The tree is thus right at every position of the stream, and every event is dealt with in order.

use std::collections::{BTreeMap, VecDeque};

use super::visit_queue::{Asked, Visit};
use crate::engine::ids::NodeId;
use crate::engine::message::{Entry, EntryKind, ScanError, Seen};
use crate::event::{EventKind, IN_ISDIR, RawEvent};
use crate::types::Wd;

/// So many findings may wait for the reader, with what they hold, before no further visit is made.
const SCANS_MAX: usize = 256;

/// An event that is dealt with later.
#[derive(Clone, Debug)]
pub struct Kept {
    /// As in the event.
    pub wd: Wd,
    /// As in the event.
    pub mask: u32,
    /// As in the event.
    pub cookie: u32,
    /// As in the event.
    pub name: Box<[u8]>,
    /// Where in the stream it is.
    pub place: EventPlace,
}

/// Where in the stream an event is.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventPlace {
    /// Where it ends.
    pub position: u64,
    /// When the kernel's queue was last seen empty before it came, in nanoseconds of the wall clock.
    pub since_ns: i64,
}

impl Kept {
    /// Keeps an event.
    #[must_use]
    pub fn new(event: &RawEvent<'_>, place: EventPlace) -> Self {
        Self { wd: event.wd, mask: event.mask, cookie: event.cookie, name: event.name.into(), place }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> RawEvent<'_> {
        RawEvent { wd: self.wd, mask: self.mask, cookie: self.cookie, name: &self.name }
    }
}

/// What events say of a name while its directory was visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// The first event by which it came or went, and whether it was a directory.
    pub first: Option<(EventKind, bool)>,
    /// It came, first or later: what was listed may be another file than was there before.
    pub comes: bool,
    /// What was there before was written and closed.
    pub closed: bool,
}

impl Touch {
    /// Whether it was not there before.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self.first, Some((EventKind::Create | EventKind::MovedTo, _)))
    }
}

/// By name, in an order that makes the engine deterministic.
pub type Touched = BTreeMap<Box<[u8]>, Touch>;

/// What a visit has found, until the reader has caught up with it.
#[derive(Debug)]
pub struct PendingScan {
    /// The visit.
    pub asked: Asked,
    /// What it found.
    pub result: Result<Seen, ScanError>,
    /// The end of what was queued before the visit.
    pub before: u64,
    /// The end of what was queued after it.
    pub after: u64,
}

/// A visit that may have made events itself.
#[derive(Clone, Copy, Debug)]
pub struct OwnLook {
    /// The directory that was visited.
    pub node: NodeId,
    /// The directory through which it was reached.
    pub parent: Option<NodeId>,
    before: u64,
    after: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Stream {
    /// Bytes that were read from the descriptor.
    filled_to: u64,
    /// Where the last event ends that the engine was given.
    read_to: u64,
    /// The last event that was dealt with.
    place: EventPlace,
    /// When the kernel's queue was last seen empty, in nanoseconds of the wall clock.
    emptied_at_ns: i64,
    /// The current read empties the queue, at this moment.
    emptying: Option<i64>,
    /// The kernel has dropped events since this moment, and that was not dealt with yet.
    overflowed_since_ns: Option<i64>,
    scans: VecDeque<PendingScan>,
    /// Read, and not dealt with yet. The oldest finding waits for no more than was in the kernel's queue when it
    /// was made, so `fs.inotify.max_queued_events` bounds these too.
    events: VecDeque<Kept>,
    /// Dealt with before any other event: they were kept until their directory's path was known.
    replays: VecDeque<Kept>,
    /// The same, released by the event that is being dealt with: they come first.
    released: Vec<Kept>,
    looks: VecDeque<OwnLook>,
}

impl Stream {
    /// Where the last event ends that was dealt with.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.place.position
    }

    /// Where the event is that is being dealt with.
    #[must_use]
    pub fn place(&self) -> EventPlace {
        self.place
    }

    /// Sets the place for the time in which older events are replayed; returns the one before.
    pub fn set_place(&mut self, place: EventPlace) -> EventPlace {
        std::mem::replace(&mut self.place, place)
    }

    /// The end of what is queued now, when the kernel has so many bytes, as a position.
    #[must_use]
    pub fn mark(&self, queued: usize) -> u64 {
        self.filled_to.saturating_add(queued as u64)
    }

    /// When the kernel's queue was last seen empty, in nanoseconds of the wall clock.
    #[must_use]
    pub fn emptied_at_ns(&self) -> i64 {
        self.emptied_at_ns
    }

    /// The daemon starts: nothing was queued before.
    pub fn start(&mut self, wall_ns: i64) {
        self.emptied_at_ns = wall_ns;
    }

    /// A read took so many bytes, and may have emptied the queue.
    pub fn fill(&mut self, bytes: usize, emptied_at: Option<i64>) {
        self.filled_to = self.filled_to.saturating_add(bytes as u64);
        self.emptying = emptied_at;
    }

    /// All events of the read were given. What the kernel drops from now on, it drops after this moment.
    pub fn drained(&mut self) {
        self.emptied_at_ns = self.emptying.take().unwrap_or(self.emptied_at_ns);
    }

    /// Takes an event of that size. Returns whether it is to be dealt with now; if not, it was kept behind
    /// the findings that wait.
    pub fn take(&mut self, event: &RawEvent<'_>, size: usize) -> bool {
        self.read_to = self.read_to.saturating_add(size as u64);
        if event.mask & EventKind::QOverflow.bit() != 0 {
            // The moment belongs to this event: when the event is dealt with, the queue may have been
            // seen empty again.
            let since = self.overflowed_since_ns.map_or(self.emptied_at_ns, |ns| ns.min(self.emptied_at_ns));
            self.overflowed_since_ns = Some(since);
        }
        let place = EventPlace { position: self.read_to, since_ns: self.emptied_at_ns };
        if self.scans.is_empty() && self.events.is_empty() {
            self.place = place;
            return true;
        }
        self.events.push_back(Kept::new(event, place));
        false
    }

    /// Since when the kernel has dropped events, for an IN_Q_OVERFLOW that is dealt with now.
    pub fn take_overflow(&mut self) -> i64 {
        self.overflowed_since_ns.take().unwrap_or(self.emptied_at_ns)
    }

    /// A visit has found something.
    pub fn push_scan(&mut self, scan: PendingScan) {
        self.scans.push_back(scan);
    }

    /// A visit may have made events between these marks.
    pub fn note_look(&mut self, node: NodeId, parent: Option<NodeId>, before: u64, after: u64) {
        self.looks.push_back(OwnLook { node, parent, before, after });
    }

    /// Whether the event that is being dealt with was queued while the daemon made a visit for which
    /// `concerns`: then the visit may have caused it.
    pub fn is_own_look(&self, concerns: impl Fn(&OwnLook) -> bool) -> bool {
        let position = self.place.position;
        let mut during = self.looks.iter().filter(|look| look.before < position && position <= look.after);
        during.any(concerns)
    }

    /// The next visit that cannot have made an event behind the position; the pin of its node passes to
    /// the caller.
    pub fn pop_past_look(&mut self) -> Option<OwnLook> {
        self.looks.pop_front_if(|look| look.after <= self.place.position)
    }

    /// The next finding that can be taken up.
    pub fn next_scan(&mut self) -> Option<PendingScan> {
        self.scans.pop_front_if(|scan| scan.before <= self.place.position && scan.after <= self.read_to)
    }

    /// The next event that comes before all findings that wait; it counts as dealt with.
    pub fn next_event(&mut self) -> Option<Kept> {
        if self.scans.front().is_some_and(|scan| scan.before <= self.place.position) {
            return None;
        }
        let kept = self.events.pop_front()?;
        self.place = kept.place;
        Some(kept)
    }

    /// Events to be dealt with before any other, oldest first.
    pub fn replay(&mut self, events: Vec<Kept>) {
        self.released.extend(events);
    }

    /// The next of them.
    pub fn next_replay(&mut self) -> Option<Kept> {
        while let Some(kept) = self.released.pop() {
            self.replays.push_front(kept);
        }
        self.replays.pop_front()
    }

    /// Whether findings wait for the reader.
    #[must_use]
    pub fn has_scans(&self) -> bool {
        !self.scans.is_empty()
    }

    /// Whether so many findings wait that the reader must come first.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.scans.len() >= SCANS_MAX
    }

    /// The visits whose findings wait.
    pub fn visits(&self) -> impl Iterator<Item = &Visit> {
        self.scans.iter().map(|scan| &scan.asked.visit)
    }

    /// The events that were read and not dealt with, up to a mark.
    fn window(&self, after: u64) -> impl Iterator<Item = &Kept> {
        self.events.iter().take_while(move |event| event.place.position <= after)
    }

    /// Whether any event was read and not dealt with, up to a mark.
    #[must_use]
    pub fn has_events(&self, after: u64) -> bool {
        self.window(after).next().is_some()
    }

    /// Whether events up to `after` say that another directory may have had this name.
    #[must_use]
    pub fn changes(&self, wd: Option<Wd>, name: &[u8], after: u64) -> bool {
        self.window(after).any(|event| {
            let names_it = Some(event.wd) == wd && *event.name == *name && comes_or_goes(event.mask);
            names_it || event.mask & EventKind::QOverflow.bit() != 0
        })
    }

    /// What events up to `after` say of the entries of a watched directory.
    #[must_use]
    pub fn touched(&self, wd: Wd, after: u64) -> Touched {
        let mut touched = Touched::new();
        for Kept { mask, name, .. } in self.window(after).filter(|event| event.wd == wd) {
            let Some(kind) = EventKind::from_mask(*mask).filter(|_| !name.is_empty()) else { continue };
            if !comes_or_goes(*mask) && kind != EventKind::CloseWrite {
                continue;
            }
            let touch = touched.entry(name.clone()).or_default();
            touch.comes |= matches!(kind, EventKind::Create | EventKind::MovedTo);
            if kind == EventKind::CloseWrite {
                touch.closed |= touch.first.is_none();
            } else if touch.first.is_none() {
                touch.first = Some((kind, mask & IN_ISDIR != 0));
            }
        }
        touched
    }
}

fn comes_or_goes(mask: u32) -> bool {
    const BITS: u32 = EventKind::Create.bit()
        | EventKind::Delete.bit()
        | EventKind::MovedFrom.bit()
        | EventKind::MovedTo.bit();
    mask & BITS != 0
}

/// Whether a directory was listed that left before: one that took its place at once, in an exchange of
/// which only the end was seen.
#[must_use]
pub fn is_ambiguous(seen: &Seen, touched: &Touched) -> bool {
    let stays = |entry: &Entry| {
        let touch = touched.get(&entry.name).copied().unwrap_or_default();
        entry.kind == EntryKind::Directory && matches!(touch.first, Some((_, true))) && !touch.comes
    };
    !touched.is_empty() && seen.entries.iter().any(stays)
}
