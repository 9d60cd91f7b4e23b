//! The environment of a command, its output, and commands that cannot run.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::scratch::{Daemon, Scratch, field, is_root, rinotifyd};

fn config(scheduler: &str) -> String {
    format!(
        "[daemon]\nshutdown_timeout = 10\n[scheduler run]\n{scheduler}\n\
         [event_map map]\nIN_CLOSE_WRITE = run\n[watch src]\npath = @/src\nevent_map = map\n"
    )
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.dir("src");
    scratch
}

/// What the command printed, run once for the file `src/file` by a daemon that was started
/// through `wrapper`, a shell script whose arguments are the daemon's command line.
fn printed_under(wrapper: &str, scheduler: &str) -> Vec<String> {
    let scratch = scratch();
    scratch.open_to_all();
    let daemon = rinotifyd();
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(scratch.expand(wrapper)).arg("sh").arg(daemon.get_program());
    command.arg("-c").arg(scratch.config(&config(scheduler)));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    let log = daemon.stop();
    let output = log.lines().filter_map(|line| line.split_once(" line=").map(|(_, text)| text.to_owned()));
    output.collect()
}

#[test]
fn a_shortage_of_descriptors_delays_and_loses_nothing() {
    let scratch = scratch();
    let mut command = Command::new("prlimit");
    command.arg("--nofile=20").arg(rinotifyd().get_program());
    // Each process that stays behind holds a pipe, and there are more of them than descriptors.
    let scheduler = "type = shell\nmax_jobs = 4\ncmd = sleep 3 & echo {filename} >>@/ran";
    let text = config(scheduler) + "rec = yes\nauto_add = yes\n";
    command.arg("-c").arg(scratch.config(&text));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    for number in 0..20 {
        scratch.write(format!("src/{number}"), "");
    }
    for number in 0..5 {
        scratch.dir(format!("src/new/{number}/deep"));
        scratch.write(format!("src/new/{number}/deep/n{number}"), "");
    }
    let ran = daemon.wait_ran(&scratch, "ran", 25);
    assert_eq!(ran.iter().collect::<BTreeSet<_>>().len(), 25, "{ran:?}");
    daemon.wait_directories("src", 12);
    daemon.stop();
}

fn printed(scheduler: &str) -> Vec<String> {
    printed_under("exec \"$@\"", scheduler)
}

#[test]
fn signals_are_neither_blocked_nor_ignored() {
    let sets = printed_under(
        "trap '' HUP PIPE USR2 TSTP; exec \"$@\"",
        "type = exec\ncmd = grep -E ^Sig(Blk|Ign): /proc/self/status",
    );
    assert_eq!(sets.len(), 2, "{sets:?}");
    assert!(sets.iter().all(|set| set.ends_with("0000000000000000\"")), "{sets:?}");
}

#[test]
fn only_the_standard_descriptors_are_open() {
    let links = printed_under(
        "exec 5</dev/null 9>>@/leaked \"$@\"",
        "type = shell\ncmd = for fd in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$fd; done; true",
    );
    assert_eq!(links.len(), 3, "{links:?}");
    assert_eq!(links[0], "/dev/null");
    assert!(links[1].starts_with("pipe:") && links[1] == links[2], "{links:?}");
    // Beyond 9, too: ls has one of its own for the directory that it lists.
    let listed = printed_under("exec 5</dev/null 9>>@/leaked \"$@\"", "type = exec\ncmd = ls /proc/self/fd");
    assert_eq!(listed, ["0", "1", "2", "3"]);
}

#[test]
fn the_child_leads_a_process_group_of_its_own() {
    let shown =
        printed("type = shell\ncmd = read pid name state parent group rest </proc/$$/stat; echo $$ $group");
    let ids: Vec<_> = shown[0].trim_matches('"').split(' ').collect();
    assert_eq!(ids.len(), 2, "{shown:?}");
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn umask_directory_environment_and_nice_value_are_set() {
    let nice =
        |stat: &str| stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse::<i32>().unwrap();
    let own = nice(&fs::read_to_string("/proc/self/stat").unwrap());
    let options = "umask = 027\ncwd = @/src\nnice = 3\nenv = ONE=1\n  TWO=two words\n";
    let cmd = "umask; pwd; nice; echo $ONE; echo $TWO; echo $RINOTIFYD_SCHEDULER $RINOTIFYD_IS_DIR $RINOTIFYD_TASK_ID";
    let shown = printed(&format!("type = shell\n{options}cmd = {cmd}"));
    assert_eq!(shown[0], "0027");
    assert!(shown[1].ends_with("/src"), "{shown:?}");
    assert_eq!(shown[2], (own + 3).min(19).to_string());
    assert_eq!(shown[3..], ["1", "\"two words\"", "\"run 0 1\""]);
    let shown =
        printed_under("umask 051; KEPT=kept exec \"$@\"", "type = shell\ncmd = umask; pwd; echo $KEPT");
    assert_eq!(shown, ["0051", "/", "kept"]);
}

#[test]
fn user_and_groups_are_those_of_the_account_and_no_others() {
    if !is_root("that a command gets its user, group and supplementary groups") {
        return;
    }
    let cmd = "type = shell\ncmd = id -un; id -gn; id -G; echo $USER $LOGNAME $HOME; echo >@/src/denied || echo denied";
    let wrapper = "exec setpriv --groups 4,6 \"$@\"";
    let groups = |user: &str| -> BTreeSet<String> {
        let output = Command::new("id").args(["-G", user]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
    };
    let account = Command::new("sh").args(["-c", "echo ~nobody"]).output().unwrap();
    let home = String::from_utf8(account.stdout).unwrap().trim().to_owned();
    let shown = printed_under(wrapper, &format!("{cmd}\nuser = nobody"));
    assert_eq!(shown[0], "nobody");
    let given: BTreeSet<_> = shown[2].trim_matches('"').split(' ').map(str::to_owned).collect();
    assert_eq!(given, groups("nobody"), "{shown:?}");
    assert_eq!(shown[3], format!("\"nobody nobody {home}\""));
    assert_eq!(shown.last().unwrap(), "denied", "{shown:?}");
    let shown = printed_under(wrapper, &format!("{cmd}\nuser = nobody\ngroup = daemon"));
    assert_eq!(shown[1], "daemon");
    let shown = printed_under(wrapper, &format!("{cmd}\ngroup = daemon"));
    assert_eq!(shown[..2], ["root", "daemon"]);
}

#[test]
fn output_goes_where_it_is_configured() {
    let run = |output: &str| {
        let scratch = scratch();
        let scheduler = format!(
            "type = shell\ncmd = echo to stdout; echo to stderr >&2; printf unfinished\noutput = {output}"
        );
        let mut daemon = Daemon::start_ready(&scratch, &config(&scheduler), &[]);
        scratch.write("src/file", "");
        daemon.wait_log("task finished");
        daemon.stop()
    };
    let log = run("log");
    for line in ["line=\"to stdout\"", "line=\"to stderr\"", "line=unfinished"] {
        assert_eq!(log.matches(&format!(" info run: output task_id=1 {line}\n")).count(), 1, "{line}\n{log}");
    }
    let log = run("null");
    assert!(!log.contains("to std") && !log.contains("unfinished"), "{log}");
}

#[test]
fn inherited_output_is_not_touched() {
    let scratch = scratch();
    let scheduler = "type = shell\ncmd = echo as it is >&2\noutput = inherit";
    let mut daemon = Daemon::start_ready(&scratch, &config(scheduler), &[]);
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    let log = daemon.stop();
    assert!(log.lines().any(|line| line == "as it is"), "{log}");
    assert!(!log.contains("run: output"), "{log}");
}

#[test]
fn ten_megabytes_without_a_newline_are_one_bounded_line() {
    let scratch = scratch();
    let scheduler = "type = shell\ncmd = head -c 10000000 /dev/zero | tr '\\0' x";
    let mut daemon = Daemon::start_ready(&scratch, &config(scheduler), &[]);
    scratch.write("src/one", "");
    let line = daemon.wait_lines(1, "run: output").remove(0);
    assert!(line.len() < 8192, "{} bytes", line.len());
    let kept = field(&line, "line").len();
    assert_eq!(field(&line, "bytes_cut").parse(), Ok(10_000_000 - kept));
    scratch.write("src/two", "");
    assert_eq!(daemon.wait_lines(2, "run: output").len(), 2);
    daemon.wait_lines(2, "task finished");
    daemon.stop();
}

#[test]
fn output_is_escaped() {
    let scratch = scratch();
    let scheduler = r"type = shell
cmd = printf 'red \033[31m\r and \377\n'";
    let mut daemon = Daemon::start_ready(&scratch, &config(scheduler), &[]);
    scratch.write("src/file", "");
    daemon.wait_log(r#"line="red \x1b[31m\r and \xff""#);
    daemon.stop();
}

#[test]
fn a_grandchild_that_keeps_the_pipe_does_not_keep_the_task() {
    let scratch = scratch();
    let scheduler = "type = shell\n\
                     cmd = (until [ -e @/gate ]; do sleep 0.02; done; echo late; echo done >@/done) & echo early";
    let mut daemon = Daemon::start_ready(&scratch, &config(scheduler), &[]);
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    daemon.wait_log("line=early");
    // The daemon still reads its output, so that SIGPIPE does not end it.
    scratch.write("gate", "");
    daemon.wait_log("line=late");
    daemon.wait_ran(&scratch, "done", 1);
    daemon.stop();
}

#[test]
fn commands_that_cannot_start_fail_and_the_daemon_goes_on() {
    let scratch = scratch();
    scratch.write("not-executable", "#!/bin/sh\n");
    let check = |scheduler: &str, message: &str, reason: &str| {
        let text = config(scheduler) + "[scheduler fine]\ntype = shell\ncmd = echo fine >>@/ran\n";
        let text = text.replace("IN_CLOSE_WRITE = run", "IN_CLOSE_WRITE = run fine");
        let mut daemon = Daemon::start_ready(&scratch, &text, &[]);
        let known = scratch.lines("ran").len();
        let file = scratch.write("src/file", "");
        daemon.wait_log(message);
        daemon.wait_ran(&scratch, "ran", known + 1);
        let line = &daemon.lines(message)[0];
        assert!(line.contains(&format!("error run: {message} event=IN_CLOSE_WRITE")), "{line}");
        assert!(line.contains(reason), "{line}");
        assert_eq!(field(line, "path"), file.to_str().unwrap());
        daemon.wait_status("running=0");
        daemon.stop();
    };
    let cannot_start = "task failed: cannot start the command";
    check("type = exec\ncmd = /no/such/program", cannot_start, "ENOENT");
    check("type = exec\ncmd = no-such-program-anywhere", cannot_start, "no-such-program-anywhere");
    check("type = exec\ncmd = @/not-executable", cannot_start, "EACCES");
    check("type = exec\ncmd = @/src", cannot_start, "EACCES");
    check("type = exec\ncmd = true\ncwd = @/no/such/directory", cannot_start, "chdir");
    check("type = shell\ncmd = no-such-program-anywhere", "task failed", "exit status 127");
    check("type = shell\ncmd = kill -9 $$", "task failed", "signal 9");
}

#[test]
fn a_command_that_cannot_start_makes_room_for_the_next() {
    let scratch = scratch();
    let mut daemon =
        Daemon::start_ready(&scratch, &config("type = exec\ncmd = /no/such/program\nmax_jobs = 1"), &[]);
    for name in ["src/one", "src/two", "src/three"] {
        scratch.write(name, "");
    }
    daemon.wait_lines(3, "task failed: cannot start the command");
    daemon.wait_status("ready=0 running=0 done=0 failed=3");
    daemon.stop();
}
