//! File operations: carried out by worker threads, because they block, and safe as root in directories
//! that others can write to.
//!
//! Read in this order: `place` (from paths to descriptors) with `grips` (which of them are kept),
//! `private` (where things are made before
//! they are put in place), `relocate` (the three operations, step by step), `copy` with `data` and
//! `attributes`, `replace` (what was there), `remove`, `settle` (what follows a move), `busy` (one
//! operation at a time for one inode), all over `walk` (through a tree by
//! descriptors); `control` and `failure` are what they share; `pool` is the threads.
//!
//! The rules that every file here keeps:
//!
//! - A name is used relative to a descriptor, one component at a time, and no symbolic link is
//!   followed behind the administrator's part of a path.
//! - Attributes are set on descriptors, and only on what was looked at through the same descriptor.
//! - Nothing is made or changed under a name that others can reach: it is made in a private directory
//!   and renamed into place, complete.
//! - A failure is one [`failure::Failure`], and what was begun is undone.

mod attributes;
mod busy;
pub mod control;
mod copy;
mod data;
pub mod failure;
mod grips;
mod place;
pub mod pool;
mod private;
mod relocate;
mod remove;
mod replace;
mod settle;
mod walk;

#[cfg(test)]
mod tests;

use busy::Busy;
use control::Control;
use failure::{Failure, Why};
use grips::{Grips, Side};
use private::Swept;

use crate::config::{FileAction, Rule};
use crate::engine::message::{Operation, OperationDone, OperationEnd};
use crate::sys::Errno;

/// So often the destination's directory may be removed by another operation that had made it.
const TRIES: usize = 4;

/// What all operations share.
#[derive(Debug, Default)]
pub struct Ground {
    swept: Swept,
    busy: Busy,
}

/// Carries out one operation.
#[must_use]
pub fn carry_out(
    operation: &Operation,
    control: &Control,
    ground: &Ground,
    grips: &mut Grips,
) -> OperationEnd {
    let mut shop = Workshop::new(operation, control, ground);
    let outcome = shop.run(grips);
    if outcome.is_err() {
        grips.release();
    }
    let mut remarks = shop.notes;
    match outcome {
        Ok(()) => {
            if !shop.not_kept.is_empty() {
                let what: Vec<&str> = shop.not_kept.into_iter().collect();
                remarks.push(format!("not kept: {}", what.join(", ")));
            }
            let (bytes, _) = control.progress();
            OperationEnd::Done(OperationDone { bytes, entries: shop.entries, remarks })
        }
        Err(failure) => {
            remarks.insert(0, failure.to_string());
            let text = remarks.join("; ");
            if failure.why == Why::Aborted { OperationEnd::Aborted(text) } else { OperationEnd::Failed(text) }
        }
    }
}

/// One operation that is being carried out.
struct Workshop<'a> {
    operation: &'a Operation,
    rule: &'a Rule,
    /// For failures.
    verb: &'static str,
    control: &'a Control,
    ground: &'a Ground,
    not_kept: attributes::NotKept,
    notes: Vec<String>,
    entries: u64,
}

impl<'a> Workshop<'a> {
    fn new(operation: &'a Operation, control: &'a Control, ground: &'a Ground) -> Self {
        let rule = &*operation.rule;
        let verb = rule.action.verb();
        let (not_kept, notes) = (attributes::NotKept::new(), Vec::new());
        Self { operation, rule, verb, control, ground, not_kept, notes, entries: 0 }
    }

    fn source_path(&self) -> &[u8] {
        &self.operation.source.path
    }

    fn target_path(&self) -> &[u8] {
        self.operation.target.as_ref().map_or(b"", |target| &target.path)
    }

    fn run(&mut self, grips: &mut Grips) -> Result<(), Failure> {
        let from = place::source(&self.operation.source, grips)?;
        let Some(to) = &self.operation.target else {
            grips.drop(Side::Target);
            return self.delete(&from);
        };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            if self.rule.auto_create {
                // No directory is made for something that is not there.
                self.source(&from)?;
            }
            let target = place::target(to, self.rule, &self.ground.swept, grips)?;
            let outcome = match self.rule.action {
                FileAction::Copy => self.copy(&from, &target),
                FileAction::Move | FileAction::Delete => self.relocate(&from, &target),
            };
            let Err(failure) = outcome else { return Ok(()) };
            target.undo();
            if !(failure.is(Errno::ENOENT) && target.is_gone() && tries > 0) {
                return Err(failure);
            }
            grips.release();
        }
    }
}
