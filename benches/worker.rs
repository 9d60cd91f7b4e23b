//! Tasks of a program that is kept running, beside a shell for each, and beside jobs within pyinotifyd.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::child::{Children, now_nanos};
use crate::lab::Lab;
use crate::process::{Process, watching};
use crate::report::{self, median, percentile};

const MAP: &str = "IN_MOVED_TO = job";

pub fn measure(lab: &Lab) {
    throughput(lab);
    latency(lab);
}

fn worker(lab: &Lab, children: &Children) -> String {
    let (program, fifo) = (lab.program("worker"), children.fifo.display());
    format!("type = worker\ncmd = {} {fifo}\nmax_jobs = 100", program.display())
}

/// Seconds for each task. Both programs report when they have a task.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn throughput(lab: &Lab) {
    let (many, few) = (lab.count(20_000), lab.count(2_000));
    let (mut ours, mut shells) = (Vec::new(), Vec::new());
    for _ in 0..lab.runs() {
        let mut children = Children::new(lab, "fifo");
        let scheduler = worker(lab, &children);
        ours.push(drop_files(lab, &mut children, &scheduler, many) / many as f64);
        let scheduler = children.scheduler("shell");
        shells.push(drop_files(lab, &mut children, &scheduler, few) / few as f64);
    }
    let micros = |seconds: &[f64]| median(seconds) * 1e6;
    let what = "worker: a task, beside a shell task each";
    report::ratio(what, micros(&ours), micros(&shells), "us", 0.1);
    report::remark("worker: tasks in a second", 1e6 / micros(&ours), "");
}

/// Seconds until all tasks have begun.
fn drop_files(lab: &Lab, children: &mut Children, scheduler: &str, count: usize) -> f64 {
    let (dir, source) = (lab.dir(), lab.dir());
    let daemon = Process::daemon(lab, &watching(dir.path(), scheduler, MAP));
    let name = |number: usize| format!("file-{number}");
    for number in 0..count {
        File::create(source.path().join(name(number))).unwrap();
    }
    let start = Instant::now();
    let mut told = 0;
    for number in 0..count {
        fs::rename(source.path().join(name(number)), dir.path().join(name(number))).unwrap();
        while children.next(Duration::ZERO).is_some() {
            told += 1;
        }
    }
    while told < count {
        assert!(children.next(Duration::from_secs(10)).is_some(), "{told} of {count} tasks ran");
        told += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(daemon);
    seconds
}

/// From rename(2) to the first instruction of the job: in C, and as a Python job, once in the worker and
/// once within pyinotifyd.
fn latency(lab: &Lab) {
    let jobs = lab.folder().join("jobs.py");
    let mut c = Side::new(lab, "fifo-worker");
    let c_daemon = Process::daemon(lab, &watching(c.dir.path(), &worker(lab, &c.children), MAP));
    let mut python = Side::new(lab, "fifo-python");
    fs::write(&jobs, job(&python.children.fifo)).unwrap();
    let helper = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/rinotifyd-py");
    let scheduler = format!("type = worker\ncmd = {helper} {}:job\nstart = eager", jobs.display());
    let python_daemon = Process::daemon(lab, &watching(python.dir.path(), &scheduler, MAP));
    let mut peer = Peer::start(lab);
    for turn in 0..=lab.count(1_000).div_ceil(BLOCK) {
        for side in
            [Some(&mut c), Some(&mut python), peer.as_mut().map(|peer| &mut peer.side)].into_iter().flatten()
        {
            side.block(lab, turn > 0);
        }
    }
    drop((c_daemon, python_daemon));
    report::remark("worker: rename to job, C, p50", percentile(&c.micros, 50), "us");
    let Some(peer) = peer else {
        report::remark("worker: rename to job, Python, p50", percentile(&python.micros, 50), "us");
        println!("pyinotifyd is not there to compare with: make differential installs it");
        return;
    };
    for percent in [50, 99] {
        let what = format!("worker: rename to job, Python, p{percent} (pyinotifyd)");
        let (ours, theirs) = (percentile(&python.micros, percent), percentile(&peer.side.micros, percent));
        report::ratio(&what, ours, theirs, "us", 1.0);
    }
}

/// The same job for both.
fn job(fifo: &Path) -> String {
    format!(
        "import os, struct, time\nFIFO = os.open({:?}, os.O_WRONLY)\n\
         async def job(event, task_id):\n    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)\n    \
         os.write(FIFO, struct.pack(\"QQ\", now, 1))\n",
        fifo.display().to_string()
    )
}

/// Renames in a row on one side, before it is the other's turn.
const BLOCK: usize = 50;

struct Side {
    dir: tempfile::TempDir,
    children: Children,
    micros: Vec<f64>,
}

impl Side {
    fn new(lab: &Lab, fifo: &str) -> Self {
        Self { dir: lab.dir(), children: Children::new(lab, fifo), micros: Vec::new() }
    }

    /// Renames a file a few milliseconds apart, each time after the last job has reported.
    fn block(&mut self, lab: &Lab, counts: bool) {
        let source = lab.folder().join("source");
        for turn in 0..BLOCK {
            File::create(&source).unwrap();
            // Pauses of different lengths, so that the renames coincide with no period of the system.
            std::thread::sleep(Duration::from_micros(3_000 + (turn as u64 * 7_919) % 4_001));
            let before = now_nanos();
            fs::rename(&source, self.dir.path().join("file-1")).unwrap();
            let start = self.children.next(Duration::from_secs(10)).expect("a job for every file");
            #[allow(clippy::cast_precision_loss, reason = "microseconds")]
            if counts {
                self.micros.push(start.nanos.saturating_sub(before) as f64 / 1_000.0);
            }
        }
    }
}

/// pyinotifyd, which runs the job in its own process.
struct Peer {
    side: Side,
    _process: Process,
}

impl Peer {
    fn start(lab: &Lab) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/differential/bin/pyinotifyd");
        if !program.exists() {
            return None;
        }
        let side = Side::new(lab, "fifo-pyinotifyd");
        let path = config(lab, &side);
        let process = Process::peer(&program, &["-c".as_ref(), path.as_os_str()]);
        process.settle();
        Some(Self { side, _process: process })
    }
}

fn config(lab: &Lab, side: &Side) -> PathBuf {
    let path = lab.folder().join("config.py");
    let dir = side.dir.path().display().to_string();
    let rest = format!(
        "pyinotifyd = Pyinotifyd()\npyinotifyd.add_watch(path={dir:?}, \
         event_map={{\"IN_MOVED_TO\": TaskScheduler(job=job, global_vars=globals())}})\n"
    );
    fs::write(&path, job(&side.children.fifo) + &rest).unwrap();
    path
}
