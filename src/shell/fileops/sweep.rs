//! Removes the private directories that a killed daemon has left behind, and puts back what it had set
//! aside in them.
//!
//! A sweep removes only a directory that has a reserved name, belongs to the daemon's user, has mode 0700
//! (or the owner and mode that this filesystem gives to every directory), is not locked, and holds
//! nothing but the names that `private` knows.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use super::control::Control;
use super::entry::EntryRef;
use super::private::{self, NEW, OLD, PrivateDir, SOURCE, is_private};
use super::rename_new::rename_new;
use super::replaced;
use super::walk::Walk;
use crate::sys::dir::{self, LIST_BUFFER_SIZE};
use crate::sys::file;
use crate::sys::stat::{FileId, Kind, Stat, stat};
use crate::types::RESERVED_PREFIX;

/// How many directories are remembered as swept. Beyond that number all are forgotten, and swept again
/// when they are used again.
const SWEPT_MAX: usize = 4096;

/// The directories that were swept since the daemon started.
#[derive(Debug, Default)]
pub struct SweptDirs(Mutex<HashSet<FileId>>);

impl SweptDirs {
    /// Sweeps a directory, unless that was done before. What cannot be removed stays, and no operation
    /// fails for it.
    pub fn sweep(&self, parent: BorrowedFd<'_>) {
        let Ok(id) = dir::identity(parent) else { return };
        {
            // A thread that panics ends the process, so no lock is ever poisoned.
            let mut swept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if swept.len() >= SWEPT_MAX {
                swept.clear();
            }
            if !swept.insert(id) {
                return;
            }
        }
        let Ok(listing) = dir::open_child(parent, c".") else { return };
        let mut names = Vec::new();
        let mut buffer = vec![0; LIST_BUFFER_SIZE];
        let outcome = dir::list(listing.as_fd(), &mut buffer, |name, kind| {
            if kind == Kind::Directory && name.starts_with(RESERVED_PREFIX) {
                names.extend(CString::new(name));
            }
        });
        if outcome.is_ok() {
            names.iter().for_each(|name| remove_leftover(parent, name));
        }
    }
}

fn remove_leftover(parent: BorrowedFd<'_>, name: &CStr) {
    let Ok(dir) = dir::open_child(parent, name) else { return };
    let ours = stat(dir.as_fd()).is_ok_and(|found| is_private(&found) || is_like_new(parent, &found));
    if ours && file::try_lock(dir.as_fd()) == Ok(true) && holds_only_ours(&dir) {
        put_back_all(parent, dir.as_fd());
        let _ = private::clear(dir.as_fd());
        let _ = file::remove_dir(parent, name);
    }
}

/// Whether a directory has the owner and mode that a new one gets here. FAT gives the same to all.
fn is_like_new(parent: BorrowedFd<'_>, found: &Stat) -> bool {
    let of = |stat: &Stat| (stat.uid, stat.mode & 0o777);
    let new = PrivateDir::make_inheriting(parent, b"".into()).ok().and_then(|new| stat(new.dir()).ok());
    new.is_some_and(|new| of(&new) == of(found))
}

/// Renames back what an operation had taken the name of when the daemon was killed: directories that it was
/// replacing, and the source of a move whose copy was not in place.
fn put_back_all(parent: BorrowedFd<'_>, dir: BorrowedFd<'_>) {
    for_each_in(dir, OLD, |folder, name| replaced::put_back(folder, name, parent));
    for_each_in(dir, SOURCE, |folder, name| {
        // If something else has its name, it stays.
        let _ = rename_new(folder, name, EntryRef { dir: parent, name });
    });
}

fn for_each_in(dir: BorrowedFd<'_>, folder: &CStr, act: impl Fn(BorrowedFd<'_>, &CStr)) {
    let Ok(folder) = dir::open_child(dir, folder) else { return };
    let control = Control::default();
    let Ok(listing) = dir::open_child(folder.as_fd(), c".") else { return };
    let Ok(mut walk) = Walk::new(listing, "sweep", b"".into(), &control) else { return };
    while let Ok(Some(entry)) = walk.next_entry() {
        act(folder.as_fd(), &entry.name);
    }
}

fn holds_only_ours(dir: &OwnedFd) -> bool {
    let control = Control::default();
    let Ok(dir) = dir.try_clone() else { return false };
    let Ok(mut walk) = Walk::new(dir, "sweep", b"".into(), &control) else { return false };
    loop {
        match walk.next_entry() {
            Ok(Some(entry)) if [NEW, OLD, SOURCE].contains(&&*entry.name) => {}
            Ok(None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sys::stat::stat_at;

    #[test]
    fn only_what_a_killed_daemon_left_is_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let make = |name: &str, inside: &str, mode| {
            let path = scratch.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(inside), "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let left = make(".rinotifyd-dead", "rinotifyd.new", 0o700);
        let open = make(".rinotifyd-open", "rinotifyd.new", 0o755);
        let other = make(".rinotifyd-other", "precious", 0o700);
        let unrelated = make("unrelated", "rinotifyd.new", 0o700);
        let parent = File::open(scratch.path()).unwrap();
        let swept = SweptDirs::default();
        let locked = PrivateDir::make(parent.as_fd(), b"".into()).unwrap();
        swept.sweep(parent.as_fd());
        assert!(!left.exists());
        assert!(open.exists() && other.exists() && unrelated.exists());
        // A second daemon leaves alone what is locked.
        SweptDirs::default().sweep(parent.as_fd());
        assert!(stat_at(parent.as_fd(), locked.name()).is_ok());
        // A directory is swept once.
        fs::create_dir(&left).unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o700)).unwrap();
        swept.sweep(parent.as_fd());
        assert!(left.exists());
    }
}
