//! The programs that are measured: started, asked, ended; and what `/proc` says about them.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;

/// A wait that takes longer has failed.
pub const DEADLINE: Duration = Duration::from_secs(120);

const QUEUE: &str = "/proc/sys/fs/inotify/max_queued_events";

/// Inotify instances that are made while this lives have a shorter queue. The limit has its old value
/// again when it is dropped.
pub struct ShortQueue(String);

impl ShortQueue {
    /// Nothing unless root runs this.
    pub fn new(events: usize) -> Option<Self> {
        let old = Self(fs::read_to_string(QUEUE).unwrap());
        fs::write(QUEUE, events.to_string()).is_ok().then_some(old)
    }
}

impl Drop for ShortQueue {
    fn drop(&mut self) {
        // Without the right to it, nothing was changed either.
        drop(fs::write(QUEUE, &self.0));
    }
}

/// Numbers the configuration files, so that two daemons never share one.
static DAEMONS: AtomicUsize = AtomicUsize::new(0);

/// A program under measurement.
pub struct Process {
    child: Child,
    lines: Receiver<(Instant, String)>,
    /// A daemon's configuration file; empty for other programs.
    config: PathBuf,
}

impl Process {
    fn start(mut command: Command, to_output: bool) -> Self {
        command.stdin(Stdio::null());
        let output = if to_output { Stdio::piped() } else { Stdio::null() };
        let errors = if to_output { Stdio::inherit() } else { Stdio::piped() };
        let mut child = command.stdout(output).stderr(errors).spawn().unwrap();
        let stream: Box<dyn Read + Send> = match (child.stdout.take(), child.stderr.take()) {
            (Some(output), _) => Box::new(output),
            (None, Some(errors)) => Box::new(errors),
            (None, None) => unreachable!("one of them is a pipe"),
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                // The receiver may be gone: read on, so that the writer never waits.
                let _ = sender.send((Instant::now(), line));
            }
        });
        Self { child, lines, config: PathBuf::new() }
    }

    /// Starts the daemon and waits until it watches. The log holds warnings, and what the daemon
    /// says about itself.
    pub fn daemon(lab: &Lab, config: &str) -> Self {
        Self::daemon_timed(lab, config).0
    }

    /// As [`Process::daemon`], but does not wait. Each daemon has a configuration file and a control
    /// socket of its own.
    pub fn starting(lab: &Lab, config: &str) -> Self {
        let number = DAEMONS.fetch_add(1, Ordering::Relaxed);
        let path = lab.folder().join(format!("rinotifyd-{number}.conf"));
        write_config(&path, config);
        let mut command = Command::new(&lab.binary);
        command.arg("-c").arg(&path);
        let mut process = Self::start(command, false);
        process.config = path;
        process
    }

    /// Gives the daemon another configuration.
    pub fn reload(&self, config: &str) {
        write_config(&self.config, config);
        self.signal(Signal::SIGHUP);
    }

    /// As [`Process::daemon`]; tells how long it took as well.
    pub fn daemon_timed(lab: &Lab, config: &str) -> (Self, Duration) {
        let start = Instant::now();
        let process = Self::starting(lab, config);
        let (ready, _) = process.wait_line(is_ready);
        (process, ready - start)
    }

    /// Starts another daemon, and does not wait for it.
    pub fn peer(program: &Path, args: &[&std::ffi::OsStr]) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        Self::start(command, false)
    }

    /// Starts a C program and waits until it watches.
    pub fn program(lab: &Lab, name: &str, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Self {
        let mut command = Command::new(lab.program(name));
        command.args(args.iter().map(|arg| arg.as_ref()));
        let process = Self::start(command, true);
        process.wait_line(|line| line == "ready");
        process
    }

    /// What it has said since the last time, and when.
    pub fn lines_so_far(&self) -> Vec<(Instant, String)> {
        self.lines.try_iter().collect()
    }

    /// The paths of the events that it has told of in the log.
    pub fn told(&self) -> Vec<String> {
        let lines = self.lines_so_far().into_iter();
        let events = lines.filter(|(_, line)| line.contains(": event event="));
        events.filter_map(|(_, line)| Some(line.split_once(" path=")?.1.to_owned())).collect()
    }

    fn wait_line(&self, wanted: impl Fn(&str) -> bool) -> (Instant, String) {
        self.wait_line_for(DEADLINE, wanted)
            .unwrap_or_else(|| panic!("it wrote no such line in {DEADLINE:?}"))
    }

    /// The next line that is wanted and when it came, unless none comes in this time.
    fn wait_line_for(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<(Instant, String)> {
        let end = Instant::now() + limit;
        let mut others = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok((at, line)) if wanted(&line) => return Some((at, line)),
                Ok((_, line)) => others.push(line),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("it has ended: {}", others.join("\n")),
            }
        }
    }

    /// Waits until a daemon of [`Process::starting`] watches everything; false if that takes longer.
    pub fn wait_ready(&self, limit: Duration) -> bool {
        self.wait_line_for(limit, is_ready).is_some()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// The numbers of the daemon's status.
    pub fn status(&self) -> HashMap<String, u64> {
        while self.lines.try_recv().is_ok() {}
        self.signal(Signal::SIGUSR1);
        let (_, line) = self.wait_line(|line| line.contains(" overflows="));
        let numbers = line.split_whitespace().filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        numbers.collect()
    }

    /// Waits until the daemon's status is as wanted.
    pub fn wait_status(&self, wanted: impl Fn(&HashMap<String, u64>) -> bool) {
        wait(|| wanted(&self.status()), Duration::from_millis(100));
    }

    /// Waits until it has used no processor for a fifth of a second.
    pub fn settle(&self) {
        assert!(self.settle_within(DEADLINE), "it still works after {DEADLINE:?}");
    }

    /// As [`Process::settle`]; false if that takes longer.
    pub fn settle_within(&self, limit: Duration) -> bool {
        let mut before = self.cpu_micros();
        let is_idle = || {
            let now = self.cpu_micros();
            std::mem::replace(&mut before, now) + 50.0 > now
        };
        wait_within(is_idle, Duration::from_millis(200), limit)
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A number of `/proc/PID/status`.
    pub fn proc_status(&self, name: &str) -> f64 {
        field(&self.proc("status"), name)
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> f64 {
        self.proc_status("VmRSS")
    }

    /// Resident memory in KiB that no file backs: heap, stacks and changed data.
    pub fn anonymous_kib(&self) -> f64 {
        field(&self.proc("smaps_rollup"), "Anonymous")
    }

    /// Processor time of all threads, in user and kernel.
    pub fn cpu_micros(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.flatten().map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).unwrap_or_default()
        });
        nanos.sum::<f64>() / 1_000.0
    }

    /// Whether it sleeps: 2 when it went to sleep and was woken up once more.
    pub fn switches(&self) -> f64 {
        self.proc_status("voluntary_ctxt_switches") + self.proc_status("nonvoluntary_ctxt_switches")
    }

    /// The mask of the last watch, in hexadecimal: that of the deepest directory.
    pub fn watch_mask(&self) -> String {
        let folder = format!("/proc/{}/fdinfo", self.child.id());
        let mut last = None;
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with("inotify ")) {
                let number = |name: &str| {
                    let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
                    u32::from_str_radix(word.unwrap_or("0"), 16).unwrap()
                };
                last = last.max(Some((number("wd:"), number("mask:"))));
            }
        }
        let mut mask = String::new();
        write!(mask, "{:x}", last.expect("it watches something").1).unwrap();
        mask
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

/// Whether the daemon says in this line that it watches everything.
fn is_ready(line: &str) -> bool {
    line.split_whitespace().any(|word| word == "ready")
}

/// Adds to a configuration what every daemon here needs: levels of the log, and a control socket
/// beside the file. A `[daemon]` section stands first in `config`, if there is one.
fn write_config(path: &Path, config: &str) {
    let rest = config.strip_prefix("[daemon]\n").unwrap_or(config);
    let daemon = format!("[daemon]\ncontrol = {}\n", path.with_extension("sock").display());
    let (keys, sections) = if rest.len() < config.len() {
        rest.find("\n[").map_or((rest, ""), |at| rest.split_at(at + 1))
    } else {
        ("", rest)
    };
    let log = "[log]\nlevel = warning\n[log daemon]\nlevel = info\n";
    fs::write(path, [&daemon, keys, log, sections].concat()).unwrap();
}

/// Waits until a condition holds.
pub fn wait(condition: impl FnMut() -> bool, pause: Duration) {
    assert!(wait_within(condition, pause, DEADLINE), "the condition does not hold after {DEADLINE:?}");
}

/// As [`wait`]; false if that takes longer than `limit`.
pub fn wait_within(mut condition: impl FnMut() -> bool, pause: Duration, limit: Duration) -> bool {
    let start = Instant::now();
    loop {
        thread::sleep(pause);
        if condition() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
    }
}

/// The part of a configuration that watches everything below `dir`. `sections` has a scheduler,
/// `map` the lines of an event map.
pub fn watching(dir: &Path, scheduler: &str, map: &str) -> String {
    let dir = dir.display();
    format!(
        "[scheduler job]\n{scheduler}\n[event_map map]\n{map}\n\
         [watch all]\npath = {dir}\nevent_map = map\nrec = yes\nauto_add = yes\n"
    )
}

/// A scheduler that takes events about directories only, so that those about files start nothing.
pub const NOTHING: &str = "type = exec\ncmd = /bin/true\nfiles = no\ndirs = yes\ndelay = 1h";
