//! Workers: programs that are kept running and get their tasks as lines.
//!
//! What is decided here: which instance gets which task, what becomes of the task when the instance
//! ends, when the next one is started, and how one is brought to an end. The shell has the pipes.
//!
//! A task that was handed over stays in the table, running, until the instance answers for it, or with
//! `ack = no` until its line is in the pipe. If the instance ends first, it runs again. One that the
//! instance had begun to read may be the reason: this suspect goes behind the others, has an instance
//! for itself until it is answered, and has failed after `DEATHS_MAX` ends. Programs that end before
//! they have read a task, or without answers, are started again after pauses that grow.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::message::{Effect, Signal, StartError, StartWorker};
use super::protocol::{self, Answer};
use super::scheduling::{KILL_AFTER_MS, printable};
use super::tasks::{JobId, State};
use super::wheel::TimerId;
use super::{Engine, Phase, Timer};
use crate::config::{Config, Scheduler, Worker};
use crate::record::{Level, LogName, Record};
use crate::template::c_string;
use crate::types::{ExitStatus, Millis};

/// Lines handed to one instance that are not in its pipe yet, and their bytes, the last line aside.
/// Enough for one write to be worth its system call.
const UNWRITTEN_MAX: usize = 64;
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;

/// So many instances may end while they have a task, before the task has failed: the first end may be
/// another task's doing, the second an accident.
const DEATHS_MAX: u8 = 3;

/// So many tasks that come later run before a suspect does. A flood of tasks that kill their workers
/// thus does not hold up the others, and a suspect has its turn at last.
const SUSPECT_WAITS: u64 = 1_000;

/// The pause after an instance that ended without an answer, doubled up to the last.
const PAUSE_FIRST_MS: Millis = 100;
const PAUSE_LAST_MS: Millis = 60_000;

/// An instance without answers that lived so long was not started in vain.
const STEADY_MS: Millis = 10_000;

/// A program that ends closes its pipes a moment earlier.
const BROKEN_GRACE_MS: Millis = 1_000;

/// One start of a worker's program; never the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub(super) u32);

/// All workers.
#[derive(Debug, Default)]
pub struct Workers {
    /// By scheduler; empty for those that have none.
    pools: Vec<Pool>,
    instances: Vec<Instance>,
    last_id: u32,
}

/// What the instances of one scheduler have in common.
#[derive(Debug, Default)]
struct Pool {
    /// How many there are.
    count: usize,
    /// Nothing is started before this.
    pause: Option<TimerId>,
    /// How many ended in a row without having been of use.
    failures: u32,
    /// What an instance had not read when it ended: the next one gets it first.
    unread: Vec<u8>,
    starts: u64,
}

#[derive(Debug)]
struct Instance {
    id: WorkerId,
    /// Its scheduler. Without one, it is of a configuration that is gone, and gets no more tasks.
    sched: Option<usize>,
    /// The scheduler's, and the number.
    name: String,
    logname: LogName,
    ack: bool,
    stage: Stage,
    /// What comes next, if it does not end before.
    timer: Option<TimerId>,
    started_at: Millis,
    /// Handed over and not done, by task id.
    tasks: BTreeMap<u64, Handed>,
    /// So many lines were handed over.
    handed: u64,
    /// What is not in its pipe yet, in order, with the length of the line.
    unwritten: VecDeque<(JobId, usize)>,
    /// It has a suspect, and gets nothing else until that is answered.
    has_suspect: bool,
    /// What it was given of another's unread lines.
    first: Vec<u8>,
}

/// A task in the hands of an instance.
#[derive(Debug)]
struct Handed {
    slot: u32,
    /// So many lines were handed over before.
    nth: u64,
}

/// How far an instance is on its way; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// It cannot be talked to; it may be about to end by itself.
    Broken(&'static str),
    /// There is no more input for it.
    Closed,
    /// SIGTERM was sent.
    Terminated,
    /// SIGKILL was sent.
    Killed,
}

impl Instance {
    fn takes(&self) -> bool {
        let bytes: usize = self.unwritten.iter().map(|(_, len)| len).sum();
        self.stage == Stage::Serving
            && !self.has_suspect
            && self.unwritten.len() < UNWRITTEN_MAX
            && bytes < UNWRITTEN_BYTES_MAX
    }
}

impl Workers {
    fn get_mut(&mut self, id: WorkerId) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }

    fn remove(&mut self, id: WorkerId) -> Option<Instance> {
        let at = self.instances.iter().position(|instance| instance.id == id)?;
        let instance = self.instances.remove(at);
        if let Some(sched) = instance.sched {
            self.pools[sched].count -= 1;
        }
        Some(instance)
    }

    /// The instance that has this task.
    pub fn holder(&self, job: JobId) -> Option<WorkerId> {
        let slot = |instance: &Instance| instance.tasks.get(&job.task_id()).map(|handed| handed.slot);
        let holds = |instance: &&Instance| slot(instance) == Some(job.slot());
        self.instances.iter().find(holds).map(|instance| instance.id)
    }

    /// The instance of a scheduler with the least to do.
    fn idlest(&self, sched: usize) -> Option<&Instance> {
        let of = self.instances.iter().filter(|one| one.sched == Some(sched) && one.takes());
        of.min_by_key(|instance| instance.tasks.len())
    }

    /// Whether there is an instance for another task of a worker's scheduler, or can be.
    pub fn have_room(&self, sched: usize, worker: &Worker, is_suspect: bool) -> bool {
        let Some(pool) = self.pools.get(sched) else { return false };
        let fits = |instance: &Instance| !is_suspect || instance.tasks.is_empty();
        pool.may_start(worker) || self.idlest(sched).is_some_and(fits)
    }
}

impl Pool {
    fn may_start(&self, worker: &Worker) -> bool {
        self.pause.is_none() && self.count < worker.instances as usize
    }
}

impl Engine {
    /// Makes room for the configured schedulers, at the start.
    pub(super) fn adopt_workers(&mut self) {
        self.workers.pools.resize_with(self.config.schedulers.len(), Pool::default);
    }

    /// Starts what is to run although there is no task for it.
    pub(super) fn start_workers(&mut self) {
        let running = self.phase == Phase::Running;
        if self.options.dry_run || !running && self.phase != Phase::Stopping {
            return;
        }
        let config = Rc::clone(&self.config);
        for (sched, scheduler) in config.schedulers.iter().enumerate() {
            let Some(worker) = scheduler.action.worker() else { continue };
            while let Some(pool) = self.workers.pools.get(sched)
                && pool.may_start(worker)
                && (worker.eager && running || !pool.unread.is_empty())
            {
                self.start_worker(sched, scheduler, worker);
            }
        }
    }

    fn start_worker(&mut self, sched: usize, scheduler: &Scheduler, worker: &Worker) -> WorkerId {
        self.workers.last_id += 1;
        let id = WorkerId(self.workers.last_id);
        let name = format!("{}/{}", scheduler.name, id.0);
        let pool = &mut self.workers.pools[sched];
        let first = std::mem::take(&mut pool.unread);
        pool.starts += 1;
        pool.count += 1;
        self.workers.instances.push(Instance {
            id,
            sched: Some(sched),
            name: name.clone(),
            logname: scheduler.logname.clone(),
            ack: worker.ack,
            stage: Stage::Serving,
            timer: None,
            started_at: self.now,
            tasks: BTreeMap::new(),
            handed: 0,
            unwritten: VecDeque::new(),
            has_suspect: false,
            first: first.clone(),
        });
        let command = ("command", printable(&worker.words));
        self.log_worker(Level::Info, &scheduler.logname, &name, "start worker", &[command]);
        self.out.push(Effect::StartWorker(Box::new(StartWorker {
            id,
            name,
            argv: worker.words.clone(),
            env: vec![c_string(format!("RINOTIFYD_SCHEDULER={}", scheduler.name).into_bytes())],
            run: self.runs[sched].clone().unwrap_or_default(),
            logname: scheduler.logname.clone(),
            ack: worker.ack,
            first,
        })));
        id
    }

    /// Gives a task that runs from now on to an instance.
    pub(super) fn hand(&mut self, job: JobId, sched: usize, scheduler: &Scheduler, line: Vec<u8>) {
        let Some(worker) = scheduler.action.worker() else { return };
        // A further instance had better be started if none is idle.
        let busy = self.workers.pools[sched].may_start(worker);
        let idlest = self.workers.idlest(sched).filter(|one| one.tasks.is_empty() || !busy);
        let id = match idlest.map(|instance| instance.id) {
            Some(id) => id,
            None => self.start_worker(sched, scheduler, worker),
        };
        let is_suspect = self.tasks.get(job).is_some_and(|task| task.lost_workers > 0);
        if let Some(instance) = self.workers.get_mut(id) {
            instance.tasks.insert(job.task_id(), Handed { slot: job.slot(), nth: instance.handed });
            instance.handed += 1;
            instance.unwritten.push_back((job, line.len()));
            instance.has_suspect = is_suspect;
        }
        self.out.push(Effect::Hand { worker: id, line });
    }

    /// So many further lines are in the instance's pipe.
    pub(super) fn on_written(&mut self, id: WorkerId, count: usize) {
        for _ in 0..count {
            let Some(instance) = self.workers.get_mut(id) else { return };
            let Some((job, _)) = instance.unwritten.pop_front() else { return };
            if !instance.ack {
                instance.tasks.remove(&job.task_id());
                self.end_handed(job, Ok(()), self.position);
            }
        }
        self.close_if_retired(id);
    }

    /// The instance has written a line.
    pub(super) fn on_line(&mut self, id: WorkerId, line: &[u8], cut: u64, mark: u64) {
        let secret = self.options.secret;
        let Some(instance) = self.workers.get_mut(id) else { return };
        let sched = instance.sched;
        let answer = Answer::parse(line);
        let own = answer.filter(|answer| answer.token == protocol::token(secret, answer.id));
        let handed = own.and_then(|answer| instance.tasks.remove(&answer.id));
        let (Some(answer), Some(Handed { slot, .. })) = (answer, handed) else {
            let (level, message) = match answer {
                None => (Level::Info, "output"),
                Some(_) => (Level::Warning, "worker answers for a task that it does not have"),
            };
            let (logname, name) = (instance.logname.clone(), instance.name.clone());
            let fields = [("line", line.to_vec()), ("bytes_cut", cut.to_string().into_bytes())];
            let shown = if cut == 0 { &fields[..1] } else { &fields };
            self.log_worker(level, &logname, &name, message, shown);
            return;
        };
        instance.has_suspect = false;
        if let Some(sched) = sched {
            self.workers.pools[sched].failures = 0;
        }
        // Without one, its scheduler was removed meanwhile.
        if let Some(job) = self.tasks.by_slot(slot).filter(|job| job.task_id() == answer.id) {
            self.end_handed(job, answer.result.map_err(<[u8]>::to_vec), mark);
        }
        self.close_if_retired(id);
    }

    /// The run of a task for a worker has ended.
    pub(super) fn end_handed(&mut self, job: JobId, result: Result<(), Vec<u8>>, mark: u64) {
        let Some(run) = self.tasks.run_mut(job) else { return };
        let seconds = super::scheduling::seconds(self.now - run.started_at);
        self.cancel_run_timer(job);
        if let Some(task) = self.tasks.get_mut(job) {
            task.lost_workers = 0;
        }
        match result {
            Ok(()) => {
                self.counters.done += 1;
                self.log_task(Level::Info, job, "task finished", &[("seconds", seconds)]);
            }
            Err(text) => {
                self.counters.failed += 1;
                self.log_task(Level::Error, job, "task failed", &[("error", text), ("seconds", seconds)]);
            }
        }
        self.end_task(job, mark);
    }

    /// The instance has closed one of its pipes. If it does not end now, it has to.
    pub(super) fn on_worker_broken(&mut self, id: WorkerId, what: &'static str) {
        self.advance(id, Stage::Broken(what));
    }

    pub(super) fn on_worker_not_started(&mut self, id: WorkerId, error: &StartError) {
        let Some(instance) = self.workers.remove(id) else { return };
        let text = ("error", error.text.clone().into_bytes());
        let (level, message) = if error.temporary {
            (Level::Warning, "cannot start the worker now; trying again")
        } else {
            (Level::Error, "cannot start the worker")
        };
        self.log_worker(level, &instance.logname, &instance.name, message, &[text]);
        let jobs = self.jobs_of(&instance);
        if error.temporary {
            self.run_again_later(&jobs);
        } else {
            for job in jobs {
                self.end_handed(job, Err(b"cannot start the worker".to_vec()), self.position);
            }
        }
        let Some(sched) = instance.sched else { return };
        let pool = &mut self.workers.pools[sched];
        pool.unread = [instance.first, std::mem::take(&mut pool.unread)].concat();
        // A lazy one fails each task as it comes, like any program that is not there.
        let eager = self.config.schedulers[sched].action.worker().is_some_and(|worker| worker.eager);
        if error.temporary || eager || !pool.unread.is_empty() {
            self.pause(sched);
        }
    }

    /// The instance has ended, and everything that it wrote was told. `unread` are whole lines of
    /// finished tasks that it left in its pipe; so many of the lines that it was handed it had `begun` to
    /// read.
    pub(super) fn on_worker_ended(
        &mut self,
        id: WorkerId,
        status: ExitStatus,
        mark: u64,
        unread: Vec<u8>,
        begun: u64,
    ) {
        let Some(instance) = self.workers.remove(id) else { return };
        if let Some(timer) = instance.timer {
            self.wheel.cancel(timer);
        }
        self.log_end(&instance, status);
        let lived = self.now - instance.started_at;
        let stopping = matches!(self.phase, Phase::Terminating | Phase::Killing);
        let (mut seen, mut unseen) = (Vec::new(), Vec::new());
        for job in self.jobs_of(&instance) {
            if stopping || self.tasks.run_mut(job).is_some_and(|run| run.terminated) {
                self.end_handed(job, Err(b"its worker has ended".to_vec()), mark);
            } else if instance.tasks.get(&job.task_id()).is_some_and(|handed| handed.nth < begun) {
                seen.push(job);
            } else {
                unseen.push(job);
            }
        }
        self.run_again_later(&unseen);
        self.suspect(&seen, mark);
        let Some(sched) = instance.sched.filter(|_| !stopping) else {
            self.lose(&instance.logname, &instance.name, &unread);
            return;
        };
        let pool = &mut self.workers.pools[sched];
        pool.unread = [unread, std::mem::take(&mut pool.unread)].concat();
        // If a task may have ended it, the pause is not to hold up the others.
        if !seen.is_empty() || !instance.ack && lived >= STEADY_MS {
            pool.failures = 0;
        }
        self.pause(sched);
    }

    fn log_end(&mut self, instance: &Instance, status: ExitStatus) {
        let count = instance.tasks.len();
        let level = match instance.stage {
            Stage::Closed if count == 0 => Level::Info,
            _ if count == 0 && status.success() => Level::Warning,
            _ => Level::Error,
        };
        let fields =
            [("result", status.to_string().into_bytes()), ("unanswered", count.to_string().into_bytes())];
        self.log_worker(level, &instance.logname, &instance.name, "worker ended", &fields);
    }

    /// Lines that no other instance will get.
    fn lose(&mut self, logname: &LogName, worker: &str, unread: &[u8]) {
        let lines = unread.iter().filter(|&&byte| byte == b'\n').count();
        if lines > 0 {
            let count = [("lines", lines.to_string().into_bytes())];
            let message = "the worker has ended without reading its last lines, which are lost";
            self.log_worker(Level::Error, logname, worker, message, &count);
        }
    }

    /// The tasks of an instance that are still there, oldest first.
    fn jobs_of(&self, instance: &Instance) -> Vec<JobId> {
        let jobs = instance.tasks.iter().filter_map(|(&id, &Handed { slot, .. })| {
            let job = self.tasks.by_slot(slot).filter(|job| job.task_id() == id)?;
            self.tasks.get(job).filter(|task| task.state == State::Running).map(|_| job)
        });
        jobs.collect()
    }

    /// Tasks whose instance is gone before it has read them, oldest first.
    fn run_again_later(&mut self, jobs: &[JobId]) {
        for &job in jobs.iter().rev() {
            let place = self.tasks.first_place();
            self.run_again_at(job, place);
        }
    }

    /// Tasks of which one may have ended its instance, oldest first.
    fn suspect(&mut self, jobs: &[JobId], mark: u64) {
        for &job in jobs {
            let Some(task) = self.tasks.get_mut(job) else { continue };
            task.lost_workers += 1;
            if task.lost_workers >= DEATHS_MAX {
                let error = format!("its worker has ended {DEATHS_MAX} times while it had this task");
                self.end_handed(job, Err(error.into_bytes()), mark);
                continue;
            }
            let place = self.tasks.place_behind(SUSPECT_WAITS);
            self.run_again_at(job, place);
        }
    }

    fn run_again_at(&mut self, job: JobId, place: u64) {
        self.cancel_run_timer(job);
        self.log_task(Level::Warning, job, "task runs again: its worker has ended", &[]);
        self.put_back(job, place);
    }

    /// No instance is started for a while.
    fn pause(&mut self, sched: usize) {
        let pool = &mut self.workers.pools[sched];
        if pool.pause.is_some() {
            return;
        }
        let pause = PAUSE_LAST_MS.min(PAUSE_FIRST_MS << pool.failures.min(16));
        pool.failures = pool.failures.saturating_add(1);
        let number = u16::try_from(sched).unwrap_or(u16::MAX);
        pool.pause = Some(self.wheel.insert(self.now + pause, Timer::Workers(number)));
        if pause > PAUSE_FIRST_MS {
            let scheduler = &self.config.schedulers[sched];
            let (logname, name) = (scheduler.logname.clone(), scheduler.name.clone());
            let delay = [("delay", super::scheduling::seconds(pause))];
            let message = "worker is not started again at once: it ends without having been of use";
            self.log_worker(Level::Warning, &logname, &name, message, &delay);
        }
    }

    pub(super) fn on_workers_pause_over(&mut self, sched: u16) {
        if let Some(pool) = self.workers.pools.get_mut(usize::from(sched)) {
            pool.pause = None;
        }
        self.start_workers();
    }

    /// A task is to end, and only the end of its worker ends it. Tells whether it has one.
    pub(super) fn terminate_worker_of(&mut self, job: JobId) -> bool {
        let Some(id) = self.workers.holder(job) else { return false };
        self.advance(id, Stage::Terminated);
        true
    }

    /// Brings an instance further on its way to its end, if it is not as far yet.
    fn advance(&mut self, id: WorkerId, stage: Stage) {
        let Some(instance) = self.workers.get_mut(id) else { return };
        if instance.stage.order() >= stage.order() {
            return;
        }
        instance.stage = stage;
        let (wait, effect) = match stage {
            Stage::Serving => return,
            Stage::Broken(_) => (Some(BROKEN_GRACE_MS), None),
            Stage::Closed => (Some(self.config.daemon.shutdown_timeout_ms), Some(Effect::CloseWorker(id))),
            Stage::Terminated => {
                let signal = Signal::Terminate;
                (Some(KILL_AFTER_MS), Some(Effect::SignalWorker { worker: id, signal }))
            }
            Stage::Killed => (None, Some(Effect::SignalWorker { worker: id, signal: Signal::Kill })),
        };
        if let Some(timer) = instance.timer.take() {
            self.wheel.cancel(timer);
        }
        instance.timer = wait.map(|wait| self.wheel.insert(self.now + wait, Timer::Worker(id.0)));
        self.out.extend(effect);
    }

    /// The instance is still there after the time it was given.
    pub(super) fn on_worker_timer(&mut self, number: u32) {
        let Some(instance) = self.workers.get_mut(WorkerId(number)) else { return };
        instance.timer = None;
        let (message, next) = match instance.stage {
            Stage::Broken(what) => (what, Stage::Terminated),
            Stage::Closed => ("worker does not end at the end of its input, terminated", Stage::Terminated),
            _ => ("worker ignores SIGTERM, killed", Stage::Killed),
        };
        let (logname, name) = (instance.logname.clone(), instance.name.clone());
        self.log_worker(Level::Error, &logname, &name, message, &[]);
        self.advance(WorkerId(number), next);
    }

    /// An instance of an old configuration that has nothing left to do.
    fn close_if_retired(&mut self, id: WorkerId) {
        let done = |instance: &mut Instance| instance.sched.is_none() && instance.tasks.is_empty();
        if self.workers.get_mut(id).is_some_and(done) {
            self.advance(id, Stage::Closed);
        }
    }

    /// After a reload: the workers of an unchanged scheduler stay, all others get no more tasks and
    /// are closed when they have answered.
    pub(super) fn move_workers(&mut self, old_config: &Config) {
        let mut old = std::mem::take(&mut self.workers.pools);
        let config = Rc::clone(&self.config);
        let same = |old: &Scheduler, new: &Scheduler| {
            old.name == new.name
                && new.action.worker().is_some()
                && old.action.worker() == new.action.worker()
        };
        // By the old number, the new one.
        let places: Vec<_> = old_config
            .schedulers
            .iter()
            .map(|old| config.schedulers.iter().position(|new| same(old, new)))
            .collect();
        self.workers.pools.resize_with(config.schedulers.len(), Pool::default);
        for ((pool, place), scheduler) in old.iter_mut().zip(&places).zip(&old_config.schedulers) {
            if let Some(pause) = pool.pause.take() {
                // The administrator may have mended the program.
                self.wheel.cancel(pause);
            }
            match place {
                Some(place) => self.workers.pools[*place] = std::mem::take(pool),
                None => self.pass_on(scheduler, std::mem::take(&mut pool.unread)),
            }
        }
        for at in 0..self.workers.instances.len() {
            let instance = &mut self.workers.instances[at];
            instance.sched = instance.sched.and_then(|sched| places[sched]);
            if let Some(sched) = instance.sched {
                instance.logname = config.schedulers[sched].logname.clone();
            }
            let id = instance.id;
            self.close_if_retired(id);
        }
        self.start_workers();
    }

    /// Unread lines of an old configuration go to the scheduler of the same name, if it can read them.
    fn pass_on(&mut self, old: &Scheduler, unread: Vec<u8>) {
        let reads = |worker: &Worker| {
            let old = old.action.worker();
            !worker.ack && old.is_some_and(|old| old.format == worker.format)
        };
        let fits = |new: &Scheduler| new.name == old.name && new.action.worker().is_some_and(reads);
        match self.config.schedulers.iter().position(fits) {
            Some(sched) => self.workers.pools[sched].unread = unread,
            None => self.lose(&old.logname, &old.name, &unread),
        }
    }

    /// There are no more tasks: all workers may end. Tells whether they have.
    pub(super) fn close_workers(&mut self) -> bool {
        let ended = self.advance_all(Stage::Closed);
        ended && self.workers.pools.iter().all(|pool| pool.unread.is_empty())
    }

    pub(super) fn terminate_workers(&mut self) {
        self.advance_all(Stage::Terminated);
        let config = Rc::clone(&self.config);
        for (sched, scheduler) in config.schedulers.iter().enumerate() {
            let unread = std::mem::take(&mut self.workers.pools[sched].unread);
            self.lose(&scheduler.logname, &scheduler.name, &unread);
        }
    }

    pub(super) fn kill_workers(&mut self) {
        self.advance_all(Stage::Killed);
    }

    fn advance_all(&mut self, stage: Stage) -> bool {
        for at in 0..self.workers.instances.len() {
            self.advance(self.workers.instances[at].id, stage);
        }
        self.workers.instances.is_empty()
    }

    pub(super) fn log_workers_status(&mut self) {
        let config = Rc::clone(&self.config);
        for (sched, (scheduler, pool)) in config.schedulers.iter().zip(&self.workers.pools).enumerate() {
            if scheduler.action.worker().is_none() {
                continue;
            }
            let own = self.workers.instances.iter().filter(|instance| instance.sched == Some(sched));
            let tasks: usize = own.map(|instance| instance.tasks.len()).sum();
            let record = Record::asked_for(&scheduler.logname, "status of worker")
                .field("worker", &scheduler.name)
                .field("instances", pool.count.to_string())
                .field("starts", pool.starts.to_string())
                .field("unanswered", tasks.to_string());
            self.out.push(Effect::Log(record));
        }
    }

    fn log_worker(
        &mut self,
        level: Level,
        logname: &LogName,
        worker: &str,
        message: &str,
        more: &[(&'static str, Vec<u8>)],
    ) {
        self.log(level, logname, |_| {
            let mut record = Record::new(level, logname, message).field("worker", worker);
            record.fields.extend_from_slice(more);
            record
        });
    }
}

impl Stage {
    fn order(self) -> u8 {
        match self {
            Self::Serving => 0,
            Self::Broken(_) => 1,
            Self::Closed => 2,
            Self::Terminated => 3,
            Self::Killed => 4,
        }
    }
}
