//! The time from the start to the last watch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::lab::Lab;
use crate::process::{NOTHING, Process, watching};
use crate::report::{self, median};

pub fn measure(lab: &Lab) {
    for top in [20, 100] {
        compare(lab, if lab.quick { top / 10 } else { top });
    }
}

fn compare(lab: &Lab, top: usize) {
    let (tree, count) = tree(top);
    let config = watching(&tree, NOTHING, "IN_CLOSE_WRITE = job");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    find(&tree);
    for _ in 0..lab.runs() {
        let (daemon, took) = Process::daemon_timed(lab, &config);
        assert!(daemon.status()["directories"] >= count as u64);
        drop(daemon);
        ours.push(took.as_secs_f64());
        theirs.push(find(&tree));
    }
    let what = format!("set-up: {count} directories (beside find -type d)");
    report::ratio(&what, median(&ours), median(&theirs), "s", 0.7);
}

/// Seconds for `find -type d`.
fn find(tree: &Path) -> f64 {
    let start = Instant::now();
    let status = Command::new("find").arg(tree).args(["-type", "d"]).stdout(Stdio::null()).status();
    assert!(status.expect("find is installed").success());
    start.elapsed().as_secs_f64()
}

/// `top` directories, 10 in each of them, 100 in each of those. The tree stays on the disk for the next run.
pub fn tree(top: usize) -> (PathBuf, usize) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tree-{top}"));
    let whole = path.join("whole");
    if !whole.exists() {
        drop(fs::remove_dir_all(&path));
        for number in 0..top * 10 * 100 {
            let (first, second, third) = (number / 1_000, number / 100 % 10, number % 100);
            fs::create_dir_all(path.join(format!("{first}/{second}/{third}"))).unwrap();
        }
        fs::write(&whole, "").unwrap();
    }
    (path, 1 + top + top * 10 + top * 10 * 100)
}
