//! Removes a file, or a tree from its deepest directories up.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use super::control::Control;
use super::failure::{Failure, PathRef};
use super::walk::{Walk, survey};
use crate::sys::resolve::{Purpose, within};
use crate::sys::stat::Kind;
use crate::sys::{Errno, file};

/// How often other processes may add entries to a directory while it is being emptied.
const TRIES: usize = 16;

/// Removes `name` from `dir`; a directory that is not empty only if `rec`.
///
/// # Errors
///
/// ENOTEMPTY, EPERM and what else `unlink(2)` says; refuses trees that hold a mount point, before
/// anything is removed.
pub fn remove(
    dir: BorrowedFd<'_>,
    name: &CStr,
    kind: Kind,
    rec: bool,
    path: PathRef<'_>,
    control: &Control,
) -> Result<(), Failure> {
    if kind != Kind::Directory {
        return file::remove(dir, name).map_err(|errno| Failure::new("delete", path, errno));
    }
    match file::remove_dir(dir, name) {
        // POSIX allows both errors for a directory that is not empty.
        Err(Errno::ENOTEMPTY | Errno::EEXIST) if rec => {}
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
            return Err(Failure::refused("delete", path, "the directory is not empty (rec = yes allows it)"));
        }
        outcome => return outcome.map_err(|errno| Failure::new("delete", path, errno)),
    }
    check_removable(dir, name, path, control)?;
    for _ in 0..TRIES {
        empty(walk(dir, name, path, control)?)?;
        match file::remove_dir(dir, name) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            outcome => return outcome.map_err(|errno| Failure::new("delete", path, errno)),
        }
    }
    Err(Failure::refused("delete", path, "other processes keep adding entries to it"))
}

/// Whether a tree can be removed: whether it holds no mount point and can be listed.
///
/// # Errors
///
/// Why not.
pub fn check_removable(
    dir: BorrowedFd<'_>,
    name: &CStr,
    path: PathRef<'_>,
    control: &Control,
) -> Result<(), Failure> {
    survey(walk(dir, name, path, control)?, |_, _, _| Ok(None)).map(drop)
}

fn walk<'a>(
    dir: BorrowedFd<'_>,
    name: &CStr,
    path: PathRef<'_>,
    control: &'a Control,
) -> Result<Walk<'a>, Failure> {
    let top = match within(dir, name, Purpose::List) {
        Err(Errno::EXDEV) => {
            return Err(Failure::refused(
                "delete",
                path,
                "something is mounted there, and mount points are not crossed",
            ));
        }
        outcome => outcome.map_err(|errno| Failure::new("open", path, errno))?,
    };
    Walk::new(top, "delete", path, control)
}

/// Removes what is in a directory. A directory stays in which another process makes an entry after it was
/// listed.
fn empty(mut walk: Walk<'_>) -> Result<(), Failure> {
    loop {
        while let Some(entry) = walk.next_entry()? {
            if entry.kind == Kind::Directory {
                match walk.descend(&entry.name) {
                    Err(failure) if failure.is(Errno::ENOENT) => {}
                    outcome => outcome?,
                }
                continue;
            }
            match file::remove(walk.dir(), &entry.name) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Failure::new("delete", walk.path_of(&entry.name), errno)),
            }
        }
        let Some(name) = walk.ascend()? else { return Ok(()) };
        match file::remove_dir(walk.dir(), &name) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(errno) => return Err(Failure::new("delete", walk.path_of(&name), errno)),
        }
    }
}
