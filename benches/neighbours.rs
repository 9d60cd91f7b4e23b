//! How long a task of one user waits while another user attacks.
//!
//! Two watches with a scheduler each: one for the attacker's directory, one for the victim's. A second
//! process attacks; meanwhile a file is renamed into the victim's directory at fixed times, whether the
//! task of the last one has begun or not, and each task tells when it began.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::attacks::{ATTACKS, Attack, Ground, TOOL};
use crate::child::{Children, now_nanos};
use crate::lab::Lab;
use crate::process::{Process, ShortQueue};
use crate::report;

/// What the victim's tasks may wait, in milliseconds: 99 of 100, and every one.
const P99_MAX: f64 = 100.0;
const MAX: f64 = 1_000.0;

/// Events in the kernel's queue, where an attack fills it.
const QUEUE_MAX: usize = 1_024;

/// Between two files of the victim.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long the last tasks are waited for. A task that has not begun then counts as begun now.
const PATIENCE: Duration = Duration::from_secs(30);
const QUICK_PATIENCE: Duration = Duration::from_secs(3);

pub fn measure(lab: &Lab) {
    report::heading("neighbours: a task while another user attacks", ["p50", "p99", "max", "p99, max"]);
    for attack in ATTACKS {
        let millis = run(lab, attack);
        report::latencies(&format!("neighbours: {}", attack.name), &millis, P99_MAX, MAX);
    }
}

/// The latencies of the victim's tasks in milliseconds.
fn run(lab: &Lab, attack: &Attack) -> Vec<f64> {
    let (dir, victim) = (lab.dir(), lab.dir());
    let ground = Ground::new(dir.path(), attack.size(lab.quick));
    (attack.prepare)(&ground);
    let mut children = Children::new(lab, "fifo-victim");
    let mut watched = Victim { dir: victim.path(), source: lab.folder().join("victim"), sent: Vec::new() };
    let daemon = attack.start(lab, &ground, &watched.config(&children));
    let mut attacker = Attacker::start(attack, &ground);
    if attack.reloads {
        daemon.reload(&watched.config(&children));
    }
    let begin = Instant::now();
    let duration = Duration::from_secs(if lab.quick { 1 } else { 10 });
    let mut waits = Vec::new();
    while begin.elapsed() < duration {
        watched.send();
        watched.take(&mut children, INTERVAL, &mut waits);
    }
    attacker.end();
    let begin = Instant::now();
    let patience = if lab.quick { QUICK_PATIENCE } else { PATIENCE };
    while waits.len() < watched.sent.len() && begin.elapsed() < patience {
        watched.take(&mut children, Duration::from_millis(100), &mut waits);
    }
    watched.give_up(&mut waits);
    drop(daemon);
    (attack.clean)(&ground);
    waits
}

struct Victim<'a> {
    dir: &'a Path,
    /// A file before it is renamed into `dir`.
    source: std::path::PathBuf,
    /// When each file was renamed, by its number; 0 once its task has begun.
    sent: Vec<u64>,
}

impl Victim<'_> {
    fn config(&self, children: &Children) -> String {
        format!(
            "[scheduler victim]\n{}\n[event_map victim]\nIN_MOVED_TO = victim\n\
             [watch victim]\npath = {}\nevent_map = victim\n",
            children.scheduler("exec"),
            self.dir.display()
        )
    }

    fn send(&mut self) {
        fs::write(&self.source, "").unwrap();
        let target = self.dir.join(format!("file-{}", self.sent.len()));
        self.sent.push(now_nanos());
        fs::rename(&self.source, target).unwrap();
    }

    /// Takes what children tell during this time.
    #[allow(clippy::cast_precision_loss, reason = "milliseconds")]
    fn take(&mut self, children: &mut Children, time: Duration, waits: &mut Vec<f64>) {
        let end = Instant::now() + time;
        loop {
            // poll(2) takes whole milliseconds.
            let left = end.saturating_duration_since(Instant::now());
            let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or_default());
            let Some(start) = children.next(left) else {
                // The rest of a millisecond at most.
                return;
            };
            let sent = std::mem::take(&mut self.sent[usize::try_from(start.number).unwrap()]);
            // After an overflow a file may have a second task.
            if sent > 0 {
                waits.push(start.nanos.saturating_sub(sent) as f64 / 1e6);
            }
        }
    }

    /// What has not begun has waited until now at least.
    #[allow(clippy::cast_precision_loss, reason = "milliseconds")]
    fn give_up(&mut self, waits: &mut Vec<f64>) {
        let now = now_nanos();
        let pending = self.sent.iter().filter(|sent| **sent > 0);
        waits.extend(pending.map(|sent| now.saturating_sub(*sent) as f64 / 1e6));
    }
}

/// The process that attacks; it is killed if it has not ended by itself.
struct Attacker(Child);

impl Attacker {
    fn start(attack: &Attack, ground: &Ground) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.arg(TOOL).arg(attack.name).arg(&ground.dir).arg(ground.size.to_string());
        Self(command.spawn().unwrap())
    }

    fn end(&mut self) {
        match self.0.try_wait().unwrap() {
            Some(status) => assert!(status.success(), "the attack failed: {status}"),
            None => self.kill(),
        }
    }

    fn kill(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Attack {
    /// Starts the daemon and gives it the tasks that the attack begins with.
    fn start(&self, lab: &Lab, ground: &Ground, victim: &str) -> Process {
        let config = format!("{victim}{}", (self.config)(ground));
        let short = self.queue_is_short.then(|| ShortQueue::new(QUEUE_MAX));
        let daemon = Process::daemon(lab, &config);
        drop(short);
        (self.fill)(ground);
        daemon.settle();
        daemon
    }
}
