//! The shortest way through the whole daemon: a file is dropped, a command runs.

use std::fs;

use crate::scratch::{Daemon, Scratch, rinotifyd, wait_for};

/// Appends every path it gets to `ran`, after a tenth of a second of quiet.
const CONFIG: &str = "\
[daemon]
shutdown_timeout = 5

[scheduler note]
type = shell
cmd = printf '%s %s\\n' {maskname} {pathname} >>@/ran
delay = 100ms

[event_map all]
IN_CLOSE_WRITE = note
IN_DELETE = cancel:note

[watch src]
path = @/src
event_map = all
rec = yes
auto_add = yes
";

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.dir("src");
    scratch
}

#[test]
fn a_dropped_file_runs_the_command_and_term_ends_the_daemon() {
    let scratch = scratch();
    let mut daemon = Daemon::start_ready(&scratch, CONFIG, &[]);
    let file = scratch.write("src/a file", "content");
    let expected = format!("IN_CLOSE_WRITE {}\n", file.display());
    daemon.wait_for(|| scratch.read("ran") == expected, "command for the file");
    let log = daemon.stop();
    assert!(log.contains("stopped"), "{log}");
    assert_eq!(scratch.read("ran"), expected);
}

#[test]
fn a_file_in_a_new_directory_runs_the_command_once() {
    let scratch = scratch();
    let mut daemon = Daemon::start_ready(&scratch, CONFIG, &[]);
    scratch.dir("src/new/deep");
    let file = scratch.write("src/new/deep/file", "content");
    daemon.wait_for(|| !scratch.read("ran").is_empty(), "command for the file");
    daemon.stop();
    assert_eq!(scratch.read("ran"), format!("IN_CLOSE_WRITE {}\n", file.display()));
}

#[test]
fn a_deleted_file_cancels_its_command() {
    let scratch = scratch();
    let config = CONFIG.replace("delay = 100ms", "delay = 1");
    let mut daemon = Daemon::start_ready(&scratch, &config, &[]);
    let gone = scratch.write("src/gone", "content");
    fs::remove_file(gone).unwrap();
    let kept = scratch.write("src/kept", "content");
    // Dropped later with the same delay: once its command has run, the other's would have run too.
    let expected = format!("IN_CLOSE_WRITE {}\n", kept.display());
    daemon.wait_for(|| !scratch.read("ran").is_empty(), "command for the file that stayed");
    daemon.stop();
    assert_eq!(scratch.read("ran"), expected);
}

#[test]
fn a_command_that_fails_is_logged_with_its_exit_status() {
    let scratch = scratch();
    let config = CONFIG.replace("cmd = ", "cmd = exit 42; ");
    let mut daemon = Daemon::start_ready(&scratch, &config, &[]);
    scratch.write("src/file", "content");
    daemon.wait_log("exit status 42");
    daemon.stop();
}

#[test]
fn a_wrong_configuration_is_refused_with_its_line() {
    let scratch = Scratch::new();
    let config = scratch.config("[daemon]\nshutdown_timeuot = 5\n");
    let output = rinotifyd().arg("-c").arg(&config).arg("-t").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(&format!("{}:2:1: ", config.display())), "{text}");
    assert!(text.contains("shutdown_timeout"), "{text}");
}

#[test]
fn the_harness_waits_for_conditions() {
    let mut polls = 0;
    wait_for(
        || {
            polls += 1;
            polls == 3
        },
        "three polls",
    );
    assert_eq!(polls, 3);
}
