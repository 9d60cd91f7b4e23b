//! An idle daemon uses no processor time.

use std::time::Duration;

use crate::lab::Lab;
use crate::process::{NOTHING, Process, watching};
use crate::report;

pub fn measure(lab: &Lab) {
    let dir = lab.dir();
    let daemon = Process::daemon(lab, &watching(dir.path(), NOTHING, "IN_CLOSE_WRITE = job"));
    daemon.settle();
    let seconds = std::env::var("IDLE_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds = seconds.unwrap_or(if lab.quick { 6 } else { 60 });
    let (switches, cpu) = (daemon.switches(), daemon.cpu_micros());
    std::thread::sleep(Duration::from_secs(seconds));
    report::value(&format!("idle: wakeups in {seconds} s"), daemon.switches() - switches, "", 0.0);
    report::value(&format!("idle: processor in {seconds} s"), daemon.cpu_micros() - cpu, "us", 0.0);
    report::value("idle: threads", daemon.proc_status("Threads"), "", 1.0);
}
