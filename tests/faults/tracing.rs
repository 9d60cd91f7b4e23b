//! One thread of a daemon under strace(1): which system calls it makes, and one of them failed or killed.

use std::collections::HashMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scratch::wait_for;

/// One system call of a thread: its name, and the how many-th of that name since the tracer began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub call: String,
    pub number: usize,
}

/// What happens to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Error(&'static str),
    Kill,
}

/// A step and its fault, as strace takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    pub step: Step,
    pub fault: Fault,
}

impl Injection {
    pub fn expression(&self) -> String {
        let Step { call, number } = &self.step;
        match self.fault {
            Fault::Error(errno) => format!("{call}:error={errno}:when={number}"),
            Fault::Kill => format!("{call}:signal=KILL:when={number}"),
        }
    }
}

/// Calls that concern no file. `ioctl` is FIONREAD of the kernel's queue, which cannot fail; 0x1c4 is
/// `fchmodat2`, which old strace cannot name.
const OTHER_CALLS: [&str; 24] = [
    "brk",
    "clock_gettime",
    "clone",
    "clone3",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "exit",
    "futex",
    "getpid",
    "getrandom",
    "gettid",
    "ioctl",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "syscall_0x1c4",
    "timerfd_settime",
];

/// The errors with which a call may fail. None for a call that reports no error of a filesystem.
///
/// # Panics
///
/// For a call that is not in this table.
pub fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        "openat" | "openat2" => &["EACCES", "EMFILE", "EIO"],
        "mkdirat" | "symlinkat" | "linkat" | "mknodat" | "renameat" | "renameat2" => {
            &["ENOSPC", "EIO", "EACCES"]
        }
        "unlinkat" => &["EIO", "EACCES"],
        "copy_file_range" | "pwrite64" | "ftruncate" | "fallocate" | "fsync" | "syncfs" | "fdatasync" => {
            &["ENOSPC", "EIO"]
        }
        "fchmod" | "fchmodat" | "fchmodat2" | "fchown" | "fchownat" | "utimensat" | "fsetxattr"
        | "fremovexattr" | "removexattr" => &["EIO", "EPERM"],
        "stat" | "fstat" | "newfstatat" | "statx" | "faccessat" | "faccessat2" | "readlinkat"
        | "flistxattr" | "fgetxattr" | "fchdir" | "chdir" => &["EIO", "EACCES"],
        "getdents64" | "lseek" | "pread64" | "statfs" | "fstatfs" => &["EIO"],
        "inotify_add_watch" => &["ENOSPC", "EACCES", "ENOMEM", "EIO"],
        "flock" => &["ENOLCK"],
        "fcntl" => &["ENOMEM"],
        // A failed close(2) closes all the same, which an injected failure does not. The others are reads
        // and writes of the daemon's own descriptors.
        "close" | "read" | "readv" | "socket" | "write" | "writev" | "geteuid" | "getuid"
        | "inotify_rm_watch" | "umask" => &[],
        _ => panic!("which errors has {call}?"),
    }
}

/// Whether all is to be tried. Otherwise some of it.
pub fn is_whole() -> bool {
    std::env::var_os("FAULTS_WHOLE").is_some()
}

/// Every fault of every step; or without [`is_whole`] one of `sample`; or the one that `FAULTS_ONLY` names.
pub fn injections(steps: &[Step], sample: usize) -> Vec<Injection> {
    let mut all = Vec::new();
    for step in steps {
        let errors = errors_of(&step.call).iter().map(|errno| Fault::Error(errno));
        let faults = errors.chain([Fault::Kill]);
        all.extend(faults.map(|fault| Injection { step: step.clone(), fault }));
    }
    if let Some(only) = std::env::var_os("FAULTS_ONLY") {
        all.retain(|injection| only.to_str() == Some(&injection.expression()));
        return all;
    }
    if is_whole() { all } else { all.into_iter().step_by(sample).collect() }
}

/// Tries each, and fails when any has failed. `check` returns whether the fault was met: the calls of two
/// runs are not always the same.
#[track_caller]
pub fn try_all(injections: &[Injection], check: impl Fn(&Injection) -> bool) {
    let (mut met, mut failed) = (0, Vec::new());
    for injection in injections {
        println!("{}", injection.expression());
        match catch_unwind(AssertUnwindSafe(|| check(injection))) {
            Ok(is_met) => met += usize::from(is_met),
            Err(_) => failed.push(injection.expression()),
        }
    }
    println!("{met} of {} faults met", injections.len());
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), injections.len());
    assert!(met * 2 >= injections.len(), "only {met} of {} faults were met", injections.len());
}

/// The steps that concern files, of a trace of one thread. Those before `from` are counted and left out.
pub fn steps(trace: &str, from: Option<&str>) -> Vec<Step> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut steps = Vec::new();
    let mut has_begun = from.is_none();
    for line in trace.lines() {
        let Some((call, _)) = line.split_once('(') else { continue };
        if call.is_empty() || !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let count = counts.entry(call).or_default();
        *count += 1;
        if has_begun && !OTHER_CALLS.contains(&call) {
            steps.push(Step { call: call.to_owned(), number: *count });
        }
        has_begun |= Some(call) == from;
    }
    steps
}

/// strace on one thread of a daemon.
pub struct Tracer {
    child: Child,
    output: PathBuf,
}

impl Tracer {
    /// Traces a thread, and injects a fault.
    pub fn attach(thread: Pid, output: PathBuf, injection: Option<&Injection>) -> Self {
        let mut command = Command::new("strace");
        command.args(["-qq", "-o"]).arg(&output).args(["-p", &thread.to_string()]);
        if let Some(injection) = injection {
            command.args(["-e", &format!("inject={}", injection.expression())]);
        }
        let child = command.spawn().unwrap();
        // What the thread waits in is written once it is traced.
        wait_for(|| fs::metadata(&output).is_ok_and(|found| found.len() > 0) || is_gone(thread), "a tracer");
        Self { child, output }
    }

    /// Ends it, and returns what it has seen.
    pub fn detach(mut self) -> String {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        self.child.wait().unwrap();
        fs::read_to_string(&self.output).unwrap()
    }
}

fn is_gone(thread: Pid) -> bool {
    !Path::new(&format!("/proc/{thread}")).exists()
}
