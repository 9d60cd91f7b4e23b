//! The books of the workers: which instances there are, how far each is, what each has to do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config::{Config, Run, Scheduler, Worker};
use crate::engine::ids::{TaskId, WorkerId};
use crate::engine::store::wheel::TimerId;
use crate::record::LogName;
use crate::types::Millis;

/// Lines handed to one instance that are not in its pipe yet, and their bytes, the last line aside.
/// Enough for one write to be worth its system call.
const UNWRITTEN_MAX: usize = 64;
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;

/// What the instances of one scheduler have in common.
#[derive(Debug, Default)]
pub struct Pool {
    /// How its programs are set up.
    pub run: Arc<Run>,
    /// How many instances there are.
    pub count: usize,
    /// No instance is started before this timer runs out.
    pub pause: Option<TimerId>,
    /// How many ended in a row without having been of use.
    pub failures: u32,
    /// What an instance had not read when it ended: the next one gets it first.
    pub unread: Vec<u8>,
    /// How many instances were started.
    pub starts: u64,
}

impl Pool {
    /// The pool of a scheduler, which is never used when the scheduler has no worker.
    #[must_use]
    pub fn new(scheduler: &Scheduler) -> Self {
        Self { run: Arc::new(scheduler.action.run().cloned().unwrap_or_default()), ..Self::default() }
    }

    /// Whether a further instance may be started.
    #[must_use]
    pub fn may_start(&self, worker: &Worker) -> bool {
        self.pause.is_none() && self.count < worker.instances as usize
    }
}

/// One running program.
#[derive(Debug)]
pub struct Instance {
    /// Its number.
    pub id: WorkerId,
    /// Its scheduler. Without one, the configuration that it was started by is gone, and it gets no more
    /// tasks.
    pub sched: Option<usize>,
    /// The scheduler's name, and the number.
    pub name: String,
    /// Under which name it logs.
    pub logname: LogName,
    /// It answers each task.
    pub ack: bool,
    /// How far it is.
    pub stage: Stage,
    /// Runs out when the next stage is due.
    pub timer: Option<TimerId>,
    /// When it was started.
    pub started_at: Millis,
    /// Handed over and not done, by task number.
    pub tasks: BTreeMap<u64, Handed>,
    /// So many lines were handed over.
    pub handed: u64,
    /// What is not in its pipe yet, in order, with the length of the line.
    pub unwritten: VecDeque<(TaskId, usize)>,
    /// It has a suspect, and gets nothing else until that is answered.
    pub has_suspect: bool,
    /// What it was given of another's unread lines.
    pub first: Vec<u8>,
}

/// A task in the hands of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Handed {
    /// The task's slot.
    pub slot: u32,
    /// So many lines were handed over before.
    pub nth: u64,
}

impl Instance {
    fn takes(&self) -> bool {
        let bytes: usize = self.unwritten.iter().map(|(_, len)| len).sum();
        self.stage == Stage::Serving
            && !self.has_suspect
            && self.unwritten.len() < UNWRITTEN_MAX
            && bytes < UNWRITTEN_BYTES_MAX
    }

    /// Its tasks, oldest first, each with how many lines were handed over before.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, u64)> {
        self.tasks.iter().map(|(&number, &Handed { slot, nth })| (TaskId { slot, number }, nth))
    }
}

/// How far an instance is on its way; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It takes tasks.
    Serving,
    /// One of its pipes is closed; it may be about to end by itself.
    Broken(&'static str),
    /// There is no more input for it.
    Closed,
    /// SIGTERM was sent.
    Terminated,
    /// SIGKILL was sent.
    Killed,
}

impl Stage {
    /// A later stage has a higher number.
    #[must_use]
    pub fn order(self) -> u8 {
        match self {
            Self::Serving => 0,
            Self::Broken(_) => 1,
            Self::Closed => 2,
            Self::Terminated => 3,
            Self::Killed => 4,
        }
    }
}

/// All workers.
#[derive(Debug, Default)]
pub struct Workers {
    /// By scheduler; not used for those that have no worker.
    pub(super) pools: Vec<Pool>,
    pub(super) instances: Vec<Instance>,
    last_id: u32,
}

impl Workers {
    /// The workers of this configuration, of which none runs.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { pools: config.schedulers.iter().map(Pool::new).collect(), ..Self::default() }
    }

    /// The number of the next instance.
    pub(super) fn next_id(&mut self) -> WorkerId {
        self.last_id += 1;
        WorkerId(self.last_id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Instance> {
        let at = self.instances.iter().position(|instance| instance.id == id)?;
        let instance = self.instances.remove(at);
        if let Some(sched) = instance.sched {
            self.pools[sched].count -= 1;
        }
        Some(instance)
    }

    /// The instance that has this task.
    #[must_use]
    pub fn holder(&self, task: TaskId) -> Option<WorkerId> {
        let holds = |instance: &&Instance| {
            instance.tasks.get(&task.number).is_some_and(|handed| handed.slot == task.slot)
        };
        self.instances.iter().find(holds).map(|instance| instance.id)
    }

    /// The instance of a scheduler with the least to do.
    pub(super) fn idlest(&self, sched: usize) -> Option<&Instance> {
        let of = self.instances.iter().filter(|one| one.sched == Some(sched) && one.takes());
        of.min_by_key(|instance| instance.tasks.len())
    }

    /// Whether there is an instance for another task of a worker's scheduler, or can be. A suspect gets an
    /// instance of its own.
    #[must_use]
    pub fn have_room(&self, sched: usize, worker: &Worker, is_suspect: bool) -> bool {
        let Some(pool) = self.pools.get(sched) else { return false };
        let fits = |instance: &Instance| !is_suspect || instance.tasks.is_empty();
        pool.may_start(worker) || self.idlest(sched).is_some_and(fits)
    }
}
