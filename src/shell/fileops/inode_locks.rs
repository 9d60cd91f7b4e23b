//! At most one operation at a time changes the attributes of one inode.
//!
//! An operation sets owner and mode of an inode, and restores them when it fails. If two operations did
//! so at the same time for one inode, a user who renames the file in between could combine the owner
//! that one sets with the mode that the other sets.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::sys::stat::FileId;

/// The inodes that operations have locked.
#[derive(Debug, Default)]
pub struct InodeLocks {
    inodes: Mutex<HashSet<FileId>>,
    unlocked: Condvar,
}

/// The lock on one inode; dropping it unlocks.
#[derive(Debug)]
pub struct InodeLock<'a> {
    locks: &'a InodeLocks,
    id: FileId,
}

impl InodeLocks {
    /// Locks an inode, and waits while another operation has locked it. The caller must hold no other
    /// lock, or two operations could wait for each other.
    pub fn lock(&self, id: FileId) -> InodeLock<'_> {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        while !inodes.insert(id) {
            inodes = self.unlocked.wait(inodes).unwrap_or_else(PoisonError::into_inner);
        }
        InodeLock { locks: self, id }
    }

    /// Locks an inode unless another operation has locked it.
    pub fn try_lock(&self, id: FileId) -> Option<InodeLock<'_>> {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = inodes.insert(id);
        drop(inodes);
        is_free.then(|| InodeLock { locks: self, id })
    }
}

impl Drop for InodeLock<'_> {
    fn drop(&mut self) {
        self.locks.inodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.locks.unlocked.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_locked_until_the_lock_is_dropped() {
        let (locks, id) = (InodeLocks::default(), FileId { dev: 1, ino: 2 });
        let lock = locks.lock(id);
        assert!(locks.try_lock(id).is_none());
        assert!(locks.try_lock(FileId { dev: 1, ino: 3 }).is_some());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(locks.lock(id)));
            drop(lock);
            waiting.join().unwrap();
        });
        assert!(locks.try_lock(id).is_some());
    }
}
