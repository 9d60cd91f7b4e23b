//! Filesystems of other systems as destinations: they keep no owners, and round times.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use crate::files::{RULES, check_tree, config, scratch, strace};
use crate::mounting::Mount;
use crate::scratch::{Daemon, Scratch, can_tamper, is_root};

/// How to make and mount one.
type Kind = (&'static [&'static str], &'static str);

const EXFAT: Kind = (&["mkfs.exfat"], "exfat-fuse");
const NTFS: Kind = (&["mkfs.ntfs", "-F", "-Q"], "ntfs-3g");

fn mount((mkfs, driver): Kind, scratch: &Scratch) -> Option<Mount> {
    Mount::image(&scratch.path("image"), mkfs, driver, scratch.path("out"))
}

#[track_caller]
fn check_move_and_copy(kind: Kind) {
    if !is_root("filesystems of other systems") {
        return;
    }
    let scratch = scratch();
    let Some(_mount) = mount(kind, &scratch) else { return };
    let content = vec![7; 300_000];
    scratch.write("in/file.to_copy", &content);
    scratch.write("in/moved.to_move", &content);
    scratch.dir("in/tree.to_move/x/y");
    scratch.write("in/tree.to_move/x/one", "1");
    scratch.write("in/tree.to_move/x/y/two", "2");
    let rules = RULES.replace("out/\\g", "out/new/\\g");
    let mut daemon = Daemon::start_ready(&scratch, &config("dirs = yes\nmax_jobs = 1", &rules), &[]);
    daemon.wait_lines(3, "task f");
    // What is there is replaced, if that is allowed.
    let rules = rules.replace("auto_create = yes", "auto_create = yes\noverride = yes");
    daemon.reload(&scratch, &config("dirs = yes", &rules));
    scratch.write("in/file.to_copy", "newer");
    daemon.wait_lines(4, "task f");
    let log = daemon.stop();
    assert_eq!(log.matches("task finished").count(), 4, "{log}");
    check_tree(&scratch.path("in"), &["file.to_copy"]);
    let tree = ["tree", "tree/x", "tree/x/one", "tree/x/y", "tree/x/y/two"];
    check_tree(&scratch.path("out/new"), &[&["file", "moved"], tree.as_slice()].concat());
    assert_eq!(scratch.read("out/new/file"), "newer");
    assert_eq!(scratch.read("out/new/tree/x/y/two"), "2");
}

#[track_caller]
fn check_leftovers(kind: Kind) {
    if !can_tamper("what a killed daemon leaves on filesystems of other systems") {
        return;
    }
    let scratch = scratch();
    let Some(_mount) = mount(kind, &scratch) else { return };
    scratch.write("in/a.to_copy", "a");
    let mut daemon = strace(&scratch, &config("", RULES), &["fsync:signal=KILL"]);
    assert_eq!(daemon.wait().signal(), Some(9));
    let left = fs::read_dir(scratch.path("out")).unwrap().count();
    assert_eq!(left, 1, "it was killed in the middle");
    let mut daemon = Daemon::start_ready(&scratch, &config("", RULES), &[]);
    daemon.wait_lines(1, "task finished");
    daemon.stop();
    check_tree(&scratch.path("out"), &["a"]);
}

#[test]
fn exfat_is_moved_and_copied_to() {
    check_move_and_copy(EXFAT);
}

#[test]
fn ntfs_is_moved_and_copied_to() {
    check_move_and_copy(NTFS);
}

#[test]
fn leftovers_on_exfat_are_found() {
    check_leftovers(EXFAT);
}

#[test]
fn leftovers_on_ntfs_are_found() {
    check_leftovers(NTFS);
}
