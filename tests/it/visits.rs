//! What the daemon finds when it visits directories, and what a visit must not do.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::process::Command;

use crate::events::{config, directories_on_disk, finish, start, told, wait_told, watch};
use crate::fuse;
use crate::mounting::Mount;
use crate::scratch::{Daemon, Scratch, is_root, rinotifyd};

const WRITTEN: [&str; 1] = ["IN_CLOSE_WRITE"];

#[test]
fn a_rescan_finds_nothing_new_where_the_kernel_tells_all() {
    let scratch = Scratch::new();
    scratch.dir("src/deep");
    scratch.write("src/deep/old", "");
    let text = config(&["IN_CLOSE_WRITE", "IN_OPEN", "IN_ACCESS"], &(watch("src") + "rescan = 100ms\n"));
    let text = text.replace("[log run]", "[log daemon]\nlevel = debug\n[log run]");
    let mut daemon = start(&scratch, &text);
    daemon.wait_lines(3, "the trees and the disk are the same again");
    let told = told(&scratch, &daemon);
    assert!(told.iter().all(|event| event.starts_with("IN_CLOSE_WRITE")), "{told:?}");
    scratch.write("src/deep/new", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/deep/new");
    assert_eq!(daemon.directories("src"), 2);
    daemon.stop();
}

#[test]
fn a_rescan_finds_what_was_done_under_a_mount() {
    if !is_root("changes that the kernel does not tell of") {
        return;
    }
    // Writes through a second mount of an overlay's upper directory make no events in the first.
    let scratch = Scratch::new();
    scratch.dir("src");
    let base = Mount::tmpfs(scratch.dir("base"));
    for folder in ["base/lower", "base/upper/deep", "base/work"] {
        scratch.dir(folder);
    }
    let options = scratch.expand("lowerdir=@/base/lower,upperdir=@/base/upper,workdir=@/base/work");
    let overlay = Mount::new(&["-t", "overlay", "overlay", "-o", &options], scratch.path("src"));
    let mut daemon = start(&scratch, &config(&WRITTEN, &(watch("src") + "rescan = 200ms\n")));
    assert_eq!(daemon.directories("src"), 2);
    scratch.dir("base/upper/new/deep");
    scratch.write("base/upper/file", "");
    scratch.write("base/upper/new/deep/file", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/file");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/new/deep/file");
    daemon.wait_directories("src", 4);
    fs::remove_dir_all(scratch.path("base/upper/new")).unwrap();
    daemon.wait_directories("src", 2);
    daemon.stop();
    overlay.unmount();
    base.unmount();
}

#[test]
fn with_catch_up_all_that_is_there_is_told_once() {
    let scratch = Scratch::new();
    scratch.dir("src/a/b");
    for file in ["src/one", "src/a/two", "src/a/b/three"] {
        scratch.write(file, "");
    }
    let open = OpenOptions::new().append(true).create(true).open(scratch.path("src/open")).unwrap();
    let events = ["IN_CREATE", "IN_CLOSE_WRITE"];
    let mut daemon = start(&scratch, &config(&events, &(watch("src") + "catch_up = all\n")));
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/a/b/three");
    drop(open);
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/open");
    let mut told = told(&scratch, &daemon);
    told.sort();
    let closed =
        ["src/a/b/three", "src/a/two", "src/one", "src/open"].map(|path| format!("IN_CLOSE_WRITE {path}"));
    let created = ["src/a", "src/a/b", "src/a/b/three", "src/a/two", "src/one", "src/open"]
        .map(|path| format!("IN_CREATE {path}"));
    assert_eq!(told, [&closed[..], &created[..]].concat());
    daemon.stop();
}

#[test]
fn the_daemons_own_visits_make_no_event() {
    let scratch = Scratch::new();
    scratch.dir("src/old/deep");
    scratch.write("src/old/deep/file", "");
    scratch.dir("outside/in/deep");
    scratch.write("outside/in/deep/file", "content");
    let everything = [
        "IN_ACCESS",
        "IN_ATTRIB",
        "IN_CLOSE_NOWRITE",
        "IN_CLOSE_WRITE",
        "IN_CREATE",
        "IN_DELETE",
        "IN_DELETE_SELF",
        "IN_MODIFY",
        "IN_MOVED_TO",
        "IN_OPEN",
    ];
    let mut daemon = start(&scratch, &config(&everything, &watch("src")));
    scratch.dir("src/new/a/b");
    daemon.wait_directories("src", 6);
    scratch.rename("outside/in", "src/in");
    daemon.wait_directories("src", 8);
    wait_told(&scratch, &mut daemon, "IN_MOVED_TO src/in/deep/file");
    scratch.write("src/new/a/b/file", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/new/a/b/file");
    let expected = [
        "IN_CREATE src/new",
        "IN_CREATE src/new/a",
        "IN_CREATE src/new/a/b",
        "IN_MOVED_TO src/in",
        "IN_MOVED_TO src/in/deep",
        "IN_MOVED_TO src/in/deep/file",
        "IN_CREATE src/new/a/b/file",
        "IN_OPEN src/new/a/b/file",
        "IN_CLOSE_WRITE src/new/a/b/file",
    ];
    finish(&scratch, daemon, &expected);
}

#[test]
fn what_is_no_regular_file_is_never_opened() {
    let scratch = Scratch::new();
    scratch.dir("outside/in");
    scratch.dir("src");
    let mut daemon = start(&scratch, &config(&["IN_CREATE", "IN_CLOSE_WRITE", "IN_MOVED_TO"], &watch("src")));
    // The daemon must visit them: no event tells of either directory in time.
    for folder in ["outside/in", "src/new/deep"] {
        scratch.dir(folder);
        nix::unistd::mkfifo(&scratch.path(format!("{folder}/fifo")), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink(scratch.path("outside/in/fifo"), scratch.path(format!("{folder}/link"))).unwrap();
        drop(std::os::unix::net::UnixListener::bind(scratch.path(format!("{folder}/socket"))).unwrap());
        if nix::unistd::geteuid().is_root() {
            let node = scratch.path(format!("{folder}/tty"));
            assert!(Command::new("mknod").arg(node).args(["c", "5", "0"]).status().unwrap().success());
        }
    }
    wait_told(&scratch, &mut daemon, "IN_CREATE src/new/deep/socket");
    scratch.rename("outside/in", "src/in");
    wait_told(&scratch, &mut daemon, "IN_MOVED_TO src/in/socket");
    // A FIFO with a reader can be opened for writing; the daemon must not do it.
    let writer = OpenOptions::new()
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(scratch.path("src/in/fifo"));
    assert_eq!(writer.unwrap_err().raw_os_error(), Some(nix::errno::Errno::ENXIO as i32));
    let closed: Vec<_> = told(&scratch, &daemon).into_iter().filter(|told| told.contains("CLOSE")).collect();
    assert_eq!(closed, [""; 0]);
    daemon.stop();
}

#[test]
fn a_link_in_the_tree_is_not_followed_even_in_a_circle() {
    let scratch = Scratch::new();
    scratch.dir("src/a/b");
    scratch.dir("outside/deep");
    symlink(scratch.path("src"), scratch.path("src/a/b/top")).unwrap();
    symlink("self", scratch.path("src/self")).unwrap();
    symlink(scratch.path("outside"), scratch.path("src/out")).unwrap();
    let mut daemon = start(&scratch, &config(&WRITTEN, &watch("src")));
    assert_eq!(daemon.directories("src"), 3);
    scratch.dir("src/new");
    symlink(scratch.path("src"), scratch.path("src/new/top")).unwrap();
    daemon.wait_directories("src", 4);
    scratch.write("outside/deep/unseen", "");
    scratch.write("src/new/seen", "");
    finish(&scratch, daemon, &["IN_CLOSE_WRITE src/new/seen"]);
}

const DEEP: usize = 60;

/// A name of two hundred bytes.
fn long_name() -> String {
    "long".repeat(50)
}

#[test]
fn a_tree_deeper_than_any_path_is_watched_to_its_end() {
    let scratch = Scratch::new();
    scratch.dir("src/old");
    let sink = |name: &str, top: &str| {
        let script = format!(
            "cd {top} && i=0; while [ $i -lt {DEEP} ]; do mkdir {name} && cd {name} || exit 1; i=$((i+1)); done; : >bottom"
        );
        let status =
            Command::new("bash").args(["-c", &script]).current_dir(scratch.path("src")).status().unwrap();
        assert!(status.success());
    };
    let name = long_name();
    sink(&name, "old");
    let mut daemon = start(&scratch, &config(&WRITTEN, &watch("src")));
    assert_eq!(daemon.directories("src"), 2 + DEEP);
    scratch.dir("src/new");
    sink(&name, "new");
    daemon.wait_directories("src", 3 + 2 * DEEP);
    daemon.wait_lines(1, "event=IN_CLOSE_WRITE");
    let status =
        Command::new("rm").args(["-rf", "old", "new"]).current_dir(scratch.path("src")).status().unwrap();
    assert!(status.success());
    daemon.wait_directories("src", 1);
    daemon.stop();
}

#[test]
fn a_directory_that_may_not_be_read_is_watched_once_it_may() {
    if !is_root("another user's directories") {
        return;
    }
    let scratch = Scratch::new();
    scratch.open_to_all();
    scratch.dir("src/closed/deep");
    let mode = |mode| fs::set_permissions(scratch.path("src/closed"), Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    let copy = scratch.path("rinotifyd");
    let status = Command::new("cp").arg(rinotifyd().get_program()).arg(&copy).status().unwrap();
    assert!(status.success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(copy).args(["-n", "-c"]);
    command.arg(scratch.config(&config(&WRITTEN, &(watch("src") + "rescan = 200ms\n"))));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    daemon.wait_log("directory is not watched");
    assert_eq!(daemon.directories("src"), 1);
    mode(0o755);
    daemon.wait_directories("src", 3);
    scratch.write("src/closed/deep/file", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/closed/deep/file");
    daemon.stop();
}

#[test]
fn without_proc_all_but_mounts_is_noticed() {
    if !is_root("a machine without /proc") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("src/old");
    let config = scratch.config(&config(&WRITTEN, &watch("src")));
    let mut command = Command::new("unshare");
    let script = "umount -l /proc && exec \"$0\" \"$@\"";
    command.args(["-m", "sh", "-c", script]).arg(rinotifyd().get_program()).args(["-n", "-c"]).arg(config);
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    scratch.dir("src/new/deep");
    scratch.write("src/new/deep/file", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/new/deep/file");
    scratch.rename("src/new", "src/old/new");
    scratch.write("src/old/new/deep/file", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/old/new/deep/file");
    daemon.wait_directories("src", directories_on_disk(&scratch.path("src")));
    daemon.stop();
}

/// New trees on a filesystem other than that of the scratch directory.
#[track_caller]
fn check_filesystem(kind: &str) {
    if !is_root("other filesystems") {
        return;
    }
    let scratch = Scratch::new();
    let point = scratch.dir("src");
    let Some(_mount) = Mount::image(&scratch.path("image"), &[&format!("mkfs.{kind}")], kind, &point) else {
        return;
    };
    scratch.dir("src/old/deep");
    let mut daemon = start(&scratch, &config(&WRITTEN, &watch("src")));
    for number in 0..50 {
        scratch.dir(format!("src/{number}/a/b"));
        scratch.write(format!("src/{number}/a/b/file"), "");
    }
    daemon.wait_lines(50, "event=IN_CLOSE_WRITE");
    scratch.rename("src/0", "src/old/deep/0");
    scratch.write("src/old/deep/0/a/b/last", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/old/deep/0/a/b/last");
    daemon.wait_directories("src", directories_on_disk(&point));
    assert_eq!(told(&scratch, &daemon).len(), 51);
    daemon.stop();
}

#[test]
fn trees_on_ext4() {
    check_filesystem("ext4");
}

#[test]
fn trees_on_btrfs() {
    check_filesystem("btrfs");
}

#[test]
fn trees_on_xfs() {
    check_filesystem("xfs");
}

#[test]
fn a_filesystem_that_others_may_change_is_warned_of() {
    if !is_root("a FUSE filesystem") {
        return;
    }
    let scratch = Scratch::new();
    let point = scratch.dir("src");
    let Some(_mount) = fuse::mount(&point) else {
        let text = "\n*** NOT TESTED: no FUSE filesystem can be mounted here ***\n";
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    };
    scratch.dir("dst");
    let daemon = start(&scratch, &config(&WRITTEN, &(watch("src") + &watch("dst"))));
    let told = daemon.lines("changes made elsewhere to fuse are not reported; set rescan");
    assert_eq!(told.len(), 1, "{}", daemon.log());
    assert!(
        told[0].contains(" warning event: ")
            && told[0].ends_with(&scratch.expand("path=@/src/")[..].trim_end_matches('/')),
        "{told:?}"
    );
    daemon.stop();
    let text = config(&WRITTEN, &(watch("src") + "rescan = 1h\n"));
    let daemon = start(&scratch, &text);
    assert_eq!(daemon.lines("changes made elsewhere"), [""; 0]);
    daemon.stop();
}
