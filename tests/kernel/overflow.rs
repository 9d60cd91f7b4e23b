//! The kernel dropped events: no work is lost.

use std::collections::HashSet;
use std::fs;

use nix::sys::signal::Signal;

use crate::events::{directories_on_disk, watch};
use crate::scratch::{Daemon, Scratch, is_root};
use crate::sysctl::{Sysctl, alone};

const FILES: usize = 5_000;
const TREES: usize = 100;

/// The queue's length is that of the moment in which the instance was made.
fn start(scratch: &Scratch, config: &str, args: &[&str]) -> Daemon {
    let _short = Sysctl::set("max_queued_events", 64);
    Daemon::start_ready(scratch, config, args)
}

fn config(map: &str, cmd: &str, delay: &str) -> String {
    format!(
        "[daemon]\nshutdown_timeout = 0\n[log run]\nlevel = warning\n[log event]\nlevel = debug\n\
         [scheduler run]\ntype = shell\ncmd = {cmd}\ndelay = {delay}\n\
         [scheduler told]\ntype = shell\ncmd = echo {{maskname}} >>@/overflows\ndirs = yes\n\
         [event_map map]\n{map}\n{}",
        watch("src")
    )
}

/// Makes changes while the daemon is stopped: more events than its queue holds.
fn while_stopped(daemon: &mut Daemon, happens: impl FnOnce()) {
    daemon.signal(Signal::SIGSTOP);
    happens();
    daemon.signal(Signal::SIGCONT);
    daemon.wait_log("the kernel's event queue overflowed");
    daemon.wait_log("the trees and the disk are the same again");
}

#[test]
fn every_command_runs_and_every_directory_is_watched() {
    let _alone = alone();
    if !is_root("a short event queue") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("src/old/deep");
    let map = "IN_CLOSE_WRITE = run\nIN_Q_OVERFLOW = told";
    // The delay makes one task of what is told several times.
    let text = config(map, "echo {pathname} >>@/ran", "500ms").replace("level = debug", "level = info");
    let mut daemon = start(&scratch, &text, &[]);
    let mut expected = HashSet::new();
    for number in 0..FILES {
        let file = scratch.write(format!("src/old/deep/{number}"), "");
        expected.insert(file.to_str().unwrap().to_owned());
        if number % (FILES / TREES) == 0 {
            let folder = format!("src/new/{number}/a/b");
            scratch.dir(&folder);
            let file = scratch.write(folder + "/file", "");
            expected.insert(file.to_str().unwrap().to_owned());
        }
    }
    daemon.wait_log("the kernel's event queue overflowed");
    // Each step has a deadline of its own.
    for steps in 1..=10 {
        let all = expected.len();
        let what = format!("commands for {steps} tenths of {all} files");
        daemon.wait_for(|| scratch.lines("ran").len() >= steps * all / 10, &what);
    }
    let all_ran = || scratch.lines("ran").into_iter().collect::<HashSet<_>>() == expected;
    daemon.wait_for(all_ran, "command for every file");
    daemon.wait_directories("src", directories_on_disk(&scratch.path("src")));
    daemon.wait_status("to_visit=0");
    let log = daemon.log();
    assert!(log.contains("the trees and the disk are the same again"), "{log}");
    assert!(scratch.lines("overflows").contains(&"IN_Q_OVERFLOW".to_owned()), "{log}");
    daemon.stop();
}

#[test]
fn commands_run_for_files_without_events() {
    let _alone = alone();
    if !is_root("a short event queue") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("src/old");
    let mut daemon = start(&scratch, &config("IN_CLOSE_WRITE = run", "echo {pathname} >>@/ran", "0"), &[]);
    let mut expected = HashSet::new();
    while_stopped(&mut daemon, || {
        for number in 0..200 {
            let folder = if number % 2 == 0 { "src/old".to_owned() } else { format!("src/new/{number}") };
            scratch.dir(&folder);
            let file = scratch.write(format!("{folder}/{number}"), "");
            expected.insert(file.to_str().unwrap().to_owned());
        }
    });
    // Each step has a deadline of its own.
    for steps in 1..=10 {
        let all = expected.len();
        let what = format!("commands for {steps} tenths of {all} files");
        daemon.wait_for(|| scratch.lines("ran").len() >= steps * all / 10, &what);
    }
    let all_ran = || scratch.lines("ran").into_iter().collect::<HashSet<_>>() == expected;
    daemon.wait_for(all_ran, "command for every file");
    daemon.wait_directories("src", directories_on_disk(&scratch.path("src")));
    daemon.stop();
}

#[test]
fn waiting_tasks_of_vanished_files_see_the_deletion() {
    let _alone = alone();
    if !is_root("a short event queue") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("src/tree/deep");
    let text = config("IN_CLOSE_WRITE = run\nIN_DELETE = cancel:run", ":", "3600")
        .replace("level = warning", "level = info");
    let mut daemon = start(&scratch, &text, &[]);
    for file in ["src/gone", "src/stays", "src/tree/deep/gone"] {
        scratch.write(file, "");
    }
    daemon.wait_status("waiting=3");
    while_stopped(&mut daemon, || {
        (0..100).for_each(|number| drop(scratch.write(format!("src/{number}"), "")));
        fs::remove_file(scratch.path("src/gone")).unwrap();
        fs::remove_dir_all(scratch.path("src/tree")).unwrap();
    });
    daemon.wait_status("waiting=101");
    let cancelled = daemon.lines("task cancelled");
    assert_eq!(cancelled.len(), 2, "{cancelled:?}");
    for path in ["@/src/gone", "@/src/tree/deep/gone"] {
        let field = scratch.expand(&format!("path={path}"));
        assert!(cancelled.iter().any(|line| line.contains(&field)), "{cancelled:?}");
    }
    daemon.wait_directories("src", 1);
    daemon.stop();
}

#[test]
fn a_tree_that_changed_completely_is_watched_again() {
    let _alone = alone();
    if !is_root("a short event queue") {
        return;
    }
    let scratch = Scratch::new();
    for number in 0..20 {
        scratch.dir(format!("src/{number}/deep"));
    }
    scratch.dir("outside/in/deep");
    let mut daemon = start(&scratch, &config("IN_CLOSE_WRITE = run", ":", "0"), &["-n"]);
    while_stopped(&mut daemon, || {
        (0..100).for_each(|number| drop(scratch.write(format!("src/{number}.file"), "")));
        scratch.rename("src/0", "src/renamed");
        scratch.rename("src/1", "src/2/deep/lower");
        scratch.rename("src/3", "outside/out");
        scratch.rename("outside/in", "src/in");
        fs::remove_dir_all(scratch.path("src/4")).unwrap();
        fs::remove_dir_all(scratch.path("src/5")).unwrap();
        scratch.dir("src/5/other/deep");
        // Two directories are exchanged.
        scratch.rename("src/6", "outside/6");
        scratch.rename("src/7", "src/6");
        scratch.rename("outside/6", "src/7");
    });
    daemon.wait_directories("src", directories_on_disk(&scratch.path("src")));
    for folder in ["renamed/deep", "2/deep/lower/deep", "in/deep", "5/other/deep", "6/deep", "7/deep"] {
        let file = scratch.write(format!("src/{folder}/after"), "");
        daemon.wait_log(&format!("event=IN_CLOSE_WRITE path={}", file.display()));
    }
    scratch.write("outside/out/deep/unseen", "");
    scratch.write("src/last", "");
    daemon.wait_log("src/last");
    assert_eq!(daemon.lines("unseen"), [""; 0]);
    daemon.stop();
}
