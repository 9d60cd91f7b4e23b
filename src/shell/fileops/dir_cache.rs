//! Directories that a worker thread keeps open from one operation to the next. The operations of a burst
//! mostly use the same two directories, and opening these takes longer than renaming a file.
//!
//! A user who replaces a directory and then drops a file into the new one expects the operation in the
//! new one. So an operation uses a cached directory only if the directory was opened after the operation
//! was submitted: the result is one that could have come about without the cache. A directory is not
//! used either if an operation on a directory has ended since it was opened: that operation may have
//! moved it.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::engine::message::TrustedPath;

/// When an operation is carried out, relative to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// The operation's own number; operations are counted as they are submitted.
    pub number: u64,
    /// The number of the newest operation at the moment when this one started.
    pub newest: u64,
    /// How many operations on directories had ended at that moment.
    pub trees: u64,
}

/// The directories that one thread keeps open.
#[derive(Debug, Default)]
pub struct DirCache {
    /// Of the operation that is being carried out.
    pub ticket: Ticket,
    /// At most one directory for each [`Side`].
    cached: [Option<CachedDir>; 2],
}

/// Which of an operation's two directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The directory that the source is in.
    Source,
    /// The directory that the destination will be in.
    Destination,
}

#[derive(Debug)]
struct CachedDir {
    dir: Rc<OwnedFd>,
    /// The directory's path, and how much of it is trusted.
    path: TrustedPath,
    opened: Ticket,
}

impl DirCache {
    /// The directory that the last operation used on this side, if it has this path and may be used.
    #[must_use]
    pub fn get(&self, side: Side, path: &[u8], trusted: usize) -> Option<Rc<OwnedFd>> {
        let is_usable = |cached: &&CachedDir| {
            cached.path.path == path
                && cached.path.trusted == trusted
                && self.ticket.number <= cached.opened.newest
                && self.ticket.trees == cached.opened.trees
        };
        self.cached[side as usize].as_ref().filter(is_usable).map(|cached| Rc::clone(&cached.dir))
    }

    /// Keeps a directory that was opened for the operation with the present ticket.
    pub fn keep(&mut self, side: Side, path: &[u8], trusted: usize, dir: &Rc<OwnedFd>) {
        let path = TrustedPath { path: path.to_vec(), trusted };
        self.cached[side as usize] = Some(CachedDir { dir: Rc::clone(dir), path, opened: self.ticket });
    }

    /// Closes the directory of one side.
    pub fn forget(&mut self, side: Side) {
        self.cached[side as usize] = None;
    }

    /// Closes both directories: before the thread waits, because an open directory keeps its filesystem
    /// from being unmounted; and after a failure, which a cached directory may have caused.
    pub fn clear(&mut self) {
        self.cached = [None, None];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_uses_what_was_opened_after_it_was_submitted() {
        let mut cache = DirCache::default();
        let dir = Rc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        let check = |cache: &mut DirCache, number, trees, expected: bool| {
            cache.ticket = Ticket { number, newest: 9, trees };
            let found = cache.get(Side::Source, b"/a", 2).is_some();
            assert_eq!(found, expected, "operation {number} after {trees} trees");
        };
        cache.ticket = Ticket { number: 1, newest: 3, trees: 5 };
        cache.keep(Side::Source, b"/a", 2, &dir);
        check(&mut cache, 2, 5, true);
        check(&mut cache, 3, 5, true);
        check(&mut cache, 4, 5, false);
        check(&mut cache, 2, 6, false);
        cache.ticket.number = 2;
        cache.ticket.trees = 5;
        assert!(cache.get(Side::Source, b"/b", 2).is_none());
        assert!(cache.get(Side::Source, b"/a", 1).is_none());
        assert!(cache.get(Side::Destination, b"/a", 2).is_none());
        cache.clear();
        check(&mut cache, 2, 5, false);
    }
}
