//! A directory was renamed with all that is below it: the watches that cover it may be others now.
//!
//! Its own cover is computed at once, and those of directories on the way to a watch path. What is below is
//! computed in pieces, so that a process which renames a large tree to and fro holds up no other: the walk
//! begins anew with the last rename, however many there were. An event or a visit that comes first has the
//! covers computed on the way to its directory, so it is told to the right watches.

use super::coverage::Known;
use super::state::covers::CoverId;
use super::state::stale::Walk;
use super::state::{Step, Watcher};
use crate::engine::ids::NodeId;

/// Directories whose covers are computed in one step; some hundred microseconds.
const COVERS_MAX: usize = 256;

/// Bytes of paths that filters may look at before one event: some milliseconds. Only in a tree that is hundreds
/// of directories deep can it take more. There, an event may be told by the covers from before the rename.
const FILTERED_MAX: usize = 1 << 20;

impl Watcher {
    /// The tree's own step of a rename, with what follows for the covers. Returns whether there was room for
    /// the name.
    pub(super) fn move_node(
        &mut self,
        step: &mut Step<'_, '_>,
        moved: NodeId,
        parent: NodeId,
        name: &[u8],
    ) -> bool {
        let was_stale = self.first_stale(moved).is_some();
        if let Some(Walk { top, at }) = self.stale.walk()
            && self.tree.is_below(at, moved)
        {
            self.end_walk();
            debug_assert!(self.stale.renamed(top).is_some(), "the walk begins again later");
        }
        let arrived = self.tree.arrive(moved, parent, name);
        if arrived {
            self.cover_again(step, moved, was_stale);
        }
        arrived
    }

    fn cover_again(&mut self, step: &mut Step<'_, '_>, top: NodeId, was_stale: bool) {
        let old = self.cover(top);
        let led_to_root = self.leads_to_root(top);
        self.stale.note_rename();
        self.recover(step, top, Known::Moved(old));
        let new = self.cover(top);
        let is_same = new == old && !self.has_excludes(step.cx.config, new);
        if new == CoverId::NONE || is_same && !was_stale || !self.tree.has_children(top) {
            return;
        }
        if self.stale.add(top) {
            self.tree.pin(top);
        }
        self.stale.note_computed(top);
        if self.stale.walk().is_some_and(|walk| walk.top == top) {
            self.end_walk();
        }
        if led_to_root {
            self.recover_way(step, top);
        }
    }

    /// Computes the covers of directories on the way to a watch path: tasks ask about them.
    fn recover_way(&mut self, step: &mut Step<'_, '_>, top: NodeId) {
        let mut found = vec![top];
        while let Some(node) = found.pop() {
            let mut way = self.tree.children(node);
            way.retain(|child| self.leads_to_root(*child));
            for child in way {
                self.recover(step, child, Known::Before);
                if self.is_covered(child) {
                    found.push(child);
                }
            }
        }
    }

    /// Computes the cover of one directory. Its parent's is right already.
    fn recover(&mut self, step: &mut Step<'_, '_>, node: NodeId, known: Known) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        let (old, old_mask) = (self.cover(node), self.mask(node));
        let new = self.cover_of_child(step.cx, parent, &name, known);
        self.stale.note_computed(node);
        if new == old && !self.has_excludes(step.cx.config, new) || !self.tree.is_linked(node) {
            return;
        }
        if new == CoverId::NONE {
            return self.abandon(step, node, "no watch covers its new place");
        }
        let is_watched = self.tree.wd(node).is_some();
        if is_watched {
            self.count_out(step.cx, node);
        }
        self.set_cover(node, new);
        if is_watched {
            self.count_in(node);
        }
        self.join(node, old, old_mask);
    }

    /// The highest directory of those at or above this one below which covers are not right.
    fn first_stale(&self, node: NodeId) -> Option<NodeId> {
        if self.stale.is_empty() {
            return None;
        }
        self.tree.way_up(node).filter(|above| self.stale.renamed(*above).is_some()).last()
    }

    /// Sees to it that the directory's cover is right. If no watch covers the directory any more, it is not
    /// watched any more, and its node may be gone.
    pub(super) fn resolve_cover(&mut self, step: &mut Step<'_, '_>, node: NodeId) {
        let Some(top) = self.first_stale(node) else { return };
        let mut way: Vec<NodeId> = self.tree.way_up(node).take_while(|above| *above != top).collect();
        way.reverse();
        let mut rename = self.stale.renamed(top).unwrap_or_default();
        way.retain(|node| {
            let is_computed = self.stale.is_computed(*node, rename);
            rename = rename.max(self.stale.renamed(*node).unwrap_or_default());
            !is_computed
        });
        if way.is_empty() || way.len() * self.tree.path_of(node, b"").len() > FILTERED_MAX {
            return;
        }
        for node in way {
            self.recover(step, node, Known::Before);
            if !self.is_covered(node) {
                return;
            }
        }
    }

    /// Whether covers are still to be computed.
    pub(super) fn has_stale_covers(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Computes the next covers.
    pub(super) fn cover_some(&mut self, step: &mut Step<'_, '_>) {
        let Some(next) = self.stale.next() else { return };
        // What is above decides what is below.
        let top = self.first_stale(self.stale.walk().map_or(next, |walk| walk.top)).unwrap_or(next);
        let rename = self.stale.renamed(top).unwrap_or_default();
        let mut at = match self.stale.walk() {
            Some(walk) if walk.top == top => walk.at,
            _ => {
                self.end_walk();
                self.tree.pin(top);
                self.tree.pin(top);
                top
            }
        };
        for _ in 0..COVERS_MAX {
            let Some(next) = self.tree.next_in(top, at) else {
                self.stale.set_walk(None);
                self.stale.remove(top);
                // Two for the walk, and one because it was renamed.
                self.tree.unpin(at);
                self.tree.unpin(top);
                self.tree.unpin(top);
                return;
            };
            self.tree.pin(next);
            self.tree.unpin(at);
            at = next;
            if !self.stale.is_computed(at, rename) {
                self.recover(step, at, Known::Before);
            }
        }
        self.stale.set_walk(Some(Walk { top, at }));
    }

    /// The walk that is under way begins again some time.
    fn end_walk(&mut self) {
        if let Some(Walk { top, at }) = self.stale.set_walk(None) {
            self.tree.unpin(at);
            self.tree.unpin(top);
        }
    }

    /// Computes all covers that are to be computed.
    pub fn cover_all(&mut self, step: &mut Step<'_, '_>) {
        while self.has_stale_covers() {
            self.cover_some(step);
        }
    }
}
