//! Many new trees at once: no file is missed, none told twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;

use crate::events::{config, directories_on_disk, start, told, watch};
use crate::scratch::{Daemon, Scratch};

const MAKERS: usize = 2;
const TREES: usize = 300;
const LEVELS: [&str; 4] = ["a", "b", "c", "d"];

/// Trees of four directories, one in the other, each with a file as soon as it is there.
fn make_trees(top: PathBuf) {
    for number in 0..TREES {
        let mut folder = top.join(number.to_string());
        for level in LEVELS {
            folder.push(level);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), "content").unwrap();
        }
    }
}

/// Two makers, each in a directory of its own that is there or not when the daemon starts.
fn check(existing: bool) {
    let scratch = Scratch::new();
    scratch.dir("src");
    if existing {
        (0..MAKERS).for_each(|maker| drop(scratch.dir(format!("src/{maker}"))));
    }
    let mut daemon = start(&scratch, &config(&["IN_CLOSE_WRITE"], &watch("src")));
    let makers: Vec<_> = (0..MAKERS)
        .map(|maker| {
            let top = scratch.path(format!("src/{maker}"));
            thread::spawn(move || make_trees(top))
        })
        .collect();
    makers.into_iter().for_each(|maker| maker.join().unwrap());
    let count = MAKERS * TREES * LEVELS.len();
    daemon.wait_directories("src", directories_on_disk(&scratch.path("src")));
    daemon.wait_lines(count, "event=IN_CLOSE_WRITE");
    // What would be told twice is told by the time that this is.
    scratch.write("src/last", "");
    daemon.wait_log("src/last");
    let mut times = BTreeMap::new();
    told(&scratch, &daemon).into_iter().for_each(|event| *times.entry(event).or_insert(0) += 1);
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(times.len(), count + 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn trees_of_two_makers_lose_no_file_and_double_none() {
    check(true);
}

#[test]
fn the_same_below_directories_that_are_new_themselves() {
    check(false);
}

/// A directory that is renamed faster than it can be looked at: what is to be looked at, and what waits
/// for the rest of a rename, has its limits.
#[test]
fn endless_renames_keep_memory_bounded() {
    const RENAMES: usize = 300_000;
    /// Without the limits it is over 20 MiB, of a daemon with less than 4.
    const KIB_MAX: u64 = 10 << 10;
    for there in ["src/two", "elsewhere", "dst/two"] {
        let scratch = Scratch::new();
        scratch.dir("src/one");
        scratch.dir("dst");
        let config = format!(
            "[log]\nlevel = warning\n[log daemon]\nlevel = info\n[scheduler job]\ntype = exec\ncmd = true\ndirs = no\n\
             [event_map map]\nIN_CLOSE_WRITE = job\nIN_MOVED_TO = job\n{}",
            watch("src") + &watch("dst")
        );
        let mut daemon = Daemon::start_ready(&scratch, &config, &[]);
        let (one, two) = (scratch.path("src/one"), scratch.path(there));
        for _ in 0..RENAMES / 2 {
            fs::rename(&one, &two).unwrap();
            fs::rename(&two, &one).unwrap();
        }
        daemon.wait_directories("src", 2);
        daemon.wait_status("to_visit=0");
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        // The code of a debug build does not count.
        let code = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        let code: u64 = code.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak - code < KIB_MAX, "{there}: {peak} KiB at most, {code} of them code");
        daemon.stop();
    }
}
