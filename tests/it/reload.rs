//! SIGHUP: what did not change stays as it is, and no event is lost meanwhile.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};

use crate::scratch::{Daemon, Scratch, field};

/// `cmd` of the scheduler; the watches stand behind.
fn config(scheduler: &str) -> String {
    format!(
        "[daemon]\nshutdown_timeout = 10\n[scheduler run]\ntype = shell\n{scheduler}\n\
         [event_map map]\nIN_CLOSE_WRITE = run\nIN_MOVED_TO = run\n\
         [watch src]\npath = @/src\nevent_map = map\nrec = yes\nauto_add = yes\n"
    )
}

const OTHER: &str = "[watch other]\npath = @/other\nevent_map = map\n";

fn start(config: &str) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    scratch.dir("src/below");
    scratch.dir("other");
    let daemon = Daemon::start_ready(&scratch, config, &[]);
    (scratch, daemon)
}

#[test]
fn the_next_task_gets_the_new_command_and_waiting_ones_are_kept() {
    let old = config("delay = 1\ncmd = echo old {filename} >>@/ran");
    let (scratch, mut daemon) = start(&old);
    scratch.write("src/waiting", "");
    daemon.wait_log(" schedule task");
    daemon.reload(&scratch, &config("cmd = echo new {filename} >>@/ran"));
    scratch.write("src/next", "");
    let ran = daemon.wait_ran(&scratch, "ran", 2);
    assert_eq!(ran, ["new next", "new waiting"]);
    let log = daemon.stop();
    let started: Vec<_> = log.lines().filter(|line| line.contains("start task")).collect();
    assert_eq!(field(started[1], "task_id"), "1", "the waiting task is still the same: {log}");
}

#[test]
fn tasks_follow_their_scheduler_to_another_index() {
    let (scratch, mut daemon) = start(&config("delay = 500ms\ncmd = echo {filename} >>@/ran"));
    scratch.write("src/file", "");
    daemon.wait_log(" schedule task");
    let first = "[scheduler first]\ntype = shell\ncmd = echo wrong >>@/ran\n[watch first]\npath = @/other\ndefault_sched = first\n";
    daemon.reload(
        &scratch,
        &(first.to_owned() + &config("delay = 500ms\ncmd = echo right {filename} >>@/ran")),
    );
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["right file"]);
    daemon.stop();
}

#[test]
fn tasks_of_a_removed_scheduler_are_cancelled() {
    let (scratch, mut daemon) = start(&config("delay = 300ms\ncmd = echo old >>@/ran"));
    scratch.write("src/file", "");
    daemon.wait_log(" schedule task");
    let renamed = config("delay = 300ms\ncmd = echo {filename} >>@/ran").replace("run", "another");
    daemon.reload(&scratch, &renamed);
    daemon.wait_log("task cancelled: its scheduler was removed");
    scratch.write("src/later", "");
    daemon.wait_log("task finished");
    let log = daemon.stop();
    assert!(!log.contains("info run: start task"), "{log}");
    assert_eq!(scratch.read("ran"), "later\n");
}

#[test]
fn a_task_that_runs_is_not_disturbed() {
    let cmd = "cmd = echo {filename} >>@/ran; until [ -e @/gate ]; do sleep 0.02; done; echo said";
    let (scratch, mut daemon) = start(&config(cmd));
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    daemon.reload(&scratch, &config(&cmd.replace("said", "changed")));
    scratch.write("gate", "");
    daemon.wait_log("task finished");
    daemon.wait_log("line=said");
    let log = daemon.stop();
    assert!(!log.contains("changed"), "{log}");
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let good = config("cmd = echo {filename} >>@/ran");
    let (scratch, mut daemon) = start(&good);
    let bad = good.replace("IN_MOVED_TO", "IN_MOVED_TOO").replace("[watch src]", "[watch new]");
    let path = scratch.config(&bad);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_log("configuration not reloaded: the old one stays");
    let written = fs::read_to_string(&path).unwrap();
    let line = 1 + written.lines().position(|line| line.contains("TOO")).unwrap();
    let place = format!("error daemon: {}:{line}:1: ", path.display());
    let logged = daemon.lines("IN_MOVED_TOO");
    assert!(logged[0].contains(&place) && logged[0].contains("did you mean IN_MOVED_TO?"), "{logged:?}");
    fs::remove_file(path).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_lines(2, "configuration not reloaded");
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    daemon.stop();
}

#[test]
fn watches_come_and_go() {
    let text = config("cmd = echo {filename} >>@/ran\nmax_jobs = 1");
    let (scratch, mut daemon) = start(&text);
    scratch.write("other/before", "");
    daemon.reload(&scratch, &(text.clone() + OTHER));
    daemon.wait_log("info other: watching");
    assert_eq!(daemon.directories("other"), 1);
    assert_eq!(daemon.directories("src"), 2);
    scratch.write("other/during", "");
    daemon.wait_ran(&scratch, "ran", 1);
    daemon.reload(&scratch, &text);
    scratch.write("other/after", "");
    scratch.write("src/below/file", "");
    daemon.wait_ran(&scratch, "ran", 2);
    // An event for what is watched is read after all that came before it.
    let log = daemon.stop();
    assert_eq!(scratch.read("ran"), "during\nfile\n", "{log}");
}

#[test]
fn a_watch_removed_while_its_tasks_wait_cancels_them() {
    let text = config("delay = 300ms\ncmd = echo {filename} >>@/ran");
    let (scratch, mut daemon) = start(&(text.clone() + OTHER));
    scratch.write("other/gone", "");
    daemon.wait_log(" schedule task");
    daemon.reload(&scratch, &text);
    daemon.wait_log("task cancelled: its directory left: no watch covers it any more");
    scratch.write("src/kept", "");
    daemon.wait_ran(&scratch, "ran", 1);
    daemon.stop();
    assert_eq!(scratch.read("ran"), "kept\n");
}

#[test]
fn recursion_log_levels_and_filters_are_those_of_the_new_configuration() {
    let text = config("cmd = echo {filename} >>@/ran\nmax_jobs = 1");
    let (scratch, mut daemon) = start(&text);
    daemon.reload(&scratch, &text.replace("rec = yes\nauto_add = yes", "rec = no"));
    assert_eq!(daemon.directories("src"), 1);
    scratch.write("src/below/unseen", "");
    daemon.reload(&scratch, &(text.clone() + "exclude_filter = ^@/src/secret$\n[log src]\nlevel = debug\n"));
    daemon.wait_directories("src", 2);
    scratch.write("src/secret", "");
    scratch.write("src/below/seen", "");
    daemon.wait_ran(&scratch, "ran", 1);
    let log = daemon.stop();
    assert_eq!(scratch.read("ran"), "seen\n", "{log}");
    assert!(log.contains("debug src: event excluded"), "{log}");
}

/// As many files as that, by writing and by moving in, while the configuration changes.
const STORM: usize = 3_000;

/// How many more files are made each time a condition is checked.
const FILES_PER_LOOK: usize = 10;

/// Checks between two reloads, some 50 ms.
const CHECKS_PER_RELOAD: usize = 10;

fn drop_file(scratch: &Scratch, number: usize) {
    let folder = if number.is_multiple_of(2) { "src" } else { "src/below" };
    let name = format!("{folder}/{number}");
    if number % 4 < 2 {
        scratch.write(name, "");
    } else {
        scratch.write("aside", "");
        scratch.rename("aside", name);
    }
}

#[test]
fn reloads_in_a_storm_of_files_lose_none_and_double_none() {
    let text = config("cmd = echo {filename} >>@/ran\nlogname = quiet") + "[log quiet]\nlevel = warning\n";
    let (scratch, mut daemon) = start(&text);
    let below = "[watch below]\npath = @/src/below\ndefault_sched = none\n";
    let texts = [text.clone() + OTHER, text.clone() + below, text];
    let pid = daemon.pid();
    let (mut number, mut checks, mut reloads) = (0, 0, 0);
    // Each step has a deadline of its own.
    for step in (0..=STORM).step_by(STORM / 6) {
        daemon.wait_for(
            || {
                let more = number..STORM.min(number + FILES_PER_LOOK);
                number = more.end;
                more.for_each(|number| drop_file(&scratch, number));
                checks += 1;
                if checks % CHECKS_PER_RELOAD == 0 {
                    scratch.config(&texts[reloads % texts.len()]);
                    kill(pid, Signal::SIGHUP).unwrap();
                    reloads += 1;
                }
                scratch.lines("ran").len() >= step
            },
            &format!("{step} commands"),
        );
    }
    let log = daemon.stop();
    let ran: Vec<usize> = scratch.lines("ran").iter().map(|name| name.parse().unwrap()).collect();
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = ran.into_iter().filter(|number| !seen.insert(*number)).collect();
    let missing: Vec<_> = (0..STORM).filter(|number| !seen.contains(number)).collect();
    assert!(missing.is_empty() && twice.is_empty(), "missing: {missing:?}, twice: {twice:?}\n{log}");
    assert!(log.matches("configuration reloaded").count() > 5, "{log}");
}
