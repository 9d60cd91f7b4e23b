//! When a task runs: delay, re-schedule, cancel, one at a time, again.
//!
//! A task waits for its delay, is then ready, and runs when its scheduler and the daemon have a
//! free place; ready tasks keep their order. Events for a path whose task runs mark it to run again
//! once. What the task caused itself may be read only after it has ended, so a task stays in the
//! table, ended, until the reader has passed all that was queued at its end.

use std::ffi::CString;
use std::rc::Rc;

use super::cover::{Member, Role};
use super::message::{Effect, Job, Signal, StartError};
use super::operations::OPERATIONS_MAX;
use super::protocol;
use super::routing::Occurrence;
use super::tasks::{JobId, Key, State, Subject, Task};
use super::{Engine, Phase, Timer};
use crate::config::{Action, Config, Scheduler, Trigger, WhileRunning};
use crate::record::{Level, LogName, Record};
use crate::template::{Values, c_string};
use crate::types::{self, ExitStatus, Millis};

/// Between SIGTERM and SIGKILL.
pub const KILL_AFTER_MS: Millis = 5_000;

/// The brake on a task that keeps re-triggering itself: the first pause, doubled up to the last.
const BRAKE_FIRST_MS: Millis = 1_000;
const BRAKE_LAST_MS: Millis = 60_000;

/// Said of an event that `while_running = skip` leaves out.
pub(super) const SKIPPED: &str = "event skipped: its task is running";

/// The pause after a child could not be started for want of something, doubled up to the last.
const START_PAUSE_FIRST_MS: Millis = 100;
const START_PAUSE_LAST_MS: Millis = 10_000;

impl Engine {
    /// An event map says that this event schedules a task.
    pub(super) fn schedule(&mut self, sched: usize, event: &Occurrence<'_>) {
        let config = Rc::clone(&self.config);
        let scheduler = &config.schedulers[sched];
        if !(if event.is_dir { scheduler.dirs } else { scheduler.files }) {
            self.explain(|_| {
                let what = if event.is_dir { "directories (dirs = no)" } else { "files (files = no)" };
                format!("scheduler {} takes no events about {what}", scheduler.name)
            });
            return;
        }
        let subject = self.subject(event);
        if !self.takes_path(&scheduler.action, subject.node, &subject.name) {
            self.log_refused(&scheduler.logname, event);
            return;
        }
        match self.tasks.find(key(sched, scheduler, &subject)) {
            None => self.add_task(sched, scheduler, subject),
            Some(job) => match self.tasks.get(job).map(|task| task.state) {
                Some(State::Waiting(_) | State::Ready(_)) => self.reschedule(job, scheduler, subject),
                Some(State::Running | State::Ended) => self.disturb(job, scheduler, subject),
                None => {}
            },
        }
    }

    fn log_refused(&mut self, name: &LogName, event: &Occurrence<'_>) {
        self.log(Level::Debug, name, |engine| {
            Record::new(Level::Debug, name, "no rule takes the path")
                .field("event", event.kind.name())
                .field("path", engine.tree.path_of(event.node, event.name))
        });
    }

    /// An event map says that this event cancels a task.
    pub(super) fn cancel(&mut self, sched: usize, event: &Occurrence<'_>) {
        let config = Rc::clone(&self.config);
        let subject = self.subject(event);
        self.explain(|_| format!("scheduler {}: a waiting task is cancelled", config.schedulers[sched].name));
        let Some(job) = self.tasks.find(key(sched, &config.schedulers[sched], &subject)) else { return };
        match self.tasks.get(job).map(|task| task.state) {
            Some(State::Waiting(_) | State::Ready(_)) => {
                self.remove_task(job, Level::Info, "task cancelled");
            }
            Some(State::Running) => {
                if self.drop_rerun(job) {
                    self.log_task(Level::Info, job, "task will not run again: cancelled", &[]);
                }
                if let Some(task) = self.tasks.get_mut(job) {
                    // What comes after this is scheduled anew.
                    task.first_at = self.now;
                }
                self.withdraw(job);
            }
            Some(State::Ended) | None => {}
        }
    }

    /// What a task is about, in the form that makes equal paths equal: the name in a directory.
    fn subject(&self, event: &Occurrence<'_>) -> Subject {
        let (mut node, mut name): (_, Box<[u8]>) = (event.node, event.name.into());
        if let Some(parent) = self.tree.parent(node)
            && name.is_empty()
        {
            name = self.tree.name(node).into();
            node = parent;
        }
        let src_path = event.src.map(|(node, name)| self.tree.path_of(node, name).into());
        Subject { node, name, src_path, kind: event.kind, is_dir: event.is_dir }
    }

    fn add_task(&mut self, sched: usize, scheduler: &Scheduler, subject: Subject) {
        if self.phase != Phase::Running {
            return;
        }
        let (now, node) = (self.now, subject.node);
        let due = now + scheduler.delay_ms;
        let wheel = &mut self.wheel;
        let number = u16::try_from(sched).unwrap_or(u16::MAX);
        let timer = |slot| wheel.insert(due, Timer::Delay(slot));
        let Some(job) = self.tasks.add(number, scheduler.singlejob, subject, now, timer) else { return };
        self.tree.pin(node);
        self.explain(|_| {
            let delay = String::from_utf8_lossy(&seconds(scheduler.delay_ms)).into_owned();
            format!("scheduler {}: a task is scheduled, with a delay of {delay} s", scheduler.name)
        });
        if scheduler.delay_ms == 0 {
            self.make_ready(job);
        } else {
            self.log_task(Level::Info, job, "schedule task", &[("delay", seconds(scheduler.delay_ms))]);
        }
    }

    fn reschedule(&mut self, job: JobId, scheduler: &Scheduler, subject: Subject) {
        self.change_subject(job, subject);
        let Some(task) = self.tasks.get(job) else { return };
        let mut due = self.now + scheduler.delay_ms;
        if scheduler.max_delay_ms > 0 {
            due = due.min(task.first_at + scheduler.max_delay_ms);
        }
        // The last moment may have passed already, with the tick that says so still to come.
        let (due, state) = (due.max(task.not_before).max(self.now), task.state);
        match state {
            State::Waiting(timer) => {
                let known = self.wheel.reschedule(timer, due);
                debug_assert!(known, "a task that waits has a timer");
            }
            State::Ready(_) if due > self.now => self.wait_until(job, due),
            _ => return,
        }
        self.log_task(Level::Info, job, "re-schedule task", &[("delay", seconds(due - self.now))]);
    }

    /// An event for a task that runs, or for one that ended after the event.
    fn disturb(&mut self, job: JobId, scheduler: &Scheduler, subject: Subject) {
        if self.phase != Phase::Running {
            return;
        }
        let has_ended = self.tasks.get(job).is_some_and(|task| task.state == State::Ended);
        // A file operation may not have been begun yet: it is asked for, and skipped when it was.
        let may_wait = matches!(scheduler.action, Action::Files { .. }) && !has_ended;
        if scheduler.while_running == WhileRunning::Skip && !may_wait {
            self.log_task(Level::Warning, job, SKIPPED, &[]);
            return;
        }
        let event_at = self.now;
        if has_ended {
            self.change_subject(job, subject);
            self.run_again(job, event_at);
            return;
        }
        self.tree.pin(subject.node);
        let Some(run) = self.tasks.run_mut(job) else { return };
        let first = run.rerun.is_none();
        if let Some((older, _)) = run.rerun.replace((subject, event_at)) {
            self.tree.unpin(older.node);
        }
        if first {
            if scheduler.while_running == WhileRunning::Rerun {
                self.log_task(Level::Info, job, "task is running and will run again", &[]);
            }
            self.withdraw(job);
        }
    }

    /// A file operation that has not been begun yet need not be.
    fn withdraw(&mut self, job: JobId) {
        if self.tasks.get(job).is_some_and(|task| self.is_operation(task)) {
            self.out.push(Effect::Withdraw(job));
        }
    }

    pub(super) fn change_subject(&mut self, job: JobId, subject: Subject) {
        self.tree.pin(subject.node);
        if let Some(old) = self.tasks.set_subject(job, subject) {
            self.tree.unpin(old.node);
        }
    }

    /// The task has ended, and an event came while it ran.
    fn run_again(&mut self, job: JobId, event_at: Millis) {
        let config = Rc::clone(&self.config);
        let now = self.now;
        let Some(task) = self.tasks.get_mut(job) else { return };
        let scheduler = &config.schedulers[usize::from(task.sched)];
        // The first time it may well be somebody else's event.
        let brake = match task.reruns {
            0 => 0,
            n => BRAKE_LAST_MS.min(BRAKE_FIRST_MS << u32::from(n - 1).min(16)),
        };
        task.reruns = task.reruns.saturating_add(1);
        task.first_at = now;
        task.not_before = now + brake;
        let due = (event_at + scheduler.delay_ms).max(now + brake);
        self.wait_until(job, due);
        if brake > 0 {
            self.log_task(
                Level::Warning,
                job,
                "events come during every run of the task and it is slowed down; if they are its own, \
                 let it write elsewhere or set while_running = skip",
                &[("delay", seconds(due - now))],
            );
        } else {
            self.log_task(Level::Info, job, "re-schedule task", &[("delay", seconds(due - now))]);
        }
    }

    pub(super) fn wait_until(&mut self, job: JobId, due: Millis) {
        let slot = job.slot();
        let timer = self.wheel.insert(due, Timer::Delay(slot));
        self.tasks.set_state(job, State::Waiting(timer));
    }

    pub(super) fn on_delay_over(&mut self, slot: u32) {
        if let Some(job) = self.tasks.by_slot(slot) {
            self.make_ready(job);
        }
    }

    pub(super) fn make_ready(&mut self, job: JobId) {
        let place = self.tasks.last_place();
        if let Some(State::Waiting(timer)) = self.tasks.set_state(job, State::Ready(place)) {
            self.wheel.cancel(timer);
        }
    }

    /// Starts ready tasks while there are free places.
    pub(super) fn dispatch(&mut self) {
        if self.start_pause.is_some() || self.phase == Phase::Terminating || self.phase == Phase::Killing {
            return;
        }
        let config = Rc::clone(&self.config);
        let max_jobs = match config.daemon.max_jobs {
            0 => self.options.default_max_jobs,
            max_jobs => max_jobs,
        };
        let max_jobs = max_jobs as usize;
        loop {
            // Children, file operations and workers have places of their own.
            let children = self.children_running(&config);
            let operations = self.operations_running();
            let workers = &self.workers;
            let has_place = |task: &Task, running: usize| {
                let sched = usize::from(task.sched);
                let Scheduler { action, max_jobs: own_max, .. } = &config.schedulers[sched];
                let has_room = *own_max == 0 || running < *own_max as usize;
                match action {
                    Action::Files { .. } => has_room && operations < OPERATIONS_MAX,
                    Action::Shell { .. } | Action::Exec { .. } => has_room && children < max_jobs,
                    Action::Worker(worker) => {
                        let max = if *own_max == 0 { max_jobs } else { *own_max as usize };
                        let is_suspect = task.lost_workers > 0;
                        workers.have_room(sched, worker, is_suspect) && running < max
                    }
                }
            };
            let Some(job) = self.tasks.first_ready(has_place) else { return };
            self.tasks.set_state(job, State::Running);
            let Some(sched) = self.tasks.get(job).map(|task| usize::from(task.sched)) else { return };
            let scheduler = &config.schedulers[sched];
            match &scheduler.action {
                Action::Files { rules } => self.begin_operation(job, rules),
                Action::Shell { .. } | Action::Exec { .. } | Action::Worker(_) => {
                    self.begin_run(job, sched, scheduler);
                }
            }
        }
    }

    /// How many tasks have a process of their own.
    fn children_running(&self, config: &Config) -> usize {
        let own = |one: &Scheduler| matches!(one.action, Action::Shell { .. } | Action::Exec { .. });
        let schedulers = config.schedulers.iter().enumerate().filter(|(_, one)| own(one));
        schedulers.map(|(sched, _)| self.tasks.running_of(sched)).sum()
    }

    fn begin_run(&mut self, job: JobId, sched: usize, scheduler: &Scheduler) {
        let now = self.now;
        let Some(task) = self.tasks.get(job) else { return };
        let subject = &task.subject;
        let path = self.tree.path_of(subject.node, &subject.name);
        let values = Values {
            kind: subject.kind,
            path: &path,
            src_path: subject.src_path.as_deref().unwrap_or_default(),
            rel_path: self.relative(sched, subject, &path),
            task_id: task.id,
            is_dir: subject.is_dir,
            attempt: 1,
        };
        let argv = argv(&scheduler.action, &values);
        let line = scheduler.action.worker().map(|worker| {
            let has_token = worker.ack && !self.options.dry_run;
            let secret = has_token.then_some(self.options.secret);
            protocol::line(worker.format, secret, &values)
        });
        let env = if line.is_none() { environment(scheduler, &values) } else { Vec::new() };
        let is_shown = self.options.dry_run || self.wants_of_task(Level::Debug, job);
        let command = if is_shown { shown(&scheduler.action, &values, &argv) } else { Vec::new() };
        if self.options.dry_run {
            self.explain_begin(job);
            let mut fields = vec![("command", command)];
            fields.extend(line.map(|line| ("line", line.trim_ascii_end().to_vec())));
            self.log_task(Level::Info, job, "dry run", &fields);
            self.end_task(job, self.position);
            return;
        }
        self.log_task(Level::Info, job, "start task", &[]);
        if line.is_none() && is_shown {
            self.log_task(Level::Debug, job, "command", &[("command", command)]);
        }
        if scheduler.timeout_ms > 0 {
            let timer = self.wheel.insert(now + scheduler.timeout_ms, Timer::Timeout(job.slot()));
            self.set_run_timer(job, timer);
        }
        if let Some(run) = self.tasks.run_mut(job) {
            run.started_at = now;
        }
        if let Some(line) = line {
            if line.len() > protocol::LINE_MAX {
                let error =
                    format!("the path is too long for a worker: more than {} bytes", protocol::LINE_MAX);
                return self.end_handed(job, Err(error.into_bytes()), self.position);
            }
            self.hand(job, sched, scheduler, line);
            return;
        }
        let Some(run) = self.runs[sched].clone() else { return };
        let logname = scheduler.logname.clone();
        self.out.push(Effect::Start(Box::new(Job { id: job, argv, env, run, logname })));
    }

    /// A task's path relative to the watch path from which its scheduler gets events; the last name where
    /// that is the path of a file, `.` for the watch path itself.
    fn relative<'a>(&self, sched: usize, subject: &Subject, path: &'a [u8]) -> &'a [u8] {
        let schedules = |member: &Member| {
            let map = &self.config.event_maps[member.watch(&self.config).event_map];
            let is_root = member.role == Role::Root;
            is_root && map.triggers.iter().flatten().any(|trigger| *trigger == Trigger::Schedule(sched))
        };
        let is_root = |node| self.covers.members(self.tree.cover(node)).iter().any(schedules);
        if self.tree.child(subject.node, &subject.name).is_some_and(is_root) {
            return b".";
        }
        let mut above = Some(subject.node);
        while let Some(node) = above
            && !is_root(node)
        {
            above = self.tree.parent(node);
        }
        let root = self.tree.path_of(above.unwrap_or(subject.node), b"");
        path.get(root.len()..).map_or(path, |path| path.strip_prefix(b"/").unwrap_or(path))
    }

    /// Tells that a task has its turn.
    pub(super) fn explain_begin(&mut self, job: JobId) {
        self.explain(|engine| {
            let sched = engine.tasks.get(job).map_or(0, |task| usize::from(task.sched));
            format!("scheduler {} runs its task", engine.config.schedulers[sched].name)
        });
    }

    pub(super) fn set_run_timer(&mut self, job: JobId, timer: super::TimerId) {
        if let Some(run) = self.tasks.run_mut(job)
            && let Some(old) = run.timer.replace(timer)
        {
            self.wheel.cancel(old);
        }
    }

    pub(super) fn on_started(&mut self, _job: JobId) {
        self.start_failures = 0;
    }

    pub(super) fn on_not_started(&mut self, job: JobId, error: &StartError) {
        self.cancel_run_timer(job);
        if !error.temporary {
            self.counters.failed += 1;
            self.log_task(
                Level::Error,
                job,
                "task failed: cannot start the command",
                &[("error", error.text.clone().into_bytes())],
            );
            self.end_task(job, self.position);
            return;
        }
        // It keeps its turn; only the moment is wrong.
        let place = self.tasks.first_place();
        self.put_back(job, place);
        if self.start_pause.is_none() {
            let pause = START_PAUSE_LAST_MS.min(START_PAUSE_FIRST_MS << self.start_failures.min(16));
            self.start_failures += 1;
            self.start_pause = Some(self.wheel.insert(self.now + pause, Timer::Resume));
            self.log_task(
                Level::Warning,
                job,
                "cannot start the command now; trying again",
                &[("error", error.text.clone().into_bytes()), ("delay", seconds(pause))],
            );
        }
    }

    /// A task that runs is ready again, for the newest event.
    pub(super) fn put_back(&mut self, job: JobId, place: u64) {
        let rerun = self.tasks.run_mut(job).and_then(|run| run.rerun.take());
        if let Some((subject, _)) = rerun {
            let node = subject.node;
            self.change_subject(job, subject);
            self.tree.unpin(node);
        }
        self.tasks.set_state(job, State::Ready(place));
    }

    pub(super) fn on_timeout(&mut self, slot: u32) {
        let Some(job) = self.tasks.by_slot(slot) else { return };
        let Some(run) = self.tasks.run_mut(job) else { return };
        run.timer = None;
        if run.terminated {
            self.log_task(Level::Error, job, "task ignores SIGTERM, killed", &[]);
            self.out.push(Effect::Signal { job, signal: Signal::Kill });
        } else {
            let has_worker = self.workers.holder(job).is_some();
            let whom = if has_worker {
                "task timed out, its worker is terminated"
            } else {
                "task timed out, terminated"
            };
            self.log_task(Level::Error, job, whom, &[]);
            self.terminate(job);
        }
    }

    /// Tells what runs to end.
    pub(super) fn end_run(&mut self, job: JobId, signal: Signal) {
        if self.workers.holder(job).is_some() {
            // The worker is told, once for all its tasks.
            return;
        }
        let operates = self.tasks.get(job).is_some_and(|task| self.is_operation(task));
        self.out.push(if operates { Effect::Abort(job) } else { Effect::Signal { job, signal } });
    }

    /// SIGTERM now, SIGKILL if that does not help.
    pub(super) fn terminate(&mut self, job: JobId) {
        if let Some(run) = self.tasks.run_mut(job) {
            run.terminated = true;
        }
        if self.terminate_worker_of(job) {
            return;
        }
        self.out.push(Effect::Signal { job, signal: Signal::Terminate });
        let timer = self.wheel.insert(self.now + KILL_AFTER_MS, Timer::Timeout(job.slot()));
        self.set_run_timer(job, timer);
    }

    pub(super) fn cancel_run_timer(&mut self, job: JobId) {
        if let Some(timer) = self.tasks.run_mut(job).and_then(|run| run.timer.take()) {
            self.wheel.cancel(timer);
        }
    }

    pub(super) fn on_ended(&mut self, job: JobId, status: ExitStatus, mark: u64) {
        let Some(started_at) = self.tasks.run_mut(job).map(|run| run.started_at) else { return };
        self.cancel_run_timer(job);
        let seconds = seconds(self.now - started_at);
        let fields = [("result", status.to_string().into_bytes()), ("seconds", seconds)];
        if status.success() {
            self.counters.done += 1;
            self.log_task(Level::Info, job, "task finished", &fields[1..]);
        } else {
            self.counters.failed += 1;
            self.log_task(Level::Error, job, "task failed", &fields);
        }
        self.end_task(job, mark);
    }

    /// The run is over: again, or kept until what it caused is read, or gone.
    pub(super) fn end_task(&mut self, job: JobId, mark: u64) {
        let rerun = self.tasks.run_mut(job).and_then(|run| run.rerun.take());
        if let Some((subject, event_at)) = rerun {
            let node = subject.node;
            if self.phase == Phase::Running {
                self.change_subject(job, subject);
                self.tree.unpin(node);
                self.run_again(job, event_at);
                return;
            }
            self.tree.unpin(node);
            self.log_task(Level::Warning, job, "task does not run again: shutdown", &[]);
        }
        if mark > self.position {
            self.tasks.set_state(job, State::Ended);
            self.ended.push_back((mark, job));
        } else {
            self.forget_task(job);
        }
    }

    /// The reader has passed the end of the run.
    pub(super) fn forget_ended(&mut self, job: JobId) {
        if self.tasks.get(job).is_some_and(|task| task.state == State::Ended) {
            self.forget_task(job);
        }
    }

    /// Forgets what is known of a run whose end nobody waits for.
    pub(super) fn drop_run(&mut self, job: JobId) {
        self.cancel_run_timer(job);
        self.drop_rerun(job);
    }

    /// A task that runs will not run again. Returns whether it would have.
    pub(super) fn drop_rerun(&mut self, job: JobId) -> bool {
        let rerun = self.tasks.run_mut(job).and_then(|run| run.rerun.take());
        if let Some((subject, _)) = &rerun {
            self.tree.unpin(subject.node);
        }
        rerun.is_some()
    }

    /// Takes a task that waits out of the table and says so.
    pub(super) fn remove_task(&mut self, job: JobId, level: Level, message: &str) {
        self.log_task(level, job, message, &[]);
        self.forget_task(job);
    }

    fn forget_task(&mut self, job: JobId) {
        if let Some(task) = self.tasks.remove(job) {
            if let State::Waiting(timer) = task.state {
                self.wheel.cancel(timer);
            }
            self.tree.unpin(task.subject.node);
        }
    }

    /// Whether anybody reads what is logged of a task: what takes work to say is not made otherwise.
    pub(super) fn wants_of_task(&self, level: Level, job: JobId) -> bool {
        let task = self.tasks.get(job);
        task.is_some_and(|task| self.wants(level, &self.config.schedulers[usize::from(task.sched)].logname))
    }

    /// One line about a task, always with the same fields.
    pub(super) fn log_task(
        &mut self,
        level: Level,
        job: JobId,
        message: &str,
        more: &[(&'static str, Vec<u8>)],
    ) {
        let Some(task) = self.tasks.get(job) else { return };
        let name = self.config.schedulers[usize::from(task.sched)].logname.clone();
        self.log(level, &name, |engine| {
            let record = Record::new(level, &name, message);
            let Some(task) = engine.tasks.get(job) else { return record };
            let subject = &task.subject;
            let mut record = record
                .field("event", subject.kind.name())
                .field("path", engine.tree.path_of(subject.node, &subject.name))
                .field("task_id", task.id.to_string());
            record.fields.extend_from_slice(more);
            record
        });
    }
}

fn key<'a>(sched: usize, scheduler: &Scheduler, subject: &'a Subject) -> Key<'a> {
    let sched = u16::try_from(sched).unwrap_or(u16::MAX);
    if scheduler.singlejob { Key::Single(sched) } else { Key::Path(sched, subject.node, &subject.name) }
}

/// For the log.
pub(super) fn seconds(ms: Millis) -> Vec<u8> {
    types::seconds(ms).into_bytes()
}

fn argv(action: &Action, values: &Values<'_>) -> Vec<CString> {
    match action {
        Action::Files { .. } => Vec::new(),
        Action::Shell { cmd, .. } => cmd.argv(),
        Action::Exec { words, .. } => words.iter().map(|word| c_string(word.fill(values))).collect(),
        Action::Worker(worker) => worker.words.clone(),
    }
}

fn environment(scheduler: &Scheduler, values: &Values<'_>) -> Vec<CString> {
    let further = match &scheduler.action {
        Action::Shell { cmd, .. } => cmd.values(),
        _ => &[],
    };
    values.environment(&scheduler.name, further)
}

/// A task's command with its values, for the log.
fn shown(action: &Action, values: &Values<'_>, argv: &[CString]) -> Vec<u8> {
    match action {
        Action::Shell { cmd, .. } => cmd.shown(values),
        _ => printable(argv),
    }
}

/// A command line for the log.
pub(super) fn printable(argv: &[CString]) -> Vec<u8> {
    argv.iter().map(|word| word.as_bytes()).collect::<Vec<_>>().join(&b' ')
}
