//! The tasks alone: told events in, effects out, without a watcher and without a kernel.

use super::*;
use crate::config::inline::{Inline, from_command_line};
use crate::engine::context::{KEPT_MAX, Options, SIFT_AT, Shared};
use crate::engine::message::FileKind;
use crate::engine::watcher::places::fixture::OwnTree;
use crate::event::EventKind;
use crate::types::Millis;

/// Tasks of one scheduler: IN_CLOSE_WRITE schedules with a delay of ten seconds, IN_DELETE cancels.
/// Looks at files are answered at once: nothing is a FIFO.
struct Bench {
    shared: Shared,
    tree: OwnTree,
    tasks: Tasks,
    effects: Vec<Effect>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With further schedulers, or others.
    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let inline = Inline {
            watch: vec![b"/w".to_vec()],
            delay: Some(b"10".to_vec()),
            command: b"true".to_vec(),
            ..Inline::default()
        };
        let mut config = from_command_line(&inline).unwrap().config;
        let map = &mut config.event_maps[config.watches[0].event_map];
        map.triggers[EventKind::Delete as usize] = vec![Trigger::Cancel(0)];
        change(&mut config);
        let options = Options {
            dry_run: false,
            default_max_jobs: 1,
            sift_at: SIFT_AT,
            kept_max: KEPT_MAX,
            secret: [0; 2],
        };
        let (tree, tasks) = (OwnTree::new(&config), Tasks::new(&config));
        Self { shared: Shared::new(config, options, 0), tree, tasks, effects: Vec::new() }
    }

    /// Lends what a step of the engine lends, and starts what is ready.
    fn step(&mut self, act: impl FnOnce(&mut Tasks, &mut Context<'_>, &mut Places<'_>)) {
        let cx = &mut self.shared.context(&mut self.effects);
        let places = &mut self.tree.places();
        act(&mut self.tasks, cx, places);
        self.tasks.dispatch(cx, places);
        self.answer_looks();
    }

    fn answer_looks(&mut self) {
        let is_look = |effect: &Effect| matches!(effect, Effect::Inspect(_));
        while let Some(at) = self.effects.iter().position(is_look) {
            let Effect::Inspect(look) = self.effects.remove(at) else { return };
            let cx = &mut self.shared.context(&mut self.effects);
            let places = &mut self.tree.places();
            self.tasks.on_inspected(cx, places, look.task, Facts { kind: FileKind::Plain });
            self.tasks.dispatch(cx, places);
        }
    }

    fn tell(&mut self, kind: EventKind, dir: NodeId, name: &[u8]) {
        let event = Told { watch: WatchIndex(0), kind, dir, name, is_dir: false, src: None };
        self.step(|tasks, cx, places| tasks.told(cx, places, &event));
    }

    fn wait_until(&mut self, now: Millis) {
        self.shared.now = now;
        while let Some((_, timer)) = self.shared.timers.pop_expired(now) {
            self.step(|tasks, cx, places| tasks.on_timer(cx, places, timer));
        }
    }

    /// The children that were started since the last call, with the paths of their tasks.
    fn started(&mut self) -> Vec<(TaskId, String)> {
        let path = |child: &StartChild| {
            let variable = child.env.iter().find_map(|one| one.to_bytes().strip_prefix(b"RINOTIFYD_PATH="));
            String::from_utf8(variable.unwrap().to_vec()).unwrap()
        };
        let effects = std::mem::take(&mut self.effects).into_iter();
        let started = effects.filter_map(|effect| match effect {
            Effect::Start(child) => Some((child.task, path(&child))),
            _ => None,
        });
        started.collect()
    }

    fn end(&mut self, id: TaskId, mark: u64) {
        self.step(|tasks, cx, places| tasks.on_ended(cx, places, id, ExitStatus::Exited(0), mark));
    }
}

#[test]
fn a_further_event_restarts_the_delay_and_the_path_is_that_of_the_start() {
    let mut bench = Bench::new();
    let dir = bench.tree.dir(b"w");
    bench.tell(EventKind::CloseWrite, dir, b"a");
    bench.wait_until(6_000);
    bench.tell(EventKind::CloseWrite, dir, b"a");
    bench.wait_until(15_999);
    assert_eq!(bench.started(), []);
    bench.tree.rename(dir, b"v");
    bench.wait_until(16_000);
    let started = bench.started();
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].1, "/v/a");
    bench.end(started[0].0, 0);
    assert!(bench.tasks.is_empty() && !bench.tree.is_held(dir), "nothing is left of it");
}

#[test]
fn a_cancelling_event_removes_the_task() {
    let mut bench = Bench::new();
    let dir = bench.tree.dir(b"w");
    bench.tell(EventKind::CloseWrite, dir, b"a");
    bench.tell(EventKind::CloseWrite, dir, b"b");
    bench.tell(EventKind::Delete, dir, b"a");
    bench.wait_until(10_000);
    let started: Vec<String> = bench.started().into_iter().map(|(_, path)| path).collect();
    assert_eq!(started, ["/w/b"]);
}

#[test]
fn an_event_from_before_the_end_counts_as_during_the_run() {
    let mut bench = Bench::new();
    let dir = bench.tree.dir(b"w");
    bench.tell(EventKind::CloseWrite, dir, b"a");
    bench.wait_until(10_000);
    let (id, _) = bench.started()[0].clone();
    bench.end(id, 100);
    assert_eq!(bench.tasks.unfinished(), 0);
    // It was queued before the end, and is told after it: the same task runs again.
    bench.tell(EventKind::CloseWrite, dir, b"a");
    assert_eq!(bench.tasks.counts(), [1, 0, 0]);
    bench.wait_until(20_000);
    assert_eq!(bench.started()[0].0, id);
    bench.end(id, 200);
    bench.step(|tasks, cx, places| tasks.passed(cx, places, 200));
    bench.tell(EventKind::CloseWrite, dir, b"a");
    bench.wait_until(30_000);
    assert_ne!(bench.started()[0].0, id, "what comes after the end is a new task");
}

#[test]
fn tasks_of_directories_that_left_are_cancelled_and_others_stay() {
    let mut bench = Bench::new();
    let (left, stays) = (bench.tree.dir(b"l"), bench.tree.dir(b"s"));
    for (dir, name) in [(left, b"a"), (left, b"b"), (stays, b"a")] {
        bench.tell(EventKind::CloseWrite, dir, name);
    }
    let waiting = bench.tasks.waiting_in(&[left]);
    let names: Vec<&[u8]> = waiting.iter().map(|file| &*file.name).collect();
    assert_eq!(names, [b"a", b"b"]);
    bench.step(|tasks, cx, places| tasks.left(cx, places, &[left], "it moved"));
    assert_eq!(bench.tasks.counts(), [1, 0, 0]);
    assert!(!bench.tree.is_held(left) && bench.tree.is_held(stays));
    assert_eq!(bench.tasks.waiting_in(&[left, stays]).len(), 1);
}

/// Three schedulers without delay, for IN_CLOSE_WRITE, IN_CREATE and IN_ATTRIB, and four places.
fn three(config: &mut Config) {
    config.daemon.max_jobs = 4;
    let scheduler = Scheduler { delay_ms: 0, ..config.schedulers.remove(0) };
    let map = &mut config.event_maps[config.watches[0].event_map];
    for (index, kind) in [EventKind::CloseWrite, EventKind::Create, EventKind::Attrib].into_iter().enumerate()
    {
        config.schedulers.push(Scheduler { name: index.to_string(), ..scheduler.clone() });
        map.triggers[kind as usize] = vec![Trigger::Schedule(index)];
    }
}

#[test]
fn the_last_place_is_for_a_scheduler_of_which_nothing_runs() {
    let mut bench = Bench::with(three);
    let dir = bench.tree.dir(b"w");
    for name in [b"1", b"2", b"3", b"4", b"5"] {
        bench.tell(EventKind::CloseWrite, dir, name);
    }
    let first = bench.started();
    assert_eq!(first.len(), 3);
    bench.tell(EventKind::Create, dir, b"a");
    let second = bench.started();
    assert_eq!(second.len(), 1, "it had none");
    bench.tell(EventKind::Create, dir, b"b");
    bench.end(first[0].0, 0);
    assert_eq!(bench.started().len(), 0, "both have some");
    bench.tell(EventKind::Attrib, dir, b"x");
    assert_eq!(bench.started()[0].1, "/w/x");
    bench.end(second[0].0, 0);
    assert_eq!(bench.started()[0].1, "/w/b");
}

#[test]
fn all_places_are_for_the_only_scheduler_and_for_one_with_a_limit_of_its_own() {
    let check = |change: &dyn Fn(&mut Config), places: u32, expected: usize| {
        let mut bench = Bench::with(|config| {
            three(config);
            change(config);
            config.daemon.max_jobs = places;
        });
        let dir = bench.tree.dir(b"w");
        (0..20_u8).for_each(|name| bench.tell(EventKind::CloseWrite, dir, &[b'a' + name]));
        assert_eq!(bench.started().len(), expected, "{places}");
    };
    let own = |max: u32| move |config: &mut Config| config.schedulers[0].max_jobs = max;
    check(&own(0), 1, 1);
    check(&own(0), 2, 1);
    check(&own(0), 4, 3);
    // One for each of the others, and at most every fourth.
    check(&own(0), 16, 14);
    check(&own(0), 7, 6);
    check(&own(16), 16, 16);
    check(&own(2), 16, 2);
    let alone = |config: &mut Config| {
        config.schedulers.truncate(1);
        let map = &mut config.event_maps[0];
        [EventKind::Create, EventKind::Attrib].iter().for_each(|kind| map.triggers[*kind as usize].clear());
    };
    check(&alone, 4, 4);
}

#[test]
fn a_scheduler_whose_commands_cannot_be_started_holds_up_no_other() {
    let mut bench = Bench::with(three);
    let dir = bench.tree.dir(b"w");
    let error = StartError { temporary: true, text: "no process".to_owned() };
    bench.tell(EventKind::CloseWrite, dir, b"a");
    let mut pauses = Vec::new();
    for turn in 0..9_u64 {
        let (id, _) = bench.started().remove(0);
        bench.step(|tasks, cx, places| tasks.on_not_started(cx, places, id, &error));
        assert_eq!(bench.started(), [], "it pauses");
        // Nothing is waited for where nothing has failed.
        bench.tell(EventKind::Create, dir, &turn.to_le_bytes());
        let (other, _) = bench.started().remove(0);
        bench.step(|tasks, _, _| tasks.on_started(other));
        bench.end(other, 0);
        let (now, due) = (bench.shared.now, bench.shared.timers.next_deadline().unwrap());
        pauses.push(due - now);
        bench.wait_until(due);
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    // Once it could be started, the pauses begin anew; a reload ends them.
    let (id, _) = bench.started().remove(0);
    bench.step(|tasks, _, _| tasks.on_started(id));
    bench.tell(EventKind::CloseWrite, dir, b"b");
    let (next, _) = bench.started().remove(0);
    bench.step(|tasks, cx, places| tasks.on_not_started(cx, places, next, &error));
    assert!(bench.started().is_empty() && bench.shared.timers.next_deadline() > Some(bench.shared.now));
    bench.step(|tasks, cx, _| tasks.reload(cx, cx.config));
    assert_eq!(bench.started()[0].0, next);
}
