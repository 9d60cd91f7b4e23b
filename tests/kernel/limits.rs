//! No room for more watches or instances: the log says what to do about it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::events::{config, wait_told, watch};
use crate::scratch::{Daemon, Scratch, is_root, rinotifyd, wait_for};
use crate::sysctl::{Sysctl, alone};

/// No other program runs as this user: the kernel counts by user, and the lowered limits are enough for
/// all others.
const USER: &str = "61342";

/// More watches than the daemon of the test is to have, and than any other program needs meanwhile.
const LIMIT: usize = 4_000;
const ROOM: u64 = LIMIT as u64;

fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(program);
    command
}

/// The binary where this user can start it.
fn copy_of_binary(scratch: &Scratch) -> PathBuf {
    scratch.open_to_all();
    let copy = scratch.path("rinotifyd");
    let status = Command::new("cp").arg(rinotifyd().get_program()).arg(&copy).status().unwrap();
    assert!(status.success());
    copy
}

fn start(scratch: &Scratch, text: &str) -> Daemon {
    let mut command = as_user(&copy_of_binary(scratch));
    command.args(["-n", "-c"]).arg(scratch.config(text));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    daemon
}

fn make(scratch: &Scratch, top: &str, count: usize) {
    (0..count).for_each(|number| drop(scratch.dir(format!("src/{top}/{}/{number}", number % 10))));
}

#[test]
fn too_few_watches_are_logged_and_added_once_there_is_room() {
    let _alone = alone();
    if !is_root("fewer watches") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("src");
    make(&scratch, "old", LIMIT / 2);
    let text = config(&["IN_CLOSE_WRITE"], &watch("src"));
    let mut daemon = start(&scratch, &text);
    let known = 2 + 10 + LIMIT / 2;
    daemon.wait_directories("src", known);
    let limit = Sysctl::set("max_user_watches", ROOM);
    make(&scratch, "new", LIMIT);
    daemon.wait_log("raise fs.inotify.max_user_watches");
    let told = daemon.lines("no room for more watches");
    assert!(told[0].contains(&format!(" max_user_watches={ROOM} watched={LIMIT} path=")), "{told:?}");
    let told = daemon.wait_lines(1, "directories without a watch");
    let expected = format!(" watched={LIMIT} unwatched=");
    assert!(told[0].contains(&expected) && told[0].contains(" path="), "{told:?}");
    // Those that have a watch keep it.
    scratch.write("src/old/0/0/seen", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/old/0/0/seen");
    let unwatched: Vec<_> =
        (0..10).map(|number| format!("src/new/{number}/{}", LIMIT - 10 + number)).collect();
    for folder in &unwatched {
        scratch.write(format!("{folder}/meanwhile"), "");
    }
    drop(limit);
    daemon.wait_log("all directories are watched again");
    daemon.wait_directories("src", known + 1 + 10 + LIMIT);
    for folder in &unwatched {
        wait_told(&scratch, &mut daemon, &format!("IN_CLOSE_WRITE {folder}/meanwhile"));
        scratch.write(format!("{folder}/after"), "");
        wait_told(&scratch, &mut daemon, &format!("IN_CLOSE_WRITE {folder}/after"));
    }
    daemon.stop();
}

#[test]
fn too_few_watches_at_start_leave_a_daemon_that_works() {
    let _alone = alone();
    if !is_root("fewer watches") {
        return;
    }
    let scratch = Scratch::new();
    make(&scratch, "old", LIMIT);
    let limit = Sysctl::set("max_user_watches", ROOM);
    let mut daemon = start(&scratch, &config(&["IN_CLOSE_WRITE"], &watch("src")));
    let told = daemon.lines("raise fs.inotify.max_user_watches");
    assert!(told.len() == 1 && told[0].contains(&format!("max_user_watches={ROOM}")), "{told:?}");
    daemon.wait_log("directories without a watch");
    scratch.write("src/seen", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/seen");
    drop(limit);
    daemon.wait_log("all directories are watched again");
    daemon.wait_directories("src", 2 + 10 + LIMIT);
    daemon.stop();
}

/// Programs with an inotify instance each.
struct Instances(Vec<Child>);

impl Drop for Instances {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[test]
fn without_an_instance_there_is_no_daemon_and_the_limit_is_named() {
    let _alone = alone();
    if !is_root("another user's instances") {
        return;
    }
    let scratch = Scratch::new();
    let copy = copy_of_binary(&scratch);
    scratch.dir("src");
    std::fs::set_permissions(scratch.path("src"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = scratch.config(&config(&["IN_CLOSE_WRITE"], &watch("src")));
    let few: u64 = 24;
    let limit = Sysctl::set("max_user_instances", few);
    let mut others = Instances(Vec::new());
    for _ in 0..few {
        let mut command = as_user(&copy);
        others.0.push(command.arg("-c").arg(&config).stderr(Stdio::null()).spawn().unwrap());
    }
    for child in &others.0 {
        let fds = PathBuf::from(format!("/proc/{}/fd", child.id()));
        let is_inotify = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|entry| {
                std::fs::read_link(entry.path()).is_ok_and(|link| link.ends_with("anon_inode:inotify"))
            })
        };
        wait_for(
            || std::fs::read_dir(&fds).is_ok_and(|mut entries| entries.any(is_inotify)),
            "inotify instance",
        );
    }
    let output = as_user(&copy).arg("-c").arg(&config).output().unwrap();
    drop(limit);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("EMFILE"), "{text}");
    let expected = format!("raise fs.inotify.max_user_instances max_user_instances={few}");
    assert!(text.contains(&expected), "{text}");
}
