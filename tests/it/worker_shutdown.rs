//! Workers at a shutdown and at a reload: what they were given is done, or handed on, or said to be lost.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::workers::{GOOD, config, start};

#[test]
fn unread_lines_are_passed_on_at_shutdown_too_or_said_to_be_lost() {
    let script = "[ -e @/second ] && exec cat >>@/seen; >@/second; echo $$ >@/pid; exec sleep 60";
    for mended in [true, false] {
        let (scratch, mut daemon) = start(script, "ack = no");
        scratch.write("src/1", "");
        let pid: i32 = daemon.wait_ran(&scratch, "pid", 1)[0].parse().unwrap();
        scratch.write("src/2", "");
        daemon.wait_status(" done=2 ");
        if !mended {
            fs::remove_file(scratch.path("second")).unwrap();
        }
        daemon.signal(Signal::SIGTERM);
        daemon.wait_log("shutdown reason");
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        if mended {
            assert!(daemon.wait().success());
            assert_eq!(scratch.lines("seen").len(), 2);
        } else {
            daemon.wait_lines(2, "start worker");
            daemon.wait_for(|| scratch.path("second").exists(), "the next worker");
            daemon.signal(Signal::SIGTERM);
            assert!(daemon.wait().success());
            let log = daemon.log();
            assert!(
                log.contains("without reading its last lines, which are lost worker=run/2 lines=2"),
                "{log}"
            );
        }
    }
}

// How they end.

#[test]
fn shutdown_waits_for_answers_and_then_for_the_end() {
    let script = "while read -r id rest; do until [ -e @/gate ]; do sleep 0.02; done; echo $id ok; done\n\
                  sleep 0.2; echo done >>@/ran";
    let (scratch, mut daemon) = start(script, "");
    scratch.write("src/1", "");
    scratch.write("src/2", "");
    daemon.wait_lines(2, "start task");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("shutdown reason=SIGTERM tasks=2");
    scratch.write("gate", "");
    assert!(daemon.wait().success());
    assert_eq!(scratch.read("ran"), "done\n");
    let log = daemon.log();
    assert_eq!(log.matches("task finished").count(), 2, "{log}");
    assert!(log.contains("result=\"exit status 0\""), "{log}");
}

#[test]
fn a_worker_that_does_not_end_is_terminated_and_killed() {
    let script = "trap '' TERM; read -r id rest; echo $id ok; while :; do sleep 0.1; done";
    let (scratch, mut daemon) = start(script, "");
    daemon.reload(&scratch, &config("").replace("shutdown_timeout = 10", "shutdown_timeout = 0.3"));
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    let log = daemon.log();
    assert!(log.contains("result=\"signal 9\""), "{log}");
}

#[test]
fn a_second_signal_ends_the_wait_for_answers() {
    let (scratch, mut daemon) = start("cat >/dev/null", "");
    scratch.write("src/file", "");
    daemon.wait_log("start task");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("shutdown reason");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    let log = daemon.log();
    assert!(log.contains("task terminated: shutdown") && log.contains("task failed"), "{log}");
    assert!(log.contains("result=\"signal 15\""), "{log}");
}

#[test]
fn reload_keeps_an_unchanged_worker_and_drains_a_changed_one() {
    let script = "echo $$ >>@/pids\nwhile read -r id event kind path src; do\n\
                  until [ -e @/gate-${path##*/} ]; do sleep 0.02; done\n\
                  echo \"${path##*/} $ONE\" >>@/ran; echo $id ok; done; echo end $ONE >>@/ran";
    let (scratch, mut daemon) = start(script, "env = ONE=old");
    scratch.write("src/a", "");
    daemon.wait_ran(&scratch, "pids", 1);
    daemon.reload(&scratch, &config("env = ONE=old\ndelay = 0\nlogname = other"));
    daemon.reload(&scratch, &config("env = ONE=new"));
    scratch.write("src/b", "");
    scratch.write("gate-b", "");
    daemon.wait_ran(&scratch, "ran", 1);
    scratch.write("gate-a", "");
    let ran = daemon.wait_ran(&scratch, "ran", 3);
    assert_eq!(ran, ["b new", "a old", "end old"]);
    let log = daemon.stop();
    assert_eq!(scratch.lines("pids").len(), 2, "the first reload changed nothing about it");
    assert_eq!(log.matches("task finished").count(), 2, "{log}");
}

#[test]
fn reload_closes_the_worker_of_a_removed_scheduler() {
    let (scratch, mut daemon) = start(&format!("{GOOD}echo end >>@/ran"), "start = eager");
    let text = config("").replace("scheduler run", "scheduler new").replace("= run", "= new");
    daemon.reload(&scratch, &text);
    daemon.wait_ran(&scratch, "ran", 1);
    daemon.wait_log("worker ended worker=run/1 result=\"exit status 0\"");
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    daemon.stop();
}
