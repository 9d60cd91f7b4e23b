//! Waiting tasks.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::lab::Lab;
use crate::process::{Process, watching};
use crate::report;

const WAITS: &str = "type = exec\ncmd = /bin/true {pathname}\ndelay = 1h";

pub fn measure(lab: &Lab) {
    waiting(lab);
    rescheduled(lab);
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn waiting(lab: &Lab) {
    let dir = lab.dir();
    let count = lab.count(100_000);
    let daemon = Process::daemon(lab, &watching(dir.path(), WAITS, "IN_CLOSE_WRITE = job"));
    daemon.settle();
    let (cpu, rss) = (daemon.cpu_micros(), daemon.rss_kib());
    for number in 0..count {
        File::create(dir.path().join(format!("file-{number:06}"))).unwrap();
    }
    daemon.settle();
    let each = (daemon.cpu_micros() - cpu) / count as f64;
    daemon.wait_status(|status| status["waiting"] == count as u64);
    report::value(&format!("tasks: RSS, {count} waiting"), daemon.rss_kib() / 1024.0, "MiB", 20.0);
    report::remark("tasks: each", (daemon.rss_kib() - rss) * 1024.0 / count as f64, "B");
    report::value("tasks: processor to take one in", each, "us", 5.0);
    daemon.settle();
    let cpu = daemon.cpu_micros();
    std::thread::sleep(Duration::from_secs(5));
    report::value("tasks: processor in 5 s of waiting", daemon.cpu_micros() - cpu, "us", 0.0);
}

/// Two kinds of events by turns, because the kernel merges equal events that follow each other
/// (inotify(7)).
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn rescheduled(lab: &Lab) {
    let dir = lab.dir();
    let count = lab.count(100_000);
    let map = "IN_CLOSE_WRITE = job\nIN_ATTRIB = job";
    let daemon = Process::daemon(lab, &watching(dir.path(), WAITS, map));
    let path = dir.path().join("file");
    let touch = |times: usize| {
        for _ in 0..times / 2 {
            File::create(&path).unwrap().write_all(b"x").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        daemon.settle();
    };
    touch(count / 10);
    let events = daemon.status()["events"];
    let (cpu, rss) = (daemon.cpu_micros(), daemon.rss_kib());
    touch(count);
    let each = (daemon.cpu_micros() - cpu) / count as f64;
    let status = daemon.status();
    assert_eq!(status["waiting"], 1);
    report::value("tasks: processor to re-schedule one", each, "us", 4.0);
    report::value("tasks: re-schedulings lost", (events + count as u64 - status["events"]) as f64, "", 0.0);
    report::value("tasks: memory gained by that", daemon.rss_kib() - rss, "KiB", 0.0);
}
