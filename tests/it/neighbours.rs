//! What one user does does not stop the tasks of another: attacks on what all of them share.
//!
//! In each scene the attacker may write to a directory that the daemon, which runs as root, watches. The
//! victim has a directory, a watch and a scheduler of their own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::attacks::{USER, become_user};
use crate::scratch::{Daemon, Scratch, field, is_root, millis_between, rinotifyd};

/// What the victim's scheduler is; the attacker's is given.
fn config(daemon: &str, attacked: &str) -> String {
    format!(
        "[daemon]\nmax_jobs = 4\n{daemon}\n[log]\nlevel = debug\n\
         [scheduler attacked]\n{attacked}\n[event_map attacked]\nIN_MOVED_TO = attacked\n\
         IN_CLOSE_WRITE = attacked\n\
         [watch attacked]\npath = @/theirs\nevent_map = attacked\n\
         [scheduler victim]\ntype = shell\ncmd = echo {{filename}} >>@/ran\n\
         [event_map victim]\nIN_CLOSE_WRITE = victim\n[watch victim]\npath = @/mine\nevent_map = victim\n"
    )
}

fn scene() -> Scratch {
    let scratch = Scratch::new();
    scratch.open_to_all();
    for name in ["theirs", "spare"] {
        chown(scratch.dir(name), Some(USER), Some(USER)).unwrap();
    }
    scratch.dir("mine");
    scratch
}

/// Does something as the attacker, who has the two directories.
fn attack(scratch: &Scratch, act: impl FnOnce(PathBuf, PathBuf) + Send + 'static) {
    let (theirs, spare) = (scratch.path("theirs"), scratch.path("spare"));
    let attacker = thread::spawn(move || {
        become_user();
        act(theirs, spare);
    });
    attacker.join().unwrap();
}

/// Makes so many of what a command hangs on, and moves them in.
fn move_fifos_in(scratch: &Scratch, count: usize) {
    attack(scratch, move |theirs, spare| {
        for number in 0..count {
            let fifo = spare.join(format!("{number}.fifo"));
            mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
            fs::rename(fifo, theirs.join(format!("{number}.fifo"))).unwrap();
        }
    });
}

#[test]
fn fifos_get_no_command() {
    if !is_root("FIFOs of another user") {
        return;
    }
    let scratch = scene();
    let scheduler = "type = shell\ncmd = echo {filename} >>@/read; wc -c {pathname}";
    let mut daemon = Daemon::start_ready(&scratch, &config("", scheduler), &[]);
    move_fifos_in(&scratch, 8);
    attack(&scratch, |theirs, spare| {
        symlink(theirs.join("0.fifo"), spare.join("link")).unwrap();
        fs::rename(spare.join("link"), theirs.join("link")).unwrap();
        drop(UnixListener::bind(spare.join("socket")).unwrap());
        fs::rename(spare.join("socket"), theirs.join("socket")).unwrap();
        fs::write(theirs.join("file"), "text").unwrap();
    });
    let left = daemon.wait_lines(10, "task left out: special = no");
    assert_eq!(left.iter().filter(|line| line.contains("kind=\"a FIFO\"")).count(), 9, "{left:?}");
    scratch.write("mine/a", "");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["a"]);
    daemon.wait_lines(2, "task finished");
    assert_eq!(scratch.lines("read"), ["file"]);
    let log = daemon.stop();
    assert!(!log.contains(" error "), "{log}");
}

/// The same where the file must not be opened, because that would be an event.
#[test]
fn fifos_get_no_command_where_every_event_counts() {
    let scratch = scene_of_one_user();
    let text = "[daemon]\n[log]\nlevel = debug\n\
                [scheduler all]\ntype = shell\ncmd = echo {maskname} {filename} >>@/ran\n\
                [watch all]\npath = @/in\ndefault_sched = all\n";
    let mut daemon = Daemon::start_ready(&scratch, text, &[]);
    mkfifo(&scratch.path("in/fifo"), Mode::S_IRWXU).unwrap();
    daemon.wait_line("task left out: special = no");
    fs::rename(scratch.write("file", ""), scratch.path("in/file")).unwrap();
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["IN_MOVED_TO file"]);
    daemon.wait_line("task finished");
    fs::write(scratch.path("last"), "").unwrap();
    fs::rename(scratch.path("last"), scratch.path("in/last")).unwrap();
    daemon.wait_ran(&scratch, "ran", 2);
    // Nothing that the daemon does is an event.
    assert_eq!(daemon.lines(": event event=").len(), 3, "{}", daemon.log());
    daemon.stop();
}

fn scene_of_one_user() -> Scratch {
    let scratch = Scratch::new();
    scratch.dir("in");
    scratch.dir("out");
    scratch
}

#[test]
fn special_files_are_files_where_that_is_asked_for() {
    let check = |special: &str, expected: &[&str]| {
        let scratch = scene_of_one_user();
        let text = format!(
            "[log]\nlevel = debug\n[scheduler run]\ntype = exec\ncmd = true {{pathname}}\nspecial = {special}\n\
             [scheduler move]\ntype = files\nrules = move\nspecial = {special}\n\
             [rule move]\naction = move\nsrc_re = ^@/in/(.*)$\ndst_re = @/out/\\1\n\
             [event_map map]\nIN_CREATE = run\nIN_ATTRIB = move\n[watch in]\npath = @/in\nevent_map = map\n"
        );
        let mut daemon = Daemon::start_ready(&scratch, &text, &[]);
        mkfifo(&scratch.path("in/fifo"), Mode::S_IRWXU).unwrap();
        daemon.wait_line(expected[0]);
        fs::set_permissions(scratch.path("in/fifo"), PermissionsExt::from_mode(0o600)).unwrap();
        daemon.wait_lines(2, expected[0]);
        assert_eq!(scratch.path("out/fifo").exists(), special == "yes");
        let told = scratch.expand("IN_CREATE:@/in/fifo");
        if special == "no" {
            let file = scratch.path("rinotifyd.conf");
            let output = rinotifyd().arg("-c").arg(file).args(["-e", &told]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(expected[1]) && text.ends_with("nothing would run\n"), "{text}");
        }
        daemon.stop();
    };
    check("yes", &["task finished"]);
    check(
        "no",
        &["task left out: special = no", "scheduler run leaves it out: it is a FIFO (special = no)\n"],
    );
}

#[test]
fn commands_that_hang_leave_a_place_to_others() {
    if !is_root("commands of another user's files") {
        return;
    }
    let scratch = scene();
    // Whatever the command hangs on: here a FIFO that is a file by the administrator's word.
    let scheduler = "type = shell\ncmd = echo >>@/hangs x; exec cat {pathname}\nspecial = yes";
    let mut daemon = Daemon::start_ready(&scratch, &config("shutdown_timeout = 0", scheduler), &[]);
    move_fifos_in(&scratch, 8);
    daemon.wait_ran(&scratch, "hangs", 3);
    for name in ["a", "b"] {
        scratch.write(format!("mine/{name}"), "");
    }
    assert_eq!(daemon.wait_ran(&scratch, "ran", 2), ["a", "b"]);
    assert_eq!(scratch.lines("hangs").len(), 3);
    daemon.stop();
}

/// The user database knows this one everywhere.
const NOBODY: u32 = 65_534;

/// A process of theirs.
struct Hog(Child);

impl Hog {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").uid(NOBODY).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_user_without_processes_holds_up_only_their_own_commands() {
    if !is_root("commands of a user who has as many processes as are allowed") {
        return;
    }
    let scratch = scene();
    let scheduler = format!("type = exec\ncmd = true {{pathname}}\nuser = {NOBODY}");
    let mut command = Command::new("prlimit");
    command.arg("--nproc=1").arg(rinotifyd().get_program());
    command.arg("-c").arg(scratch.config(&config("", &scheduler)));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    let hogs = [Hog::new(), Hog::new()];
    attack(&scratch, |theirs, _| fs::write(theirs.join("file"), "").unwrap());
    // By now the pause is one of 3.2 seconds.
    let last = daemon.wait_lines(6, "cannot start the command now").remove(5);
    assert!(last.contains("EAGAIN") && last.contains("delay=3.2"), "{last}");
    scratch.write("mine/a", "");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["a"]);
    let started = daemon.wait_line("victim: start task");
    assert!(millis_between(&last, &started) < 2_000, "{last}\n{started}");
    drop(hogs);
    daemon.wait_line("attacked: task finished");
    daemon.stop();
}

#[test]
fn a_loop_of_new_files_does_not_fill_the_log() {
    if !is_root("files of another user") {
        return;
    }
    let scratch = scene();
    let text =
        config("", "type = exec\ncmd = true {pathname}\ndelay = 1h").replace("level = debug", "level = info");
    let text = text.replace("IN_MOVED_TO = attacked", "IN_CREATE = attacked\nIN_DELETE = cancel:attacked");
    let mut daemon = Daemon::start_ready(&scratch, &text, &[]);
    attack(&scratch, |theirs, _| {
        for _ in 0..10_000 {
            let file = theirs.join("file");
            fs::write(&file, "").unwrap();
            fs::remove_file(file).unwrap();
        }
    });
    // Two lines a file, and one that says how many are missing.
    let left_out = daemon.wait_line("attacked: lines about tasks left out");
    assert!(left_out.contains(" warning "), "{left_out}");
    scratch.write("mine/a", "");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["a"]);
    daemon.wait_line("victim: task finished");
    daemon.wait_status("waiting=0");
    let log = daemon.stop();
    let lines = log.lines().filter(|line| line.contains("info attacked:")).count();
    assert!(lines < 11_000, "{lines} lines");
    let counted = log.lines().filter(|line| line.contains("lines about tasks left out"));
    let counted: usize = counted.map(|line| field(line, "lines").parse::<usize>().unwrap()).sum();
    // The kernel may have dropped events on a busy machine.
    assert!(counted > 1_000, "{lines} and {counted}");
}
