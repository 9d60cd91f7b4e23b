//! Moving within one filesystem, with the rule's owner and modes, or over what the destination's name
//! stands for.

use std::os::fd::{AsFd, OwnedFd};

use super::after_move;
use super::attributes;
use super::entry::Entry;
use super::failure::Failure;
use super::op_run::OpRun;
use super::rename_new::rename_new;
use super::replaced::Replaced;
use crate::sys::Errno;
use crate::sys::file::{self, Existing};
use crate::sys::stat::{Kind, Stat, stat, stat_at};

impl OpRun<'_> {
    /// Renames the source and sets what the rule says.
    ///
    /// # Errors
    ///
    /// EXDEV where that takes a copy, whether or not the destination is free; why not else. The source has its name and attributes then.
    pub fn rename_and_set(&mut self, from: &Entry, found: &Stat, to: &Entry) -> Result<(), Failure> {
        let path = self.source_path();
        let device = |entry: &Entry| stat(entry.dir()).map(|dir| dir.id.dev);
        if device(from) != device(to) {
            return Err(Failure::new(self.verb, path, Errno::EXDEV));
        }
        self.check_free(to, found)?;
        let held = file::hold(from.dir(), &from.name).map_err(|errno| Failure::new("open", path, errno))?;
        let shared = self.shared;
        let lock = shared.inode_locks.lock(found.id);
        let was = stat(held.as_fd()).map_err(|errno| Failure::new("stat", path, errno))?;
        if was.id != found.id {
            return Err(Failure::refused(self.verb, path, "it was replaced meanwhile"));
        }
        attributes::check_links(self.rule, &was, self.verb, path)?;
        let outcome = self.set_and_rename(from, &held, &was, to);
        if outcome.is_err() {
            attributes::restore(held.as_fd(), &was);
        }
        drop(lock);
        outcome
    }

    /// Sets the attributes of a file, and then renames it. A tree is closed to all users, renamed, given
    /// its attributes, and opened again.
    fn set_and_rename(
        &mut self,
        from: &Entry,
        held: &OwnedFd,
        was: &Stat,
        to: &Entry,
    ) -> Result<(), Failure> {
        let path = self.source_path();
        let is_tree = was.kind == Kind::Directory && attributes::are_set_by(self.rule);
        let tree = if is_tree { Some(after_move::check_settable(self, from)?) } else { None };
        if is_tree {
            after_move::close(held, path)?;
        } else {
            attributes::set(self.rule, held.as_fd(), was, path)?;
            attributes::check_descriptors(self.rule, held.as_fd(), was, self.verb, path)?;
        }
        let replaced = self.rename_held(from, held, was, to)?;
        if let Some(top) = tree
            && let Err(failure) = after_move::set_attributes(self, top, held.as_fd(), was)
        {
            let _ = rename_new(to.dir(), &to.name, from.borrowed());
            if let Some(replaced) = replaced {
                replaced.put_back();
            }
            self.notes.push("owner and modes in it are partly set".to_owned());
            return Err(failure);
        }
        if let Some(replaced) = replaced {
            let removed = replaced.remove();
            self.note_left(removed);
        }
        Ok(())
    }

    /// Renames what is held, and checks afterwards that it was this. Returns the tree that was replaced.
    fn rename_held<'s>(
        &mut self,
        from: &Entry,
        held: &OwnedFd,
        was: &Stat,
        to: &'s Entry,
    ) -> Result<Option<Replaced<'s>>, Failure> {
        let existing = if self.rule.replace { Existing::Replace } else { Existing::Keep };
        let renamed = match existing {
            Existing::Replace => file::rename(from.dir(), &from.name, to.dir(), &to.name, existing),
            _ => rename_new(from.dir(), &from.name, to.borrowed()),
        };
        let replaced = match renamed {
            Ok(()) => None,
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if self.rule.replace && was.kind == Kind::Directory => {
                let replaced = Replaced::set_aside(to.borrowed(), self.target_path())?;
                if let Err(errno) = file::rename(from.dir(), &from.name, to.dir(), &to.name, existing) {
                    replaced.put_back();
                    return Err(self.failed_rename(from, to, errno));
                }
                Some(replaced)
            }
            Err(errno) => return Err(self.failed_rename(from, to, errno)),
        };
        let is_it = stat_at(to.dir(), &to.name).is_ok_and(|now| now.id == was.id);
        let is_set = was.kind == Kind::Directory || attributes::is_set(self.rule, held.as_fd());
        if is_it && is_set {
            return Ok(replaced);
        }
        // Another process may have put there what has the name now; the daemon leaves it alone.
        Err(Failure::refused(self.verb, self.source_path(), "it was replaced or changed while it was moved"))
    }
}
