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
use super::private::{NEW, OLD, Private};
use super::remove::{check_removable, remove};
use super::settle;
use crate::sys::Errno;
use crate::sys::dir::open_child;
use crate::sys::file::{self, Existing};
use crate::sys::stat::{Kind, Stat, stat, stat_at};
use crate::sys::writer::{Writer, writer};

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
        self.put(private.dir(), NEW, &found, &target.spot, &private)?;
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

    /// Puts something in place, out of a private directory or from where it was.
    fn put(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        found: &Stat,
        spot: &Spot,
        private: &Private<'_>,
    ) -> Result<(), Failure> {
        if !self.rule.replace {
            return rename_new(dir, name, spot).map_err(|errno| self.failed_move(errno));
        }
        match file::rename(dir, name, spot.dir(), &spot.name, Existing::Replace) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if found.kind == Kind::Directory => {}
            outcome => return outcome.map_err(|errno| self.failed_move(errno)),
        }
        self.replace_tree(dir, name, spot, private)
    }

    /// A full directory is exchanged for an empty one, so that the name is never without one, and that
    /// is replaced.
    fn replace_tree(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        spot: &Spot,
        private: &Private<'_>,
    ) -> Result<(), Failure> {
        let operation = self.operation;
        let failed = |op| move |errno| Failure::new(op, &operation.source.path, errno);
        file::make_dir(private.dir(), OLD, 0o700).map_err(failed("mkdir"))?;
        match file::rename(private.dir(), OLD, spot.dir(), &spot.name, Existing::Exchange) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                file::remove_dir(private.dir(), OLD).map_err(failed("rmdir"))?;
                file::rename(spot.dir(), &spot.name, private.dir(), OLD, Existing::Replace)
                    .map_err(|errno| Failure::new(self.verb, self.target_path(), errno))?;
            }
            Err(errno) => return Err(Failure::new(self.verb, self.target_path(), errno)),
        }
        if let Err(errno) = file::rename(dir, name, spot.dir(), &spot.name, Existing::Replace) {
            let back = file::rename(private.dir(), OLD, spot.dir(), &spot.name, Existing::Exchange);
            if back.is_err() {
                let _ = file::rename(private.dir(), OLD, spot.dir(), &spot.name, Existing::Keep);
            }
            return Err(self.failed_move(errno));
        }
        if let Err(failure) = private.clear() {
            self.notes.push(format!("what was replaced could not be removed: {failure}"));
        }
        Ok(())
    }

    /// Moves within a filesystem, with the rule's owner and modes, or over what is there.
    fn rename_and_set(&mut self, from: &Spot, found: &Stat, target: &Target) -> Result<(), Failure> {
        let device = |spot: &Spot| stat(spot.dir()).map(|dir| dir.id.dev);
        if device(from) != device(&target.spot) {
            return self.move_across(from, found, target);
        }
        let path = self.operation.source.path.as_slice();
        let held = file::hold(from.dir(), &from.name).map_err(|errno| Failure::new("open", path, errno))?;
        let was = stat(held.as_fd()).map_err(|errno| Failure::new("stat", path, errno))?;
        if was.id != found.id {
            return Err(Failure::refused(self.verb, path, REPLACED));
        }
        attributes::check_links(self.rule, &was, self.verb, path)?;
        let outcome = if was.kind == Kind::Directory && attributes::are_set_by(self.rule) {
            self.rename_and_set_tree(from, &held, &was, &target.spot)
        } else {
            attributes::set(self.rule, held.as_fd(), &was, path)
                .and_then(|()| self.rename_held(from, &was, &target.spot))
        };
        outcome.or_else(|failure| {
            attributes::restore(held.as_fd(), &was);
            // The same device, but another mount of it.
            if failure.is(Errno::EXDEV) { self.move_across(from, found, target) } else { Err(failure) }
        })
    }

    /// A tree is closed to everybody, moved, given its attributes, and opened again.
    fn rename_and_set_tree(
        &mut self,
        from: &Spot,
        held: &OwnedFd,
        was: &Stat,
        spot: &Spot,
    ) -> Result<(), Failure> {
        let top = settle::prepare(self, from)?;
        settle::close(held, self.source_path())?;
        self.rename_held(from, was, spot)?;
        settle::settle(self, top, held.as_fd(), was).inspect_err(|_| take_back(from, spot))
    }

    /// Renames what was looked at, and nothing else.
    fn rename_held(&mut self, from: &Spot, was: &Stat, spot: &Spot) -> Result<(), Failure> {
        if self.rule.replace && was.kind == Kind::Directory {
            let private = Private::make(spot.dir(), self.target_path())?;
            self.put(from.dir(), &from.name, was, spot, &private)?;
        } else if self.rule.replace {
            file::rename(from.dir(), &from.name, spot.dir(), &spot.name, Existing::Replace)
                .map_err(|errno| self.failed_move(errno))?;
        } else {
            rename_new(from.dir(), &from.name, spot).map_err(|errno| self.failed_move(errno))?;
        }
        match stat_at(spot.dir(), &spot.name) {
            Ok(now) if now.id == was.id => Ok(()),
            _ => {
                take_back(from, spot);
                Err(Failure::refused(self.verb, self.source_path(), REPLACED))
            }
        }
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
        if copied.kind == Kind::File && writer(from.dir(), &from.name) == Ok(Writer::Somebody) {
            let reason = "somebody is writing to it, and on another filesystem that would be lost";
            return Err(Failure::refused(self.verb, self.source_path(), reason));
        }
        self.put(private.dir(), NEW, &copied, &target.spot, &private)?;
        drop(private);
        self.sync_dir(&target.spot)?;
        self.remove_copied(from, &copied, &target.spot).map_err(|mut failure| {
            failure.op = "delete";
            self.notes.push("the destination is complete, the source is still there".to_owned());
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

/// Back to where it came from, if nothing else is there by now.
fn take_back(from: &Spot, spot: &Spot) {
    let _ = rename_new(spot.dir(), &spot.name, from);
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
