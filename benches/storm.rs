//! Events that lead nowhere, as fast as one program can make them.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use crate::lab::{Lab, make_dirs};
use crate::process::{NOTHING, Process, watching};
use crate::report::{self, median};

const DIRS: usize = 100;

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
pub fn measure(lab: &Lab) {
    let count = lab.count(200_000);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut lost, mut peak) = (0, 0.0_f64);
    for _ in 0..lab.runs() {
        let dir = lab.dir();
        let dirs = make_dirs(dir.path(), DIRS);
        let daemon = Process::daemon(lab, &watching(dir.path(), NOTHING, "IN_CLOSE_WRITE = job"));
        let mask = daemon.watch_mask();
        ours.push(storm(&daemon, &dirs, count));
        let status = daemon.status();
        // Created and closed.
        lost += 2 * count as u64 - status["events"].min(2 * count as u64) + status["overflows"];
        peak = peak.max(daemon.proc_status("VmHWM"));
        drop(daemon);

        let dir = lab.dir();
        let dirs = make_dirs(dir.path(), DIRS);
        let program = Process::program(lab, "reader", &[&mask, &dir.path()]);
        theirs.push(storm(&program, &dirs, count));
    }
    let what = format!("storm: processor per file of {count}");
    report::ratio(&what, median(&ours), median(&theirs), "us", 0.5);
    report::value("storm: events lost", lost as f64, "", 0.0);
    report::value("storm: peak RSS", peak / 1024.0, "MiB", 5.0);
}

/// Microseconds of processor per file.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn storm(process: &Process, dirs: &[PathBuf], count: usize) -> f64 {
    process.settle();
    let before = process.cpu_micros();
    for number in 0..count {
        let path = dirs[number % dirs.len()].join(format!("file-{number}"));
        File::create(path).unwrap().write_all(b"x").unwrap();
    }
    process.settle();
    let each = (process.cpu_micros() - before) / count as f64;
    dirs.iter().for_each(|dir| drop(fs::metadata(dir)));
    each
}
