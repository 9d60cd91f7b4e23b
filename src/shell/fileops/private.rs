//! A directory of the daemon's own within somebody else's: what is made in it is complete before
//! anybody else can see it or touch it.
//!
//! It has a reserved name, mode 0700 and a lock. Whoever owns the directory around it may rename it,
//! but not enter it, and it is used by its descriptor alone. What it holds is renamed out of it into
//! place. It is on the same filesystem as the place, because it is in the same directory.
//!
//! A daemon that was killed leaves it behind, without the lock: the next operation in that directory
//! finds and removes it. What that may remove is bounded: a directory of the daemon's user, of mode
//! 0700 (or what the filesystem makes of both), with a reserved name, that holds nothing but the two
//! names below.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use super::attributes;
use super::control::Control;
use super::failure::Failure;
use super::remove;
use super::replace;
use super::walk::Walk;
use crate::sys::dir::{self, FsType, LIST_BUFFER_SIZE};
use crate::sys::stat::{FileId, Kind, Stat, stat, stat_at};
use crate::sys::{Errno, file};
use crate::types::RESERVED_PREFIX;

/// What will be put in place.
pub const NEW: &CStr = c"rinotifyd.new";
/// Holds what was replaced, see `replace`.
pub const OLD: &CStr = c"rinotifyd.old";

/// So often a name may be taken, or the directory be swept away by another daemon before it is
/// locked.
const TRIES: usize = 16;

/// More directories than this are not remembered as swept: they are then swept again.
const SWEPT_MAX: usize = 4096;

/// Where leftovers were looked for since the start.
#[derive(Debug, Default)]
pub struct Swept(Mutex<HashSet<FileId>>);

/// See the module's documentation. Dropping it removes it with what it holds.
#[derive(Debug)]
pub struct Private<'a> {
    parent: BorrowedFd<'a>,
    name: CString,
    dir: OwnedFd,
}

impl<'a> Private<'a> {
    /// Makes one in `parent`, whose path is for failures. What is made in it inherits no access list of
    /// the directories around.
    ///
    /// # Errors
    ///
    /// As `mkdir(2)` and `open(2)`.
    pub fn make(parent: BorrowedFd<'a>, path: &[u8]) -> Result<Self, Failure> {
        let private = Self::make_inheriting(parent, path)?;
        attributes::drop_access_lists(private.dir(), path)?;
        Ok(private)
    }

    /// As [`Private::make`], but directories that are made in it are as if they had been made in
    /// `parent`.
    ///
    /// # Errors
    ///
    /// As [`Private::make`].
    pub fn make_inheriting(parent: BorrowedFd<'a>, path: &[u8]) -> Result<Self, Failure> {
        let failed = |op| move |errno| Failure::new(op, path, errno);
        for _ in 0..TRIES {
            let name = random_name();
            match file::make_dir(parent, &name, 0o700) {
                Err(Errno::EEXIST) => continue,
                outcome => outcome.map_err(failed("mkdir"))?,
            }
            let dir = match dir::open_child(parent, &name) {
                // Another daemon took it for a leftover.
                Err(Errno::ENOENT) => continue,
                outcome => outcome.map_err(failed("open"))?,
            };
            let found = stat(dir.as_fd()).map_err(failed("stat"))?;
            if !is_private(&found) && dir::fs_type(dir.as_fd()).is_ok_and(FsType::keeps_owners) {
                let reason = "somebody else puts directories in the place of ours";
                return Err(Failure::refused("mkdir", path, reason));
            }
            // A filesystem without locks has no second daemon that could see one.
            let locked = matches!(file::try_lock(dir.as_fd()), Ok(true) | Err(_));
            let there = stat_at(parent, &name).is_ok_and(|now| now.id == found.id);
            if locked && there {
                return Ok(Self { parent, name, dir });
            }
        }
        Err(Failure::new("mkdir", path, Errno::EAGAIN))
    }

    /// To make things in, as [`NEW`] or [`OLD`].
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Removes what is in it, if there is anything.
    ///
    /// # Errors
    ///
    /// What cannot be removed; it stays until it can.
    pub fn clear(&self) -> Result<(), Failure> {
        clear(self.dir())
    }
}

impl Drop for Private<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is a leftover.
        let _ = self.clear();
        let _ = file::remove_dir(self.parent, &self.name);
    }
}

/// Removes what a private directory may hold.
fn clear(dir: BorrowedFd<'_>) -> Result<(), Failure> {
    let control = Control::default();
    for name in [NEW, OLD] {
        match stat_at(dir, name) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(Failure::new("stat", name.to_bytes(), errno)),
            Ok(found) => remove::remove(dir, name, found.kind, true, name.to_bytes(), &control)?,
        }
    }
    Ok(())
}

fn random_name() -> CString {
    let number = RandomState::new().hash_one(std::process::id());
    let text = format!("{}{number:016x}", String::from_utf8_lossy(RESERVED_PREFIX));
    CString::new(text).unwrap_or_default()
}

impl Swept {
    /// Removes leftovers in a directory, once. What cannot be removed is nobody's concern but the next
    /// daemon's.
    pub fn sweep(&self, parent: BorrowedFd<'_>) {
        let Ok(id) = dir::identity(parent) else { return };
        {
            // A thread that panicked has ended the process.
            let mut swept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if swept.len() >= SWEPT_MAX {
                swept.clear();
            }
            if !swept.insert(id) {
                return;
            }
        }
        let Ok(listing) = dir::open_child(parent, c".") else { return };
        let mut names = Vec::new();
        let mut buffer = vec![0; LIST_BUFFER_SIZE];
        let outcome = dir::list(listing.as_fd(), &mut buffer, |name, kind| {
            if kind == Kind::Directory && name.starts_with(RESERVED_PREFIX) {
                names.extend(CString::new(name));
            }
        });
        if outcome.is_ok() {
            names.iter().for_each(|name| remove_leftover(parent, name));
        }
    }
}

fn remove_leftover(parent: BorrowedFd<'_>, name: &CStr) {
    let Ok(dir) = dir::open_child(parent, name) else { return };
    let ours = stat(dir.as_fd()).is_ok_and(|found| is_private(&found) || is_like_new(parent, &found));
    if ours && file::try_lock(dir.as_fd()) == Ok(true) && holds_only_ours(&dir) {
        put_back_all(parent, dir.as_fd());
        let _ = clear(dir.as_fd());
        let _ = file::remove_dir(parent, name);
    }
}

fn is_private(found: &Stat) -> bool {
    found.uid == file::own_uid() && found.mode & 0o077 == 0
}

/// Whether a directory that is made here gets the same owner and mode, as on FAT, which gives all the
/// same.
fn is_like_new(parent: BorrowedFd<'_>, found: &Stat) -> bool {
    let of = |stat: &Stat| (stat.uid, stat.mode & 0o777);
    let new = Private::make_inheriting(parent, b"").ok().and_then(|new| stat(new.dir()).ok());
    new.is_some_and(|new| of(&new) == of(found))
}

/// Somebody was replacing these when the daemon was killed.
fn put_back_all(parent: BorrowedFd<'_>, dir: BorrowedFd<'_>) {
    let Ok(folder) = dir::open_child(dir, OLD) else { return };
    let control = Control::default();
    let Ok(listing) = dir::open_child(folder.as_fd(), c".") else { return };
    let Ok(mut walk) = Walk::new(listing, "sweep", b"", &control) else { return };
    while let Ok(Some(entry)) = walk.next_entry() {
        replace::put_back(folder.as_fd(), &entry.name, parent);
    }
}

fn holds_only_ours(dir: &OwnedFd) -> bool {
    let control = Control::default();
    let Ok(dir) = dir.try_clone() else { return false };
    let Ok(mut walk) = Walk::new(dir, "sweep", b"", &control) else { return false };
    loop {
        match walk.next_entry() {
            Ok(Some(entry)) if *entry.name == *NEW || *entry.name == *OLD => {}
            Ok(None) => return true,
            _ => return false,
        }
    }
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
        let private = Private::make(parent.as_fd(), b"").unwrap();
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

    #[test]
    fn what_a_killed_daemon_left_is_swept_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let make = |name: &str, inside: &str, mode| {
            let path = scratch.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(inside), "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let left = make(".rinotifyd-dead", "rinotifyd.new", 0o700);
        let open = make(".rinotifyd-open", "rinotifyd.new", 0o755);
        let other = make(".rinotifyd-other", "precious", 0o700);
        let unrelated = make("unrelated", "rinotifyd.new", 0o700);
        let parent = File::open(scratch.path()).unwrap();
        let swept = Swept::default();
        let alive = Private::make(parent.as_fd(), b"").unwrap();
        swept.sweep(parent.as_fd());
        assert!(!left.exists());
        assert!(open.exists() && other.exists() && unrelated.exists());
        // Another daemon leaves alone what is in use.
        Swept::default().sweep(parent.as_fd());
        assert!(stat_at(parent.as_fd(), &alive.name).is_ok());
        // Once is enough.
        fs::create_dir(&left).unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o700)).unwrap();
        swept.sweep(parent.as_fd());
        assert!(left.exists());
    }
}
