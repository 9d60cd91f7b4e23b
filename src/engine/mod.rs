//! The engine: decides everything, does nothing.
//!
//! [`Engine::step`] takes the time and one [`Input`] and appends [`Effect`]s; what becomes of an
//! effect comes back as a further input. There are no system calls, threads or clocks in here, so a
//! simulation can drive it with a made-up kernel.
//!
//! Read in this order: `message` (what goes in and out), `tree` (which wd is which path), `cover` and
//! `covering` (for whom a directory is watched), `watching` (how it comes to be watched), `answers`
//! (when in the order of events what was found counts), `visited` (what was found), `writers` (files
//! that somebody may still write to), `joining` (directories that come under another watch), `events`
//! (what one inotify event means), `reconcile` (what is done when events were missed), `routing` (whom an event concerns), `scheduling` (when a task runs),
//! `operations` (what a files scheduler's task does), `workers` (programs that get many tasks), `life`
//! (start, reload, shutdown, status), `asking` (questions from outside). The others are their tools:
//! `arrivals`, `pairing`, `tasks`, `wheel`, `protocol`, `index_table`, `names`.

mod answers;
mod arrivals;
mod asking;
mod cover;
mod covering;
mod events;
pub mod index_table;
mod joining;
mod life;
pub mod message;
pub mod names;
mod operations;
mod pairing;
pub mod protocol;
mod reconcile;
mod routing;
mod scheduling;
mod tasks;
mod tree;
mod visited;
mod watching;
pub mod wheel;
mod workers;
mod writers;

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{Config, Run};
use crate::record::{Level, LogLevels, LogName, Record};
use crate::types::{Millis, Wd};
use answers::{Answers, Kept};
use arrivals::{Arrivals, Visit};
use asking::Troubles;
use cover::Covers;
use joining::Joinings;
pub use message::{Effect, Input};
use pairing::{Origin, Pairing};
use reconcile::{Pass, Rescan, Starvation};
pub use tasks::JobId;
use tasks::Tasks;
pub use tree::NodeId;
use tree::Tree;
use wheel::{TimerId, Wheel};
pub use workers::WorkerId;
use workers::Workers;
use writers::Writers;

/// What the engine is told at its start, beside the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Log what would be run instead of running it.
    pub dry_run: bool,
    /// Children at once when the configuration leaves it open.
    pub default_max_jobs: u32,
    /// From so many directories on that are to be looked at, those are dropped that need not be.
    pub sift_at: usize,
    /// Random and secret: a worker that answers for a task has to repeat a word that follows from it.
    pub secret: [u64; 2],
}

/// [`Options::sift_at`] of the daemon: as many as events fit into the kernel's queue by default.
pub const SIFT_AT: usize = 16_384;

/// More waiting and ready tasks than this, and the event queue is left to the kernel: about
/// 200 MiB, which a machine that has so much to do can spare and a small one cannot exceed.
pub const TASKS_MAX: usize = 1 << 20;

/// What a timer is for. The number is a task's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Delay(u32),
    Timeout(u32),
    Progress(u32),
    Pairs,
    Resume,
    Shutdown,
    Starved,
    Postponed,
    Writers,
    /// The number is a watch's.
    Rescan(u16),
    /// The number is an instance's.
    Worker(u32),
    /// The number is a scheduler's.
    Workers(u16),
}

/// Whether the daemon takes new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Tasks may finish.
    Stopping,
    /// What still runs was sent SIGTERM.
    Terminating,
    /// What still runs was sent SIGKILL.
    Killing,
}

/// Numbers for the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    events: u64,
    made_up: u64,
    overflows: u64,
    done: u64,
    failed: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    config: Rc<Config>,
    /// By scheduler, if it starts programs: shared with the jobs that are started.
    runs: Vec<Option<Arc<Run>>>,
    options: Options,
    levels: LogLevels,
    now: Millis,
    /// Bytes of the event stream that were read from the descriptor, and that were dealt with.
    read_end: u64,
    position: u64,
    answers: Answers,
    tree: Tree,
    covers: Covers,
    arrivals: Arrivals,
    /// From so many visits on they are sifted next.
    sift_at: usize,
    /// Visits to be made again, and the timer runs.
    postponed: Vec<Visit>,
    /// Watches to be taken away once all answers are there.
    unwanted: Vec<Wd>,
    writers: Writers,
    /// Events of directories that may be elsewhere by now, since the kernel dropped some.
    doubted: HashMap<NodeId, Vec<Kept>>,
    pairing: Pairing,
    joinings: Joinings,
    /// The directory that the latest IN_MOVED_TO has brought, and from where, if that is watched.
    newcomer: Option<(NodeId, Option<Origin>)>,
    tasks: Tasks,
    /// Operations that go on though their scheduler was removed.
    orphans: usize,
    /// Tasks whose run has ended at a position that the reader has not reached.
    ended: VecDeque<(u64, JobId)>,
    wheel: Wheel<Timer>,
    pairs_timer: Option<TimerId>,
    /// No child is started before this timer; how often in a row that was so.
    start_pause: Option<TimerId>,
    start_failures: u32,
    workers: Workers,
    /// When the kernel's queue was last seen empty, and whether the current read empties it.
    emptied_at_ns: i64,
    reading: Option<i64>,
    pass: Option<Pass>,
    /// Directories that had appeared when the pass began, and not been looked at.
    unseen: HashSet<NodeId>,
    starvation: Option<Starvation>,
    rescans: Vec<Rescan>,
    phase: Phase,
    ready: bool,
    explaining: bool,
    counters: Counters,
    troubles: Troubles,
    out: Vec<Effect>,
    /// Reused by every event.
    path: Vec<u8>,
    nodes: Vec<NodeId>,
}

impl Engine {
    /// An engine that has done nothing yet; [`Input::Start`] begins.
    #[must_use]
    pub fn new(config: Config, options: Options, now: Millis) -> Self {
        let mut engine = Self {
            levels: config.log.clone(),
            config: Rc::new(config),
            runs: Vec::new(),
            sift_at: options.sift_at,
            options,
            now,
            read_end: 0,
            position: 0,
            answers: Answers::default(),
            tree: Tree::new(),
            covers: Covers::default(),
            arrivals: Arrivals::default(),
            postponed: Vec::new(),
            writers: Writers::default(),
            doubted: HashMap::new(),
            unwanted: Vec::new(),
            pairing: Pairing::default(),
            joinings: Joinings::default(),
            newcomer: None,
            tasks: Tasks::default(),
            orphans: 0,
            ended: VecDeque::new(),
            wheel: Wheel::new(now),
            pairs_timer: None,
            start_pause: None,
            start_failures: 0,
            workers: Workers::default(),
            emptied_at_ns: 0,
            reading: None,
            pass: None,
            unseen: HashSet::new(),
            starvation: None,
            rescans: Vec::new(),
            phase: Phase::Running,
            ready: false,
            explaining: false,
            counters: Counters::default(),
            troubles: Troubles::default(),
            out: Vec::new(),
            path: Vec::new(),
            nodes: Vec::new(),
        };
        engine.adopt_schedulers();
        engine.adopt_workers();
        engine
    }

    /// Takes one input and appends what is to be done about it.
    ///
    /// `now` must not go back. Effects are to be carried out in order.
    pub fn step(&mut self, now: Millis, input: Input<'_>, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        std::mem::swap(&mut self.out, effects);
        // Events that were read together are one moment: a task starts for the last of them.
        let within_read = matches!(input, Input::Filled { .. } | Input::Event { .. });
        match input {
            Input::Start { wall_ns } => self.start(wall_ns),
            Input::Filled { bytes, emptied, wall_ns } => {
                self.read_end += bytes as u64;
                self.reading = emptied.then_some(wall_ns);
            }
            Input::Event { event, size } => {
                self.take_event(&event, size);
                self.sift_visits();
            }
            Input::Drained => self.on_drained(),
            Input::Tick { queued, wall_ns } => self.on_tick(queued, wall_ns),
            Input::Mounts { points } => self.on_mounts(&points),
            Input::Spare => self.visit_some(),
            Input::Scanned { node, result, before, queued } => {
                self.on_scanned(node, result, self.mark(before), self.mark(queued));
            }
            Input::Started { job } => self.on_started(job),
            Input::NotStarted { job, error } => self.on_not_started(job, &error),
            Input::Ended { job, status, queued } => self.on_ended(job, status, self.mark(queued)),
            Input::Operated { operation, end, queued } => {
                self.on_operated(&operation, end, self.mark(queued))
            }
            Input::Measured { job, done, total, asked_for } => self.on_measured(job, done, total, asked_for),
            Input::WorkerNotStarted { worker, error } => self.on_worker_not_started(worker, &error),
            Input::Written { worker, lines } => self.on_written(worker, lines),
            Input::Line { worker, line, cut, queued } => self.on_line(worker, line, cut, self.mark(queued)),
            Input::WorkerBroken { worker, what } => self.on_worker_broken(worker, what),
            Input::WorkerEnded { worker, status, queued, unread, begun } => {
                self.on_worker_ended(worker, status, self.mark(queued), unread, begun);
            }
            Input::Reload(config) => self.reload(*config),
            Input::Stop { reason } => self.stop(reason),
            Input::Status => self.log_status(),
            Input::Ask { client, question } => self.on_ask(client, &question),
        }
        if !within_read {
            self.dispatch();
            self.exit_when_done();
        }
        std::mem::swap(&mut self.out, effects);
    }

    /// When [`Input::Tick`] is due; `None` when only something else can wake the engine.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.wheel.next_deadline()
    }

    /// Whether [`Input::Spare`] would have something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.arrivals.is_empty() && !self.answers.is_full()
    }

    /// Tells every decision about an event from now on.
    pub fn explain_decisions(&mut self) {
        self.explaining = true;
    }

    /// Whether there is any task.
    #[must_use]
    pub fn has_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// How many directories are watched.
    #[must_use]
    pub fn directories(&self) -> usize {
        self.tree.watched()
    }

    /// Whether the first look at all watch paths is done.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Every watched directory with its watch, for tests: under all names by which it is known.
    #[must_use]
    pub fn watched(&self) -> Vec<(Vec<u8>, Wd)> {
        let nodes = self.tree.subtree(tree::ROOT);
        let watched = nodes.into_iter().filter_map(|node| Some((node, self.tree.wd(node)?)));
        watched.map(|(node, wd)| (self.tree.path_of(node, b""), wd)).collect()
    }

    /// Whether the event queue may be read. If not, the kernel keeps the events, and an overflow of
    /// its queue is repaired later; the daemon's memory is not.
    #[must_use]
    pub fn accepts_events(&self) -> bool {
        self.tasks.waiting() + self.tasks.ready() < TASKS_MAX
    }

    /// The end of what is queued now, as a position in the stream.
    fn mark(&self, queued: usize) -> u64 {
        self.read_end + queued as u64
    }

    fn on_drained(&mut self) {
        // What the kernel dropped, it dropped after this moment.
        self.emptied_at_ns = self.reading.take().unwrap_or(self.emptied_at_ns);
        self.go_on();
        self.release_passed();
    }

    fn on_tick(&mut self, queued: usize, wall_ns: i64) {
        while let Some((_, timer)) = self.wheel.pop_expired(self.now) {
            match timer {
                Timer::Delay(slot) => self.on_delay_over(slot),
                Timer::Timeout(slot) => self.on_timeout(slot),
                Timer::Progress(slot) => self.on_progress_timer(slot),
                Timer::Pairs => {
                    self.pairs_timer = None;
                    self.pairing.age(self.now, self.mark(queued));
                    self.release_passed();
                }
                Timer::Resume => self.start_pause = None,
                Timer::Shutdown => self.on_shutdown_timeout(),
                Timer::Starved => self.on_starved(),
                Timer::Postponed => self.on_postponed(),
                Timer::Writers => self.on_writers_due(),
                Timer::Rescan(watch) => self.on_rescan(watch, wall_ns),
                Timer::Worker(number) => self.on_worker_timer(number),
                Timer::Workers(sched) => self.on_workers_pause_over(sched),
            }
        }
    }

    /// Deals with all that waited for the reader to get this far.
    fn release_passed(&mut self) {
        self.arrivals.resume(self.position);
        self.forget_looks();
        self.give_up_pairs();
        while self.ended.front().is_some_and(|(mark, _)| *mark <= self.position) {
            if let Some((_, job)) = self.ended.pop_front() {
                self.forget_ended(job);
            }
        }
    }

    /// Tells a decision; `text` is made only when somebody wants it.
    fn explain(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.explaining {
            let text = text(self);
            self.out.push(Effect::Explain(text));
        }
    }

    fn wants(&self, level: Level, name: &LogName) -> bool {
        // Errors are remembered for the status, whoever logs them.
        level >= Level::Error || self.levels.enabled(level, name) || self.config.to_syslog(level, name)
    }

    /// Logs under a name; `record` is made only when somebody wants it.
    fn log(&mut self, level: Level, name: &LogName, record: impl FnOnce(&Self) -> Record) {
        if self.wants(level, name) {
            let record = record(self);
            self.out.push(Effect::Log(record));
        }
    }

    fn log_daemon(&mut self, level: Level, message: impl Into<String>) {
        let name = self.config.daemon.logname.clone();
        self.log(level, &name, |_| Record::new(level, &name, message));
    }
}
