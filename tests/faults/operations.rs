//! File operations.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::mounting::Mount;
use crate::scratch::{Daemon, Scratch, can_tamper, wait_for};
use crate::tracing::{Fault, Injection, Tracer, injections, steps, try_all};

/// More than a page.
const SIZE: usize = 300_000;

/// The operation whose calls are tried.
#[derive(Clone, Copy)]
struct Scenario {
    /// `move`, `copy` or `delete`.
    action: &'static str,
    is_tree: bool,
    /// The destination is on another filesystem.
    is_across: bool,
    /// Something is at the destination and is replaced.
    replaces: bool,
    /// Directories are made for the destination.
    makes_dirs: bool,
}

const PLAIN: Scenario =
    Scenario { action: "move", is_tree: false, is_across: false, replaces: false, makes_dirs: false };

impl Scenario {
    fn config(&self) -> String {
        let Self { action, .. } = self;
        let target = self.target().replace("/a", r"/\1");
        let set = match *action {
            "delete" => "rec = yes".to_owned(),
            _ => format!(
                "dst_re = @/{target}\nauto_create = yes\nfilemode = 0640\ndirmode = 0750\nuser = 12\noverride = {}",
                if self.replaces { "yes" } else { "no" }
            ),
        };
        let kinds = if self.is_tree { "files = no" } else { "files = yes" };
        format!(
            "[daemon]\nfile_workers = 1\n[scheduler work]\ntype = files\nrules = work\ndirs = yes\n{kinds}\n\
             [scheduler next]\ntype = files\nrules = first next top\n\
             [rule work]\naction = {action}\nsrc_re = ^@/in/(a)$\n{set}\n\
             [rule first]\naction = delete\nsrc_re = ^@/first/.*$\n\
             [rule next]\naction = copy\nsrc_re = ^@/in/(next.*)$\ndst_re = @/{}\nauto_create = yes\n\
             [rule top]\naction = copy\nsrc_re = ^@/in/(top)$\ndst_re = @/out/\\1\n\
             [event_map map]\nIN_CREATE = work\nIN_CLOSE_WRITE = work next\nIN_MOVED_TO = work next\n\
             [watch in]\npath = @/in\npath = @/first\nevent_map = map\ncatch_up = all\n",
            self.beside(r"\1"),
        )
    }

    fn target(&self) -> &'static str {
        if self.makes_dirs { "out/new/sub/a" } else { "out/a" }
    }

    /// In the directory of the destination: what is left over is removed when that is used again.
    fn beside(&self, name: &str) -> String {
        self.target().strip_suffix("a").unwrap().to_owned() + name
    }

    /// What the operation takes, at `path`.
    fn make(&self, path: &Path, text: u8) {
        if !self.is_tree {
            return fs::write(path, vec![text; SIZE]).unwrap();
        }
        fs::create_dir_all(path.join("sub/deep")).unwrap();
        fs::write(path.join("one"), vec![text; SIZE]).unwrap();
        fs::write(path.join("sub/two"), [text]).unwrap();
        symlink("two", path.join("sub/link")).unwrap();
    }

    /// Whether all of what [`Self::make`] has made is at `path`.
    fn is_whole(&self, path: &Path, text: u8) -> bool {
        let holds = |path: &Path, size| fs::read(path).is_ok_and(|found| found == vec![text; size]);
        if !self.is_tree {
            return holds(path, SIZE);
        }
        holds(&path.join("one"), SIZE)
            && holds(&path.join("sub/two"), 1)
            && fs::read_link(path.join("sub/link")).is_ok()
            && path.join("sub/deep").is_dir()
    }
}

/// What the source holds, and what was at the destination before.
const NEW: u8 = b'n';
const OLD: u8 = b'o';

/// A daemon with the operation's source and destination, and its file worker.
struct Ground {
    scenario: Scenario,
    scratch: Scratch,
    _mount: Option<Mount>,
    daemon: Daemon,
    worker: Pid,
}

impl Ground {
    fn new(scenario: Scenario) -> Self {
        let scratch = Scratch::new();
        for name in ["in", "out", "first"] {
            scratch.dir(name);
        }
        let mount = scenario.is_across.then(|| Mount::tmpfs(scratch.path("out")));
        scenario.make(&scratch.path("a"), NEW);
        if scenario.replaces {
            scenario.make(&scratch.path(scenario.target()), OLD);
        }
        let mut daemon = Daemon::start_ready(&scratch, &scenario.config(), &[]);
        // The thread is started for an operation elsewhere.
        scratch.write("first/file", "");
        daemon.wait_line("task finished");
        let worker = worker(daemon.pid());
        Self { scenario, scratch, _mount: mount, daemon, worker }
    }

    /// Carries out the operation. Returns whether it ended, or else the daemon did, and the trace.
    fn run(&mut self, injection: Option<&Injection>) -> (bool, String) {
        let tracer = Tracer::attach(self.worker, self.scratch.path("trace"), injection);
        self.scratch.rename("a", "in/a");
        let mut has_ended = false;
        self.daemon.wait_for_log_or_end(|log| {
            has_ended = log.matches("task f").count() > 1;
            has_ended
        });
        (has_ended, tracer.detach())
    }

    /// Whether the source is whole, under its name or where the daemon removes it from.
    fn is_source_whole(&self) -> bool {
        let left = fs::read_dir(self.scratch.path("in")).unwrap().map(|entry| entry.unwrap().path());
        let parked: Vec<PathBuf> = left.map(|path| path.join("rinotifyd.source/a")).collect();
        let paths = [self.scratch.path("in/a")].into_iter().chain(parked);
        paths.into_iter().any(|path| self.scenario.is_whole(&path, NEW))
    }

    /// What is wrong after the fault.
    fn fault(&self) -> Option<&'static str> {
        let Scenario { action, replaces, .. } = self.scenario;
        let (source, target) = (self.scratch.path("in/a"), self.scratch.path(self.scenario.target()));
        if action == "delete" {
            return None;
        }
        let is_copied = self.scenario.is_whole(&target, NEW);
        let is_old = self.scenario.is_whole(&target, OLD) || self.is_set_aside(&target);
        if !(self.is_source_whole() || action == "move" && is_copied) {
            return Some("neither is whole");
        }
        if source.exists() && !self.scenario.is_whole(&source, NEW) {
            return Some("half a source");
        }
        let is_half = target.exists() && !is_copied && !(replaces && is_old);
        is_half.then_some("half a destination")
    }

    /// Whether the tree at the destination is set aside, and an empty directory has its name.
    fn is_set_aside(&self, target: &Path) -> bool {
        let is_empty = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
        let aside = fs::read_dir(target.parent().unwrap()).into_iter().flatten().flatten();
        is_empty
            && aside
                .map(|entry| entry.path().join("rinotifyd.old/a"))
                .any(|old| self.scenario.is_whole(&old, OLD))
    }

    /// The same daemon goes on.
    fn check_goes_on(&mut self) {
        self.scratch.write("in/next", "1");
        let next = self.scratch.path(self.scenario.beside("next"));
        self.daemon.wait_for(|| fs::read(&next).is_ok_and(|found| found == b"1"), "the next operation");
    }

    /// The next daemon removes what is left over and completes the operation.
    fn check_next_run(self, fault: Fault) {
        let Self { scenario, scratch, .. } = &self;
        for name in ["next_run", "top"] {
            scratch.write(format!("in/{name}"), "2");
        }
        let mut daemon = Daemon::start_ready(scratch, &scenario.config(), &[]);
        daemon.wait_for(
            || scratch.path(scenario.beside("next_run")).exists(),
            "an operation of the next daemon",
        );
        daemon.wait_for(|| scratch.path("out/top").exists(), "an operation in the directory above");
        daemon.wait_for_log(
            |log| log.matches("task f").count() == log.matches("start task").count(),
            "the end of all operations",
        );
        let log = daemon.stop();
        let litter = [tree(&scratch.path("in")), tree(&scratch.path("out"))].concat();
        // What could not be read while it was removed may have been changed: it is kept, and never removed.
        let is_kept = litter.iter().any(|name| name.ends_with("rinotifyd.kept"));
        let litter: Vec<_> =
            litter.iter().filter(|name| name.to_string_lossy().contains(".rinotifyd-")).collect();
        assert!(litter.is_empty() || is_kept && fault != Fault::Kill, "litter: {litter:?}\n{log}");
        if scenario.action != "delete" {
            assert!(scenario.is_whole(&scratch.path(scenario.target()), NEW), "lost\n{log}");
        }
        if scenario.action != "copy" {
            assert!(!scratch.path("in/a").exists(), "stuck\n{log}");
        }
    }
}

/// The daemon's thread that carries out operations.
fn worker(daemon: Pid) -> Pid {
    let threads = fs::read_dir(format!("/proc/{daemon}/task")).unwrap().map(|entry| entry.unwrap().path());
    let is_worker = |path: &PathBuf| fs::read(path.join("comm")).is_ok_and(|name| name == b"file worker\n");
    let path = threads.into_iter().find(is_worker).expect("a file worker");
    Pid::from_raw(path.file_name().unwrap().to_str().unwrap().parse().unwrap())
}

/// Everything below a directory.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()));
        }
    }
    found
}

/// Without `make faults`, one of so many faults is tried.
const SAMPLE: usize = 16;

/// How often a fault is tried that another course of the operation has avoided.
const TRIES: usize = 3;

#[track_caller]
fn check(scenario: Scenario) {
    if !can_tamper("faults of every system call") {
        return;
    }
    let mut ground = Ground::new(scenario);
    let (has_ended, trace) = ground.run(None);
    assert!(has_ended, "the daemon ended without a fault");
    ground.daemon.stop();
    let steps = steps(&trace, None);
    assert!(steps.len() > 5, "{trace}");
    try_all(&injections(&steps, SAMPLE), |injection| check_injection(scenario, injection));
}

#[track_caller]
fn check_injection(scenario: Scenario, injection: &Injection) -> bool {
    for _ in 0..TRIES {
        let mut ground = Ground::new(scenario);
        let (has_ended, trace) = ground.run(Some(injection));
        if injection.fault == Fault::Kill {
            if has_ended {
                continue;
            }
            assert_eq!(ground.daemon.wait().signal(), Some(9));
            assert_eq!(ground.fault(), None);
        } else {
            assert!(has_ended, "the daemon ended: {:?}\n{}", ground.daemon.ended(), ground.daemon.log());
            if !trace.contains("(INJECTED)") {
                continue;
            }
            // What comes back under its name makes a task, which may be under way.
            println!("{}", ground.daemon.log());
            wait_for(|| ground.fault().is_none(), "whole source and destination");
            ground.check_goes_on();
            ground.daemon.signal(Signal::SIGTERM);
            assert!(ground.daemon.wait().success(), "{}", ground.daemon.log());
        }
        ground.check_next_run(injection.fault);
        return true;
    }
    false
}

#[test]
fn moving_a_file() {
    check(PLAIN);
}

#[test]
fn moving_a_file_to_another_filesystem() {
    check(Scenario { is_across: true, ..PLAIN });
}

#[test]
fn moving_a_file_over_another() {
    check(Scenario { is_across: true, replaces: true, ..PLAIN });
}

#[test]
fn moving_a_file_into_new_directories() {
    check(Scenario { makes_dirs: true, ..PLAIN });
}

#[test]
fn moving_a_tree() {
    check(Scenario { is_tree: true, ..PLAIN });
}

#[test]
fn moving_a_tree_over_another() {
    check(Scenario { is_tree: true, replaces: true, ..PLAIN });
}

#[test]
fn moving_a_tree_to_another_filesystem() {
    check(Scenario { is_tree: true, is_across: true, makes_dirs: true, ..PLAIN });
}

#[test]
fn moving_a_tree_over_another_on_another_filesystem() {
    check(Scenario { is_tree: true, is_across: true, replaces: true, ..PLAIN });
}

#[test]
fn copying_a_file() {
    check(Scenario { action: "copy", makes_dirs: true, ..PLAIN });
}

#[test]
fn copying_a_file_over_another() {
    check(Scenario { action: "copy", replaces: true, ..PLAIN });
}

#[test]
fn copying_a_tree() {
    check(Scenario { action: "copy", is_tree: true, makes_dirs: true, ..PLAIN });
}

#[test]
fn copying_a_tree_over_another() {
    check(Scenario { action: "copy", is_tree: true, is_across: true, replaces: true, ..PLAIN });
}

#[test]
fn deleting_a_file() {
    check(Scenario { action: "delete", ..PLAIN });
}

#[test]
fn deleting_a_tree() {
    check(Scenario { action: "delete", is_tree: true, ..PLAIN });
}
