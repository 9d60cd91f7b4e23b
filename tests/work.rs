//! What one step of the engine costs must not grow with what one user can make: the engine is driven by hand,
//! and allocations stand for work, since they are the same on every machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fs;

use rinotifyd::config::filter::Filters;
use rinotifyd::config::{Config, Trigger};
use rinotifyd::engine::message::{Entry, EntryKind, List, Scan, Seen};
use rinotifyd::engine::{Effect, Engine, Input, KEPT_MAX, Options, SIFT_AT};
use rinotifyd::event::{EventKind, HEADER_SIZE, IN_ISDIR, RawEvent};
use rinotifyd::record::Level;
use rinotifyd::types::{Millis, Wd};

#[allow(dead_code, reason = "the simulation uses more of it")]
#[path = "sim/setup.rs"]
mod setup;

struct Counting;

thread_local! {
    /// Tests run side by side, each in its thread.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "a global allocator can be counted no other way")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOP: &str = "/top";

/// An engine, and a disk on which there is nothing but directories.
struct Lab {
    engine: Engine,
    now: Millis,
    dirs: HashMap<String, Vec<String>>,
    wds: HashMap<String, Wd>,
    /// Directories that were visited.
    visits: usize,
    visited: HashSet<String>,
    /// The most that one step has cost since it was set to 0.
    dearest: usize,
    effects: Vec<Effect>,
}

impl Lab {
    fn new(config: Config) -> Self {
        let options = Options {
            dry_run: false,
            default_max_jobs: 4,
            sift_at: SIFT_AT,
            kept_max: KEPT_MAX,
            secret: [0; 2],
        };
        Self {
            engine: Engine::new(config, options, 0),
            now: 0,
            dirs: HashMap::from([("/".to_owned(), vec!["top".to_owned()]), (TOP.to_owned(), Vec::new())]),
            wds: HashMap::new(),
            visits: 0,
            visited: HashSet::new(),
            dearest: 0,
            effects: Vec::new(),
        }
    }

    /// A directory on disk.
    fn dir(&mut self, parent: &str, name: &str) -> String {
        let path = format!("{parent}/{name}");
        self.dirs.get_mut(parent).unwrap().push(name.to_owned());
        self.dirs.insert(path.clone(), Vec::new());
        path
    }

    fn step(&mut self, input: Input<'_>) {
        let before = ALLOCATIONS.get();
        self.engine.step(self.now, input, &mut self.effects);
        self.dearest = self.dearest.max(ALLOCATIONS.get() - before);
    }

    fn start(&mut self) {
        self.step(Input::Start { wall_ns: 0 });
        self.settle();
        self.dearest = 0;
        self.visits = 0;
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            if let Effect::Scan(scan) = effect {
                self.answer(scan);
            }
        }
    }

    /// Until all visits are made.
    fn settle(&mut self) {
        loop {
            self.carry_out();
            if self.engine.has_work() {
                self.step(Input::Spare);
            } else if self.effects.is_empty() {
                return;
            }
        }
    }

    fn answer(&mut self, scan: Scan) {
        let base = String::from_utf8(scan.base).unwrap();
        for item in scan.items {
            self.visits += 1;
            let name = String::from_utf8(item.name).unwrap();
            let base = if base == "/" { "" } else { &base };
            let path = format!("{base}/{name}");
            self.visited.insert(path.clone());
            let next = Wd(i32::try_from(self.wds.len()).unwrap() + 1);
            let wd = *self.wds.entry(path.clone()).or_insert(next);
            let entry = |name: &String| Entry {
                name: name.as_bytes().into(),
                kind: EntryKind::Directory,
                changed: false,
            };
            let listed = if item.list == List::Nothing { None } else { self.dirs.get(&path) };
            let entries = listed.into_iter().flatten().map(entry).collect();
            let result = Ok(Seen { wd, entries, remote: None });
            self.step(Input::Scanned { node: item.node, result, before: 0, queued: 0 });
        }
    }

    /// Something happens to a directory.
    fn event(&mut self, dir: &str, kind: EventKind, cookie: u32, name: &str) {
        self.raw_event(dir, kind.bit() | IN_ISDIR, cookie, name);
    }

    fn raw_event(&mut self, dir: &str, mask: u32, cookie: u32, name: &str) {
        let event = RawEvent { wd: self.wds[dir], mask, cookie, name: name.as_bytes() };
        let size = HEADER_SIZE + 16;
        self.step(Input::Filled { bytes: size, emptied: true, wall_ns: 0 });
        self.step(Input::Event { event, size });
        self.step(Input::Drained);
    }

    /// The kernel has dropped events.
    fn overflow(&mut self) {
        let event = RawEvent { wd: Wd(-1), mask: EventKind::QOverflow.bit(), cookie: 0, name: b"" };
        self.step(Input::Filled { bytes: HEADER_SIZE, emptied: false, wall_ns: 0 });
        self.step(Input::Event { event, size: HEADER_SIZE });
        self.step(Input::Drained);
    }

    fn rename(&mut self, parent: &str, from: &str, to: &str, cookie: u32) {
        self.event(parent, EventKind::MovedFrom, cookie, from);
        self.event(parent, EventKind::MovedTo, cookie, to);
    }
}

fn config() -> Config {
    let triggers = [EventKind::Create, EventKind::CloseWrite].map(|kind| (kind, Trigger::Cancel(0)));
    setup::config(TOP.as_bytes(), vec![setup::scheduler("run")], &triggers)
}

/// Where a filter may exclude what is below, a rename means something for each directory there.
#[test]
fn a_large_tree_that_is_renamed_to_and_fro_is_walked_once_and_in_pieces() {
    const DIRS: usize = 10_000;
    let mut config = config();
    config.watches[0].exclude = Filters::new(&[r"\A(?:/top/(?-u:.*)excluded$)".to_owned()]).unwrap();
    let mut lab = Lab::new(config);
    let tree = lab.dir(TOP, "tree");
    for number in 0..DIRS {
        lab.dir(&tree, &number.to_string());
    }
    lab.start();
    for round in 0..1_000 {
        lab.rename(TOP, "tree", "other", 2 * round + 1);
        lab.rename(TOP, "other", "tree", 2 * round + 2);
    }
    assert!(lab.dearest < 100, "a rename cost {} allocations", lab.dearest);
    lab.settle();
    // Each is looked into once for what the filter left out before; after each way back `tree` is verified.
    assert!((DIRS..DIRS + 3_000).contains(&lab.visits), "{} visits", lab.visits);
    assert!(lab.dearest < 5_000, "a step cost {} allocations", lab.dearest);
}

/// One user makes more events than can be read, all the time. The directories of others have their turn.
#[test]
fn a_repair_gets_to_its_end_however_often_the_kernel_drops_events() {
    const DIRS: usize = 5_000;
    let mut lab = Lab::new(config());
    for number in 0..DIRS {
        lab.dir(TOP, &number.to_string());
    }
    lab.start();
    lab.visited.clear();
    while lab.visits < DIRS + 500 {
        lab.overflow();
        let before = lab.visits;
        while lab.visits < before + 100 {
            lab.step(Input::Spare);
            lab.carry_out();
        }
    }
    let missing = (0..DIRS).filter(|number| !lab.visited.contains(&format!("{TOP}/{number}"))).count();
    assert_eq!(missing, 0, "directories were not visited, of {DIRS}");
}

/// What this thread has used of a processor, in nanoseconds: the load of the machine is not part of it.
fn used_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// As many directories, in each of which ten tasks wait.
fn waiting(dirs: usize) -> Lab {
    let mut config = config();
    config.log.default = Level::Critical;
    config.schedulers[0].delay_ms = 3_600_000;
    config.event_maps[0].triggers[EventKind::CloseWrite as usize] = vec![Trigger::Schedule(0)];
    config.watches.push(setup::watch("stays", b"/other"));
    let mut lab = Lab::new(config);
    let dirs: Vec<String> = (0..dirs).map(|number| lab.dir(TOP, &number.to_string())).collect();
    lab.start();
    for (dir, file) in dirs.iter().flat_map(|dir| (0..10).map(move |file| (dir, file))) {
        lab.raw_event(dir, EventKind::CloseWrite.bit(), 0, &format!("file {file}"));
    }
    lab.carry_out();
    lab
}

/// Ten times as much costs ten times as much, and not a hundred times.
fn check_linear(work: impl Fn(&mut Lab)) {
    let cost = |dirs| {
        let mut lab = waiting(dirs);
        let before = used_ns();
        work(&mut lab);
        used_ns() - before
    };
    let (few, many) = (cost(1_000), cost(10_000));
    assert!(many < 40 * few.max(1_000_000), "{few} ns, and {many} ns for ten times as many");
}

#[test]
fn a_reload_that_drops_directories_with_tasks_costs_in_proportion() {
    check_linear(|lab| {
        let mut config = config();
        config.log.default = Level::Critical;
        config.watches[0] = setup::watch("stays", b"/other");
        lab.step(Input::Reload(Box::new(config)));
        lab.settle();
        assert!(!lab.engine.has_tasks() && lab.engine.directories() == 2, "`/` and `/other`");
    });
}

#[test]
fn an_overflow_with_waiting_tasks_costs_in_proportion() {
    check_linear(|lab| {
        lab.overflow();
        lab.settle();
    });
}
