//! Directories that a rename brings under another watch.
//!
//! They are watched already, for the watch they come from. To the one they come to they are moved in,
//! with all that is in them: so they are listed once more, and IN_MOVED_TO is made up for that watch
//! alone. Unlike in a directory that is new to everybody, events have been told to it since the
//! rename; what they brought is remembered here until the listing is taken up, and not told again.

use std::collections::HashMap;

use super::Engine;
use super::answers::Touch;
use super::arrivals::News;
use super::cover::{CoverId, Member};
use super::message::EntryKind;
use super::routing::Occurrence;
use super::tree::NodeId;
use crate::event::EventKind;

/// What happened to a directory since it was first moved.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The watch with this number covers it.
    Entered(u16),
    /// And does not any more.
    Left(u16),
    /// An event told of a new entry.
    Came { name: Box<[u8]>, is_created: bool },
    /// The kernel is asked for IN_CLOSE_WRITE from the visit on, and was not before.
    AsksForCloses,
}

/// The directories that wait for the visit by which they join a watch: what happened, in order.
#[derive(Debug, Default)]
pub struct Joinings(HashMap<NodeId, Vec<Step>>);

impl Joinings {
    /// After a reload the watches have other numbers, or are gone.
    pub fn renumber(&mut self, new: &dyn Fn(u16) -> Option<u16>) {
        for steps in self.0.values_mut() {
            steps.retain_mut(|step| match step {
                Step::Entered(watch) | Step::Left(watch) => {
                    let number = new(*watch);
                    *watch = number.unwrap_or_default();
                    number.is_some()
                }
                _ => true,
            });
        }
    }

    /// The visit was made, or will not be.
    pub fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }
}

/// Adds a step, unless it takes back another since which nothing came: whoever moves a directory to and
/// fro would have all memory.
fn add(steps: &mut Vec<Step>, step: Step, opposite: &Step) {
    let settled = steps.iter().rposition(|step| matches!(step, Step::Came { .. })).map_or(0, |at| at + 1);
    match steps[settled..].iter().position(|step| step == opposite) {
        Some(at) => drop(steps.remove(settled + at)),
        None => steps.push(step),
    }
}

/// Whether a watch covered the directory after so many steps.
fn covered(steps: &[Step], watch: u16, after: usize) -> bool {
    let enters = |step: &Step| match step {
        Step::Entered(other) if *other == watch => Some(true),
        Step::Left(other) if *other == watch => Some(false),
        _ => None,
    };
    let before = steps[..after].iter().rev().find_map(enters);
    before.unwrap_or_else(|| steps[after..].iter().find_map(enters) != Some(true))
}

impl Engine {
    /// A directory that moved has another cover than `old`, or exclude filters, to which what is in it
    /// may have another name.
    pub(super) fn join(&mut self, node: NodeId, old: CoverId) {
        let new = self.tree.cover(node);
        if self.tree.wd(node).is_none() {
            if old != new {
                self.push_visit(node, News::Moved);
            }
            return;
        }
        let steps = self.joinings.0.remove(&node);
        if steps.is_none() {
            self.push_visit(node, News::Joined);
        }
        let mut steps = steps.unwrap_or_default();
        let asks = |cover| self.covers.mask(cover) & EventKind::CloseWrite.bit() != 0;
        if asks(new) && !asks(old) && !steps.contains(&Step::AsksForCloses) {
            steps.insert(0, Step::AsksForCloses);
        }
        for watch in (0..).take(self.config.watches.len()) {
            match (self.is_inside_of(old, watch), self.is_inside_of(new, watch)) {
                (false, true) => add(&mut steps, Step::Entered(watch), &Step::Left(watch)),
                (true, false) => add(&mut steps, Step::Left(watch), &Step::Entered(watch)),
                _ => {}
            }
        }
        self.joinings.0.insert(node, steps);
    }

    /// Whether the watch is told of what happens in directories with that cover.
    fn is_inside_of(&self, cover: CoverId, watch: u16) -> bool {
        self.covers.members(cover).iter().any(|member| member.watch == watch && member.is_inside())
    }

    /// Remembers what comes into a directory that is about to join a watch.
    pub(super) fn note_newcomer(&mut self, node: NodeId, name: &[u8], kind: EventKind) {
        if matches!(kind, EventKind::Create | EventKind::MovedTo)
            && let Some(steps) = self.joinings.0.get_mut(&node)
        {
            steps.push(Step::Came { name: name.into(), is_created: kind == EventKind::Create });
        }
    }

    /// What is in a directory that joins a watch.
    pub(super) fn tell_joined(
        &mut self,
        node: NodeId,
        name: &[u8],
        kind: Option<EntryKind>,
        is_dir: bool,
        touch: Touch,
    ) {
        let Some(steps) = self.joinings.0.remove(&node) else { return };
        let came = |step: &Step| matches!(step, Step::Came { name: other, .. } if **other == *name);
        let after = steps.iter().rposition(came);
        let is_new_to = |member: &Member| !covered(&steps, member.watch, after.unwrap_or(0));
        let members = self.covers.members(self.tree.cover(node));
        self.counters.made_up += u64::from(members.iter().any(is_new_to));
        let event = Occurrence { node, name, kind: EventKind::MovedTo, is_dir, src: None, catch_up: false };
        self.deliver_where(&event, &is_new_to);
        let is_created = after.is_some_and(|at| matches!(steps[at], Step::Came { is_created: true, .. }));
        if is_created && steps.contains(&Step::AsksForCloses) && !is_dir && !touch.closed {
            self.tell_written(node, name, kind.filter(|_| !touch.comes), false);
        }
        self.joinings.0.insert(node, steps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_told_of_what_came_while_it_was_away() {
        let came = |name: &[u8]| Step::Came { name: name.into(), is_created: true };
        let mut steps = Vec::new();
        add(&mut steps, Step::Left(1), &Step::Entered(1));
        add(&mut steps, Step::Entered(2), &Step::Left(2));
        steps.push(came(b"a"));
        add(&mut steps, Step::Left(2), &Step::Entered(2));
        add(&mut steps, Step::Entered(1), &Step::Left(1));
        steps.push(came(b"b"));
        // 1 was there before and after, 2 in between, 3 never came or went.
        for (watch, expected) in [(1, [true, false, true]), (2, [false, true, false]), (3, [true; 3])] {
            assert_eq!([0, 2, 5].map(|after| covered(&steps, watch, after)), expected, "{watch}");
        }
        let len = steps.len();
        for _ in 0..2 {
            add(&mut steps, Step::Left(1), &Step::Entered(1));
            add(&mut steps, Step::Entered(2), &Step::Left(2));
            add(&mut steps, Step::Left(2), &Step::Entered(2));
            add(&mut steps, Step::Entered(1), &Step::Left(1));
        }
        assert_eq!(steps.len(), len, "nothing came meanwhile");
    }
}
