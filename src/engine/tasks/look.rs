//! The look at a task's file before its action begins: with `special = no`, what is a FIFO, a device or a
//! socket by now gets no command.
//!
//! A task whose file is being looked at counts as running, so that it has its place when the answer comes.
//! An event that comes meanwhile lets it wait anew, and a cancelling event cancels it, as neither could once
//! its action has begun.

use super::ending::Moment;
use super::step::TaskStep;
use super::table::Look;
use crate::config::{Action, EventMap};
use crate::engine::context::Timer;
use crate::engine::ids::TaskId;
use crate::engine::message::{Effect, FileKind, Inspect};
use crate::event::EventKind;
use crate::types::Millis;

/// A look that takes longer is given up. A disk that has to start turns within this time.
const LOOK_MAX_MS: Millis = 10_000;

impl TaskStep<'_, '_, '_> {
    /// Whether the action of a task must not begin before its file was looked at. A file operation looks for
    /// itself, unless it is only shown.
    pub fn needs_look(&self, id: TaskId) -> bool {
        let Some(task) = self.table.get(id) else { return false };
        let scheduler = self.scheduler_of(task);
        let looks_itself = matches!(scheduler.action, Action::Files { .. }) && !self.cx.options.dry_run;
        !scheduler.special && !task.subject.is_dir && !looks_itself
    }

    /// The file of a task that has its turn is to be looked at.
    pub fn begin_look(&mut self, id: TaskId) {
        let Some(task) = self.table.get(id) else { return };
        let path = self.places.path(task.subject.node, &task.subject.name);
        let follow = !matches!(self.scheduler_of(task).action, Action::Files { .. });
        let closes = |map: &EventMap| !map.triggers(EventKind::CloseNowrite).is_empty();
        let quiet = self.cx.config.event_maps.iter().any(closes);
        self.note_start(id);
        self.table.set_look(id, Look::Awaited);
        self.set_run_timer(id, LOOK_MAX_MS, Timer::Timeout(id.slot));
        self.cx.effects.push(Effect::Inspect(Box::new(Inspect { task: id, path, follow, quiet })));
    }

    /// A look has ended, or was given up. Tells whether the task's action may begin: it waits anew, or is
    /// cancelled, if an event came meanwhile. `false` if the task awaits no look.
    pub fn end_look(&mut self, id: TaskId) -> bool {
        let look = self.table.look(id);
        if look == Look::None {
            return false;
        }
        self.cancel_run_timer(id);
        self.table.set_look(id, Look::None);
        if look == Look::Cancelled || self.table.run(id).is_some_and(|run| run.rerun.is_some()) {
            self.wait_anew(id);
            return false;
        }
        true
    }

    /// A task's file is no file for `files = yes`. Tells whether it was left out.
    pub fn leave_out_special(&mut self, id: TaskId, kind: FileKind, moment: Moment) -> bool {
        let Some(what) = kind.special() else { return false };
        self.leave_out(id, what);
        self.end(id, moment);
        true
    }
}
