//! Files that somebody seemed to write to when a new directory was listed.
//!
//! Their IN_CLOSE_WRITE is still to come: nearly always. But the kernel tells of a close before it
//! lets go of the file (`__fput()` in `fs/file_table.c`), so it may have told just before there was a
//! watch, by a thread that was interrupted between the two. And where the filesystem does not say who
//! writes, size and times are all there is. So such a file is asked about again, until
//!
//! - an event about it comes, which is the end of it here;
//! - nobody writes to it any more. Whoever closed it under the watch was heard before that could be
//!   seen, so nobody did, and IN_CLOSE_WRITE is made up;
//! - it has the same size and times twice, where that is all there is;
//! - it was asked about often enough: whoever holds it open is at work, and will be heard.

use std::collections::BTreeMap;

use super::answers::Touched;
use super::arrivals::News;
use super::message::{Entry, EntryKind};
use super::routing::Occurrence;
use super::tree::NodeId;
use super::wheel::TimerId;
use super::{Engine, Timer};
use crate::event::EventKind;
use crate::types::Millis;

/// Until a file is asked about again the first time; doubled each time.
const FIRST_MS: Millis = 10;

/// Ten seconds in all: no thread that was interrupted waits so long for its turn.
const ROUNDS_MAX: u8 = 10;

/// Where size and times are all there is, the first time is this one, after 1.28 s: some filesystems
/// count whole seconds.
const ROUND_UNSURE: u8 = 7;

/// Files at once; about a megabyte. With more of them, those that hold a file open are trusted to be
/// heard, and what nobody can say anything about is told at once.
const FILES_MAX: usize = 8_192;

#[derive(Clone, Copy, Debug)]
struct File {
    due: Millis,
    round: u8,
    /// What size and times were, where they are all there is.
    stamp: Option<u64>,
    /// A visit that asks about it is to be made.
    asked: bool,
    /// It was there at start: only watches with `catch_up` are told.
    catch_up: bool,
}

impl File {
    fn at(round: u8, now: Millis, stamp: Option<u64>, catch_up: bool) -> Self {
        Self { due: now + (FIRST_MS << round), round, stamp, asked: false, catch_up }
    }
}

/// By name, in an order that makes the engine deterministic.
type Files = BTreeMap<Box<[u8]>, File>;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Writers {
    /// The directories are pinned.
    files: BTreeMap<NodeId, Files>,
    count: usize,
    timer: Option<(Millis, TimerId)>,
}

impl Writers {
    /// The names that a visit is to ask about.
    pub fn asked(&self, node: NodeId) -> Vec<Box<[u8]>> {
        let files = self.files.get(&node).into_iter().flatten();
        files.filter(|(_, file)| file.asked).map(|(name, _)| name.clone()).collect()
    }
}

impl Engine {
    /// Remembers a file of which the listing could not say that nobody writes to it.
    pub(super) fn remember_writer(&mut self, node: NodeId, name: &[u8], stamp: Option<u64>, catch_up: bool) {
        if self.writers.count >= FILES_MAX {
            if stamp.is_some() {
                self.tell_close(node, name, catch_up);
            }
            return;
        }
        let round = if stamp.is_some() { ROUND_UNSURE } else { 0 };
        let file = File::at(round, self.now, stamp, catch_up);
        if !self.writers.files.contains_key(&node) {
            self.tree.pin(node);
        }
        let known = self.writers.files.entry(node).or_default().insert(name.into(), file);
        self.writers.count += usize::from(known.is_none());
        self.arm_writers(file.due);
    }

    /// An event about a file: what it may have missed does not matter any more. Returns whether it
    /// was remembered.
    pub(super) fn settle_writer(&mut self, node: NodeId, name: &[u8], kind: EventKind) -> bool {
        let settles = matches!(
            kind,
            EventKind::CloseWrite
                | EventKind::Create
                | EventKind::Delete
                | EventKind::MovedFrom
                | EventKind::MovedTo
        );
        settles && self.writers.count > 0 && self.forget_writer(node, name)
    }

    fn forget_writer(&mut self, node: NodeId, name: &[u8]) -> bool {
        let Some(files) = self.writers.files.get_mut(&node) else { return false };
        let known = files.remove(name).is_some();
        self.writers.count -= usize::from(known);
        if files.is_empty() {
            self.forget_writers(node);
        }
        known
    }

    /// The directory is not to be looked at any more.
    pub(super) fn forget_writers(&mut self, node: NodeId) {
        if let Some(files) = self.writers.files.remove(&node) {
            self.writers.count -= files.len();
            self.tree.unpin(node);
        }
        if self.writers.count == 0
            && let Some((_, timer)) = self.writers.timer.take()
        {
            self.wheel.cancel(timer);
        }
    }

    pub(super) fn on_writers_due(&mut self) {
        self.writers.timer = None;
        let mut nodes = Vec::new();
        let mut next = None;
        for (&node, files) in &mut self.writers.files {
            // What is asked about already waits for its visit.
            for file in files.values_mut().filter(|file| !file.asked) {
                if file.due <= self.now {
                    file.asked = true;
                    nodes.push(node);
                } else {
                    next = Some(next.map_or(file.due, |next: Millis| next.min(file.due)));
                }
            }
        }
        nodes.dedup();
        for node in nodes {
            self.push_visit(node, News::Writers);
        }
        next.into_iter().for_each(|due| self.arm_writers(due));
    }

    /// Sees to it that the timer runs out when this file is due, or before.
    fn arm_writers(&mut self, due: Millis) {
        match self.writers.timer {
            Some((armed, _)) if armed <= due => return,
            Some((_, timer)) => drop(self.wheel.cancel(timer)),
            None => {}
        }
        self.writers.timer = Some((due, self.wheel.insert(due, Timer::Writers)));
    }

    /// Takes what a visit says of the files it asked about. What is in `touched` is about to be told
    /// by events.
    pub(super) fn judge_writers(&mut self, node: NodeId, entries: &[Entry], touched: &Touched) {
        let mut silent = self.writers.asked(node);
        silent.retain(|name| !touched.contains_key(name));
        for name in silent {
            let Some(file) = self.writers.files.get_mut(&node).and_then(|files| files.get_mut(&name)) else {
                continue;
            };
            file.asked = false;
            let kind = entries.iter().find(|entry| entry.name == name).map(|entry| entry.kind);
            let (stamp, is_over) = match kind {
                Some(EntryKind::OpenFile) => (None, false),
                Some(EntryKind::Unsure { stamp }) => (Some(stamp), file.stamp == Some(stamp)),
                _ => (None, true),
            };
            let File { round, catch_up, .. } = *file;
            if !is_over && round < ROUNDS_MAX {
                *file = File::at(round + 1, self.now, stamp, catch_up);
                let due = file.due;
                self.arm_writers(due);
                continue;
            }
            self.forget_writer(node, &name);
            if is_over && kind.is_some() {
                self.tell_close(node, &name, catch_up);
            }
        }
    }

    pub(super) fn tell_close(&mut self, node: NodeId, name: &[u8], catch_up: bool) {
        self.counters.made_up += 1;
        let kind = EventKind::CloseWrite;
        self.deliver(&Occurrence { node, name, kind, is_dir: false, src: None, catch_up });
    }
}
