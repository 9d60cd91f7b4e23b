//! The scan of a new directory.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use crate::scratch::{Daemon, Scratch, can_tamper};
use crate::tracing::{Fault, Injection, Tracer, errors_of, injections, steps, try_all};

/// The directories of the watched tree.
const DIRS: [&str; 4] = ["", "new", "new/one", "new/one/two"];

const CONFIG: &str = "[daemon]\nfile_workers = 1\n[scheduler copy]\ntype = files\nrules = copy\n\
    [rule copy]\naction = copy\nsrc_re = ^@/in/(.*)$\ndst_re = @/out/\\1\nauto_create = yes\noverride = yes\n\
    [event_map map]\nIN_CLOSE_WRITE = copy\nIN_MOVED_TO = copy\n\
    [watch in]\npath = @/in\nevent_map = map\nrec = yes\nauto_add = yes\ncatch_up = all\n";

/// What a run has come to.
struct Run {
    scratch: Scratch,
    daemon: Daemon,
    trace: String,
    has_ended: bool,
}

/// Moves a tree into the watch path, with the daemon's main thread traced, until its files are copied, or the
/// fault was met, or the daemon has ended.
fn run(injection: Option<&Injection>) -> Run {
    let scratch = Scratch::new();
    for name in ["in", "out", "aside/one/two"] {
        scratch.dir(name);
    }
    for dir in ["", "/one", "/one/two"] {
        scratch.write(format!("aside{dir}/file"), "1");
    }
    let mut daemon = Daemon::start_ready(&scratch, CONFIG, &[]);
    let tracer = Tracer::attach(daemon.pid(), scratch.path("trace"), injection);
    scratch.rename("aside", "in/new");
    let mut has_ended = true;
    daemon.wait_for_log_or_end(|_| {
        let trace = fs::read_to_string(scratch.path("trace")).unwrap();
        let is_failed =
            trace.contains("(INJECTED)") && injection.is_some_and(|injection| injection.fault != Fault::Kill);
        has_ended = !is_failed && !scratch.path("out/new/one/two/file").exists();
        !has_ended
    });
    Run { scratch, daemon, trace: tracer.detach(), has_ended }
}

impl Run {
    /// No file of the tree is lost, and every directory is watched.
    fn check(&mut self) {
        let Self { scratch, daemon, .. } = self;
        let copied =
            |name: &str| DIRS[1..].iter().all(|dir| scratch.path(format!("out/{dir}/{name}")).exists());
        daemon.wait_for(|| copied("file"), "all files");
        for dir in DIRS {
            scratch.write(format!("in/{dir}/after"), "1");
        }
        daemon.wait_for(|| copied("after"), "files of all directories after the fault");
        daemon.wait_for(|| scratch.path("out/after").exists(), "a file in the watch path after the fault");
    }
}

/// Without `make faults`, one of so many faults is tried: some take seconds.
const SAMPLE: usize = 32;

/// How often a fault is tried that another course of the scan has avoided.
const TRIES: usize = 3;

fn check_injection(injection: &Injection) -> bool {
    for _ in 0..TRIES {
        let mut run = run(Some(injection));
        if injection.fault == Fault::Kill {
            if !run.has_ended {
                continue;
            }
            assert_eq!(run.daemon.wait().signal(), Some(9));
        } else if !run.trace.contains("(INJECTED)") {
            continue;
        }
        println!("{}", run.daemon.log());
        assert!(!run.has_ended || injection.fault == Fault::Kill, "the daemon ended");
        if run.has_ended {
            run.daemon = Daemon::start_ready(&run.scratch, CONFIG, &[]);
        }
        run.check();
        run.daemon.stop();
        return true;
    }
    false
}

#[test]
fn scanning_a_new_directory() {
    if !can_tamper("faults of every system call") {
        return;
    }
    let mut run = run(None);
    assert!(!run.has_ended, "the daemon ended without a fault");
    run.check();
    run.daemon.stop();
    let mut steps = steps(&run.trace, None);
    steps.retain(|step| !errors_of(&step.call).is_empty());
    assert!(steps.len() > 5, "{}", run.trace);
    // No permission is an answer, and no fault that passes.
    let mut injections = injections(&steps, SAMPLE);
    injections.retain(|injection| injection.fault != Fault::Error("EACCES"));
    try_all(&injections, check_injection);
}
