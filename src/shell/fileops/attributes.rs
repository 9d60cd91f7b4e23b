//! Owner, mode, times, extended attributes: what a rule sets, and what a copy keeps.
//!
//! Everything is set on a descriptor, in an order that at no moment gives more rights than in the end:
//! the owner first, which clears set-id bits, then access lists, then the mode, then the times.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use super::failure::{Failure, PathRef};
use crate::config::Rule;
use crate::sys::lease::{self, OpenForWriting};
use crate::sys::origin::Origin;
use crate::sys::stat::{Kind, Stat, stat};
use crate::sys::{Errno, file, xattr};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// What the destination's filesystem could not keep; the log says it at the end.
pub type NotKept = BTreeSet<&'static str>;

/// Whether the rule sets anything on what it moves or copies.
#[must_use]
pub fn are_set_by(rule: &Rule) -> bool {
    rule.uid.is_some() || rule.gid.is_some() || rule.filemode.is_some() || rule.dirmode.is_some()
}

/// The mode that the rule gives to things of this kind.
fn mode_of(rule: &Rule, kind: Kind) -> Option<u32> {
    match kind {
        Kind::Directory => rule.dirmode,
        Kind::Symlink => None,
        Kind::File | Kind::Fifo | Kind::Other => rule.filemode,
    }
}

/// A file with a second name may belong to another user: a user who may write to a directory can link a
/// file there that they may not read. The rule must neither change such a file nor disclose it.
///
/// # Errors
///
/// Refuses such a file, unless the rule sets nothing or says that it may.
pub fn check_links(rule: &Rule, found: &Stat, op: &'static str, path: PathRef<'_>) -> Result<(), Failure> {
    if found.kind == Kind::Directory || found.links <= 1 || rule.hardlinks || !are_set_by(rule) {
        return Ok(());
    }
    let reason = "it has more than one name (hard link), and the rule sets owner or mode: \
                  that may be another user's file (hardlinks = yes allows it)";
    Err(Failure::refused(op, path, reason))
}

/// Sets what the rule says on an inode that is moved, not copied. `held` may be an `O_PATH`
/// descriptor.
///
/// # Errors
///
/// EPERM, EROFS and the like.
pub fn set(rule: &Rule, held: BorrowedFd<'_>, found: &Stat, path: PathRef<'_>) -> Result<(), Failure> {
    if sets(rule, found.kind) {
        drop_access_lists(held, path)?;
    }
    let owner_changes =
        rule.uid.is_some_and(|uid| uid != found.uid) || rule.gid.is_some_and(|gid| gid != found.gid);
    if owner_changes {
        file::set_owner(held, rule.uid, rule.gid).map_err(|errno| Failure::new("chown", path, errno))?;
    }
    let kept = if owner_changes && found.mode & SET_ID != 0 { Some(found.mode & !SET_ID) } else { None };
    match mode_of(rule, found.kind).or(kept) {
        Some(mode) if found.kind != Kind::Symlink => {
            file::set_mode(held, mode).map_err(|errno| Failure::new("chmod", path, errno))
        }
        _ => Ok(()),
    }
}

/// Whether a process has a file open for writing to which [`set`] has just given another owner. The former
/// owner would go on writing to it through that descriptor; opening it anew is up to the new mode.
///
/// # Errors
///
/// Refuses such a file.
pub fn check_descriptors(
    rule: &Rule,
    held: BorrowedFd<'_>,
    was: &Stat,
    op: &'static str,
    path: PathRef<'_>,
) -> Result<(), Failure> {
    let changes = rule.uid.is_some_and(|uid| uid != was.uid);
    if changes && was.kind == Kind::File && lease::of_file(held, was) == Ok(OpenForWriting::Yes) {
        let reason = "a process has it open for writing, and could write to it when it has another owner";
        return Err(Failure::refused(op, path, reason));
    }
    Ok(())
}

/// Undoes [`set`], except for set-id bits and access lists: another process may have changed the file by
/// now. An error is ignored, since a daemon that could not restore could hardly set.
pub fn restore(held: BorrowedFd<'_>, was: &Stat) {
    let Ok(now) = stat(held) else { return };
    if (now.uid, now.gid) != (was.uid, was.gid) {
        let _ = file::set_owner(held, Some(was.uid), Some(was.gid));
    }
    if was.kind != Kind::Symlink && now.mode != was.mode {
        let _ = file::set_mode(held, was.mode & !SET_ID);
    }
}

/// Whether what is held has the owner and mode that the rule sets.
#[must_use]
pub fn is_set(rule: &Rule, held: BorrowedFd<'_>) -> bool {
    stat(held).is_ok_and(|now| {
        rule.uid.is_none_or(|uid| uid == now.uid)
            && rule.gid.is_none_or(|gid| gid == now.gid)
            && mode_of(rule, now.kind).is_none_or(|mode| mode == now.mode)
    })
}

/// Whether the rule sets owner or mode of this kind. Then the source's access lists are left out, which
/// would give other rights.
fn sets(rule: &Rule, kind: Kind) -> bool {
    kind != Kind::Symlink && (rule.uid.is_some() || rule.gid.is_some() || mode_of(rule, kind).is_some())
}

/// Access lists, in the form that `xattr(7)` gives them.
const ACCESS_LISTS: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

/// Removes access lists from what is open or held.
///
/// # Errors
///
/// EPERM, EROFS and the like; not that there are none, or that the filesystem has none.
pub fn drop_access_lists(held: BorrowedFd<'_>, path: PathRef<'_>) -> Result<(), Failure> {
    for name in ACCESS_LISTS {
        match xattr::remove(held, name) {
            // EACCES: only a directory has a default list.
            Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EACCES) => {}
            Err(errno) => return Err(Failure::new("removexattr", path, errno)),
        }
    }
    Ok(())
}

/// What a copy gets its attributes from.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Open for reading, unless it is a FIFO or a symbolic link.
    pub open: Option<BorrowedFd<'a>>,
    /// As it was when the copy began.
    pub found: &'a Stat,
    /// What of its owner and rights is to be believed.
    pub origin: Origin,
}

impl Original<'_> {
    /// The owner that a copy keeps.
    fn owner(&self) -> (u32, u32) {
        self.origin.owner.unwrap_or((self.found.uid, self.found.gid))
    }
}

/// Gives a copy what the rule says, and for all else what the original has. `copy` is open, or held if
/// it is a FIFO.
///
/// # Errors
///
/// EPERM for what the rule says; ENOSPC, EDQUOT for attributes that do not fit.
pub fn give(
    rule: &Rule,
    from: Original<'_>,
    copy: BorrowedFd<'_>,
    path: PathRef<'_>,
    not_kept: &mut NotKept,
) -> Result<(), Failure> {
    let now = stat(copy).map_err(|errno| Failure::new("stat", path, errno))?;
    let kept = from.owner();
    let (uid, gid) = (rule.uid.unwrap_or(kept.0), rule.gid.unwrap_or(kept.1));
    if rule.uid.is_none() && kept.0 != from.found.uid || rule.gid.is_none() && kept.1 != from.found.gid {
        not_kept.insert("owner");
    }
    if (uid, gid) != (now.uid, now.gid) {
        give_owner(rule, copy, (uid, gid), path, not_kept)?;
    }
    let owned = stat(copy).map_err(|errno| Failure::new("stat", path, errno))?;
    let trusted = (owned.uid, owned.gid) == (from.found.uid, from.found.gid) && from.origin.set_id;
    if let Some(open) = from.open {
        let lists = !sets(rule, from.found.kind);
        give_xattrs(open, copy, (trusted, lists), path, not_kept)?;
    }
    let kept = if trusted { from.found.mode } else { from.found.mode & !SET_ID };
    if from.found.kind != Kind::Symlink {
        let mode = mode_of(rule, from.found.kind).unwrap_or(kept);
        match file::set_mode(copy, mode) {
            Err(Errno::EPERM | Errno::EOPNOTSUPP) if mode_of(rule, from.found.kind).is_none() => {
                not_kept.insert("mode");
            }
            outcome => outcome.map_err(|errno| Failure::new("chmod", path, errno).of_copy())?,
        }
    }
    Ok(())
}

/// Sets the owner. An owner that the rule names must be set; one that is kept is set where possible.
fn give_owner(
    rule: &Rule,
    copy: BorrowedFd<'_>,
    (uid, gid): (u32, u32),
    path: PathRef<'_>,
    not_kept: &mut NotKept,
) -> Result<(), Failure> {
    match file::set_owner(copy, Some(uid), Some(gid)) {
        Ok(()) => return Ok(()),
        Err(errno) if rule.uid.is_some() && rule.gid.is_some() => {
            return Err(Failure::new("chown", path, errno).of_copy());
        }
        Err(_) => {}
    }
    // One of the two alone may be allowed, as a user's own groups are.
    for (own, by_rule) in [((Some(uid), None), rule.uid.is_some()), ((None, Some(gid)), rule.gid.is_some())] {
        match file::set_owner(copy, own.0, own.1) {
            Err(errno) if by_rule => return Err(Failure::new("chown", path, errno).of_copy()),
            Err(_) => {
                not_kept.insert("owner");
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

fn give_xattrs(
    from: BorrowedFd<'_>,
    copy: BorrowedFd<'_>,
    (trusted, lists): (bool, bool),
    path: PathRef<'_>,
    not_kept: &mut NotKept,
) -> Result<(), Failure> {
    let names = match xattr::list(from) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(()),
        outcome => outcome.map_err(|errno| Failure::new("listxattr", path, errno))?,
    };
    for name in names.iter().filter(|name| is_kept(name, trusted, lists)) {
        let value = match xattr::get(from, name) {
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => continue,
            outcome => outcome.map_err(|errno| Failure::new("getxattr", path, errno))?,
        };
        match xattr::set(copy, name, &value) {
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EIO)) => {
                return Err(Failure::new("setxattr", path, errno).of_copy());
            }
            // A security module labels a new file itself.
            Err(_) if name.to_bytes().starts_with(b"security.") => {}
            Err(_) if name.to_bytes().starts_with(b"system.") => {
                not_kept.insert("access lists");
            }
            Err(_) => {
                not_kept.insert("extended attributes");
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Whether a copy keeps an attribute. `security.*` gives rights (capabilities, labels), and is kept only
/// with a trusted owner. Access lists are kept unless the rule sets rights. The attributes of an overlay
/// would break another overlay.
fn is_kept(name: &CStr, trusted: bool, lists: bool) -> bool {
    let is_list = ACCESS_LISTS.contains(&name);
    let name = name.to_bytes();
    (trusted || !name.starts_with(b"security."))
        && (lists || !is_list)
        && !name.starts_with(b"trusted.overlay.")
}

/// Gives a copy the times of its original. This is the last change to the copy.
///
/// # Errors
///
/// EROFS and the like. A time that the filesystem cannot store is only noted.
pub fn give_times(
    copy: BorrowedFd<'_>,
    found: &Stat,
    path: PathRef<'_>,
    not_kept: &mut NotKept,
) -> Result<(), Failure> {
    match file::set_open_times(copy, found.atime_ns, found.mtime_ns) {
        Err(Errno::EPERM | Errno::EINVAL) => {
            not_kept.insert("times");
            Ok(())
        }
        outcome => outcome.map_err(|errno| Failure::new("utimensat", path, errno).of_copy()),
    }
}

/// Gives a directory that was closed for a while what the rule says, and for all else what it was.
///
/// # Errors
///
/// EPERM, EROFS and the like.
pub fn reopen(rule: &Rule, held: BorrowedFd<'_>, was: &Stat, path: PathRef<'_>) -> Result<(), Failure> {
    if sets(rule, was.kind) {
        drop_access_lists(held, path)?;
    }
    let (uid, gid) = (rule.uid.unwrap_or(was.uid), rule.gid.unwrap_or(was.gid));
    let now = stat(held).map_err(|errno| Failure::new("stat", path, errno))?;
    if (now.uid, now.gid) != (uid, gid) {
        file::set_owner(held, Some(uid), Some(gid)).map_err(|errno| Failure::new("chown", path, errno))?;
    }
    let kept = if (uid, gid) == (was.uid, was.gid) { was.mode } else { was.mode & !SET_ID };
    file::set_mode(held, mode_of(rule, was.kind).unwrap_or(kept))
        .map_err(|errno| Failure::new("chmod", path, errno))
}
