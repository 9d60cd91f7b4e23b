//! File operations that cannot succeed, or are killed half way: nothing is lost, nothing half done is
//! left, and one line of the log says what happened.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use rustix::fs::XattrFlags;

use crate::files::{RULES, check_tree, config, scratch, strace, tree};
use crate::mounting::Mount;
use crate::scratch::{Daemon, Scratch, can_tamper, is_root};

/// More than a page and less than a small filesystem holds.
const SIZE: usize = 300_000;

fn content() -> Vec<u8> {
    (0..SIZE).map(|number| number.to_le_bytes()[1]).collect()
}

/// The one error line; it names the operation, both paths and the reason.
#[track_caller]
fn check_error(log: &str, name: &str, reason: &str) {
    let errors: Vec<&str> = log.lines().filter(|line| line.contains(" error ")).collect();
    let [line] = errors.as_slice() else { panic!("not one error line: {log}") };
    for text in ["operation=", "path=", "destination=", name, reason] {
        assert!(line.contains(text), "no {text} in {line}");
    }
}

/// Runs the daemon until `count` tasks have ended.
#[track_caller]
fn run(scratch: &Scratch, text: &str, count: usize) -> String {
    let mut daemon = Daemon::start_ready(scratch, text, &[]);
    daemon.wait_lines(count, "task f");
    daemon.stop()
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    if !is_root("a small filesystem") {
        return;
    }
    let scratch = scratch();
    let _mount = Mount::new(&["-t", "tmpfs", "-o", "size=128k", "tmpfs"], scratch.path("out"));
    for name in ["a.to_move", "b.to_copy"] {
        scratch.write(format!("in/{name}"), content());
        let rules = RULES.replace("to_move to_copy", name);
        let log = run(&scratch, &config("", &rules), 1);
        check_error(&log, name, "ENOSPC");
        check_error(&log, name, &format!("write \\\"{}", scratch.path("out/").display()));
        check_tree(&scratch.path("in"), &[name]);
        check_tree(&scratch.path("out"), &[]);
        assert_eq!(scratch.bytes(format!("in/{name}")), content());
        fs::remove_file(scratch.path(format!("in/{name}"))).unwrap();
    }
    // A tree, of which a part would fit.
    scratch.dir("in/t.to_move");
    for number in 0..4 {
        scratch.write(format!("in/t.to_move/{number}"), &content()[..60_000]);
    }
    let text =
        config("dirs = yes", RULES).replace("catch_up = all", "catch_up = all\nexclude_filter = .*/[0-9]$");
    check_error(&run(&scratch, &text, 1), "t.to_move", "ENOSPC");
    check_tree(&scratch.path("out"), &[]);
    assert_eq!(tree(&scratch.path("in")).len(), 5);
}

#[test]
fn what_cannot_be_written_is_said() {
    if !can_tamper("injected failures of system calls") {
        return;
    }
    // A quota needs a kernel with quotas; to the daemon it is this error of these calls.
    for (inject, reason) in [
        ("copy_file_range,pwrite64:error=EDQUOT", "EDQUOT"),
        ("fsync:error=EIO", "EIO"),
        ("renameat2:error=EACCES", "EACCES"),
        ("ftruncate:error=EFBIG", "EFBIG"),
    ] {
        let scratch = scratch();
        scratch.write("in/a.to_copy", content());
        let inject: Vec<String> = inject
            .split_once(':')
            .map(|(calls, what)| calls.split(',').map(|call| format!("{call}:{what}")).collect())
            .unwrap();
        let inject: Vec<&str> = inject.iter().map(String::as_str).collect();
        let mut daemon = strace(&scratch, &config("", RULES), &inject);
        daemon.wait_lines(1, "task f");
        check_error(&daemon.stop(), "a.to_copy", reason);
        check_tree(&scratch.path("in"), &["a.to_copy"]);
        check_tree(&scratch.path("out"), &[]);
    }
}

#[test]
fn a_file_size_limit_is_an_error_and_not_the_end() {
    let scratch = scratch();
    scratch.write("in/a.to_copy", content());
    let mut command = std::process::Command::new("/bin/sh");
    command.arg("-c").arg("ulimit -f 100; exec \"$@\"").arg("sh");
    let daemon = crate::scratch::rinotifyd();
    command.arg(daemon.get_program()).arg("-c").arg(scratch.config(&config("", RULES)));
    let mut daemon = Daemon::spawn(command);
    daemon.wait_lines(1, "task f");
    check_error(&daemon.stop(), "a.to_copy", "EFBIG");
    check_tree(&scratch.path("out"), &[]);
}

#[test]
fn a_destination_that_cannot_be_written_to_is_said() {
    if !is_root("a read-only filesystem") {
        return;
    }
    let scratch = scratch();
    let _mount = Mount::new(&["-t", "tmpfs", "-o", "ro", "tmpfs"], scratch.path("out"));
    for name in ["a.to_move", "b.to_copy"] {
        scratch.write(format!("in/{name}"), content());
        check_error(&run(&scratch, &config("", RULES), 1), name, "EROFS");
        assert_eq!(scratch.bytes(format!("in/{name}")), content());
        fs::remove_file(scratch.path(format!("in/{name}"))).unwrap();
    }
}

#[test]
fn a_source_that_cannot_be_removed_is_not_copied() {
    if !is_root("a read-only filesystem") {
        return;
    }
    let scratch = scratch();
    let _mount = Mount::tmpfs(scratch.path("in"));
    scratch.write("in/a.to_move", content());
    let status =
        std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(scratch.path("in")).status();
    assert!(status.unwrap().success());
    check_error(&run(&scratch, &config("", RULES), 1), "a.to_move", "EROFS");
    check_tree(&scratch.path("out"), &[]);
}

#[test]
fn what_a_filesystem_cannot_keep_is_left_out_and_told() {
    if !can_tamper("owners and filesystems") {
        return;
    }
    let scratch = scratch();
    // No extended attributes there, and, as far as this daemon is told, no owners.
    let _mount = Mount::new(&["-t", "ramfs", "ramfs"], scratch.path("out"));
    let file = scratch.write("in/a.to_copy", "content");
    std::os::unix::fs::chown(&file, Some(1234), Some(1234)).unwrap();
    rustix::fs::setxattr(&file, "user.note", b"x", XattrFlags::empty()).unwrap();
    let mut daemon = strace(&scratch, &config("", RULES), &["fchownat:error=EPERM"]);
    let line = daemon.wait_line("task finished");
    assert!(line.contains("remark=\"not kept: extended attributes, owner\""), "{line}");
    daemon.stop();
    assert_eq!(scratch.read("out/a"), "content");
    assert_eq!(fs::metadata(scratch.path("out/a")).unwrap().uid(), 0);
    // What the rule itself demands is not left out.
    let rules = RULES.replace("auto_create = yes", "auto_create = yes\nuser = 99\noverride = yes");
    let mut daemon = strace(&scratch, &config("", &rules), &["fchownat:error=EPERM"]);
    daemon.wait_lines(1, "task f");
    check_error(&daemon.stop(), "a.to_copy", "chown");
    assert_eq!(scratch.read("out/a"), "content");
}

#[test]
fn a_source_that_vanished_is_said() {
    let scratch = scratch();
    let text = config("delay = 0.3", RULES);
    let text = text.lines().filter(|line| !line.contains("cancel:")).collect::<Vec<_>>().join("\n");
    let mut daemon = Daemon::start_ready(&scratch, &text, &[]);
    fs::remove_file(scratch.write("in/a.to_move", "")).unwrap();
    daemon.wait_lines(1, "task f");
    check_error(&daemon.stop(), "a.to_move", "ENOENT");
    check_tree(&scratch.path("out"), &[]);
}

#[test]
fn a_source_that_grows_is_copied_whole_or_not_at_all() {
    if !can_tamper("a copy that takes its time") {
        return;
    }
    let scratch = scratch();
    let path = scratch.write("in/a.to_copy", content());
    let over = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let over = Arc::clone(&over);
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        move || {
            while !over.load(Ordering::Relaxed) {
                file.write_all(&[1; 16]).unwrap();
            }
        }
    });
    let text =
        config("", RULES).lines().filter(|line| !line.contains("cancel:")).collect::<Vec<_>>().join("\n");
    let mut daemon = strace(&scratch, &text, &["copy_file_range:delay_exit=50000"]);
    let line = daemon.wait_line("task failed");
    assert!(line.contains("it changes while it is being copied"), "{line}");
    check_tree(&scratch.path("out"), &[]);
    over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    daemon.wait_for(|| scratch.path("out/a").exists(), "the copy, after the writer has ended");
    daemon.stop();
    assert_eq!(scratch.bytes("out/a"), scratch.bytes("in/a.to_copy"));
}

#[test]
fn another_filesystem_inside_of_a_tree_is_refused() {
    if !is_root("a mount point in a tree") {
        return;
    }
    let scratch = scratch();
    let _out = Mount::tmpfs(scratch.path("out"));
    for ending in ["to_move", "to_copy"] {
        scratch.dir(format!("in/t.{ending}/inner"));
        let mount = Mount::tmpfs(scratch.path(format!("in/t.{ending}/inner")));
        scratch.write(format!("in/t.{ending}/inner/file"), "");
        let log = run(&scratch, &config("dirs = yes\nfiles = no", RULES), 1);
        check_error(&log, "inner", "mount points are not crossed");
        check_tree(&scratch.path("out"), &[]);
        mount.unmount();
        fs::remove_dir_all(scratch.path(format!("in/t.{ending}"))).unwrap();
    }
}

#[test]
fn without_openat2_and_renameat2_all_is_the_same() {
    if !can_tamper("injected failures of system calls") {
        return;
    }
    let scratch = scratch();
    scratch.write("in/a.to_move", "a");
    scratch.write("in/b.to_copy", "b");
    scratch.dir("in/t.to_copy/sub");
    scratch.write("in/t.to_copy/sub/file", "t");
    scratch.dir("in/t.to_delete/sub");
    let old = [
        "openat2:error=ENOSYS",
        "renameat2:error=ENOSYS",
        "statx:error=ENOSYS",
        "copy_file_range:error=ENOSYS",
    ];
    let mut daemon = strace(&scratch, &config("dirs = yes", RULES), &old);
    daemon.wait_lines(4, "task f");
    let log = daemon.stop();
    assert!(!log.contains(" error "), "{log}");
    check_tree(&scratch.path("out"), &["a", "b", "t", "t/sub", "t/sub/file"]);
    check_tree(&scratch.path("in"), &["b.to_copy", "t.to_copy", "t.to_copy/sub", "t.to_copy/sub/file"]);
}

/// Everything that the copy of a tree to another filesystem calls.
const CALLS: [&str; 13] = [
    "mkdirat",
    "openat",
    "openat2",
    "copy_file_range",
    "ftruncate",
    "fchmod",
    "utimensat",
    "fsync",
    "syncfs",
    "renameat",
    "renameat2",
    "unlinkat",
    "flock",
];

/// More calls of one kind than one operation makes.
const TIMES_MAX: usize = 60;

fn is_whole(path: &Path) -> bool {
    if path.is_dir() {
        let names = ["one", "sub/two"].map(|name| fs::read(path.join(name)).ok());
        return names == [Some(content()), Some(b"2".to_vec())];
    }
    fs::read(path).is_ok_and(|found| found == content())
}

/// Whether the source is whole, under its name or where the daemon removes it from.
fn is_source_whole(scratch: &Scratch, name: &str) -> bool {
    let left = fs::read_dir(scratch.path("in")).unwrap().map(|entry| entry.unwrap().path());
    let parked = left.map(|path| path.join("rinotifyd.source").join(Path::new(name).file_name().unwrap()));
    is_whole(&scratch.path(name)) || parked.into_iter().any(|path| is_whole(&path))
}

#[track_caller]
fn kill_at_every_step(is_tree: bool, rules: &str) {
    let name = "in/a.to_move";
    let mut kills = 0;
    for call in CALLS {
        for times in 1..=TIMES_MAX {
            let scratch = scratch();
            let _mount = Mount::tmpfs(scratch.path("out"));
            if is_tree {
                scratch.dir(format!("{name}/sub"));
                scratch.write(format!("{name}/one"), content());
                scratch.write(format!("{name}/sub/two"), "2");
            } else {
                scratch.write(name, content());
            }
            let text = config(if is_tree { "dirs = yes\nfiles = no" } else { "" }, rules);
            let mut daemon = strace(&scratch, &text, &[&format!("{call}:signal=KILL:when={times}")]);
            let mut ended = false;
            daemon.wait_for_log_or_end(|log| {
                ended = log.contains("task f");
                ended
            });
            if ended {
                // It made no more of these calls; the daemon may make one when it stops.
                daemon.signal(Signal::SIGTERM);
                let status = daemon.wait();
                assert!(status.success() || status.signal() == Some(9), "{status}");
                assert!(is_whole(&scratch.path("out/a")) && !scratch.path(name).exists());
                break;
            }
            assert_eq!(daemon.wait().signal(), Some(9));
            kills += 1;
            let (source, copy) = (scratch.path(name), scratch.path("out/a"));
            assert!(is_source_whole(&scratch, name) || is_whole(&copy), "{call} {times}: neither is whole");
            assert!(!source.exists() || is_whole(&source), "{call} {times}: half a source");
            assert!(!copy.exists() || is_whole(&copy), "{call} {times}: half a copy");
            // The next operation removes the leftovers, whether it succeeds or not.
            fs::write(scratch.path("in/next.to_copy"), "").unwrap();
            let mut daemon = Daemon::start_ready(&scratch, &config("dirs = yes", rules), &[]);
            daemon.wait_for(|| scratch.path("out/next").exists(), "the next operation");
            daemon.wait_for_log(
                |log| log.matches("task f").count() == log.matches("start task").count(),
                "the end of all operations",
            );
            daemon.stop();
            let litter: Vec<_> = ["in", "out"]
                .iter()
                .flat_map(|dir| tree(&scratch.path(dir)))
                .filter(|path| path.to_string_lossy().contains(".rinotifyd-"))
                .collect();
            assert_eq!(litter, Vec::<std::path::PathBuf>::new(), "{call} {times}");
            assert!(is_whole(&scratch.path("out/a")), "{call} {times}: lost");
            assert!(!source.exists(), "{call} {times}: stuck");
        }
    }
    assert!(kills > 20, "killed only {kills} times");
}

#[test]
fn a_kill_at_any_step_of_moving_a_file_loses_nothing() {
    if can_tamper("kills at every system call") {
        kill_at_every_step(false, RULES);
    }
}

#[test]
fn a_kill_at_any_step_of_moving_a_tree_loses_nothing() {
    if can_tamper("kills at every system call") {
        kill_at_every_step(true, RULES);
    }
}

#[test]
fn a_kill_at_any_step_of_replacing_a_tree_loses_nothing() {
    if can_tamper("kills at every system call") {
        kill_at_every_step(true, &RULES.replace("auto_create = yes", "auto_create = yes\noverride = yes"));
    }
}

/// Files of the tree that is moved below.
const FILES: usize = 40;

#[test]
fn what_is_left_of_a_moved_tree_never_replaces_the_whole() {
    if !can_tamper("a file that cannot be removed") {
        return;
    }
    for rules in [RULES.to_owned(), RULES.replace("auto_create = yes", "auto_create = yes\noverride = yes")] {
        let scratch = scratch();
        let _mount = Mount::tmpfs(scratch.path("out"));
        scratch.dir("in/t.to_move");
        for number in 0..FILES {
            scratch.write(format!("in/t.to_move/{number}"), number.to_string());
        }
        let text = config("dirs = yes\nfiles = no", &rules);
        let mut daemon = strace(&scratch, &text, &["unlinkat:error=EPERM:when=20+"]);
        let line = daemon.wait_line("task failed");
        assert!(line.contains("it cannot be removed") && line.contains("destination is complete"), "{line}");
        daemon.stop();
        let whole = |what: &str| {
            let found = fs::read_dir(scratch.path("out/t")).unwrap().count();
            assert_eq!(found, FILES, "{what}");
            assert!(!scratch.path("in/t.to_move").exists(), "{what}: a part of the source has its name");
        };
        whole("after the failure");
        // The next operation in the same directory removes the rest.
        scratch.write("in/next.to_copy", "");
        let mut daemon = Daemon::start_ready(&scratch, &config("dirs = yes", &rules), &[]);
        daemon.wait_for(|| scratch.path("out/next").exists(), "the next operation");
        daemon.stop();
        whole("after the next operation");
        check_tree(&scratch.path("in"), &["next.to_copy"]);
    }
}

#[test]
fn a_tree_comes_back_when_its_copy_cannot_be_put_in_place() {
    if !can_tamper("injected failures of system calls") {
        return;
    }
    let scratch = scratch();
    let _mount = Mount::tmpfs(scratch.path("out"));
    scratch.dir("in/t.to_move");
    scratch.write("in/t.to_move/file", "1");
    // The first finds that it is another filesystem, the second would put the copy in place.
    let text = config("dirs = yes\nfiles = no", RULES);
    let mut daemon = strace(&scratch, &text, &["renameat2:error=EACCES:when=2"]);
    let line = daemon.wait_line("task failed");
    assert!(line.contains("EACCES"), "{line}");
    // It comes back by an event, which makes a task.
    daemon.wait_line("task finished");
    daemon.stop();
    check_tree(&scratch.path("in"), &[]);
    check_tree(&scratch.path("out"), &["t", "t/file"]);
}

#[test]
fn a_tree_is_moved_from_a_filesystem_that_has_no_room_for_a_directory() {
    if !can_tamper("injected failures of system calls") {
        return;
    }
    let scratch = scratch();
    let _mount = Mount::tmpfs(scratch.path("out"));
    scratch.dir("in/t.to_move/sub");
    scratch.write("in/t.to_move/sub/file", "1");
    // The copy takes one private directory and two of its own; the fourth is for the source.
    let text = config("dirs = yes\nfiles = no", RULES);
    let mut daemon = strace(&scratch, &text, &["mkdirat:error=ENOSPC:when=4+"]);
    daemon.wait_line("task finished");
    daemon.stop();
    check_tree(&scratch.path("in"), &[]);
    check_tree(&scratch.path("out"), &["t", "t/sub", "t/sub/file"]);
}

#[test]
fn shutdown_waits_for_the_running_operation_and_then_gives_it_up() {
    if !can_tamper("a copy that takes its time") {
        return;
    }
    for (timeout, whole) in [("20", true), ("0.1", false)] {
        let scratch = scratch();
        let file = fs::File::create(scratch.path("in/a.to_copy")).unwrap();
        for piece in 0..4_u64 {
            file.write_all_at(&vec![1; 8 << 20], piece << 23).unwrap();
        }
        drop(file);
        let text = format!("[daemon]\nshutdown_timeout = {timeout}\n{}", config("", RULES));
        let mut daemon = strace(&scratch, &text, &["copy_file_range:delay_enter=300000"]);
        daemon.wait_log("start task");
        let log = daemon.stop();
        assert_eq!(scratch.path("out/a").exists(), whole, "{log}");
        assert_eq!(log.contains("given up: the daemon ends"), !whole, "{log}");
        assert_eq!(tree(&scratch.path("out")).len(), usize::from(whole));
    }
}
