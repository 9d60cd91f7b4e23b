//! Starting a program.
//!
//! The child shares the daemon's memory until it executes the program, and the daemon's thread
//! stands still meanwhile (`clone(2)`, CLONE_VM and CLONE_VFORK): no page table is copied, so the
//! cost does not grow with the daemon, and errors come back through memory. This is how musl
//! (`src/process/posix_spawn.c`) and glibc (`sysdeps/unix/sysv/linux/spawni.c`) do `posix_spawn`,
//! which itself cannot set user, groups, umask or nice value.
//!
//! What makes it correct:
//!
//! - The child has a stack of its own, so that it cannot destroy frames of the parent.
//! - All signals are blocked before, so that no handler of the parent runs in the child; the child
//!   sets every disposition to its default before it unblocks them.
//! - The child makes system calls and nothing else: no allocation, no lock, no panic. User and
//!   groups are set by raw system calls, because the C library's functions make every thread of
//!   the process do the same (`nptl(7)`), and the child sees its parent's threads.
//! - The kernel makes memory undumpable when its owner changes user (`prctl(2)`, PR_SET_DUMPABLE),
//!   so the new user cannot trace the child while it still shares the daemon's memory.
//!
//! An emulator of user programs (qemu-user) forks instead and does not wait: there, and only there,
//! a failure comes as exit status 127, as from a shell.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::{self, NonNull};

use super::Errno;
use super::process::{Pid, wait_for};
use crate::types::Identity;

/// What to start, and in which surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// Paths of the program, tried in order as `execvp(3)` does: one that does not exist or may not
    /// be executed leaves it to the next.
    pub candidates: &'a [CString],
    /// The arguments, from `argv[0]` on.
    pub argv: &'a [CString],
    /// The whole environment, as `NAME=value`.
    pub env: &'a [CString],
    /// Working directory; entered as the child's user.
    pub cwd: &'a CStr,
    /// File mode creation mask; inherited when `None`.
    pub umask: Option<u32>,
    /// Added to the daemon's nice value; the kernel keeps the sum within -20 and 19.
    pub nice: i32,
    /// Who to run as; the daemon's own user when `None`.
    pub identity: Option<&'a Identity>,
    /// Standard input; inherited when `None`, as are the two others.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error.
    pub stderr: Option<BorrowedFd<'a>>,
}

/// Why a program did not start. No child is left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnError {
    /// Which system call failed.
    pub step: &'static str,
    /// Why: from `execve` ENOENT, EACCES, ENOEXEC (no `#!` line and not a binary), E2BIG and
    /// others; from `clone` EAGAIN and ENOMEM.
    pub errno: Errno,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} ({})", self.step, self.errno, self.errno.desc())
    }
}

impl std::error::Error for SpawnError {}

/// Starts programs, one after the other, on one stack that is kept.
#[derive(Debug)]
pub struct Spawner {
    stack: Stack,
}

impl Spawner {
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        Stack::new().map(|stack| Self { stack })
    }

    /// Starts a program and returns as soon as it runs, or could not. The child leads a session
    /// and a process group of its own, and has default signal dispositions and an empty signal mask.
    ///
    /// # Errors
    /// The step that failed, and why. ENOENT from `execve` when there are no candidates.
    pub fn spawn(&mut self, spawn: &Spawn<'_>) -> Result<Pid, SpawnError> {
        let argv = pointers(spawn.argv);
        let env = pointers(spawn.env);
        let mut job = Job { spawn, argv: &argv, env: &env, failure: None };
        let job = &raw mut job;
        let blocked = SignalsBlocked::new();
        // SAFETY: `run_child` gets the stack's top and a job that outlives it: the parent resumes
        // only when the child has executed or ended, CLONE_VFORK (clone(2)).
        let pid = unsafe { libc::clone(run_child, self.stack.top(), CLONE_FLAGS, job.cast()) };
        let cloned = Errno::result(pid);
        drop(blocked);
        let pid = cloned.map_err(|errno| SpawnError { step: "clone", errno })?;
        // SAFETY: the child has ended or has memory of its own now, so nobody writes; the read is
        // volatile because the compiler has not seen the child write.
        let failure = unsafe { ptr::read_volatile(&raw const (*job).failure) };
        let pid = Pid::from_raw(pid).ok_or(SpawnError { step: "clone", errno: Errno::ECHILD })?;
        let Some(failure) = failure else { return Ok(pid) };
        // It has ended; if somebody else reaped it, it is gone as well.
        let _ = wait_for(pid);
        Err(SpawnError { step: failure.step, errno: Errno::from_raw(failure.errno) })
    }
}

const CLONE_FLAGS: c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;

/// Null-terminated, as `execve(2)` wants.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The child's stack. Its deepest call is a few frames of small functions; unoptimised code and
/// the C library's `syscall` stay far below this.
const STACK_SIZE: usize = 64 * 1024;

/// Below the stack, at least one page on every architecture here (aarch64 has up to 64 KiB).
const GUARD_SIZE: usize = 64 * 1024;

#[derive(Debug)]
struct Stack {
    base: NonNull<c_void>,
}

// SAFETY: the mapping belongs to this value alone and no thread has a claim on it (mmap(2)).
unsafe impl Send for Stack {}

impl Stack {
    fn new() -> Result<Self, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let size = GUARD_SIZE + STACK_SIZE;
        // SAFETY: a new anonymous mapping, at no fixed address, disturbs no other (mmap(2)).
        let base = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        let base = NonNull::new(base).filter(|base| base.as_ptr() != libc::MAP_FAILED);
        let stack = Self { base: base.ok_or_else(Errno::last)? };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: these pages are within the mapping just made and nobody uses them (mprotect(2)).
        let outcome = unsafe { libc::mprotect(stack.at(GUARD_SIZE), STACK_SIZE, protection) };
        Errno::result(outcome)?;
        Ok(stack)
    }

    /// Stacks grow downwards on every architecture here. Page-aligned, hence aligned for calls.
    fn top(&mut self) -> *mut c_void {
        self.at(GUARD_SIZE + STACK_SIZE)
    }

    fn at(&self, offset: usize) -> *mut c_void {
        self.base.as_ptr().wrapping_byte_add(offset)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and no child is on it, because `spawn` returns
        // only after the child has left (munmap(2)).
        let _ = unsafe { libc::munmap(self.base.as_ptr(), GUARD_SIZE + STACK_SIZE) };
    }
}

/// The kernel's signal set, 64 signals on every architecture here.
type KernelSigSet = u64;

/// Blocks every signal of this thread, those that the C library keeps to itself included, which
/// is why it is not `sigprocmask(3)`.
struct SignalsBlocked(KernelSigSet);

impl SignalsBlocked {
    fn new() -> Self {
        let mut before = 0;
        // SAFETY: both sets are valid for the call (rt_sigprocmask(2)).
        let _ = unsafe { set_signal_mask(&KernelSigSet::MAX, &raw mut before) };
        Self(before)
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the new set is valid, the old one not wanted (rt_sigprocmask(2)).
        let _ = unsafe { set_signal_mask(&self.0, ptr::null_mut()) };
    }
}

/// # Safety
/// `before` is null or valid for writing.
unsafe fn set_signal_mask(mask: &KernelSigSet, before: *mut KernelSigSet) -> c_long {
    let mask = ptr::from_ref(mask);
    // SAFETY: the kernel reads and writes sets of the size given, as the caller promises
    // (rt_sigprocmask(2)).
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, mask, before, size_of::<KernelSigSet>())
    }
}

/// What parent and child share.
struct Job<'a> {
    spawn: &'a Spawn<'a>,
    argv: &'a [*const c_char],
    env: &'a [*const c_char],
    failure: Option<Failure>,
}

#[derive(Clone, Copy)]
struct Failure {
    step: &'static str,
    errno: i32,
}

/// The child. From here to the end of the file only system calls.
extern "C" fn run_child(job: *mut c_void) -> c_int {
    let job: *mut Job<'_> = job.cast();
    // SAFETY: `spawn` passes a valid job and does not touch it before this process has left
    // (clone(2), CLONE_VFORK).
    let job = unsafe { &mut *job };
    if let Err(failure) = become_program(job) {
        job.failure = Some(failure);
    }
    // SAFETY: ends this process only, without running what the parent registered (_exit(2)).
    unsafe { libc::_exit(127) }
}

/// Returns only on failure.
fn become_program(job: &Job<'_>) -> Result<(), Failure> {
    let spawn = job.spawn;
    reset_dispositions();
    // A group of its own, and without a terminal: the child of another user could type into the one
    // that the daemon was started from (TIOCSTI, ioctl_tty(2)).
    call("setsid", libc::SYS_setsid, [0, 0, 0])?;
    move_descriptors([spawn.stdin, spawn.stdout, spawn.stderr])?;
    change_nice(spawn.nice)?;
    if let Some(umask) = spawn.umask {
        call("umask", libc::SYS_umask, [umask as usize, 0, 0])?;
    }
    if let Some(identity) = spawn.identity {
        change_identity(identity)?;
    }
    call("chdir", libc::SYS_chdir, [spawn.cwd.as_ptr().expose_provenance(), 0, 0])?;
    // SAFETY: the new set is valid, the old one not wanted (rt_sigprocmask(2)).
    let outcome = unsafe { set_signal_mask(&0, ptr::null_mut()) };
    check("rt_sigprocmask", outcome)?;
    execute(job)
}

/// Ignored signals stay ignored across execve(2), and Rust ignores SIGPIPE: `yes | head` in a
/// shell would not end. Caught ones must not run their handlers here.
fn reset_dispositions() {
    /// SIG_DFL, no flags, no restorer, an empty mask: all zero in every layout of the kernel's
    /// `struct sigaction`, which has at most 32 bytes here.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=KernelSigSet::BITS {
        let (action, before) = (DEFAULT.as_ptr(), ptr::null_mut::<c_void>());
        // SAFETY: the action is larger than the kernel reads (rt_sigaction(2)). SIGKILL and SIGSTOP
        // give EINVAL, which is as good.
        let _ = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, action, before, size_of::<KernelSigSet>())
        };
    }
}

/// Puts the descriptors at 0, 1 and 2, without close-on-exec. One that is itself among these is
/// moved out of the way first, so that any permutation works.
fn move_descriptors(given: [Option<BorrowedFd<'_>>; 3]) -> Result<(), Failure> {
    let mut sources = given.map(|fd| fd.map(|fd| fd.as_raw_fd()));
    for source in sources.iter_mut().flatten() {
        if *source <= libc::STDERR_FILENO {
            let above = libc::STDERR_FILENO + 1;
            *source = fcntl("fcntl", *source, libc::F_DUPFD_CLOEXEC, above)?;
        }
    }
    for (source, target) in sources.into_iter().zip(libc::STDIN_FILENO..) {
        if let Some(source) = source {
            // dup3, because aarch64 has no dup2; they differ for equal descriptors only.
            call(
                "dup3",
                libc::SYS_dup3,
                [source.unsigned_abs() as usize, target.unsigned_abs() as usize, 0],
            )?;
        }
    }
    Ok(())
}

fn fcntl(step: &'static str, fd: RawFd, command: c_int, argument: c_int) -> Result<RawFd, Failure> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and touches no memory (fcntl(2)).
    let outcome = unsafe { libc::fcntl(fd, command, argument) };
    check(step, c_long::from(outcome))?;
    Ok(outcome)
}

fn change_nice(increment: i32) -> Result<(), Failure> {
    if increment == 0 {
        return Ok(());
    }
    // SAFETY: no memory is touched (getpriority(2)).
    let outcome = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    check("getpriority", outcome)?;
    // The system call itself returns 20 - nice, so as not to return what looks like an error.
    let nice = c_long::from(increment).saturating_add(20).saturating_sub(outcome).clamp(-20, 19);
    // SAFETY: no memory is touched (setpriority(2)).
    let outcome = unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice) };
    check("setpriority", outcome)
}

/// The calls with 32-bit ids: on ARM the plain names are those with 16 bits (setresuid(2)).
#[cfg(target_arch = "arm")]
mod ids {
    pub(super) use libc::{
        SYS_setgroups32 as SYS_setgroups, SYS_setresgid32 as SYS_setresgid, SYS_setresuid32 as SYS_setresuid,
    };
}
#[cfg(not(target_arch = "arm"))]
mod ids {
    pub(super) use libc::{SYS_setgroups, SYS_setresgid, SYS_setresuid};
}

/// Groups first: without root there is no right to set them.
fn change_identity(identity: &Identity) -> Result<(), Failure> {
    let (count, groups) = (identity.groups.len(), identity.groups.as_ptr());
    let (uid, gid) = (identity.uid as usize, identity.gid as usize);
    call("setgroups", ids::SYS_setgroups, [count, groups.expose_provenance(), 0])?;
    call("setresgid", ids::SYS_setresgid, [gid; 3])?;
    call("setresuid", ids::SYS_setresuid, [uid; 3])
}

/// Tries every candidate; returns only when all have failed, or one in a way that ends the search.
fn execute(job: &Job<'_>) -> Result<(), Failure> {
    let mut worst = libc::ENOENT;
    for candidate in job.spawn.candidates {
        let arguments = [
            candidate.as_ptr().expose_provenance(),
            job.argv.as_ptr().expose_provenance(),
            job.env.as_ptr().expose_provenance(),
        ];
        let Err(failure) = call("execve", libc::SYS_execve, arguments) else { continue };
        match failure.errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => worst = libc::EACCES,
            _ => return Err(failure),
        }
    }
    Err(Failure { step: "execve", errno: worst })
}

/// A system call whose arguments are integers, or addresses of what the job keeps alive.
fn call(step: &'static str, number: c_long, arguments: [usize; 3]) -> Result<(), Failure> {
    let [first, second, third] = arguments;
    // SAFETY: the callers pass only calls that read memory, from addresses of NUL-terminated
    // strings, null-terminated arrays and slices that live in the job (syscall(2)).
    check(step, unsafe { libc::syscall(number, first, second, third) })
}

fn check(step: &'static str, outcome: c_long) -> Result<(), Failure> {
    if outcome == -1 { Err(Failure { step, errno: Errno::last_raw() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::sys::process::{Sig, close_on_exec_from, dev_null, signal_group};
    use crate::sys::tests::alone;
    use crate::types::ExitStatus;

    fn c(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    fn path(path: &Path) -> CString {
        CString::new(path.as_os_str().as_bytes()).unwrap()
    }

    /// Whether an emulator makes the child a copy, so that failures come as exit status 127.
    fn emulated() -> bool {
        let shell = Shell::new("true");
        let spawned = Spawner::new().unwrap().spawn(&Spawn { cwd: c"/none", ..shell.spawn(PLAIN) });
        if let Ok(pid) = spawned {
            assert_eq!(wait(pid), ExitStatus::Exited(127));
            eprintln!("memory is not shared with children here: failures are not tested");
        }
        spawned.is_ok()
    }

    fn wait(pid: Pid) -> ExitStatus {
        let (reaped, status) = wait_for(pid).unwrap().unwrap();
        assert_eq!(reaped, pid);
        status
    }

    /// Nothing to start, in surroundings with nothing special about them.
    const PLAIN: Spawn<'static> = Spawn {
        candidates: &[],
        argv: &[],
        env: &[],
        cwd: c"/",
        umask: None,
        nice: 0,
        identity: None,
        stdin: None,
        stdout: None,
        stderr: None,
    };

    /// A shell command.
    struct Shell {
        candidates: [CString; 1],
        argv: [CString; 3],
        env: [CString; 2],
    }

    impl Shell {
        fn new(command: &str) -> Self {
            Self {
                candidates: [c("/bin/sh")],
                argv: [c("sh"), c("-c"), c(command)],
                env: [c("PATH=/usr/bin:/bin"), c("X=a b")],
            }
        }

        fn spawn<'a>(&'a self, surroundings: Spawn<'a>) -> Spawn<'a> {
            Spawn { candidates: &self.candidates, argv: &self.argv, env: &self.env, ..surroundings }
        }
    }

    /// What the command prints in these surroundings.
    fn output(command: &str, surroundings: Spawn<'_>) -> String {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let null = dev_null().unwrap();
        let shell = Shell::new(command);
        let spawn = Spawn {
            stdin: Some(null.as_fd()),
            stdout: Some(write.as_fd()),
            stderr: Some(write.as_fd()),
            ..shell.spawn(surroundings)
        };
        let pid = Spawner::new().unwrap().spawn(&spawn).unwrap();
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(wait(pid), ExitStatus::Exited(0), "{text}");
        text
    }

    fn check(command: &str, surroundings: Spawn<'_>, expected: &str) {
        assert_eq!(output(command, surroundings).trim_end(), expected, "{command}");
    }

    #[test]
    fn signals_are_as_after_login() {
        std::thread::spawn(|| {
            // SIGPIPE is ignored in every Rust program; this thread blocks everything it may.
            let all = nix::sys::signal::SigSet::all();
            all.thread_block().unwrap();
            let status = output("cat /proc/self/status", PLAIN);
            for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
                assert!(status.contains(line), "{status}");
            }
            let mut mask = nix::sys::signal::SigSet::thread_get_mask().unwrap();
            assert!(mask.contains(nix::sys::signal::SIGUSR1), "the mask was not restored");
            mask.clear();
            mask.thread_set_mask().unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn leads_its_own_group() {
        if emulated() {
            return;
        }
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let shell = Shell::new("read line; sleep 1000 & wait");
        let mut spawner = Spawner::new().unwrap();
        let pid = spawner.spawn(&Spawn { stdin: Some(read.as_fd()), ..shell.spawn(PLAIN) }).unwrap();
        let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.as_raw()))).unwrap();
        let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.as_raw()))).unwrap();
        assert_eq!(session, group, "no controlling terminal comes along");
        assert_eq!(group.as_raw(), pid.as_raw());
        signal_group(pid, Sig::Terminate).unwrap();
        assert_eq!(wait(pid), ExitStatus::Signaled(libc::SIGTERM));
        drop(write);
    }

    #[test]
    fn has_three_descriptors() {
        alone("spawn::tests::alone_has_three_descriptors");
    }

    #[test]
    #[ignore = "run by has_three_descriptors"]
    fn alone_has_three_descriptors() {
        // As the daemon does at its start: what it was started with may be anything.
        close_on_exec_from(libc::STDERR_FILENO + 1).unwrap();
        let _open = [dev_null().unwrap(), dev_null().unwrap()];
        // `ls` itself has the directory open as a fourth.
        check("ls /proc/self/fd | tr '\\n' ' '", PLAIN, "0 1 2 3");
    }

    #[test]
    fn any_descriptors_can_become_the_standard_ones() {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        // The process's own 0, 1 and 2 in another order: 2 as input, 0 and 1 replaced by the pipe.
        let stderr = std::io::stderr();
        let shell = Shell::new("echo out; echo err >&2; test -e /dev/fd/0");
        let spawn = Spawn {
            stdin: Some(stderr.as_fd()),
            stdout: Some(write.as_fd()),
            stderr: Some(write.as_fd()),
            ..shell.spawn(PLAIN)
        };
        let pid = Spawner::new().unwrap().spawn(&spawn).unwrap();
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), wait(pid)), ("out\nerr\n", ExitStatus::Exited(0)));
    }

    #[test]
    fn surroundings_are_as_told() {
        let scratch = tempfile::tempdir().unwrap();
        let cwd = path(&scratch.path().canonicalize().unwrap());
        check("pwd", Spawn { cwd: &cwd, ..PLAIN }, cwd.to_str().unwrap());
        check("umask", Spawn { umask: Some(0o027), ..PLAIN }, "0027");
        check("env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort", PLAIN, "PATH=/usr/bin:/bin\nX=a b");
        let nice: i32 = output("nice", PLAIN).trim().parse().unwrap();
        check("nice", Spawn { nice: 3, ..PLAIN }, &(nice + 3).min(19).to_string());
        check("nice", Spawn { nice: i32::MAX, ..PLAIN }, "19");
        check("cat; echo end", PLAIN, "end");
    }

    #[test]
    fn becomes_another_user() {
        let identity = Identity {
            uid: 65_534,
            gid: 70_001,
            groups: vec![70_001, 70_002],
            name: "nobody".into(),
            home: b"/".to_vec(),
        };
        if !nix::unistd::Uid::effective().is_root() {
            let shell = Shell::new("true");
            let spawn = Spawn { identity: Some(&identity), ..shell.spawn(PLAIN) };
            let error = Spawner::new().unwrap().spawn(&spawn).unwrap_err();
            assert_eq!(error, SpawnError { step: "setgroups", errno: Errno::EPERM });
            eprintln!("not root: only the refusal was tested, not the change of user");
            return;
        }
        let status = output("cat /proc/self/status", Spawn { identity: Some(&identity), ..PLAIN });
        for line in [
            "Uid:\t65534\t65534\t65534\t65534\n",
            "Gid:\t70001\t70001\t70001\t70001\n",
            "Groups:\t70001 70002 \n",
            "CapEff:\t0000000000000000\n",
        ] {
            assert!(status.contains(line), "{line:?} {status}");
        }
        assert!(nix::unistd::Uid::effective().is_root(), "the parent changed too");
        if emulated() {
            return;
        }
        let private = tempfile::tempdir().unwrap();
        fs::set_permissions(private.path(), Permissions::from_mode(0o700)).unwrap();
        let cwd = path(private.path());
        let shell = Shell::new("true");
        let spawn = Spawn { identity: Some(&identity), cwd: &cwd, ..shell.spawn(PLAIN) };
        let error = Spawner::new().unwrap().spawn(&spawn).unwrap_err();
        assert_eq!(error, SpawnError { step: "chdir", errno: Errno::EACCES });
    }

    fn outcome(candidates: &[CString]) -> Result<ExitStatus, (&'static str, Errno)> {
        let shell = Shell::new("exit 3");
        let spawn = Spawn { candidates, ..shell.spawn(PLAIN) };
        let spawned = Spawner::new().unwrap().spawn(&spawn);
        spawned.map(wait).map_err(|error| (error.step, error.errno))
    }

    #[test]
    fn candidates_are_tried_as_execvp_does() {
        if emulated() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let script = scratch.path().join("script");
        fs::write(&script, "exit 7\n").unwrap();
        let (none, not_dir) = (c("/none/x"), c("/dev/null/x"));
        let (denied, sh) = (path(&script), c("/bin/sh"));
        assert_eq!(outcome(&[none.clone(), not_dir.clone(), denied.clone(), sh]), Ok(ExitStatus::Exited(3)));
        assert_eq!(outcome(&[none.clone(), not_dir.clone()]), Err(("execve", Errno::ENOENT)));
        assert_eq!(outcome(&[denied.clone(), none.clone()]), Err(("execve", Errno::EACCES)));
        assert_eq!(outcome(&[]), Err(("execve", Errno::ENOENT)));
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(outcome(&[denied, none]), Err(("execve", Errno::ENOEXEC)), "no shell steps in");
    }

    #[test]
    fn a_failed_step_is_named_and_leaves_no_child() {
        if emulated() {
            return;
        }
        let shell = Shell::new("true");
        let mut spawner = Spawner::new().unwrap();
        let error = spawner.spawn(&Spawn { cwd: c"/none", ..shell.spawn(PLAIN) }).unwrap_err();
        assert_eq!(error.to_string(), "chdir: ENOENT (No such file or directory)");
        let pid = spawner.spawn(&shell.spawn(PLAIN)).unwrap();
        assert_eq!(wait(pid), ExitStatus::Exited(0), "the stack is good for the next");
        assert_eq!(wait_for(pid), Err(Errno::ECHILD));
    }
}
