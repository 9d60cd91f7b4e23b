//! What a reload and a shutdown mean for tasks.

use super::table::State;
use super::{Tasks, runners, runs};
use crate::config::Config;
use crate::engine::context::Context;
use crate::engine::ids::{TaskId, schedulers_by_name};
use crate::engine::message::{Effect, Signal};
use crate::engine::watcher::places::Places;
use crate::record::Level;

impl Tasks {
    /// Tells what runs to end, at shutdown. A worker is told once for all its tasks.
    fn end_run(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, id: TaskId, signal: Signal) {
        if self.workers.holder(id).is_some() {
            return;
        }
        let operates = self.step(cx, places).is_operation(id);
        cx.effects.push(if operates { Effect::Abort(id) } else { Effect::Signal { task: id, signal } });
    }

    /// A new configuration is in force: schedulers of the same name keep their tasks.
    pub fn reload(&mut self, cx: &mut Context<'_>, old_config: &Config) {
        let by_name = schedulers_by_name(&cx.config.schedulers);
        let new = |old: u16| {
            let name = old_config.schedulers[usize::from(old)].name.as_str();
            by_name.get(name).and_then(|index| u16::try_from(*index).ok())
        };
        self.table.renumber(&runners(cx.config), new);
        self.runs = runs(cx.config);
        self.pauses.clear(cx);
        self.workers.reload(cx, old_config);
    }

    /// Before a reload: tasks whose scheduler is gone are dropped. A child that runs is left to end by
    /// itself.
    pub fn drop_removed(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, new_config: &Config) {
        let by_name = schedulers_by_name(&new_config.schedulers);
        let stays = |old: u16| by_name.contains_key(cx.config.schedulers[usize::from(old)].name.as_str());
        for id in self.table.select(&|task| !stays(task.sched)) {
            let running = self.table.has_begun(id);
            let message = if running {
                "task left to itself: its scheduler was removed"
            } else {
                "task cancelled: its scheduler was removed"
            };
            let mut step = self.step(cx, places);
            let operates = running && step.is_operation(id);
            if operates {
                // An operation that has not started is dropped; the end of one that has is still logged.
                step.withdraw(id);
            }
            step.remove(id, Level::Warning, message);
            self.orphans += usize::from(operates);
        }
        for sched in (0..).take(cx.config.schedulers.len()) {
            // The numbers are others afterwards.
            self.step(cx, places).log_left_out(sched);
        }
    }

    /// Waiting tasks are cancelled, running ones told to end.
    pub fn cancel_all(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>) {
        for id in self.table.select(&|task| task.waits() || task.state == State::Running) {
            if self.table.has_begun(id) {
                continue;
            }
            self.step(cx, places).remove(id, Level::Warning, "task cancelled: shutdown");
        }
        self.end_all(cx, places, Signal::Terminate);
        self.workers.terminate_all(cx);
    }

    /// Running tasks are killed.
    pub fn kill_all(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>) {
        self.end_all(cx, places, Signal::Kill);
        self.workers.kill_all(cx);
    }

    fn end_all(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, signal: Signal) {
        let (level, message) = match signal {
            Signal::Terminate => (Level::Warning, "task terminated: shutdown"),
            Signal::Kill => (Level::Error, "task killed: shutdown"),
        };
        for id in self.table.select(&|task| task.state == State::Running) {
            self.step(cx, places).log(level, id, message, &[]);
            self.end_run(cx, places, id, signal);
        }
    }

    /// All workers may end. Tells whether they have.
    pub fn close_workers(&mut self, cx: &mut Context<'_>) -> bool {
        self.workers.close_all(cx)
    }

    /// How many tasks wait, are ready or run, and operations of removed schedulers.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.table.waiting() + self.table.ready() + self.table.running() + self.orphans
    }
}
