//! Which directories and files are watched, and whose events go where.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::scratch::{Daemon, Scratch, rinotifyd};

/// A scheduler `run` that notes event and path below the scratch directory, a map with these lines,
/// and watches with those.
fn config(map: &str, watches: &str) -> String {
    format!("{}[event_map map]\n{map}\n{watches}", scheduler("run"))
}

/// Notes name, event, path and source path, below the scratch directory, in the file `ran`.
fn scheduler(name: &str) -> String {
    format!(
        "[scheduler {name}]\ntype = shell\nmax_jobs = 1\ndirs = yes\ncmd = path={{pathname}}; src={{src_pathname}}; \
         echo {name} {{maskname}} ${{path#@/}} ${{src#@/}} >>@/ran\n"
    )
}

const WATCH: &str = "[watch src]\npath = @/src\nevent_map = map\n";

const REC: &str = "[watch src]\npath = @/src\nevent_map = map\nrec = yes\nauto_add = yes\n";

const ON_CLOSE: &str = "IN_CLOSE_WRITE = run";

fn start(folders: &[&str], config: &str) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    for folder in folders {
        scratch.dir(folder);
    }
    let daemon = Daemon::start_ready(&scratch, config, &[]);
    (scratch, daemon)
}

/// Ends the daemon and compares what ran, whole.
#[track_caller]
fn finish(scratch: &Scratch, mut daemon: Daemon, expected: &[&str]) {
    daemon.wait_ran(scratch, "ran", expected.len());
    let log = daemon.stop();
    let ran: Vec<_> = scratch.lines("ran").iter().map(|line| line.trim_end().to_owned()).collect();
    assert_eq!(ran, expected, "{log}");
}

#[test]
fn a_path_that_does_not_exist_is_waited_for() {
    let text = config(ON_CLOSE, &WATCH.replace("@/src", "@/one/two/src"));
    let (scratch, mut daemon) = start(&[], &text);
    let missing = daemon.lines("watch path is missing; waiting for it");
    assert_eq!(missing.len(), 1);
    assert!(missing[0].contains(&scratch.expand("warning src: ")), "{missing:?}");
    assert!(missing[0].contains(&scratch.expand("watch_path=@/one/two/src")), "{missing:?}");
    scratch.dir("one/two");
    scratch.dir("one/two/src");
    daemon.wait_log("watching path=");
    scratch.write("one/two/src/file", "");
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE one/two/src/file"]);
}

#[test]
fn a_path_that_appears_with_its_content_is_found_with_it() {
    let text = config(ON_CLOSE, &REC.replace("@/src", "@/one/src"));
    let (scratch, daemon) = start(&["aside/src/deep"], &text);
    scratch.dir("one/src/deep");
    scratch.write("one/src/deep/file", "");
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE one/src/deep/file"]);
}

#[test]
fn a_watch_path_that_is_replaced_is_watched_again() {
    let (scratch, mut daemon) = start(&["src"], &config(ON_CLOSE, WATCH));
    fs::remove_dir(scratch.path("src")).unwrap();
    scratch.dir("src");
    daemon.wait_lines(2, "watching path=");
    scratch.write("src/one", "");
    daemon.wait_ran(&scratch, "ran", 1);
    scratch.rename("src", "aside");
    scratch.dir("src");
    daemon.wait_lines(3, "watching path=");
    scratch.write("aside/unseen", "");
    scratch.write("src/two", "");
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE src/one", "run IN_CLOSE_WRITE src/two"]);
}

#[test]
fn a_watch_path_replaced_in_any_moment_is_found_again() {
    let (scratch, mut daemon) = start(&["src"], &config(ON_CLOSE, WATCH));
    // The new one appears while the daemon still finds out that the old one has left.
    for round in 0..100 {
        scratch.rename("src", format!("aside-{round}"));
        scratch.dir("src");
        daemon.wait_lines(round + 2, "watching path=");
    }
    scratch.write("src/file", "");
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE src/file"]);
}

/// Starts the daemon as `nobody`. The binary may be where only root can go, so it gets a second
/// name; `ln` or `cp` does that, because a file that this process writes could be busy.
fn start_unprivileged(scratch: &Scratch, text: &str) -> Daemon {
    scratch.open_to_all();
    let mut command = rinotifyd();
    if nix::unistd::geteuid().is_root() {
        let copy = scratch.path("rinotifyd");
        let script = "ln \"$0\" \"$1\" 2>/dev/null || cp \"$0\" \"$1\"";
        let status = Command::new("sh").args(["-c", script]).arg(command.get_program()).arg(&copy).status();
        assert!(status.unwrap().success());
        command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(copy);
    }
    command.arg("-c").arg(scratch.config(text));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    daemon
}

#[test]
fn an_unreadable_directory_is_told_and_leaves_the_others_alone() {
    let scratch = Scratch::new();
    for folder in ["src/a/deep", "src/closed/deep", "src/z/deep"] {
        scratch.dir(folder);
    }
    let folder =
        |name: &str, mode| fs::set_permissions(scratch.path(name), Permissions::from_mode(mode)).unwrap();
    folder("src/closed", 0o000);
    fs::write(scratch.path("ran"), "").unwrap();
    folder("ran", 0o666);
    let mut daemon = start_unprivileged(&scratch, &config(ON_CLOSE, REC));
    let told = daemon.lines("directory is not watched");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&scratch.expand("path=@/src/closed reason=\"no permission")), "{told:?}");
    assert_eq!(daemon.directories("src"), 5);
    scratch.write("src/a/deep/file", "");
    scratch.write("src/z/deep/file", "");
    daemon.wait_ran(&scratch, "ran", 2);
    folder("src/closed", 0o755);
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE src/a/deep/file", "run IN_CLOSE_WRITE src/z/deep/file"]);
}

#[test]
fn a_watched_file_survives_its_replacement() {
    let map = "IN_CLOSE_WRITE = run\nIN_MOVED_TO = run\nIN_DELETE_SELF = run";
    let scratch = Scratch::new();
    scratch.dir("src");
    scratch.write("src/file", "");
    let text = config(map, &WATCH.replace("@/src", "@/src/file"));
    let mut daemon = Daemon::start_ready(&scratch, &text, &[]);
    scratch.write("src/sibling", "");
    for count in 1..=2 {
        scratch.replace("src/file", "new");
        daemon.wait_ran(&scratch, "ran", count);
    }
    scratch.write("src/file", "in place");
    daemon.wait_ran(&scratch, "ran", 3);
    fs::remove_file(scratch.path("src/file")).unwrap();
    daemon.wait_ran(&scratch, "ran", 4);
    scratch.write("src/file", "again");
    let moved = "run IN_MOVED_TO src/file src/file.new";
    let written = "run IN_CLOSE_WRITE src/file";
    finish(&scratch, daemon, &[moved, moved, written, "run IN_DELETE_SELF src/file", written]);
}

#[test]
fn a_pattern_means_what_matches_now_and_later() {
    let text = config(ON_CLOSE, &WATCH.replace("@/src", "@/src/[ab]*/in"));
    let (scratch, mut daemon) = start(&["src/a1/in", "src/b/in", "src/c/in"], &text);
    assert_eq!(daemon.directories("src"), 2);
    for folder in ["src/c", "src/a1", "src/b"] {
        scratch.write(format!("{folder}/in/file"), "");
    }
    daemon.wait_ran(&scratch, "ran", 2);
    scratch.dir("src/a2/in");
    scratch.dir("src/d/in");
    daemon.wait_directories("src", 3);
    scratch.write("src/d/in/file", "");
    scratch.write("src/a2/in/file", "");
    let expected = ["src/a1/in/file", "src/b/in/file", "src/a2/in/file"]
        .map(|path| format!("run IN_CLOSE_WRITE {path}"));
    finish(&scratch, daemon, &expected.each_ref().map(String::as_str));
}

#[test]
fn a_watch_has_several_paths() {
    let watch = "[watch both]\npath = @/one\n  @/two\npath = @/three\nevent_map = map\n";
    let (scratch, mut daemon) = start(&["one", "two", "three", "four"], &config(ON_CLOSE, watch));
    assert_eq!(daemon.directories("both"), 3);
    for folder in ["four", "three", "two", "one"] {
        scratch.write(format!("{folder}/file"), "");
    }
    let expected =
        ["run IN_CLOSE_WRITE three/file", "run IN_CLOSE_WRITE two/file", "run IN_CLOSE_WRITE one/file"];
    finish(&scratch, daemon, &expected);
}

#[test]
fn overlapping_watches_see_their_own_events_each() {
    let text = format!(
        "{}{}[event_map written]\nIN_CLOSE_WRITE = outer\n[event_map deleted]\nIN_DELETE = inner\n\
         [watch outer]\npath = @/src\nevent_map = written\nrec = yes\n\
         [watch inner]\npath = @/src/below\nevent_map = deleted\n[daemon]\nmax_jobs = 1\n",
        scheduler("outer"),
        scheduler("inner"),
    );
    let (scratch, mut daemon) = start(&["src/below"], &text);
    assert_eq!((daemon.directories("outer"), daemon.directories("inner")), (2, 1));
    for name in ["src/file", "src/below/file"] {
        fs::remove_file(scratch.write(name, "")).unwrap();
    }
    scratch.write("src/below/last", "");
    let expected = [
        "outer IN_CLOSE_WRITE src/file",
        "outer IN_CLOSE_WRITE src/below/file",
        "inner IN_DELETE src/below/file",
        "outer IN_CLOSE_WRITE src/below/last",
    ];
    finish(&scratch, daemon, &expected);
}

#[test]
fn what_is_excluded_is_not_even_watched() {
    let scratch = Scratch::new();
    for folder in ["src/kept/deep", "src/cache/deep", "src/tmp"] {
        scratch.dir(folder);
    }
    scratch.write("filters", scratch.expand("# a comment\n\n@/src/tmp$\n.*\\.part$\n"));
    let filters = "exclude_filter = ^@/src/cache$\nexclude_filter_file = filters\n";
    let mut daemon = Daemon::start_ready(&scratch, &config(ON_CLOSE, &(REC.to_owned() + filters)), &[]);
    assert_eq!(daemon.directories("src"), 3);
    for name in ["src/cache/deep/file", "src/tmp/file", "src/kept/file.part", "src/kept/deep/file"] {
        scratch.write(name, "");
    }
    daemon.wait_ran(&scratch, "ran", 1);
    // A directory that appears under an excluded name stays unwatched.
    fs::remove_dir_all(scratch.path("src/tmp")).unwrap();
    scratch.dir("src/tmp");
    scratch.dir("src/tmp2");
    daemon.wait_directories("src", 4);
    scratch.write("src/tmp/file", "");
    scratch.write("src/tmp2/file", "");
    let expected = ["run IN_CLOSE_WRITE src/kept/deep/file", "run IN_CLOSE_WRITE src/tmp2/file"];
    finish(&scratch, daemon, &expected);
}

#[test]
fn the_default_takes_every_event_that_is_not_named() {
    let text = scheduler("run")
        + &scheduler("other")
        + "[daemon]\nmax_jobs = 1\n[event_map map]\ndefault_sched = run\nIN_OPEN = none\nIN_CLOSE_WRITE = other\n"
        + WATCH;
    let (scratch, mut daemon) = start(&["src"], &text);
    scratch.write("src/file", "");
    daemon.wait_ran(&scratch, "ran", 2);
    scratch.rename("src/file", "aside");
    finish(
        &scratch,
        daemon,
        &["run IN_CREATE src/file", "other IN_CLOSE_WRITE src/file", "run IN_MOVED_FROM src/file"],
    );
}

#[test]
fn a_watch_can_do_without_a_map() {
    let text = scheduler("run") + "[watch src]\npath = @/src\ndefault_sched = run\n";
    let (scratch, daemon) = start(&["src", "aside"], &text);
    scratch.write("aside/file", "");
    scratch.rename("aside/file", "src/file");
    finish(&scratch, daemon, &["run IN_MOVED_TO src/file"]);
}

#[test]
fn an_event_may_start_several_schedulers_and_cancel_others() {
    let text = scheduler("one")
        + &scheduler("two")
        + &scheduler("slow").replace("max_jobs = 1", "delay = 30")
        + "[daemon]\nmax_jobs = 1\n[event_map map]\nIN_CREATE = slow\nIN_CLOSE_WRITE = one two cancel:slow\n"
        + WATCH;
    let (scratch, mut daemon) = start(&["src"], &text);
    scratch.write("src/file", "");
    daemon.wait_log("slow: task cancelled");
    finish(&scratch, daemon, &["one IN_CLOSE_WRITE src/file", "two IN_CLOSE_WRITE src/file"]);
}

#[test]
fn a_move_tells_where_it_came_from() {
    let watches = "[watch src]\npath = @/src\nevent_map = map\n[watch dst]\npath = @/dst\nevent_map = map\n";
    let (scratch, daemon) = start(&["src", "dst"], &config("IN_MOVED_TO = run", watches));
    scratch.write("src/file", "");
    scratch.write("aside", "");
    scratch.rename("src/file", "src/renamed");
    scratch.rename("src/renamed", "dst/moved");
    scratch.rename("aside", "dst/from_outside");
    let expected = [
        "run IN_MOVED_TO src/renamed src/file",
        "run IN_MOVED_TO dst/moved src/renamed",
        "run IN_MOVED_TO dst/from_outside",
    ];
    finish(&scratch, daemon, &expected);
}

#[test]
fn rec_alone_watches_what_is_there_and_nothing_new() {
    let (scratch, mut daemon) = start(&["src/old"], &config(ON_CLOSE, &REC.replace("auto_add = yes", "")));
    assert_eq!(daemon.directories("src"), 2);
    scratch.dir("src/new");
    scratch.write("src/new/file", "");
    scratch.write("src/old/file", "");
    daemon.wait_ran(&scratch, "ran", 1);
    assert_eq!(daemon.directories("src"), 2);
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE src/old/file"]);
}

#[test]
fn auto_add_alone_watches_what_is_new_and_nothing_else() {
    let (scratch, mut daemon) = start(&["src/old/deep"], &config(ON_CLOSE, &REC.replace("rec = yes", "")));
    assert_eq!(daemon.directories("src"), 1);
    scratch.write("src/old/file", "");
    scratch.dir("src/new/deep");
    daemon.wait_directories("src", 3);
    scratch.write("src/old/deep/file", "");
    scratch.write("src/new/deep/file", "");
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE src/new/deep/file"]);
}

#[test]
fn a_renamed_directory_takes_its_watches_and_waiting_tasks_along() {
    let text = config(ON_CLOSE, REC).replace("max_jobs = 1", "delay = 500ms\nmax_jobs = 1");
    let (scratch, mut daemon) = start(&["src/old/deep"], &text);
    scratch.write("src/old/deep/waiting", "");
    daemon.wait_log(" schedule task");
    scratch.rename("src/old", "src/new");
    scratch.write("src/new/deep/later", "");
    let expected = ["run IN_CLOSE_WRITE src/new/deep/waiting", "run IN_CLOSE_WRITE src/new/deep/later"];
    daemon.wait_ran(&scratch, "ran", 2);
    assert_eq!(daemon.directories("src"), 3);
    finish(&scratch, daemon, &expected);
}

#[test]
fn a_directory_moved_out_is_not_watched_any_more() {
    let (scratch, mut daemon) = start(&["src/gone/deep", "outside"], &config(ON_CLOSE, REC));
    scratch.rename("src/gone", "outside/gone");
    daemon.wait_directories("src", 1);
    scratch.write("outside/gone/deep/file", "");
    scratch.write("src/file", "");
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE src/file"]);
}

/// Directories in the storm below, each with files that are written while it is new.
const DIRECTORIES: usize = 150;

#[test]
fn a_storm_of_new_directories_loses_no_file_and_doubles_none() {
    let (scratch, mut daemon) = start(&["src"], &config(ON_CLOSE, REC).replace("dirs = yes", "dirs = no"));
    let mut expected = Vec::new();
    for number in 0..DIRECTORIES {
        let folder = format!("src/{}/{number}/deep", number % 7);
        scratch.dir(&folder);
        for file in ["a", "b"] {
            scratch.write(format!("{folder}/{file}"), "");
            expected.push(format!("run IN_CLOSE_WRITE {folder}/{file}"));
        }
    }
    daemon.wait_ran(&scratch, "ran", expected.len());
    let log = daemon.stop();
    let mut ran: Vec<_> = scratch.lines("ran").iter().map(|line| line.trim_end().to_owned()).collect();
    ran.sort();
    expected.sort();
    assert!(ran == expected, "{} of {}\n{log}", ran.len(), expected.len());
}

#[test]
fn patterns_leave_out_names_and_paths() {
    let watch = format!(
        "{REC}exclude_glob = .*\n  (?i)*.tmp\n  cache/\n  keep/old\ninclude_glob = *.pdf\n  keep/*\n"
    );
    let text = config(ON_CLOSE, &watch);
    let (scratch, daemon) = start(&["src/.git", "src/keep", "src/cache"], &text);
    for name in ["a.pdf", "a.txt", ".b.pdf", "c.TMP", "keep/x", "keep/old", ".git/d.pdf", "cache/e.pdf"] {
        scratch.write(format!("src/{name}"), "");
    }
    scratch.dir("src/keep/cache");
    scratch.write("src/keep/cache/f.pdf", "");
    scratch.dir("src/new");
    scratch.write("src/new/g.pdf", "");
    scratch.write("src/new/cache", "");
    scratch.write("src/new/h.pdf", "");
    finish(
        &scratch,
        daemon,
        &[
            "run IN_CLOSE_WRITE src/a.pdf",
            "run IN_CLOSE_WRITE src/keep/x",
            "run IN_CLOSE_WRITE src/new/g.pdf",
            "run IN_CLOSE_WRITE src/new/h.pdf",
        ],
    );
}

#[test]
fn a_path_with_brackets_is_that_path_if_it_is_there() {
    let text = config(ON_CLOSE, &WATCH.replace("@/src", "@/Movies [HD]"));
    let (scratch, daemon) = start(&["Movies [HD]", "Movies H"], &text);
    assert!(!daemon.log().contains("nothing matches"), "{}", daemon.log());
    scratch.write("Movies H/other", "");
    scratch.write("Movies [HD]/file", "");
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE Movies [HD]/file"]);
}

#[test]
fn a_path_with_brackets_may_come_later() {
    let text = config(ON_CLOSE, &WATCH.replace("@/src", "@/Movies [HD]"));
    let (scratch, mut daemon) = start(&[], &text);
    daemon.wait_log("warning daemon: ");
    assert_eq!(daemon.lines("nothing matches this pattern yet: the watch waits for it").len(), 1);
    scratch.dir("Movies [HD]");
    daemon.wait_log("watching path=");
    scratch.write("Movies [HD]/file", "");
    finish(&scratch, daemon, &["run IN_CLOSE_WRITE Movies [HD]/file"]);
}
