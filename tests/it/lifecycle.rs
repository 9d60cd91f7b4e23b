//! Start, shutdown, status, the pid file.

use nix::sys::signal::Signal;

use crate::scratch::{Daemon, Scratch, field, millis_between, rinotifyd};

fn config(daemon: &str, scheduler: &str) -> String {
    format!(
        "[daemon]\n{daemon}\n[scheduler run]\ntype = shell\n{scheduler}\n\
         [event_map map]\nIN_CLOSE_WRITE = run\n[watch src]\npath = @/src\nevent_map = map\n"
    )
}

fn start(config: &str) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    scratch.dir("src");
    let daemon = Daemon::start_ready(&scratch, config, &[]);
    (scratch, daemon)
}

#[test]
fn with_nothing_to_do_it_ends_at_once() {
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT")] {
        let (_scratch, mut daemon) = start(&config("shutdown_timeout = 60", "cmd = true"));
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0));
        let (asked, stopped) = (daemon.lines("shutdown").remove(0), daemon.lines("stopped").remove(0));
        assert_eq!((field(&asked, "reason"), field(&asked, "tasks")), (name, "0"));
        assert!(millis_between(&asked, &stopped) < 5_000);
    }
}

#[test]
fn waiting_tasks_run_before_the_end_and_no_new_ones_begin() {
    let (scratch, mut daemon) =
        start(&config("shutdown_timeout = 20", "delay = 500ms\ncmd = echo {filename} >>@/ran"));
    scratch.write("src/waiting", "");
    daemon.wait_log("schedule task");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("shutdown");
    scratch.write("src/late", "");
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
    assert_eq!(scratch.read("ran"), "waiting\n");
    assert!(!daemon.log().contains("src/late"), "{}", daemon.log());
}

#[test]
fn a_running_task_is_waited_for_and_its_last_output_is_logged() {
    let cmd = "cmd = echo started; until [ -e @/gate ]; do sleep 0.02; done; printf 'last words'";
    let (scratch, mut daemon) = start(&config("shutdown_timeout = 20", cmd));
    scratch.write("src/file", "");
    daemon.wait_log("line=started");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("shutdown");
    scratch.write("gate", "");
    assert_eq!(daemon.wait().code(), Some(0));
    let log = daemon.log();
    assert!(log.contains("task finished") && log.contains("line=\"last words\""), "{log}");
}

/// A daemon with a task that runs and one that waits, for a minute each.
fn busy(daemon: &str) -> (Scratch, Daemon) {
    let text = config(daemon, "cmd = echo $$ >>@/ran; exec sleep 60").replace("= run", "= run later")
        + "[scheduler later]\ntype = shell\ndelay = 60\ncmd = true\n";
    let (scratch, mut daemon) = start(&text);
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    daemon.wait_log(" schedule task");
    (scratch, daemon)
}

#[track_caller]
fn check_busy_end(scratch: &Scratch, daemon: &mut Daemon) {
    assert_eq!(daemon.wait().code(), Some(0));
    let log = daemon.log();
    let file = scratch.path("src/file").display().to_string();
    for (name, message) in
        [("later", "task cancelled: shutdown"), ("run", "task terminated: shutdown"), ("run", "task failed")]
    {
        let line = log.lines().find(|line| line.contains(&format!(" {name}: {message}")));
        let line = line.unwrap_or_else(|| panic!("no {name}: {message} in\n{log}"));
        assert_eq!(field(line, "path"), file);
    }
    let pid = scratch.read("ran").trim().to_owned();
    assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap(), "the child was not waited for");
}

#[test]
fn what_takes_too_long_is_cancelled_and_named() {
    let (scratch, mut daemon) = busy("shutdown_timeout = 300ms");
    daemon.signal(Signal::SIGTERM);
    check_busy_end(&scratch, &mut daemon);
    let (asked, ended) =
        (daemon.lines(": shutdown ").remove(0), daemon.lines("task terminated: shutdown").remove(0));
    assert_eq!(field(&asked, "tasks"), "2");
    assert!(millis_between(&asked, &ended) >= 290, "{}", daemon.log());
}

#[test]
fn a_second_signal_ends_the_wait() {
    let (scratch, mut daemon) = busy("shutdown_timeout = 60");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log(": shutdown ");
    daemon.signal(Signal::SIGINT);
    check_busy_end(&scratch, &mut daemon);
    assert!(daemon.log().contains("shutdown without waiting reason=SIGINT"), "{}", daemon.log());
}

#[test]
fn a_third_signal_kills() {
    let cmd = "cmd = trap '' TERM; echo ready >>@/ran; while :; do sleep 1; done";
    let (scratch, mut daemon) = start(&config("shutdown_timeout = 60", cmd));
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    for said in [": shutdown ", "shutdown without waiting", "task killed: shutdown"] {
        daemon.signal(Signal::SIGTERM);
        daemon.wait_log(said);
    }
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(daemon.log().contains("result=\"signal 9\""), "{}", daemon.log());
}

#[test]
fn the_wait_ends_when_the_last_task_is_cancelled() {
    let text = config("shutdown_timeout = 60", "delay = 50\ncmd = true")
        .replace("[watch", "IN_DELETE = cancel:run\n[watch");
    let (scratch, mut daemon) = start(&text);
    let file = scratch.write("src/file", "");
    daemon.wait_log(" schedule task");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log(": shutdown ");
    std::fs::remove_file(file).unwrap();
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(daemon.log().contains("task cancelled"), "{}", daemon.log());
}

#[test]
fn the_wait_ends_when_the_last_task_cannot_start_or_is_a_dry_run() {
    for (args, said) in [(&[][..], "task failed: cannot start"), (&["-n"][..], "dry run")] {
        let scratch = Scratch::new();
        scratch.dir("src");
        let text = config("shutdown_timeout = 60", "delay = 300ms\ncwd = /no/such/directory\ncmd = true");
        let mut daemon = Daemon::start_ready(&scratch, &text, args);
        scratch.write("src/file", "");
        daemon.wait_log(" schedule task");
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(daemon.log().contains(said), "{}", daemon.log());
    }
}

#[test]
fn the_status_counts() {
    let cmd =
        "cmd = echo {filename} >>@/ran; [ {filename} != bad ] && until [ -e @/gate ]; do sleep 0.02; done";
    let text = config("max_jobs = 1", cmd).replace("= run", "= run later")
        + "[scheduler later]\ntype = shell\ndelay = 60\ncmd = true\n";
    let (scratch, mut daemon) = start(&text);
    let before = daemon.status();
    assert_eq!(field(&before, "waiting"), "0");
    for name in ["src/one", "src/two", "src/bad"] {
        scratch.write(name, "");
    }
    daemon.wait_status("waiting=3 ready=2 running=1 done=0 failed=0");
    scratch.write("gate", "");
    daemon.wait_status("waiting=3 ready=0 running=0 done=2 failed=1");
    let after = daemon.status();
    // The way to the watch path is watched too, so others may add to the three.
    assert!(field(&after, "events").parse::<u64>().unwrap() >= 3, "{after}");
    assert_eq!(field(&after, "overflows"), "0");
    assert_eq!(daemon.directories("src"), 1);
    // The second signal ends the wait for the tasks of `later`.
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log(": shutdown ");
    daemon.stop();
}

#[test]
fn the_status_is_told_whatever_the_log_level() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let text = config("", "cmd = echo ran >>@/ran") + "[log]\nlevel = error\n";
    let mut daemon = Daemon::start(&scratch, &text, &[]);
    // Its "ready" is not logged: a task for a file shows that it is.
    daemon.wait_for(
        || {
            scratch.write("src/file", "");
            !scratch.read("ran").is_empty()
        },
        "command for a file",
    );
    assert!(daemon.status().contains("running="));
    daemon.stop();
}

#[test]
fn the_pid_file_is_written_locked_and_removed() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let pidfile = scratch.path("pid");
    let args = ["--pidfile", pidfile.to_str().unwrap()];
    let text = config("", "cmd = true");
    let daemon = Daemon::start_ready(&scratch, &text, &args);
    let pid = daemon.pid();
    assert_eq!(scratch.read("pid"), format!("{pid}\n"));
    let second = rinotifyd().arg("-c").arg(scratch.path("rinotifyd.conf")).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("already running, with process id {pid}")), "{said}");
    assert_eq!(scratch.read("pid"), format!("{pid}\n"), "the second one touched the file");
    daemon.stop();
    assert!(!pidfile.exists());
}

#[test]
fn a_pid_file_of_a_killed_daemon_is_taken_over() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let pidfile = scratch.write("pid", "1\n");
    let args = ["--pidfile", pidfile.to_str().unwrap()];
    let mut daemon = Daemon::start_ready(&scratch, &config("", "cmd = true"), &args);
    let first = daemon.pid();
    assert_eq!(scratch.read("pid"), format!("{first}\n"));
    daemon.signal(Signal::SIGKILL);
    assert_eq!(daemon.wait().code(), None);
    assert_eq!(scratch.read("pid"), format!("{first}\n"));
    let daemon = Daemon::start_ready(&scratch, &config("", "cmd = true"), &args);
    assert_eq!(scratch.read("pid"), format!("{}\n", daemon.pid()));
    daemon.stop();
}

#[test]
fn a_pid_file_that_cannot_be_made_is_a_failure() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let missing = scratch.path("no/such/directory/pid");
    let args = ["--pidfile", missing.to_str().unwrap()];
    let mut daemon = Daemon::start(&scratch, &config("", "cmd = true"), &args);
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(daemon.log().contains("ENOENT"), "{}", daemon.log());
}
