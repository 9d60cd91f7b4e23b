//! Schedulers of type files, from event to file: rules, delays, dry run, the status.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::mounting::Mount;
use crate::scratch::{Daemon, Scratch, can_tamper, is_root, rinotifyd, wait_for};

/// Rules that go by the ending of a name: from `@/in` to `@/out`.
pub const RULES: &str = r"
[rule to_move]
action = move
src_re = ^@/in/(?P<path>.*)\.to_move$
dst_re = @/out/\g<path>
auto_create = yes

[rule to_copy]
action = copy
src_re = ^@/in/(?P<path>.*)\.to_copy$
dst_re = @/out/\g<path>
auto_create = yes

[rule to_delete]
action = delete
src_re = ^@/in/.*\.to_delete$
rec = yes
";

/// A configuration with these lines for the scheduler, rules, and one watch on `@/in`.
pub fn config(scheduler: &str, rules: &str) -> String {
    let names: Vec<&str> =
        rules.lines().filter_map(|line| line.strip_prefix("[rule ")?.strip_suffix(']')).collect();
    format!(
        "[scheduler archive]\ntype = files\nrules = {}\n{scheduler}\n{rules}\n\
         [event_map map]\nIN_CLOSE_WRITE = archive\nIN_MOVED_TO = archive\nIN_CREATE = archive\n\
         IN_MODIFY = cancel:archive\nIN_DELETE = cancel:archive\nIN_MOVED_FROM = cancel:archive\n\
         [watch in]\npath = @/in\nevent_map = map\nrec = yes\nauto_add = yes\ncatch_up = all\n",
        names.join(" ")
    )
}

pub fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.dir("in");
    scratch.dir("out");
    scratch
}

/// Everything below a directory, relative to it, without following links.
pub fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            found.push(entry.path().strip_prefix(top).unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[track_caller]
pub fn check_tree(top: &Path, expected: &[&str]) {
    let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
    assert_eq!(tree(top), expected);
}

#[test]
fn the_first_rule_that_matches_is_carried_out() {
    let scratch = scratch();
    let mut daemon = Daemon::start_ready(&scratch, &config("dirs = yes", RULES), &[]);
    scratch.write("in/plain", "stays");
    scratch.dir("in/deep/er");
    // By a rename, which is one event: between IN_CREATE and IN_CLOSE_WRITE a task may begin.
    for (name, path) in
        [("a", "in/a.to_move"), ("b", "in/b.to_copy"), ("c", "in/c.to_delete"), ("d", "in/deep/er/d.to_move")]
    {
        scratch.write(name, name);
        scratch.rename(name, path);
    }
    scratch.dir("aside/sub");
    scratch.write("aside/sub/e", "e");
    scratch.rename("aside", "in/tree.to_move");
    scratch.dir("gone/sub");
    scratch.rename("gone", "in/gone.to_delete");
    daemon.wait_for(|| scratch.path("out/tree/sub/e").exists(), "the tree");
    daemon.wait_for(|| !scratch.path("in/gone.to_delete").exists(), "no tree");
    daemon.wait_for(|| scratch.read("out/deep/er/d") == "d", "a file in new directories");
    daemon.wait_for(|| !scratch.path("in/c.to_delete").exists() && scratch.read("out/b") == "b", "b and c");
    daemon.wait_for(|| scratch.read("out/a") == "a", "a");
    let log = daemon.stop();
    check_tree(
        &scratch.path("out"),
        &["a", "b", "deep", "deep/er", "deep/er/d", "tree", "tree/sub", "tree/sub/e"],
    );
    check_tree(&scratch.path("in"), &["b.to_copy", "deep", "deep/er", "plain"]);
    assert!(!log.contains(" error "), "{log}");
}

#[test]
fn a_delay_is_put_off_and_cancelled() {
    let scratch = scratch();
    let mut daemon = Daemon::start_ready(&scratch, &config("delay = 0.5", RULES), &[]);
    scratch.write("in/gone.to_move", "1");
    daemon.wait_log("schedule task");
    fs::remove_file(scratch.path("in/gone.to_move")).unwrap();
    scratch.write("in/away.to_move", "2");
    daemon.wait_log("away.to_move");
    scratch.rename("in/away.to_move", "elsewhere");
    daemon.wait_lines(2, "task cancelled");
    scratch.write("in/last.to_move", "3");
    daemon.wait_for(|| scratch.read("out/last") == "3", "the last file");
    daemon.stop();
    check_tree(&scratch.path("out"), &["last"]);
}

#[test]
fn a_failure_is_one_line_and_leaves_both_files() {
    let scratch = scratch();
    scratch.write("out/a", "old");
    scratch.write("in/a.to_move", "new");
    let mut daemon = Daemon::start_ready(&scratch, &config("", RULES), &[]);
    let line = daemon.wait_line(" error ");
    for text in
        ["task failed", "operation=move", "rule=to_move", "in/a.to_move", "destination=", "out/a", "EEXIST"]
    {
        assert!(line.contains(text), "no {text} in {line}");
    }
    let log = daemon.stop();
    assert_eq!(log.lines().filter(|line| line.contains(" error ")).count(), 1, "{log}");
    assert_eq!((scratch.read("in/a.to_move"), scratch.read("out/a")), ("new".into(), "old".into()));
}

#[test]
fn a_dry_run_says_what_it_would_do() {
    let scratch = scratch();
    let rules =
        RULES.replace("[rule to_copy]", "filemode = 0640\ndirmode = 0750\noverride = yes\n[rule to_copy]");
    scratch.write("in/a.to_move", "a");
    scratch.write("in/b.to_delete", "b");
    let mut daemon = Daemon::start_ready(&scratch, &config("", &rules), &["-n"]);
    let line = daemon.wait_line("operation=move");
    let out = scratch.path("out/a");
    let expected =
        format!("destination={} filemode=0640 dirmode=0750 auto_create=yes override=yes", out.display());
    assert!(line.contains("dry run") && line.ends_with(&expected), "{line}");
    let line = daemon.wait_line("operation=delete");
    assert!(line.contains("dry run") && line.ends_with("rule=to_delete rec=yes"), "{line}");
    daemon.stop();
    check_tree(&scratch.path("in"), &["a.to_move", "b.to_delete"]);
    check_tree(&scratch.path("out"), &[]);
}

#[test]
fn names_arrive_as_they_are() {
    let scratch = scratch();
    let long = "n".repeat(255 - ".to_move".len());
    let names: [&[u8]; 8] =
        [b"x..", b"..x", b"new\nline", br"\g<path>", br"\1", b"\xff\xfe", b"-rf $(id) '\"", long.as_bytes()];
    let mut daemon = Daemon::start_ready(&scratch, &config("", RULES), &[]);
    for name in names {
        let mut path = scratch.path("in").into_os_string().as_bytes().to_vec();
        path.extend([b"/", name, b".to_move"].concat());
        fs::write(std::ffi::OsStr::from_bytes(&path), name).unwrap();
    }
    for name in names {
        let path = scratch.path("out").join(std::ffi::OsStr::from_bytes(name));
        daemon.wait_for(|| fs::read(&path).is_ok_and(|found| found == name), "the file");
    }
    assert_eq!(tree(&scratch.path("out")).len(), names.len());
}

#[test]
fn a_destination_that_is_no_place_is_an_error() {
    let scratch = scratch();
    let rules = r"
[rule dots]
action = move
src_re = ^@/in/dots(.*)$
dst_re = @/out/..\1

[rule inside]
action = copy
src_re = ^(@/in/inside)$
dst_re = \1/copy

[rule outside]
action = move
src_re = ^@/in(/.*)/outside$
dst_re = \1
";
    for name in ["in/dots", "in/etc"] {
        scratch.dir(name);
    }
    scratch.dir("in/inside");
    scratch.write("in/etc/outside", "");
    let mut daemon = Daemon::start_ready(&scratch, &config("dirs = yes", rules), &[]);
    daemon.wait_line("rule=dots error=\"the destination");
    let line = daemon.wait_line("rule=inside");
    assert!(line.contains("is inside of the source"), "{line}");
    let line = daemon.wait_line("rule=outside");
    assert!(line.contains("is outside of the watch path"), "{line}");
    daemon.stop();
    check_tree(&scratch.path("in"), &["dots", "etc", "etc/outside", "inside"]);
}

#[test]
fn what_the_daemon_makes_for_itself_is_no_event() {
    let scratch = scratch();
    let config = config("", RULES).replace(
        "[event_map map]",
        "[scheduler see]\ntype = shell\ncmd = echo {maskname} {pathname} >>@/seen\ndirs = yes\n[event_map all]\n\
         default_sched = see\nIN_OPEN = none\nIN_ACCESS = none\nIN_CLOSE_NOWRITE = none\n\
         [watch out]\npath = @/out\nevent_map = all\nrec = yes\nauto_add = yes\n[event_map map]",
    );
    let mut daemon = Daemon::start_ready(&scratch, &config, &[]);
    scratch.write("in/a.to_copy", "a");
    scratch.write("in/sub.to_copy", "a");
    daemon.wait_ran(&scratch, "seen", 2);
    scratch.write("out/last", "");
    daemon.wait_for(|| scratch.read("seen").contains("IN_CLOSE_WRITE"), "the last event");
    daemon.stop();
    let mut seen: Vec<_> = scratch.lines("seen").into_iter().filter(|line| !line.ends_with("last")).collect();
    seen.sort();
    let out = scratch.path("out");
    let expected = ["a", "sub"].map(|name| format!("IN_MOVED_TO {}", out.join(name).display()));
    assert_eq!(seen, expected);
}

#[test]
fn events_in_the_queue_of_operations_cancel_and_put_off() {
    if !is_root("operations that wait behind a long one") {
        return;
    }
    let scratch = scratch();
    // The only worker is kept busy with a large file.
    let _mount = Mount::tmpfs(scratch.path("out"));
    let big = fs::File::create(scratch.path("big")).unwrap();
    for piece in 0..256_u64 {
        std::os::unix::fs::FileExt::write_all_at(&big, &[piece as u8; 1 << 20], piece << 20).unwrap();
    }
    drop(big);
    let text = format!("[daemon]\nfile_workers = 1\n{}", config("", RULES));
    let mut daemon = Daemon::start_ready(&scratch, &text, &["-d"]);
    scratch.rename("big", "in/big.to_copy");
    daemon.wait_log("operation=copy");
    scratch.write("in/gone.to_copy", "");
    fs::remove_file(scratch.path("in/gone.to_copy")).unwrap();
    scratch.write("in/last.to_copy", "");
    daemon.wait_for(|| scratch.path("out/last").exists(), "the last file");
    let log = daemon.stop();
    assert!(!log.contains(" error "), "{log}");
    check_tree(&scratch.path("out"), &["big", "last"]);
}

#[test]
fn the_status_shows_how_far_a_copy_is() {
    if !can_tamper("a copy under strace") {
        return;
    }
    let scratch = scratch();
    scratch.write("in/a.to_copy", vec![b'x'; 3_000_000]);
    // The file is there, and the daemon waits for the disk.
    let mut daemon = strace(&scratch, &config("", RULES), &["fsync:delay_enter=3000000"]);
    daemon.wait_log("start task");
    wait_for(
        || {
            daemon.status();
            daemon.lines("status of task path=").iter().any(|line| line.contains("total=3000000"))
        },
        "the task in the status",
    );
    let line = daemon.lines("status of task path=").pop().unwrap();
    assert!(line.contains("in/a.to_copy"), "{line}");
}

/// The daemon with system calls tampered with, as strace(1) says it.
pub fn strace(scratch: &Scratch, config: &str, inject: &[&str]) -> Daemon {
    let mut command = std::process::Command::new("strace");
    // With -D the daemon stays our child; strace is a grandchild.
    command.args(["-D", "-f", "-qq", "-o"]).arg(scratch.path("strace"));
    let names: Vec<&str> = inject.iter().filter_map(|inject| inject.split(':').next()).collect();
    command.args(["-e", &format!("trace={}", names.join(","))]);
    for inject in inject {
        command.args(["-e", &format!("inject={inject}")]);
    }
    let daemon = rinotifyd();
    command.arg(daemon.get_program()).arg("-c").arg(scratch.config(config));
    Daemon::spawn(command)
}

/// Running operations end, waiting ones are dropped, and the log has a line for each.
#[test]
fn operations_of_a_removed_scheduler_are_not_begun() {
    if !can_tamper("a reload while files are copied") {
        return;
    }
    let scratch = scratch();
    for name in ["a", "b", "c"] {
        scratch.write(format!("in/{name}.to_copy"), name);
    }
    let one_thread = "[daemon]\nfile_workers = 1\n";
    let text = one_thread.to_owned() + &config("", RULES);
    let mut daemon = strace(&scratch, &text, &["copy_file_range:delay_enter=1000000"]);
    daemon.wait_lines(3, "start task");
    wait_for(|| !tree(&scratch.path("out")).is_empty(), "the first is being copied");
    let other =
        "[scheduler other]\ntype = exec\ncmd = true\n[watch in]\npath = @/in\ndefault_sched = other\n";
    daemon.reload(&scratch, &(one_thread.to_owned() + other));
    let log = daemon.stop();
    for (name, end) in [
        ("a", "task finished"),
        ("b", "task cancelled: its scheduler was removed"),
        ("c", "task cancelled: its scheduler was removed"),
    ] {
        let path = format!("in/{name}.to_copy");
        assert!(log.lines().any(|line| line.contains(end) && line.contains(&path)), "{name}\n{log}");
    }
    check_tree(&scratch.path("out"), &["a"]);
    check_tree(&scratch.path("in"), &["a.to_copy", "b.to_copy", "c.to_copy"]);
}

#[test]
fn modes_and_owners_are_set() {
    if !is_root("owners of moved files") {
        return;
    }
    let scratch = scratch();
    let rules = RULES.replace(
        "auto_create = yes",
        "auto_create = yes\nfilemode = 0604\ndirmode = 0711\nuser = 1234\ngroup = 1235",
    );
    scratch.dir("in/t.to_move/sub");
    scratch.write("in/t.to_move/sub/file", "");
    symlink("/etc/passwd", scratch.path("in/t.to_move/link")).unwrap();
    scratch.write("in/f.to_copy", "");
    scratch.dir("in/a/b");
    scratch.write("in/a/b/g.to_move", "");
    let mut daemon = Daemon::start_ready(&scratch, &config("dirs = yes", &rules), &[]);
    daemon.wait_lines(3, "task finished");
    daemon.stop();
    let check = |name: &str, mode: u32| {
        let found = fs::symlink_metadata(scratch.path("out").join(name)).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (mode, 1234, 1235), "{name}");
    };
    for (name, mode) in [
        ("t", 0o711),
        ("t/sub", 0o711),
        ("t/sub/file", 0o604),
        ("t/link", 0o777),
        ("f", 0o604),
        ("a", 0o711),
        ("a/b", 0o711),
        ("a/b/g", 0o604),
    ] {
        check(name, mode);
    }
    let passwd = fs::metadata("/etc/passwd").unwrap();
    assert_eq!((passwd.uid(), passwd.mode() & 0o777), (0, 0o644));
}

#[test]
fn a_rule_for_trees_and_what_is_in_them_loses_nothing() {
    if !is_root("a second filesystem") {
        return;
    }
    const TREES: usize = 25;
    let scratch = scratch();
    let _mount = Mount::tmpfs(scratch.path("out"));
    let rules = "[rule all]\naction = move\nsrc_re = ^@/in/(?P<path>.*)$\ndst_re = @/out/\\g<path>\n\
                 auto_create = yes\noverride = yes\n";
    let text =
        config("dirs = yes", rules).replace("auto_add = yes", "auto_add = yes\nexclude_filter = .*/last$");
    let mut daemon = Daemon::start_ready(&scratch, &text, &[]);
    for number in 0..TREES {
        for name in ["a/b", "c/d", "e"] {
            scratch.dir(format!("aside/{name}"));
            scratch.write(format!("aside/{name}/one"), "1");
            scratch.write(format!("aside/{name}/two"), "2");
        }
        scratch.rename("aside", format!("in/{number}"));
    }
    let files = |dir: &str| {
        let top = scratch.path(dir);
        tree(&top).iter().filter(|name| top.join(name).is_file()).count()
    };
    daemon.wait_for(|| files("in") == 0, "an empty source");
    daemon.wait_status(" waiting=0 ready=0 running=0 ");
    let log = daemon.stop();
    assert_eq!(files("in") + files("out"), 6 * TREES, "{log}");
}
