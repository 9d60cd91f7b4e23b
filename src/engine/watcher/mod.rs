//! The watcher: the kernel's events in, told events out.
//!
//! This file is the way of an event, from top to bottom: [`Watcher::on_event`] takes it out of the stream
//! or keeps it there, [`Watcher::take_up`] hands what was read to the directories that it is about, and
//! [`Watcher::handle`] asks what there is to ask of one event at one directory.
//!
//! The other files, each using only those above it:
//! `state/` (what the watcher knows), `places` (what a task may ask of it), `coverage` (whom a directory
//! concerns), `visits` (which directories are to be visited), `deliver` (whom an event concerns),
//! `unsettled` (files that may still be written to), `joins` (directories that come under another watch),
//! `abandon` (how a directory ceases to be watched), `cover_again` (what a rename means for what is below),
//! `renames`, `repair` (overflow, rescan, mounts),
//! `limit` (the kernel's limit of watches), `room` (the limit of one watch), `found` (what a visit has found), `scans` (what a visit asks),
//! `reload`, `report` (for the status).

mod abandon;
mod cover_again;
mod coverage;
mod deliver;
mod found;
mod joins;
mod limit;
pub mod places;
mod reload;
mod renames;
mod repair;
mod report;
mod room;
mod scans;
mod state;
#[cfg(test)]
mod tests;
mod unsettled;
mod visits;

use crate::config::Config;
use crate::engine::context::{Context, Timer};
use crate::engine::ids::{NodeId, WatchIndex};
use crate::engine::message::{Effect, ScanError, Seen};
use crate::event::{EventKind, IN_ISDIR, RawEvent};
use crate::record::Level;
use crate::types::Wd;
use coverage::Known;
use deliver::Occurrence;
pub use report::WatchSummary;
use state::stream::{self, Kept, PendingScan, Touched};
use state::tree::ROOT;
use state::visit_queue::{Asked, VisitReason};
pub use state::{Step, Watcher};

impl Watcher {
    /// Begins: looks for the watch paths from `/` on.
    pub fn start(&mut self, cx: &mut Context<'_>, wall_ns: i64) {
        self.stream.start(wall_ns);
        self.arm_rescans(cx);
        self.seek_all(cx);
    }

    /// One read of the inotify descriptor took this many bytes; its events follow.
    pub fn on_filled(&mut self, bytes: usize, emptied_at: Option<i64>) {
        self.stream.fill(bytes, emptied_at);
    }

    /// One event of that read: dealt with now, or behind the findings that come before it.
    pub fn on_event(&mut self, step: &mut Step<'_, '_>, event: &RawEvent<'_>, size: usize) {
        if self.stream.take(event, size) {
            self.take_up(step, event);
        }
        for visit in self.sift_visits(step.cx.options.sift_at) {
            self.drop_visit(step.cx, visit);
        }
    }

    /// The read's events were all given.
    pub fn on_drained(&mut self, step: &mut Step<'_, '_>) {
        self.stream.drained();
        self.go_on(step);
        self.release_passed(step);
    }

    /// The shell has visited the next directory of the last scan.
    pub fn on_scanned(
        &mut self,
        step: &mut Step<'_, '_>,
        node: NodeId,
        result: Result<Seen, ScanError>,
        (before, after): (u64, u64),
    ) {
        let Some(asked) = self.visits.answered() else { return };
        debug_assert_eq!(asked.visit.node, node, "answers come in the order of the items");
        if after > before {
            self.tree.pin(node);
            self.stream.note_look(node, asked.parent, before, after);
        }
        self.stream.push_scan(PendingScan { asked, result, before, after });
        self.go_on(step);
    }

    /// There is time for a piece of long work: the next directories are visited.
    pub fn on_spare(&mut self, step: &mut Step<'_, '_>) {
        self.cover_some(step);
        if !self.stream.is_full() {
            self.ask_some(step);
        }
        self.note_visited(step);
    }

    /// One of the watcher's timers ran out. `queued_to` is the end of what the kernel has queued.
    pub fn on_timer(&mut self, step: &mut Step<'_, '_>, timer: Timer, queued_to: u64, wall_ns: i64) {
        match timer {
            Timer::Renames => {
                self.renames.timer = None;
                self.renames.age(step.cx.now, queued_to);
                self.release_passed(step);
            }
            Timer::WatchLimit => self.on_limit_timer(step.cx),
            Timer::MaxDirs => self.on_room_timer(step.cx),
            Timer::Postponed => self.visits.resume_postponed(),
            Timer::Unsettled => self.on_unsettled_due(step.cx),
            Timer::Rescan(watch) => self.on_rescan(step.cx, WatchIndex(watch), wall_ns),
            _ => {}
        }
    }

    /// A new configuration is in force.
    pub fn reload(&mut self, step: &mut Step<'_, '_>, old_config: &Config) {
        self.said_links.clear();
        self.move_watches(step, old_config);
        self.arm_rescans(step.cx);
    }

    /// Deals with one event of the stream, at every directory that has its watch.
    fn take_up(&mut self, step: &mut Step<'_, '_>, event: &RawEvent<'_>) {
        step.cx.counters.events += 1;
        let Some(kind) = EventKind::from_mask(event.mask) else { return };
        if kind == EventKind::QOverflow {
            return self.on_overflow(step);
        }
        for node in self.tree.nodes_of(event.wd).iter() {
            // An earlier one's event may have changed the others.
            if self.tree.wd(node) == Some(event.wd) {
                self.handle(step, node, kind, event);
                self.replay(step);
            }
        }
        self.release_passed(step);
    }

    /// One event at one directory.
    fn handle(&mut self, step: &mut Step<'_, '_>, node: NodeId, kind: EventKind, event: &RawEvent<'_>) {
        if kind == EventKind::Ignored {
            self.end_replaced(step.cx, node);
            self.replay(step);
        }
        // Is its directory between two names? Then it waits for the second.
        if self.is_between_names(node) {
            return self.defer(step.cx, node, Kept::new(event, self.stream.place()));
        }
        // Was a directory above it renamed a moment ago? Then it may be another watch's, or none's.
        self.resolve_cover(step, node);
        if self.tree.wd(node) != Some(event.wd) {
            return;
        }
        // Is its directory in doubt? Then it waits until the directory was found.
        if self.is_in_doubt(node, kind) {
            self.settle(step.cx, node, event.name, kind);
            self.keep_in_doubt(node, event, step.cx.options.kept_max);
            return;
        }
        // Does it settle a file that may have been written unseen?
        let was_unsettled = self.settle(step.cx, node, event.name, kind);
        // Does it tell a watch that the directory is about to join?
        self.joins.note_event(node, event.name, kind);
        // What does it mean for the tree, and whom does it concern?
        let is_dir = event.mask & IN_ISDIR != 0 || event.name.is_empty();
        let occurrence = Occurrence::new(node, event.name, kind, is_dir);
        match kind {
            EventKind::MovedFrom => {
                self.deliver(step, &occurrence);
                self.on_moved_from(step, &occurrence, event.cookie, was_unsettled);
            }
            EventKind::MovedTo => {
                self.end_exchange(node);
                let origin = self.on_moved_to(step, &occurrence, event.cookie);
                let child = if is_dir { self.tree.child(node, event.name) } else { None };
                self.renames.last_arrival = child.map(|child| (child, origin));
            }
            EventKind::Create => {
                self.end_exchange(node);
                self.deliver(step, &occurrence);
                self.created(step, &occurrence);
            }
            EventKind::Delete => {
                self.deliver(step, &occurrence);
                self.end_exchange(node);
                self.deleted(step.cx, &occurrence);
            }
            EventKind::Ignored => {
                self.deliver(step, &occurrence);
                self.watch_ended(step.cx, node);
            }
            EventKind::Unmount => {
                self.deliver(step, &occurrence);
                self.tree.note_replaceable(node);
            }
            EventKind::MoveSelf => {
                self.deliver(step, &occurrence);
                self.moved_itself(node);
            }
            _ if self.is_own_look(&occurrence) => {}
            _ => self.deliver(step, &occurrence),
        }
    }

    /// The daemon's own listing of a directory, and its question who writes to a file, make events:
    /// those of this kind that were queued while it visited are taken for such.
    fn is_own_look(&self, event: &Occurrence<'_>) -> bool {
        if !matches!(event.kind, EventKind::Open | EventKind::Access | EventKind::CloseNowrite) {
            return false;
        }
        let names_entry = !event.name.is_empty();
        let child = if event.is_dir { self.tree.child(event.node, event.name) } else { None };
        self.stream.is_own_look(|look| {
            let is_inside = look.node == event.node || Some(look.node) == child;
            let is_parent =
                look.parent == Some(event.node) && !names_entry || child.is_some() && look.parent == child;
            is_inside || is_parent
        })
    }

    /// A name appeared. What had it before is gone.
    fn created(&mut self, step: &mut Step<'_, '_>, event: &Occurrence<'_>) {
        let Occurrence { node, name, .. } = *event;
        if !event.is_dir {
            return self.file_changed(step.cx, node, name);
        }
        match self.tree.child(node, name) {
            Some(child) if self.leads_to_root(child) => self.disappeared(step.cx, node, name),
            Some(child) => self.take_for_gone(step, child),
            None => {}
        }
        self.adopt(step.cx, node, name, VisitReason::Created, Known::Appeared);
    }

    /// A name is gone.
    fn deleted(&mut self, cx: &mut Context<'_>, event: &Occurrence<'_>) {
        if event.is_dir {
            self.disappeared(cx, event.node, event.name);
        } else {
            self.file_changed(cx, event.node, event.name);
        }
    }

    /// The kernel took the watch away: the directory was deleted or its filesystem unmounted.
    fn watch_ended(&mut self, cx: &mut Context<'_>, node: NodeId) {
        self.tree.pin(node);
        if self.tree.wd(node).is_some() {
            self.count_out(cx, node);
        }
        self.tree.unbind(node);
        if self.tree.is_linked(node)
            && let Some(parent) = self.tree.parent(node)
        {
            let name = self.tree.name(node).to_vec();
            self.tree.detach(node);
            self.lost_child(cx, parent, &name);
            if self.tree.is_replaceable(node) || self.repair.pass.is_some() {
                // Another one may have been renamed over it: inotify makes one event of two that
                // are alike but for the cookie, and so of the ends of both renames. Or it was
                // mounted over it, and what was below is there again.
                self.guess(cx, parent, &name, VisitReason::Created, Known::Before);
            }
        }
        self.tree.unpin(node);
    }

    /// A directory says that it moved. Below a recursive watch its parents have told more already;
    /// a watch path must be visited again.
    fn moved_itself(&mut self, node: NodeId) {
        if self.tree.is_linked(node) && self.leads_to_root(node) {
            self.push_visit(node, VisitReason::Verify);
        }
    }

    /// Deals with the events that waited for a rename that has ended now.
    fn replay(&mut self, step: &mut Step<'_, '_>) {
        self.look_for_missed();
        while let Some(kept) = self.stream.next_replay() {
            let Some(kind) = EventKind::from_mask(kept.mask) else { continue };
            let place = self.stream.set_place(kept.place);
            for node in self.tree.nodes_of(kept.wd).iter() {
                self.handle(step, node, kind, &kept.event());
            }
            self.stream.set_place(place);
        }
    }

    /// Takes up the findings and deals with the events that were read, in their order, as far as
    /// what was read allows.
    fn go_on(&mut self, step: &mut Step<'_, '_>) {
        loop {
            while let Some(scan) = self.stream.next_scan() {
                self.take_scan(step, scan);
                self.replay(step);
            }
            let Some(kept) = self.stream.next_event() else { break };
            self.take_up(step, &kept.event());
        }
        self.note_visited(step);
    }

    fn take_scan(&mut self, step: &mut Step<'_, '_>, scan: PendingScan) {
        let PendingScan { asked: Asked { visit, parent, name }, result, after, .. } = scan;
        let node = visit.node;
        self.resolve_cover(step, node);
        let touched = match &result {
            Ok(seen) => self.stream.touched(seen.wd, after),
            Err(_) => Touched::new(),
        };
        let stands = self.tree.parent(node) == parent
            && self.tree.name(node) == &*name
            && self.tree.is_attached(node)
            && !self.moves(node, after)
            && !result.as_ref().is_ok_and(|seen| stream::is_ambiguous(seen, &touched));
        match result {
            Ok(seen) if stands => self.on_seen(step, visit, seen, touched),
            Err(error) if stands => self.on_unseen(step, visit, &error, after),
            other => {
                if let Ok(Seen { wd, .. }) | Err(ScanError::Stale(Some(wd))) = other {
                    self.unwatch_unused(step.cx, wd);
                }
                self.visit_after(after, visit);
            }
        }
        self.tree.unpin(node);
    }

    /// Whether events up to `after` say that the directory, or one above it, comes or goes.
    fn moves(&self, node: NodeId, after: u64) -> bool {
        if !self.stream.has_events(after) {
            return false;
        }
        let mut at = node;
        while let Some(parent) = self.tree.parent(at) {
            if self.stream.changes(self.tree.wd(parent), self.tree.name(at), after) {
                return true;
            }
            at = parent;
        }
        false
    }

    /// Deals with all that waited for the reader to get this far.
    fn release_passed(&mut self, step: &mut Step<'_, '_>) {
        let position = self.stream.position();
        self.visits.resume(position);
        while let Some(look) = self.stream.pop_past_look() {
            self.tree.unpin(look.node);
        }
        self.give_up_renames(step);
        step.audience.passed(step.cx, &mut self.places(), position);
    }

    /// First halves whose second half will not come: the directory has left the watched trees.
    fn give_up_renames(&mut self, step: &mut Step<'_, '_>) {
        if self.renames.is_empty() && self.renames.timer.is_none() {
            return;
        }
        let may_be_found = self.may_be_found();
        while (!may_be_found || self.renames.is_crowded())
            && let Some(rename) = self.renames.take_given_up(self.stream.position())
        {
            self.give_up_rename(step, rename);
            self.replay(step);
        }
        self.rearm_renames(step.cx);
    }

    /// Perhaps that was the last visit.
    fn note_visited(&mut self, step: &mut Step<'_, '_>) {
        self.visits.resume(self.stream.position());
        if self.visits.is_empty() {
            self.visits.sift_at = 0;
        }
        self.give_up_renames(step);
        if !self.awaits_scans() {
            self.unwatch_unwanted(step.cx);
        }
        self.end_pass(step);
        self.note_ready(step.cx);
    }

    fn note_ready(&mut self, cx: &mut Context<'_>) {
        if !self.ready && self.visits.is_empty() && !self.awaits_scans() {
            self.ready = true;
            cx.log_daemon(Level::Info, "ready", |record| {
                record.field("directories", self.tree.watched().to_string())
            });
            cx.effects.push(Effect::Ready);
        }
    }

    /// Whether a piece of long work waits.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.has_stale_covers() || !self.visits.is_empty() && !self.stream.is_full()
    }

    /// Whether the first look at all watch paths is done.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// How many directories are watched.
    #[must_use]
    pub fn directories(&self) -> usize {
        self.tree.watched()
    }

    /// How many directories are to be visited.
    #[must_use]
    pub fn to_visit(&self) -> usize {
        self.visits.len()
    }

    /// The end of what is queued now, when the kernel has so many bytes, as a position in the stream.
    #[must_use]
    pub fn mark(&self, queued: usize) -> u64 {
        self.stream.mark(queued)
    }

    /// Every watched directory with its watch, for tests: under all names by which it is known.
    #[must_use]
    pub fn watched(&self) -> Vec<(Vec<u8>, Wd)> {
        let nodes = self.tree.subtree(ROOT);
        let watched = nodes.into_iter().filter_map(|node| Some((node, self.tree.wd(node)?)));
        watched.map(|(node, wd)| (self.tree.path_of(node, b""), wd)).collect()
    }
}
