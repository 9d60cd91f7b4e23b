//! Many files at once, one child each.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::child::Children;
use crate::lab::Lab;
use crate::process::{Process, watching};
use crate::report::{self, median};

const JOBS_MAX: &str = "16";

pub fn measure(lab: &Lab) {
    let count = lab.count(5_000);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..lab.runs() {
        let (dir, mut children) = (lab.dir(), Children::new(lab, "fifo"));
        let scheduler = children.scheduler("exec");
        let config = watching(dir.path(), &scheduler, "IN_MOVED_TO = job");
        let daemon = Process::daemon(lab, &format!("[daemon]\nmax_jobs = {JOBS_MAX}\n{config}"));
        ours.push(drop_files(lab, dir.path(), &mut children, count));
        drop(daemon);
        let dir = lab.dir();
        let args: [&dyn AsRef<std::ffi::OsStr>; 5] =
            [&"exec", &dir.path(), &JOBS_MAX, &children.program().to_owned(), &children.fifo.clone()];
        let program = Process::program(lab, "spawn", &args);
        theirs.push(drop_files(lab, dir.path(), &mut children, count));
        drop(program);
    }
    let what = format!("burst: {count} files, a child each, 16 at once");
    report::ratio(&what, median(&ours), median(&theirs), "s", 1.25);
}

/// Seconds until all children have begun.
fn drop_files(lab: &Lab, dir: &Path, children: &mut Children, count: usize) -> f64 {
    let source = lab.dir();
    let name = |number: usize| format!("file-{number}");
    for number in 0..count {
        File::create(source.path().join(name(number))).unwrap();
    }
    let start = Instant::now();
    for number in 0..count {
        fs::rename(source.path().join(name(number)), dir.join(name(number))).unwrap();
    }
    for told in 0..count {
        assert!(children.next(Duration::from_secs(10)).is_some(), "{told} of {count} files had a child");
    }
    start.elapsed().as_secs_f64()
}
