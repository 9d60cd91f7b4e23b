//! When tasks run, held against what the manual says, and nothing of how the engine does it.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rinotifyd::config::{Action, Scheduler, Trigger, WhileRunning};
use rinotifyd::engine::message::{Input, Signal};
use rinotifyd::engine::{TASKS_MAX, TaskId};
use rinotifyd::event::EventKind;
use rinotifyd::types::Millis;

use crate::kernel::Ino;
use crate::rng::{Rng, for_seeds};
use crate::setup::{config, delete_all, scheduler};
use crate::shell::{Faults, Happening, Shell, is};
use crate::world::{WATCHED, World};

const SEEDS: u64 = 1_500;

/// The daemon's limit in `setup`.
const JOBS_MAX: usize = 4;

/// Between SIGTERM and SIGKILL.
const KILL_AFTER_MS: Millis = 5_000;

/// What is said of a task for the last time.
const ENDS: [&str; 3] = ["task finished", "task failed", "task cancelled"];

fn random_scheduler(rng: &mut Rng) -> Scheduler {
    let while_running = if rng.one_in(2) { WhileRunning::Rerun } else { WhileRunning::Skip };
    let mut scheduler = Scheduler {
        delay_ms: *rng.pick(&[0, 0, 7, 40, 3_000]),
        max_delay_ms: *rng.pick(&[0, 0, 60]),
        singlejob: rng.one_in(4),
        max_jobs: *rng.pick(&[0, 0, 1, 2]),
        timeout_ms: *rng.pick(&[0, 0, 20]),
        while_running,
        special: rng.one_in(2),
        ..scheduler("run")
    };
    if rng.one_in(2) {
        scheduler = Scheduler { action: delete_all(), singlejob: false, timeout_ms: 0, ..scheduler };
    }
    scheduler
}

fn operates(scheduler: &Scheduler) -> bool {
    matches!(scheduler.action, Action::Files { .. })
}

/// One directory with a few files. Closing one schedules, reading it (IN_ACCESS) cancels.
struct Play {
    shell: Shell,
    scheduler: Scheduler,
    files: Vec<Ino>,
}

fn prepare(seed: u64) -> Play {
    let mut rng = Rng::new(seed);
    let scheduler = random_scheduler(&mut rng);
    let mut world = World::new(&mut rng);
    let file = |number: usize| format!("file{number}").into_bytes();
    let count = 1 + rng.below(6);
    let files = (0..count)
        .map(|number| world.kernel.create(world.watched, &file(number), false).expect("a new name").0)
        .collect();
    let triggers = [(EventKind::CloseWrite, Trigger::Schedule(0)), (EventKind::Access, Trigger::Cancel(0))];
    let [start, look] = [5, 2].map(|often| if rng.one_in(3) { often } else { 0 });
    let faults = Faults { start, look, ..Faults::default() };
    let mut shell = Shell::new(config(WATCHED, vec![scheduler.clone()], &triggers), world, rng);
    shell.faults = faults;
    shell.fifos = Some(b'3');
    shell.start();
    shell.settle();
    Play { shell, scheduler, files }
}

impl Play {
    fn act(&mut self) {
        let shell = &mut self.shell;
        match shell.rng.below(9) {
            0 | 1 => {
                let file = *shell.rng.pick(&self.files);
                shell.world.kernel.touch(file, EventKind::CloseWrite);
            }
            2 if shell.rng.one_in(3) => {
                let file = *shell.rng.pick(&self.files);
                shell.world.kernel.touch(file, EventKind::Access);
            }
            3..6 => shell.read_events(),
            6 => {
                let ms = shell.rng.below(30) as Millis;
                shell.wait_until(shell.now + ms);
            }
            _ => shell.tick(),
        }
    }

    /// Acts, and then lets everything come to rest.
    fn run(&mut self) {
        for _ in 0..20 + self.shell.rng.below(120) {
            self.act();
        }
        self.shell.settle();
        assert!(self.shell.engine.accepts_events(), "at most {TASKS_MAX} tasks are left");
    }
}

/// One path of the history: what scheduled and cancelled, and when it ran. With `singlejob` all
/// paths are one.
#[derive(Debug, Default)]
struct Path {
    /// Events that scheduled since the last start, and what cancelled clears.
    scheduled: Vec<Millis>,
    running: Option<TaskId>,
    /// The task's id while there is one.
    id: Option<u64>,
    /// Starts since the last event that scheduled.
    starts: usize,
    skipped: bool,
}

struct Checker<'a> {
    scheduler: &'a Scheduler,
    paths: BTreeMap<Vec<u8>, Path>,
    /// By job: since when it runs, and when it was told to end.
    running: HashMap<TaskId, (Millis, Option<Millis>)>,
    /// Looks at files may take long, and then tasks overtake each other.
    looks_wait: bool,
    /// Paths in the order in which they became ready, where nothing delays them.
    order: Vec<Vec<u8>>,
}

impl Checker<'_> {
    fn key(&self, path: &[u8]) -> Vec<u8> {
        if self.scheduler.singlejob { Vec::new() } else { path.to_vec() }
    }

    fn check(&mut self, now: Millis, happening: &Happening) {
        match happening {
            Happening::Told(delivery) if is(delivery, EventKind::CloseWrite) => {
                let key = self.key(&delivery.path);
                let path = self.paths.entry(key.clone()).or_default();
                path.starts = 0;
                path.skipped = path.running.is_some() && self.scheduler.while_running == WhileRunning::Skip;
                if path.running.is_none() && path.scheduled.is_empty() {
                    self.order.push(key);
                }
                if !path.skipped {
                    path.scheduled.push(now);
                }
            }
            Happening::Told(delivery) => {
                let key = self.key(&delivery.path);
                let path = self.paths.entry(key.clone()).or_default();
                path.scheduled.clear();
                path.starts = 1;
                self.order.retain(|other| *other != key);
            }
            Happening::Said { message, path, id } => self.check_id(message, path, *id),
            Happening::Started { job, path, .. } => self.check_start(now, *job, path),
            Happening::LeftOut { path } => self.leave_out(path),
            Happening::LookFailed { path } => self.give_up(path),
            Happening::NotStarted { temporary: true, .. } => {}
            Happening::NotStarted { temporary: false, job } | Happening::Ended(job) => self.end(*job),
            Happening::Signaled { job, signal } => self.check_signal(now, *job, *signal),
            Happening::Consumed(_) | Happening::Answered(_) => {}
        }
    }

    /// The look has shown a FIFO, so nothing runs.
    fn leave_out(&mut self, path: &[u8]) {
        assert!(!self.scheduler.special && path.ends_with(b"3"), "{} is a file", path.escape_ascii());
        self.give_up(path);
    }

    /// A task is over without a start.
    fn give_up(&mut self, path: &[u8]) {
        let key = self.key(path);
        self.order.retain(|other| *other != key);
        let path = self.paths.entry(key).or_default();
        assert!(path.running.is_none(), "it runs");
        *path = Path { starts: 1, ..Path::default() };
    }

    /// A task keeps its id for as long as it waits.
    fn check_id(&mut self, message: &str, path: &[u8], id: u64) {
        let key = self.key(path);
        let path = self.paths.entry(key).or_default();
        match message {
            "schedule task" => path.id = Some(id),
            "re-schedule task" | "start task" => {
                assert_eq!(*path.id.get_or_insert(id), id, "{message}: another id");
            }
            _ if ENDS.iter().any(|end| message.starts_with(end)) => path.id = None,
            _ => {}
        }
    }

    fn check_start(&mut self, now: Millis, job: TaskId, path: &[u8]) {
        let Scheduler { delay_ms, max_delay_ms, max_jobs, .. } = *self.scheduler;
        let key = self.key(path);
        let first_in_order = self.order.first().cloned();
        self.order.retain(|other| *other != key);
        let path = self.paths.get_mut(&key).expect("nothing runs without an event");
        let (Some(first), Some(last)) = (path.scheduled.first(), path.scheduled.last()) else {
            panic!("{} runs without an event, or after it was cancelled", key.escape_ascii());
        };
        let mut due = last + delay_ms;
        if max_delay_ms > 0 {
            due = due.min(first + max_delay_ms);
        }
        assert!(now >= due, "{} runs at {now}, before its time {due}", key.escape_ascii());
        let is_fifo = !operates(self.scheduler) && key.ends_with(b"3");
        assert!(self.scheduler.special || !is_fifo, "a FIFO is told to a command");
        if delay_ms == 0 && max_delay_ms == 0 && path.id.is_none() && !self.looks_wait {
            assert_eq!(first_in_order.as_ref(), Some(&key), "out of order");
        }
        path.starts += 1;
        path.scheduled.clear();
        path.running = Some(job);
        self.running.insert(job, (now, None));
        // Operations have no place among the children.
        let most = if operates(self.scheduler) { usize::MAX } else { JOBS_MAX };
        let limit = if max_jobs == 0 { most } else { most.min(max_jobs as usize) };
        assert!(self.running.len() <= limit, "{} run at once", self.running.len());
        assert!(!self.scheduler.singlejob || self.running.len() == 1, "one at a time");
    }

    fn end(&mut self, job: TaskId) {
        self.running.remove(&job);
        for path in self.paths.values_mut().filter(|path| path.running == Some(job)) {
            path.running = None;
        }
    }

    fn check_signal(&mut self, now: Millis, job: TaskId, signal: Signal) {
        let Some((since, told)) = self.running.get_mut(&job) else { panic!("{job:?} does not run") };
        match signal {
            Signal::Terminate => {
                assert!(now >= *since + self.scheduler.timeout_ms);
                assert_eq!(told.replace(now), None, "told twice");
            }
            Signal::Kill => assert!(told.is_some_and(|told| now >= told + KILL_AFTER_MS)),
        }
    }
}

fn check(play: &Play) {
    let mut checker = Checker {
        scheduler: &play.scheduler,
        paths: BTreeMap::new(),
        running: HashMap::new(),
        looks_wait: play.shell.faults.look > 0,
        order: Vec::new(),
    };
    for (now, happening) in &play.shell.history {
        checker.check(*now, happening);
    }
    assert!(checker.running.is_empty());
    let fails = play.shell.faults.start > 0;
    for (path, Path { starts, skipped, .. }) in &checker.paths {
        // A task that ends before its last events are read may be told of them as its own.
        let expected = if *skipped || fails || play.scheduler.while_running == WhileRunning::Skip {
            *starts <= 1
        } else {
            *starts == 1
        };
        assert!(expected, "{} ran {starts} times after it was quiet", path.escape_ascii());
    }
}

#[test]
fn tasks_run_when_they_should_and_never_else() {
    for_seeds(SEEDS, |seed| {
        let mut play = prepare(seed);
        play.run();
        check(&play);
    });
}

/// The checks are worth something: a start that is not there, or comes too soon, is noticed.
#[test]
fn a_forged_history_is_noticed() {
    let is_start = |(_, happening): &(Millis, Happening)| matches!(happening, Happening::Started { .. });
    let notices = |play: &Play| catch_unwind(AssertUnwindSafe(|| check(play))).is_err();
    let (mut lost, mut early) = ((0, 0), (0, 0));
    for seed in 0..200 {
        let mut play = prepare(seed);
        play.run();
        let Some(last) = play.shell.history.iter().rposition(is_start) else { continue };
        let history = play.shell.history.clone();
        if play.scheduler.delay_ms > 0 {
            let at = &mut play.shell.history[last].0;
            *at = at.saturating_sub(play.scheduler.delay_ms);
            early = (early.0 + 1, early.1 + usize::from(notices(&play)));
        }
        if play.scheduler.while_running == WhileRunning::Rerun && play.shell.faults.start == 0 {
            play.shell.history = history;
            play.shell.history.remove(last);
            lost = (lost.0 + 1, lost.1 + usize::from(notices(&play)));
        }
    }
    // Not where a later event cancelled, so that no run was due.
    assert!(lost.0 > 20 && lost.1 * 10 > lost.0 * 9, "of {} lost starts {} were noticed", lost.0, lost.1);
    assert!(early.0 > 20 && early.1 * 2 > early.0, "of {} early starts {} were noticed", early.0, early.1);
}

#[test]
fn shutdown_ends_in_time() {
    for_seeds(SEEDS / 3, |seed| {
        let mut play = prepare(seed);
        play.shell.job_ms_max = 60_000;
        for _ in 0..60 {
            play.act();
        }
        let stopped_at = play.shell.now;
        let hurry = play.shell.rng.one_in(2);
        play.shell.input(Input::Stop { reason: "test" });
        if hurry && !play.shell.exited {
            play.shell.input(Input::Stop { reason: "again" });
        }
        while !play.shell.exited {
            let next = play.shell.next_moment();
            play.shell.wait_until(next.expect("without an end there must be a deadline"));
            play.shell.read_events();
            play.shell.tick();
        }
        let patience = if hurry { 0 } else { 30_000 };
        let limit = stopped_at + patience + 2 * KILL_AFTER_MS;
        assert!(play.shell.now <= limit, "shutdown took {} ms", play.shell.now - stopped_at);
        let kinds = play.shell.history.iter().filter(|(now, happening)| {
            *now > stopped_at + patience && matches!(happening, Happening::Started { .. })
        });
        assert_eq!(kinds.count(), 0, "a task started after the time for it was over");
    });
}
