//! What an event means for the tasks: schedule, re-schedule, cancel, run again.
//!
//! A task waits for its delay, is then ready, and runs when its scheduler and the daemon have room;
//! ready tasks keep their order. Events for a path whose task runs mark it to run again once.

use super::rules::takes_path;
use super::step::{TaskStep, seconds};
use super::table::{Key, Look, State, Subject};
use crate::config::{Action, Scheduler, WhileRunning};
use crate::engine::context::{Phase, Timer};
use crate::engine::ids::{NodeId, TaskId};
use crate::engine::told::Told;
use crate::record::{Level, Record};
use crate::types::{Millis, seconds as text_of_seconds};

/// Logged of an event that `while_running = skip` leaves out.
const SKIPPED: &str = "event skipped: its task is running";

/// The brake on a task that keeps re-triggering itself: the first pause, doubled up to the last.
const BRAKE_FIRST_MS: Millis = 1_000;
const BRAKE_LAST_MS: Millis = 60_000;

/// A scheduler with its number.
#[derive(Clone, Copy)]
struct Numbered<'a> {
    index: u16,
    scheduler: &'a Scheduler,
}

impl Numbered<'_> {
    fn key<'n>(&self, (dir, name): (NodeId, &'n [u8])) -> Key<'n> {
        if self.scheduler.singlejob { Key::Single(self.index) } else { Key::Path(self.index, dir, name) }
    }
}

impl<'b> TaskStep<'_, 'b, '_> {
    /// An event map says that this event schedules a task.
    pub fn schedule(&mut self, sched: usize, event: &Told<'_>) {
        let numbered = self.numbered(sched);
        let scheduler = numbered.scheduler;
        if !(if event.is_dir { scheduler.dirs } else { scheduler.files }) {
            self.cx.explain(|| {
                let what = if event.is_dir { "directories (dirs = no)" } else { "files (files = no)" };
                format!("scheduler {} takes no events about {what}", scheduler.name)
            });
            return;
        }
        let subject = self.subject(event);
        if let Action::Files { rules } = &scheduler.action
            && !takes_path(self, rules, &subject)
        {
            return self.log_refused(scheduler, event);
        }
        match self.table.find(numbered.key((subject.node, &subject.name))) {
            None => self.add(numbered, subject),
            Some(id) => match self.table.get(id).map(|task| task.state) {
                Some(State::Waiting(_) | State::Ready(_)) => self.reschedule(id, scheduler, subject),
                Some(State::Running | State::Ended) => self.disturb(id, scheduler, subject),
                None => {}
            },
        }
    }

    /// An event map says that this event cancels a task.
    pub fn cancel(&mut self, sched: usize, event: &Told<'_>) {
        let numbered = self.numbered(sched);
        self.cx.explain(|| format!("scheduler {}: a waiting task is cancelled", numbered.scheduler.name));
        // Most such events find no task, and allocate nothing.
        let key = numbered.key(self.places.normal(event.dir, event.name));
        let Some(id) = self.table.find(key) else { return };
        match self.table.get(id).map(|task| task.state) {
            Some(State::Waiting(_) | State::Ready(_)) => self.remove(id, Level::Info, "task cancelled"),
            Some(State::Running) if self.table.look(id) != Look::None => {
                self.drop_rerun(id);
                self.table.set_look(id, Look::Cancelled);
                self.count_anew(id);
            }
            Some(State::Running) => {
                if self.drop_rerun(id) {
                    self.log(Level::Info, id, "task will not run again: cancelled", &[]);
                }
                self.count_anew(id);
                self.withdraw(id);
            }
            Some(State::Ended) | None => {}
        }
    }

    /// What comes after a cancelling event is scheduled anew: `max_delay` counts from then.
    fn count_anew(&mut self, id: TaskId) {
        let now = self.cx.now;
        if let Some(task) = self.table.get_mut(id) {
            task.first_at = now;
        }
    }

    fn numbered(&self, sched: usize) -> Numbered<'b> {
        let index = u16::try_from(sched).unwrap_or(u16::MAX);
        Numbered { index, scheduler: &self.cx.config.schedulers[sched] }
    }

    /// What a task is about, in the form that makes equal paths equal: the name in a directory.
    fn subject(&self, event: &Told<'_>) -> Subject {
        let (node, name) = self.places.normal(event.dir, event.name);
        let src_path = event.src.map(|(dir, name)| self.places.path(dir, name).into());
        Subject { node, name: name.into(), src_path, kind: event.kind, is_dir: event.is_dir }
    }

    fn log_refused(&mut self, scheduler: &Scheduler, event: &Told<'_>) {
        let name = &scheduler.logname;
        self.cx.log(Level::Debug, name, || {
            Record::new(Level::Debug, name, "no rule takes the path")
                .field("event", event.kind.name())
                .field("path", self.places.path(event.dir, event.name))
        });
    }

    fn add(&mut self, Numbered { index, scheduler }: Numbered<'_>, subject: Subject) {
        if self.cx.phase != Phase::Running {
            return;
        }
        let (now, node) = (self.cx.now, subject.node);
        let timers = &mut self.cx.timers;
        let timer = |slot| timers.insert(now + scheduler.delay_ms, Timer::Delay(slot));
        let Some(id) = self.table.add(index, scheduler.singlejob, subject, now, timer) else { return };
        self.places.hold(node);
        self.cx.explain(|| {
            let delay = text_of_seconds(scheduler.delay_ms);
            format!("scheduler {}: a task is scheduled, with a delay of {delay} s", scheduler.name)
        });
        if scheduler.delay_ms == 0 {
            self.make_ready(id);
        } else {
            self.log(Level::Info, id, "schedule task", &[("delay", seconds(scheduler.delay_ms))]);
        }
    }

    fn reschedule(&mut self, id: TaskId, scheduler: &Scheduler, subject: Subject) {
        self.change_subject(id, subject);
        let Some(task) = self.table.get(id) else { return };
        let now = self.cx.now;
        // The last moment may have passed already, with the tick that says so still to come.
        let due = due_after(now, scheduler, task.first_at).max(task.not_before).max(now);
        match task.state {
            State::Waiting(timer) => {
                let known = self.cx.timers.reschedule(timer, due);
                debug_assert!(known, "a task that waits has a timer");
            }
            State::Ready(_) if due > now => self.wait_until(id, due),
            _ => return,
        }
        self.log_put_off(id, due - now);
    }

    /// A further event has put a task off. That is as frequent as events are, so it is no line for everybody.
    fn log_put_off(&mut self, id: TaskId, delay_ms: Millis) {
        if let Some(task) = self.table.get_mut(id) {
            task.put_off = task.put_off.saturating_add(1);
        }
        if self.wants(Level::Debug, id) {
            self.log(Level::Debug, id, "re-schedule task", &[("delay", seconds(delay_ms))]);
        }
    }

    /// An event for a task that runs, or for one that ended after the event.
    fn disturb(&mut self, id: TaskId, scheduler: &Scheduler, subject: Subject) {
        if self.cx.phase != Phase::Running {
            return;
        }
        let has_ended = self.table.get(id).is_some_and(|task| task.state == State::Ended);
        let is_looked_at = self.table.look(id) != Look::None;
        // A file operation may not have started yet: it is asked for, and skipped when it had.
        let may_wait = is_looked_at || matches!(scheduler.action, Action::Files { .. }) && !has_ended;
        if scheduler.while_running == WhileRunning::Skip && !may_wait {
            return self.log_skipped(id);
        }
        let event_at = self.cx.now;
        if has_ended {
            self.change_subject(id, subject);
            self.run_again(id, event_at);
            return;
        }
        self.places.hold(subject.node);
        let Some(run) = self.table.run_mut(id) else { return };
        let first = run.rerun.is_none();
        if let Some((older, _)) = run.rerun.replace((subject, event_at)) {
            self.places.release(older.node);
        }
        if first {
            if scheduler.while_running == WhileRunning::Rerun && !is_looked_at {
                self.log(Level::Info, id, "task is running and will run again", &[]);
            }
            self.withdraw(id);
        }
    }

    /// An event came while the task ran, and does not count.
    pub fn log_skipped(&mut self, id: TaskId) {
        self.log(Level::Warning, id, SKIPPED, &[]);
    }

    /// The task has ended, and an event came while it ran.
    pub fn run_again(&mut self, id: TaskId, event_at: Millis) {
        let now = self.cx.now;
        let Some(task) = self.table.get_mut(id) else { return };
        let scheduler = &self.cx.config.schedulers[usize::from(task.sched)];
        // The first time it may well be another process's event.
        let brake = match task.reruns {
            0 => 0,
            n => BRAKE_LAST_MS.min(BRAKE_FIRST_MS << u32::from(n - 1).min(16)),
        };
        task.reruns = task.reruns.saturating_add(1);
        task.first_at = now;
        task.not_before = now + brake;
        let due = (event_at + scheduler.delay_ms).max(now + brake);
        self.wait_until(id, due);
        let (level, text) = if brake > 0 {
            let text = "events come during every run of the task and it is slowed down; if they are its \
                        own, let it write elsewhere or set while_running = skip";
            (Level::Warning, text)
        } else {
            (Level::Info, "re-schedule task")
        };
        self.log(level, id, text, &[("delay", seconds(due - now))]);
    }

    /// The action had not started: the task waits anew for the event that came since, or was cancelled by
    /// it.
    pub fn wait_anew(&mut self, id: TaskId) {
        let Some((subject, event_at)) = self.take_rerun(id) else {
            return self.remove(id, Level::Info, "task cancelled");
        };
        let Some(task) = self.table.get(id) else { return };
        let now = self.cx.now;
        let due = due_after(event_at, self.scheduler_of(task), task.first_at).max(now);
        let node = subject.node;
        self.change_subject(id, subject);
        self.places.release(node);
        self.wait_until(id, due);
        self.log_put_off(id, due - now);
    }
}

/// When a task is due after an event, if it was first scheduled then.
fn due_after(event_at: Millis, scheduler: &Scheduler, first_at: Millis) -> Millis {
    let due = event_at + scheduler.delay_ms;
    if scheduler.max_delay_ms > 0 { due.min(first_at + scheduler.max_delay_ms) } else { due }
}
