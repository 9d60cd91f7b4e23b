//! What one inotify event means for the tree, and in which order that and its delivery happen.

use super::arrivals::News;
use super::pairing::{Deferred, Half, PAIR_WAIT_MS};
use super::routing::Occurrence;
use super::tree::NodeId;
use super::{Engine, Timer};
use crate::event::{EventKind, IN_ISDIR, RawEvent};

impl Engine {
    pub(super) fn on_event(&mut self, event: &RawEvent<'_>) {
        self.counters.events += 1;
        let Some(kind) = EventKind::from_mask(event.mask) else { return };
        if kind == EventKind::QOverflow {
            self.on_overflow();
            return;
        }
        let mut nodes = std::mem::take(&mut self.nodes);
        nodes.clear();
        self.tree.by_wd(event.wd, &mut nodes);
        for &node in &nodes {
            // An earlier one's event may have changed the others.
            if self.tree.wd(node) == Some(event.wd) {
                self.on_node_event(node, kind, event);
            }
        }
        self.nodes = nodes;
        self.release_passed();
    }

    fn on_node_event(&mut self, node: NodeId, kind: EventKind, event: &RawEvent<'_>) {
        if self.pairing.has_directories()
            && let Some(moving) = self.tree.in_transit(node)
            && let Some(half) = self.pairing.of_node(moving)
        {
            half.deferred.push(Deferred::new(event));
            return;
        }
        let is_dir = event.mask & IN_ISDIR != 0 || event.name.is_empty();
        let seen = Occurrence { node, name: event.name, kind, is_dir, src: None };
        self.tell_before(&seen);
        match kind {
            EventKind::MovedFrom => self.on_moved_from(&seen, event.cookie),
            EventKind::MovedTo => self.on_moved_to(&seen, event.cookie),
            EventKind::Create => {
                self.deliver(&seen);
                if is_dir {
                    self.appeared(node, event.name, News::Created);
                } else {
                    self.file_appeared(node, event.name);
                }
            }
            EventKind::Delete => {
                self.deliver(&seen);
                if is_dir {
                    self.disappeared(node, event.name);
                }
            }
            EventKind::Ignored => {
                self.deliver(&seen);
                self.on_ignored(node);
            }
            EventKind::MoveSelf => {
                self.deliver(&seen);
                self.on_move_self(node);
            }
            _ => self.deliver(&seen),
        }
    }

    /// An event for an entry whose appearance is still held: that comes first.
    fn tell_before(&mut self, event: &Occurrence<'_>) {
        if !self.tree.is_fresh(event.node) {
            return;
        }
        if let Some(kind) = self.arrivals.saw(event.node, event.name, event.kind) {
            self.counters.made_up += 1;
            self.deliver(&Occurrence { kind, ..*event });
        }
    }

    /// The directory of this name, unless it is younger than the event that is being read.
    fn child_meant(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let child = self.tree.child(parent, name)?;
        (!self.is_younger(child)).then_some(child)
    }

    /// Whether the directory was watched and listed after the event that is being read: then the
    /// event is about an earlier one of its name, or about what the listing has shown already.
    pub(super) fn is_younger(&self, node: NodeId) -> bool {
        self.arrivals.born(node).is_some_and(|born| self.position <= born)
    }

    fn on_moved_from(&mut self, event: &Occurrence<'_>, cookie: u32) {
        self.deliver(event);
        let child = if event.is_dir { self.child_meant(event.node, event.name) } else { None };
        if let Some(child) = child {
            self.tree.depart(child);
            self.lost_child(event.node, event.name);
        }
        self.tree.pin(event.node);
        self.pairing.put(cookie, event.node, child, event.name, self.now);
        self.arm_pairs();
    }

    fn on_moved_to(&mut self, event: &Occurrence<'_>, cookie: u32) {
        let Some(half) = self.pairing.take(cookie) else {
            self.deliver(event);
            self.moved_in(event);
            return;
        };
        self.deliver(&Occurrence { src: Some((half.parent, half.name())), ..*event });
        match half.node {
            Some(moved) => self.arrived(moved, event),
            None => self.moved_in(event),
        }
        self.release_half(half);
    }

    fn moved_in(&mut self, event: &Occurrence<'_>) {
        if event.is_dir {
            self.appeared(event.node, event.name, News::Moved);
        } else {
            self.file_appeared(event.node, event.name);
        }
    }

    /// A directory with its watches now stands under another name.
    fn arrived(&mut self, moved: NodeId, event: &Occurrence<'_>) {
        // What was there is replaced: only an empty directory can be.
        self.disappeared(event.node, event.name);
        if self.tree.child(event.node, event.name).is_some() {
            // A later directory of this name is known already; the moved one has left since.
            self.tree.lose(moved);
            self.abandon(moved, "it was moved away");
        } else if self.tree.arrive(moved, event.node, event.name) {
            self.cover_again(moved);
        } else {
            self.abandon(moved, "there is no room for its name");
        }
    }

    /// Does what waited for the rename's end, and releases the pin.
    fn release_half(&mut self, half: Half) {
        half.visits.into_iter().for_each(|visit| self.arrivals.push(visit));
        for deferred in half.deferred {
            let event = deferred.event();
            let Some(kind) = EventKind::from_mask(event.mask) else { continue };
            let mut nodes = Vec::new();
            self.tree.by_wd(event.wd, &mut nodes);
            for node in nodes {
                self.on_node_event(node, kind, &event);
            }
        }
        self.tree.unpin(half.parent);
    }

    fn arm_pairs(&mut self) {
        if self.pairs_timer.is_none() && !self.pairing.is_empty() {
            let due = self.pairing.next_age().unwrap_or(self.now + PAIR_WAIT_MS);
            self.pairs_timer = Some(self.wheel.insert(due, Timer::Pairs));
        }
    }

    /// First halves whose second half will not come: the directory has left the watched trees.
    pub(super) fn give_up_pairs(&mut self) {
        while let Some(half) = self.pairing.take_given_up(self.position) {
            if let Some(node) = half.node {
                // Its deferred events happened outside.
                half.visits.into_iter().for_each(|visit| self.tree.unpin(visit.node));
                self.tree.pin(node);
                self.tree.lose(node);
                self.abandon(node, "it was moved out of the watched trees");
                self.tree.unpin(node);
            }
            self.tree.unpin(half.parent);
        }
        if self.pairing.is_empty() {
            if let Some(timer) = self.pairs_timer.take() {
                self.wheel.cancel(timer);
            }
        } else if self.pairing.next_age().is_some() {
            self.arm_pairs();
        }
    }
}
