//! Directories that are renamed, with the kernel that runs here.

use std::fs;
use std::path::Path;

use crate::events::{config, finish, start, told, wait_told, watch};
use crate::scratch::{Daemon, Scratch};

const MOVES: [&str; 3] = ["IN_MOVED_FROM", "IN_MOVED_TO", "IN_CLOSE_WRITE"];

/// Two watches, `src` and `dst`.
fn begin(folders: &[&str], events: &[&str]) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    for folder in ["src", "dst"].iter().chain(folders) {
        scratch.dir(folder);
    }
    let daemon = start(&scratch, &config(events, &(watch("src") + &watch("dst"))));
    (scratch, daemon)
}

#[test]
fn a_directory_moves_within_a_watch_and_on_to_another() {
    let (scratch, mut daemon) = begin(&["src/a/deep"], &MOVES);
    scratch.rename("src/a", "src/b");
    scratch.write("src/b/deep/one", "");
    scratch.rename("src/b", "dst/c");
    daemon.wait_directories("dst", 3);
    daemon.wait_directories("src", 1);
    // What is in it is new to the other watch.
    wait_told(&scratch, &mut daemon, "IN_MOVED_TO dst/c/deep/one");
    scratch.write("dst/c/deep/two", "");
    finish(
        &scratch,
        daemon,
        &[
            "IN_MOVED_FROM src/a",
            "IN_MOVED_TO src/b src/a",
            "IN_CLOSE_WRITE src/b/deep/one",
            "IN_MOVED_FROM src/b",
            "IN_MOVED_TO dst/c src/b",
            "IN_MOVED_TO dst/c/deep",
            "IN_MOVED_TO dst/c/deep/one",
            "IN_CLOSE_WRITE dst/c/deep/two",
        ],
    );
}

/// A rename above does not make directories covered that are not, nor uncovers those below a watch path.
#[test]
fn a_watch_that_adds_nothing_keeps_what_it_has() {
    let scratch = Scratch::new();
    for folder in ["src", "dst", "src/z/q/sub/deep", "src/old"] {
        scratch.dir(folder);
    }
    let still = |name: &str, path: &str| {
        let text = watch(name).replace("auto_add = yes", "auto_add = no");
        text.replace(&format!("path = @/{name}"), &format!("path = @/{path}"))
            + "exclude_filter = \\.never$\n"
    };
    let watches = still("src", "src") + &still("nested", "src/p/q");
    let mut daemon = start(&scratch, &config(&MOVES, &watches));
    scratch.dir("src/old/new");
    scratch.rename("src/old", "src/older");
    scratch.rename("src/z", "src/p");
    daemon.wait_directories("nested", 3);
    scratch.write("src/older/new/unseen", "");
    scratch.write("src/p/q/sub/deep/told", "");
    scratch.write("src/last", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/last");
    let told = told(&scratch, &daemon);
    assert!(!told.iter().any(|line| line.contains("src/older/")), "{told:?}");
    let written = "IN_CLOSE_WRITE src/p/q/sub/deep/told".to_owned();
    // Once for each of the two watches.
    assert_eq!(told.iter().filter(|line| **line == written).count(), 2, "{told:?}");
    daemon.stop();
}

#[test]
fn a_directory_with_two_names_moves_under_both() {
    let scratch = Scratch::new();
    scratch.dir("real/x/d/sub");
    scratch.dir("real/y");
    scratch.write("real/x/d/sub/file", "");
    std::os::unix::fs::symlink("real", scratch.path("link")).unwrap();
    let mut daemon = start(&scratch, &config(&["IN_MOVED_TO"], &(watch("real") + &watch("link"))));
    scratch.rename("real/x/d", "real/y/e");
    scratch.rename("real/y", "real/z");
    daemon.wait_lines(4, " debug event: event ");
    let mut told = told(&scratch, &daemon);
    told.sort();
    let expected = ["link/y/e link/x/d", "link/z link/y", "real/y/e real/x/d", "real/z real/y"];
    assert_eq!(told, expected.map(|paths| format!("IN_MOVED_TO {paths}")), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_rename_above_makes_an_excluded_directory_one_that_is_not() {
    let scratch = Scratch::new();
    for folder in ["src/a/secret/deep", "src/a/open"] {
        scratch.dir(folder);
    }
    let filter = "exclude_filter = ^@/src/a/secret$\n";
    let mut daemon = start(&scratch, &config(&MOVES, &(watch("src") + filter)));
    assert_eq!(daemon.directories("src"), 3);
    scratch.rename("src/a", "src/b");
    daemon.wait_directories("src", 5);
    scratch.write("src/b/secret/deep/told", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/b/secret/deep/told");
    scratch.rename("src/b", "src/a");
    daemon.wait_directories("src", 3);
    scratch.write("src/a/secret/deep/unseen", "");
    scratch.write("src/a/last", "");
    finish(
        &scratch,
        daemon,
        &[
            "IN_MOVED_FROM src/a",
            "IN_MOVED_TO src/b src/a",
            // As if it had been moved in.
            "IN_MOVED_TO src/b/secret/deep",
            "IN_CLOSE_WRITE src/b/secret/deep/told",
            "IN_MOVED_FROM src/b",
            "IN_MOVED_TO src/a src/b",
            "IN_CLOSE_WRITE src/a/last",
        ],
    );
}

#[test]
fn a_directory_that_moves_in_brings_its_content_along() {
    let (scratch, mut daemon) = begin(&["outside/new/deep"], &MOVES);
    scratch.write("outside/new/file", "");
    scratch.write("outside/new/deep/file", "");
    scratch.rename("outside/new", "src/in");
    wait_told(&scratch, &mut daemon, "IN_MOVED_TO src/in/deep/file");
    daemon.wait_directories("src", 3);
    scratch.rename("src/in", "outside/out");
    daemon.wait_directories("src", 1);
    scratch.write("outside/out/deep/unseen", "");
    scratch.write("src/seen", "");
    finish(
        &scratch,
        daemon,
        &[
            "IN_MOVED_TO src/in",
            "IN_MOVED_TO src/in/deep",
            "IN_MOVED_TO src/in/file",
            "IN_MOVED_TO src/in/deep/file",
            "IN_MOVED_FROM src/in",
            "IN_CLOSE_WRITE src/seen",
        ],
    );
}

#[cfg(target_env = "gnu")]
fn exchange(one: &Path, other: &Path) {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

#[cfg(target_env = "gnu")]
#[test]
fn two_directories_are_exchanged() {
    let (scratch, mut daemon) = begin(&["src/a/of_a", "dst/b/of_b/deep"], &["IN_CLOSE_WRITE"]);
    for _ in 0..3 {
        exchange(&scratch.path("src/a"), &scratch.path("dst/b"));
    }
    daemon.wait_directories("src", 4);
    daemon.wait_directories("dst", 3);
    scratch.write("src/a/of_b/deep/one", "");
    scratch.write("dst/b/of_a/two", "");
    exchange(&scratch.path("src/a"), &scratch.path("dst/b"));
    scratch.write("src/a/of_a/three", "");
    scratch.write("dst/b/of_b/deep/four", "");
    finish(
        &scratch,
        daemon,
        &[
            "IN_CLOSE_WRITE src/a/of_b/deep/one",
            "IN_CLOSE_WRITE dst/b/of_a/two",
            "IN_CLOSE_WRITE src/a/of_a/three",
            "IN_CLOSE_WRITE dst/b/of_b/deep/four",
        ],
    );
}

#[test]
fn a_directory_takes_the_place_of_an_empty_one() {
    let (scratch, mut daemon) = begin(&["src/full/deep", "src/empty", "outside/full"], &MOVES);
    scratch.write("outside/full/brought", "");
    scratch.rename("src/full", "src/empty");
    scratch.write("src/empty/deep/one", "");
    daemon.wait_directories("src", 3);
    scratch.dir("dst/empty");
    daemon.wait_directories("dst", 2);
    scratch.rename("outside/full", "dst/empty");
    wait_told(&scratch, &mut daemon, "IN_MOVED_TO dst/empty/brought");
    scratch.write("dst/empty/two", "");
    finish(
        &scratch,
        daemon,
        &[
            "IN_MOVED_FROM src/full",
            "IN_MOVED_TO src/empty src/full",
            "IN_CLOSE_WRITE src/empty/deep/one",
            "IN_MOVED_TO dst/empty",
            "IN_MOVED_TO dst/empty/brought",
            "IN_CLOSE_WRITE dst/empty/two",
        ],
    );
}

#[test]
fn a_chain_of_renames_ends_where_it_ends() {
    let (scratch, mut daemon) = begin(&["src/a/of_a", "src/b/of_b"], &["IN_CLOSE_WRITE"]);
    for round in 0..20 {
        scratch.rename("src/a", "dst/t");
        scratch.rename("src/b", "src/a");
        scratch.rename("dst/t", "src/b");
        let (own, other) = if round % 2 == 0 { ("of_b", "of_a") } else { ("of_a", "of_b") };
        scratch.write(format!("src/a/{own}/file"), "");
        scratch.write(format!("src/b/{other}/file"), "");
    }
    daemon.wait_directories("src", 5);
    // While names change, an event may be told under the next name already, but under no other.
    daemon.wait_lines(40, "event=IN_CLOSE_WRITE");
    let names = ["src/a/of_a", "src/a/of_b", "src/b/of_a", "src/b/of_b", "dst/t/of_a", "dst/t/of_b"];
    let told = told(&scratch, &daemon);
    for event in &told {
        let path = event.strip_prefix("IN_CLOSE_WRITE ").and_then(|path| path.strip_suffix("/file"));
        assert!(path.is_some_and(|path| names.contains(&path)), "{event}");
    }
    for own in ["of_a", "of_b"] {
        assert_eq!(told.iter().filter(|event| event.contains(own)).count(), 20, "{told:?}");
    }
    for own in ["a/of_a", "b/of_b"] {
        scratch.write(format!("src/{own}/last"), "");
        wait_told(&scratch, &mut daemon, &format!("IN_CLOSE_WRITE src/{own}/last"));
    }
    daemon.stop();
}

/// Tasks wait until they are told to go, which is when the daemon is told to end.
fn waiting(folders: &[&str]) -> (Scratch, Daemon) {
    let text = format!("{}{}", watch("src"), watch("dst"));
    let text = config(&["IN_CLOSE_WRITE"], &text)
        .replace("cmd = :", "cmd = echo {pathname} >>@/ran\nmax_jobs = 1\ndelay = 1")
        .replace("level = error", "level = info")
        .replace("shutdown_timeout = 0", "shutdown_timeout = 20");
    let scratch = Scratch::new();
    for folder in ["src", "dst"].iter().chain(folders) {
        scratch.dir(folder);
    }
    let daemon = Daemon::start_ready(&scratch, &text, &[]);
    (scratch, daemon)
}

#[test]
fn waiting_tasks_follow_their_directory_from_watch_to_watch() {
    let (scratch, mut daemon) = waiting(&["src/a/deep"]);
    scratch.write("src/a/deep/file", "");
    daemon.wait_log("schedule task");
    for (from, to) in [("src/a", "src/b"), ("src/b", "dst/c"), ("dst/c", "src/d"), ("src/d", "dst/e")] {
        scratch.rename(from, to);
    }
    let ran = daemon.wait_ran(&scratch, "ran", 1);
    assert_eq!(ran, [scratch.expand("@/dst/e/deep/file")]);
    daemon.stop();
}

#[test]
fn tasks_below_a_directory_that_left_are_cancelled() {
    let (scratch, mut daemon) = waiting(&["src/a/deep", "outside"]);
    scratch.write("src/a/deep/gone", "");
    daemon.wait_log("schedule task");
    scratch.rename("src/a", "outside/a");
    daemon.wait_log("task cancelled: its directory left");
    let told = daemon.lines("task cancelled");
    assert!(told[0].contains(&scratch.expand("path=@/src/a/deep/gone")), "{told:?}");
    scratch.write("src/stays", "");
    fs::remove_dir_all(scratch.path("outside")).unwrap();
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), [scratch.expand("@/src/stays")]);
    daemon.stop();
}

/// The visit is abandoned there, and nothing may continue with a directory that is gone.
#[test]
fn a_directory_moves_back_to_a_name_that_is_excluded() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let watch = watch("src") + "exclude_filter = .*/x$\n";
    let mut daemon = start(&scratch, &config(&["IN_CLOSE_WRITE"], &watch));
    for _ in 0..3 {
        scratch.dir("src/x");
        scratch.rename("src/x", "src/y");
        daemon.wait_directories("src", 2);
        scratch.rename("src/y", "src/x");
        daemon.wait_directories("src", 1);
        scratch.dir("src/y");
        daemon.wait_directories("src", 2);
        fs::remove_dir(scratch.path("src/x")).unwrap();
        fs::remove_dir(scratch.path("src/y")).unwrap();
        daemon.wait_directories("src", 1);
    }
    scratch.dir("src/z");
    scratch.write("src/z/file", "");
    finish(&scratch, daemon, &["IN_CLOSE_WRITE src/z/file"]);
}
