//! Replacing a directory by another (`override`): the old one is set aside in a private directory, and is
//! removed, or renamed back, once it is known whether the new one stays.
//!
//! It is set aside below [`OLD`] under its own name. After a kill, `sweep` finds it there and can tell
//! what to do: if its name is free, or belongs to an empty directory, the old one is renamed back; if
//! something else has the name, that is the new one, and the old one is removed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::entry::EntryRef;
use super::failure::{Failure, PathRef};
use super::private::{OLD, PrivateDir};
use crate::sys::Errno;
use crate::sys::dir::open_child;
use crate::sys::file::{self, Existing};

/// A directory that was set aside.
pub struct Replaced<'a> {
    private: PrivateDir<'a>,
    folder: OwnedFd,
    entry: EntryRef<'a>,
}

impl<'a> Replaced<'a> {
    /// Sets aside what `entry` names, in a private directory beside it. An empty directory has the name
    /// from then on.
    ///
    /// # Errors
    ///
    /// As `rename(2)`; nothing has changed then.
    pub fn set_aside(entry: EntryRef<'a>, path: PathRef<'_>) -> Result<Self, Failure> {
        let private = PrivateDir::make(entry.dir, path)?;
        let failed = |op| move |errno| Failure::new(op, path, errno);
        file::make_dir(private.dir(), OLD, 0o700).map_err(failed("mkdir"))?;
        let folder = open_child(private.dir(), OLD).map_err(failed("open"))?;
        file::make_dir(folder.as_fd(), entry.name, 0o700).map_err(failed("mkdir"))?;
        match file::rename(folder.as_fd(), entry.name, entry.dir, entry.name, Existing::Exchange) {
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                // Nothing has the name for a moment.
                file::remove_dir(folder.as_fd(), entry.name).map_err(failed("rmdir"))?;
                file::rename(entry.dir, entry.name, folder.as_fd(), entry.name, Existing::Replace)
            }
            outcome => outcome,
        }
        .map_err(failed("rename"))?;
        Ok(Self { private, folder, entry })
    }

    /// Renames it back.
    pub fn put_back(self) {
        put_back(self.folder.as_fd(), self.entry.name, self.entry.dir);
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// What cannot be removed. It stays in the private directory, for the next sweep.
    pub fn remove(self) -> Result<(), Failure> {
        self.private.clear()
    }
}

/// Renames a directory back from `folder`, if its name is free or belongs to an empty directory.
pub fn put_back(folder: BorrowedFd<'_>, name: &CStr, dir: BorrowedFd<'_>) {
    // rename(2) fails if anything else has the name; then the new directory stays.
    let _ = file::rename(folder, name, dir, name, Existing::Replace);
}
