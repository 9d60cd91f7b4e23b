//! Deep trees that are filled as soon as they exist: how many files are missed, or told twice.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::Lab;
use crate::process::{NOTHING, Process, wait, watching};
use crate::report;

/// With this argument the program makes trees, in the directory that follows.
pub const MAKE: &str = "make-trees";

const MAKERS: usize = 2;
const RUNS: usize = 20;
const LEVELS: [&str; 4] = ["a", "b", "c", "d"];

/// In each of `count` trees a file on every level, written and closed.
pub fn make(top: &Path, count: usize) {
    for number in 0..count {
        let mut folder = top.join(number.to_string());
        for level in LEVELS {
            folder.push(level);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), "content").unwrap();
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
pub fn measure(lab: &Lab) {
    let (count, runs) = (lab.count(2_000), if lab.quick { 2 } else { RUNS });
    let (mut missing, mut twice, mut good) = (0, 0, 0);
    for _ in 0..runs {
        let (missed, doubled) = run(lab, count);
        missing += missed;
        twice += doubled;
        good += usize::from(missed + doubled == 0);
    }
    let what = format!("trees: {MAKERS} x {count}, runs of {runs} with a flaw");
    report::value(&what, (runs - good) as f64, "", 0.0);
    report::value("trees: files missed", missing as f64, "", 0.0);
    report::value("trees: files told twice", twice as f64, "", 0.0);
}

/// How many files were missed, and how many told more than once.
fn run(lab: &Lab, count: usize) -> (usize, usize) {
    let dir = lab.dir();
    let config = watching(dir.path(), NOTHING, "IN_CLOSE_WRITE = job");
    let daemon = Process::daemon(lab, &format!("[log all]\nlevel = debug\n{config}"));
    let tops: Vec<PathBuf> = (0..MAKERS).map(|maker| dir.path().join(maker.to_string())).collect();
    let maker = |top: &PathBuf| {
        let program = std::env::current_exe().unwrap();
        Command::new(program).arg(MAKE).arg(top).arg(count.to_string()).spawn().unwrap()
    };
    let makers: Vec<_> = tops.iter().map(maker).collect();
    makers.into_iter().for_each(|mut maker| assert!(maker.wait().unwrap().success()));
    // On a busy machine the daemon may be late; the event of the last file comes last.
    let last = dir.path().join("last");
    fs::write(&last, "").unwrap();
    let mut lines = Vec::new();
    wait(
        || {
            lines.extend(daemon.told());
            lines.iter().any(|path| Path::new(path) == last)
        },
        Duration::from_millis(50),
    );
    daemon.settle();
    lines.extend(daemon.told());
    lines.retain(|path| Path::new(path) != last);
    let mut told: HashMap<String, usize> = HashMap::new();
    lines.into_iter().for_each(|path| *told.entry(path).or_default() += 1);
    let expected = MAKERS * count * LEVELS.len();
    (expected - told.len().min(expected), told.values().filter(|times| **times > 1).count())
}
