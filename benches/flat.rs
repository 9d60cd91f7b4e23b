//! Memory does not grow with what has happened.

use std::fs;
use std::path::Path;

use crate::lab::Lab;
use crate::process::{NOTHING, Process, watching};
use crate::report;

const MAP: &str = "IN_CLOSE_WRITE = job\nIN_MOVED_FROM = cancel:job\nIN_MOVED_TO = job";

/// What an allocator may need more the second time, in KiB: a few pages.
const GROWTH_MAX: f64 = 32.0;

/// The same for state that is removed when the event queue is empty: without such a moment a limit in the
/// engine bounds it.
const BACKLOG_MAX: f64 = 4096.0;

pub fn measure(lab: &Lab) {
    let count = lab.count(100_000);
    compare(
        lab,
        &format!("flat: RSS gained by {count} renames of a file"),
        GROWTH_MAX,
        count,
        |dir, times| {
            fs::write(dir.join("file-0"), "").unwrap();
            rename(dir, "file", times);
        },
    );
    compare(
        lab,
        &format!("flat: RSS gained by {count} renames of a directory"),
        GROWTH_MAX,
        count,
        |dir, times| {
            fs::create_dir_all(dir.join("dir-0/sub")).unwrap();
            rename(dir, "dir", times);
            fs::remove_dir_all(dir.join(format!("dir-{times}"))).unwrap();
        },
    );
    compare(
        lab,
        &format!("flat: RSS gained by {count} renames to and fro"),
        BACKLOG_MAX,
        count,
        |dir, times| {
            to_and_fro(&dir.join("one"), &dir.join("two"), times);
        },
    );
    let outside = lab.dir();
    compare(
        lab,
        &format!("flat: RSS gained by {count} renames out and in"),
        BACKLOG_MAX,
        count,
        |dir, times| {
            to_and_fro(&dir.join("one"), &outside.path().join("one"), times);
        },
    );
    let count = lab.count(30_000);
    compare(
        lab,
        &format!("flat: RSS gained by {count} x mkdir, write, rm -r"),
        GROWTH_MAX,
        count,
        |dir, times| {
            for number in 0..times {
                let new = dir.join(format!("new-{number}"));
                fs::create_dir(&new).unwrap();
                fs::write(new.join("file"), "x").unwrap();
                fs::remove_dir_all(new).unwrap();
            }
        },
    );
}

/// To another name every time.
fn rename(dir: &Path, name: &str, times: usize) {
    for number in 0..times {
        let path = |number: usize| dir.join(format!("{name}-{number}"));
        fs::rename(path(number), path(number + 1)).unwrap();
    }
}

/// An empty directory, between two names.
fn to_and_fro(one: &Path, two: &Path, times: usize) {
    fs::create_dir(one).unwrap();
    for _ in 0..times / 2 {
        fs::rename(one, two).unwrap();
        fs::rename(two, one).unwrap();
    }
    fs::remove_dir(one).unwrap();
}

/// The first fifth makes the room that is needed, the rest must get along with it.
fn compare(lab: &Lab, what: &str, limit: f64, count: usize, work: impl Fn(&Path, usize)) {
    let dir = lab.dir();
    let scheduler = NOTHING.replace("dirs = yes", "dirs = no");
    let daemon = Process::daemon(lab, &watching(dir.path(), &scheduler, MAP));
    work(dir.path(), count / 5);
    daemon.settle();
    let before = daemon.rss_kib();
    work(dir.path(), count);
    daemon.settle();
    let status = daemon.status();
    assert_eq!(status["waiting"], 0);
    report::value(what, daemon.rss_kib() - before, "KiB", limit);
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    report::remark("      overflows meanwhile", status["overflows"] as f64, "");
}
