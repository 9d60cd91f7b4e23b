//! What follows when a tree has been moved: the rule's owner and modes on everything in it, or, after
//! a copy to another filesystem, the end of the original.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Workshop;
use super::attributes;
use super::control::Control;
use super::failure::Failure;
use super::place::Spot;
use super::walk::{Chain, Walk, survey};
use crate::sys::Errno;
use crate::sys::dir::open_child;
use crate::sys::file;
use crate::sys::lease::{OpenForWriting, open_for_writing};
use crate::sys::resolve::{Purpose, within};
use crate::sys::stat::{FileId, Kind, Stat, stat, stat_at};

/// While its contents are given their attributes, a directory is closed to everybody.
const CLOSED: u32 = 0o700;

/// Opens a tree that is to be moved, once it is known that the rule's attributes can be set on all
/// of it.
///
/// # Errors
///
/// What [`attributes::check_links`] refuses; mount points; what cannot be listed.
pub fn prepare(shop: &Workshop<'_>, from: &Spot) -> Result<OwnedFd, Failure> {
    let path = shop.source_path();
    let failed = |errno| Failure::new("open", path, errno);
    let top = open_child(from.dir(), &from.name).map_err(failed)?;
    let again = open_child(top.as_fd(), c".").map_err(failed)?;
    survey(Walk::new(again, shop.verb, path, shop.control)?, |entry, dir, path| {
        let found = stat_at(dir, &entry.name).map_err(|errno| Failure::new("stat", path, errno))?;
        attributes::check_links(shop.rule, &found, shop.verb, path)?;
        Ok(Some(found))
    })?;
    Ok(top)
}

/// Closes a directory, so that nobody sees in it what is not finished.
///
/// # Errors
///
/// EPERM, EROFS.
pub fn close(held: &OwnedFd, path: &[u8]) -> Result<(), Failure> {
    // Its owner could open it again. Without the right to change that, it is ours anyway.
    match file::set_owner(held.as_fd(), Some(file::own_uid()), None) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(Failure::new("chown", path, errno)),
    }
    file::set_mode(held.as_fd(), CLOSED).map_err(|errno| Failure::new("chmod", path, errno))
}

/// Sets the rule's attributes on everything in a tree that has been moved, and last on its top, which
/// is as `was` said before it was closed.
///
/// # Errors
///
/// EPERM and the like; what others have put into the tree meanwhile is refused as before.
pub fn settle(shop: &Workshop<'_>, top: OwnedFd, held: BorrowedFd<'_>, was: &Stat) -> Result<(), Failure> {
    // Half way is no place to stop, also when the daemon ends.
    let control = Control::default();
    let mut walk = Walk::new(top, shop.verb, shop.target_path(), &control)?;
    // It was surveyed through another descriptor, but may be listed from anywhere.
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
            set(shop, held.as_fd(), &path)?;
        }
        if walk.depth() == 1 {
            return attributes::reopen(shop.rule, held, was, shop.target_path());
        }
        set(shop, walk.dir(), walk.dir_path())?;
        walk.ascend()?;
    }
}

fn set(shop: &Workshop<'_>, held: BorrowedFd<'_>, path: &[u8]) -> Result<(), Failure> {
    let found = stat(held).map_err(|errno| Failure::new("stat", path, errno))?;
    // This operation has the top already, so it must not wait.
    let Some(_taken) = shop.ground.busy.take(found.id) else {
        return Err(Failure::refused(shop.verb, path, "another operation works on it"));
    };
    attributes::check_links(shop.rule, &found, shop.verb, path)?;
    attributes::set(shop.rule, held, &found, path)
}

/// Removes a tree, which must still be `id`, as far as the copy at `spot` holds the same: what was added
/// or changed since it was copied stays. `times`: the copy has the times of the original.
///
/// # Errors
///
/// That something stays, or cannot be removed.
pub fn remove_copied(
    from: &Spot,
    id: FileId,
    spot: &Spot,
    times: bool,
    path: &[u8],
    control: &Control,
) -> Result<(), Failure> {
    let failed = |errno| Failure::new("open", path, errno);
    let top = open_child(from.dir(), &from.name).map_err(failed)?;
    if stat(top.as_fd()).map_err(failed)?.id != id {
        return Err(Failure::refused("delete", path, "it was replaced meanwhile"));
    }
    let copy = open_child(spot.dir(), &spot.name).map_err(failed)?;
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
                // What somebody writes from now on would be lost.
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

/// What filesystems round times down to: FAT, those that know seconds only, exFAT, UDF, NTFS and SMB.
const GRAINS_NS: [i64; 5] = [2_000_000_000, 1_000_000_000, 10_000_000, 1_000, 100];

/// Whether a copy is still what the original is.
fn is_same(original: &Stat, copy: &Stat, times: bool) -> bool {
    if original.kind != copy.kind {
        return false;
    }
    if !matches!(original.kind, Kind::File | Kind::Symlink) {
        return true;
    }
    original.size == copy.size && (!times || is_same_time(original.mtime_ns, copy.mtime_ns))
}

/// Whether a copy's time is the original's, as exact as its filesystem keeps it.
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
