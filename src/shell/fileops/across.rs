//! Moving to another filesystem: a copy, and then the source is removed.

use super::after_move;
use super::copy::Copy;
use super::entry::{Entry, EntryRef};
use super::failure::Failure;
use super::op_run::OpRun;
use super::private::{NEW, PrivateDir};
use crate::sys::file;
use crate::sys::lease::{OpenForWriting, open_for_writing};
use crate::sys::stat::{Kind, Stat, stat_at};

impl OpRun<'_> {
    /// Copies the source, and then removes it.
    ///
    /// # Errors
    ///
    /// Why not. If the source could not be removed, a note says so.
    pub fn move_across(&mut self, from: &Entry, found: &Stat, to: &Entry) -> Result<(), Failure> {
        // A source that cannot be removed in the end is not copied in the first place.
        file::check_writable(from.dir())
            .map_err(|errno| Failure::new("delete", self.source_path(), errno))?;
        let private = PrivateDir::make(to.dir(), self.target_path())?;
        let copied = self.copy_into(from, &private)?;
        if copied.id != found.id {
            return Err(Failure::refused(self.verb, self.source_path(), "it was replaced meanwhile"));
        }
        if copied.kind == Kind::File && open_for_writing(from.dir(), &from.name) == Ok(OpenForWriting::Yes) {
            let reason = "a process is writing to it, and on another filesystem that would be lost";
            return Err(Failure::refused(self.verb, self.source_path(), reason));
        }
        self.install(&private, &copied, to)?;
        self.sync_dir(to)?;
        self.remove_copied(from, &copied, to).map_err(|mut failure| {
            failure.op = "delete";
            self.notes
                .push("the destination is complete, the source, or a part of it, is still there".to_owned());
            failure
        })
    }

    /// Removes the source, as far as it is what was copied.
    fn remove_copied(&mut self, from: &Entry, copied: &Stat, to: &Entry) -> Result<(), Failure> {
        let path = self.source_path();
        if copied.kind == Kind::Directory {
            let times = !self.not_kept.contains("times");
            return after_move::remove_copied(from, copied.id, to, times, path, self.control);
        }
        let now = stat_at(from.dir(), &from.name).map_err(|errno| Failure::new("stat", path, errno))?;
        if (now.id, now.size, now.mtime_ns) != (copied.id, copied.size, copied.mtime_ns) {
            return Err(Failure::refused("delete", path, "it was changed meanwhile"));
        }
        file::remove(from.dir(), &from.name).map_err(|errno| Failure::new("delete", path, errno))
    }

    /// Copies the source to [`NEW`] in a private directory. Returns what the source was.
    ///
    /// # Errors
    ///
    /// As [`Copy::copy`].
    pub fn copy_into(&mut self, from: &Entry, private: &PrivateDir<'_>) -> Result<Stat, Failure> {
        let mut copy = Copy::new(self.rule, self.verb, self.control);
        let to = EntryRef { dir: private.dir(), name: NEW };
        let outcome = copy.copy(from.borrowed(), to, self.source_path());
        self.not_kept.append(&mut copy.not_kept);
        self.entries += copy.entries;
        outcome
    }
}
