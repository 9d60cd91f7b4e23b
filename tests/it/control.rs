//! The control socket and `rinotifyctl`: what they answer, what they do, and that no client disturbs the
//! daemon.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;

use nix::sys::signal::Signal;

use crate::scratch::{Daemon, Scratch, is_root, rinotifyd, wait_for};

const CONFIG: &str = "[scheduler later]\ntype = shell\ncmd = echo {filename} >>@/ran\ndelay = 1h\n\
                      [scheduler now]\ntype = shell\ncmd = echo $$ >>@/pid; exec sleep 60\n\
                      [event_map map]\nIN_CLOSE_WRITE = later\nIN_CREATE = now\n\
                      [watch src]\npath = @/src\nevent_map = map\nrec = yes\nauto_add = yes\n\
                      [daemon]\nshutdown_timeout = 2h\n";

/// Only the scheduler whose tasks wait for an hour.
fn waiting() -> String {
    CONFIG
        .replace("IN_CREATE = now\n", "")
        .replace("[scheduler now]\ntype = shell\ncmd = echo $$ >>@/pid; exec sleep 60\n", "")
}

/// For a `[daemon]` of the test's own.
fn without_daemon() -> String {
    waiting().replace("[daemon]\n", "[log]\nlevel = info\n").replace("shutdown_timeout = 2h\n", "")
}

/// Ends a daemon whose tasks would wait for long.
#[track_caller]
fn end(mut daemon: Daemon) -> String {
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("shutdown reason=SIGTERM");
    // It may have ended, if no task is left.
    let _ = nix::sys::signal::kill(daemon.pid(), Signal::SIGTERM);
    assert!(daemon.wait().success(), "{}", daemon.log());
    daemon.log()
}

fn start(config: &str) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    scratch.dir("src");
    let daemon = Daemon::start_ready(&scratch, config, &[]);
    (scratch, daemon)
}

/// Exit status and standard error.
fn ctl(scratch: &Scratch, args: &[&str]) -> (i32, String) {
    let output = scratch.ctl(args).output().unwrap();
    assert!(output.stdout.is_empty(), "{args:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[track_caller]
fn refuse(scratch: &Scratch, args: &[&str], status: i32, why: &str) {
    let said = ctl(scratch, args);
    assert!(said.0 == status && said.1.contains(why), "{args:?}: {said:?}");
}

/// The member of a row in JSON; only for rows that hold no braces and values without commas.
fn member<'a>(json: &'a str, row: &str, key: &str) -> &'a str {
    let row = json.lines().find(|line| line.contains(row)).unwrap_or_else(|| panic!("no {row} in {json}"));
    let (_, rest) = row.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key} in {row}"));
    rest.split([',', '}']).next().unwrap()
}

#[test]
fn status_tells_how_the_daemon_is() {
    let config = CONFIG.to_owned()
        + "[watch missing]\npath = @/missing\nevent_map = map\n\
                                      [watch single]\npath = @/single\nevent_map = map\n";
    let scratch = Scratch::new();
    scratch.dir("src/below");
    scratch.write("single", "");
    let mut daemon = Daemon::start_ready(&scratch, &config, &[]);
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "pid", 1);
    let json = scratch.ask(&["status", "--json"]);
    for (key, expected) in [
        ("state", "\"ready\""),
        ("watches_armed", "2"),
        ("watches_waiting", "1"),
        ("watches_failed", "0"),
        ("tasks_waiting", "1"),
        ("tasks_running", "1"),
        ("tasks_ready", "0"),
        ("tasks_failed", "0"),
        ("events_synthesized", "0"),
        ("overflows", "0"),
    ] {
        assert_eq!(member(&json, "\"status\":", key), expected, "{key} in {json}");
    }
    assert_eq!(member(&json, "\"daemon\":", "pid"), daemon.pid().to_string());
    assert_eq!(member(&json, "\"name\":\"missing\"", "state"), "\"waiting\"");
    assert!(!json.contains("\"name\":\"src\""), "{json}");
    // The task fails: it is killed.
    let id = member(&scratch.ask(&["tasks", "--json"]), "\"now\"", "id").to_owned();
    scratch.ask(&["cancel", &id]);
    daemon.wait_log("task failed");
    let text = scratch.ask(&["status"]);
    assert!(text.contains("\ntasks failed          1\n"), "{text}");
    assert!(text.contains("ERROR\n20") && text.contains(" error now: task failed "), "{text}");
    let path = scratch.path("missing").display().to_string();
    let line = text.lines().find(|line| line.starts_with("missing ")).unwrap();
    assert!(line.contains(&path) && line.ends_with("it does not exist"), "{text}");
    end(daemon);
}

#[test]
fn watches_are_listed_with_their_state() {
    let (scratch, mut daemon) =
        start(&(CONFIG.to_owned() + "[watch single]\npath = @/single\nevent_map = map\n"));
    let check = |row: &str, state: &str, directories: &str| {
        let json = scratch.ask(&["watches", "--json"]);
        member(&json, row, "state") == format!("\"{state}\"")
            && member(&json, row, "directories") == directories
    };
    assert!(check("\"name\":\"src\"", "armed", "1"));
    scratch.dir("src/below/deep");
    daemon.wait_for(|| check("\"name\":\"src\"", "armed", "3"), "three directories");
    assert!(check("\"name\":\"single\"", "waiting", "0"));
    scratch.write("single", "");
    daemon.wait_for(|| check("\"name\":\"single\"", "armed", "0"), "the file is watched");
    fs::remove_file(scratch.path("single")).unwrap();
    daemon.wait_for(|| check("\"name\":\"single\"", "waiting", "0"), "the file is gone");
    scratch.rename("src", "aside");
    daemon.wait_for(|| check("\"name\":\"src\"", "waiting", "0"), "the directory is gone");
    scratch.rename("aside", "src");
    daemon.wait_for(|| check("\"name\":\"src\"", "armed", "3"), "the directory is back");
    let text = scratch.ask(&["watches"]);
    assert!(text.starts_with("NAME    PATH"), "{text}");
    end(daemon);
}

#[test]
fn a_watch_that_fails_says_why() {
    if !is_root("that a watch without permission is told as failed") {
        return;
    }
    let scratch = Scratch::new();
    scratch.open_to_all();
    let closed = scratch.dir("closed");
    let socket = scratch.dir("run");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    nix::unistd::chown(&socket, Some(65534.into()), None).unwrap();
    let text = "[daemon]\ncontrol = @/run/control.sock\n[scheduler s]\ntype = exec\ncmd = true\n\
                [watch closed]\npath = @/closed\ndefault_sched = s\n";
    let mut command = rinotifyd();
    command.arg("-c").arg(scratch.config(text)).uid(65534).gid(65534);
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    let mut command = scratch.ctl_at("run/control.sock", &["watches", "--json"]);
    let json = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert_eq!(member(&json, "\"closed\"", "state"), "\"failed\"");
    assert_eq!(member(&json, "\"closed\"", "why"), "\"no permission to read it\"");
    // Once it can be watched, that is over.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    scratch.rename("closed", "aside");
    scratch.rename("aside", "closed");
    let expected = "\"state\":\"armed\",\"directories\":1,\"unwatched\":0,\"why\":null";
    let shown =
        |command: &mut std::process::Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
    daemon.wait_for(|| shown(&mut command).contains(expected), "the watch is armed");
    // Another user is refused, even if the mode of the socket admits them.
    fs::set_permissions(socket.join("control.sock"), fs::Permissions::from_mode(0o777)).unwrap();
    command.uid(1).gid(1);
    let output = command.output().unwrap();
    assert!(output.status.code() == Some(1) && output.stderr.ends_with(b": not allowed\n"), "{output:?}");
    assert_eq!(output.stdout, b"");
    end(daemon);
}

#[test]
fn tasks_are_listed_run_and_cancelled() {
    let (scratch, mut daemon) = start(&waiting());
    for name in ["one", "two", "three"] {
        scratch.write(format!("src/{name}"), "");
    }
    daemon.wait_lines(3, "schedule task");
    let json = scratch.ask(&["--json", "tasks"]);
    for (id, name) in [("1", "one"), ("2", "two"), ("3", "three")] {
        let path = format!("\"path\":\"{}\"", scratch.path("src").join(name).display());
        assert_eq!(member(&json, &path, "id"), id);
        assert_eq!(member(&json, &path, "state"), "\"waiting\"");
        assert_eq!(member(&json, &path, "scheduler"), "\"later\"");
        let due: u64 = member(&json, &path, "due_ms").parse().unwrap();
        assert!((3_000_000..=3_600_000).contains(&due), "{due}");
    }
    scratch.ask(&["run", "2"]);
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["two"]);
    daemon.wait_log("task finished");
    refuse(&scratch, &["run", "2"], 1, "there is no task 2");
    scratch.ask(&["cancel", "1"]);
    daemon.wait_log("task cancelled, on request");
    refuse(&scratch, &["cancel", "1"], 1, "there is no task 1");
    let text = scratch.ask(&["tasks"]);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.starts_with("ID  SCHEDULER  STATE"), "{text}");
    scratch.ask(&["run", "3"]);
    daemon.wait_ran(&scratch, "ran", 2);
    daemon.wait_lines(2, "task finished");
    assert_eq!(scratch.ask(&["tasks", "--json"]), "{\n\"tasks\":[]\n}\n");
    assert_eq!(scratch.ask(&["tasks"]), "");
    end(daemon);
}

#[test]
fn a_running_task_is_terminated_as_by_a_timeout() {
    let (scratch, mut daemon) =
        start(&CONFIG.replace("echo $$ >>@/pid; exec sleep 60", "trap '' TERM; echo $$ >>@/pid; sleep 60"));
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "pid", 1);
    let id = member(&scratch.ask(&["tasks", "--json"]), "\"now\"", "id").to_owned();
    refuse(&scratch, &["run", &id], 1, "is running");
    scratch.ask(&["cancel", &id]);
    refuse(&scratch, &["cancel", &id], 1, "was told to end already");
    daemon.wait_log("task ignores SIGTERM, killed");
    daemon.wait_log("result=\"signal 9\"");
    end(daemon);
}

#[test]
fn a_path_of_any_bytes_is_shown_without_doubt() {
    use std::os::unix::ffi::OsStrExt;
    let (scratch, mut daemon) = start(&waiting());
    fs::write(scratch.path("src").join(std::ffi::OsStr::from_bytes(b"a\xff\t\n\\\x1b\"")), "").unwrap();
    daemon.wait_log("schedule task");
    let text = scratch.ask(&["tasks"]);
    assert!(text.ends_with("/src/a\\xff\\t\\n\\\\\\x1b\\\"\"\n"), "{text}");
    let json = scratch.ask(&["tasks", "--json"]);
    assert!(json.contains(",47,97,255,9,10,92,27,34]}"), "{json}");
    end(daemon);
}

#[test]
fn log_levels_change_until_the_next_reload() {
    let (scratch, mut daemon) = start(&waiting());
    scratch.ask(&["loglevel", "src", "debug"]);
    scratch.write("src/one", "");
    daemon.wait_log("debug src: event event=IN_CLOSE_WRITE");
    assert!(!daemon.log().contains("debug later:"));
    scratch.ask(&["loglevel", "warning"]);
    scratch.ask(&["loglevel", "src", "info"]);
    scratch.write("src/two", "");
    daemon.wait_for(|| scratch.ask(&["tasks"]).lines().count() == 3, "a second task");
    assert_eq!(daemon.lines("schedule task").len(), 1);
    refuse(&scratch, &["loglevel", "nobody", "info"], 1, "nothing logs under the name nobody");
    refuse(&scratch, &["loglevel", "src", "loud"], 2, "that is no log level");
    scratch.ask(&["reload"]);
    daemon.wait_log("configuration reloaded");
    scratch.write("src/three", "");
    daemon.wait_lines(2, "schedule task");
    end(daemon);
}

#[test]
fn reload_answers_with_what_is_wrong() {
    let (scratch, mut daemon) = start(&waiting());
    scratch.config(&waiting().replace("delay = 1h", "delay = soon"));
    refuse(&scratch, &["reload"], 1, ":4:9: \"soon\" is not a duration");
    daemon.wait_log("the old one stays");
    scratch.config(&waiting());
    assert_eq!(scratch.ask(&["reload"]), "");
    daemon.wait_log("configuration reloaded");
    // Another socket from now on; then one that cannot be made, and none.
    let at = |control: &str| format!("[daemon]\ncontrol ={control}\n{}", without_daemon());
    scratch.config(&at(" @/other.sock"));
    scratch.ask(&["reload"]);
    daemon.wait_for(|| !scratch.path("control.sock").exists(), "the old socket is gone");
    let reload = || assert!(scratch.ctl_at("other.sock", &["reload"]).status().unwrap().success());
    scratch.config(&at(" @/no/such/folder"));
    reload();
    daemon.wait_log("the old one stays");
    scratch.config(&at(""));
    reload();
    daemon.wait_for(|| !scratch.path("other.sock").exists(), "no socket");
    daemon.wait_for(|| !scratch.path("other.sock.lock").exists(), "no lock either");
    end(daemon);
}

#[test]
fn no_daemon_is_a_failure_and_an_unknown_request_is_usage() {
    let scratch = Scratch::new();
    refuse(&scratch, &["status"], 1, "no daemon answers there");
    scratch.write("control.sock", "");
    refuse(&scratch, &["status"], 1, "no daemon answers there");
    refuse(&scratch, &["stauts"], 2, "did you mean status?; see rinotifyctl --help");
    refuse(&scratch, &[], 2, "a command is missing");
    // A daemon that closes the connection within an answer, and one whose answer has no sense.
    fs::remove_file(scratch.path("control.sock")).unwrap();
    let listener = UnixListener::bind(scratch.path("control.sock")).unwrap();
    let answers = ["", "status\tx#1\n", "nonsense here\n"];
    let serve = std::thread::spawn(move || {
        for answer in answers {
            let (mut client, _) = listener.accept().unwrap();
            client.read_exact(&mut [0; 7]).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
        }
    });
    refuse(&scratch, &["status"], 1, "the daemon broke off");
    refuse(&scratch, &["status"], 1, "the daemon broke off");
    refuse(&scratch, &["status"], 1, "the answer cannot be read");
    serve.join().unwrap();
}

fn connect(scratch: &Scratch) -> UnixStream {
    let stream = UnixStream::connect(scratch.path("control.sock")).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream
}

/// What the daemon says until it closes the connection.
fn rest(mut stream: &UnixStream) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Ok(_) => {}
        // The daemon closes with a part of the request unread, after its answer.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn bad_clients_cost_nothing() {
    let (scratch, mut daemon) = start(&waiting());
    // Garbage, in one piece or byte by byte.
    let mut garbage = connect(&scratch);
    garbage.write_all(b"\xff\0\x1b[2J\n").unwrap();
    assert_eq!(rest(&garbage), "refused\twhy=the request is not text\n");
    let mut slow = connect(&scratch);
    for byte in b"statu" {
        slow.write_all(&[*byte]).unwrap();
    }
    // A gigabyte, of which the daemon reads a kilobyte.
    let mut endless = connect(&scratch);
    let chunk = [b'x'; 65536];
    let sent = (0..16384).take_while(|_| endless.write_all(&chunk).is_ok()).count();
    assert!(sent < 100, "{sent} chunks were taken");
    assert_eq!(rest(&endless), "refused\twhy=the request is too long\n");
    // A client that closes at once, and one that shuts one direction down.
    drop(connect(&scratch));
    let half = connect(&scratch);
    half.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&half), "");
    // The daemon still answers, and closes the connections of silent and slow clients.
    let silent = connect(&scratch);
    assert!(scratch.ask(&["status"]).contains("state"));
    assert_eq!(rest(&silent), "");
    assert_eq!(rest(&slow), "");
    // Its other work was done meanwhile.
    scratch.write("src/file", "");
    daemon.wait_log("schedule task");
    end(daemon);
}

#[test]
fn clients_are_limited_and_idle_ones_are_closed() {
    let (scratch, daemon) = start(&waiting());
    let silent: Vec<_> = (0..8).map(|_| connect(&scratch)).collect();
    let one_more = connect(&scratch);
    assert_eq!(rest(&one_more), "refused\twhy=too many connections\n");
    refuse(&scratch, &["status"], 1, "too many connections");
    for client in &silent {
        assert_eq!(rest(client), "");
    }
    assert!(scratch.ask(&["status"]).contains("ready"));
    end(daemon);
}

/// Processor time that the daemon has used, in ticks of a hundredth of a second.
fn ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    behind_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_shortage_of_descriptors_uses_little_processor_time() {
    let (scratch, mut daemon) = start(&waiting());
    let pid = daemon.pid().to_string();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = |count: usize| {
        let mut command = std::process::Command::new("prlimit");
        command.args(["--pid", &pid, &format!("--nofile={count}:")]);
        assert!(command.status().unwrap().success());
    };
    limit(open + 1);
    let before = ticks(&daemon);
    let clients: Vec<_> = (0..3).map(|_| connect(&scratch)).collect();
    // One client is accepted and closed after its time, then the next; a busy loop would use all that time.
    for client in &clients {
        assert_eq!(rest(client), "");
    }
    let used = ticks(&daemon) - before;
    assert!(used < 300, "{used} ticks in 15 s");
    limit(1024);
    assert!(scratch.ask(&["status"]).contains("ready"));
    scratch.write("src/file", "");
    daemon.wait_log("schedule task");
    end(daemon);
}

#[test]
fn a_long_list_waits_for_its_reader_without_making_the_daemon_wait() {
    const TASKS: usize = 20_000;
    let (scratch, mut daemon) = start(&(waiting() + "[log later]\nlevel = error\n"));
    for number in 0..TASKS {
        scratch.write(format!("src/{number}-{}", "x".repeat(100)), "");
    }
    daemon.wait_for(
        || member(&scratch.ask(&["status", "--json"]), "\"status\":", "tasks_waiting") == TASKS.to_string(),
        "all tasks",
    );
    // A client that asks and does not read: the answer is far longer than a socket holds.
    let mut stalled = connect(&scratch);
    stalled.write_all(b"tasks\n").unwrap();
    let json = scratch.ask(&["tasks", "--json"]);
    assert_eq!(json.lines().filter(|line| line.contains("\"waiting\"")).count(), TASKS);
    // Its connection is closed in time, and it has got no more than its socket holds.
    let text = rest_after_close(&mut daemon, &stalled);
    assert!(text.len() < TASKS * 100 && !text.ends_with("ok\n"), "{} bytes", text.len());
    // A client that reads slowly gets everything.
    let mut slow = connect(&scratch);
    slow.write_all(b"tasks\n").unwrap();
    let mut text = Vec::new();
    let mut chunk = [0; 30_000];
    loop {
        match slow.read(&mut chunk).unwrap() {
            0 => break,
            count => text.extend_from_slice(&chunk[..count]),
        }
        assert!(scratch.ask(&["status"]).contains("ready"));
    }
    assert_eq!(text.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"tasks\t")).count(), TASKS);
    assert!(text.ends_with(b"\nok\n"));
    end(daemon);
}

/// Reads only once the daemon has closed the connection.
fn rest_after_close(daemon: &mut Daemon, stream: &UnixStream) -> String {
    let probe = stream.try_clone().unwrap();
    daemon.wait_for(
        || {
            use std::os::fd::AsFd;
            let mut fds = [nix::poll::PollFd::new(probe.as_fd(), nix::poll::PollFlags::empty())];
            nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).unwrap() > 0
        },
        "the connection is closed",
    );
    rest(stream)
}

#[test]
fn a_socket_of_a_killed_daemon_is_taken_over() {
    let (scratch, daemon) = start(&waiting());
    daemon.signal(Signal::SIGKILL);
    drop(daemon);
    assert!(scratch.path("control.sock").exists() && scratch.path("control.sock.lock").exists());
    let daemon = Daemon::start_ready(&scratch, &waiting(), &[]);
    let mode = fs::metadata(scratch.path("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(scratch.ask(&["status"]).contains("ready"));
    let log = end(daemon);
    assert!(!log.contains("warning"), "{log}");
    assert!(!scratch.path("control.sock").exists() && !scratch.path("control.sock.lock").exists());
}

#[test]
fn what_is_no_abandoned_socket_is_left_alone() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let expect = |text: &str| {
        let mut daemon = Daemon::start_ready(&scratch, &waiting(), &[]);
        let socket = scratch.path("control.sock").display().to_string();
        daemon.wait_log(&format!("warning daemon: no control socket \"{socket}\": {text}"));
        let log = end(daemon);
        assert_eq!(log.matches("warning").count(), 1, "{log}");
    };
    scratch.write("control.sock", "precious");
    expect("it exists and is not a socket");
    assert_eq!(scratch.read("control.sock"), "precious");
    fs::remove_file(scratch.path("control.sock")).unwrap();
    symlink("elsewhere", scratch.path("control.sock")).unwrap();
    expect("it exists and is not a socket");
    assert!(fs::symlink_metadata(scratch.path("control.sock")).unwrap().file_type().is_symlink());
    fs::remove_file(scratch.path("control.sock")).unwrap();
    scratch.dir("control.sock");
    expect("it exists and is not a socket");
    fs::remove_dir(scratch.path("control.sock")).unwrap();
    let other = UnixListener::bind(scratch.path("control.sock")).unwrap();
    expect("some other program listens there");
    drop(other);
    assert!(fs::metadata(scratch.path("control.sock")).unwrap().file_type().is_socket());
}

#[test]
fn a_socket_that_cannot_be_made_is_a_warning_and_a_path_that_cannot_be_an_error() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let at = |path: &str| format!("[daemon]\ncontrol = {path}\n{}", without_daemon());
    let mut daemon = Daemon::start_ready(&scratch, &at("@/missing/control.sock"), &[]);
    daemon.wait_log("ENOENT");
    end(daemon);
    let mut daemon = Daemon::start(&scratch, &at(&format!("/{}", "x".repeat(107))), &[]);
    assert_eq!(daemon.wait().code(), Some(2));
    assert!(daemon.log().contains(":2:11: error: the path of a socket has at most 107 bytes, not 108"));
    let mut daemon = Daemon::start(&scratch, &at("run/control.sock"), &[]);
    assert_eq!(daemon.wait().code(), Some(2));
    // Without a socket in the configuration none is made, and the log has nothing about it.
    let log = end(Daemon::start_ready(&scratch, &at(""), &[]));
    assert!(!log.contains("socket"), "{log}");
    assert!(
        fs::read_dir(scratch.path("")).unwrap().all(|entry| entry.unwrap().file_name() != "control.sock")
    );
}

#[test]
fn of_many_that_start_at_once_one_stays() {
    const DAEMONS: usize = 5;
    let (scratch, killed) = start(&waiting());
    killed.signal(Signal::SIGKILL);
    drop(killed);
    let mut daemons: Vec<_> = (0..DAEMONS)
        .map(|_| {
            let mut command = rinotifyd();
            command.arg("-c").arg(scratch.path("rinotifyd.conf"));
            Daemon::spawn(command)
        })
        .collect();
    wait_for(|| daemons.iter_mut().filter_map(Daemon::ended).count() == DAEMONS - 1, "all but one end");
    let mut last = None;
    for mut daemon in daemons {
        match daemon.ended() {
            Some(status) => assert_eq!(status.code(), Some(1), "{}", daemon.log()),
            None => last = Some(daemon),
        }
    }
    let mut last = last.unwrap();
    last.ready();
    assert!(scratch.ask(&["status"]).contains(&last.pid().to_string()));
    end(last);
}

#[test]
fn root_makes_the_usual_directory_and_the_client_finds_it() {
    if !is_root("the directory below /run") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("src");
    let file = scratch.write("plain.conf", scratch.expand(&without_daemon()));
    let client = scratch.path("rinotifyctl");
    symlink(rinotifyd().get_program(), &client).unwrap();
    // A /run of its own, and a umask that would close the directory.
    let mut command = std::process::Command::new("unshare");
    let script = "mount -t tmpfs none /run && umask 0077 && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(rinotifyd().get_program()).arg("-c").arg(file);
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    let run = format!("/proc/{}/root/run/rinotifyd", daemon.pid());
    let mode = |name: &str| fs::metadata(format!("{run}/{name}")).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(""), mode("control.sock"), mode("control.sock.lock")), (0o755, 0o600, 0o600));
    let mut command = std::process::Command::new("nsenter");
    command.args(["--mount", "--target", &daemon.pid().to_string()]).arg(client).arg("status");
    let output = command.output().unwrap();
    assert!(output.stdout.starts_with(b"version "), "{output:?}");
    assert!(!end(daemon).contains("control socket"));
}

#[test]
fn a_second_daemon_with_the_same_configuration_ends() {
    let (scratch, daemon) = start(&waiting());
    let file = scratch.path("rinotifyd.conf");
    symlink(&file, scratch.path("link.conf")).unwrap();
    for name in ["rinotifyd.conf", "link.conf"] {
        let mut command = rinotifyd();
        command.arg("-c").arg(scratch.path(name));
        let mut second = Daemon::spawn(command);
        assert_eq!(second.wait().code(), Some(1));
        let expected =
            format!("a daemon with this configuration is already running, with process id {}", daemon.pid());
        assert!(second.log().contains(&expected), "{}", second.log());
    }
    // A dry run beside it is allowed.
    let mut command = rinotifyd();
    command.arg("-n").arg("-c").arg(&file);
    let mut dry = Daemon::spawn(command);
    dry.ready();
    assert!(!end(dry).contains("warning"));
    // A daemon with another configuration and the same socket runs without a socket.
    scratch.write("other.conf", fs::read(&file).unwrap());
    let mut command = rinotifyd();
    command.arg("-c").arg(scratch.path("other.conf"));
    let mut other = Daemon::spawn(command);
    other.ready();
    other.wait_log("a daemon with another configuration is already running");
    end(other);
    assert!(scratch.ask(&["status"]).contains(&daemon.pid().to_string()));
    end(daemon);
}

/// What one user makes without end does not take the room of others.
#[test]
fn a_watch_that_is_full_says_so_and_goes_on_when_there_is_room() {
    let max = "path = @/src\nmax_dirs = 4\n";
    let config = CONFIG.replacen("path = @/src\n", max, 1).replace("IN_CREATE = now", "IN_DELETE = later");
    assert!(config.contains(max), "{config}");
    let (scratch, mut daemon) = start(&config);
    let row = "\"name\":\"src\"";
    let counts = |watched: &str, unwatched: &str| {
        let json = scratch.ask(&["watches", "--json"]);
        member(&json, row, "directories") == watched && member(&json, row, "unwatched") == unwatched
    };
    (0..10).for_each(|number| drop(scratch.dir(format!("src/{number}"))));
    daemon.wait_for(|| counts("4", "7"), "four directories");
    let json = scratch.ask(&["watches", "--json"]);
    assert!(member(&json, row, "why").contains("max_dirs"), "{json}");
    assert_eq!(daemon.lines("max_dirs=4").len(), 1, "{}", daemon.log());
    (0..10).filter(|number| number % 2 == 0).for_each(|number| {
        fs::remove_dir(scratch.path(format!("src/{number}"))).unwrap();
    });
    daemon.wait_for(|| counts("4", "2"), "as many of those that are left");
    [1, 3].into_iter().for_each(|number| fs::remove_dir(scratch.path(format!("src/{number}"))).unwrap());
    daemon.wait_for(|| counts("4", "0"), "all that are left");
    daemon.wait_log("all directories of the watch are watched again");
    end(daemon);
}
