//! Directories that a rename brings under another watch.
//!
//! They are watched already, for the watch they come from. To the watch they come to they are moved in,
//! with all that is in them. So they are listed once more, and IN_MOVED_TO is synthesized for that watch
//! alone. Unlike in a directory that is new to all watches, events have been told to it since the
//! rename; what they brought is remembered until the listing is taken up, and not told again.

use super::deliver::Occurrence;
use super::state::covers::{CoverId, Member};
use super::state::joins::{JoinStep, add, covered, note_written};
use super::state::stream::Touch;
use super::state::visit_queue::VisitReason;
use super::state::{Step, Watcher};
use crate::engine::ids::{NodeId, WatchIndex};
use crate::engine::message::EntryKind;
use crate::event::EventKind;

impl Watcher {
    /// A directory that moved has another cover than `old`, or exclude filters, to which what is in it
    /// may have another name. `old_mask` is what the kernel was asked for.
    pub(super) fn join(&mut self, node: NodeId, old: CoverId, old_mask: u32) {
        let new = self.cover(node);
        let is_watched = self.tree.wd(node).is_some();
        if !is_watched && old == new {
            // The first visit finds all that is in it.
            return;
        }
        let steps = self.joins.take(node);
        if steps.is_none() {
            self.push_visit(node, if is_watched { VisitReason::Joined } else { VisitReason::Moved });
        }
        let mut steps = steps.unwrap_or_default();
        let asks = |mask: u32| mask & EventKind::CloseWrite.bit() != 0;
        if is_watched && asks(self.mask(node)) && !asks(old_mask) && !steps.contains(&JoinStep::AsksForCloses)
        {
            steps.insert(0, JoinStep::AsksForCloses);
        }
        let of = |cover| self.covers.inside(cover).iter().map(|member| member.watch);
        let mut watches: Vec<WatchIndex> = of(old).chain(of(new)).collect();
        watches.sort_unstable();
        watches.dedup();
        for watch in watches {
            match (self.covers.tells(old, watch), self.covers.tells(new, watch)) {
                (false, true) => add(&mut steps, JoinStep::Entered(watch), &JoinStep::Left(watch)),
                (true, false) => add(&mut steps, JoinStep::Left(watch), &JoinStep::Entered(watch)),
                _ => {}
            }
        }
        self.joins.put(node, steps);
    }

    /// A directory that was moved before it was watched had its first visit. If that was to tell of all that
    /// is in it, it did.
    pub(super) fn join_first(&mut self, node: NodeId, reason: VisitReason) {
        if matches!(reason, VisitReason::Created | VisitReason::Moved) {
            self.joins.forget(node);
        } else if self.joins.contains(node) {
            self.push_visit(node, VisitReason::Joined);
        }
    }

    /// The visit was made. What was closed before the kernel was asked to tell of it is looked for by
    /// another visit: a file that came while the first was made is known only now.
    pub(super) fn end_join(&mut self, node: NodeId) {
        let Some(mut steps) = self.joins.take(node) else { return };
        if steps.contains(&JoinStep::AsksForCloses) {
            steps.retain(|step| matches!(step, JoinStep::Came { .. }));
            steps.insert(0, JoinStep::HasAsked);
            self.joins.put(node, steps);
            self.push_visit(node, VisitReason::Joined);
        }
    }

    /// Tells of an entry of a directory that joins a watch.
    pub(super) fn deliver_joined(
        &mut self,
        step: &mut Step<'_, '_>,
        node: NodeId,
        name: &[u8],
        (kind, is_dir): (Option<EntryKind>, bool),
        touch: Touch,
    ) {
        let Some(mut steps) = self.joins.take(node) else { return };
        let came = |step: &JoinStep| matches!(step, JoinStep::Came { name: other, .. } if **other == *name);
        let after = steps.iter().rposition(came);
        let is_new_to = |member: &Member| !covered(&steps, member.watch, after.unwrap_or(0));
        let is_new = self.covers.inside(self.cover(node)).iter().any(is_new_to);
        step.cx.counters.synthesized += u64::from(is_new);
        let event = Occurrence::new(node, name, EventKind::MovedTo, is_dir);
        self.deliver_where(step, &event, &is_new_to);
        let may_be_written =
            after.is_some_and(|at| matches!(steps[at], JoinStep::Came { may_be_written: true, .. }));
        if may_be_written && steps.contains(&JoinStep::HasAsked) && !is_dir && !touch.closed {
            note_written(&mut steps, name);
            self.deliver_written(step, node, name, kind.filter(|_| !touch.comes), false);
        }
        self.joins.put(node, steps);
    }
}
