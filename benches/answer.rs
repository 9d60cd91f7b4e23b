//! An event in one watch during the first visit of another watch's tree.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::process::{NOTHING, Process, watching};
use crate::report;
use crate::setup;

/// Between two events.
const PAUSE: Duration = Duration::from_millis(3);

pub fn measure(lab: &Lab) {
    let (tree, count) = setup::tree(if lab.quick { 10 } else { 100 });
    let mut worst = 0.0_f64;
    let mut events = 0;
    for _ in 0..lab.runs() {
        let dir = lab.dir();
        let second = format!(
            "[watch small]\npath = {}\nevent_map = map\nrec = yes\nauto_add = yes\n[log small]\nlevel = debug\n",
            dir.path().display()
        );
        let config = watching(&tree, NOTHING, "IN_CLOSE_WRITE = job");
        let daemon = Process::starting(lab, &format!("{config}{second}"));
        let waits = answers(&daemon, dir.path());
        events += waits.len();
        worst = waits.into_iter().fold(worst, f64::max);
    }
    let what = format!("answer: longest of {events}, scan of {count}");
    report::value(&what, worst, "ms", 50.0);
}

/// Milliseconds from each file to the line that tells of it, until the scan is done.
fn answers(daemon: &Process, dir: &Path) -> Vec<f64> {
    let mut written = HashMap::new();
    let mut waits = Vec::new();
    let mut ready = false;
    for number in 0.. {
        let path = dir.join(format!("file-{number}"));
        written.insert(path.to_str().unwrap().to_owned(), Instant::now());
        fs::write(&path, "").unwrap();
        thread::sleep(PAUSE);
        for (at, line) in daemon.lines_so_far() {
            ready |= line.split_whitespace().any(|word| word == "ready");
            let path = line.split_once(" path=").map(|(_, path)| path).unwrap_or_default();
            if let Some(start) = written.remove(path) {
                waits.push((at - start).as_secs_f64() * 1_000.0);
            }
        }
        if ready && !waits.is_empty() {
            return waits;
        }
    }
    waits
}
