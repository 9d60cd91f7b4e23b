//! Workers: programs that are kept running and get their tasks as lines.
//!
//! What is decided here: which instance gets which task, what becomes of the task when the instance
//! ends, when the next one is started, and how one is brought to an end. The shell has the pipes. What
//! this means for a task is an [`Outcome`], which the caller takes up.
//!
//! A task that was handed over stays in the table, running, until the instance answers for it, or with
//! `ack = no` until its line is in the pipe. If the instance ends first, the task runs again. A task that
//! the instance had begun to read is a suspect: the instance may have ended of it. A suspect runs after many
//! others, alone in its instance, and fails when that happens to it again and again. Programs that end
//! without an answer are started again after pauses that grow.

mod pool;
pub mod protocol;

use std::collections::{BTreeMap, VecDeque};

use super::command::printable;
use super::step::seconds;
use crate::config::{Config, Scheduler, Worker};
use crate::engine::context::{Context, Phase, Timer};
use crate::engine::ids::{TaskId, WorkerId, schedulers_by_name};
use crate::engine::message::{Effect, Signal, StartError, StartWorker};
use crate::record::{Level, LogName, Record};
use crate::template::c_string;
use crate::types::{ExitStatus, Millis};
pub use pool::Workers;
use pool::{Handed, Instance, Pool, Stage};
use protocol::Ack;

/// Between SIGTERM and SIGKILL.
pub const KILL_AFTER_MS: Millis = 5_000;

/// The pause after an instance that ended without an answer, doubled up to the last.
const PAUSE_FIRST_MS: Millis = 100;
const PAUSE_LAST_MS: Millis = 60_000;

/// An instance without answers that lived so long was of use.
const STEADY_MS: Millis = 10_000;

/// A program that ends closes its pipes a moment earlier.
const BROKEN_GRACE_MS: Millis = 1_000;

/// What becomes of a task that was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The task.
    pub task: TaskId,
    /// What becomes of it.
    pub end: TaskEnd,
}

/// See [`Outcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// It is done.
    Done,
    /// It failed, for this reason.
    Failed(Vec<u8>),
    /// Its worker has ended without an answer. A suspect may be what the worker has ended of.
    Lost {
        /// Whether it is one.
        suspect: bool,
    },
}

fn not_read(tasks: &[TaskId]) -> impl Iterator<Item = Outcome> {
    // The newest first: each is put before all others.
    tasks.iter().rev().map(|&task| Outcome { task, end: TaskEnd::Lost { suspect: false } })
}

fn failed(task: TaskId, why: &str) -> Outcome {
    Outcome { task, end: TaskEnd::Failed(why.as_bytes().to_vec()) }
}

impl Workers {
    /// Starts what is to run although there is no task for it.
    pub fn start_eager(&mut self, cx: &mut Context<'_>) {
        let running = cx.phase == Phase::Running;
        if cx.options.dry_run || !running && cx.phase != Phase::Stopping {
            return;
        }
        for (sched, scheduler) in cx.config.schedulers.iter().enumerate() {
            let Some(worker) = scheduler.action.worker() else { continue };
            while let Some(pool) = self.pools.get(sched)
                && pool.may_start(worker)
                && (worker.eager && running || !pool.unread.is_empty())
            {
                self.start(cx, sched, scheduler, worker);
            }
        }
    }

    fn start(
        &mut self,
        cx: &mut Context<'_>,
        sched: usize,
        scheduler: &Scheduler,
        worker: &Worker,
    ) -> WorkerId {
        let id = self.next_id();
        let name = format!("{}/{}", scheduler.name, id.0);
        let pool = &mut self.pools[sched];
        let first = std::mem::take(&mut pool.unread);
        pool.starts += 1;
        pool.count += 1;
        let command = ("command", printable(&worker.words));
        log(cx, Level::Info, (&scheduler.logname, &name), "start worker", &[command]);
        cx.effects.push(Effect::StartWorker(Box::new(StartWorker {
            id,
            name: name.clone(),
            argv: worker.words.clone(),
            env: vec![c_string(format!("RINOTIFYD_SCHEDULER={}", scheduler.name).into_bytes())],
            run: pool.run.clone(),
            logname: scheduler.logname.clone(),
            ack: worker.ack,
            first: first.clone(),
        })));
        self.instances.push(Instance {
            id,
            sched: Some(sched),
            name,
            logname: scheduler.logname.clone(),
            ack: worker.ack,
            stage: Stage::Serving,
            timer: None,
            started_at: cx.now,
            tasks: BTreeMap::new(),
            handed: 0,
            unwritten: VecDeque::new(),
            has_suspect: false,
            first,
        });
        id
    }

    /// Gives a task that runs from now on to an instance. A suspect is the only one that the instance has.
    pub fn hand(
        &mut self,
        cx: &mut Context<'_>,
        task: TaskId,
        (sched, is_suspect): (usize, bool),
        line: Vec<u8>,
    ) {
        let scheduler = &cx.config.schedulers[sched];
        let Some(worker) = scheduler.action.worker() else { return };
        // A further instance had better be started if none is idle.
        let busy = self.pools[sched].may_start(worker);
        let idlest = self.idlest(sched).filter(|one| one.tasks.is_empty() || !busy);
        let id = match idlest.map(|instance| instance.id) {
            Some(id) => id,
            None => self.start(cx, sched, scheduler, worker),
        };
        if let Some(instance) = self.get_mut(id) {
            instance.tasks.insert(task.number, Handed { slot: task.slot, nth: instance.handed });
            instance.handed += 1;
            instance.unwritten.push_back((task, line.len()));
            instance.has_suspect = is_suspect;
        }
        cx.effects.push(Effect::Hand { worker: id, line });
    }

    /// So many further lines are in the instance's pipe. Those tasks are done if no answer is waited for.
    pub fn on_written(&mut self, cx: &mut Context<'_>, id: WorkerId, count: usize) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for _ in 0..count {
            let Some(instance) = self.get_mut(id) else { return outcomes };
            let Some((task, _)) = instance.unwritten.pop_front() else { return outcomes };
            if !instance.ack {
                instance.tasks.remove(&task.number);
                outcomes.push(Outcome { task, end: TaskEnd::Done });
            }
        }
        self.close_if_retired(cx, id);
        outcomes
    }

    /// The instance has written a line: an answer, or output.
    pub fn on_line(&mut self, cx: &mut Context<'_>, id: WorkerId, line: &[u8], cut: u64) -> Option<Outcome> {
        let secret = cx.options.secret;
        let instance = self.get_mut(id)?;
        let ack = Ack::parse(line);
        let own = ack.filter(|ack| ack.token == protocol::token(secret, ack.id));
        let handed = own.and_then(|ack| instance.tasks.remove(&ack.id));
        let (Some(ack), Some(Handed { slot, .. })) = (ack, handed) else {
            let (level, message) = match ack {
                None => (Level::Info, "output"),
                Some(_) => (Level::Warning, "worker answers for a task that it does not have"),
            };
            let fields = [("line", line.to_vec()), ("bytes_cut", cut.to_string().into_bytes())];
            let shown = if cut == 0 { &fields[..1] } else { &fields };
            log(cx, level, (&instance.logname, &instance.name), message, shown);
            return None;
        };
        instance.has_suspect = false;
        if let Some(sched) = instance.sched {
            self.pools[sched].failures = 0;
        }
        self.close_if_retired(cx, id);
        let end = ack.result.map_or_else(|text| TaskEnd::Failed(text.to_vec()), |()| TaskEnd::Done);
        Some(Outcome { task: TaskId { slot, number: ack.id }, end })
    }

    /// The instance has closed one of its pipes. If it does not end now, it has to.
    pub fn on_broken(&mut self, cx: &mut Context<'_>, id: WorkerId, what: &'static str) {
        self.advance(cx, id, Stage::Broken(what));
    }

    /// The instance could not be started.
    pub fn on_not_started(&mut self, cx: &mut Context<'_>, id: WorkerId, error: &StartError) -> Vec<Outcome> {
        let Some(instance) = self.remove(id) else { return Vec::new() };
        let text = ("error", error.text.clone().into_bytes());
        let (level, message) = if error.temporary {
            (Level::Warning, "cannot start the worker now; trying again")
        } else {
            (Level::Error, "cannot start the worker")
        };
        log(cx, level, (&instance.logname, &instance.name), message, &[text]);
        let tasks: Vec<TaskId> = instance.tasks().map(|(task, _)| task).collect();
        let outcomes = if error.temporary {
            not_read(&tasks).collect()
        } else {
            tasks.iter().map(|task| failed(*task, "cannot start the worker")).collect()
        };
        let Some(sched) = instance.sched else { return outcomes };
        let pool = &mut self.pools[sched];
        pool.unread = [instance.first, std::mem::take(&mut pool.unread)].concat();
        // Without `eager`, each task fails as it comes, like that of any program that is not there.
        let eager = cx.config.schedulers[sched].action.worker().is_some_and(|worker| worker.eager);
        if error.temporary || eager || !pool.unread.is_empty() {
            self.pause(cx, sched);
        }
        outcomes
    }

    /// The instance has ended, and everything that it wrote was told. `unread` are whole lines of
    /// finished tasks that it left in its pipe, and it had `begun` to read so many of the lines that it was
    /// handed; `is_ending` says which tasks were told to end.
    pub fn on_ended(
        &mut self,
        cx: &mut Context<'_>,
        (id, status): (WorkerId, ExitStatus),
        (unread, begun): (Vec<u8>, u64),
        is_ending: impl Fn(TaskId) -> bool,
    ) -> Vec<Outcome> {
        let Some(instance) = self.remove(id) else { return Vec::new() };
        if let Some(timer) = instance.timer {
            cx.timers.cancel(timer);
        }
        log_end(cx, &instance, status);
        let lived = cx.now - instance.started_at;
        let stopping = matches!(cx.phase, Phase::Terminating | Phase::Killing);
        let (mut suspects, mut unseen, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        for (task, nth) in instance.tasks() {
            if stopping || is_ending(task) {
                outcomes.push(failed(task, "its worker has ended"));
            } else if nth < begun {
                suspects.push(Outcome { task, end: TaskEnd::Lost { suspect: true } });
            } else {
                unseen.push(task);
            }
        }
        outcomes.extend(not_read(&unseen));
        let has_suspects = !suspects.is_empty();
        outcomes.extend(suspects);
        let Some(sched) = instance.sched.filter(|_| !stopping) else {
            log_lost_lines(cx, &instance.logname, &instance.name, &unread);
            return outcomes;
        };
        let pool = &mut self.pools[sched];
        pool.unread = [unread, std::mem::take(&mut pool.unread)].concat();
        // If a task may have ended it, the pause is not to hold up the others.
        if has_suspects || !instance.ack && lived >= STEADY_MS {
            pool.failures = 0;
        }
        self.pause(cx, sched);
        outcomes
    }

    /// No instance is started for a while.
    fn pause(&mut self, cx: &mut Context<'_>, sched: usize) {
        let pool = &mut self.pools[sched];
        if pool.pause.is_some() {
            return;
        }
        let pause = PAUSE_LAST_MS.min(PAUSE_FIRST_MS << pool.failures.min(16));
        pool.failures = pool.failures.saturating_add(1);
        let number = u16::try_from(sched).unwrap_or(u16::MAX);
        pool.pause = Some(cx.timer_in(pause, Timer::Workers(number)));
        if pause > PAUSE_FIRST_MS {
            let Scheduler { logname, name, .. } = &cx.config.schedulers[sched];
            let delay = [("delay", seconds(pause))];
            let message = "worker is not started again at once: it ends without having been of use";
            log(cx, Level::Warning, (logname, name), message, &delay);
        }
    }

    /// Instances of a scheduler may be started again.
    pub fn on_pause_over(&mut self, cx: &mut Context<'_>, sched: u16) {
        if let Some(pool) = self.pools.get_mut(usize::from(sched)) {
            pool.pause = None;
        }
        self.start_eager(cx);
    }

    /// A task is to end, and only the end of its worker ends it. Tells whether it has one.
    pub fn terminate_holder(&mut self, cx: &mut Context<'_>, task: TaskId) -> bool {
        let Some(id) = self.holder(task) else { return false };
        self.advance(cx, id, Stage::Terminated);
        true
    }

    /// Brings an instance further on its way to its end, if it is not as far yet.
    fn advance(&mut self, cx: &mut Context<'_>, id: WorkerId, stage: Stage) {
        let Some(instance) = self.get_mut(id) else { return };
        if instance.stage.order() >= stage.order() {
            return;
        }
        instance.stage = stage;
        let (wait, effect) = match stage {
            Stage::Serving => return,
            Stage::Broken(_) => (Some(BROKEN_GRACE_MS), None),
            Stage::Closed => (Some(cx.config.daemon.shutdown_timeout_ms), Some(Effect::CloseWorker(id))),
            Stage::Terminated => {
                let signal = Signal::Terminate;
                (Some(KILL_AFTER_MS), Some(Effect::SignalWorker { worker: id, signal }))
            }
            Stage::Killed => (None, Some(Effect::SignalWorker { worker: id, signal: Signal::Kill })),
        };
        if let Some(timer) = instance.timer.take() {
            cx.timers.cancel(timer);
        }
        instance.timer = wait.map(|wait| cx.timer_in(wait, Timer::Worker(id.0)));
        cx.effects.extend(effect);
    }

    /// The instance is still there after the time it was given.
    pub fn on_timer(&mut self, cx: &mut Context<'_>, number: u32) {
        let Some(instance) = self.get_mut(WorkerId(number)) else { return };
        instance.timer = None;
        let (message, next) = match instance.stage {
            Stage::Broken(what) => (what, Stage::Terminated),
            Stage::Closed => ("worker does not end at the end of its input, terminated", Stage::Terminated),
            _ => ("worker ignores SIGTERM, killed", Stage::Killed),
        };
        log(cx, Level::Error, (&instance.logname, &instance.name), message, &[]);
        self.advance(cx, WorkerId(number), next);
    }

    /// An instance of an old configuration that has nothing left to do is closed.
    fn close_if_retired(&mut self, cx: &mut Context<'_>, id: WorkerId) {
        let is_done = |instance: &mut Instance| instance.sched.is_none() && instance.tasks.is_empty();
        if self.get_mut(id).is_some_and(is_done) {
            self.advance(cx, id, Stage::Closed);
        }
    }

    /// After a reload: the workers of an unchanged scheduler stay, all others get no more tasks and
    /// are closed when they have answered.
    pub fn reload(&mut self, cx: &mut Context<'_>, old_config: &Config) {
        let config = cx.config;
        let new_pools = config.schedulers.iter().map(Pool::new).collect();
        let old = std::mem::replace(&mut self.pools, new_pools);
        let by_name = schedulers_by_name(&config.schedulers);
        // By the old number, the new one.
        let numbers: Vec<Option<usize>> = old_config
            .schedulers
            .iter()
            .map(|old| {
                let new = *by_name.get(old.name.as_str())?;
                let worker = config.schedulers[new].action.worker();
                (worker.is_some() && old.action.worker() == worker).then_some(new)
            })
            .collect();
        for ((mut pool, number), scheduler) in old.into_iter().zip(&numbers).zip(&old_config.schedulers) {
            if let Some(pause) = pool.pause.take() {
                // The administrator may have mended the program.
                cx.timers.cancel(pause);
            }
            match number {
                Some(number) => self.pools[*number] = pool,
                None => self.pass_on(cx, by_name.get(scheduler.name.as_str()), scheduler, pool.unread),
            }
        }
        for at in 0..self.instances.len() {
            let instance = &mut self.instances[at];
            instance.sched = instance.sched.and_then(|sched| numbers[sched]);
            if let Some(sched) = instance.sched {
                instance.logname = config.schedulers[sched].logname.clone();
            }
            let id = instance.id;
            self.close_if_retired(cx, id);
        }
        self.start_eager(cx);
    }

    /// Unread lines of an old configuration go to the scheduler of the same name, if it can read them.
    fn pass_on(&mut self, cx: &mut Context<'_>, new: Option<&usize>, old: &Scheduler, unread: Vec<u8>) {
        let reads = |sched: &&usize| {
            let worker = cx.config.schedulers[**sched].action.worker();
            let format = old.action.worker().map(|worker| worker.format);
            worker.is_some_and(|worker| !worker.ack && Some(worker.format) == format)
        };
        match new.filter(reads) {
            Some(sched) => self.pools[*sched].unread = unread,
            None => log_lost_lines(cx, &old.logname, &old.name, &unread),
        }
    }

    /// There are no more tasks: all workers may end. Tells whether they have.
    pub fn close_all(&mut self, cx: &mut Context<'_>) -> bool {
        let ended = self.advance_all(cx, Stage::Closed);
        ended && self.pools.iter().all(|pool| pool.unread.is_empty())
    }

    /// All workers have to end.
    pub fn terminate_all(&mut self, cx: &mut Context<'_>) {
        self.advance_all(cx, Stage::Terminated);
        for (pool, scheduler) in self.pools.iter_mut().zip(&cx.config.schedulers) {
            let unread = std::mem::take(&mut pool.unread);
            log_lost_lines(cx, &scheduler.logname, &scheduler.name, &unread);
        }
    }

    /// All workers are killed.
    pub fn kill_all(&mut self, cx: &mut Context<'_>) {
        self.advance_all(cx, Stage::Killed);
    }

    fn advance_all(&mut self, cx: &mut Context<'_>, stage: Stage) -> bool {
        for at in 0..self.instances.len() {
            self.advance(cx, self.instances[at].id, stage);
        }
        self.instances.is_empty()
    }

    /// Logs how the workers are.
    pub fn log_status(&self, cx: &mut Context<'_>) {
        for (sched, (scheduler, pool)) in cx.config.schedulers.iter().zip(&self.pools).enumerate() {
            if scheduler.action.worker().is_none() {
                continue;
            }
            let own = self.instances.iter().filter(|instance| instance.sched == Some(sched));
            let tasks: usize = own.map(|instance| instance.tasks.len()).sum();
            let record = Record::asked_for(&scheduler.logname, "status of worker")
                .field("worker", &scheduler.name)
                .field("instances", pool.count.to_string())
                .field("starts", pool.starts.to_string())
                .field("unanswered", tasks.to_string());
            cx.effects.push(Effect::Log(record));
        }
    }
}

fn log_end(cx: &mut Context<'_>, instance: &Instance, status: ExitStatus) {
    let count = instance.tasks.len();
    let level = match instance.stage {
        Stage::Closed if count == 0 => Level::Info,
        _ if count == 0 && status.success() => Level::Warning,
        _ => Level::Error,
    };
    let fields =
        [("result", status.to_string().into_bytes()), ("unanswered", count.to_string().into_bytes())];
    log(cx, level, (&instance.logname, &instance.name), "worker ended", &fields);
}

/// Logs that no other instance will get these lines.
fn log_lost_lines(cx: &mut Context<'_>, logname: &LogName, worker: &str, unread: &[u8]) {
    let lines = unread.iter().filter(|&&byte| byte == b'\n').count();
    if lines > 0 {
        let count = [("lines", lines.to_string().into_bytes())];
        let message = "the worker has ended without reading its last lines, which are lost";
        log(cx, Level::Error, (logname, worker), message, &count);
    }
}

fn log(
    cx: &mut Context<'_>,
    level: Level,
    (logname, worker): (&LogName, &str),
    message: &str,
    more: &[(&'static str, Vec<u8>)],
) {
    cx.log(level, logname, || {
        let mut record = Record::new(level, logname, message).field("worker", worker);
        record.fields.extend_from_slice(more);
        record
    });
}
