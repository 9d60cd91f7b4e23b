//! The table of tasks with all that a step lends to it; what is done to a single task in one step.

use super::table::{Running, State, Subject, Table, Task};
use crate::config::{Action, Scheduler};
use crate::engine::context::{Context, Timer};
use crate::engine::ids::TaskId;
use crate::engine::message::Effect;
use crate::engine::store::wheel::TimerId;
use crate::engine::watcher::places::Places;
use crate::record::{Level, Record};
use crate::types::{self, Millis};

/// Further fields of a log line.
pub(super) type Fields = [(&'static str, Vec<u8>)];

/// Between two lines that say how many were left out.
const LEFT_OUT_MS: Millis = 1_000;

/// See the module's documentation.
pub(super) struct TaskStep<'a, 'b, 'c> {
    pub table: &'a mut Table,
    pub cx: &'a mut Context<'b>,
    pub places: &'a mut Places<'c>,
}

impl<'b> TaskStep<'_, 'b, '_> {
    /// The scheduler of a task.
    pub fn scheduler_of(&self, task: &Task) -> &'b Scheduler {
        &self.cx.config.schedulers[usize::from(task.sched)]
    }

    /// Whether the task's action is a file operation.
    pub fn is_operation(&self, id: TaskId) -> bool {
        let task = self.table.get(id);
        task.is_some_and(|task| matches!(self.scheduler_of(task).action, Action::Files { .. }))
    }

    /// Gives a task a newer subject.
    pub fn change_subject(&mut self, id: TaskId, subject: Subject) {
        self.places.hold(subject.node);
        if let Some(old) = self.table.set_subject(id, subject) {
            self.places.release(old.node);
        }
    }

    /// The task waits until then.
    pub fn wait_until(&mut self, id: TaskId, due: Millis) {
        let timer = self.cx.timers.insert(due, Timer::Delay(id.slot));
        self.table.set_state(id, State::Waiting(timer));
    }

    /// The task has its place in the queue.
    pub fn make_ready(&mut self, id: TaskId) {
        let rank = self.table.last_rank();
        if let Some(State::Waiting(timer)) = self.table.set_state(id, State::Ready(rank)) {
            self.cx.timers.cancel(timer);
        }
    }

    /// Notes that the task's action begins.
    pub fn note_start(&mut self, id: TaskId) {
        let now = self.cx.now;
        if let Some(run) = self.table.run_mut(id) {
            run.started_at = now;
        }
    }

    /// How long a task has run, for the log; `None` when it does not run.
    pub fn run_seconds(&self, id: TaskId) -> Option<Vec<u8>> {
        self.table.run(id).map(|run| seconds(self.cx.now - run.started_at))
    }

    /// Gives a task that runs a timer, in place of another.
    pub fn set_run_timer(&mut self, id: TaskId, delay_ms: Millis, timer: Timer) {
        let timer: TimerId = self.cx.timer_in(delay_ms, timer);
        if let Some(run) = self.table.run_mut(id)
            && let Some(old) = run.timer.replace(timer)
        {
            self.cx.timers.cancel(old);
        }
    }

    /// A task that runs needs no timer any more.
    pub fn cancel_run_timer(&mut self, id: TaskId) {
        if let Some(timer) = self.table.run_mut(id).and_then(|run| run.timer.take()) {
            self.cx.timers.cancel(timer);
        }
    }

    /// Takes the event for which a task that runs would run again.
    pub fn take_rerun(&mut self, id: TaskId) -> Option<(Subject, Millis)> {
        self.table.run_mut(id).and_then(|run: &mut Running| run.rerun.take())
    }

    /// A task that runs will not run again. Returns whether it would have.
    pub fn drop_rerun(&mut self, id: TaskId) -> bool {
        let rerun = self.take_rerun(id);
        if let Some((subject, _)) = &rerun {
            self.places.release(subject.node);
        }
        rerun.is_some()
    }

    /// A file operation that has not started need not be made.
    pub fn withdraw(&mut self, id: TaskId) {
        if self.is_operation(id) {
            self.cx.effects.push(Effect::Withdraw(id));
        }
    }

    /// Takes a task that waits out of the table and logs that.
    pub fn remove(&mut self, id: TaskId, level: Level, message: &str) {
        self.log(level, id, message, &[]);
        self.forget(id);
    }

    /// Takes a task out of the table.
    pub fn forget(&mut self, id: TaskId) {
        self.cancel_run_timer(id);
        self.drop_rerun(id);
        if let Some(task) = self.table.remove(id) {
            if let State::Waiting(timer) = task.state {
                self.cx.timers.cancel(timer);
            }
            self.places.release(task.subject.node);
        }
    }

    /// Whether a line about the task goes anywhere: what takes work to say is not made otherwise.
    pub fn wants(&self, level: Level, id: TaskId) -> bool {
        let task = self.table.get(id);
        task.is_some_and(|task| self.cx.wants(level, &self.scheduler_of(task).logname))
    }

    /// One line about a task, always with the same fields.
    pub fn log(&mut self, level: Level, id: TaskId, message: &str, more: &Fields) {
        let Some(sched) = self.table.get(id).map(|task| task.sched) else { return };
        if !self.may_log(level, sched) {
            return;
        }
        let Some(task) = self.table.get(id) else { return };
        let name = &self.cx.config.schedulers[usize::from(sched)].logname;
        self.cx.log(level, name, || {
            let subject = &task.subject;
            let mut record = Record::new(level, name, message)
                .field("event", subject.kind.name())
                .field("path", self.places.path(subject.node, &subject.name))
                .field("task_id", task.id.to_string());
            record.fields.extend_from_slice(more);
            record
        });
    }

    /// Whether a line about a task of this scheduler is not too much for the log. One that is left out is
    /// counted.
    fn may_log(&mut self, level: Level, sched: u16) -> bool {
        let (now, name) = (self.cx.now, &self.cx.config.schedulers[usize::from(sched)].logname);
        if !self.cx.wants(level, name) || self.cx.wants_every_line(name) {
            return true;
        }
        let Some(budget) = self.table.log_budget(sched) else { return true };
        if budget.take(now, level >= Level::Error) {
            return true;
        }
        if budget.timer.is_none() {
            budget.timer = Some(self.cx.timer_in(LEFT_OUT_MS, Timer::LinesLeftOut(sched)));
        }
        false
    }

    /// Logs how many lines about tasks of this scheduler were left out.
    pub fn log_left_out(&mut self, sched: u16) {
        let Some(budget) = self.table.log_budget(sched) else { return };
        let left_out = budget.take_left_out();
        if let Some(timer) = budget.timer.take() {
            self.cx.timers.cancel(timer);
        }
        let name = &self.cx.config.schedulers[usize::from(sched)].logname;
        if left_out > 0 {
            let text = "lines about tasks left out: there are too many";
            self.cx.log(Level::Warning, name, || {
                Record::new(Level::Warning, name, text).field("lines", left_out.to_string())
            });
        }
    }

    /// Logs that a task's action begins, and how often further events have put it off.
    pub fn log_start(&mut self, id: TaskId) {
        let Some(task) = self.table.get_mut(id) else { return };
        let put_off = std::mem::take(&mut task.put_off);
        let times = [("put_off", put_off.to_string().into_bytes())];
        self.log(Level::Info, id, "start task", if put_off > 0 { &times } else { &[] });
    }

    /// Says that a task is not run because its file is a FIFO or the like.
    pub fn leave_out(&mut self, id: TaskId, what: &str) {
        if let Some(task) = self.table.get(id) {
            let name = &self.scheduler_of(task).name;
            self.cx.explain(|| format!("scheduler {name} leaves it out: it is {what} (special = no)"));
        }
        self.log(Level::Debug, id, "task left out: special = no", &[("kind", what.into())]);
    }

    /// Explains that a task has its turn.
    pub fn explain_start(&mut self, id: TaskId) {
        if let Some(task) = self.table.get(id) {
            let name = &self.scheduler_of(task).name;
            self.cx.explain(|| format!("scheduler {name} runs its task"));
        }
    }
}

/// A duration for the log.
pub(super) fn seconds(ms: Millis) -> Vec<u8> {
    types::seconds(ms).into_bytes()
}
