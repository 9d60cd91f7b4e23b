//! Carries out one operation: opens the directories of its two paths, and moves, copies or deletes.

use super::control::Control;
use super::dir_cache::{DirCache, Side};
use super::entry::Entry;
use super::failure::{Failure, Why};
use super::locate;
use super::op_run::{OpRun, Shared};
use super::remove::remove;
use crate::config::FileAction;
use crate::engine::message::{FileKind, Operation, OperationDone, OperationEnd};
use crate::shell::look::file_kind;
use crate::sys::Errno;

/// How often the destination's directory may be removed by another operation that had made it.
const TRIES: usize = 4;

/// Carries out one operation.
#[must_use]
pub fn carry_out(
    operation: &Operation,
    control: &Control,
    shared: &Shared,
    cache: &mut DirCache,
) -> OperationEnd {
    let mut run = OpRun::new(operation, control, shared);
    let outcome = run.run(cache);
    if outcome.is_err() {
        cache.clear();
    }
    let mut remarks = run.notes;
    match outcome {
        Ok(()) if run.left_out.is_some() => OperationEnd::LeftOut(run.left_out.unwrap_or(FileKind::Unknown)),
        Ok(()) => {
            if !run.not_kept.is_empty() {
                let what: Vec<&str> = run.not_kept.into_iter().collect();
                remarks.push(format!("not kept: {}", what.join(", ")));
            }
            let (bytes, _) = control.progress();
            OperationEnd::Done(OperationDone { bytes, entries: run.entries, remarks })
        }
        Err(failure) => {
            remarks.insert(0, failure.to_string());
            let text = remarks.join("; ");
            if failure.why == Why::Aborted { OperationEnd::Aborted(text) } else { OperationEnd::Failed(text) }
        }
    }
}

impl OpRun<'_> {
    fn run(&mut self, cache: &mut DirCache) -> Result<(), Failure> {
        let from = locate::source(&self.operation.source, &self.shared.swept, cache)?;
        if !self.operation.special
            && let Some(kind) = self.special(&from)
        {
            self.left_out = Some(kind);
            return Ok(());
        }
        let Some(to) = &self.operation.target else {
            cache.forget(Side::Destination);
            return self.delete(&from);
        };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            if self.rule.auto_create {
                // No directory is made for a source that does not exist.
                self.source(&from)?;
            }
            let destination = locate::destination(to, self.rule, &self.shared.swept, cache)?;
            let outcome = match self.rule.action {
                FileAction::Copy => self.copy(&from, &destination.entry),
                FileAction::Move | FileAction::Delete => self.relocate(&from, &destination.entry),
            };
            let Err(failure) = outcome else { return Ok(()) };
            destination.remove_made();
            if !(failure.is(Errno::ENOENT) && destination.is_gone() && tries > 0) {
                return Err(failure);
            }
            cache.clear();
        }
    }

    /// What the source is, if it is no file unless the scheduler says so. A link is moved as a link, so it is a
    /// file wherever it leads.
    fn special(&self, from: &Entry) -> Option<FileKind> {
        let kind = file_kind(self.source(from).ok()?.kind);
        kind.special().map(|_| kind)
    }

    fn delete(&mut self, from: &Entry) -> Result<(), Failure> {
        let found = self.source(from)?;
        remove(from.dir(), &from.name, found.kind, self.rule.rec, self.source_path(), self.control)
    }
}
