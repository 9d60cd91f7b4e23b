//! From rename(2) to the child's first instruction.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use crate::child::{Children, now_nanos};
use crate::lab::Lab;
use crate::process::{Process, watching};
use crate::report::{self, percentile};

/// Renames in a row on one side, before it is the other's turn.
const BLOCK: usize = 50;

pub fn measure(lab: &Lab) {
    for kind in ["exec", "shell"] {
        compare(lab, kind);
    }
}

fn compare(lab: &Lab, kind: &str) {
    let (dir, c_dir) = (lab.dir(), lab.dir());
    let (mut children, mut c_children) = (Children::new(lab, "fifo"), Children::new(lab, "fifo-c"));
    let config = watching(dir.path(), &children.scheduler(kind), "IN_MOVED_TO = job");
    let daemon = Process::daemon(lab, &config);
    let args: [&dyn AsRef<std::ffi::OsStr>; 5] =
        [&kind, &c_dir.path(), &"16", &c_children.program().to_owned(), &c_children.fifo.clone()];
    let program = Process::program(lab, "spawn", &args);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    block(lab, dir.path(), &mut children, &mut Vec::new());
    block(lab, c_dir.path(), &mut c_children, &mut Vec::new());
    for _ in 0..lab.count(1_000).div_ceil(BLOCK) {
        block(lab, dir.path(), &mut children, &mut ours);
        block(lab, c_dir.path(), &mut c_children, &mut theirs);
    }
    drop((daemon, program));
    for (percent, limit) in [(50, 1.25), (99, 1.5)] {
        let what = format!("latency: rename to child, {kind}, p{percent}");
        report::ratio(&what, percentile(&ours, percent), percentile(&theirs, percent), "us", limit);
    }
}

/// Renames a file a few milliseconds apart, each time after the last child has reported.
fn block(lab: &Lab, dir: &Path, children: &mut Children, micros: &mut Vec<f64>) {
    let source = lab.folder().join("source");
    let target = dir.join("file-1");
    for turn in 0..BLOCK {
        File::create(&source).unwrap();
        // Pauses of different lengths, so that the renames coincide with no period of the system.
        std::thread::sleep(Duration::from_micros(3_000 + (turn as u64 * 7_919) % 4_001));
        let before = now_nanos();
        fs::rename(&source, &target).unwrap();
        let start = children.next(Duration::from_secs(5)).expect("a child for every file");
        #[allow(clippy::cast_precision_loss, reason = "microseconds")]
        micros.push(start.nanos.saturating_sub(before) as f64 / 1_000.0);
    }
}
