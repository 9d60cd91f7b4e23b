//! When a task runs: delay, re-schedule, cancel, one at a time, again, at most so long.

use std::fs;

use crate::scratch::{Daemon, Scratch, field, millis_between};

/// One scheduler `run` with these lines, one map with those, one watch on `src`.
fn config(scheduler: &str, map: &str) -> String {
    format!(
        "[daemon]\nshutdown_timeout = 10\n[scheduler run]\n{scheduler}\n[event_map map]\n{map}\n\
         [watch src]\npath = @/src\nevent_map = map\n"
    )
}

/// Notes the name of each file.
const NOTE: &str = "type = shell\ncmd = echo {filename} >>@/ran\n";

/// Notes the name of each file, and ends when there is a file `gate`.
const GATED: &str = "type = shell\ncmd = echo {filename} >>@/ran; until [ -e @/gate ]; do sleep 0.02; done\n";

const ON_CLOSE: &str = "IN_CLOSE_WRITE = run";

fn start(config: &str) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    scratch.dir("src");
    let daemon = Daemon::start_ready(&scratch, config, &[]);
    (scratch, daemon)
}

#[test]
fn files_and_directories_are_taken_as_configured() {
    let map = "IN_CREATE = all files_only dirs_only neither\n";
    let mut text = format!("[event_map map]\n{map}[watch src]\npath = @/src\nevent_map = map\n");
    for (name, files, dirs) in [
        ("all", "yes", "yes"),
        ("files_only", "yes", "no"),
        ("dirs_only", "no", "yes"),
        ("neither", "no", "no"),
    ] {
        text += &format!(
            "[scheduler {name}]\ntype = shell\ncmd = echo {{filename}} >>@/{name}\n\
             files = {files}\ndirs = {dirs}\nmax_jobs = 1\n"
        );
    }
    let (scratch, mut daemon) = start(&text);
    scratch.write("src/file", "");
    scratch.dir("src/dir");
    daemon.wait_ran(&scratch, "all", 2);
    daemon.stop();
    assert_eq!(scratch.read("all"), "file\ndir\n");
    assert_eq!(scratch.read("files_only"), "file\n");
    assert_eq!(scratch.read("dirs_only"), "dir\n");
    assert_eq!(scratch.read("neither"), "");
}

#[test]
fn a_task_waits_for_its_delay() {
    let (scratch, mut daemon) = start(&config(&format!("{NOTE}delay = 300ms"), ON_CLOSE));
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    let (scheduled, started) = (&daemon.wait_line("schedule task"), &daemon.wait_line("start task"));
    assert_eq!(field(scheduled, "delay"), "0.300");
    let waited = millis_between(scheduled, started);
    assert!((290..5_000).contains(&waited), "{waited} ms\n{scheduled}\n{started}");
    daemon.stop();
}

#[test]
fn a_further_event_restarts_the_delay_of_the_same_task() {
    let text = config(&format!("{NOTE}delay = 500ms"), ON_CLOSE) + "[log]\nlevel = debug\n";
    let (scratch, mut daemon) = start(&text);
    scratch.write("src/file", "1");
    daemon.wait_log(" schedule task");
    scratch.write("src/file", "2");
    daemon.wait_log("re-schedule task");
    daemon.wait_ran(&scratch, "ran", 1);
    let log = daemon.stop();
    assert_eq!(scratch.read("ran"), "file\n", "{log}");
    let of = |text: &str| log.lines().filter(|line| line.contains(text)).collect::<Vec<_>>();
    let (scheduled, again, started) = (of(" schedule task"), of("re-schedule task"), of("start task"));
    assert_eq!((scheduled.len(), again.len(), started.len()), (1, 1, 1), "{log}");
    for line in [scheduled[0], again[0], started[0]] {
        assert_eq!(field(line, "task_id"), "1");
    }
    assert!(millis_between(again[0], started[0]) >= 490, "{log}");
    assert_eq!(field(started[0], "put_off"), "1");
}

#[test]
fn the_log_grows_with_tasks_and_not_with_events() {
    let (scratch, mut daemon) = start(&config(&format!("{NOTE}delay = 1h"), ON_CLOSE));
    scratch.write("src/file", "");
    daemon.wait_log(" schedule task");
    // With pauses, or the kernel makes one event of several.
    for _ in 0..20 {
        let events = daemon.status();
        scratch.write("src/file", "");
        daemon.wait_for_status(|status| field(status, "events") != field(&events, "events"));
    }
    scratch.ask(&["run", "1"]);
    daemon.wait_ran(&scratch, "ran", 1);
    daemon.wait_log("task finished");
    let started = daemon.wait_line("start task");
    assert_eq!(field(&started, "put_off"), "20");
    assert!(!daemon.stop().contains("re-schedule"));
}

#[test]
fn a_cancelled_task_does_not_run_and_says_so() {
    let map = "IN_CLOSE_WRITE = run\nIN_DELETE = cancel:run";
    let (scratch, mut daemon) = start(&config(&format!("{NOTE}delay = 300ms"), map));
    fs::remove_file(scratch.write("src/gone", "")).unwrap();
    daemon.wait_log("task cancelled");
    // The same name again is a new task, with a new number.
    scratch.write("src/gone", "");
    daemon.wait_ran(&scratch, "ran", 1);
    let log = daemon.stop();
    assert_eq!(scratch.read("ran"), "gone\n");
    let cancelled = log.lines().find(|line| line.contains("task cancelled")).unwrap();
    let started: Vec<_> = log.lines().filter(|line| line.contains("start task")).collect();
    assert_eq!((field(cancelled, "event"), field(cancelled, "task_id")), ("IN_CLOSE_WRITE", "1"));
    assert_eq!((started.len(), field(started[0], "task_id")), (1, "2"), "{log}");
}

#[test]
fn max_delay_ends_the_waiting_for_quiet() {
    let scheduler = format!("{NOTE}delay = 300ms\nmax_delay = 700ms");
    let (scratch, mut daemon) = start(&config(&scheduler, ON_CLOSE));
    // Never quiet: each check of the condition makes a further event.
    daemon.wait_for(
        || {
            scratch.write("src/file", "");
            !scratch.read("ran").is_empty()
        },
        "command for a file that is never quiet",
    );
    let (scheduled, started) = (&daemon.wait_line(" schedule task"), &daemon.wait_line("start task"));
    assert!(millis_between(scheduled, started) >= 690, "{scheduled}\n{started}");
    daemon.stop();
}

#[test]
fn a_single_job_gets_the_newest_event() {
    let scheduler = format!("{NOTE}delay = 500ms\nsinglejob = yes");
    let (scratch, mut daemon) = start(&config(&scheduler, ON_CLOSE));
    for name in ["src/one", "src/two", "src/three"] {
        scratch.write(name, "");
    }
    daemon.wait_ran(&scratch, "ran", 1);
    daemon.stop();
    assert_eq!(scratch.read("ran"), "three\n");
}

#[test]
fn a_schedulers_max_jobs_run_at_once_and_the_others_in_order() {
    let (scratch, mut daemon) = start(&config(&format!("{GATED}max_jobs = 2"), ON_CLOSE));
    for number in 1..=6 {
        scratch.write(format!("src/{number}"), "");
    }
    daemon.wait_status("ready=4 running=2");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 2).len(), 2);
    scratch.write("gate", "");
    daemon.wait_lines(6, "task finished");
    let log = daemon.stop();
    let started: Vec<_> =
        log.lines().filter(|line| line.contains("start task")).map(|line| field(line, "task_id")).collect();
    assert_eq!(started, ["1", "2", "3", "4", "5", "6"], "{log}");
    let mut ran = scratch.lines("ran");
    ran.sort();
    assert_eq!(ran, ["1", "2", "3", "4", "5", "6"]);
}

#[test]
fn the_daemons_max_jobs_count_over_all_schedulers() {
    let text = config(GATED, "IN_CLOSE_WRITE = run more").replace("[daemon]", "[daemon]\nmax_jobs = 3")
        + &format!("[scheduler more]\n{GATED}");
    let (scratch, mut daemon) = start(&text);
    for number in 1..=4 {
        scratch.write(format!("src/{number}"), "");
    }
    daemon.wait_status("ready=5 running=3");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 3).len(), 3);
    scratch.write("gate", "");
    daemon.wait_lines(8, "task finished");
    daemon.stop();
    assert_eq!(scratch.lines("ran").len(), 8);
}

#[test]
fn events_while_the_task_runs_run_it_once_more() {
    let (scratch, mut daemon) = start(&config(GATED, ON_CLOSE));
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    for _ in 0..3 {
        scratch.write("src/file", "");
    }
    daemon.wait_log("task is running and will run again");
    // Another file's task shows that all three events have been read.
    scratch.write("src/other", "");
    daemon.wait_ran(&scratch, "ran", 2);
    scratch.write("gate", "");
    daemon.wait_lines(3, "task finished");
    let log = daemon.stop();
    assert_eq!(scratch.read("ran"), "file\nother\nfile\n", "{log}");
    assert_eq!(log.matches("will run again").count(), 1, "{log}");
}

#[test]
fn a_cancelling_event_takes_back_the_second_run() {
    let (scratch, mut daemon) = start(&config(GATED, "IN_CLOSE_WRITE = run\nIN_ATTRIB = cancel:run"));
    let file = scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    scratch.write("src/file", "");
    daemon.wait_log("task is running and will run again");
    fs::set_permissions(&file, fs::metadata(&file).unwrap().permissions()).unwrap();
    daemon.wait_log("task will not run again: cancelled");
    scratch.write("gate", "");
    daemon.wait_log("task finished");
    daemon.stop();
    assert_eq!(scratch.read("ran"), "file\n");
}

#[test]
fn with_skip_events_while_the_task_runs_are_told_and_ignored() {
    let (scratch, mut daemon) = start(&config(&format!("{GATED}while_running = skip"), ON_CLOSE));
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    scratch.write("src/file", "");
    daemon.wait_log("event skipped: its task is running");
    scratch.write("gate", "");
    daemon.wait_log("task finished");
    // Once it has ended, events count again.
    daemon.wait_status("running=0");
    scratch.write("src/file", "");
    daemon.wait_lines(2, "task finished");
    daemon.stop();
    assert_eq!(scratch.read("ran"), "file\nfile\n");
}

#[test]
fn what_a_task_causes_itself_counts_as_during_its_run() {
    let scheduler = "type = shell\ncmd = echo ran >>@/ran; echo more >>{pathname}\nwhile_running = skip";
    let (scratch, mut daemon) = start(&config(scheduler, ON_CLOSE));
    scratch.write("src/one", "");
    daemon.wait_log("event skipped");
    scratch.write("src/two", "");
    daemon.wait_lines(2, "event skipped");
    daemon.wait_lines(2, "task finished");
    daemon.stop();
    assert_eq!(scratch.read("ran"), "ran\nran\n");
}

#[test]
fn a_task_that_triggers_itself_is_slowed_down_more_and_more() {
    let scheduler = "type = shell\ncmd = echo ran >>@/ran; echo more >>{pathname}";
    let (scratch, mut daemon) = start(&config(scheduler, ON_CLOSE));
    scratch.write("src/file", "");
    let lines = daemon.wait_lines(2, "events come during every run");
    let delays: Vec<_> = lines.iter().map(|line| field(line, "delay")).collect();
    assert_eq!(delays, ["1", "2"]);
    assert!(lines[0].contains("while_running = skip"), "the log says what to change: {}", lines[0]);
    let started = daemon.lines("start task");
    assert_eq!(started.len(), 3, "{started:?}");
    assert!(millis_between(&started[1], &started[2]) >= 990, "{started:?}");
    daemon.stop();
}

#[test]
fn a_task_that_takes_too_long_is_terminated() {
    let scheduler = "type = shell\ncmd = echo $$ >>@/ran; exec sleep 60\ntimeout = 300ms";
    let (scratch, mut daemon) = start(&config(scheduler, ON_CLOSE));
    scratch.write("src/file", "");
    daemon.wait_log("task failed");
    let (started, timed_out) = (&daemon.lines("start task")[0], &daemon.lines("task timed out")[0]);
    assert!(millis_between(started, timed_out) >= 290, "{started}\n{timed_out}");
    assert!(daemon.lines("task failed")[0].contains("result=\"signal 15\""), "{}", daemon.log());
    assert!(!is_alive(scratch.read("ran").trim()));
    daemon.stop();
}

#[test]
fn a_whole_process_group_that_ignores_term_is_killed() {
    // The inner shell inherits that TERM is ignored; both end by KILL only.
    let scheduler = "type = shell\ntimeout = 200ms\n\
                     cmd = trap '' TERM; sh -c 'echo $$ >@/inner; while :; do sleep 1; done' & echo $$ >@/outer; wait";
    let (scratch, mut daemon) = start(&config(scheduler, ON_CLOSE));
    scratch.write("src/file", "");
    daemon.wait_log("task failed");
    let (timed_out, killed) = (&daemon.lines("task timed out")[0], &daemon.lines("killed")[0]);
    let waited = millis_between(timed_out, killed);
    assert!((4_990..8_000).contains(&waited), "{waited} ms\n{timed_out}\n{killed}");
    assert!(daemon.lines("task failed")[0].contains("result=\"signal 9\""), "{}", daemon.log());
    let [outer, inner] = ["outer", "inner"].map(|name| scratch.read(name).trim().to_owned());
    assert!(!outer.is_empty() && !inner.is_empty());
    assert!(!is_alive(&outer));
    daemon.wait_for(|| !is_alive(&inner), "end of the child's child");
    daemon.stop();
}

#[test]
fn what_ignores_term_does_not_outlive_a_leader_that_does_not() {
    let scheduler = "type = shell\ntimeout = 200ms\n\
                     cmd = (trap '' TERM; echo $$ >@/outer; exec sh -c 'echo $$ >@/inner; while :; do sleep 1; done') & wait";
    let (scratch, mut daemon) = start(&config(scheduler, ON_CLOSE));
    scratch.write("src/file", "");
    daemon.wait_log("task failed");
    assert!(daemon.lines("task failed")[0].contains("result=\"signal 15\""), "{}", daemon.log());
    let inner = scratch.read("inner").trim().to_owned();
    assert!(!inner.is_empty());
    daemon.wait_for(|| !is_alive(&inner), "end of the child's child");
    daemon.stop();
}

/// Whether the process runs; a zombie does not.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn log_names_have_levels_of_their_own() {
    let text = config(&format!("{NOTE}logname = own"), ON_CLOSE)
        + "logname = watcher\n[log]\nlevel = error\n[log own]\nlevel = debug\n[log daemon]\nlevel = info\n";
    let (scratch, mut daemon) = start(&text);
    scratch.write("src/file", "");
    daemon.wait_log("info own: task finished");
    let log = daemon.stop();
    assert!(log.contains("debug own: command"), "{log}");
    assert!(log.contains("info daemon: ready"), "{log}");
    assert!(!log.contains("watcher:"), "{log}");
    assert!(!log.contains("debug daemon:"), "{log}");
}

#[test]
fn with_d_everything_is_logged() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let text = config(NOTE, ON_CLOSE) + "[log]\nlevel = error\n[log run]\nlevel = critical\n";
    let mut daemon = Daemon::start_ready(&scratch, &text, &["-d"]);
    let file = scratch.write("src/file", "");
    daemon.wait_log("info run: task finished");
    let log = daemon.stop();
    assert!(log.contains("debug run: command"), "{log}");
    let event = format!("debug src: event event=IN_CLOSE_WRITE path={}", file.display());
    assert!(log.contains(&event), "{log}");
}
