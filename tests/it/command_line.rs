//! What the options do, and how the process ends.

use std::process::{Output, Stdio};

use crate::scratch::{Daemon, Scratch, field, millis_between, rinotifyd};

fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = rinotifyd().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Exit status 2 and a message on standard error, nothing on standard output.
#[track_caller]
fn refuse(args: &[&str], message: &str) {
    let (status, stdout, stderr) = run(args);
    assert_eq!((status, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
    assert!(stderr.contains(message), "{args:?}: {stderr}");
}

#[test]
fn version_help_and_events_are_printed() {
    let (status, stdout, stderr) = run(&["-v"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(stdout, format!("rinotifyd {}\n", env!("CARGO_PKG_VERSION")));
    let (status, stdout, stderr) = run(&["-h"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    for word in ["--configtest", "--dry-run", "--pidfile", "-w PATH"] {
        assert!(stdout.contains(word), "{word}\n{stdout}");
    }
    let (status, stdout, stderr) = run(&["-l"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let events: Vec<_> = stdout.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(events, crate::configuration::EVENTS);
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = rinotifyd().arg("-l").stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn what_is_not_understood_is_refused() {
    refuse(&["--confg", "x"], "did you mean --config?");
    refuse(&["-t", "-n"], "exclude each other");
    refuse(&["-c"], "needs a value");
    refuse(&["surplus"], "unexpected argument \"surplus\"");
    refuse(&["-w", "/tmp"], "needs -x");
    refuse(&["-x", "true"], "needs -w");
    refuse(&["-w", "/tmp", "-x", "true", "-E", "IN_WRITE_CLOSE"], "did you mean IN_CLOSE_WRITE?");
    refuse(&["-w", "/tmp", "-x", "true", "-D", "soon"], "not a duration");
    refuse(&["-w", "/tmp", "-x", " "], "the command is empty");
    refuse(&["-t", "-c", "/no/such/file"], "/no/such/file: error: cannot be read");
    refuse(&["-c", "/no/such/file"], "/no/such/file: error: cannot be read");
}

/// A daemon without a configuration file.
fn start(scratch: &Scratch, args: &[&str]) -> Daemon {
    let mut command = rinotifyd();
    command.args(args.iter().map(|arg| scratch.expand(arg)));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    daemon
}

#[test]
fn a_path_and_a_command_are_enough() {
    let scratch = Scratch::new();
    scratch.dir("src/below");
    let mut daemon = start(&scratch, &["-w", "@/src", "-x", "echo {maskname} {filename} >>@/ran"]);
    scratch.write("src/below/unseen", "");
    scratch.write("src/written", "");
    daemon.wait_ran(&scratch, "ran", 1);
    scratch.write("aside", "");
    scratch.rename("aside", "src/moved");
    daemon.wait_ran(&scratch, "ran", 2);
    daemon.stop();
    assert_eq!(scratch.read("ran"), "IN_CLOSE_WRITE written\nIN_MOVED_TO moved\n");
}

#[test]
fn paths_events_recursion_and_delay_are_options() {
    let scratch = Scratch::new();
    for folder in ["one/below", "two"] {
        scratch.dir(folder);
    }
    let mut args =
        vec!["-w", "@/one", "-w", "@/two", "-r", "-E", "IN_CREATE", "-E", "IN_DELETE", "-D", "300ms"];
    args.extend(["-x", "echo {maskname} {pathname} >>@/ran"]);
    let mut daemon = start(&scratch, &args);
    scratch.write("one/below/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    let (scheduled, started) = (&daemon.wait_line("schedule task"), &daemon.wait_line("start task"));
    assert_eq!(field(scheduled, "delay"), "0.300");
    assert!(millis_between(scheduled, started) >= 290);
    scratch.dir("one/new");
    let file = scratch.write("two/file", "");
    std::fs::remove_file(file).unwrap();
    daemon.wait_ran(&scratch, "ran", 2);
    scratch.write("one/new/file", "");
    daemon.wait_ran(&scratch, "ran", 3);
    daemon.stop();
    let expected = "IN_CREATE @/one/below/file\nIN_DELETE @/two/file\nIN_CREATE @/one/new/file\n";
    assert_eq!(scratch.read("ran"), scratch.expand(expected));
}

#[test]
fn a_relative_path_means_the_directory_it_was_started_in() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let mut command = rinotifyd();
    command
        .current_dir(scratch.path(""))
        .args(["-w", "src", "-x"])
        .arg(scratch.expand("echo {filename} >>@/ran"));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    daemon.stop();
}

#[test]
fn a_path_of_any_bytes_is_watched_and_no_pattern() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new();
    let name = OsStr::from_bytes(b"[a]*\xff?");
    scratch.dir(name);
    let mut command = rinotifyd();
    command.arg("-w").arg(scratch.path(name)).arg("-x").arg(scratch.expand("echo {filename} >>@/ran"));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    std::fs::write(scratch.path(name).join("file"), "").unwrap();
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["file"]);
    daemon.stop();
}

#[test]
fn a_dry_run_logs_the_command_and_runs_nothing() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let text = "[scheduler run]\ntype = shell\ncmd = echo {filename} >>@/ran\n\
                [scheduler words]\ntype = exec\ncmd = touch @/ran {filename}\n\
                [event_map map]\nIN_CLOSE_WRITE = run words\n[watch src]\npath = @/src\nevent_map = map\n";
    let mut daemon = Daemon::start_ready(&scratch, text, &["-n"]);
    scratch.write("src/it's", "");
    daemon.wait_log("info words: dry run");
    let expected = scratch.expand(r#"command="/bin/sh -c echo 'it'\\''s' >>@/ran""#);
    daemon.wait_log(&expected);
    daemon.wait_log(&scratch.expand("command=\"touch @/ran it's\""));
    // A further event is a further task: the first has ended.
    scratch.write("src/it's", "");
    daemon.wait_lines(4, ": dry run");
    daemon.stop();
    assert!(!scratch.path("ran").exists());
}
