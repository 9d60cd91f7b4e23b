//! Directories that a thread goes on holding from one operation to the next: those of a burst are mostly
//! in the same two, and to open these takes longer than to rename a file.
//!
//! Whoever replaces a directory and then drops a file into the new one must find the file's operation
//! done in the new one. So an operation uses only what was opened after it was submitted: the same
//! would have happened had it been begun then, and been interrupted. And nothing that was opened before
//! an operation on a directory ended: it may have moved just this one.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::engine::message::Place;

/// When an operation is carried out, among the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Its own number: they are counted as they are submitted.
    pub number: u64,
    /// The number of the newest, when it was begun.
    pub newest: u64,
    /// How many on directories had ended by then.
    pub trees: u64,
}

/// What one thread holds.
#[derive(Debug, Default)]
pub struct Grips {
    /// Of the operation that is carried out.
    pub turn: Turn,
    /// By side.
    held: [Option<Grip>; 2],
}

/// Which of the two directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the source is in.
    Source,
    /// What the destination will be in.
    Target,
}

#[derive(Debug)]
struct Grip {
    dir: Rc<OwnedFd>,
    /// Its path, and how far that may be trusted.
    place: Place,
    opened: Turn,
}

impl Grips {
    /// The directory that the last operation had on this side, if it is at this path and may be used.
    #[must_use]
    pub fn get(&self, side: Side, path: &[u8], trusted: usize) -> Option<Rc<OwnedFd>> {
        let is_it = |grip: &&Grip| {
            grip.place.path == path
                && grip.place.trusted == trusted
                && self.turn.number <= grip.opened.newest
                && self.turn.trees == grip.opened.trees
        };
        self.held[side as usize].as_ref().filter(is_it).map(|grip| Rc::clone(&grip.dir))
    }

    /// Keeps a directory that was opened for the operation of this turn.
    pub fn keep(&mut self, side: Side, path: &[u8], trusted: usize, dir: &Rc<OwnedFd>) {
        let place = Place { path: path.to_vec(), trusted };
        self.held[side as usize] = Some(Grip { dir: Rc::clone(dir), place, opened: self.turn });
    }

    /// Lets go of a directory that the operation has no use for.
    pub fn drop(&mut self, side: Side) {
        self.held[side as usize] = None;
    }

    /// Lets go of everything: before a pause, so that nothing is held that somebody wants to unmount;
    /// and after a failure, which may have to do with it.
    pub fn release(&mut self) {
        self.held = [None, None];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_opened_is_used_by_what_was_submitted_before() {
        let mut grips = Grips::default();
        let dir = Rc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        let check = |grips: &mut Grips, number, trees, expected: bool| {
            grips.turn = Turn { number, newest: 9, trees };
            let found = grips.get(Side::Source, b"/a", 2).is_some();
            assert_eq!(found, expected, "operation {number} after {trees} trees");
        };
        grips.turn = Turn { number: 1, newest: 3, trees: 5 };
        grips.keep(Side::Source, b"/a", 2, &dir);
        check(&mut grips, 2, 5, true);
        check(&mut grips, 3, 5, true);
        check(&mut grips, 4, 5, false);
        check(&mut grips, 2, 6, false);
        grips.turn.number = 2;
        grips.turn.trees = 5;
        assert!(grips.get(Side::Source, b"/b", 2).is_none());
        assert!(grips.get(Side::Source, b"/a", 1).is_none());
        assert!(grips.get(Side::Target, b"/a", 2).is_none());
        grips.release();
        check(&mut grips, 2, 5, false);
    }
}
