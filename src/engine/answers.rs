//! What the shell saw, taken up where in the event stream it was seen.
//!
//! The disk is always ahead of the events that were read. So a look at a directory has two marks:
//! what was queued *before* it, and what was queued when all was seen. The answer waits until the
//! events up to the second mark are read; then the engine deals with the events up to the first,
//! takes up the answer, and goes on with the others. It has read them already, and so it knows:
//!
//! - whether the name led to one and the same directory meanwhile: if an event names it, the look
//!   is repeated;
//! - what was in the directory before: an entry that was listed, unless an event says that it came
//!   only then, and one that left before the listing;
//! - whether a file's IN_CLOSE_WRITE is among them.
//!
//! The tree is thus right at every position of the stream, and every event is dealt with in order.

use std::collections::{BTreeMap, VecDeque};

use super::Engine;
use super::arrivals::{Asked, Visit};
use super::message::{Entry, EntryKind, ScanError, Seen};
use super::tree::NodeId;
use crate::event::{EventKind, IN_ISDIR, RawEvent};
use crate::types::Wd;

/// So many answers may wait for the reader, with what they hold, before no more is looked at.
const ANSWERS_MAX: usize = 256;

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
    /// Where in the stream it ends.
    pub position: u64,
}

impl Kept {
    /// Keeps an event that ends at `position`.
    #[must_use]
    pub fn new(event: &RawEvent<'_>, position: u64) -> Self {
        Self { wd: event.wd, mask: event.mask, cookie: event.cookie, name: event.name.into(), position }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> RawEvent<'_> {
        RawEvent { wd: self.wd, mask: self.mask, cookie: self.cookie, name: &self.name }
    }
}

/// What events say of a name while its directory was looked at.
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
    /// It was not there before.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self.first, Some((EventKind::Create | EventKind::MovedTo, _)))
    }
}

/// By name, in an order that makes the engine deterministic.
pub type Touched = BTreeMap<Box<[u8]>, Touch>;

#[derive(Debug)]
struct Answer {
    asked: Asked,
    result: Result<Seen, ScanError>,
    before: u64,
    after: u64,
}

/// A look that may have made events itself.
#[derive(Clone, Copy, Debug)]
struct Look {
    node: NodeId,
    parent: Option<NodeId>,
    before: u64,
    after: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Answers {
    answers: VecDeque<Answer>,
    /// Read, and not dealt with yet.
    events: VecDeque<Kept>,
    /// Where in the stream the last event ends that was read.
    read_to: u64,
    looks: VecDeque<Look>,
}

impl Answers {
    /// Whether answers or events wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.events.is_empty()
    }

    /// Whether so many wait that the reader must come first.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.answers.len() >= ANSWERS_MAX
    }

    /// The visits whose answers wait.
    pub fn visits(&self) -> impl Iterator<Item = &Visit> {
        self.answers.iter().map(|answer| &answer.asked.visit)
    }

    /// The events after an answer's first mark and up to its second.
    fn window(&self, after: u64) -> impl Iterator<Item = &Kept> {
        self.events.iter().take_while(move |event| event.position <= after)
    }

    /// Whether events up to `after` say that another directory may have had this name.
    fn changes(&self, wd: Option<Wd>, name: &[u8], after: u64) -> bool {
        self.window(after).any(|event| {
            let names_it = Some(event.wd) == wd && *event.name == *name && comes_or_goes(event.mask);
            names_it || event.mask & EventKind::QOverflow.bit() != 0
        })
    }

    /// What events up to `after` say of the entries of a watched directory.
    fn touched(&self, wd: Wd, after: u64) -> Touched {
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
fn is_ambiguous(seen: &Seen, touched: &Touched) -> bool {
    let stays = |entry: &Entry| {
        let touch = touched.get(&entry.name).copied().unwrap_or_default();
        entry.kind == EntryKind::Directory && matches!(touch.first, Some((_, true))) && !touch.comes
    };
    !touched.is_empty() && seen.entries.iter().any(stays)
}

impl Engine {
    /// Deals with an event, or keeps it until the answers before it are taken up.
    pub(super) fn take_event(&mut self, event: &RawEvent<'_>, size: usize) {
        self.answers.read_to += size as u64;
        let position = self.answers.read_to;
        if self.answers.is_empty() {
            self.position = position;
            self.on_event(event);
        } else {
            self.answers.events.push_back(Kept::new(event, position));
        }
    }

    /// Takes what the shell found at the next directory of the last scan.
    pub(super) fn on_scanned(
        &mut self,
        node: NodeId,
        result: Result<Seen, ScanError>,
        before: u64,
        after: u64,
    ) {
        let Some(asked) = self.arrivals.answered() else { return };
        debug_assert_eq!(asked.visit.node, node, "answers come in the order of the items");
        if after > before {
            let look = Look { node, parent: asked.parent, before, after };
            self.tree.pin(node);
            self.answers.looks.push_back(look);
        }
        self.answers.answers.push_back(Answer { asked, result, before, after });
        self.go_on();
    }

    /// Takes up the answers and deals with the events that were read, in their order, as far as
    /// what was read allows.
    pub(super) fn go_on(&mut self) {
        loop {
            while let Some(answer) = self.next_answer() {
                self.take_answer(answer);
            }
            if self.answers.answers.front().is_some_and(|answer| answer.before <= self.position) {
                break;
            }
            let Some(kept) = self.answers.events.pop_front() else { break };
            self.position = kept.position;
            self.on_event(&kept.event());
        }
        self.note_visited();
    }

    fn next_answer(&mut self) -> Option<Answer> {
        let Answers { answers, read_to, .. } = &mut self.answers;
        let is_due = |answer: &Answer| answer.before <= self.position && answer.after <= *read_to;
        answers.front().is_some_and(is_due).then(|| answers.pop_front()).flatten()
    }

    fn take_answer(&mut self, Answer { asked: Asked { visit, parent, name }, result, after, .. }: Answer) {
        let node = visit.node;
        let touched = match &result {
            Ok(seen) => self.answers.touched(seen.wd, after),
            Err(_) => Touched::new(),
        };
        let stands = self.tree.parent(node) == parent
            && self.tree.name(node) == &*name
            && self.tree.is_attached(node)
            && !self.moves(node, after)
            && !result.as_ref().is_ok_and(|seen| is_ambiguous(seen, &touched));
        match result {
            Ok(seen) if stands => self.on_seen(visit, seen, touched),
            Err(error) if stands => self.on_unseen(visit, &error, after),
            other => {
                if let Ok(Seen { wd, .. }) | Err(ScanError::Stale(Some(wd))) = other {
                    self.unwatch_unused(wd);
                }
                self.visit_after(after, visit);
            }
        }
        self.tree.unpin(node);
    }

    /// Whether events up to `after` say that the directory, or one above it, comes or goes.
    fn moves(&self, node: NodeId, after: u64) -> bool {
        if self.answers.window(after).next().is_none() {
            return false;
        }
        let mut at = node;
        while let Some(parent) = self.tree.parent(at) {
            if self.answers.changes(self.tree.wd(parent), self.tree.name(at), after) {
                return true;
            }
            at = parent;
        }
        false
    }

    /// Whether answers are missing: of the shell, or of the reader.
    pub(super) fn awaits_answers(&self) -> bool {
        self.arrivals.is_asking() || !self.answers.answers.is_empty()
    }

    /// Whether the daemon itself may have made the event that is being dealt with, by listing this
    /// directory or its parent, or by asking who writes to a file in it.
    pub(super) fn is_looked_at(&self, node: NodeId, child: Option<NodeId>, names_entry: bool) -> bool {
        let position = self.position;
        self.answers.looks.iter().filter(|look| look.before < position && position <= look.after).any(
            |look| {
                let is_inside = look.node == node || Some(look.node) == child;
                let is_parent =
                    look.parent == Some(node) && !names_entry || child.is_some() && look.parent == child;
                is_inside || is_parent
            },
        )
    }

    /// Forgets the looks that made no event behind this position.
    pub(super) fn forget_looks(&mut self) {
        while self.answers.looks.front().is_some_and(|look| look.after <= self.position) {
            let look = self.answers.looks.pop_front();
            look.into_iter().for_each(|look| self.tree.unpin(look.node));
        }
    }
}
