//! Moving to another filesystem: a copy, and then the source is removed.

use std::os::fd::AsFd;

use super::compare::Comparison;
use super::copy::{Copy, check_not_written, is_unchanged};
use super::entry::{Entry, EntryRef};
use super::failure::Failure;
use super::op_run::OpRun;
use super::parked::Parked;
use super::private::{NEW, PrivateDir};
use crate::sys::dir::open_child;
use crate::sys::file;
use crate::sys::resolve::{Purpose, within};
use crate::sys::stat::{Kind, Stat, stat_at};

const REPLACED: &str = "it was replaced meanwhile";
const CHANGED: &str = "it was changed meanwhile";

impl OpRun<'_> {
    /// Copies the source, and then removes it.
    ///
    /// # Errors
    ///
    /// Why not. If the source could not be removed, a note says so.
    pub fn move_across(&mut self, from: &Entry, found: &Stat, to: &Entry) -> Result<(), Failure> {
        self.check_movable(from, found)?;
        let private = PrivateDir::make(to.dir(), self.target_path())?;
        let copied = self.copy_into(from, &private, true)?;
        if copied.id != found.id {
            return Err(Failure::refused(self.verb, self.source_path(), REPLACED));
        }
        if copied.kind == Kind::Directory {
            return self.exchange_trees(from, &copied, &private, to);
        }
        self.check_unchanged(from, &copied)?;
        self.install(&private, &copied, to)?;
        let removed = self.sync_dir(to).and_then(|()| self.remove_file(from, &copied));
        self.note_both(removed)
    }

    /// A source that cannot be removed in the end is not copied in the first place.
    fn check_movable(&self, from: &Entry, found: &Stat) -> Result<(), Failure> {
        file::check_writable(from.dir())
            .map_err(|errno| Failure::new("delete", self.source_path(), errno))?;
        if found.kind == Kind::File {
            check_not_written(from.borrowed(), self.verb, self.source_path())?;
        }
        Ok(())
    }

    /// Takes the name away from the source tree, gives the copy its own, and removes the source.
    fn exchange_trees(
        &mut self,
        from: &Entry,
        copied: &Stat,
        private: &PrivateDir<'_>,
        to: &Entry,
    ) -> Result<(), Failure> {
        let parked = Parked::park(from.borrowed(), copied.id, self.source_path())?;
        let copy = EntryRef { dir: private.dir(), name: NEW };
        let installed = self
            .check_same(&parked, copy)
            .and_then(|()| self.install(private, copied, to))
            .and_then(|()| self.sync_dir(to));
        if let Err(failure) = installed {
            parked.put_back();
            return Err(failure);
        }
        let removed = parked.remove(self.source_path());
        self.note_both(removed)
    }

    /// Whether a tree without a name is still what was copied.
    fn check_same(&self, parked: &Parked<'_>, copy: EntryRef<'_>) -> Result<(), Failure> {
        if self.comparison(false).trees(parked.at(), copy)? {
            return Ok(());
        }
        Err(Failure::refused(self.verb, self.source_path(), CHANGED))
    }

    fn comparison(&self, bytes: bool) -> Comparison<'_> {
        let times = !self.not_kept.contains("times");
        Comparison { times, bytes, op: self.verb, path: self.source_path(), control: self.control }
    }

    /// Whether the destination is a copy that an operation before this one has made of the source, and
    /// could not remove the source afterwards, as when the daemon was killed.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn is_finished_copy(&self, from: &Entry, found: &Stat, to: &Entry) -> Result<bool, Failure> {
        let (from, to) = (from.borrowed(), to.borrowed());
        if found.kind == Kind::Directory {
            return self.comparison(true).trees(from, to);
        }
        self.comparison(true).entries(from, to, self.source_path())
    }

    /// Removes the source of a move whose copy is in place already.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn finish_move(&mut self, from: &Entry, found: &Stat, to: &Entry) -> Result<(), Failure> {
        self.check_movable(from, found)?;
        self.sync_copy(found, to)?;
        self.notes.push("the destination was complete already".to_owned());
        if found.kind != Kind::Directory {
            return self.remove_file(from, found);
        }
        let parked = Parked::park(from.borrowed(), found.id, self.source_path())?;
        if let Err(failure) = self.check_same(&parked, to.borrowed()) {
            parked.put_back();
            return Err(failure);
        }
        parked.remove(self.source_path())
    }

    /// Waits until a copy that an earlier operation has made is on the disk.
    fn sync_copy(&self, found: &Stat, to: &Entry) -> Result<(), Failure> {
        let synced = match found.kind {
            Kind::Directory => {
                open_child(to.dir(), &to.name).and_then(|top| file::sync_filesystem(top.as_fd()))
            }
            Kind::File => within(to.dir(), &to.name, Purpose::Read).and_then(|copy| file::sync(copy.as_fd())),
            _ => Ok(()),
        };
        synced.map_err(|errno| Failure::new("fsync", self.target_path(), errno))?;
        self.sync_dir(to)
    }

    fn check_unchanged(&self, from: &Entry, copied: &Stat) -> Result<(), Failure> {
        let path = self.source_path();
        let now = stat_at(from.dir(), &from.name).map_err(|errno| Failure::new("stat", path, errno))?;
        if !is_unchanged(copied, &now) {
            return Err(Failure::refused(self.verb, path, CHANGED));
        }
        if now.kind == Kind::File { check_not_written(from.borrowed(), self.verb, path) } else { Ok(()) }
    }

    fn remove_file(&self, from: &Entry, copied: &Stat) -> Result<(), Failure> {
        self.check_unchanged(from, copied)?;
        file::remove(from.dir(), &from.name)
            .map_err(|errno| Failure::new("delete", self.source_path(), errno))
    }

    /// The destination is in place, whatever became of the source.
    fn note_both(&mut self, removed: Result<(), Failure>) -> Result<(), Failure> {
        removed.map_err(|mut failure| {
            failure.op = "delete";
            self.notes
                .push("the destination is complete, the source, or a part of it, is still there".to_owned());
            failure
        })
    }

    /// Copies the source to [`NEW`] in a private directory. Returns what the source was.
    ///
    /// # Errors
    ///
    /// As [`Copy::copy`].
    pub fn copy_into(
        &mut self,
        from: &Entry,
        private: &PrivateDir<'_>,
        is_move: bool,
    ) -> Result<Stat, Failure> {
        let mut copy = Copy::new(self.rule, self.verb, is_move, self.control);
        let to = EntryRef { dir: private.dir(), name: NEW };
        let outcome = copy.copy(from.borrowed(), to, self.source_path());
        self.not_kept.append(&mut copy.not_kept);
        self.entries += copy.entries;
        outcome.map_err(|failure| failure.naming_copy(self.source_path(), self.target_path()))
    }
}
