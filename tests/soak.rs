//! Everything at once: users who attack, random changes, reloads, kills of workers and of the daemon, and
//! clients of the control socket. In the end no file of honest users is lost, and the daemon needs no more
//! memory and no more descriptors than before.
//!
//! `make soak SECONDS=3600` does it for as long as that. The threads race, so no two runs are the same.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use scratch::{Daemon, Scratch, field};

#[path = "it/scratch.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use the rest")]
mod scratch;

/// Between two files of an honest user.
const HONEST_PAUSE: Duration = Duration::from_millis(10);

/// Between two steps of an attack: the tests beside this one want the processor too.
const ATTACK_PAUSE: Duration = Duration::from_micros(300);

/// Between two reloads, and between two kills of a worker.
const RELOAD_PAUSE: Duration = Duration::from_millis(150);
const KILL_PAUSE: Duration = Duration::from_millis(700);

/// What resident memory may vary by, in KiB, whatever the daemon does: pages that the allocator keeps.
const RSS_NOISE: u64 = 1024;

/// Notes the names of files, and answers.
const WORKER: &str =
    "while read -r id event kind path src; do echo \"${path##*/}\" >>@/ran; echo \"$id ok\"; done\n";

/// The configuration; each of the two differs from the other in what a reload may change.
fn config(second: bool) -> String {
    let (delay, more) = if second {
        ("20ms", "exclude_filter = .*/left-out$\n[log wild]\nlevel = error\n")
    } else {
        ("50ms", "")
    };
    format!(
        "[daemon]\nmax_jobs = 4\n[log]\nlevel = critical\n[log daemon]\nlevel = info\n\
         [scheduler note]\ntype = worker\ncmd = /bin/sh @/worker\nstart = eager\n\
         [scheduler move]\ntype = files\nrules = all\n\
         [rule all]\naction = move\nsrc_re = ^@/in/(.*)$\ndst_re = @/out/\\1\n\
         [scheduler wild]\ntype = exec\ncmd = /bin/true {{pathname}}\ndelay = {delay}\nmax_jobs = 2\n\
         [event_map note]\nIN_MOVED_TO = note\nIN_CLOSE_WRITE = note\n\
         [event_map move]\nIN_MOVED_TO = move\nIN_CLOSE_WRITE = move\n\
         [event_map wild]\nIN_CLOSE_WRITE = wild\nIN_MOVED_TO = wild\nIN_ATTRIB = wild\n\
         IN_DELETE = cancel:wild\nIN_MOVED_FROM = cancel:wild\n\
         [watch note]\npath = @/jobs\nevent_map = note\ncatch_up = all\n\
         [watch move]\npath = @/in\nevent_map = move\ncatch_up = all\n\
         [watch wild]\npath = @/wild\nevent_map = wild\nrec = yes\nauto_add = yes\n{more}"
    )
}

/// What the threads share.
struct Soak {
    top: PathBuf,
    socket: PathBuf,
    ends: AtomicBool,
    /// How many files the honest users have made, each with its number as name.
    made: AtomicUsize,
}

impl Soak {
    /// Repeats something until the end.
    #[allow(clippy::disallowed_methods, reason = "how fast it repeats does not matter")]
    fn repeat(&self, pause: Duration, mut step: impl FnMut(usize)) {
        for round in 0.. {
            if self.ends.load(Ordering::Relaxed) {
                return;
            }
            step(round);
            thread::sleep(pause);
        }
    }

    /// Files that must not be lost: one for the worker, one to be moved.
    fn honest_user(&self) {
        self.repeat(HONEST_PAUSE, |_| {
            let number = self.made.load(Ordering::Relaxed);
            for folder in ["jobs", "in"] {
                let new = self.top.join("new");
                fs::write(&new, number.to_string()).unwrap();
                fs::rename(new, self.top.join(folder).join(number.to_string())).unwrap();
            }
            self.made.store(number + 1, Ordering::Relaxed);
        });
    }

    /// Names of the attackers: few, so that they come again, and none that is harmless.
    fn name(&self, attacker: usize, round: usize) -> PathBuf {
        const NAMES: [&str; 5] = ["a", "left-out", "$(touch x)", "new\nline", "-rf \u{1b}[2J"];
        self.top.join(format!("wild/{attacker}")).join(NAMES[round % NAMES.len()])
    }

    /// Chains of directories, made and removed, and renamed to and fro while they are full.
    fn directories(&self) {
        self.repeat(ATTACK_PAUSE, |round| {
            let top = self.name(0, round);
            drop(fs::create_dir_all(top.join("b/c/d/e")));
            drop(fs::write(top.join("b/c/file"), "x"));
            let (from, to) = (self.name(0, round / 3), self.name(0, round / 2));
            drop(fs::rename(&from, &to));
            drop(fs::rename(&to, self.top.join("outside/away")));
            drop(fs::rename(self.top.join("outside/away"), &from));
            if round.is_multiple_of(7) {
                drop(fs::remove_dir_all(self.name(0, round / 7)));
            }
        });
    }

    /// Files that are there for a moment.
    fn files(&self) {
        self.repeat(ATTACK_PAUSE, |round| {
            let path = self.name(1, round);
            drop(fs::write(&path, "x"));
            drop(fs::rename(&path, self.name(1, round + 1)));
            drop(fs::remove_file(self.name(1, round + 1)));
        });
    }

    /// What is no file: FIFOs, links to what is not the attacker's, links in a circle.
    fn no_files(&self) {
        self.repeat(ATTACK_PAUSE, |round| {
            let path = self.name(2, round);
            match round % 3 {
                0 => drop(mkfifo(&path, Mode::S_IRWXU)),
                1 => drop(symlink("/etc", &path)),
                _ => drop(symlink("..", &path)),
            }
            drop(fs::rename(&path, self.name(2, round + 2)));
            drop(fs::remove_file(self.name(2, round + 2)));
        });
    }

    /// Requests that are answered, and connections that are none.
    fn clients(&self) {
        let mut silent = Vec::new();
        self.repeat(Duration::from_millis(20), |round| {
            let Ok(mut stream) = UnixStream::connect(&self.socket) else { return };
            drop(stream.set_read_timeout(Some(Duration::from_secs(5))));
            match round % 5 {
                0 => silent.push(stream),
                1 => drop(stream.write_all(&[0xff; 2_000])),
                number => {
                    let request: &[u8] = [b"status\n".as_slice(), b"tasks\n", b"watches\n"][number - 2];
                    drop(stream.write_all(request));
                    drop(stream.read_to_end(&mut Vec::new()));
                }
            }
            if silent.len() > 3 {
                silent.clear();
            }
        });
    }

    /// What the administrator does: reloads; and what goes wrong: a child of the daemon is killed.
    #[allow(clippy::disallowed_methods, reason = "a stopwatch for what is done from time to time")]
    fn administrator(&self, scratch: &Scratch, daemon: &Daemon) {
        let mut killed = Instant::now();
        self.repeat(RELOAD_PAUSE, |round| {
            scratch.config(&config(round.is_multiple_of(2)));
            daemon.signal(Signal::SIGHUP);
            if killed.elapsed() > KILL_PAUSE {
                killed = Instant::now();
                if let Some(child) = children(daemon).first() {
                    let _ = kill(*child, Signal::SIGKILL);
                }
            }
        });
    }

    /// All of it for this time; then perhaps the daemon is killed, while the others continue for a moment.
    #[allow(clippy::disallowed_methods, reason = "it goes on for a time that the user chose")]
    fn run(&self, scratch: &Scratch, daemon: &Daemon, time: Duration, kills: bool) {
        self.ends.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| self.honest_user());
            scope.spawn(|| self.directories());
            scope.spawn(|| self.files());
            scope.spawn(|| self.no_files());
            scope.spawn(|| self.clients());
            scope.spawn(|| self.administrator(scratch, daemon));
            thread::sleep(time);
            if kills {
                daemon.signal(Signal::SIGKILL);
                thread::sleep(HONEST_PAUSE * 10);
            }
            self.ends.store(true, Ordering::Relaxed);
        });
    }
}

/// The daemon's children; the worker is older than the commands.
fn children(daemon: &Daemon) -> Vec<Pid> {
    let pid = daemon.pid();
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|word| Pid::from_raw(word.parse().unwrap())).collect()
}

/// What the daemon holds when it has nothing to do: resident KiB and descriptors.
fn held(scratch: &Scratch, daemon: &mut Daemon) -> (u64, usize) {
    daemon.reload(scratch, &config(false));
    daemon.wait_status(" to_visit=0 waiting=0 ready=0 running=0 ");
    let pid = daemon.pid();
    let descriptors = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    // Connections that a client closed, and the worker that was killed last.
    let mut last = 0;
    daemon.wait_for(
        || {
            let now = descriptors();
            std::mem::replace(&mut last, now) == now
        },
        "descriptors that stay",
    );
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (rss.split_whitespace().next().unwrap().parse().unwrap(), last)
}

fn seconds() -> u64 {
    std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[test]
fn nothing_is_lost_and_nothing_grows_whatever_happens_at_once() {
    let scratch = Scratch::new();
    for dir in ["jobs", "in", "out", "outside", "wild/0", "wild/1", "wild/2"] {
        scratch.dir(dir);
    }
    scratch.write("worker", scratch.expand(WORKER));
    let soak = Soak {
        top: scratch.path(""),
        socket: scratch.path("control.sock"),
        ends: AtomicBool::new(false),
        made: AtomicUsize::new(0),
    };
    let time = Duration::from_secs(seconds()) / 6;
    for _ in 0..2 {
        let daemon = Daemon::start_ready(&scratch, &config(false), &[]);
        soak.run(&scratch, &daemon, time, true);
    }
    let mut daemon = Daemon::start_ready(&scratch, &config(false), &[]);
    soak.run(&scratch, &daemon, time * 2, false);
    let (rss_before, descriptors_before) = held(&scratch, &mut daemon);
    soak.run(&scratch, &daemon, time * 2, false);
    let (rss, descriptors) = held(&scratch, &mut daemon);
    check_files(&scratch, &mut daemon, soak.made.load(Ordering::Relaxed));
    let status = daemon.status();
    eprintln!(
        "{} files, {} events, {} overflows, {rss_before} to {rss} KiB, {descriptors} descriptors",
        soak.made.load(Ordering::Relaxed),
        field(&status, "events"),
        field(&status, "overflows"),
    );
    assert_eq!(descriptors, descriptors_before, "descriptors");
    assert!(rss <= rss_before + rss_before / 10 + RSS_NOISE, "{rss_before} KiB became {rss} KiB");
    let log = daemon.stop();
    assert!(!log.contains("panicked"), "{log}");
}

/// Each file has been noted by a worker and was moved with its content.
fn check_files(scratch: &Scratch, daemon: &mut Daemon, made: usize) {
    daemon.wait_for(|| is_empty(&scratch.path("in")), "an empty directory `in`");
    let noted: std::collections::HashSet<String> = scratch.lines("ran").into_iter().collect();
    for number in (0..made).map(|number| number.to_string()) {
        assert_eq!(scratch.read(format!("out/{number}")), number, "the file that was moved");
        assert!(noted.contains(&number), "no worker has noted {number}");
    }
    assert_eq!(fs::read_dir(scratch.path("out")).unwrap().count(), made, "nothing else is left there");
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}
