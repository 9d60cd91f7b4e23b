//! The time from the start of the process to its log line "ready".

use crate::lab::Lab;
use crate::process::{NOTHING, Process, watching};
use crate::report::{self, median};

/// Milliseconds that one directory may take.
const LIMIT: f64 = 10.0;

pub fn measure(lab: &Lab) {
    let dir = lab.dir();
    let config = watching(dir.path(), NOTHING, "IN_CLOSE_WRITE = job");
    let starts = lab.count(50).max(5);
    let took = (0..starts).map(|_| Process::daemon_timed(lab, &config).1.as_secs_f64() * 1_000.0);
    let took: Vec<_> = took.collect();
    report::value("start to ready, one directory", median(&took), "ms", LIMIT);
    report::remark("start to ready, the longest", took.iter().copied().fold(0.0, f64::max), "ms");
}
