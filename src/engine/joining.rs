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
use super::message::{EntryKind, List};
use super::routing::Occurrence;
use super::tree::NodeId;
use crate::event::EventKind;

/// What happened to a directory since it was first moved.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The watch with this number covers it.
    Entered(u16),
    /// And does not any more.
    Left(u16),
    /// An event told of a new entry. It may be a file that is written and closed without a word, until the
    /// kernel is asked for IN_CLOSE_WRITE.
    Came { name: Box<[u8]>, may_be_written: bool },
    /// Which it is from the visit on, and was not before.
    AsksForCloses,
    /// And which it is now.
    HasAsked,
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

    /// What the visit has to list; `None` when no watch is new, and only directories that no watch covered
    /// are looked for.
    pub fn list_wanted(&self, node: NodeId) -> Option<List> {
        let steps = self.0.get(&node)?;
        if steps.contains(&Step::HasAsked) {
            return Some(List::Writers);
        }
        steps.iter().any(|step| matches!(step, Step::Entered(_))).then_some(List::Everything)
    }

    /// The visit will not be made.
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

/// What may have been written without a word was told of.
fn note_written(steps: &mut [Step], written: &[u8]) {
    for step in steps {
        if let Step::Came { name, may_be_written } = step
            && **name == *written
        {
            *may_be_written = false;
        }
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
        let is_watched = self.tree.wd(node).is_some();
        if !is_watched && old == new {
            // All that is in it is found at the first look.
            return;
        }
        let steps = self.joinings.0.remove(&node);
        if steps.is_none() {
            self.push_visit(node, if is_watched { News::Joined } else { News::Moved });
        }
        let mut steps = steps.unwrap_or_default();
        let asks = |cover| self.covers.mask(cover) & EventKind::CloseWrite.bit() != 0;
        if is_watched && asks(new) && !asks(old) && !steps.contains(&Step::AsksForCloses) {
            steps.insert(0, Step::AsksForCloses);
        }
        for watch in (0..).take(self.config.watches.len()) {
            match (self.covers.tells(old, watch), self.covers.tells(new, watch)) {
                (false, true) => add(&mut steps, Step::Entered(watch), &Step::Left(watch)),
                (true, false) => add(&mut steps, Step::Left(watch), &Step::Entered(watch)),
                _ => {}
            }
        }
        self.joinings.0.insert(node, steps);
    }

    /// A directory that was moved before it was watched had its first look. If that was to tell of all that
    /// is in it, it did.
    pub(super) fn join_first(&mut self, node: NodeId, news: News) {
        if matches!(news, News::Created | News::Moved) {
            self.joinings.forget(node);
        } else if self.joinings.0.contains_key(&node) {
            self.push_visit(node, News::Joined);
        }
    }

    /// Remembers what comes into a directory that is about to join a watch.
    pub(super) fn note_newcomer(&mut self, node: NodeId, name: &[u8], kind: EventKind) {
        let Some(steps) = self.joinings.0.get_mut(&node) else { return };
        match kind {
            EventKind::Create | EventKind::MovedTo => {
                steps.push(Step::Came { name: name.into(), may_be_written: kind == EventKind::Create });
            }
            EventKind::CloseWrite => note_written(steps, name),
            EventKind::Delete | EventKind::MovedFrom => {
                steps.retain(|step| !matches!(step, Step::Came { name: other, .. } if **other == *name));
            }
            _ => {}
        }
    }

    /// The visit was made. What was closed before the kernel was asked to tell of it is looked for by
    /// another one: a file that came while the first was made is known only now.
    pub(super) fn end_joining(&mut self, node: NodeId) {
        let Some(mut steps) = self.joinings.0.remove(&node) else { return };
        if steps.contains(&Step::AsksForCloses) {
            steps.retain(|step| matches!(step, Step::Came { .. }));
            steps.insert(0, Step::HasAsked);
            self.joinings.0.insert(node, steps);
            self.push_visit(node, News::Joined);
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
        let Some(mut steps) = self.joinings.0.remove(&node) else { return };
        let came = |step: &Step| matches!(step, Step::Came { name: other, .. } if **other == *name);
        let after = steps.iter().rposition(came);
        let is_new_to = |member: &Member| !covered(&steps, member.watch, after.unwrap_or(0));
        let members = self.covers.members(self.tree.cover(node));
        self.counters.made_up += u64::from(members.iter().any(is_new_to));
        let event = Occurrence { node, name, kind: EventKind::MovedTo, is_dir, src: None, catch_up: false };
        self.deliver_where(&event, &is_new_to);
        let may_be_written =
            after.is_some_and(|at| matches!(steps[at], Step::Came { may_be_written: true, .. }));
        if may_be_written && steps.contains(&Step::HasAsked) && !is_dir && !touch.closed {
            note_written(&mut steps, name);
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
        let came = |name: &[u8]| Step::Came { name: name.into(), may_be_written: true };
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
