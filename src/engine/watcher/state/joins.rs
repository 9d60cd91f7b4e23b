//! Directories that a rename brings under another watch, until they were listed for it; see the rules of
//! the same name.

use std::collections::HashMap;

use crate::engine::ids::{NodeId, WatchIndex};
use crate::engine::message::List;
use crate::event::EventKind;

/// What happened to a directory since it was first moved.
#[derive(Debug, PartialEq, Eq)]
pub enum JoinStep {
    /// The watch covers it from now on.
    Entered(WatchIndex),
    /// The watch does not cover it any more.
    Left(WatchIndex),
    /// An event told of a new entry. It may be a file that is written and closed without an event, as long
    /// as the kernel is not asked for IN_CLOSE_WRITE.
    Came {
        /// The entry's name.
        name: Box<[u8]>,
        /// Whether it may be such a file.
        may_be_written: bool,
    },
    /// The next visit asks the kernel for IN_CLOSE_WRITE, which it was not asked for before.
    AsksForCloses,
    /// A visit has asked the kernel for IN_CLOSE_WRITE.
    HasAsked,
}

/// The directories that wait for the visit by which they join a watch: what happened, in order.
#[derive(Debug, Default)]
pub struct Joins(HashMap<NodeId, Vec<JoinStep>>);

impl Joins {
    /// Whether no directory waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// After a reload the watches have other numbers, or are gone.
    pub fn renumber(&mut self, new: &dyn Fn(WatchIndex) -> Option<WatchIndex>) {
        for steps in self.0.values_mut() {
            steps.retain_mut(|step| match step {
                JoinStep::Entered(watch) | JoinStep::Left(watch) => {
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
    #[must_use]
    pub fn list_wanted(&self, node: NodeId) -> Option<List> {
        let steps = self.0.get(&node)?;
        if steps.contains(&JoinStep::HasAsked) {
            return Some(List::Writers);
        }
        steps.iter().any(|step| matches!(step, JoinStep::Entered(_))).then_some(List::Everything)
    }

    /// Whether the directory waits.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.contains_key(&node)
    }

    /// Takes the directory's steps out.
    pub fn take(&mut self, node: NodeId) -> Option<Vec<JoinStep>> {
        self.0.remove(&node)
    }

    /// Puts them back.
    pub fn put(&mut self, node: NodeId, steps: Vec<JoinStep>) {
        self.0.insert(node, steps);
    }

    /// The visit will not be made.
    pub fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// No visit is to be made.
    pub fn clear(&mut self) {
        self.0 = HashMap::new();
    }

    /// Remembers what an event says of an entry.
    pub fn note_event(&mut self, node: NodeId, name: &[u8], kind: EventKind) {
        if self.0.is_empty() {
            return;
        }
        let Some(steps) = self.0.get_mut(&node) else { return };
        match kind {
            EventKind::Create | EventKind::MovedTo => {
                steps.push(JoinStep::Came { name: name.into(), may_be_written: kind == EventKind::Create });
            }
            EventKind::CloseWrite => note_written(steps, name),
            EventKind::Delete | EventKind::MovedFrom => {
                steps.retain(|step| !matches!(step, JoinStep::Came { name: other, .. } if **other == *name));
            }
            _ => {}
        }
    }
}

/// Adds a step, unless it takes back another one since which nothing came: a directory that is renamed to
/// and fro adds nothing.
pub fn add(steps: &mut Vec<JoinStep>, step: JoinStep, opposite: &JoinStep) {
    let settled = steps.iter().rposition(|step| matches!(step, JoinStep::Came { .. })).map_or(0, |at| at + 1);
    match steps[settled..].iter().position(|step| step == opposite) {
        Some(at) => drop(steps.remove(settled + at)),
        None => steps.push(step),
    }
}

/// A file that may have been written without an event was told of.
pub fn note_written(steps: &mut [JoinStep], written: &[u8]) {
    for step in steps {
        if let JoinStep::Came { name, may_be_written } = step
            && **name == *written
        {
            *may_be_written = false;
        }
    }
}

/// Whether a watch covered the directory after so many steps.
#[must_use]
pub fn covered(steps: &[JoinStep], watch: WatchIndex, after: usize) -> bool {
    let enters = |step: &JoinStep| match step {
        JoinStep::Entered(other) if *other == watch => Some(true),
        JoinStep::Left(other) if *other == watch => Some(false),
        _ => None,
    };
    let before = steps[..after].iter().rev().find_map(enters);
    before.unwrap_or_else(|| steps[after..].iter().find_map(enters) != Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_told_of_what_came_while_it_was_away() {
        let came = |name: &[u8]| JoinStep::Came { name: name.into(), may_be_written: true };
        let entered = |watch| JoinStep::Entered(WatchIndex(watch));
        let left = |watch| JoinStep::Left(WatchIndex(watch));
        let mut steps = Vec::new();
        add(&mut steps, left(1), &entered(1));
        add(&mut steps, entered(2), &left(2));
        steps.push(came(b"a"));
        add(&mut steps, left(2), &entered(2));
        add(&mut steps, entered(1), &left(1));
        steps.push(came(b"b"));
        // 1 was there before and after, 2 in between, 3 never came or went.
        for (watch, expected) in [(1, [true, false, true]), (2, [false, true, false]), (3, [true; 3])] {
            assert_eq!([0, 2, 5].map(|after| covered(&steps, WatchIndex(watch), after)), expected, "{watch}");
        }
        let len = steps.len();
        for _ in 0..2 {
            add(&mut steps, left(1), &entered(1));
            add(&mut steps, entered(2), &left(2));
            add(&mut steps, left(2), &entered(2));
            add(&mut steps, entered(1), &left(1));
        }
        assert_eq!(steps.len(), len, "nothing came meanwhile");
    }
}
