//! Gives the destination's name to what is complete, and finds out beforehand whether that can be done.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use super::entry::Entry;
use super::failure::Failure;
use super::op_run::OpRun;
use super::private::{NEW, PrivateDir};
use super::remove::check_removable;
use super::rename_new::rename_new;
use super::replaced::Replaced;
use crate::sys::Errno;
use crate::sys::dir::open_child;
use crate::sys::file::{self, Existing};
use crate::sys::lease::{OpenForWriting, open_for_writing};
use crate::sys::stat::{Kind, Stat, stat_at};

const FILE_BY_DIRECTORY: &str = "a file is in the way, and only directories are replaced by directories";
const DIRECTORY_BY_FILE: &str = "a directory is in the way, and only files are replaced by files";

impl OpRun<'_> {
    /// Whether the destination's name is free or may be replaced. The operation asks before it does any
    /// work; the rename itself decides.
    ///
    /// # Errors
    ///
    /// EEXIST; refuses what cannot be replaced.
    pub fn check_free(&self, to: &Entry, found: &Stat) -> Result<(), Failure> {
        let there = match stat_at(to.dir(), &to.name) {
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
            (true, false) => Err(Failure::refused(self.verb, self.target_path(), FILE_BY_DIRECTORY)),
            (false, true) => Err(Failure::refused(self.verb, self.target_path(), DIRECTORY_BY_FILE)),
            (true, true) => check_removable(to.dir(), &to.name, self.target_path(), self.control),
            (false, false) => Ok(()),
        }
    }

    /// A failed rename, with the path of the side that failed, as far as that can be found out.
    #[must_use]
    pub fn failed_rename(&self, from: &Entry, to: &Entry, errno: Errno) -> Failure {
        let is_of_source = match errno {
            // A filesystem may refuse a name so (NTFS), or the destination's directory may be gone.
            Errno::ENOENT => stat_at(from.dir(), &from.name).is_err(),
            Errno::EACCES | Errno::EPERM | Errno::EROFS => {
                file::check_writable(from.dir()).is_err() || file::check_writable(to.dir()).is_ok()
            }
            Errno::EEXIST | Errno::ENAMETOOLONG | Errno::EINVAL | Errno::EILSEQ => false,
            Errno::ENOSPC | Errno::EDQUOT | Errno::EMLINK | Errno::ENOTEMPTY => false,
            _ => true,
        };
        let path = if is_of_source { self.source_path() } else { self.target_path() };
        Failure::new(self.verb, path, errno)
    }

    fn failed_install(&self, errno: Errno) -> Failure {
        Failure::new(self.verb, self.target_path(), errno)
    }

    /// Renames what was made in a private directory to the destination's name.
    ///
    /// # Errors
    ///
    /// As `rename(2)`; nothing has changed then.
    pub fn install(&mut self, private: &PrivateDir<'_>, found: &Stat, to: &Entry) -> Result<(), Failure> {
        let (dir, name) = (private.dir(), NEW);
        wait_closed(dir, name, found);
        if !self.rule.replace {
            return rename_new(dir, name, to.borrowed()).map_err(|errno| self.failed_install(errno));
        }
        match file::rename(dir, name, to.dir(), &to.name, Existing::Replace) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if found.kind == Kind::Directory => {}
            outcome => return outcome.map_err(|errno| self.failed_install(errno)),
        }
        // Where the filesystem can exchange two names, this is one step. The old tree then is in the
        // private directory, which is cleared.
        match file::rename(dir, name, to.dir(), &to.name, Existing::Exchange) {
            Ok(()) => {
                let removed = private.clear();
                self.note_left(removed);
                return Ok(());
            }
            Err(Errno::EINVAL | Errno::ENOSYS) => {}
            Err(errno) => return Err(self.failed_install(errno)),
        }
        let replaced = Replaced::set_aside(to.borrowed(), self.target_path())?;
        if let Err(errno) = file::rename(dir, name, to.dir(), &to.name, Existing::Replace) {
            replaced.put_back();
            return Err(self.failed_install(errno));
        }
        let removed = replaced.remove();
        self.note_left(removed);
        Ok(())
    }

    /// Waits until the destination's name is on the disk.
    ///
    /// # Errors
    ///
    /// As `fsync(2)`.
    pub fn sync_dir(&self, to: &Entry) -> Result<(), Failure> {
        let outcome = open_child(to.dir(), c".").and_then(|dir| file::sync(dir.as_fd()));
        match outcome {
            // A filesystem that cannot, or a directory that may be written but not read.
            Ok(()) | Err(Errno::EINVAL | Errno::EACCES) => Ok(()),
            Err(errno) => Err(Failure::new("fsync", self.target_path(), errno)),
        }
    }
}

/// Waits until no process holds the copy open for writing. The daemon has closed it, but a child that
/// another thread is starting holds all descriptors until it executes its program. Without this wait the
/// child's close would make an `IN_CLOSE_WRITE` under the destination's name.
fn wait_closed(dir: BorrowedFd<'_>, name: &CStr, found: &Stat) {
    /// Far longer than an `execve(2)` takes. If it is not enough, one event too many is seen.
    const ROUNDS: usize = 10_000;
    for _ in 0..ROUNDS {
        if found.kind != Kind::File || open_for_writing(dir, name) != Ok(OpenForWriting::Yes) {
            return;
        }
        std::thread::yield_now();
    }
}
