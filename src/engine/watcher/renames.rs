//! Renames: what leaves a name, what arrives under one, and what becomes of both.
//!
//! Between the two halves of a rename the events of a directory are kept, with the visits that wait below
//! it. They are dealt with under the new path, or dropped when the directory left. A directory that moves
//! on at once may be one of two whose names were exchanged; only its way back can tell.

use super::coverage::Known;
use super::deliver::Occurrence;
use super::state::renames::{HALF_WAIT_MS, Origin, PendingRename, Wait};
use super::state::stream::Kept;
use super::state::visit_queue::VisitReason;
use super::state::{Step, Watcher};
use crate::engine::context::{Context, Timer};
use crate::engine::ids::NodeId;
use crate::record::Level;

impl Watcher {
    /// The first half of a rename, which was told already.
    pub(super) fn on_moved_from(
        &mut self,
        step: &mut Step<'_, '_>,
        event: &Occurrence<'_>,
        cookie: u32,
        unsettled: bool,
    ) {
        if let Some(child) = self.tree.child(event.node, event.name) {
            self.resolve_cover(step, child);
        }
        let cx = &mut *step.cx;
        if let Some(mut exchange) = self.renames.take_exchange(event.node) {
            if event.is_dir && exchange.name() == event.name {
                exchange.wait = Wait::Arrival(cookie);
                self.renames.put(exchange);
                self.verify_child(event.node, event.name);
                return;
            }
            self.give_up_exchange(exchange);
        }
        if !event.is_dir {
            self.file_changed(cx, event.node, event.name);
        }
        let child = if event.is_dir { self.tree.child(event.node, event.name) } else { None };
        let mut origin = None;
        if let Some(child) = child {
            self.tree.depart(child);
            self.lost_child(cx, event.node, event.name);
            let arrived = self.renames.last_arrival.take_if(|(arrived, _)| *arrived == child);
            if let Some((_, from)) = arrived {
                // Or the name was exchanged for that of a directory without a node, which is what arrived and
                // left: then this one has stayed. If the way back is watched, it tells.
                if from.is_none() {
                    self.push_visit(child, VisitReason::Verify);
                    self.guess(cx, event.node, event.name, VisitReason::Created, Known::Appeared);
                }
                origin = from;
            }
        }
        let wait = Wait::Arrival(cookie);
        let mut rename = PendingRename::new(wait, event.node, child, event.name, cx.now);
        rename.origin = origin;
        rename.unsettled = unsettled;
        self.put_rename(cx, rename);
    }

    /// The second half of a rename. Returns where a directory came from, if that is watched.
    pub(super) fn on_moved_to(
        &mut self,
        step: &mut Step<'_, '_>,
        event: &Occurrence<'_>,
        cookie: u32,
    ) -> Option<Origin> {
        let Self { renames, tree, covers, .. } = self;
        let here = tree.cover(event.node);
        let rename = renames.take(cookie, |rename| covers.share_watch(tree.cover(rename.parent), here));
        let Some(mut rename) = rename else {
            self.deliver(step, event);
            self.moved_in(step, event, VisitReason::Moved);
            return None;
        };
        let came_from = rename.origin.take();
        // The way to a watch path is visited too, but no watch sees what is there.
        let known =
            rename.parent == event.node || self.is_inside(step.cx.config, rename.parent, rename.name());
        let src = known.then_some((rename.parent, rename.name()));
        self.deliver(step, &Occurrence { src, ..*event });
        match rename.node {
            Some(moved) => {
                self.arrived(step, moved, event.node, event.name);
                if came_from.is_some_and(|origin| origin.is(event.node, event.name)) {
                    // It may not be watched where it is now.
                    if self.tree.child(event.node, event.name) == Some(moved) {
                        self.push_visit(moved, VisitReason::Verify);
                    }
                    let (parent, name) = (rename.parent, rename.name());
                    self.guess(step.cx, parent, name, VisitReason::Created, Known::Appeared);
                }
            }
            None => {
                let reason = if event.is_dir {
                    self.reason_of_unvisited(step.cx, &rename)
                } else {
                    VisitReason::Moved
                };
                self.moved_in(step, event, reason);
                if rename.unsettled {
                    self.remember_unsettled(step, event.node, event.name, None, false);
                }
            }
        }
        let origin = event.is_dir.then(|| rename.origin());
        self.release_rename(step.cx, rename);
        origin
    }

    /// Why a directory is visited that was renamed before its first visit: if it was in a watched place,
    /// all that was made in it there is still to be told.
    fn reason_of_unvisited(&mut self, cx: &mut Context<'_>, rename: &PendingRename) -> VisitReason {
        let covered = self.covers_child(cx, rename.parent, rename.name());
        if covered { VisitReason::Created } else { VisitReason::Moved }
    }

    fn moved_in(&mut self, step: &mut Step<'_, '_>, event: &Occurrence<'_>, reason: VisitReason) {
        if event.is_dir {
            self.vacate_name(step, event.node, event.name);
            self.adopt(step.cx, event.node, event.name, reason, Known::Appeared);
        } else {
            self.file_changed(step.cx, event.node, event.name);
        }
    }

    /// A directory with its watches now stands under another name.
    pub(super) fn arrived(&mut self, step: &mut Step<'_, '_>, moved: NodeId, parent: NodeId, name: &[u8]) {
        self.vacate_name(step, parent, name);
        if self.tree.child(parent, name).is_some() {
            self.abandon_departed(step, moved, "it took the place of a watch path");
        } else if !self.move_node(step, moved, parent, name) {
            self.abandon(step, moved, "there is no room for its name");
        }
    }

    /// An event or a visit says that there is another directory of this name. The one that is watched may
    /// yet be found elsewhere.
    pub(super) fn take_for_gone(&mut self, step: &mut Step<'_, '_>, node: NodeId) {
        if self.tree.wd(node).is_some() {
            self.detach_unknown(step.cx, node);
        } else {
            self.abandon(step, node, "it is gone");
        }
    }

    /// A directory is not at the path that the tree has for it: a visit finds it, or it has left.
    pub(super) fn detach_unknown(&mut self, cx: &mut Context<'_>, node: NodeId) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        self.tree.depart(node);
        let rename = PendingRename::new(Wait::Search, parent, Some(node), &name, cx.now);
        self.put_rename(cx, rename);
    }

    /// A directory below one that is between two names, or gone, is not there any more: it gets a pending
    /// rename of its own, and what is kept for it and those below it.
    pub(super) fn split_pending(&mut self, cx: &mut Context<'_>, node: NodeId) {
        if self.tree.in_transit(node) == Some(node) {
            return;
        }
        let top = self.tree.in_transit(node);
        let (kept, missed_since_ns) = top.map(|top| self.renames.take_deferred(top)).unwrap_or_default();
        let place = self.tree.parent(node).map(|parent| (parent, self.tree.name(node).to_vec()));
        self.detach_unknown(cx, node);
        if let (Some((parent, name)), Some(_)) = (place, self.repair.pass) {
            // What has its old name by now may have come with an event that was dropped.
            self.guess(cx, parent, &name, VisitReason::Created, Known::Before);
        }
        if let Some(rename) = self.renames.of_node(node) {
            rename.missed_since_ns = missed_since_ns;
        }
        for event in kept {
            let first = self.tree.nodes_of(event.wd).iter().next();
            if let Some(node) = first {
                self.defer(cx, node, event);
            }
        }
    }

    /// Keeps an event of a directory that is between two names, or below one that is.
    pub(super) fn defer(&mut self, cx: &mut Context<'_>, node: NodeId, event: Kept) {
        if let Some(top) = self.tree.in_transit(node)
            && self.renames.defer(top, event, cx.options.kept_max)
        {
            let text =
                "too many events of a directory that is being renamed; its tree is compared with the disk";
            cx.log_daemon(Level::Warning, text, |record| record.field("path", self.tree.path_of(top, b"")));
        }
    }

    fn put_rename(&mut self, cx: &mut Context<'_>, rename: PendingRename) {
        self.tree.pin(rename.parent);
        self.renames.put(rename);
        self.arm_renames(cx);
    }

    /// Something is about to take the name of a directory that the tree has. The directory may be
    /// replaced, or exchanged: then its own IN_MOVED_FROM follows.
    pub(super) fn vacate_name(&mut self, step: &mut Step<'_, '_>, parent: NodeId, name: &[u8]) {
        let Some(child) = self.tree.child(parent, name) else { return };
        if self.leads_to_root(child) {
            self.disappeared(step.cx, parent, name);
        } else if self.tree.is_guessed(child) {
            self.take_for_gone(step, child);
        } else {
            self.tree.depart(child);
            let now = step.cx.now;
            let rename = PendingRename::new(Wait::Exchange, parent, Some(child), name, now);
            self.put_rename(step.cx, rename);
        }
    }

    /// An event shows that a directory which waited for its IN_MOVED_FROM will get none.
    pub(super) fn end_exchange(&mut self, parent: NodeId) {
        if let Some(exchange) = self.renames.take_exchange(parent) {
            self.give_up_exchange(exchange);
        }
    }

    /// The directory was replaced or deleted while a process holds it open. Should that be wrong, a visit
    /// may find it.
    fn give_up_exchange(&mut self, mut exchange: PendingRename) {
        exchange.wait = Wait::Search;
        self.renames.put(exchange);
    }

    /// The kernel has taken the directory's watch away: it will not arrive anywhere.
    pub(super) fn end_replaced(&mut self, cx: &mut Context<'_>, node: NodeId) {
        let is_replaced = self
            .rename_above(node)
            .is_some_and(|rename| rename.node == Some(node) && !matches!(rename.wait, Wait::Arrival(_)));
        if is_replaced && let Some(rename) = self.renames.take_of_node(node) {
            self.tree.lose(node);
            self.release_rename(cx, rename);
        }
    }

    /// Does what waited for the rename's end, and releases the pin.
    pub(super) fn release_rename(&mut self, cx: &mut Context<'_>, rename: PendingRename) {
        if rename.origin.is_some() {
            // It left, and did not arrive. Or it was exchanged with something from elsewhere, since two
            // arrivals under one name may be told as one (`inotify(7)`).
            self.guess(cx, rename.parent, rename.name(), VisitReason::Created, Known::Appeared);
        }
        if let (Some(node), Some(since_ns)) = (rename.node, rename.missed_since_ns)
            && self.tree.is_attached(node)
        {
            self.tree.pin(node);
            self.repair.missed.push((node, since_ns));
        }
        self.tree.unpin(rename.parent);
        let (events, visits) = rename.into_kept();
        visits.into_iter().for_each(|visit| self.visits.push(visit));
        self.stream.replay(events);
    }

    fn arm_renames(&mut self, cx: &mut Context<'_>) {
        if self.renames.timer.is_none() && !self.renames.is_empty() {
            let due = self.renames.next_age().unwrap_or(cx.now + HALF_WAIT_MS);
            self.renames.timer = Some(cx.timers.insert(due, Timer::Renames));
        }
    }

    /// The timer runs as long as a rename waits for its second half.
    pub(super) fn rearm_renames(&mut self, cx: &mut Context<'_>) {
        if self.renames.is_empty() {
            if let Some(timer) = self.renames.timer.take() {
                cx.timers.cancel(timer);
            }
        } else if self.renames.next_age().is_some() {
            self.arm_renames(cx);
        }
    }

    /// Whether a visit that is still to be made may find a directory where no event saw it arrive.
    pub(super) fn may_be_found(&self) -> bool {
        let position = self.stream.position();
        self.visits.has_visits()
            || self.awaits_scans()
            || self.renames.has_visits(position)
            || self.has_stale_covers()
    }

    /// The second half of this rename will not come: the directory has left the watched trees.
    pub(super) fn give_up_rename(&mut self, step: &mut Step<'_, '_>, rename: PendingRename) {
        if let Some(node) = rename.node {
            if rename.wait == Wait::Search {
                let nodes = self.tree.subtree(node);
                self.deliver_deleted(step, &nodes, |_| true);
            }
            self.abandon_departed(step, node, "it was moved out of the watched trees");
        }
        // What was kept for it and those below it happened outside: no node has those watches now.
        self.release_rename(step.cx, rename);
    }
}
