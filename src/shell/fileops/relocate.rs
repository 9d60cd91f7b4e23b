//! Moving and copying one thing to its place, and deleting: the three operations, step by step.
//!
//! Invariants, at every moment and so also when the daemon is killed: under the destination's name
//! there is what was there before or all of the new; the source is removed only when the destination
//! is complete and on the disk.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Workshop;
use super::attributes;
use super::copy::{Copy, To};
use super::failure::Failure;
use super::place::{Spot, Target};
use super::private::{NEW, Private};
use super::remove::{check_removable, remove};
use super::replace::Aside;
use super::settle;
use crate::sys::Errno;
use crate::sys::dir::open_child;
use crate::sys::file::{self, Existing};
use crate::sys::lease::{OpenForWriting, open_for_writing};
use crate::sys::stat::{Kind, Stat, stat, stat_at};

const REPLACED: &str = "it was replaced meanwhile";
const IN_THE_WAY: &str = "a directory is in the way, and only files are replaced by files";

impl Workshop<'_> {
    /// Copies the source to its destination.
    ///
    /// # Errors
    ///
    /// Why not; nothing has changed then.
    pub(super) fn copy(&mut self, from: &Spot, target: &Target) -> Result<(), Failure> {
        let found = self.source(from)?;
        self.check_free(&target.spot, &found)?;
        let private = Private::make(target.spot.dir(), self.target_path())?;
        self.copy_into(from, &private)?;
        self.put(private, &found, &target.spot)?;
        self.sync_dir(&target.spot)
    }

    /// Moves the source to its destination.
    ///
    /// # Errors
    ///
    /// Why not; the source is where it was then.
    pub(super) fn relocate(&mut self, from: &Spot, target: &Target) -> Result<(), Failure> {
        if attributes::are_set_by(self.rule) || self.rule.replace {
            let found = self.source(from)?;
            self.check_free(&target.spot, &found)?;
            return self.rename_and_set(from, &found, target);
        }
        match rename_new(from.dir(), &from.name, &target.spot) {
            Err(Errno::EXDEV) => {
                let found = self.source(from)?;
                self.check_free(&target.spot, &found)?;
                self.move_across(from, &found, target)
            }
            outcome => outcome.map_err(|errno| self.failed_move(errno)),
        }
    }

    /// Deletes the source.
    ///
    /// # Errors
    ///
    /// Why not, or not all of it.
    pub(super) fn delete(&mut self, from: &Spot) -> Result<(), Failure> {
        let found = self.source(from)?;
        remove(from.dir(), &from.name, found.kind, self.rule.rec, self.source_path(), self.control)
    }

    pub(super) fn source(&self, from: &Spot) -> Result<Stat, Failure> {
        stat_at(from.dir(), &from.name).map_err(|errno| Failure::new(self.verb, self.source_path(), errno))
    }

    /// Whether the destination's name can be had: asked before there is any work, and again by the
    /// rename itself.
    fn check_free(&self, spot: &Spot, found: &Stat) -> Result<(), Failure> {
        let there = match stat_at(spot.dir(), &spot.name) {
            Err(Errno::ENOENT) => return Ok(()),
            outcome => outcome.map_err(|errno| Failure::new("stat", self.target_path(), errno))?,
        };
        if there.id == found.id {
            return Err(Failure::refused(self.verb, self.target_path(), "that is the source itself"));
        }
        if !self.rule.replace {
            return Err(Failure::new(self.verb, self.target_path(), Errno::EEXIST));
        }
        match (found.kind == Kind::Directory, there.kind == Kind::Directory) {
            (true, false) => {
                let reason = "a file is in the way, and only directories are replaced by directories";
                Err(Failure::refused(self.verb, self.target_path(), reason))
            }
            (false, true) => Err(Failure::refused(self.verb, self.target_path(), IN_THE_WAY)),
            (true, true) => check_removable(spot.dir(), &spot.name, self.target_path(), self.control),
            (false, false) => Ok(()),
        }
    }

    fn failed_move(&self, errno: Errno) -> Failure {
        let path = if errno == Errno::EEXIST { self.target_path() } else { self.source_path() };
        Failure::new(self.verb, path, errno)
    }

    /// Puts what was made in a private directory in place.
    fn put(&mut self, private: Private<'_>, found: &Stat, spot: &Spot) -> Result<(), Failure> {
        let (dir, name) = (private.dir(), NEW);
        wait_closed(dir, name, found);
        if !self.rule.replace {
            return rename_new(dir, name, spot).map_err(|errno| self.failed_move(errno));
        }
        match file::rename(dir, name, spot.dir(), &spot.name, Existing::Replace) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if found.kind == Kind::Directory => {}
            outcome => return outcome.map_err(|errno| self.failed_move(errno)),
        }
        // In one step, where that can be had: then the old one is what is removed as the new one.
        match file::rename(dir, name, spot.dir(), &spot.name, Existing::Exchange) {
            Ok(()) => {
                let removed = private.clear();
                self.note_left(removed);
                return Ok(());
            }
            Err(Errno::EINVAL | Errno::ENOSYS) => {}
            Err(errno) => return Err(self.failed_move(errno)),
        }
        let aside = Aside::put(spot, Private::make(spot.dir(), self.target_path())?, self.target_path())?;
        if let Err(errno) = file::rename(dir, name, spot.dir(), &spot.name, Existing::Replace) {
            aside.put_back(spot);
            return Err(self.failed_move(errno));
        }
        let removed = aside.remove();
        self.note_left(removed);
        Ok(())
    }

    /// What was replaced is not the operation's failure.
    fn note_left(&mut self, removed: Result<(), Failure>) {
        if let Err(failure) = removed {
            self.notes.push(format!("what was replaced could not be removed: {failure}"));
        }
    }

    /// Moves within a filesystem, with the rule's owner and modes, or over what is there.
    fn rename_and_set(&mut self, from: &Spot, found: &Stat, target: &Target) -> Result<(), Failure> {
        let device = |spot: &Spot| stat(spot.dir()).map(|dir| dir.id.dev);
        if device(from) != device(&target.spot) {
            return self.move_across(from, found, target);
        }
        let path = self.operation.source.path.as_slice();
        let held = file::hold(from.dir(), &from.name).map_err(|errno| Failure::new("open", path, errno))?;
        let ground = self.ground;
        let taken = ground.busy.wait(found.id);
        let was = stat(held.as_fd()).map_err(|errno| Failure::new("stat", path, errno))?;
        if was.id != found.id {
            return Err(Failure::refused(self.verb, path, REPLACED));
        }
        attributes::check_links(self.rule, &was, self.verb, path)?;
        let outcome = self.set_and_rename(from, &held, &was, &target.spot);
        if outcome.is_err() {
            attributes::restore(held.as_fd(), &was);
        }
        drop(taken);
        match outcome {
            // The same device, but another mount of it.
            Err(failure) if failure.is(Errno::EXDEV) => self.move_across(from, found, target),
            outcome => outcome,
        }
    }

    /// A file gets its attributes and is moved. A tree is closed to everybody, moved, given its
    /// attributes, and opened again.
    fn set_and_rename(
        &mut self,
        from: &Spot,
        held: &OwnedFd,
        was: &Stat,
        spot: &Spot,
    ) -> Result<(), Failure> {
        let path = self.operation.source.path.as_slice();
        let is_tree = was.kind == Kind::Directory && attributes::are_set_by(self.rule);
        let tree = if is_tree { Some(settle::prepare(self, from)?) } else { None };
        if is_tree {
            settle::close(held, path)?;
        } else {
            attributes::set(self.rule, held.as_fd(), was, path)?;
        }
        let aside = self.rename_held(from, held, was, spot)?;
        if let Some(top) = tree
            && let Err(failure) = settle::settle(self, top, held.as_fd(), was)
        {
            let _ = rename_new(spot.dir(), &spot.name, from);
            if let Some(aside) = aside {
                aside.put_back(spot);
            }
            self.notes.push("owner and modes in it are partly set".to_owned());
            return Err(failure);
        }
        if let Some(aside) = aside {
            let removed = aside.remove();
            self.note_left(removed);
        }
        Ok(())
    }

    /// Renames what was looked at, and nothing else. Returns the tree that was replaced.
    fn rename_held<'s>(
        &mut self,
        from: &Spot,
        held: &OwnedFd,
        was: &Stat,
        spot: &'s Spot,
    ) -> Result<Option<Aside<'s>>, Failure> {
        let existing = if self.rule.replace { Existing::Replace } else { Existing::Keep };
        let renamed = match existing {
            Existing::Replace => file::rename(from.dir(), &from.name, spot.dir(), &spot.name, existing),
            _ => rename_new(from.dir(), &from.name, spot),
        };
        let aside = match renamed {
            Ok(()) => None,
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if self.rule.replace && was.kind == Kind::Directory => {
                let private = Private::make(spot.dir(), self.target_path())?;
                let aside = Aside::put(spot, private, self.target_path())?;
                if let Err(errno) = file::rename(from.dir(), &from.name, spot.dir(), &spot.name, existing) {
                    aside.put_back(spot);
                    return Err(self.failed_move(errno));
                }
                Some(aside)
            }
            Err(errno) => return Err(self.failed_move(errno)),
        };
        let is_it = stat_at(spot.dir(), &spot.name).is_ok_and(|now| now.id == was.id);
        let is_set = was.kind == Kind::Directory || attributes::is_set(self.rule, held.as_fd());
        if is_it && is_set {
            return Ok(aside);
        }
        // What is there now may be anybody's: it is left to whoever put it there.
        Err(Failure::refused(self.verb, self.source_path(), "it was replaced or changed while it was moved"))
    }

    /// To another filesystem: a copy, and then the source is removed.
    fn move_across(&mut self, from: &Spot, found: &Stat, target: &Target) -> Result<(), Failure> {
        // What cannot be removed in the end is not copied in the first place.
        file::check_writable(from.dir())
            .map_err(|errno| Failure::new("delete", self.source_path(), errno))?;
        let private = Private::make(target.spot.dir(), self.target_path())?;
        let copied = self.copy_into(from, &private)?;
        if copied.id != found.id {
            return Err(Failure::refused(self.verb, self.source_path(), REPLACED));
        }
        if copied.kind == Kind::File && open_for_writing(from.dir(), &from.name) == Ok(OpenForWriting::Yes) {
            let reason = "somebody is writing to it, and on another filesystem that would be lost";
            return Err(Failure::refused(self.verb, self.source_path(), reason));
        }
        self.put(private, &copied, &target.spot)?;
        self.sync_dir(&target.spot)?;
        self.remove_copied(from, &copied, &target.spot).map_err(|mut failure| {
            failure.op = "delete";
            self.notes
                .push("the destination is complete, the source, or a part of it, is still there".to_owned());
            failure
        })
    }

    /// Removes the source, as far as it is what was copied.
    fn remove_copied(&mut self, from: &Spot, copied: &Stat, spot: &Spot) -> Result<(), Failure> {
        let path = self.source_path();
        if copied.kind == Kind::Directory {
            let times = !self.not_kept.contains("times");
            return settle::remove_copied(from, copied.id, spot, times, path, self.control);
        }
        let now = stat_at(from.dir(), &from.name).map_err(|errno| Failure::new("stat", path, errno))?;
        if (now.id, now.size, now.mtime_ns) != (copied.id, copied.size, copied.mtime_ns) {
            return Err(Failure::refused("delete", path, "it was changed meanwhile"));
        }
        file::remove(from.dir(), &from.name).map_err(|errno| Failure::new("delete", path, errno))
    }

    fn copy_into(&mut self, from: &Spot, private: &Private<'_>) -> Result<Stat, Failure> {
        let mut copy = Copy::new(self.rule, self.verb, self.control);
        let to = To { dir: private.dir(), name: NEW };
        let path = self.operation.source.path.as_slice();
        let outcome = copy.whatever(from.dir(), &from.name, to, path);
        self.not_kept.append(&mut copy.not_kept);
        self.entries += copy.entries;
        outcome
    }

    fn sync_dir(&self, spot: &Spot) -> Result<(), Failure> {
        let outcome = open_child(spot.dir(), c".").and_then(|dir| file::sync(dir.as_fd()));
        match outcome {
            // A filesystem that cannot, or a directory that may be written but not read.
            Ok(()) | Err(Errno::EINVAL | Errno::EACCES) => Ok(()),
            Err(errno) => Err(Failure::new("fsync", self.target_path(), errno)),
        }
    }
}

/// A child that is being started elsewhere in the daemon holds all its descriptors for a moment, until
/// it is another program: the copy's close, and its IN_CLOSE_WRITE, would come after it has its name.
fn wait_closed(dir: BorrowedFd<'_>, name: &CStr, found: &Stat) {
    /// Far longer than an `execve(2)` takes; an event too many is all that is at stake.
    const ROUNDS: usize = 10_000;
    for _ in 0..ROUNDS {
        if found.kind != Kind::File || open_for_writing(dir, name) != Ok(OpenForWriting::Yes) {
            return;
        }
        std::thread::yield_now();
    }
}

/// Gives something a name that nothing else has. Where the filesystem cannot tell (EINVAL), a file is
/// linked and then unlinked, which comes to the same; where it has no links either, nothing but a look
/// beforehand keeps one of two that come at the same moment.
fn rename_new(dir: BorrowedFd<'_>, name: &CStr, spot: &Spot) -> Result<(), Errno> {
    match file::rename(dir, name, spot.dir(), &spot.name, Existing::Keep) {
        Err(Errno::EINVAL | Errno::ENOSYS) => {}
        outcome => return outcome,
    }
    let found = stat_at(dir, name)?;
    match stat_at(spot.dir(), &spot.name) {
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
        Ok(_) => return Err(Errno::EEXIST),
    }
    if found.kind != Kind::Directory {
        match file::link(dir, name, spot.dir(), &spot.name) {
            Ok(()) => return file::remove(dir, name),
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EMLINK) => {}
            Err(errno) => return Err(errno),
        }
    }
    file::rename(dir, name, spot.dir(), &spot.name, Existing::Replace)
}
