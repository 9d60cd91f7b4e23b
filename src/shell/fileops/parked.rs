//! A tree that was copied to another filesystem, on its way out: it loses its name by one rename before
//! anything of it is removed. So no event and no retry ever takes a half removed tree for a whole one.
//!
//! The tree is renamed into a private directory beside it, below [`SOURCE`]. While it is there nothing of
//! it is missing: an operation that fails, and a sweep after a kill, rename it back. When its copy is in
//! place it becomes [`NEW`] by a second rename: then it is removed, by a sweep too.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use super::control::Control;
use super::entry::EntryRef;
use super::failure::{Failure, PathRef};
use super::private::{KEPT, NEW, PrivateDir, SOURCE};
use super::rename_new::rename_new;
use super::walk::Walk;
use crate::sys::Errno;
use crate::sys::dir::open_child;
use crate::sys::file::{self, Existing};
use crate::sys::stat::{FileId, Kind, Stat, stat, stat_at};

/// A tree that has no name of its own any more, or will have none soon.
pub struct Parked<'a> {
    /// The name that it had.
    entry: EntryRef<'a>,
    /// Where it is. `None`: the filesystem had no room for a directory, and the tree has its name still.
    private: Option<(PrivateDir<'a>, OwnedFd)>,
    is_committed: bool,
    /// The clock of the filesystem when the tree was parked: what has a later ctime was changed since.
    parked_at_ns: i64,
}

impl<'a> Parked<'a> {
    /// Takes the name away from a tree, which must be `id`.
    ///
    /// # Errors
    ///
    /// As `mkdir(2)` and `rename(2)`; the tree has its name then.
    pub fn park(entry: EntryRef<'a>, id: FileId, path: PathRef<'_>) -> Result<Self, Failure> {
        let failed = |op| move |errno| Failure::new(op, path, errno);
        let private = match PrivateDir::make(entry.dir, path) {
            // The move may well be there to make room, so it must not need any.
            Err(failure) if failure.is(Errno::ENOSPC) || failure.is(Errno::EDQUOT) => {
                return Self::without_room(entry, id, path);
            }
            outcome => outcome?,
        };
        file::make_dir(private.dir(), SOURCE, 0o700).map_err(failed("mkdir"))?;
        let folder = open_child(private.dir(), SOURCE).map_err(failed("open"))?;
        file::rename(entry.dir, entry.name, folder.as_fd(), entry.name, Existing::Replace)
            .map_err(failed("rename"))?;
        let parked_at_ns = stat(folder.as_fd()).map_or(i64::MAX, |found| found.ctime_ns);
        let private = Some((private, folder));
        let parked = Self { entry, private, is_committed: false, parked_at_ns };
        if parked.is_it(id) {
            return Ok(parked);
        }
        parked.put_back();
        Err(Failure::refused("delete", path, "it was replaced meanwhile"))
    }

    fn without_room(entry: EntryRef<'a>, id: FileId, path: PathRef<'_>) -> Result<Self, Failure> {
        let failed = |op| move |errno| Failure::new(op, path, errno);
        let top = open_child(entry.dir, entry.name).map_err(failed("open"))?;
        // Setting the mode to what it is changes nothing but ctime.
        let found = stat(top.as_fd()).map_err(failed("stat"))?;
        file::set_mode(top.as_fd(), found.mode).map_err(failed("chmod"))?;
        let parked_at_ns = stat(top.as_fd()).map_err(failed("stat"))?.ctime_ns;
        if found.id != id {
            return Err(Failure::refused("delete", path, "it was replaced meanwhile"));
        }
        Ok(Self { entry, private: None, is_committed: false, parked_at_ns })
    }

    fn is_it(&self, id: FileId) -> bool {
        let at = self.at();
        stat_at(at.dir, at.name).is_ok_and(|found| found.id == id)
    }

    /// Where the tree is.
    #[must_use]
    pub fn at(&self) -> EntryRef<'_> {
        match &self.private {
            Some((private, _)) if self.is_committed => EntryRef { dir: private.dir(), name: NEW },
            Some((_, folder)) => EntryRef { dir: folder.as_fd(), name: self.entry.name },
            None => self.entry,
        }
    }

    /// Gives the tree its name again. If another process has made something of that name, the tree stays in
    /// the private directory, and each daemon that is started tries again.
    pub fn put_back(self) {
        if let Some((_, folder)) = &self.private {
            let _ = rename_new(folder.as_fd(), self.entry.name, self.entry);
        }
    }

    /// Removes the tree: its copy is in place. What was changed since it was parked is kept.
    ///
    /// # Errors
    ///
    /// That something stays, and where.
    pub fn remove(mut self, path: PathRef<'_>) -> Result<(), Failure> {
        if let Some((private, folder)) = &self.private {
            file::rename(folder.as_fd(), self.entry.name, private.dir(), NEW, Existing::Replace)
                .map_err(|errno| Failure::new("rename", path, errno))?;
            self.is_committed = true;
        }
        let outcome = self.remove_unchanged(path);
        if outcome.as_ref().map_or(true, |left| left.as_ref().is_some_and(|left| left.is_changed))
            && let Some((private, _)) = &self.private
        {
            // Under this name no sweep removes it.
            let _ = file::rename(private.dir(), NEW, private.dir(), KEPT, Existing::Replace);
        }
        if let Some(Left { path, is_changed }) = outcome? {
            return Err(Failure::refused("delete", &path, reason(is_changed, self.private.is_some())));
        }
        let at = self.at();
        match file::remove_dir(at.dir, at.name) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Failure::new("delete", path, errno)),
        }
    }

    /// Whether a file was changed since the tree was parked. Removing one name of a file changes the ctime
    /// of its other names: `unlinked` has the files to which that happened.
    fn is_changed(&self, found: &Stat, unlinked: &HashSet<FileId>) -> bool {
        let is_ctime_ours = unlinked.contains(&found.id) || unlinked.len() >= UNLINKED_MAX;
        found.ctime_ns > self.parked_at_ns && !is_ctime_ours
    }

    /// Removes all that was not changed since the tree was parked; says what is left.
    fn remove_unchanged(&self, path: PathRef<'_>) -> Result<Option<Left>, Failure> {
        // The daemon's shutdown does not stop this half way.
        let control = Control::default();
        let at = self.at();
        let top = open_child(at.dir, at.name).map_err(|errno| Failure::new("open", path, errno))?;
        let mut walk = Walk::new(top, "delete", path, &control)?;
        let mut unlinked = HashSet::new();
        let mut left: Option<Left> = None;
        let mut leave = |path: PathRef<'_>, is_changed: bool| {
            let left = left.get_or_insert_with(|| Left { path: path.to_vec(), is_changed });
            left.is_changed |= is_changed;
        };
        loop {
            while let Some(entry) = walk.next_entry()? {
                if entry.kind == Kind::Directory {
                    walk.descend(&entry.name)?;
                    continue;
                }
                let name = &*entry.name;
                match stat_at(walk.dir(), name) {
                    Ok(found) if self.is_changed(&found, &unlinked) => leave(walk.path_of(name), true),
                    Ok(found) => match file::remove(walk.dir(), name) {
                        Ok(()) if found.links > 1 && unlinked.len() < UNLINKED_MAX => {
                            unlinked.insert(found.id);
                        }
                        Ok(()) | Err(Errno::ENOENT) => {}
                        Err(_) => leave(walk.path_of(name), false),
                    },
                    Err(Errno::ENOENT) => {}
                    Err(_) => leave(walk.path_of(name), false),
                }
            }
            let Some(name) = walk.ascend()? else { return Ok(left) };
            match file::remove_dir(walk.dir(), &name) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(_) => leave(walk.path_of(&name), false),
            }
        }
    }
}

/// How many files with several names are remembered while a tree is removed.
const UNLINKED_MAX: usize = 100_000;

/// What could not be removed of a tree.
struct Left {
    /// The first of it.
    path: Vec<u8>,
    /// Something of it was changed after it was copied.
    is_changed: bool,
}

fn reason(is_changed: bool, is_parked: bool) -> &'static str {
    match (is_changed, is_parked) {
        (true, true) => {
            "it was changed meanwhile, and is kept in the directory .rinotifyd-* beside the source"
        }
        (true, false) => "it was changed meanwhile, and stays",
        (false, true) => "it cannot be removed, and stays in the directory .rinotifyd-* beside the source",
        (false, false) => "it cannot be removed, and stays",
    }
}
