//! Replacing a directory by another (`override`): the old one is put aside, and removed or put back once
//! it is known whether the new one stays.
//!
//! Aside is in a private directory, below [`OLD`], under its own name. Whoever finds it there after a
//! kill can thus tell what to do: it goes back if nothing, or an empty directory, has its name; if there
//! is something, that is the new one, and the old one is removed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::failure::Failure;
use super::place::Spot;
use super::private::{OLD, Private};
use crate::sys::Errno;
use crate::sys::dir::open_child;
use crate::sys::file::{self, Existing};

/// What was replaced, as long as it is not known whether that is to stay.
pub struct Aside<'a> {
    private: Private<'a>,
    folder: OwnedFd,
    name: &'a CStr,
}

impl<'a> Aside<'a> {
    /// Puts what is at `spot` aside; an empty directory has its name until something else does.
    ///
    /// # Errors
    ///
    /// As `rename(2)`; nothing has changed then.
    pub fn put(spot: &'a Spot, private: Private<'a>, path: &[u8]) -> Result<Self, Failure> {
        let failed = |op| move |errno| Failure::new(op, path, errno);
        file::make_dir(private.dir(), OLD, 0o700).map_err(failed("mkdir"))?;
        let folder = open_child(private.dir(), OLD).map_err(failed("open"))?;
        file::make_dir(folder.as_fd(), &spot.name, 0o700).map_err(failed("mkdir"))?;
        match file::rename(folder.as_fd(), &spot.name, spot.dir(), &spot.name, Existing::Exchange) {
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                // The name is free for a moment.
                file::remove_dir(folder.as_fd(), &spot.name).map_err(failed("rmdir"))?;
                file::rename(spot.dir(), &spot.name, folder.as_fd(), &spot.name, Existing::Replace)
            }
            outcome => outcome,
        }
        .map_err(failed("rename"))?;
        Ok(Self { private, folder, name: &spot.name })
    }

    /// Puts it back.
    pub fn put_back(self, spot: &Spot) {
        put_back(self.folder.as_fd(), self.name, spot.dir());
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// What cannot be removed; it stays aside until it can.
    pub fn remove(self) -> Result<(), Failure> {
        self.private.clear()
    }
}

/// Puts what is aside back, if nothing but an empty directory has its name.
pub fn put_back(folder: BorrowedFd<'_>, name: &CStr, dir: BorrowedFd<'_>) {
    // Over anything else it fails, and that is right.
    let _ = file::rename(folder, name, dir, name, Existing::Replace);
}
