//! Renaming to a name that nothing has yet.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use super::entry::EntryRef;
use crate::sys::Errno;
use crate::sys::file::{self, Existing};
use crate::sys::stat::{Kind, stat_at};

/// Renames something to a name that must be free.
///
/// Where the filesystem cannot check that in the rename (EINVAL), a file is linked and then unlinked,
/// which has the same effect. Where it has no links either, only a check beforehand protects an entry
/// that another process makes at the same moment.
///
/// # Errors
///
/// EEXIST, and what else `rename(2)` says.
pub fn rename_new(dir: BorrowedFd<'_>, name: &CStr, to: EntryRef<'_>) -> Result<(), Errno> {
    match file::rename(dir, name, to.dir, to.name, Existing::Keep) {
        Err(Errno::EINVAL | Errno::ENOSYS) => {}
        outcome => return outcome,
    }
    let found = stat_at(dir, name)?;
    match stat_at(to.dir, to.name) {
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
        Ok(_) => return Err(Errno::EEXIST),
    }
    if found.kind != Kind::Directory {
        match file::link(dir, name, to.dir, to.name) {
            Ok(()) => return file::remove(dir, name),
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EMLINK) => {}
            Err(errno) => return Err(errno),
        }
    }
    file::rename(dir, name, to.dir, to.name, Existing::Replace)
}
