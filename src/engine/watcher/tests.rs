//! The watcher alone: the kernel's events in, told events out, to an audience that only takes notes.

use super::*;
use crate::config::inline::{Inline, from_command_line};
use crate::engine::context::{KEPT_MAX, Options, SIFT_AT, Shared};
use crate::engine::message::{Entry, EntryKind, Scan};
use crate::engine::told::{Audience, AwaitedFile, Told};
use crate::event::HEADER_SIZE;
use places::Places;

/// Writes down what it is told.
#[derive(Default)]
struct Recorder {
    told: Vec<String>,
    left: usize,
    awaited: Vec<(NodeId, &'static [u8])>,
    position: u64,
}

impl Audience for Recorder {
    fn told(&mut self, _cx: &mut Context<'_>, places: &mut Places<'_>, event: &Told<'_>) {
        let path = |dir, name: &[u8]| String::from_utf8(places.path(dir, name)).unwrap();
        let from = event.src.map_or(String::new(), |(dir, name)| format!(" from {}", path(dir, name)));
        self.told.push(format!("{} {}{from}", event.kind.name(), path(event.dir, event.name)));
        if event.kind == EventKind::CloseWrite {
            self.awaited.push((event.dir, b"awaited"));
        }
    }

    fn left(&mut self, _cx: &mut Context<'_>, _places: &mut Places<'_>, dirs: &[NodeId], _why: &str) {
        self.left += dirs.len();
    }

    fn waiting_in(&self, dirs: &[NodeId]) -> Vec<AwaitedFile> {
        let here = self.awaited.iter().filter(|(dir, _)| dirs.contains(dir));
        here.map(|&(dir, name)| AwaitedFile { dir, name: name.into(), is_dir: false }).collect()
    }

    fn passed(&mut self, _cx: &mut Context<'_>, _places: &mut Places<'_>, position: u64) {
        self.position = position;
    }
}

/// A recursive watch on `/w`, for which all events are told.
struct Bench {
    shared: Shared,
    watcher: Watcher,
    recorder: Recorder,
    effects: Vec<Effect>,
    next_wd: i32,
}

impl Bench {
    fn new() -> Self {
        let events = EventKind::ALL.iter().map(|kind| kind.name().as_bytes().to_vec()).collect();
        let inline = Inline {
            watch: vec![b"/w".to_vec()],
            recursive: true,
            events,
            command: b"true".to_vec(),
            ..Inline::default()
        };
        let config = from_command_line(&inline).unwrap().config;
        let options = Options {
            dry_run: false,
            default_max_jobs: 1,
            sift_at: SIFT_AT,
            kept_max: KEPT_MAX,
            secret: [0; 2],
        };
        let watcher = Watcher::new(&config);
        let shared = Shared::new(config, options, 0);
        let recorder = Recorder::default();
        let mut bench = Self { shared, watcher, recorder, effects: Vec::new(), next_wd: 1 };
        bench.step(|watcher, step| watcher.start(step.cx, 0));
        bench.visit(&[]);
        bench
    }

    fn step(&mut self, act: impl FnOnce(&mut Watcher, &mut Step<'_, '_>)) {
        let cx = &mut self.shared.context(&mut self.effects);
        act(&mut self.watcher, &mut Step { cx, audience: &mut self.recorder });
    }

    /// Makes all visits that wait. Each directory gets the next watch; listed in it are the directories that
    /// are known there, and the files whose path begins with its own.
    fn visit(&mut self, files: &[&str]) {
        while self.watcher.has_work() {
            self.step(|watcher, step| watcher.on_spare(step));
            for effect in std::mem::take(&mut self.effects) {
                if let Effect::Scan(scan) = effect {
                    self.answer(&scan, files);
                }
            }
        }
    }

    fn answer(&mut self, scan: &Scan, files: &[&str]) {
        for item in &scan.items {
            let known = self.watcher.tree.wd(item.node);
            let wd = known.unwrap_or(Wd(self.next_wd));
            self.next_wd += i32::from(known.is_none());
            let dir = String::from_utf8(self.watcher.tree.path_of(item.node, b"")).unwrap();
            let entry = |name: &[u8], kind| Entry { name: name.into(), kind, changed: false };
            let names = files.iter().filter_map(|file| file.strip_prefix(&format!("{dir}/")));
            let mut entries: Vec<_> = names.map(|name| entry(name.as_bytes(), EntryKind::File)).collect();
            let tree = &self.watcher.tree;
            let children = tree.children(item.node).into_iter().filter(|child| tree.is_linked(*child));
            entries.extend(children.map(|child| entry(tree.name(child), EntryKind::Directory)));
            let seen = Seen { wd, entries, remote: None };
            self.step(|watcher, step| watcher.on_scanned(step, item.node, Ok(seen), (0, 0)));
        }
    }

    fn wd(&self, path: &str) -> Wd {
        let watched = self.watcher.watched();
        watched.iter().find(|(known, _)| known == path.as_bytes()).map(|(_, wd)| *wd).unwrap()
    }

    /// The kernel's events, read together.
    fn events(&mut self, events: &[(Wd, u32, u32, &str)]) {
        let size = |name: &str| HEADER_SIZE + name.len().next_multiple_of(16);
        let bytes = events.iter().map(|(.., name)| size(name)).sum();
        self.watcher.on_filled(bytes, Some(1));
        for &(wd, mask, cookie, name) in events {
            let event = RawEvent { wd, mask, cookie, name: name.as_bytes() };
            self.step(|watcher, step| watcher.on_event(step, &event, size(name)));
        }
        self.step(|watcher, step| watcher.on_drained(step));
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.recorder.told)
    }
}

const DIR: u32 = IN_ISDIR;

#[test]
fn what_is_in_a_new_directory_is_told_once() {
    let mut bench = Bench::new();
    let top = bench.wd("/w");
    bench.events(&[(top, EventKind::Create.bit() | DIR, 0, "d")]);
    assert_eq!(bench.told(), ["IN_CREATE /w/d"]);
    bench.visit(&["/w/d/f"]);
    assert_eq!(bench.told(), ["IN_CREATE /w/d/f", "IN_CLOSE_WRITE /w/d/f"]);
    bench.events(&[(bench.wd("/w/d"), EventKind::Modify.bit(), 0, "f")]);
    assert_eq!(bench.told(), ["IN_MODIFY /w/d/f"]);
}

#[test]
fn events_between_the_halves_of_a_rename_have_the_new_path() {
    let mut bench = Bench::new();
    let top = bench.wd("/w");
    bench.events(&[(top, EventKind::Create.bit() | DIR, 0, "d")]);
    bench.visit(&[]);
    let dir = bench.wd("/w/d");
    bench.told();
    bench.events(&[
        (top, EventKind::MovedFrom.bit() | DIR, 7, "d"),
        (dir, EventKind::CloseWrite.bit(), 0, "f"),
        (top, EventKind::MovedTo.bit() | DIR, 7, "e"),
        (dir, EventKind::Delete.bit(), 0, "f"),
    ]);
    assert_eq!(
        bench.told(),
        ["IN_MOVED_FROM /w/d", "IN_MOVED_TO /w/e from /w/d", "IN_CLOSE_WRITE /w/e/f", "IN_DELETE /w/e/f"]
    );
    assert_eq!(bench.recorder.position, bench.watcher.mark(0), "all was told");
}

#[test]
fn a_directory_that_leaves_is_told_with_all_below_it() {
    let mut bench = Bench::new();
    let top = bench.wd("/w");
    bench.events(&[(top, EventKind::Create.bit() | DIR, 0, "d")]);
    bench.visit(&[]);
    let dir = bench.wd("/w/d");
    bench.events(&[(dir, EventKind::Create.bit() | DIR, 0, "below")]);
    bench.visit(&[]);
    bench.events(&[(top, EventKind::MovedFrom.bit() | DIR, 7, "d")]);
    assert_eq!(bench.recorder.left, 0, "the other half may follow");
    bench.shared.now = 1_000;
    let queued_to = bench.watcher.mark(0);
    bench.step(|watcher, step| watcher.on_timer(step, Timer::Renames, queued_to, 0));
    assert_eq!(bench.recorder.left, 2);
    let unwatched = bench.effects.iter().filter(|effect| matches!(effect, Effect::Unwatch(_))).count();
    assert_eq!(unwatched, 2);
}

#[test]
fn after_an_overflow_what_is_awaited_and_gone_is_told() {
    let mut bench = Bench::new();
    let top = bench.wd("/w");
    bench.events(&[(top, EventKind::CloseWrite.bit(), 0, "f")]);
    bench.events(&[(Wd(-1), EventKind::QOverflow.bit(), 0, "")]);
    assert_eq!(bench.told(), ["IN_CLOSE_WRITE /w/f", "IN_Q_OVERFLOW /w"]);
    bench.events(&[(top, EventKind::Modify.bit(), 0, "f")]);
    assert_eq!(bench.told(), [""; 0], "its directory is in doubt");
    bench.visit(&[]);
    assert_eq!(bench.told(), ["IN_MODIFY /w/f", "IN_DELETE /w/awaited"]);
}
