//! Files that a process seemed to write to when a new directory was listed.
//!
//! Their IN_CLOSE_WRITE is nearly always still to come. But the kernel tells of a close before it
//! lets go of the file (`__fput()` in `fs/file_table.c`), so it may have told just before there was a
//! watch, by a thread that was interrupted between the two. And where the filesystem does not say who
//! writes, size and times are all there is. So such a file is asked about again, until
//!
//! - an event about it comes: the file is settled;
//! - no process writes to it any more. A close under the watch would have been told before that could
//!   be seen, so there was none, and IN_CLOSE_WRITE is synthesized;
//! - it has the same size and times twice, where that is all there is;
//! - it was asked about often enough: the process that holds it open is at work, and its close will be
//!   told.

use super::deliver::Occurrence;
use super::state::stream::Touched;
use super::state::unsettled::UnsettledFile;
use super::state::visit_queue::VisitReason;
use super::state::{Step, Watcher};
use crate::engine::context::{Context, Timer};
use crate::engine::ids::NodeId;
use crate::engine::message::{Entry, EntryKind};
use crate::event::EventKind;
use crate::types::Millis;

/// Ten seconds in all: no thread that was interrupted waits so long for its turn.
const ROUNDS_MAX: u8 = 10;

/// Where size and times are all there is, the first time is this one, after 1.28 s: some filesystems
/// count whole seconds.
const ROUND_UNSURE: u8 = 7;

impl Watcher {
    /// Tells of a file that may have been written before the watch, or remembers to ask about it.
    pub(super) fn deliver_written(
        &mut self,
        step: &mut Step<'_, '_>,
        node: NodeId,
        name: &[u8],
        kind: Option<EntryKind>,
        catch_up: bool,
    ) {
        match kind {
            Some(EntryKind::File) => self.deliver_close(step, node, name, catch_up),
            Some(EntryKind::OpenFile) | None => self.remember_unsettled(step, node, name, None, catch_up),
            Some(EntryKind::Unsure { stamp }) => {
                self.remember_unsettled(step, node, name, Some(stamp), catch_up);
            }
            Some(EntryKind::Directory | EntryKind::Other) => {}
        }
    }

    /// Synthesizes a file's IN_CLOSE_WRITE.
    fn deliver_close(&mut self, step: &mut Step<'_, '_>, node: NodeId, name: &[u8], catch_up: bool) {
        let event = Occurrence { catch_up, ..Occurrence::new(node, name, EventKind::CloseWrite, false) };
        self.deliver_synthesized(step, &event);
    }

    /// Remembers a file of which the listing could not say that no process writes to it. When there is no
    /// room for more, a process that holds a file open is trusted to be heard, and what cannot be known is
    /// told at once.
    pub(super) fn remember_unsettled(
        &mut self,
        step: &mut Step<'_, '_>,
        node: NodeId,
        name: &[u8],
        stamp: Option<u64>,
        catch_up: bool,
    ) {
        if self.unsettled.is_full() {
            if stamp.is_some() {
                self.deliver_close(step, node, name, catch_up);
            }
            return;
        }
        let round = if stamp.is_some() { ROUND_UNSURE } else { 0 };
        let file = UnsettledFile::at(round, step.cx.now, stamp, catch_up);
        if self.unsettled.put(node, name, file) {
            self.tree.pin(node);
        }
        self.arm_unsettled(step.cx, file.due);
    }

    /// An event about a file: what may have been missed of it does not matter any more. Returns whether
    /// the file was remembered.
    pub(super) fn settle(
        &mut self,
        cx: &mut Context<'_>,
        node: NodeId,
        name: &[u8],
        kind: EventKind,
    ) -> bool {
        let settles = matches!(
            kind,
            EventKind::CloseWrite
                | EventKind::Create
                | EventKind::Delete
                | EventKind::MovedFrom
                | EventKind::MovedTo
        );
        settles && !self.unsettled.is_empty() && self.forget_unsettled_file(cx, node, name)
    }

    fn forget_unsettled_file(&mut self, cx: &mut Context<'_>, node: NodeId, name: &[u8]) -> bool {
        let (known, was_last) = self.unsettled.remove(node, name);
        if was_last {
            self.tree.unpin(node);
            self.disarm_unsettled(cx);
        }
        known
    }

    /// The directory is not to be visited any more.
    pub(super) fn forget_unsettled(&mut self, cx: &mut Context<'_>, node: NodeId) {
        if self.unsettled.remove_all(node) {
            self.tree.unpin(node);
            self.disarm_unsettled(cx);
        }
    }

    /// Visits ask about the files that are due.
    pub(super) fn on_unsettled_due(&mut self, cx: &mut Context<'_>) {
        self.unsettled.timer = None;
        let (dirs, next) = self.unsettled.ask_due(cx.now);
        for dir in dirs {
            self.push_visit(dir, VisitReason::Unsettled);
        }
        if let Some(due) = next {
            self.arm_unsettled(cx, due);
        }
    }

    /// Sees to it that the timer runs out when this file is due, or before.
    fn arm_unsettled(&mut self, cx: &mut Context<'_>, due: Millis) {
        match self.unsettled.timer {
            Some((armed, _)) if armed <= due => return,
            Some((_, timer)) => drop(cx.timers.cancel(timer)),
            None => {}
        }
        self.unsettled.timer = Some((due, cx.timers.insert(due, Timer::Unsettled)));
    }

    fn disarm_unsettled(&mut self, cx: &mut Context<'_>) {
        if self.unsettled.is_empty()
            && let Some((_, timer)) = self.unsettled.timer.take()
        {
            cx.timers.cancel(timer);
        }
    }

    /// Takes up what a visit says of the files it asked about. What is in `touched` is about to be told
    /// by events.
    pub(super) fn settle_by_visit(
        &mut self,
        step: &mut Step<'_, '_>,
        node: NodeId,
        entries: &[Entry],
        touched: &Touched,
    ) {
        let mut silent = self.unsettled.asked(node);
        silent.retain(|name| !touched.contains_key(name));
        for name in silent {
            let Some(file) = self.unsettled.get_mut(node, &name) else { continue };
            file.asked = false;
            let kind = entries.iter().find(|entry| entry.name == name).map(|entry| entry.kind);
            let (stamp, is_over) = match kind {
                Some(EntryKind::OpenFile) => (None, false),
                Some(EntryKind::Unsure { stamp }) => (Some(stamp), file.stamp == Some(stamp)),
                _ => (None, true),
            };
            let UnsettledFile { round, catch_up, .. } = *file;
            if !is_over && round < ROUNDS_MAX {
                *file = UnsettledFile::at(round + 1, step.cx.now, stamp, catch_up);
                let due = file.due;
                self.arm_unsettled(step.cx, due);
                continue;
            }
            self.forget_unsettled_file(step.cx, node, &name);
            if is_over && kind.is_some() {
                self.deliver_close(step, node, &name, catch_up);
            }
        }
    }
}
