//! A shell without system calls: carries the engine's effects out on the model kernel, in the steps
//! of `src/shell`, and lets the world go on between any two of them.

use std::collections::BTreeMap;

use rinotifyd::config::Config;
use rinotifyd::engine::message::{
    Effect, Entry, EntryKind, Facts, FileKind, Input, Inspect, Item, List, Operation, OperationDone,
    OperationEnd, Scan, ScanError, Seen, Signal, StartChild, StartError,
};
use rinotifyd::engine::{Engine, Options, TaskId};
use rinotifyd::event::{self, EventKind};
use rinotifyd::record::Record;
use rinotifyd::types::{ExitStatus, Millis, Wd};

use crate::kernel::{Ino, Kernel, TOP};
use crate::programs::Programs;
use crate::rng::Rng;
use crate::world::World;

/// Rest is reached sooner than this, or never.
const TURNS_MAX: usize = 100_000;

/// An event as a watch saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub event: String,
    pub path: Vec<u8>,
}

/// What happened to tasks, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    Told(Delivery),
    /// The engine's own words about a task.
    Said {
        message: String,
        path: Vec<u8>,
        id: u64,
    },
    Started {
        job: TaskId,
        path: Vec<u8>,
        scheduler: String,
    },
    /// The file of a task was found to be a FIFO.
    LeftOut {
        path: Vec<u8>,
    },
    /// The look at a task's file took too long.
    LookFailed {
        path: Vec<u8>,
    },
    NotStarted {
        job: TaskId,
        temporary: bool,
    },
    Signaled {
        job: TaskId,
        signal: Signal,
    },
    Ended(TaskId),
    /// A worker without answers has read the line of this task.
    Consumed(u64),
    /// A worker has answered for this task.
    Answered(u64),
}

/// What goes wrong, each in one case of so many; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub watch: usize,
    pub start: usize,
    /// Looks that have to wait for the filesystem, which sometimes never answers.
    pub look: usize,
    /// There are no leases: the filesystem does not say who writes to a file.
    pub leases: bool,
}

/// A file operation that the shell has.
struct Underway {
    operation: Box<Operation>,
    begins: Millis,
    ends: Millis,
    begun: bool,
    end: OperationEnd,
}

/// See the module's documentation.
pub struct Shell {
    pub engine: Engine,
    pub world: World,
    pub rng: Rng,
    pub now: Millis,
    pub faults: Faults,
    effects: Vec<Effect>,
    pub programs: Programs,
    /// When the children end by themselves.
    pub jobs: BTreeMap<TaskId, (Millis, ExitStatus)>,
    operations: BTreeMap<TaskId, Underway>,
    /// Looks at files that have to wait, and when they end.
    looks: BTreeMap<TaskId, (Millis, Inspect)>,
    /// How the names of files end that are FIFOs.
    pub fifos: Option<u8>,
    /// No operation begins before one that was asked for earlier.
    last_begin: Millis,
    /// How long a child or an operation runs at most.
    pub job_ms_max: usize,
    pub deliveries: Vec<Delivery>,
    pub history: Vec<(Millis, Happening)>,
    /// Directories that stay open for the next scan: path, watch and inode.
    kept: Vec<(Vec<u8>, Wd, Ino)>,
    pub ready: bool,
    pub exited: bool,
    /// The next event that tells of something new is stolen.
    pub steals: bool,
    /// Everything the engine wanted, for whom it matters.
    pub trace: Option<Vec<String>>,
}

impl Shell {
    pub fn new(config: Config, world: World, rng: Rng) -> Self {
        let now = 1_000;
        let kept_max = world.kept_max;
        let options = Options { dry_run: false, default_max_jobs: 4, sift_at: 4, kept_max, secret: [1, 2] };
        Self {
            engine: Engine::new(config, options, now),
            world,
            rng,
            now,
            faults: Faults::default(),
            effects: Vec::new(),
            programs: Programs::default(),
            jobs: BTreeMap::new(),
            operations: BTreeMap::new(),
            looks: BTreeMap::new(),
            fifos: None,
            last_begin: 0,
            job_ms_max: 50,
            deliveries: Vec::new(),
            history: Vec::new(),
            kept: Vec::new(),
            ready: false,
            exited: false,
            steals: false,
            trace: None,
        }
    }

    pub fn start(&mut self) {
        let wall_ns = self.wall_ns();
        self.input(Input::Start { wall_ns });
    }

    /// An input, and all that follows from it.
    pub fn input(&mut self, input: Input<'_>) {
        self.step(input);
        self.carry_out();
    }

    /// One turn of a loop that reads, works and waits in no particular order.
    pub fn turn(&mut self) {
        match self.rng.below(8) {
            0 | 1 => self.noise(4),
            2 | 3 => self.read_events(),
            4 | 5 if self.engine.has_work() => self.input(Input::Spare),
            6 => {
                // No system call takes so long.
                self.world.end_calls();
                let ms = self.rng.below(15) as Millis;
                self.wait_until(self.now + ms);
            }
            _ => self.tick(),
        }
    }

    /// Turns until engine, world and programs have nothing to do.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.is_at_rest() {
                return;
            }
            if !self.engine.has_work() && self.kernel().queued() == 0 {
                self.rest();
            }
            let idle = self.world.is_quiet() && self.world.kernel.queued() == 0 && !self.engine.has_work();
            if idle {
                let soon = (!self.programs.is_at_rest()).then_some(self.now + 1);
                self.wait_until(self.next_moment().into_iter().chain(soon).min().unwrap_or(self.now));
                self.tick();
            } else {
                self.turn();
            }
        }
        panic!("does not come to rest");
    }

    /// Closes the directories that were kept for the next scan.
    fn rest(&mut self) {
        for (_, _, ino) in std::mem::take(&mut self.kept) {
            self.kernel().release(ino);
        }
    }

    fn keep(&mut self, path: Vec<u8>, wd: Wd, ino: Ino) {
        if self.kept.len() >= 3 {
            let (_, _, oldest) = self.kept.remove(0);
            self.kernel().release(oldest);
        }
        self.kept.push((path, wd, ino));
    }

    /// When something is to happen next.
    pub fn next_moment(&self) -> Option<Millis> {
        let jobs = self.jobs.values().map(|(end, _)| *end);
        let operations = self.operations.values().map(|one| if one.begun { one.ends } else { one.begins });
        let looks = self.looks.values().map(|(end, _)| *end);
        jobs.chain(operations).chain(looks).chain(self.engine.next_deadline()).min()
    }

    pub fn is_at_rest(&self) -> bool {
        self.world.is_quiet()
            && self.world.kernel.queued() == 0
            && !self.engine.has_work()
            && self.jobs.is_empty()
            && self.operations.is_empty()
            && self.looks.is_empty()
            && self.programs.is_at_rest()
            && self.engine.next_deadline().is_none()
            && self.kept.is_empty()
    }

    pub fn wait_until(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.world.kernel.now_ms = self.now;
    }

    fn wall_ns(&self) -> i64 {
        self.now as i64 * 1_000_000
    }

    fn noise(&mut self, steps_max: usize) {
        for _ in 0..self.rng.below(steps_max + 1) {
            self.world.step(&mut self.rng);
        }
    }

    fn kernel(&mut self) -> &mut Kernel {
        &mut self.world.kernel
    }

    pub fn read_events(&mut self) {
        if self.steals {
            self.steals = !self.world.kernel.steal(EventKind::Create);
        }
        let size_max = 16 + self.rng.below(400);
        let bytes = self.kernel().read(size_max);
        if bytes.is_empty() {
            return;
        }
        // As the daemon sees it: a read that did not fill its buffer left nothing behind.
        let (emptied, wall_ns) = (self.kernel().queued() == 0, self.wall_ns());
        self.step(Input::Filled { bytes: bytes.len(), emptied, wall_ns });
        for (event, size) in event::parse(&bytes) {
            if event.mask & EventKind::QOverflow.bit() != 0 {
                self.rest();
            }
            self.step(Input::Event { event, size });
        }
        self.input(Input::Drained);
    }

    pub fn tick(&mut self) {
        self.programs_act();
        let over: Vec<TaskId> =
            self.jobs.iter().filter(|(_, (end, _))| *end <= self.now).map(|(job, _)| *job).collect();
        for job in over {
            let Some((_, status)) = self.jobs.remove(&job) else { continue };
            self.happens(Happening::Ended(job));
            let queued = self.kernel().queued();
            self.input(Input::Ended { task: job, status, queued });
        }
        self.tick_operations();
        self.tick_looks();
        if self.engine.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            let queued = self.kernel().queued();
            let wall_ns = self.wall_ns();
            self.input(Input::Tick { queued, wall_ns });
        }
    }

    fn tick_operations(&mut self) {
        let jobs: Vec<TaskId> = self.operations.keys().copied().collect();
        for job in jobs {
            let now = self.now;
            let Some(one) = self.operations.get_mut(&job) else { continue };
            if !one.begun && one.begins <= now {
                one.begun = true;
                let path = one.operation.source.path.clone();
                self.happens(Happening::Started { job, path, scheduler: String::new() });
            } else if one.begun && one.ends <= now {
                self.end_operation(job, None);
                self.carry_out();
            }
        }
    }

    fn tick_looks(&mut self) {
        let now = self.now;
        let over: Vec<TaskId> =
            self.looks.iter().filter(|(_, (end, _))| *end <= now).map(|(task, _)| *task).collect();
        for task in over {
            let Some((_, inspect)) = self.looks.remove(&task) else { continue };
            self.end_look(&inspect);
            self.carry_out();
        }
    }

    fn look(&mut self, inspect: &Inspect) {
        if self.faults.look == 0 || !self.rng.one_in(self.faults.look) {
            return self.end_look(inspect);
        }
        // Now and then so long that the engine has given it up.
        let ms = if self.rng.one_in(8) { 11_000 } else { self.rng.below(20) as Millis };
        self.looks.insert(inspect.task, (self.now + ms, inspect.clone()));
    }

    fn end_look(&mut self, inspect: &Inspect) {
        let is_fifo = self.fifos.is_some_and(|end| inspect.path.last() == Some(&end));
        let kind = if is_fifo { FileKind::Fifo } else { FileKind::Plain };
        self.step(Input::Inspected { task: inspect.task, facts: Facts { kind } });
    }

    /// It ends as it was to end, or in another way.
    fn end_operation(&mut self, job: TaskId, end: Option<OperationEnd>) {
        let Some(one) = self.operations.remove(&job) else { return };
        if one.begun {
            self.happens(Happening::Ended(job));
        }
        let queued = self.kernel().queued();
        self.step(Input::Operated { operation: one.operation, end: end.unwrap_or(one.end), queued });
    }

    fn operate(&mut self, operation: Box<Operation>) {
        self.last_begin = self.last_begin.max(self.now) + self.rng.below(8) as Millis;
        let begins = self.last_begin;
        let ends = begins + self.rng.below(self.job_ms_max) as Millis;
        let end = if self.rng.one_in(4) {
            OperationEnd::Failed("no".to_owned())
        } else {
            OperationEnd::Done(OperationDone::default())
        };
        let job = operation.task;
        let known = self.operations.insert(job, Underway { operation, begins, ends, begun: false, end });
        assert!(known.is_none(), "{job:?} was begun twice");
    }

    fn withdraw(&mut self, job: TaskId, end: OperationEnd) {
        if self.operations.get(&job).is_some_and(|one| !one.begun) {
            self.end_operation(job, Some(end));
        }
    }

    pub fn step(&mut self, input: Input<'_>) {
        self.note(|| format!("{input:?}"));
        let mut effects = Vec::new();
        self.engine.step(self.now, input, &mut effects);
        for effect in &effects {
            self.note(|| match effect {
                Effect::Log(record) => {
                    let fields = record.fields.iter();
                    let fields: String =
                        fields.map(|(key, value)| format!(" {key}={}", value.escape_ascii())).collect();
                    format!("    {}{fields}", record.message)
                }
                effect => format!("    {effect:?}"),
            });
        }
        self.effects.append(&mut effects);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if !self.world.verbose && self.trace.is_none() {
            return;
        }
        let line = format!("{} {}", self.now, line());
        if self.world.verbose {
            println!("{line}");
        }
        self.trace.iter_mut().for_each(|trace| trace.push(line.clone()));
    }

    fn carry_out(&mut self) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Log(record) => self.listen(&record),
            Effect::Scan(scan) => self.scan(&scan),
            Effect::Unwatch(wd) => self.world.unwatch(wd),
            Effect::Inspect(inspect) => self.look(&inspect),
            Effect::Start(child) => self.begin(&child),
            Effect::Signal { task: job, signal } => {
                self.happens(Happening::Signaled { job, signal });
                if let Some((end, status)) = self.jobs.get_mut(&job) {
                    let (number, lag) = if signal == Signal::Kill { (9, 0) } else { (15, 7_000) };
                    *end = self.now + self.rng.below(lag + 1) as Millis;
                    *status = ExitStatus::Signaled(number);
                }
            }
            Effect::Operate(operation) => self.operate(operation),
            Effect::Withdraw(job) => self.withdraw(job, OperationEnd::Withdrawn),
            Effect::Abort(job) => {
                self.withdraw(job, OperationEnd::Aborted("not begun".to_owned()));
                if let Some(one) = self.operations.get_mut(&job) {
                    one.ends = self.now;
                    one.end = OperationEnd::Aborted("told to end".to_owned());
                }
            }
            Effect::Measure { task: job, asked_for } => {
                if self.operations.contains_key(&job) {
                    self.step(Input::Measured { task: job, done: 1, total: 2, asked_for });
                }
            }
            Effect::StartWorker(start) => self.start_program(*start),
            Effect::Hand { worker, line } => self.programs.hand(worker, line),
            Effect::CloseWorker(worker) => self.programs.close(worker),
            Effect::SignalWorker { worker, signal } => self.programs.signal(worker, signal),
            Effect::Ready => self.ready = true,
            Effect::Exit => self.exited = true,
            Effect::Reply(_) | Effect::Levels(_) | Effect::Explain(_) => {}
        }
    }

    pub fn happens(&mut self, happening: Happening) {
        self.history.push((self.now, happening));
    }

    /// The log tells what has no other effect.
    fn listen(&mut self, record: &Record) {
        let field = |key| record.fields.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
        let text = |key| field(key).map(|value| String::from_utf8_lossy(value).into_owned());
        let Some(path) = field("path").cloned() else { return };
        if record.message == "event" {
            let delivery = Delivery { event: text("event").unwrap_or_default(), path };
            self.happens(Happening::Told(delivery.clone()));
            self.deliveries.push(delivery);
        } else if record.message == "task left out: special = no" {
            self.happens(Happening::LeftOut { path });
        } else if text("error").is_some_and(|error| error.ends_with("does not answer")) {
            self.happens(Happening::LookFailed { path });
        } else if let Some(id) = text("task_id").and_then(|id| id.parse().ok()) {
            self.happens(Happening::Said { message: record.message.clone(), path, id });
        }
    }

    fn begin(&mut self, child: &StartChild) {
        if self.faults.start > 0 && self.rng.one_in(self.faults.start) {
            let temporary = self.rng.one_in(2);
            self.happens(Happening::NotStarted { job: child.task, temporary });
            let error = StartError { temporary, text: "no".to_owned() };
            self.step(Input::NotStarted { task: child.task, error });
            return;
        }
        let (path, scheduler) = (child.argv[0].as_bytes().to_vec(), child.logname.to_string());
        self.happens(Happening::Started { job: child.task, path, scheduler });
        let end = self.now + self.rng.below(self.job_ms_max) as Millis;
        let known = self.jobs.insert(child.task, (end, ExitStatus::Exited(0)));
        assert!(known.is_none(), "{:?} was started twice", child.task);
        self.step(Input::Started { task: child.task });
    }

    // As src/shell/scan.rs; `visits` compares the two.

    fn scan(&mut self, scan: &Scan) {
        let before = self.kernel().queued();
        let results = self.visit(scan);
        self.noise(1);
        let queued = self.kernel().queued();
        for (item, result) in scan.items.iter().zip(results) {
            self.step(Input::Scanned { node: item.node, result, before, queued });
        }
    }

    /// Watches and lists directories, one result for each item.
    pub fn visit(&mut self, scan: &Scan) -> Vec<Result<Seen, ScanError>> {
        self.noise(2);
        let parent = self.parent(scan);
        let mut results = Vec::new();
        for item in &scan.items {
            self.noise(2);
            results.push(match &parent {
                Ok(Some(parent)) if scan.expect.is_some() && item.is_plain() => {
                    self.visit_by_name(&scan.base, *parent, item)
                }
                Ok(parent) => self.visit_one(&scan.base, *parent, item),
                Err(error) => Err(error.clone()),
            });
        }
        if let Ok(Some(parent)) = parent {
            self.noise(2);
            self.world.await_changes(parent);
            match scan.expect {
                Some(wd) => self.keep(scan.base.clone(), wd, parent),
                None => self.kernel().release(parent),
            }
        }
        results
    }

    fn parent(&mut self, scan: &Scan) -> Result<Option<Ino>, ScanError> {
        if scan.items.iter().all(|item| item.follow) && scan.expect.is_none() {
            return Ok(None);
        }
        let is_parent = |kept: &(Vec<u8>, Wd, Ino)| kept.0 == scan.base && Some(kept.1) == scan.expect;
        if let Some(index) = self.kept.iter().rposition(is_parent) {
            let (_, _, parent) = self.kept.remove(index);
            return self.identified(scan, parent);
        }
        let opened = self.open(TOP, &scan.base);
        let parent =
            if scan.expect.is_some() { opened.map_err(|_| ScanError::Stale(None))? } else { opened? };
        self.identified(scan, parent)
    }

    fn identified(&mut self, scan: &Scan, parent: Ino) -> Result<Option<Ino>, ScanError> {
        self.noise(1);
        let Some(expect) = scan.expect else { return Ok(Some(parent)) };
        let wd = self.kernel().add_watch(parent, 0, true);
        if wd == expect {
            return Ok(Some(parent));
        }
        self.kernel().release(parent);
        Err(ScanError::Stale(Some(wd)))
    }

    fn open(&mut self, top: Ino, path: &[u8]) -> Result<Ino, ScanError> {
        let kernel = self.kernel();
        let found = if top == TOP { kernel.resolve(path) } else { kernel.child(top, path) };
        let ino = match found {
            Some(ino) => ino,
            None if kernel.leads_through_a_file(top, path) => return Err(ScanError::NotDirectory),
            None => return Err(ScanError::NotFound),
        };
        if !kernel.is_dir(ino) {
            return Err(ScanError::NotDirectory);
        }
        kernel.hold(ino);
        Ok(ino)
    }

    fn fail_to_watch(&mut self) -> Result<(), ScanError> {
        if self.faults.watch > 0 && self.rng.one_in(self.faults.watch) {
            let words = ScanError::Other("EIO".to_owned());
            let errors = [ScanError::Denied, ScanError::NoSpace { limit: None }, words];
            return Err(self.rng.pick(&errors).clone());
        }
        Ok(())
    }

    /// Each step may find another directory.
    fn visit_by_name(&mut self, base: &[u8], parent: Ino, item: &Item) -> Result<Seen, ScanError> {
        self.fail_to_watch()?;
        let ino = self.open(parent, &item.name)?;
        let wd = self.kernel().add_watch(ino, item.mask, true);
        self.kernel().release(ino);
        self.noise(2);
        let outcome = match self.list_by_name(parent, item) {
            Err(ScanError::NotFound | ScanError::NotDirectory) => Err(ScanError::Stale(Some(wd))),
            outcome => outcome,
        };
        let (entries, held) = outcome?;
        if let Some(held) = held {
            self.keep([base, b"/", &item.name].concat(), wd, held);
        }
        Ok(Seen { wd, entries, remote: None })
    }

    fn list_by_name(&mut self, parent: Ino, item: &Item) -> Result<(Vec<Entry>, Option<Ino>), ScanError> {
        if item.list == List::Nothing {
            return Ok((Vec::new(), None));
        }
        let ino = self.open(parent, &item.name)?;
        let is_leaf = self.list(ino, item).is_empty();
        self.kernel().release(ino);
        if is_leaf {
            return Ok((Vec::new(), None));
        }
        self.noise(2);
        let ino = self.open(parent, &item.name)?;
        self.noise(2);
        Ok((self.list(ino, item), Some(ino)))
    }

    fn visit_one(&mut self, base: &[u8], parent: Option<Ino>, item: &Item) -> Result<Seen, ScanError> {
        self.fail_to_watch()?;
        let ino = self.open_item(base, parent, item)?;
        self.noise(2);
        let wd = self.kernel().add_watch(ino, item.mask, !item.replace);
        self.noise(2);
        let entries = self.list(ino, item);
        self.keep([base, b"/", &item.name].concat(), wd, ino);
        self.noise(1);
        Ok(Seen { wd, entries, remote: None })
    }

    fn open_item(&mut self, base: &[u8], parent: Option<Ino>, item: &Item) -> Result<Ino, ScanError> {
        match parent {
            Some(parent) if !item.follow => self.open(parent, &item.name),
            _ => self.open(TOP, &[base, b"/", &item.name].concat()),
        }
    }

    fn list(&mut self, dir: Ino, item: &Item) -> Vec<Entry> {
        let wanted = item.list;
        match wanted {
            List::Nothing => return Vec::new(),
            List::Named => return item.names.iter().filter_map(|name| self.named(dir, name)).collect(),
            _ => {}
        }
        let mut entries = Vec::new();
        for (name, ino) in self.world.list(dir) {
            let is_dir = self.world.kernel.is_dir(ino);
            let changed = match wanted {
                List::Changes { since_ns } => {
                    self.world.kernel.inodes[ino].changed_ms as i64 * 1_000_000 >= since_ns
                }
                _ => true,
            };
            let asks = matches!(wanted, List::Writers | List::Changes { .. }) && changed;
            let kind = if is_dir {
                EntryKind::Directory
            } else if wanted == List::Directories {
                continue;
            } else if asks {
                // The name may be gone by now.
                self.file_kind(dir, &name).unwrap_or(EntryKind::OpenFile)
            } else {
                EntryKind::File
            };
            entries.push(Entry { name: name.into(), kind, changed });
        }
        entries
    }

    fn named(&mut self, dir: Ino, name: &[u8]) -> Option<Entry> {
        let kind = self.file_kind(dir, name)?;
        Some(Entry { name: name.into(), kind, changed: true })
    }

    /// `None` when there is no such file.
    fn file_kind(&mut self, dir: Ino, name: &[u8]) -> Option<EntryKind> {
        self.noise(1);
        let kernel = &self.world.kernel;
        let file = &kernel.inodes[kernel.child(dir, name)?];
        Some(match file.holders {
            _ if file.entries.is_some() => return None,
            _ if self.faults.leases => EntryKind::Unsure { stamp: file.changed_ms },
            0 => EntryKind::File,
            _ => EntryKind::OpenFile,
        })
    }
}

/// What the checks ask of an event's name.
pub fn is(delivery: &Delivery, kind: EventKind) -> bool {
    delivery.event == kind.name()
}
