//! A reload loses nothing.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::child::Children;
use crate::lab::Lab;
use crate::process::{Process, watching};
use crate::report;

/// Between two reloads.
const INTERVAL: Duration = Duration::from_millis(50);

/// Between two files: so that some are on their way at each reload, and there are many of both.
const PAUSE: Duration = Duration::from_micros(500);

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
pub fn measure(lab: &Lab) {
    let count = lab.count(3_000);
    let (dir, mut children) = (lab.dir(), Children::new(lab, "fifo"));
    let config = watching(dir.path(), &children.scheduler("exec"), "IN_MOVED_TO = job");
    let daemon = Process::daemon(lab, &config);
    let mut told = vec![0_u32; count];
    let mut note = |children: &mut Children, timeout| match children.next(timeout) {
        Some(start) => {
            told[usize::try_from(start.number).unwrap()] += 1;
            true
        }
        None => false,
    };
    let source = lab.folder().join("source");
    let mut reloads = 0;
    let mut last = Instant::now();
    for number in 0..count {
        File::create(&source).unwrap();
        fs::rename(&source, dir.path().join(format!("file-{number}"))).unwrap();
        if last.elapsed() >= INTERVAL {
            last = Instant::now();
            reloads += 1;
            daemon.signal(Signal::SIGHUP);
        }
        note(&mut children, Duration::ZERO);
        std::thread::sleep(PAUSE);
    }
    while note(&mut children, Duration::from_secs(2)) {}
    let what = |what: &str| format!("reload: {reloads} during {count} files, {what}");
    let number = |wanted: fn(u32) -> bool| told.iter().filter(|times| wanted(**times)).count() as f64;
    report::value(&what("lost"), number(|times| times == 0), "", 0.0);
    report::value(&what("twice"), number(|times| times > 1), "", 0.0);
}
