//! The daemon: what the kernel says becomes the engine's inputs, its effects become system calls.
//!
//! One turn of the loop: fetch what is ready; read events first, because the kernel's queue is
//! what can overflow; then children, their output, the clock. Then one piece of long work, if there
//! is any, and back to the queue.

mod service;

use super::children::{Child, Children};
use super::fileops::pool::Pool;
use super::log::Log;
use super::look::{Looked, Looks};
use super::mounts::Mounts;
use super::reactor::{Reactor, Source, Token};
use super::scan::Scanner;
use super::workers::{Flushed, LAST_READS, Left, Workers};
use crate::config::Config;
use crate::engine::message::{Inspect, OperationEnd, Scan};
use crate::engine::{Effect, Engine, Input, Options, TaskId, WorkerId};
use crate::event::{self, EventKind};
use crate::record::{Level, LogName, Record};
use crate::sys::epoll::Interest;
use crate::sys::inotify::Inotify;
use crate::sys::limits::Limit;
use crate::sys::signalfd::{Signal, Signals};
use crate::sys::timerfd::Timer;
use crate::sys::{Errno, Error, clock, dir};
use crate::types::{ExitStatus, Millis};
use service::Service;

/// Room for about 2,000 events of short names: what arrives in a millisecond of the worst storm.
const EVENT_BUFFER_SIZE: usize = 64 * 1024;

/// Buffers of events in one turn, before the others get theirs.
const READS_PER_TURN: usize = 4;

/// Long work in one turn. An event that arrives meanwhile waits no longer than this.
const WORK_MAX_MICROS: u64 = 2_000;

/// Events that follow each other closer than this are read together; see [`Pace`].
const PACE_MICROS: u64 = 1_000;

/// With a shorter queue than this the reader never waits: a millisecond could fill it.
const PACE_QUEUE_MIN: u64 = 8_192;

/// How long the last lines of the log may take.
const LAST_WORDS_MS: Millis = 1_000;

/// Where the configuration comes from when SIGHUP asks for it again.
pub trait Reload {
    /// The new configuration; its warnings and errors are given to `say`. `None` when it is bad.
    fn reload(&mut self, say: &mut dyn FnMut(Level, String)) -> Option<Config>;
}

/// Whether the reader waits a moment to read many events at once.
///
/// A loop that reads whenever it can spends most of its time waking up for single events. Once two
/// reads follow each other within a millisecond, the descriptor is left alone for a millisecond
/// between reads, until one finds nothing. The first event after a quiet spell is read at once.
#[derive(Debug)]
struct Pace {
    enabled: bool,
    waiting: bool,
    last_read: u64,
}

/// See the module's documentation.
pub struct Daemon<'a> {
    reactor: Reactor,
    inotify: Inotify,
    inotify_token: Token,
    pace: Pace,
    timer: Timer,
    armed: Option<Millis>,
    signals: Signals,
    mounts: Option<Mounts>,
    log: Log,
    log_token: Option<Token>,
    logname: LogName,
    children: Children,
    pool: Pool,
    looks: Looks,
    file_workers: u32,
    service: Service,
    workers: Workers,
    scanner: Scanner,
    engine: Engine,
    effects: Vec<Effect>,
    buffer: Vec<u8>,
    reload: &'a mut dyn Reload,
    done: bool,
}

impl<'a> Daemon<'a> {
    /// Takes what the loop needs from the kernel.
    ///
    /// # Errors
    ///
    /// The call that failed: without any of these there is no daemon.
    pub fn new(
        config: Config,
        options: Options,
        mut log: Log,
        reload: &'a mut dyn Reload,
    ) -> Result<Self, Error> {
        let failed = |op: &'static str| move |errno: Errno| Error::new(op, b"", errno);
        let mut reactor = Reactor::new().map_err(failed("epoll_create1"))?;
        let inotify = Inotify::new().map_err(|errno| {
            if errno == Errno::EMFILE {
                log.write(&no_instance(&config.daemon.logname));
                log.drain_blocking(LAST_WORDS_MS);
            }
            failed("inotify_init1")(errno)
        })?;
        let timer = Timer::new().map_err(failed("timerfd_create"))?;
        let signals = Signals::new(&[
            Signal::Terminate,
            Signal::Interrupt,
            Signal::Hangup,
            Signal::User1,
            Signal::Child,
        ])
        .map_err(failed("signalfd"))?;
        let inotify_token =
            reactor.add(&inotify, Source::Inotify, Interest::READ).map_err(failed("epoll_ctl"))?;
        reactor.add(&timer, Source::Timer, Interest::READ).map_err(failed("epoll_ctl"))?;
        reactor.add(&signals, Source::Signals, Interest::READ).map_err(failed("epoll_ctl"))?;
        let mounts = Mounts::open();
        if let Some(mounts) = &mounts {
            reactor.add(mounts, Source::Mounts, Interest::PRIORITY).map_err(failed("epoll_ctl"))?;
        }
        let pool = Pool::new().map_err(failed("eventfd"))?;
        reactor.add(&pool, Source::Operations, Interest::READ).map_err(failed("epoll_ctl"))?;
        let looks = Looks::new().map_err(failed("eventfd"))?;
        reactor.add(&looks, Source::Looks, Interest::READ).map_err(failed("epoll_ctl"))?;
        let queue_is_long = Limit::QueuedEvents.read().is_ok_and(|length| length >= PACE_QUEUE_MIN);
        let now = clock::now();
        Ok(Self {
            reactor,
            inotify,
            inotify_token,
            pace: Pace { enabled: queue_is_long, waiting: false, last_read: 0 },
            timer,
            armed: None,
            signals,
            mounts,
            log,
            log_token: None,
            logname: config.daemon.logname.clone(),
            children: Children::new()?,
            pool,
            looks,
            file_workers: config.daemon.file_workers,
            service: Service::new(options.dry_run),
            workers: Workers::default(),
            scanner: Scanner::default(),
            engine: Engine::new(config, options, now),
            effects: Vec::new(),
            buffer: vec![0; EVENT_BUFFER_SIZE],
            reload,
            done: false,
        })
    }

    /// Runs until a signal ends it.
    ///
    /// # Errors
    ///
    /// A broken epoll, timer, signal or inotify descriptor; nothing else is fatal.
    pub fn run(&mut self) -> Result<(), Error> {
        self.step(Input::Start { wall_ns: clock::wall_ns() });
        self.carry_out();
        let mut ready = Vec::new();
        while !self.done {
            self.work();
            self.flush_workers();
            self.arm()?;
            self.flush_log();
            let timeout = self.timeout();
            if timeout.is_none() {
                self.scanner.rest();
            }
            self.reactor.fetch(timeout, &mut ready).map_err(|errno| Error::new("epoll_wait", b"", errno))?;
            self.turn(&ready)?;
        }
        self.say(Level::Info, "stopped".to_owned());
        self.log.drain_blocking(LAST_WORDS_MS);
        Ok(())
    }

    fn timeout(&self) -> Option<Millis> {
        if self.engine.has_work() || self.workers.has_fresh() {
            Some(0)
        } else if self.pace.waiting {
            Some(PACE_MICROS / 1_000)
        } else {
            None
        }
    }

    fn turn(&mut self, ready: &[Token]) -> Result<(), Error> {
        let is_ready =
            |daemon: &Self, source| ready.iter().any(|token| daemon.reactor.source(*token) == Some(source));
        if self.pace.waiting || is_ready(self, Source::Inotify) {
            self.read_events()?;
        }
        for &token in ready {
            match self.reactor.source(token) {
                Some(Source::Signals) => self.read_signals()?,
                Some(Source::Output(key)) => {
                    self.children.read(&mut self.reactor, &mut self.log, key);
                }
                Some(Source::Answers(worker)) => self.read_answers(worker),
                Some(Source::Tasks(worker)) => self.flush_worker(worker),
                Some(Source::Mounts) => self.take_mounts(),
                Some(Source::Operations) => self.take_operations(),
                Some(Source::Looks) => self.take_looks(),
                Some(Source::Control) => self.accept_client(),
                Some(Source::Client(client)) => self.serve_client(client),
                Some(Source::Inotify | Source::Timer | Source::Log) | None => {}
            }
        }
        if is_ready(self, Source::Timer) {
            self.timer.acknowledge().map_err(|errno| Error::new("read timerfd", b"", errno))?;
            self.armed = None;
            let queued = self.queued();
            self.step(Input::Tick { queued, wall_ns: clock::wall_ns() });
            self.carry_out();
            self.serve_time(clock::now());
        }
        Ok(())
    }

    fn read_events(&mut self) -> Result<(), Error> {
        if !self.engine.accepts_events() {
            return self.wait_for_events(true);
        }
        let now = clock::micros();
        let follows = now.saturating_sub(self.pace.last_read) < PACE_MICROS;
        let mut any = false;
        for _ in 0..READS_PER_TURN {
            let mut buffer = std::mem::take(&mut self.buffer);
            let wall_ns = clock::wall_ns();
            let read = self.inotify.read(&mut buffer);
            let bytes = read.map_err(|errno| Error::new("read inotify", b"", errno))?;
            self.take_events(&buffer[..bytes], wall_ns);
            self.buffer = buffer;
            self.carry_out();
            any |= bytes > 0;
            if bytes < EVENT_BUFFER_SIZE / 2 {
                break;
            }
        }
        self.pace.last_read = now;
        self.wait_for_events(any && self.pace.enabled && (follows || self.pace.waiting))
    }

    fn take_events(&mut self, bytes: &[u8], wall_ns: i64) {
        if bytes.is_empty() {
            return;
        }
        let now = clock::now();
        // The kernel fills the buffer as far as the next event fits.
        let emptied = bytes.len() + event::SIZE_MAX <= EVENT_BUFFER_SIZE;
        let filled = Input::Filled { bytes: bytes.len(), emptied, wall_ns };
        self.engine.step(now, filled, &mut self.effects);
        for (event, size) in event::parse(bytes) {
            if event.mask & EventKind::QOverflow.bit() != 0 {
                // The ways to them are no longer known.
                self.scanner.rest();
            }
            self.engine.step(now, Input::Event { event, size }, &mut self.effects);
        }
        self.engine.step(now, Input::Drained, &mut self.effects);
    }

    fn take_mounts(&mut self) {
        let points = self.mounts.as_mut().map(Mounts::changes).unwrap_or_default();
        if !points.is_empty() {
            self.step(Input::Mounts { points });
            self.carry_out();
        }
    }

    /// Leaves the events to themselves for a moment, or waits for them again.
    fn wait_for_events(&mut self, pause: bool) -> Result<(), Error> {
        if pause != self.pace.waiting {
            let outcome = if pause {
                self.reactor.pause(&self.inotify)
            } else {
                self.reactor.resume(self.inotify_token, &self.inotify, Interest::READ)
            };
            outcome.map_err(|errno| Error::new("epoll_ctl", b"", errno))?;
            self.pace.waiting = pause;
        }
        Ok(())
    }

    fn read_signals(&mut self) -> Result<(), Error> {
        loop {
            let signal = self.signals.read().map_err(|errno| Error::new("read signalfd", b"", errno))?;
            match signal {
                None => return Ok(()),
                Some(Signal::Terminate) => self.stop("SIGTERM"),
                Some(Signal::Interrupt) => self.stop("SIGINT"),
                Some(Signal::User1) => self.step(Input::Status),
                Some(Signal::Hangup) => {
                    // The log has what is wrong.
                    let _ = self.reload();
                    self.move_control();
                }
                Some(Signal::Child) => self.reap(),
            }
            self.carry_out();
        }
    }

    fn reap(&mut self) {
        while let Some((child, status)) = self.children.reap(&mut self.reactor, &mut self.log) {
            match child {
                Child::Task(task) => {
                    let queued = self.queued();
                    self.step(Input::Ended { task, status, queued });
                }
                Child::Worker(worker) => self.worker_ended(worker, status),
            }
        }
    }

    fn worker_ended(&mut self, worker: WorkerId, status: ExitStatus) {
        for _ in 0..LAST_READS {
            if !self.workers.has_answers(worker) {
                break;
            }
            self.read_answers(worker);
        }
        let Left { unread, begun } = self.workers.end(&mut self.reactor, worker);
        let queued = self.queued();
        self.step(Input::WorkerEnded { worker, status, queued, unread, begun });
    }

    fn read_answers(&mut self, worker: WorkerId) {
        let Self { workers, reactor, inotify, engine, effects, .. } = self;
        let now = clock::now();
        let ended = workers.read(
            reactor,
            worker,
            || inotify.queued().unwrap_or(0),
            |line, queued| {
                let input = Input::Line { worker, line: line.bytes, cut: line.cut, queued };
                engine.step(now, input, effects);
            },
        );
        if ended {
            let what = "worker has closed its standard output and lives on, terminated";
            self.step(Input::WorkerBroken { worker, what });
        }
        self.carry_out();
    }

    /// What was handed over in this turn is written together; what follows from that, in the next one.
    fn flush_workers(&mut self) {
        for worker in self.workers.take_fresh() {
            self.flush_worker(worker);
        }
    }

    /// Writes what a worker was given, as far as it reads.
    fn flush_worker(&mut self, worker: WorkerId) {
        match self.workers.flush(&mut self.reactor, worker) {
            None => {}
            Some(Flushed::Lines(lines)) => self.step(Input::Written { worker, lines }),
            Some(Flushed::Closed) => {
                let what = "worker has closed its standard input and lives on, terminated";
                self.step(Input::WorkerBroken { worker, what });
            }
        }
        self.carry_out();
    }

    /// Long work, in pieces, until it is done or its time is over.
    fn work(&mut self) {
        let start = clock::micros();
        while self.engine.has_work() && !self.done {
            self.step(Input::Spare);
            self.carry_out();
            if clock::micros() - start >= WORK_MAX_MICROS {
                return;
            }
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.engine.step(clock::now(), input, &mut self.effects);
    }

    /// Carries out the effects, and those of the inputs they lead to.
    fn carry_out(&mut self) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Log(record) => self.log.write(&record),
            Effect::Scan(scan) => self.scan(&scan),
            // EINVAL: the directory is gone, and the watch with it.
            Effect::Unwatch(wd) => drop(self.inotify.unwatch(wd)),
            Effect::Inspect(inspect) => self.look(&inspect),
            Effect::Start(child) => match self.children.start(&mut self.reactor, &child) {
                Ok(()) => self.step(Input::Started { task: child.task }),
                Err(error) => self.step(Input::NotStarted { task: child.task, error }),
            },
            Effect::Operate(operation) => self.pool.submit(operation, self.file_workers),
            Effect::Withdraw(task) => self.withdraw(task, OperationEnd::Withdrawn),
            Effect::Abort(task) => {
                self.withdraw(task, OperationEnd::Aborted("it had not started".to_owned()));
                self.pool.abort(task);
            }
            Effect::Measure { task, asked_for } => {
                if let Some((done, total)) = self.pool.progress(task) {
                    self.step(Input::Measured { task, done, total, asked_for });
                }
            }
            Effect::Signal { task, signal } => self.children.signal(Child::Task(task), signal),
            Effect::StartWorker(start) => {
                if let Err(error) = self.workers.start(&mut self.children, &mut self.reactor, &start) {
                    self.step(Input::WorkerNotStarted { worker: start.id, error });
                }
            }
            Effect::Hand { worker, line } => self.workers.hand(worker, &line),
            Effect::CloseWorker(worker) => self.workers.close(&mut self.children, worker),
            Effect::SignalWorker { worker, signal } => self.children.signal(Child::Worker(worker), signal),
            Effect::Ready => self.notify_ready(),
            Effect::Exit => self.done = true,
            Effect::Reply(reply) => self.reply(reply),
            // Only `--explain` asks for it.
            Effect::Explain(_) => {}
            Effect::Levels(levels) => self.log.set_levels(levels),
        }
    }

    fn withdraw(&mut self, task: TaskId, end: OperationEnd) {
        if let Some(operation) = self.pool.withdraw(task) {
            let queued = self.queued();
            self.step(Input::Operated { operation, end, queued });
        }
    }

    fn take_operations(&mut self) {
        let ended = self.pool.ended();
        let queued = self.queued();
        for (operation, end) in ended {
            self.step(Input::Operated { operation, end, queued });
        }
        self.carry_out();
    }

    fn look(&mut self, inspect: &Inspect) {
        let task = inspect.task;
        match self.looks.look(inspect) {
            Looked::Now(facts) => self.step(Input::Inspected { task, facts }),
            Looked::Later => {}
            Looked::Failed(error) => self.step(Input::NotStarted { task, error }),
        }
    }

    fn take_looks(&mut self) {
        for (task, facts) in self.looks.made() {
            self.step(Input::Inspected { task, facts });
        }
        self.carry_out();
    }

    fn scan(&mut self, scan: &Scan) {
        let before = self.queued();
        let results = self.scanner.scan(&self.inotify, scan);
        let queued = self.queued();
        dir::leave();
        for (item, result) in scan.items.iter().zip(results) {
            self.step(Input::Scanned { node: item.node, result, before, queued });
        }
    }

    fn queued(&self) -> usize {
        // Nothing can fail here but a broken descriptor, which the next read will tell.
        self.inotify.queued().unwrap_or(0)
    }

    fn arm(&mut self) -> Result<(), Error> {
        let deadline = [self.engine.next_deadline(), self.service.deadline()].into_iter().flatten().min();
        if deadline != self.armed {
            self.timer.set(deadline).map_err(|errno| Error::new("timerfd_settime", b"", errno))?;
            self.armed = deadline;
        }
        Ok(())
    }

    fn flush_log(&mut self) {
        self.log.flush();
        self.log.listen(&mut self.reactor);
        let waits = self.log.wants_write();
        match self.log_token {
            None if waits => {
                let Some(fd) = self.log.fd() else { return };
                self.log_token = self.reactor.add(fd, Source::Log, Interest::WRITE).ok();
            }
            Some(token) if !waits => {
                if let Some(fd) = self.log.fd() {
                    self.reactor.remove(token, fd);
                }
                self.log_token = None;
            }
            _ => {}
        }
    }

    fn say(&mut self, level: Level, message: String) {
        self.log.write(&Record::new(level, &self.logname, message));
    }
}

/// The user has as many inotify instances as are allowed.
fn no_instance(name: &LogName) -> Record {
    let limit = Limit::Instances.read().map_or("unknown".to_owned(), |limit| limit.to_string());
    let text = "no room for another inotify instance; raise fs.inotify.max_user_instances";
    Record::new(Level::Error, name, text).field("max_user_instances", limit)
}
