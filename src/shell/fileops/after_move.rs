//! What follows when a tree has been moved: it gets the rule's owner and modes, or, after a copy to
//! another filesystem, the source is removed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::attributes;
use super::control::Control;
use super::entry::Entry;
use super::failure::Failure;
use super::op_run::OpRun;
use super::walk::{Chain, Walk, survey};
use crate::sys::Errno;
use crate::sys::dir::open_child;
use crate::sys::file;
use crate::sys::lease::{OpenForWriting, open_for_writing};
use crate::sys::resolve::{Purpose, within};
use crate::sys::stat::{FileId, Kind, Stat, stat, stat_at};

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
pub fn close(held: &OwnedFd, path: &[u8]) -> Result<(), Failure> {
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
                .map_err(|errno| Failure::new("open", &path, errno))?;
            set(run, held.as_fd(), &path)?;
        }
        if walk.depth() == 1 {
            return attributes::reopen(run.rule, held, was, run.target_path());
        }
        set(run, walk.dir(), walk.dir_path())?;
        walk.ascend()?;
    }
}

fn set(run: &OpRun<'_>, held: BorrowedFd<'_>, path: &[u8]) -> Result<(), Failure> {
    let found = stat(held).map_err(|errno| Failure::new("stat", path, errno))?;
    // This operation has locked the top, so it must not wait for another lock.
    let Some(_lock) = run.shared.inode_locks.try_lock(found.id) else {
        return Err(Failure::refused(run.verb, path, "another operation works on it"));
    };
    attributes::check_links(run.rule, &found, run.verb, path)?;
    attributes::set(run.rule, held, &found, path)
}

/// Removes a tree, which must still be `id`, as far as the copy at `to` holds the same: what was added
/// or changed since it was copied stays. `times`: the copy has the times of the source.
///
/// # Errors
///
/// That something stays, or cannot be removed.
pub fn remove_copied(
    from: &Entry,
    id: FileId,
    to: &Entry,
    times: bool,
    path: &[u8],
    control: &Control,
) -> Result<(), Failure> {
    let failed = |errno| Failure::new("open", path, errno);
    let top = open_child(from.dir(), &from.name).map_err(failed)?;
    if stat(top.as_fd()).map_err(failed)?.id != id {
        return Err(Failure::refused("delete", path, "it was replaced meanwhile"));
    }
    let copy = open_child(to.dir(), &to.name).map_err(failed)?;
    let mut walk = Walk::new(top, "delete", path, control)?;
    let mut copies = Chain::new(copy).map_err(failed)?;
    let mut changed = None;
    loop {
        while let Some(entry) = walk.next_entry()? {
            let path = walk.path_of(&entry.name);
            if entry.kind == Kind::Directory {
                match open_child(copies.last(), &entry.name) {
                    Ok(copy) => {
                        walk.descend(&entry.name)?;
                        copies.push(copy).map_err(|errno| Failure::new("open", &path, errno))?;
                    }
                    Err(_) => changed = Some(path),
                }
                continue;
            }
            let stats = (stat_at(walk.dir(), &entry.name), stat_at(copies.last(), &entry.name));
            let removed = match stats {
                (Err(Errno::ENOENT), _) => Ok(()),
                // What a process writes to it from now on would be lost.
                (Ok(one), Ok(other))
                    if is_same(&one, &other, times)
                        && open_for_writing(walk.dir(), &entry.name) != Ok(OpenForWriting::Yes) =>
                {
                    file::remove(walk.dir(), &entry.name)
                }
                _ => Err(Errno::EBUSY),
            };
            if removed.is_err() {
                changed = Some(path);
            }
        }
        let Some(name) = walk.ascend()? else { break };
        copies.pop().map_err(failed)?;
        remove_emptied(walk.dir(), &name, walk.path_of(&name), &mut changed);
    }
    remove_emptied(from.dir(), &from.name, path.to_vec(), &mut changed);
    match changed {
        None => Ok(()),
        Some(path) => Err(Failure::refused(
            "delete",
            path,
            "it is in use, was changed meanwhile or cannot be removed, and stays",
        )),
    }
}

fn remove_emptied(dir: BorrowedFd<'_>, name: &std::ffi::CStr, path: Vec<u8>, changed: &mut Option<Vec<u8>>) {
    match file::remove_dir(dir, name) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(_) => {
            changed.get_or_insert(path);
        }
    }
}

/// The units to which filesystems round times down: FAT, those that store seconds, exFAT, UDF, NTFS and
/// SMB.
const GRAINS_NS: [i64; 5] = [2_000_000_000, 1_000_000_000, 10_000_000, 1_000, 100];

/// Whether the copy of an entry is still equal to its original, as far as kind, size and time tell.
fn is_same(original: &Stat, copy: &Stat, times: bool) -> bool {
    if original.kind != copy.kind {
        return false;
    }
    if !matches!(original.kind, Kind::File | Kind::Symlink) {
        return true;
    }
    original.size == copy.size && (!times || is_same_time(original.mtime_ns, copy.mtime_ns))
}

/// Whether a copy's time is the original's, as exactly as the copy's filesystem stores it.
fn is_same_time(original_ns: i64, copy_ns: i64) -> bool {
    let grain_ns = GRAINS_NS.into_iter().find(|grain| copy_ns % grain == 0).unwrap_or(1);
    (0..grain_ns).contains(&original_ns.saturating_sub(copy_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_as_exactly_as_they_are_kept() {
        let check = |original, copy, expected| assert_eq!(is_same_time(original, copy), expected);
        let original = 1_700_000_001_234_567_891;
        check(original, original, true);
        for rounded in [1_700_000_001_234_567_800, 1_700_000_001_230_000_000, 1_700_000_001_000_000_000] {
            check(original, rounded, true);
        }
        check(original, 1_700_000_000_000_000_000, true);
        check(original - 1, original, false);
        check(original + 1, original, false);
        check(original, 1_700_000_001_234_567_700, false);
        check(original, 1_700_000_001_220_000_000, false);
        check(original + 1_000_000_000, 1_700_000_001_000_000_000, false);
        check(original + 1_000_000_000, 1_700_000_000_000_000_000, false);
    }
}
