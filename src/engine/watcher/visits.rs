//! Which directories are to be visited, and how a name gets a node.

use std::collections::HashSet;

use super::coverage::Known;
use super::state::Watcher;
use super::state::covers::CoverId;
use super::state::tree::ROOT;
use super::state::visit_queue::{Visit, VisitReason};
use crate::engine::context::{Context, Timer};
use crate::engine::ids::NodeId;
use crate::engine::message::Effect;
use crate::record::Level;
use crate::types::{Millis, Wd};

/// Until a visit is made again for which descriptors or memory were wanting.
const POSTPONED_MS: Millis = 1_000;

impl Watcher {
    /// Looks for all watch paths from `/` on.
    pub(super) fn seek_all(&mut self, cx: &mut Context<'_>) {
        let cover = self.root_cover(cx);
        self.set_cover(ROOT, cover);
        self.push_visit(ROOT, VisitReason::Existing);
    }

    /// A directory is to be visited.
    pub(super) fn push_visit(&mut self, node: NodeId, reason: VisitReason) {
        self.visit_again(Visit { node, reason, tries: 0, known: None, failures: 0 });
    }

    /// Makes a visit again.
    pub(super) fn visit_again(&mut self, visit: Visit) {
        self.tree.pin(visit.node);
        self.visits.push(visit);
    }

    /// Makes a visit again once the reader has passed `mark`.
    pub(super) fn visit_after(&mut self, mark: u64, visit: Visit) {
        self.tree.pin(visit.node);
        self.visits.push_at(mark, visit);
    }

    /// Makes a visit again in a while: the machine was short of something.
    pub(super) fn postpone(&mut self, cx: &mut Context<'_>, visit: Visit) {
        self.tree.pin(visit.node);
        if self.visits.postpone(visit) {
            cx.timer_in(POSTPONED_MS, Timer::Postponed);
        }
    }

    /// Whether there is a way to a directory through its parent. A parent that has no watch is dead,
    /// except on the way to a watch path, where it need not be readable.
    pub(super) fn can_be_in(&self, parent: Option<NodeId>) -> bool {
        parent.is_none_or(|parent| self.tree.wd(parent).is_some() || self.seeks(parent))
    }

    /// Gives a child a node, if a watch covers it, and queues a visit unless it had one already.
    pub(super) fn adopt(
        &mut self,
        cx: &mut Context<'_>,
        parent: NodeId,
        name: &[u8],
        reason: VisitReason,
        known: Known,
    ) {
        let cover = self.cover_of_child(cx, parent, name, known);
        if cover == CoverId::NONE {
            return;
        }
        let node = match self.tree.child(parent, name) {
            // Seen before. A visit may still be queued; another one would find nothing new.
            Some(node) if self.cover(node) == cover => return,
            Some(node) => node,
            None => match self.tree.insert(parent, name) {
                Some(node) => {
                    // Another directory may have had this number.
                    self.repair.since_ns.remove(&node);
                    node
                }
                None => {
                    let text = "no room for more directories; some are not watched";
                    cx.log_daemon(Level::Error, text, |record| record);
                    return;
                }
            },
        };
        let is_watched = self.tree.wd(node).is_some();
        if is_watched {
            self.count_out(cx, node);
        }
        self.set_cover(node, cover);
        if is_watched {
            self.count_in(node);
        }
        self.stale.note_new(node, parent);
        self.push_visit(node, reason);
    }

    /// Something other than an event says that there is a directory of this name.
    pub(super) fn discover(
        &mut self,
        cx: &mut Context<'_>,
        parent: NodeId,
        name: &[u8],
        reason: VisitReason,
    ) {
        self.adopt(cx, parent, name, reason, Known::Before);
    }

    /// There may be a directory of this name: a visit finds out.
    pub(super) fn guess(
        &mut self,
        cx: &mut Context<'_>,
        parent: NodeId,
        name: &[u8],
        reason: VisitReason,
        known: Known,
    ) {
        self.adopt(cx, parent, name, reason, known);
        if let Some(child) = self.tree.child(parent, name)
            && self.tree.wd(child).is_none()
        {
            self.tree.guess(child);
        }
    }

    /// A visit finds out whether the directory of this name is still the one that the tree has.
    pub(super) fn verify_child(&mut self, parent: NodeId, name: &[u8]) {
        if let Some(child) = self.tree.child(parent, name)
            && self.tree.wd(child).is_some()
        {
            self.push_visit(child, VisitReason::Verify);
        }
    }

    /// Something that is no directory appeared or went; on the way to a watch path it may be a link
    /// to one.
    pub(super) fn file_changed(&mut self, cx: &mut Context<'_>, parent: NodeId, name: &[u8]) {
        if self.covers.seeking_name(cx.config, self.cover(parent), name).next().is_none() {
            return;
        }
        match self.tree.child(parent, name) {
            Some(child) => self.push_visit(child, VisitReason::Verify),
            None => self.adopt(cx, parent, name, VisitReason::Created, Known::Appeared),
        }
    }

    /// An event says that there is no directory of this name any more.
    pub(super) fn disappeared(&mut self, cx: &mut Context<'_>, parent: NodeId, name: &[u8]) {
        if let Some(child) = self.tree.child(parent, name) {
            self.tree.detach(child);
            self.lost_child(cx, parent, name);
        }
    }

    /// A directory was lost that may have been a watch path, or led to one: look for it again.
    pub(super) fn lost_child(&mut self, cx: &mut Context<'_>, parent: NodeId, name: &[u8]) {
        if self.set_found(cx, parent, name, false) {
            self.adopt(cx, parent, name, VisitReason::Created, Known::Before);
        }
    }

    /// Tells the parent that a watched directory on the way to a watch path is there.
    pub(super) fn note_found(&mut self, cx: &mut Context<'_>, node: NodeId) {
        if self.tree.wd(node).is_some()
            && self.leads_to_root(node)
            && let Some(parent) = self.tree.parent(node)
        {
            let name = self.tree.name(node).to_vec();
            self.set_found(cx, parent, &name, true);
        }
    }

    /// Changes what the parent's watch looks out for. Returns whether the name is looked for there.
    pub(super) fn set_found(
        &mut self,
        cx: &mut Context<'_>,
        parent: NodeId,
        name: &[u8],
        found: bool,
    ) -> bool {
        let config = cx.config;
        let (mut is_sought, mut is_last) = (false, false);
        for member in self.covers.seeking_name(config, self.cover(parent), name) {
            if member.sought_literal(config).is_some() {
                is_sought = true;
                is_last |= member.seeks_last(config);
            }
        }
        if is_last {
            let before = self.mask(parent);
            self.found.set(parent, name, found);
            if self.mask(parent) != before {
                self.push_visit(parent, VisitReason::Verify);
            }
        }
        is_sought
    }

    /// Takes a watch away, unless a directory is found to have it after all.
    pub(super) fn unwatch_unused(&mut self, cx: &mut Context<'_>, wd: Wd) {
        // Another finding may yet say that it is this directory.
        self.visits.unwanted.push(wd);
        if !self.awaits_scans() {
            self.unwatch_unwanted(cx);
        }
    }

    /// Takes away the watches that no directory has.
    pub(super) fn unwatch_unwanted(&mut self, cx: &mut Context<'_>) {
        for wd in std::mem::take(&mut self.visits.unwanted) {
            if self.tree.nodes_of(wd).is_empty() {
                cx.effects.push(Effect::Unwatch(wd));
            }
        }
    }

    /// Takes the visits out that need not be made, when there are many: those of directories that are
    /// gone, and repeated doubts. Otherwise a process that renames directories to and fro faster than they
    /// can be visited would use up the memory. The visits' pins pass to the caller.
    pub(super) fn sift_visits(&mut self, sift_at_min: usize) -> Vec<Visit> {
        if self.visits.len() < self.visits.sift_at.max(sift_at_min) {
            return Vec::new();
        }
        let mut dropped = Vec::new();
        let mut doubted = HashSet::new();
        for visit in self.visits.take_all() {
            let is_news = visit.reason != VisitReason::Verify || doubted.insert(visit.node);
            let can_be_found = self.tree.is_attached(visit.node) || self.is_between_names(visit.node);
            if is_news && can_be_found {
                self.visits.push(visit);
            } else {
                dropped.push(visit);
            }
        }
        self.visits.sift_at = 2 * self.visits.len();
        dropped
    }
}
