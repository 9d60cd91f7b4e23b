//! One operation at a time for one inode.
//!
//! An operation that changes owner and mode of an inode, and undoes that when it fails, must not do so
//! while another one does the same: whoever renames the file meanwhile could have them take turns, and
//! get one's owner with the other's mode.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::sys::stat::FileId;

/// The inodes that some operation works on.
#[derive(Debug, Default)]
pub struct Busy {
    inodes: Mutex<HashSet<FileId>>,
    freed: Condvar,
}

/// While it lives, nobody else has the inode.
#[derive(Debug)]
pub struct Taken<'a> {
    busy: &'a Busy,
    id: FileId,
}

impl Busy {
    /// Takes an inode, and waits for whoever has it. Whoever waits must not have taken another.
    pub fn wait(&self, id: FileId) -> Taken<'_> {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        while !inodes.insert(id) {
            inodes = self.freed.wait(inodes).unwrap_or_else(PoisonError::into_inner);
        }
        Taken { busy: self, id }
    }

    /// Takes an inode if nobody has it.
    pub fn take(&self, id: FileId) -> Option<Taken<'_>> {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = inodes.insert(id);
        drop(inodes);
        is_free.then(|| Taken { busy: self, id })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.busy.inodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.busy.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_one_operations_until_it_is_dropped() {
        let (busy, id) = (Busy::default(), FileId { dev: 1, ino: 2 });
        let taken = busy.wait(id);
        assert!(busy.take(id).is_none());
        assert!(busy.take(FileId { dev: 1, ino: 3 }).is_some());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(busy.wait(id)));
            drop(taken);
            waiting.join().unwrap();
        });
        assert!(busy.take(id).is_some());
    }
}
