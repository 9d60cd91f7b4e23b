//! What one inotify event means for the tree, and in which order that and its delivery happen.

use super::answers::Kept;
use super::arrivals::News;
use super::covering::Known;
use super::pairing::{Half, Origin, PAIR_WAIT_MS, Wait};
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

    /// The rename that moves this directory or one above it, half read.
    pub(super) fn half_above(&mut self, node: NodeId) -> Option<&mut Half> {
        if !self.pairing.has_directories() {
            return None;
        }
        self.pairing.of_node(self.tree.in_transit(node)?)
    }

    fn on_node_event(&mut self, node: NodeId, kind: EventKind, event: &RawEvent<'_>) {
        if kind == EventKind::Ignored {
            self.end_replaced(node);
        }
        let position = self.position;
        if let Some(half) = self.half_above(node) {
            half.deferred.push(Kept::new(event, position));
            return;
        }
        if self.doubts(node, kind, event) {
            return;
        }
        let unsettled = self.settle_writer(node, event.name, kind);
        self.note_newcomer(node, event.name, kind);
        let is_dir = event.mask & IN_ISDIR != 0 || event.name.is_empty();
        let seen = Occurrence { node, name: event.name, kind, is_dir, src: None, catch_up: false };
        match kind {
            EventKind::MovedFrom => self.on_moved_from(&seen, event.cookie, unsettled),
            EventKind::MovedTo => {
                self.end_displaced(node);
                let origin = self.on_moved_to(&seen, event.cookie);
                let child = if is_dir { self.tree.child(node, event.name) } else { None };
                self.newcomer = child.map(|child| (child, origin));
            }
            EventKind::Create => {
                self.end_displaced(node);
                self.deliver(&seen);
                if is_dir {
                    self.created(node, event.name);
                } else {
                    self.file_changed(node, event.name);
                }
            }
            EventKind::Delete => {
                self.deliver(&seen);
                self.end_displaced(node);
                if is_dir {
                    self.disappeared(node, event.name);
                } else {
                    self.file_changed(node, event.name);
                }
            }
            EventKind::Ignored => {
                self.deliver(&seen);
                self.on_ignored(node);
            }
            EventKind::Unmount => {
                self.deliver(&seen);
                self.tree.note_replaceable(node);
            }
            EventKind::MoveSelf => {
                self.deliver(&seen);
                self.on_move_self(node);
            }
            _ if self.is_own_look(&seen) => {}
            _ => self.deliver(&seen),
        }
    }

    /// The daemon's own listing of a directory, and its question who writes to a file, make events:
    /// those of this kind that were queued while it looked are taken for such.
    fn is_own_look(&self, event: &Occurrence<'_>) -> bool {
        if !matches!(event.kind, EventKind::Open | EventKind::Access | EventKind::CloseNowrite) {
            return false;
        }
        let child = if event.is_dir { self.tree.child(event.node, event.name) } else { None };
        self.is_looked_at(event.node, child, !event.name.is_empty())
    }

    fn on_moved_from(&mut self, event: &Occurrence<'_>, cookie: u32, unsettled: bool) {
        self.deliver(event);
        if let Some(mut half) = self.pairing.displaced(event.node) {
            if event.is_dir && half.name() == event.name {
                half.wait = Wait::Arrival(cookie);
                self.pairing.put(half);
                self.verify_child(event.node, event.name);
                return;
            }
            self.lose_displaced(half);
        }
        if !event.is_dir {
            self.file_changed(event.node, event.name);
        }
        let child = if event.is_dir { self.tree.child(event.node, event.name) } else { None };
        let mut origin = None;
        if let Some(child) = child {
            self.tree.depart(child);
            self.lost_child(event.node, event.name);
            if let Some((_, from)) = self.newcomer.take_if(|(newcomer, _)| *newcomer == child) {
                // Or the name was exchanged for that of a directory without a node, which is what arrived and
                // left: then this one has stayed. If the way back is watched, it tells.
                if from.is_none() {
                    self.push_visit(child, News::Verify);
                    self.guess(event.node, event.name, News::Created, Known::Appeared);
                }
                origin = from;
            }
        }
        let mut half = Half::new(Wait::Arrival(cookie), event.node, child, event.name, self.now);
        half.origin = origin;
        half.unsettled = unsettled;
        self.put_half(half);
    }

    /// A directory is not where we thought: a visit finds it, or it has left.
    pub(super) fn mislay(&mut self, node: NodeId) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        self.tree.depart(node);
        self.put_half(Half::new(Wait::Search, parent, Some(node), &name, self.now));
    }

    /// A directory below one that is between two names, or gone, is not there any more: it gets a
    /// half of its own, and what is deferred for it and those below it.
    pub(super) fn take_out(&mut self, node: NodeId) {
        if self.tree.in_transit(node) == Some(node) {
            return;
        }
        let deferred = self.half_above(node).map(|half| std::mem::take(&mut half.deferred));
        let place = self.tree.parent(node).map(|parent| (parent, self.tree.name(node).to_vec()));
        self.mislay(node);
        if let (Some((parent, name)), Some(_)) = (place, self.pass) {
            // What has its old name by now may have come with an event that was dropped.
            self.guess(parent, &name, News::Created, Known::Before);
        }
        let mut nodes = Vec::new();
        for deferred in deferred.into_iter().flatten() {
            nodes.clear();
            self.tree.by_wd(deferred.wd, &mut nodes);
            if let Some(half) = nodes.first().and_then(|node| self.half_above(*node)) {
                half.deferred.push(deferred);
            }
        }
    }

    fn put_half(&mut self, half: Half) {
        self.tree.pin(half.parent);
        self.pairing.put(half);
        self.arm_pairs();
    }

    /// Something is about to take the name of a directory that we know. It may be replaced, or
    /// exchanged: then its own IN_MOVED_FROM follows.
    pub(super) fn make_way(&mut self, parent: NodeId, name: &[u8]) {
        let Some(child) = self.tree.child(parent, name) else { return };
        if self.leads_to_root(child) {
            self.disappeared(parent, name);
        } else if self.tree.is_guessed(child) {
            self.take_for_gone(child);
        } else {
            self.tree.depart(child);
            self.put_half(Half::new(Wait::Exchange, parent, Some(child), name, self.now));
        }
    }

    /// An event shows that a directory which waited for its IN_MOVED_FROM will get none.
    fn end_displaced(&mut self, parent: NodeId) {
        if let Some(half) = self.pairing.displaced(parent) {
            self.lose_displaced(half);
        }
    }

    /// It was replaced or deleted, and somebody holds it open. Should that be wrong, it may be found.
    fn lose_displaced(&mut self, mut half: Half) {
        half.wait = Wait::Search;
        self.pairing.put(half);
    }

    /// The kernel has taken the directory's watch away: it will not arrive anywhere.
    fn end_replaced(&mut self, node: NodeId) {
        let displaced = |half: &&mut Half| half.node == Some(node) && !matches!(half.wait, Wait::Arrival(_));
        if self.half_above(node).filter(displaced).is_some()
            && let Some(half) = self.pairing.take_of_node(node)
        {
            self.tree.lose(node);
            self.release_half(half);
        }
    }

    /// Returns where it came from, if that is watched.
    fn on_moved_to(&mut self, event: &Occurrence<'_>, cookie: u32) -> Option<Origin> {
        let Self { pairing, tree, covers, .. } = self;
        let here = tree.cover(event.node);
        let half = pairing.take(cookie, |half| covers.share_watch(tree.cover(half.parent), here));
        let Some(mut half) = half else {
            self.deliver(event);
            self.moved_in(event, News::Moved);
            return None;
        };
        let came_from = half.origin.take();
        // The way to a watch path is looked at too, but what is there is nobody's.
        let known = half.parent == event.node || self.is_inside(half.parent, half.name());
        let src = known.then_some((half.parent, half.name()));
        self.deliver(&Occurrence { src, ..*event });
        match half.node {
            Some(moved) => {
                self.arrived(moved, event.node, event.name);
                if came_from.is_some_and(|origin| origin.is(event.node, event.name)) {
                    // It may not be watched where it is now.
                    if self.tree.child(event.node, event.name) == Some(moved) {
                        self.push_visit(moved, News::Verify);
                    }
                    self.guess(half.parent, half.name(), News::Created, Known::Appeared);
                }
            }
            None => {
                let news = if event.is_dir { self.news_of_unknown(&half) } else { News::Moved };
                self.moved_in(event, news);
                if half.unsettled {
                    self.remember_writer(event.node, event.name, None, false);
                }
            }
        }
        let origin = event.is_dir.then(|| half.origin());
        self.release_half(half);
        origin
    }

    /// What the content of a directory is that was renamed before anybody looked into it: if it was
    /// in a watched place, all that was made in it there is still to be told.
    fn news_of_unknown(&mut self, half: &Half) -> News {
        if self.covers_child(half.parent, half.name()) { News::Created } else { News::Moved }
    }

    fn moved_in(&mut self, event: &Occurrence<'_>, news: News) {
        if event.is_dir {
            self.make_way(event.node, event.name);
            self.adopt(event.node, event.name, news, Known::Appeared);
        } else {
            self.file_changed(event.node, event.name);
        }
    }

    /// A directory with its watches now stands under another name.
    pub(super) fn arrived(&mut self, moved: NodeId, parent: NodeId, name: &[u8]) {
        self.make_way(parent, name);
        if self.tree.child(parent, name).is_some() {
            self.forget_departed(moved, "it took the place of a watch path");
        } else if self.tree.arrive(moved, parent, name) {
            self.cover_again(moved);
        } else {
            self.abandon(moved, "there is no room for its name");
        }
    }

    /// Does what waited for the rename's end, and releases the pin.
    pub(super) fn release_half(&mut self, half: Half) {
        if half.origin.is_some() {
            // It left, and did not arrive. Or it was exchanged with something from elsewhere, since two
            // arrivals under one name may be told as one (`inotify(7)`).
            self.guess(half.parent, half.name(), News::Created, Known::Appeared);
        }
        half.visits.into_iter().for_each(|visit| self.arrivals.push(visit));
        for deferred in half.deferred {
            self.replay(&deferred);
        }
        self.tree.unpin(half.parent);
    }

    fn replay(&mut self, kept: &Kept) {
        let Some(kind) = EventKind::from_mask(kept.mask) else { return };
        let mut nodes = Vec::new();
        self.tree.by_wd(kept.wd, &mut nodes);
        let position = std::mem::replace(&mut self.position, kept.position);
        for node in nodes {
            self.on_node_event(node, kind, &kept.event());
        }
        self.position = position;
    }

    fn arm_pairs(&mut self) {
        if self.pairs_timer.is_none() && !self.pairing.is_empty() {
            let due = self.pairing.next_age().unwrap_or(self.now + PAIR_WAIT_MS);
            self.pairs_timer = Some(self.wheel.insert(due, Timer::Pairs));
        }
    }

    /// First halves whose second half will not come: the directory has left the watched trees.
    pub(super) fn give_up_pairs(&mut self) {
        // A visit that is still to be made may find it where nobody saw it arrive.
        let visits_to_come = self.arrivals.has_visits() || self.awaits_answers();
        let may_be_found = visits_to_come || self.pairing.has_visits(self.position);
        while (!may_be_found || self.pairing.is_crowded())
            && let Some(half) = self.pairing.take_given_up(self.position)
        {
            self.give_up(half);
        }
        if self.pairing.is_empty() {
            if let Some(timer) = self.pairs_timer.take() {
                self.wheel.cancel(timer);
            }
        } else if self.pairing.next_age().is_some() {
            self.arm_pairs();
        }
    }

    fn give_up(&mut self, half: Half) {
        if let Some(node) = half.node {
            if half.wait == Wait::Search {
                self.tell_lost(node);
            }
            self.forget_departed(node, "it was moved out of the watched trees");
        }
        // What was deferred for it and those below it happened outside, and finds nobody now.
        self.release_half(half);
    }

    /// A directory that is between two names will not arrive under the second.
    fn forget_departed(&mut self, node: NodeId, why: &str) {
        self.tree.pin(node);
        self.tree.lose(node);
        self.abandon(node, why);
        self.tree.unpin(node);
    }
}
