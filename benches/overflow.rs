//! More at once than the kernel's queue of 64 holds.

use std::collections::HashSet;
use std::fs;

use nix::sys::signal::Signal;

use crate::lab::Lab;
use crate::process::{NOTHING, Process, ShortQueue, watching};
use crate::report;

const QUEUE_MAX: usize = 64;

pub fn measure(lab: &Lab) {
    run(lab, "", false);
    run(lab, "stopped meanwhile, ", true);
}

/// A daemon that is stopped while it all happens cannot but miss most of it.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn run(lab: &Lab, how: &str, stopped: bool) {
    let count = lab.count(5_000);
    let what = format!("overflow: {count} files, {how}not told");
    let Some(short) = ShortQueue::new(QUEUE_MAX) else {
        println!("{what:<46} not measured: only root may shorten the queue");
        return;
    };
    let (dir, source) = (lab.dir(), lab.dir());
    let config = watching(dir.path(), NOTHING, "IN_CLOSE_WRITE = job\nIN_MOVED_TO = job");
    let daemon = Process::daemon(lab, &format!("[log all]\nlevel = debug\n{config}"));
    drop(short);
    let name = |number: usize| format!("file-{number}");
    (0..count).for_each(|number| fs::write(source.path().join(name(number)), "").unwrap());
    if stopped {
        daemon.signal(Signal::SIGSTOP);
    }
    for number in 0..count {
        fs::rename(source.path().join(name(number)), dir.path().join(name(number))).unwrap();
    }
    daemon.signal(Signal::SIGCONT);
    daemon.settle();
    let told: HashSet<String> = daemon.told().into_iter().collect();
    report::value(&what, (count - told.len().min(count)) as f64, "", 0.0);
    report::remark(&format!("overflow: {how}how often"), daemon.status()["overflows"] as f64, "");
}
