//! Copying and moving: which way the source takes to its destination.
//!
//! Invariants at every moment, and so also when the daemon is killed: the destination's name stands for
//! what it stood for before, or for all of the new, or for an empty directory while a tree is replaced, see
//! `replaced`; the source is removed only when the destination is complete and on the disk.

use super::attributes;
use super::entry::Entry;
use super::failure::Failure;
use super::op_run::OpRun;
use super::private::PrivateDir;
use super::rename_new::rename_new;
use crate::sys::Errno;

impl OpRun<'_> {
    /// Copies the source to its destination.
    ///
    /// # Errors
    ///
    /// Why not; nothing has changed then.
    pub fn copy(&mut self, from: &Entry, to: &Entry) -> Result<(), Failure> {
        let found = self.source(from)?;
        self.check_free(to, &found)?;
        let private = PrivateDir::make(to.dir(), self.target_path())?;
        self.copy_into(from, &private, false)?;
        self.install(&private, &found, to)?;
        self.sync_dir(to)
    }

    /// Moves the source to its destination.
    ///
    /// # Errors
    ///
    /// Why not; the source has its name then.
    pub fn relocate(&mut self, from: &Entry, to: &Entry) -> Result<(), Failure> {
        let renamed = if attributes::are_set_by(self.rule) || self.rule.replace {
            let found = self.source(from)?;
            self.rename_and_set(from, &found, to)
        } else {
            rename_new(from.dir(), &from.name, to.borrowed())
                .map_err(|errno| self.failed_rename(from, to, errno))
        };
        match renamed {
            Err(failure) if failure.is(Errno::EXDEV) => {
                let found = self.source(from)?;
                match self.check_free(to, &found) {
                    Err(failure) if failure.is(Errno::EEXIST) => {
                        if self.is_finished_copy(from, &found, to)? {
                            return self.finish_move(from, &found, to);
                        }
                        return Err(failure);
                    }
                    outcome => outcome?,
                }
                self.move_across(from, &found, to)
            }
            outcome => outcome,
        }
    }
}
