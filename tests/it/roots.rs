//! Watch paths that come and go, and what is mounted on them.

use std::fs;
use std::os::unix::fs::symlink;

use crate::events::{config, finish, start, told, wait_told, watch};
use crate::mounting::Mount;
use crate::scratch::{Daemon, Scratch, is_root};

const EVENTS: [&str; 3] = ["IN_CREATE", "IN_CLOSE_WRITE", "IN_MOVED_TO"];

fn begin(folders: &[&str]) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    for folder in folders {
        scratch.dir(folder);
    }
    let daemon = start(&scratch, &config(&EVENTS, &watch("src")));
    (scratch, daemon)
}

#[test]
fn a_path_is_waited_for_component_by_component() {
    let scratch = Scratch::new();
    let text = config(&EVENTS, &watch("src").replace("@/src", "@/one/two/three/src"));
    let mut daemon = start(&scratch, &text);
    for folder in ["one", "one/two", "one/two/three", "one/two/three/src"] {
        fs::create_dir(scratch.path(folder)).unwrap();
    }
    daemon.wait_directories("src", 1);
    fs::remove_dir_all(scratch.path("one/two")).unwrap();
    daemon.wait_directories("src", 0);
    scratch.dir("aside/three/src/deep");
    scratch.write("aside/three/src/deep/file", "");
    scratch.rename("aside", "one/two");
    wait_told(&scratch, &mut daemon, "IN_MOVED_TO one/two/three/src/deep/file");
    scratch.write("one/two/three/src/last", "");
    finish(
        &scratch,
        daemon,
        &[
            "IN_MOVED_TO one/two/three/src/deep",
            "IN_MOVED_TO one/two/three/src/deep/file",
            "IN_CREATE one/two/three/src/last",
            "IN_CLOSE_WRITE one/two/three/src/last",
        ],
    );
}

#[test]
fn a_path_that_is_deleted_and_made_again_at_once_is_watched_again() {
    let (scratch, mut daemon) = begin(&["src/deep"]);
    for round in 0..20 {
        fs::remove_dir_all(scratch.path("src")).unwrap();
        scratch.dir("src/deep");
        let file = scratch.write(format!("src/deep/{round}"), "");
        daemon.wait_log(&format!("event=IN_CLOSE_WRITE path={}", file.display()));
    }
    daemon.wait_directories("src", 2);
    let written = told(&scratch, &daemon).iter().filter(|told| told.contains("IN_CLOSE_WRITE")).count();
    assert_eq!(written, 20, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn another_directory_is_renamed_over_the_path() {
    let (scratch, mut daemon) = begin(&["src", "new/deep"]);
    scratch.write("new/deep/file", "");
    scratch.rename("new", "src");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/deep/file");
    daemon.wait_directories("src", 2);
    scratch.rename("src", "aside");
    daemon.wait_directories("src", 0);
    scratch.write("aside/deep/unseen", "");
    scratch.rename("aside", "src");
    wait_told(&scratch, &mut daemon, "IN_MOVED_TO src/deep/unseen");
    daemon.wait_directories("src", 2);
    daemon.stop();
}

#[test]
fn a_link_is_followed_to_where_it_points_now() {
    let scratch = Scratch::new();
    scratch.dir("one");
    scratch.dir("two/deep");
    symlink(scratch.path("one"), scratch.path("src")).unwrap();
    let mut daemon = start(&scratch, &config(&EVENTS, &watch("src")));
    scratch.write("one/a", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/a");
    // Another link takes its place.
    symlink(scratch.path("two"), scratch.path("new")).unwrap();
    scratch.rename("new", "src");
    daemon.wait_directories("src", 2);
    scratch.write("one/unseen", "");
    scratch.write("two/deep/b", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/deep/b");
    // No link, and one again.
    fs::remove_file(scratch.path("src")).unwrap();
    daemon.wait_directories("src", 0);
    scratch.write("two/deep/unseen", "");
    symlink(scratch.path("one"), scratch.path("src")).unwrap();
    daemon.wait_directories("src", 1);
    scratch.write("one/c", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/c");
    // What it points to is deleted and comes back.
    fs::remove_dir_all(scratch.path("one")).unwrap();
    daemon.wait_directories("src", 0);
    daemon.stop();
}

#[test]
fn what_is_mounted_over_the_path_is_watched_until_it_is_gone() {
    if !is_root("mounting over a watch path") {
        return;
    }
    let (scratch, mut daemon) = begin(&["src/deep"]);
    let mount = Mount::tmpfs(scratch.path("src"));
    daemon.wait_directories("src", 1);
    scratch.write("src/mounted", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/mounted");
    mount.unmount();
    daemon.wait_directories("src", 2);
    scratch.write("src/deep/below", "");
    wait_told(&scratch, &mut daemon, "IN_CLOSE_WRITE src/deep/below");
    daemon.stop();
}

#[test]
fn what_is_mounted_in_the_tree_or_on_the_way_to_it_is_watched_until_it_is_gone() {
    if !is_root("mounting in a watched tree") {
        return;
    }
    let scratch = Scratch::new();
    scratch.dir("way/src/middle/deep/deeper");
    let text = config(&EVENTS, &watch("src").replace("@/src", "@/way/src"));
    let mut daemon = start(&scratch, &text);
    let check = |daemon: &mut Daemon, folder: &str, name: &str| {
        scratch.dir(folder);
        scratch.write(format!("{folder}/{name}"), "");
        wait_told(&scratch, daemon, &format!("IN_CLOSE_WRITE {folder}/{name}"));
    };
    let middle = Mount::tmpfs(scratch.path("way/src/middle"));
    daemon.wait_directories("src", 2);
    check(&mut daemon, "way/src/middle/mounted/deep", "one");
    daemon.wait_directories("src", 4);
    middle.unmount();
    daemon.wait_directories("src", 4);
    check(&mut daemon, "way/src/middle/deep/deeper", "two");
    let way = Mount::tmpfs(scratch.path("way"));
    daemon.wait_directories("src", 0);
    check(&mut daemon, "way/src/deep", "three");
    daemon.wait_directories("src", 2);
    way.unmount();
    daemon.wait_directories("src", 4);
    check(&mut daemon, "way/src/middle/deep", "four");
    daemon.stop();
}

#[test]
fn a_directory_with_two_watched_paths_is_told_by_both() {
    if !is_root("bind mounts") {
        return;
    }
    let scratch = Scratch::new();
    for folder in ["src/deep", "dst"] {
        scratch.dir(folder);
    }
    let _mount = Mount::bind(&scratch.path("src"), scratch.path("dst"));
    let text = config(&EVENTS, &(watch("src") + &watch("dst")));
    let mut daemon = start(&scratch, &text);
    scratch.dir("src/new");
    daemon.wait_directories("src", 3);
    daemon.wait_directories("dst", 3);
    for file in ["src/deep/one", "dst/new/two", "dst/three"] {
        scratch.write(file, "");
    }
    for file in ["deep/one", "new/two", "three"] {
        for path in ["src", "dst"] {
            wait_told(&scratch, &mut daemon, &format!("IN_CLOSE_WRITE {path}/{file}"));
        }
    }
    let told = told(&scratch, &daemon);
    assert_eq!(told.len(), 2 * (1 + 3 * 2), "{told:#?}");
    daemon.stop();
}

#[test]
fn a_single_file_may_be_a_mount_or_a_link_target_that_is_replaced() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let text = config(&["IN_CLOSE_WRITE", "IN_MOVED_TO"], &watch("src").replace("@/src", "@/src/file"));
    let mut daemon = start(&scratch, &text);
    scratch.write("src/file", "");
    for _ in 0..10 {
        scratch.replace("src/file", "new");
    }
    scratch.write("src/file", "");
    wait_told(&scratch, &mut daemon, "IN_MOVED_TO src/file");
    let mut expected = vec!["IN_CLOSE_WRITE src/file"];
    expected.extend(["IN_MOVED_TO src/file src/file.new"; 10]);
    expected.push("IN_CLOSE_WRITE src/file");
    finish(&scratch, daemon, &expected);
}
