//! Comparing the trees on disk with what the watcher knows, and synthesizing what was missed.
//!
//! A *pass* lists directories again: after the kernel dropped events, for `rescan`, and when there is room
//! again for watches. What changed since a moment of the wall clock gets its events synthesized, unknown
//! directories are watched, vanished ones dropped. Here an event may be told twice; none may be lost.
//!
//! After an overflow every directory is in doubt until it was found at its place, parents first. Events
//! from directories in doubt are kept, and told under the path at which the directories are found.

use std::collections::{HashMap, HashSet};

use super::deliver::Occurrence;
use super::state::covers::Role;
use super::state::repair::{Pass, Rescan};
use super::state::stream::{Kept, Touched};
use super::state::tree::ROOT;
use super::state::visit_queue::{Visit, VisitReason};
use super::state::{Step, Watcher};
use crate::engine::context::{Context, Timer};
use crate::engine::ids::{NodeId, WatchIndex};
use crate::engine::message::{Entry, EntryKind};
use crate::event::{EventKind, IN_ISDIR, RawEvent};
use crate::record::Level;
use crate::types::Wd;

/// A change of inode is stamped with a clock that ticks every few milliseconds, so it can seem older
/// than it is; a remote filesystem has a clock of its own.
const CLOCK_MARGIN_NS: i64 = 1_000_000_000;

/// What is logged at the end of a pass that follows an overflow.
const SAME_AGAIN: &str = "the trees and the disk are the same again";

impl Watcher {
    /// The kernel dropped events (IN_Q_OVERFLOW): all that happened since its queue was last seen
    /// empty is looked for on disk.
    pub(super) fn on_overflow(&mut self, step: &mut Step<'_, '_>) {
        step.cx.counters.overflows += 1;
        let overflows = step.cx.counters.overflows;
        let text = "the kernel's event queue overflowed; the trees are compared with the disk \
                    (to make this rare, raise fs.inotify.max_queued_events)";
        step.cx.log_daemon(Level::Error, text, |record| {
            record
                .field("overflows", overflows.to_string())
                .field("directories", self.tree.watched().to_string())
        });
        self.deliver_overflow(step);
        let nodes = self.tree.subtree(ROOT);
        self.tree.doubt_all();
        let since_ns = self.stream.take_overflow();
        self.start_pass(&nodes, Pass { since_ns, last_words: Some(SAME_AGAIN), is_blind: true });
    }

    /// IN_Q_OVERFLOW belongs to no directory: every watch gets it once, for its first root.
    fn deliver_overflow(&mut self, step: &mut Step<'_, '_>) {
        let mut told = HashSet::new();
        for node in self.tree.subtree(ROOT) {
            for index in 0..self.covers.inside(self.cover(node)).len() {
                let member = self.covers.inside(self.cover(node))[index];
                if member.role == Role::Root && told.insert(member.watch) {
                    let event = Occurrence::new(node, b"", EventKind::QOverflow, false);
                    self.deliver_to(step, &member, &event);
                }
            }
        }
    }

    /// Visits these directories again. A pass that is under way reaches back further, if need be. What it has
    /// still to visit keeps its turn: under a flood of events, which the kernel drops again and again, each
    /// directory is still visited as soon as the others are. What was visited already is visited once more.
    pub(super) fn start_pass(&mut self, nodes: &[NodeId], new: Pass) {
        let old = self.repair.pass;
        self.repair.pass = Some(Pass {
            since_ns: old.map_or(new.since_ns, |old| old.since_ns.min(new.since_ns)),
            last_words: new.last_words.or(old.and_then(|old| old.last_words)),
            is_blind: new.is_blind || old.is_some_and(|old| old.is_blind),
        });
        self.note_unseen();
        let queued: HashSet<NodeId> = self.visits.queued(VisitReason::Changed).collect();
        for &node in nodes {
            // One that is between two names is visited when it is found.
            let is_somewhere = self.tree.is_linked(node) || self.tree.in_transit(node).is_some();
            if !is_somewhere || !self.is_covered(node) {
                continue;
            }
            let since_ns = self.repair.since_ns.entry(node).or_insert(new.since_ns);
            *since_ns = new.since_ns.min(*since_ns);
            if !queued.contains(&node) {
                self.push_visit(node, VisitReason::Changed);
            }
        }
    }

    /// Notes the directories that have appeared and wait for their first visit: whatever is in them is new,
    /// whichever visit comes first.
    fn note_unseen(&mut self) {
        let visits = self.visits.all().chain(self.stream.visits()).chain(self.renames.visits());
        let appeared = |visit: &&Visit| matches!(visit.reason, VisitReason::Created | VisitReason::Moved);
        for visit in visits.filter(appeared) {
            if self.tree.wd(visit.node).is_none() {
                self.repair.unseen.insert(visit.node);
            }
        }
    }

    /// Since when a change counts, for a visit that looks for changes.
    pub(super) fn changed_since_ns(&self, node: NodeId) -> i64 {
        if self.tree.wd(node).is_none() && self.repair.unseen.contains(&node) {
            return i64::MIN;
        }
        let of_pass = self.repair.pass.map(|pass| pass.since_ns);
        let since_ns = self.repair.since_ns.get(&node).copied().or(of_pass);
        since_ns.map_or(i64::MAX, |since_ns| since_ns.saturating_sub(CLOCK_MARGIN_NS))
    }

    /// Directories got more events than could be kept while they were between two names. What the events said is
    /// looked for, as after an overflow of the kernel's queue.
    pub(super) fn look_for_missed(&mut self) {
        for (top, since_ns) in std::mem::take(&mut self.repair.missed) {
            let mut nodes = self.tree.subtree(top);
            nodes.retain(|node| self.tree.is_attached(*node));
            nodes.iter().for_each(|node| self.tree.doubt(*node));
            self.start_pass(&nodes, Pass { since_ns, last_words: None, is_blind: true });
            self.tree.unpin(top);
        }
    }

    /// Ends the pass when nothing is left to be visited.
    pub(super) fn end_pass(&mut self, step: &mut Step<'_, '_>) {
        let is_over = !self.visits.has_visits()
            && !self.awaits_scans()
            && !self.renames.holds_visits()
            && !self.has_stale_covers();
        if !is_over {
            return;
        }
        if !self.visits.has_postponed() && !self.joins.is_empty() {
            // No visit is left by which a directory could join a watch.
            self.joins.clear();
        }
        let Some(pass) = self.repair.pass.take() else { return };
        self.repair.unseen.clear();
        self.repair.since_ns = HashMap::new();
        self.drop_gone(step);
        // What could not be visited is taken to be where it was. What was kept for one directory may turn
        // out to be another's.
        loop {
            let known = self.repair.doubted.keys().copied().filter(|node| self.tree.is_attached(*node));
            let mut unseen: Vec<NodeId> = known.collect();
            if unseen.is_empty() {
                break;
            }
            unseen.sort_unstable();
            unseen.into_iter().for_each(|node| self.end_doubt(step, node));
        }
        self.repair.doubted.clear();
        self.repair.doubted_len = 0;
        if self.repair.limit.is_some() {
            return;
        }
        let level = if pass.last_words.is_some() { Level::Info } else { Level::Debug };
        step.cx.log_daemon(level, pass.last_words.unwrap_or(SAME_AGAIN), |record| record);
    }

    /// Forgets directories that are gone: their IN_IGNORED may be among what the kernel dropped.
    fn drop_gone(&mut self, step: &mut Step<'_, '_>) {
        for node in self.tree.subtree(ROOT) {
            let is_gone = !self.tree.is_attached(node) && self.tree.in_transit(node).is_none();
            if self.tree.wd(node).is_some() && is_gone {
                self.abandon(step, node, "it is gone");
            }
        }
    }

    /// A directory was listed again. What is in `touched` is told by events that are still to come.
    pub(super) fn compare(
        &mut self,
        step: &mut Step<'_, '_>,
        node: NodeId,
        mut entries: Vec<Entry>,
        touched: &Touched,
    ) {
        let come_or_go = |name: &[u8]| touched.get(name).is_some_and(|touch| touch.first.is_some());
        let names: HashSet<&[u8]> = entries.iter().map(|entry| &*entry.name).collect();
        let is_gone = |name: &[u8]| !names.contains(name) && !come_or_go(name);
        for child in self.tree.children(node) {
            if self.tree.is_linked(child) && is_gone(self.tree.name(child)) {
                self.vanished(step, child);
            }
        }
        self.deliver_deleted(step, &[node], is_gone);
        drop(names);
        entries.retain(|entry| !come_or_go(&entry.name));
        for entry in &entries {
            let is_dir = entry.kind == EntryKind::Directory;
            if is_dir || entry.kind == EntryKind::Other && self.leads_to_root(node) {
                // A directory that was moved here brings older files along, which are new here.
                let reason = if entry.changed { VisitReason::Created } else { VisitReason::Changed };
                self.discover(step.cx, node, &entry.name, reason);
            }
            if entry.changed {
                let closed = touched.contains_key(&entry.name);
                self.deliver_changed(step, node, entry, closed);
            }
        }
    }

    fn deliver_changed(&mut self, step: &mut Step<'_, '_>, node: NodeId, entry: &Entry, closed: bool) {
        let is_dir = entry.kind == EntryKind::Directory;
        // Whether it was made or moved here cannot be known any more.
        for kind in [EventKind::Create, EventKind::MovedTo] {
            self.deliver_synthesized(step, &Occurrence::new(node, &entry.name, kind, is_dir));
        }
        if !closed {
            self.deliver_written(step, node, &entry.name, Some(entry.kind), false);
        }
    }

    /// A directory is not listed any more. If it has a watch, it may be found elsewhere.
    fn vanished(&mut self, step: &mut Step<'_, '_>, child: NodeId) {
        if self.tree.wd(child).is_some() && !self.leads_to_root(child) {
            self.detach_unknown(step.cx, child);
            return;
        }
        let nodes = self.tree.subtree(child);
        self.deliver_deleted(step, &nodes, |_| true);
        let parent = self.tree.parent(child);
        let name = self.tree.name(child).to_vec();
        self.abandon(step, child, "it is gone");
        if let Some(parent) = parent {
            self.lost_child(step.cx, parent, &name);
        }
    }

    /// A directory is where it should be, and those above it are: what was kept since the kernel
    /// dropped events can be told under its path. Its content was listed after that.
    pub(super) fn end_doubt(&mut self, step: &mut Step<'_, '_>, node: NodeId) {
        self.tree.trust(node);
        let events = self.repair.doubted.remove(&node).unwrap_or_default();
        self.repair.doubted_len -= events.len();
        for kept in events {
            let Some(kind) = EventKind::from_mask(kept.mask) else { continue };
            let Some(node) = self.node_of(node, kept.wd) else { continue };
            if self.tree.is_doubted(node) {
                self.keep_doubted(node, kept);
                continue;
            }
            let is_dir = kept.mask & IN_ISDIR != 0 || kept.name.is_empty();
            self.resolve_cover(step, node);
            self.deliver(step, &Occurrence::new(node, &kept.name, kind, is_dir));
        }
    }

    /// Which directory has this watch by now, if it is anywhere: `node`, or the one that was there before
    /// and was found elsewhere.
    fn node_of(&self, node: NodeId, wd: Wd) -> Option<NodeId> {
        if self.tree.wd(node) == Some(wd) {
            return Some(node);
        }
        self.tree.nodes_of(wd).iter().find(|node| self.tree.is_attached(*node))
    }

    /// Whether an event's directory may be elsewhere by now, since the kernel dropped events.
    pub(super) fn is_in_doubt(&self, node: NodeId, kind: EventKind) -> bool {
        // The end of a watch is certain, wherever it was.
        self.repair.pass.is_some_and(|pass| pass.is_blind)
            && kind != EventKind::Ignored
            && self.tree.is_doubted(node)
    }

    /// Keeps an event until its directory is found.
    pub(super) fn keep_in_doubt(&mut self, node: NodeId, event: &RawEvent<'_>, kept_max: usize) {
        // What is not kept is found by the visit that ends the doubt, like what the kernel dropped.
        if self.repair.doubted_len < kept_max {
            self.keep_doubted(node, Kept::new(event, self.stream.place()));
        }
    }

    fn keep_doubted(&mut self, node: NodeId, kept: Kept) {
        self.repair.doubted_len += 1;
        self.repair.doubted.entry(node).or_default().push(kept);
    }

    /// Something was mounted or unmounted at these places.
    pub fn on_mounts(&mut self, cx: &mut Context<'_>, points: &[Vec<u8>]) {
        for node in self.tree.subtree(ROOT) {
            if self.tree.is_linked(node) && self.leads_to_root(node) {
                self.push_visit(node, VisitReason::Verify);
            }
        }
        for point in points {
            self.verify_path(cx, point);
        }
    }

    /// Visits what is at this path, if it is in a watched tree.
    fn verify_path(&mut self, cx: &mut Context<'_>, path: &[u8]) {
        let mut node = ROOT;
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            match self.tree.child(node, name) {
                Some(child) => node = child,
                None if names.peek().is_none() => {
                    return self.discover(cx, node, name, VisitReason::Created);
                }
                None => return,
            }
        }
        if !self.leads_to_root(node) {
            self.push_visit(node, VisitReason::Verify);
        }
    }

    /// Starts the clocks of all watches with `rescan`.
    pub(super) fn arm_rescans(&mut self, cx: &mut Context<'_>) {
        for rescan in std::mem::take(&mut self.repair.rescans) {
            cx.timers.cancel(rescan.timer);
        }
        for (watch, config) in WatchIndex::all(cx.config) {
            if config.rescan_ms > 0 {
                let timer = cx.timers.insert(cx.now + config.rescan_ms, Timer::Rescan(watch.0));
                let since_ns = self.stream.emptied_at_ns();
                self.repair.rescans.push(Rescan { watch, timer, since_ns });
            }
        }
    }

    /// A watch is compared with the disk.
    pub(super) fn on_rescan(&mut self, cx: &mut Context<'_>, watch: WatchIndex, wall_ns: i64) {
        let every_ms = watch.of(cx.config).rescan_ms;
        let Some(rescan) = self.repair.rescans.iter_mut().find(|rescan| rescan.watch == watch) else {
            return;
        };
        let since_ns = std::mem::replace(&mut rescan.since_ns, wall_ns);
        rescan.timer = cx.timers.insert(cx.now + every_ms, Timer::Rescan(watch.0));
        let mut nodes = self.tree.subtree(ROOT);
        nodes.retain(|node| self.covers.concerns(self.cover(*node), watch));
        self.start_pass(&nodes, Pass { since_ns, last_words: None, is_blind: false });
    }
}
