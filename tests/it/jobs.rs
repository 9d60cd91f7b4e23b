//! The short form, and what the form without a file does like it.

use std::fs;

use crate::scratch::{Daemon, Scratch, rinotifyd};

/// A job that notes the relative path in the file `ran`.
const JOB: &str = "[job note]\npath = @/src\ncmd = echo {relpath} >>@/ran\n";

#[test]
fn a_path_and_a_command_are_a_configuration() {
    let scratch = Scratch::new();
    scratch.dir("src/old");
    let mut daemon = Daemon::start_ready(&scratch, &format!("{JOB}max_jobs = 1\n"), &[]);
    scratch.write("src/.hidden", "");
    scratch.write("src/old/one", "");
    scratch.write("elsewhere", "");
    scratch.rename("elsewhere", "src/two");
    daemon.wait_ran(&scratch, "ran", 2);
    scratch.dir("src/new");
    scratch.write("src/new/three", "");
    daemon.wait_ran(&scratch, "ran", 3);
    let log = daemon.stop();
    assert_eq!(scratch.lines("ran"), ["old/one", "two", "new/three"]);
    assert!(log.contains(" info note: start task event=IN_CLOSE_WRITE"), "{log}");
}

#[test]
fn a_job_is_known_by_its_name() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let mut daemon = Daemon::start_ready(&scratch, &format!("{JOB}delay = 1h\n"), &[]);
    scratch.write("src/file", "");
    daemon.wait_log("schedule task");
    assert!(scratch.ask(&["watches"]).contains("note"));
    let tasks = scratch.ask(&["tasks"]);
    assert!(tasks.contains("note") && tasks.contains("src/file"), "{tasks}");
    fs::remove_file(scratch.path("src/file")).unwrap();
    daemon.wait_log("task cancelled");
    assert!(!scratch.ask(&["tasks"]).contains("src/file"));
    daemon.stop();
}

#[test]
fn a_command_may_have_several_lines() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let text = "[job note]\npath = @/src\ncmd = for word in a {filename}; do\n    # each\n    \
         echo \"$word\" >>@/ran\n    done\n    echo end >>@/ran\n";
    let mut daemon = Daemon::start_ready(&scratch, text, &[]);
    scratch.write("src/b c", "");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 3), ["a", "b c", "end"]);
    daemon.stop();
}

#[test]
fn an_event_map_takes_groups() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let text = "[scheduler came]\ntype = shell\ncmd = echo came >>@/ran\n\
         [scheduler went]\ntype = shell\ncmd = echo went >>@/ran\n\
         [event_map m]\ncomplete = came\ngone = went\n[watch w]\npath = @/src\nevent_map = m\n";
    let mut daemon = Daemon::start_ready(&scratch, text, &[]);
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    fs::remove_file(scratch.path("src/file")).unwrap();
    assert_eq!(daemon.wait_ran(&scratch, "ran", 2), ["came", "went"]);
    daemon.stop();
}

/// The form without a file, with these options, noting names in `ran`.
fn without_a_file(scratch: &Scratch, options: &[&str]) -> Daemon {
    let mut command = rinotifyd();
    command.arg("-w").arg(scratch.dir("src")).args(options);
    let mut daemon = Daemon::spawn({
        command.arg("-x").arg(scratch.expand("echo {filename} >>@/ran"));
        command
    });
    daemon.ready();
    daemon
}

#[test]
fn a_file_that_is_gone_runs_nothing_without_a_file_too() {
    let scratch = Scratch::new();
    let mut daemon = without_a_file(&scratch, &["-D", "300ms"]);
    let gone = scratch.write("src/gone", "");
    scratch.write("src/moved", "");
    fs::remove_file(gone).unwrap();
    scratch.rename("src/moved", "moved");
    scratch.write("src/kept", "");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["kept"]);
    daemon.stop();
}

#[test]
fn a_pattern_leaves_out_without_a_file_too() {
    let scratch = Scratch::new();
    let mut daemon = without_a_file(&scratch, &["-X", "*.tmp", "-X", ".*"]);
    for name in ["a.tmp", ".b", "c"] {
        scratch.write(format!("src/{name}"), "");
    }
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["c"]);
    daemon.stop();
}

#[test]
fn one_task_for_all_paths() {
    let scratch = Scratch::new();
    let mut daemon = without_a_file(&scratch, &["-1", "-D", "300ms"]);
    for name in ["a", "b", "c"] {
        scratch.write(format!("src/{name}"), "");
    }
    fs::remove_file(scratch.path("src/b")).unwrap();
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["c"]);
    let log = daemon.stop();
    assert_eq!(log.matches("start task").count(), 1, "{log}");
    assert!(!log.contains("task cancelled"), "{log}");
}
