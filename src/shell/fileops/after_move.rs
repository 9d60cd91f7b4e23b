//! What follows when a tree has been moved within its filesystem: everything in it gets the rule's owner
//! and modes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::attributes;
use super::control::Control;
use super::entry::Entry;
use super::failure::{Failure, PathRef};
use super::op_run::OpRun;
use super::walk::{Walk, survey};
use crate::sys::Errno;
use crate::sys::dir::open_child;
use crate::sys::file;
use crate::sys::resolve::{Purpose, within};
use crate::sys::stat::{Kind, Stat, stat, stat_at};

/// The mode of a moved directory while what is in it gets its attributes: closed to all other users.
const CLOSED: u32 = 0o700;

/// Checks that the rule's attributes can be set on everything in a tree, and returns its top, open.
///
/// # Errors
///
/// What [`attributes::check_links`] refuses; mount points; what cannot be listed.
pub fn check_settable(run: &OpRun<'_>, from: &Entry) -> Result<OwnedFd, Failure> {
    let path = run.source_path();
    let failed = |errno| Failure::new("open", path, errno);
    let top = open_child(from.dir(), &from.name).map_err(failed)?;
    let again = open_child(top.as_fd(), c".").map_err(failed)?;
    survey(Walk::new(again, run.verb, path, run.control)?, |entry, dir, path| {
        let found = stat_at(dir, &entry.name).map_err(|errno| Failure::new("stat", path, errno))?;
        attributes::check_links(run.rule, &found, run.verb, path)?;
        Ok(Some(found))
    })?;
    Ok(top)
}

/// Closes a directory to all other users until everything in it has its attributes.
///
/// # Errors
///
/// EPERM, EROFS.
pub fn close(held: &OwnedFd, path: PathRef<'_>) -> Result<(), Failure> {
    // The owner could change the mode again. A daemon without the right to change owners owns it anyway.
    match file::set_owner(held.as_fd(), Some(file::own_uid()), None) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(Failure::new("chown", path, errno)),
    }
    file::set_mode(held.as_fd(), CLOSED).map_err(|errno| Failure::new("chmod", path, errno))
}

/// Sets the rule's attributes on everything in a tree that has been moved, and last on its top, which
/// was `was` before it was closed.
///
/// # Errors
///
/// EPERM and the like; refuses what [`check_settable`] would have refused.
pub fn set_attributes(
    run: &OpRun<'_>,
    top: OwnedFd,
    held: BorrowedFd<'_>,
    was: &Stat,
) -> Result<(), Failure> {
    // The daemon's shutdown does not stop this half way.
    let control = Control::default();
    let mut walk = Walk::new(top, run.verb, run.target_path(), &control)?;
    // The check has read the listing through a duplicate of the descriptor.
    walk.rewind()?;
    loop {
        while let Some(entry) = walk.next_entry()? {
            if entry.kind == Kind::Directory {
                walk.descend(&entry.name)?;
                continue;
            }
            let path = walk.path_of(&entry.name);
            let held = within(walk.dir(), &entry.name, Purpose::Hold)
                .map_err(|errno| Failure::new("open", path, errno))?;
            set(run, held.as_fd(), path)?;
        }
        if walk.depth() == 1 {
            return attributes::reopen(run.rule, held, was, run.target_path());
        }
        set(run, walk.dir(), walk.dir_path().into())?;
        walk.ascend()?;
    }
}

fn set(run: &OpRun<'_>, held: BorrowedFd<'_>, path: PathRef<'_>) -> Result<(), Failure> {
    let found = stat(held).map_err(|errno| Failure::new("stat", path, errno))?;
    // This operation has locked the top, so it must not wait for another lock.
    let Some(_lock) = run.shared.inode_locks.try_lock(found.id) else {
        return Err(Failure::refused(run.verb, path, "another operation works on it"));
    };
    attributes::check_links(run.rule, &found, run.verb, path)?;
    attributes::set(run.rule, held, &found, path)?;
    attributes::check_descriptors(run.rule, held, &found, run.verb, path)
}
