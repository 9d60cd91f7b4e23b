//! A directory that only the daemon can enter, made in the directory of another user. What the daemon
//! makes in it is complete before another user can see or change it.
//!
//! It has a reserved name, mode 0700 and a lock. The owner of the directory around it may rename it but
//! not enter it, and the daemon uses it by its descriptor alone. The daemon renames what it has made
//! from there to its final name. Both are in the same directory and so on the same filesystem.
//!
//! A daemon that is killed leaves the directory behind, without the lock; `sweep` finds and removes it.

use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::attributes;
use super::control::Control;
use super::failure::{Failure, PathRef};
use super::remove;
use crate::sys::dir::{self, FsType};
use crate::sys::stat::{Stat, stat, stat_at};
use crate::sys::{Errno, file};
use crate::types::RESERVED_PREFIX;

/// In a private directory: what will be renamed to its final name, or is to be removed.
pub const NEW: &CStr = c"rinotifyd.new";

/// In a private directory: the folder for what is replaced, see `replaced`.
pub const OLD: &CStr = c"rinotifyd.old";

/// In a private directory: the folder for the source of a move, see `parked`. Nothing of it is missing.
pub const SOURCE: &CStr = c"rinotifyd.source";

/// In a private directory: what a user has changed while it was being removed. It is never removed.
pub const KEPT: &CStr = c"rinotifyd.kept";

/// How often a random name may be taken already, or the new directory be swept by another daemon before
/// it is locked.
const TRIES: usize = 16;

/// See the module's documentation. Dropping it removes it with what it holds.
#[derive(Debug)]
pub struct PrivateDir<'a> {
    parent: BorrowedFd<'a>,
    name: CString,
    dir: OwnedFd,
}

impl<'a> PrivateDir<'a> {
    /// Makes one in `parent`; `path` is for failures. What is made in it inherits no access list of the
    /// directories around it.
    ///
    /// # Errors
    ///
    /// As `mkdir(2)` and `open(2)`.
    pub fn make(parent: BorrowedFd<'a>, path: PathRef<'_>) -> Result<Self, Failure> {
        let private = Self::make_inheriting(parent, path)?;
        attributes::drop_access_lists(private.dir(), path)?;
        Ok(private)
    }

    /// As [`PrivateDir::make`], but directories made in it inherit what they would inherit in `parent`.
    ///
    /// # Errors
    ///
    /// As [`PrivateDir::make`].
    pub fn make_inheriting(parent: BorrowedFd<'a>, path: PathRef<'_>) -> Result<Self, Failure> {
        let failed = |op| move |errno| Failure::new(op, path, errno);
        for _ in 0..TRIES {
            let name = random_name();
            match file::make_dir(parent, &name, 0o700) {
                Err(Errno::EEXIST) => continue,
                outcome => outcome.map_err(failed("mkdir"))?,
            }
            let opened = dir::open_child(parent, &name).map_err(|errno| ("open", errno));
            let opened = opened.and_then(|dir| match stat(dir.as_fd()) {
                Ok(found) => Ok((dir, found)),
                Err(errno) => Err(("stat", errno)),
            });
            let (dir, found) = match opened {
                // Another daemon has swept it.
                Err(("open", Errno::ENOENT)) => continue,
                Err((op, errno)) => {
                    let _ = file::remove_dir(parent, &name);
                    return Err(failed(op)(errno));
                }
                Ok(opened) => opened,
            };
            if !is_private(&found) && dir::fs_type(dir.as_fd()).is_ok_and(FsType::keeps_owners) {
                let reason = "another process replaces the daemon's directories by its own";
                return Err(Failure::refused("mkdir", path, reason));
            }
            // On a filesystem without locks, a second daemon could not see one either.
            let locked = matches!(file::try_lock(dir.as_fd()), Ok(true) | Err(_));
            let there = stat_at(parent, &name).is_ok_and(|now| now.id == found.id);
            if locked && there {
                return Ok(Self { parent, name, dir });
            }
        }
        Err(Failure::new("mkdir", path, Errno::EAGAIN))
    }

    /// The directory itself, for making [`NEW`] or [`OLD`] in it.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The directory's name in its parent.
    #[cfg(test)]
    #[must_use]
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// Removes what is in it, if there is anything.
    ///
    /// # Errors
    ///
    /// What cannot be removed; it stays.
    pub fn clear(&self) -> Result<(), Failure> {
        clear(self.dir())
    }
}

impl Drop for PrivateDir<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is left to a later sweep.
        let _ = self.clear();
        let _ = file::remove_dir(self.parent, &self.name);
    }
}

/// Removes what a private directory may hold.
///
/// # Errors
///
/// What cannot be removed.
pub fn clear(dir: BorrowedFd<'_>) -> Result<(), Failure> {
    let control = Control::default();
    for name in [NEW, OLD] {
        match stat_at(dir, name) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(Failure::new("stat", name.to_bytes(), errno)),
            Ok(found) => remove::remove(dir, name, found.kind, true, name.to_bytes().into(), &control)?,
        }
    }
    match file::remove_dir(dir, SOURCE) {
        // A source that is still in it stays.
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
        Err(errno) => Err(Failure::new("rmdir", SOURCE.to_bytes(), errno)),
    }
}

/// Whether a directory belongs to the daemon's user and no other user can enter it.
#[must_use]
pub fn is_private(found: &Stat) -> bool {
    found.uid == file::own_uid() && found.mode & 0o077 == 0
}

fn random_name() -> CString {
    let number = RandomState::new().hash_one(std::process::id());
    let text = format!("{}{number:016x}", String::from_utf8_lossy(RESERVED_PREFIX));
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::*;

    fn leftovers(path: &Path) -> Vec<PathBuf> {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn it_is_private_and_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let parent = File::open(scratch.path()).unwrap();
        let private = PrivateDir::make(parent.as_fd(), b"".into()).unwrap();
        let found = leftovers(scratch.path());
        assert_eq!(found.len(), 1);
        assert_eq!(fs::metadata(&found[0]).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(found[0].file_name().unwrap().as_encoded_bytes().starts_with(RESERVED_PREFIX));
        file::make_dir(private.dir(), NEW, 0o700).unwrap();
        fs::write(found[0].join("rinotifyd.new/deep"), "").unwrap();
        fs::write(found[0].join("rinotifyd.old"), "").unwrap();
        drop(private);
        assert_eq!(leftovers(scratch.path()), Vec::<PathBuf>::new());
    }
}
