//! One name in one directory: what every step of an operation works on.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// A name in a directory that is held open.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The directory.
    pub dir: Rc<OwnedFd>,
    /// The name, one component.
    pub name: CString,
}

impl Entry {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The same entry, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> EntryRef<'_> {
        EntryRef { dir: self.dir(), name: &self.name }
    }
}

/// A name in a directory that another value holds open.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    /// The directory.
    pub dir: BorrowedFd<'a>,
    /// The name, one component.
    pub name: &'a CStr,
}
