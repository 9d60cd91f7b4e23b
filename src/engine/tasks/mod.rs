//! The tasks: told events in, effects out.
//!
//! This file is the way of a task, from top to bottom: [`Audience::told`] schedules it,
//! [`Tasks::dispatch`] starts it when there is room, and the shell's answers end it.
//!
//! The other files, each using only those above it:
//! `log_budget` (how many lines tasks may log), `table` (the books), `step` (what is done to one task),
//! `rules` (which rule takes a path), `schedule` (what an event means for tasks), `ending` (how a run ends),
//! `command` (from a task to its child's command line), `operations` (file operations), `look` (what a file
//! is before its task runs), `pauses` (schedulers whose commands cannot be started now), `workers/`
//! (programs that are kept running). Above
//! this one are `lifecycle` (reload, shutdown) and `requests` (what clients ask).

mod command;
mod ending;
mod lifecycle;
mod log_budget;
mod look;
mod operations;
mod pauses;
mod requests;
mod rules;
mod schedule;
mod step;
mod table;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::HashSet;
use std::ffi::CString;
use std::sync::Arc;

use crate::config::{Action, Config, Run, Scheduler, Trigger};
use crate::engine::context::{Context, Phase, Timer};
use crate::engine::ids::{NodeId, TaskId, WatchIndex, WorkerId};
use crate::engine::message::{Effect, Facts, Operation, OperationEnd, Signal, StartChild, StartError};
use crate::engine::told::{Audience, AwaitedFile, Told};
use crate::engine::watcher::places::Places;
use crate::record::Level;
use crate::template::Values;
use crate::types::ExitStatus;
use command::{argv, environment, shown};
use ending::Moment;
use operations::OPERATIONS_MAX;
use pauses::Pauses;
use step::{TaskStep, seconds};
use table::{Runner, State, Table};
pub use workers::KILL_AFTER_MS;
pub use workers::protocol;
use workers::{Outcome, TaskEnd, Workers};

/// More waiting and ready tasks than this, and the event queue is left to the kernel: about
/// 200 MiB, which a machine that has so much to do can spare and a small one cannot exceed.
pub const TASKS_MAX: usize = 1 << 20;

/// So many instances may end while they have a task, before the task has failed: the first end may be
/// another task's doing, the second an accident.
const DEATHS_MAX: u8 = 3;

/// So many tasks that come later run before a suspect does. A flood of tasks that kill their workers
/// thus does not hold up the others, and a suspect has its turn at last.
const SUSPECT_WAITS: u64 = 1_000;

/// What a command or a worker gets for one task.
struct Prepared {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// The line for a worker.
    line: Option<Vec<u8>>,
    /// The command with its values, if it is logged.
    command: Vec<u8>,
}

/// The room that turns told events into work.
#[derive(Debug)]
pub struct Tasks {
    table: Table,
    /// By scheduler, if it starts a process for each task: shared with the children that are started.
    runs: Vec<Option<Arc<Run>>>,
    workers: Workers,
    /// File operations that go on though their scheduler was removed.
    orphans: usize,
    /// Where the last event ends that was told.
    position: u64,
    pauses: Pauses,
}

impl Audience for Tasks {
    fn told(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, event: &Told<'_>) {
        let map = &cx.config.event_maps[event.watch.of(cx.config).event_map];
        for trigger in map.triggers(event.kind) {
            match *trigger {
                Trigger::Schedule(sched) => self.step(cx, places).schedule(sched, event),
                Trigger::Cancel(sched) => self.step(cx, places).cancel(sched, event),
            }
        }
    }

    fn left(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, dirs: &[NodeId], why: &str) {
        for id in self.table.select_in(dirs, table::Task::waits) {
            let message = format!("task cancelled: its directory left: {why}");
            self.step(cx, places).remove(id, Level::Warning, &message);
        }
    }

    fn waiting_in(&self, dirs: &[NodeId]) -> Vec<AwaitedFile> {
        let tasks = self.table.select_in(dirs, table::Task::waits);
        let subjects = tasks.iter().filter_map(|id| self.table.get(*id)).map(|task| &task.subject);
        let mut known = HashSet::new();
        let first = subjects.filter(|subject| known.insert((subject.node, &subject.name)));
        first.map(|one| AwaitedFile { dir: one.node, name: one.name.clone(), is_dir: one.is_dir }).collect()
    }

    fn passed(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, position: u64) {
        self.position = position;
        self.step(cx, places).forget_ended(position);
    }
}

fn runs(config: &Config) -> Vec<Option<Arc<Run>>> {
    config.schedulers.iter().map(|one| one.action.run().cloned().map(Arc::new)).collect()
}

fn runner(scheduler: &Scheduler) -> Runner {
    match scheduler.action {
        Action::Shell { .. } | Action::Exec { .. } => Runner::Child,
        Action::Files { .. } => Runner::Operation,
        Action::Worker(_) => Runner::Worker,
    }
}

fn runners(config: &Config) -> Vec<Runner> {
    config.schedulers.iter().map(runner).collect()
}

impl Tasks {
    /// No task yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut table = Table::default();
        table.renumber(&runners(config), |_| None);
        Self {
            table,
            runs: runs(config),
            workers: Workers::new(config),
            orphans: 0,
            position: 0,
            pauses: Pauses::default(),
        }
    }

    fn step<'a, 'b, 'c>(
        &'a mut self,
        cx: &'a mut Context<'b>,
        places: &'a mut Places<'c>,
    ) -> TaskStep<'a, 'b, 'c> {
        TaskStep { table: &mut self.table, cx, places }
    }

    /// The moment of an end that caused no event.
    fn now(&self) -> Moment {
        Moment { mark: self.position, position: self.position }
    }

    fn moment(&self, mark: u64) -> Moment {
        Moment { mark, position: self.position }
    }

    /// Starts the workers that run without a task.
    pub fn start(&mut self, cx: &mut Context<'_>) {
        self.workers.start_eager(cx);
    }

    /// One of the tasks' timers ran out.
    pub fn on_timer(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, timer: Timer) {
        match timer {
            Timer::Delay(slot) => {
                if let Some(id) = self.table.by_slot(slot) {
                    self.step(cx, places).make_ready(id);
                }
            }
            Timer::Timeout(slot) => self.on_timeout(cx, places, slot),
            Timer::Progress(slot) => self.step(cx, places).on_progress_timer(slot),
            Timer::LinesLeftOut(sched) => self.step(cx, places).log_left_out(sched),
            Timer::Resume(sched) => self.pauses.end(sched),
            Timer::Worker(number) => self.workers.on_timer(cx, number),
            Timer::Workers(sched) => self.workers.on_pause_over(cx, sched),
            _ => {}
        }
    }

    /// Starts ready tasks while there is room.
    pub fn dispatch(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>) {
        if matches!(cx.phase, Phase::Terminating | Phase::Killing) {
            return;
        }
        while let Some(id) = self.first_ready(cx) {
            self.table.set_state(id, State::Running);
            let mut step = self.step(cx, places);
            if step.needs_look(id) {
                step.begin_look(id);
            } else {
                self.begin(cx, places, id);
            }
        }
    }

    /// What a task's file is has been looked at.
    pub fn on_inspected(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, id: TaskId, facts: Facts) {
        let now = self.now();
        let mut step = self.step(cx, places);
        if step.end_look(id) && !step.leave_out_special(id, facts.kind, now) {
            self.begin(cx, places, id);
        }
    }

    /// The action of a task that runs from now on.
    fn begin(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, id: TaskId) {
        let Some(task) = self.table.get(id) else { return };
        let sched = usize::from(task.sched);
        match &cx.config.schedulers[sched].action {
            Action::Files { rules } => {
                let position = self.position;
                self.step(cx, places).start_operation(id, rules, position);
            }
            Action::Shell { .. } | Action::Exec { .. } | Action::Worker(_) => {
                self.start_run(cx, places, id, sched);
            }
        }
    }

    /// The next task that may run. Children, file operations and workers have limits of their own.
    fn first_ready(&self, cx: &Context<'_>) -> Option<TaskId> {
        let max_jobs = match cx.config.daemon.max_jobs {
            0 => cx.options.default_max_jobs,
            max_jobs => max_jobs,
        } as usize;
        // A scheduler of which no command runs finds a place even if all others would take all.
        let shared = max_jobs - self.table.places_kept(max_jobs);
        self.table.first_ready(|task, running| {
            let sched = usize::from(task.sched);
            let Scheduler { action, max_jobs: own_max, .. } = &cx.config.schedulers[sched];
            let own_max = *own_max as usize;
            let has_room = (own_max == 0 || running < own_max) && !self.pauses.hold(task.sched);
            match action {
                Action::Files { .. } => has_room && self.table.running_by(Runner::Operation) < OPERATIONS_MAX,
                Action::Shell { .. } | Action::Exec { .. } => {
                    let max = if own_max == 0 && running > 0 { shared } else { max_jobs };
                    has_room && self.table.running_by(Runner::Child) < max
                }
                Action::Worker(worker) => {
                    let max = if own_max == 0 { max_jobs } else { own_max };
                    let has_instance = self.workers.have_room(sched, worker, task.lost_workers > 0);
                    // What is looked at has no instance yet, and may be a suspect.
                    running < max && has_room && has_instance && !self.table.is_looking(task.sched)
                }
            }
        })
    }

    /// A command or a worker gets its task.
    fn start_run(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, id: TaskId, sched: usize) {
        let scheduler = &cx.config.schedulers[sched];
        let now = self.now();
        let Some(Prepared { argv, env, line, command }) = self.prepare(cx, places, id, sched) else { return };
        let mut step = self.step(cx, places);
        if step.cx.options.dry_run {
            step.explain_start(id);
            let mut fields = vec![("command", command)];
            fields.extend(line.map(|line| ("line", line.trim_ascii_end().to_vec())));
            step.log(Level::Info, id, "dry run", &fields);
            return step.end(id, now);
        }
        step.log_start(id);
        if line.is_none() {
            step.log(Level::Debug, id, "command", &[("command", command)]);
        }
        if scheduler.timeout_ms > 0 {
            step.set_run_timer(id, scheduler.timeout_ms, Timer::Timeout(id.slot));
        }
        step.note_start(id);
        if let Some(line) = line {
            if line.len() > protocol::LINE_MAX {
                let error =
                    format!("the path is too long for a worker: more than {} bytes", protocol::LINE_MAX);
                return step.finish(id, Err(vec![("error", error.into_bytes())]), now);
            }
            let is_suspect = step.table.get(id).is_some_and(|task| task.lost_workers > 0);
            return self.workers.hand(cx, id, (sched, is_suspect), line);
        }
        let Some(run) = self.runs[sched].clone() else { return };
        let logname = scheduler.logname.clone();
        cx.effects.push(Effect::Start(Box::new(StartChild { task: id, argv, env, run, logname })));
    }

    /// What a task's command or worker gets.
    fn prepare(&self, cx: &Context<'_>, places: &Places<'_>, id: TaskId, sched: usize) -> Option<Prepared> {
        let config = cx.config;
        let Scheduler { name, logname, action, .. } = &config.schedulers[sched];
        let task = self.table.get(id)?;
        let subject = &task.subject;
        let path = places.path(subject.node, &subject.name);
        let schedules = |watch: WatchIndex| {
            let map = &config.event_maps[watch.of(config).event_map];
            map.triggers.iter().flatten().any(|trigger| *trigger == Trigger::Schedule(sched))
        };
        let values = Values {
            kind: subject.kind,
            path: &path,
            src_path: subject.src_path.as_deref().unwrap_or_default(),
            rel_path: places.relative((subject.node, &subject.name), &path, schedules),
            task_id: task.id,
            is_dir: subject.is_dir,
            attempt: 1,
        };
        let argv = argv(action, &values);
        let dry_run = cx.options.dry_run;
        let is_shown = dry_run || cx.wants(Level::Debug, logname);
        let command = if is_shown { shown(action, &values, &argv) } else { Vec::new() };
        let line = action.worker().map(|worker| {
            let secret = (worker.ack && !dry_run).then_some(cx.options.secret);
            protocol::line(worker.format, secret, &values)
        });
        let env = if line.is_none() { environment(name, action, &values) } else { Vec::new() };
        Some(Prepared { argv, env, line, command })
    }

    /// A child was started.
    pub fn on_started(&mut self, id: TaskId) {
        if let Some(task) = self.table.get(id) {
            self.pauses.forget(task.sched);
        }
    }

    /// A child could not be started.
    pub fn on_not_started(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        id: TaskId,
        error: &StartError,
    ) {
        let now = self.now();
        let text = ("error", error.text.clone().into_bytes());
        let mut step = self.step(cx, places);
        step.cancel_run_timer(id);
        if !error.temporary {
            step.cx.counters.failed += 1;
            step.log(Level::Error, id, "task failed: cannot start the command", &[text]);
            return step.end(id, now);
        }
        // It keeps its turn; only the moment is wrong.
        let rank = step.table.first_rank();
        step.put_back(id, rank);
        let Some(sched) = self.table.get(id).map(|task| task.sched) else { return };
        if let Some(pause) = self.pauses.begin(cx, sched) {
            let message = "cannot start the command now; trying again";
            self.step(cx, places).log(Level::Warning, id, message, &[text, ("delay", seconds(pause))]);
        }
    }

    /// A child has ended. `mark` is the end of what was queued then.
    pub fn on_ended(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        id: TaskId,
        status: ExitStatus,
        mark: u64,
    ) {
        let result =
            if status.success() { Ok(()) } else { Err(vec![("result", status.to_string().into_bytes())]) };
        let moment = self.moment(mark);
        self.step(cx, places).finish(id, result, moment);
    }

    /// A file operation has ended, or was taken back.
    pub fn on_operated(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        operation: &Operation,
        end: OperationEnd,
        mark: u64,
    ) {
        if self.table.run(operation.task).is_none() {
            self.orphans = self.orphans.saturating_sub(1);
            return operations::log_orphan(cx, operation, end);
        }
        let moment = self.moment(mark);
        self.step(cx, places).on_operated(operation, end, moment);
    }

    /// A file operation is so far, in bytes.
    pub fn on_measured(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        id: TaskId,
        (done, total): (u64, u64),
        asked_for: bool,
    ) {
        self.step(cx, places).on_measured(id, done, total, asked_for);
    }

    /// A worker could not be started.
    pub fn on_worker_not_started(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        worker: WorkerId,
        error: &StartError,
    ) {
        let outcomes = self.workers.on_not_started(cx, worker, error);
        self.take_up(cx, places, outcomes, self.position);
    }

    /// So many further lines are in the worker's pipe.
    pub fn on_written(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        worker: WorkerId,
        lines: usize,
    ) {
        let outcomes = self.workers.on_written(cx, worker, lines);
        self.take_up(cx, places, outcomes, self.position);
    }

    /// A worker has written a line, of which `cut` bytes are missing at the end.
    pub fn on_line(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        worker: WorkerId,
        (line, cut): (&[u8], u64),
        mark: u64,
    ) {
        let outcome = self.workers.on_line(cx, worker, line, cut);
        self.take_up(cx, places, outcome, mark);
    }

    /// A worker has closed one of its pipes.
    pub fn on_worker_broken(&mut self, cx: &mut Context<'_>, worker: WorkerId, what: &'static str) {
        self.workers.on_broken(cx, worker, what);
    }

    /// A worker has ended; `unread` are whole lines that it left in its pipe, and it had `begun` to read so
    /// many of the lines that it was handed.
    pub fn on_worker_ended(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        (worker, status): (WorkerId, ExitStatus),
        (unread, begun): (Vec<u8>, u64),
        mark: u64,
    ) {
        let table = &self.table;
        let is_ending = |task| table.run(task).is_none_or(|run| run.terminated);
        let outcomes = self.workers.on_ended(cx, (worker, status), (unread, begun), is_ending);
        self.take_up(cx, places, outcomes, mark);
    }

    /// What became of tasks that were handed over. One whose scheduler was removed meanwhile is not in the
    /// table any more.
    fn take_up(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        outcomes: impl IntoIterator<Item = Outcome>,
        mark: u64,
    ) {
        let moment = self.moment(mark);
        for Outcome { task: id, end } in outcomes {
            if self.table.get(id).is_none_or(|task| task.state != State::Running) {
                continue;
            }
            let result = match end {
                TaskEnd::Done => Ok(()),
                TaskEnd::Failed(text) => Err(vec![("error", text)]),
                TaskEnd::Lost { suspect } => match self.run_lost(cx, places, id, suspect) {
                    Ok(()) => continue,
                    Err(text) => Err(vec![("error", text.into_bytes())]),
                },
            };
            if let Some(task) = self.table.get_mut(id) {
                task.lost_workers = 0;
            }
            self.step(cx, places).finish(id, result, moment);
        }
    }

    /// A task whose worker is gone runs again: before the others, or a suspect behind many of them. Fails with
    /// the reason when it was a suspect too often.
    fn run_lost(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        id: TaskId,
        suspect: bool,
    ) -> Result<(), String> {
        let Some(task) = self.table.get_mut(id) else { return Ok(()) };
        task.lost_workers += u8::from(suspect);
        if task.lost_workers >= DEATHS_MAX {
            return Err(format!("its worker has ended {DEATHS_MAX} times while it had this task"));
        }
        let rank = if suspect { self.table.rank_behind(SUSPECT_WAITS) } else { self.table.first_rank() };
        let mut step = self.step(cx, places);
        step.cancel_run_timer(id);
        step.log(Level::Warning, id, "task runs again: its worker has ended", &[]);
        step.put_back(id, rank);
        Ok(())
    }

    fn on_timeout(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, slot: u32) {
        let Some(id) = self.table.by_slot(slot) else { return };
        let now = self.now();
        if self.step(cx, places).end_look(id) {
            let error = "the filesystem of the file does not answer".into();
            return self.step(cx, places).finish(id, Err(vec![("error", error)]), now);
        }
        let Some(run) = self.table.run_mut(id) else { return };
        run.timer = None;
        if run.terminated {
            self.step(cx, places).log(Level::Error, id, "task ignores SIGTERM, killed", &[]);
            cx.effects.push(Effect::Signal { task: id, signal: Signal::Kill });
            return;
        }
        let message = match self.workers.holder(id) {
            Some(_) => "task timed out, its worker is terminated",
            None => "task timed out, terminated",
        };
        self.step(cx, places).log(Level::Error, id, message, &[]);
        self.terminate(cx, places, id);
    }

    /// SIGTERM now, SIGKILL if that does not help.
    fn terminate(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, id: TaskId) {
        if let Some(run) = self.table.run_mut(id) {
            run.terminated = true;
        }
        if self.workers.terminate_holder(cx, id) {
            return;
        }
        cx.effects.push(Effect::Signal { task: id, signal: Signal::Terminate });
        self.step(cx, places).set_run_timer(id, KILL_AFTER_MS, Timer::Timeout(id.slot));
    }

    /// How many tasks wait for their delay, are ready, and run.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        [self.table.waiting(), self.table.ready(), self.table.running()]
    }

    /// Whether there is no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether there is room for the tasks of further events.
    #[must_use]
    pub fn have_room(&self) -> bool {
        self.table.waiting() + self.table.ready() < TASKS_MAX
    }
}
