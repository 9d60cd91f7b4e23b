//! Starting a program.
//!
//! The child shares the daemon's memory until it executes the program, and the kernel suspends the daemon's
//! thread meanwhile (`clone(2)`, CLONE_VM and CLONE_VFORK): no page table is copied, so the cost does not
//! grow with the daemon, and errors come back through memory. This is how musl (`src/process/posix_spawn.c`)
//! and glibc (`sysdeps/unix/sysv/linux/spawni.c`) do `posix_spawn`, which itself cannot set user, groups,
//! umask or nice value.
//!
//! What makes it correct:
//!
//! - The child has a stack of its own, so that it cannot destroy frames of the parent.
//! - All signals are blocked before, so that no handler of the parent runs in the child; the child
//!   sets every disposition to its default before it unblocks them.
//! - The child makes raw system calls and nothing else: no allocation, no lock, no panic, no nix. User and
//!   groups are set without the C library, because its functions make every thread of the process do the same
//!   (`nptl(7)`), and the child sees its parent's threads. `nix::sched::clone` is not used: it calls a boxed
//!   closure in the child.
//! - A child that becomes another user shares nothing with the daemon, neither memory nor descriptors, and
//!   the daemon waits for it only for a limited time: its user may stop it, or give it a program that hangs,
//!   before it has executed the program. The child reports by a pipe.
//!
//! A failure that comes after that time shows as exit status 127, as from a shell. So does every failure
//! under an emulator of user programs (qemu-user), which forks instead and does not wait.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};
use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{pipe2, read};

use super::process::{Pid, kill_child, wait_for};
use super::{Errno, retry};
use crate::types::Identity;

/// What to start, and in which surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// Paths of the program, tried in order as `execvp(3)` does, until one exists and may be executed.
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
    /// User and groups of the program; the daemon's own when `None`.
    pub identity: Option<&'a Identity>,
    /// Standard input. When `None`, it is inherited; so are the two others.
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

/// Starts programs, one at a time. The children use one stack, one after the other.
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

    /// Starts a program and returns as soon as it runs, or a step has failed. The child leads a session
    /// and a process group of its own, and has default signal dispositions and an empty signal mask.
    ///
    /// # Errors
    /// The step that failed, and why. ENOENT from `execve` when there are no candidates. A child of another
    /// user that has not executed its program after [`EXECUTE_WAIT_MS`] counts as started.
    pub fn spawn(&mut self, spawn: &Spawn<'_>) -> Result<Pid, SpawnError> {
        let argv = pointers(spawn.argv);
        let env = pointers(spawn.env);
        let launch = Launch { spawn, argv: &argv, env: &env, failure: None, report: -1, descriptors: 0 };
        if spawn.identity.is_some() { self.spawn_apart(launch) } else { self.spawn_sharing(launch) }
    }

    fn clone(&mut self, flags: c_int, launch: *mut Launch<'_>) -> Result<Pid, SpawnError> {
        let blocked = SignalsBlocked::new();
        // SAFETY: `run_child` gets the stack's top and a `Launch` that outlives it: either the parent
        // resumes only when the child has executed or ended (CLONE_VFORK), or the child has copies
        // of both (no CLONE_VM; clone(2)).
        let pid = unsafe { libc::clone(run_child, self.stack.top(), flags, launch.cast()) };
        let cloned = Errno::result(pid);
        drop(blocked);
        let pid = cloned.map_err(|errno| SpawnError { step: "clone", errno })?;
        Pid::from_raw(pid).ok_or(SpawnError { step: "clone", errno: Errno::ECHILD })
    }

    /// For another user, who may stop the child as soon as it runs as that user: the daemon must not wait for
    /// it then. The child has a copy of the memory and reports by a pipe; `execve` closes its end.
    fn spawn_apart(&mut self, mut launch: Launch<'_>) -> Result<Pid, SpawnError> {
        let pipe = pipe2(OFlag::O_CLOEXEC).map_err(|errno| SpawnError { step: "pipe2", errno })?;
        let (report, write) = pipe;
        launch.report = write.as_raw_fd();
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
        launch.descriptors =
            usize::try_from(limit).map_or(DESCRIPTORS_MAX, |limit| limit.min(DESCRIPTORS_MAX));
        let pid = self.clone(libc::SIGCHLD, &raw mut launch)?;
        drop(write);
        let Some(error) = read_report(&report) else { return Ok(pid) };
        // The child is about to end, unless its user stops it now. So the daemon does not wait for it, and
        // reaps it with the others.
        let _ = kill_child(pid);
        Err(error)
    }

    fn spawn_sharing(&mut self, mut launch: Launch<'_>) -> Result<Pid, SpawnError> {
        let launch = &raw mut launch;
        let pid = self.clone(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, launch)?;
        // SAFETY: the child has ended or has memory of its own now, so it no longer writes. The read is
        // volatile because the compiler does not see that the child has written.
        let failure = unsafe { ptr::read_volatile(&raw const (*launch).failure) };
        let Some(failure) = failure else { return Ok(pid) };
        // An error means that it was reaped already.
        let _ = wait_for(pid);
        Err(SpawnError { step: failure.step, errno: Errno::from_raw(failure.errno) })
    }
}

/// So long the daemon waits for a child of another user to execute its program. The loop stands still
/// meanwhile. Executing takes microseconds, unless the machine is loaded, the disk of the program sleeps, or
/// the user interferes.
pub const EXECUTE_WAIT_MS: u16 = 100;

/// The steps of [`become_program`]. A child with memory of its own reports a step by its index in this list.
const STEPS: [&str; 12] = [
    "setsid",
    "fcntl",
    "dup3",
    "getpriority",
    "setpriority",
    "umask",
    "setgroups",
    "setresgid",
    "setresuid",
    "chdir",
    "rt_sigprocmask",
    "execve",
];

/// The failure that the child reported; `None` when it has executed its program, or takes too long.
fn read_report(pipe: &OwnedFd) -> Option<SpawnError> {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    if retry(|| poll(&mut fds, EXECUTE_WAIT_MS)) == Ok(0) {
        return None;
    }
    let mut report = [0; REPORT_SIZE];
    let size = retry(|| read(pipe, &mut report)).unwrap_or(0);
    let [step, errno @ ..] = report;
    let step = STEPS.get(usize::from(step)).copied().unwrap_or("start");
    let errno = Errno::from_raw(i32::from_ne_bytes(errno));
    (size == REPORT_SIZE).then_some(SpawnError { step, errno })
}

/// The highest limit of descriptors that the kernel allows by default (`proc_sys_fs(5)`, nr_open).
const DESCRIPTORS_MAX: usize = 1 << 20;

/// One byte for the step, four for the errno. The kernel writes so few bytes at once (`pipe(7)`).
const REPORT_SIZE: usize = 5;

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

// SAFETY: the mapping belongs to this value alone and is not tied to a thread (mmap(2)).
unsafe impl Send for Stack {}

impl Stack {
    fn new() -> Result<Self, Errno> {
        const SIZE: NonZeroUsize = NonZeroUsize::new(GUARD_SIZE + STACK_SIZE).unwrap();
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK;
        // SAFETY: a new anonymous mapping, at no fixed address, changes no other (mmap(2)).
        let base = unsafe { mmap_anonymous(None, SIZE, ProtFlags::PROT_NONE, flags) }?;
        let stack = Self { base };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: these pages are within the mapping just made and not in use yet (mprotect(2)).
        unsafe { mprotect(stack.at(GUARD_SIZE), STACK_SIZE, protection) }?;
        Ok(stack)
    }

    /// Stacks grow downwards on every architecture here. Page-aligned, hence aligned for calls.
    fn top(&mut self) -> *mut c_void {
        self.at(GUARD_SIZE + STACK_SIZE).as_ptr()
    }

    fn at(&self, offset: usize) -> NonNull<c_void> {
        self.base.map_addr(|address| address.saturating_add(offset))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and no child uses it, because `spawn` returns only after a
        // child that shares it has executed its program or ended (munmap(2)).
        let _ = unsafe { munmap(self.base, GUARD_SIZE + STACK_SIZE) };
    }
}

/// The kernel's signal set, 64 signals on every architecture here.
type KernelSigSet = u64;

/// Blocks every signal of this thread. Raw, because `sigprocmask(3)`, which nix calls too, leaves out the
/// signals that the C library uses itself.
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
struct Launch<'a> {
    spawn: &'a Spawn<'a>,
    argv: &'a [*const c_char],
    env: &'a [*const c_char],
    failure: Option<Failure>,
    /// The pipe to which a child with memory of its own writes its failure; -1 otherwise.
    report: RawFd,
    /// One more than the highest descriptor there may be.
    descriptors: usize,
}

#[derive(Clone, Copy)]
struct Failure {
    step: &'static str,
    errno: i32,
}

/// The child. From here to the end of the file there are only system calls.
extern "C" fn run_child(launch: *mut c_void) -> c_int {
    let launch: *mut Launch<'_> = launch.cast();
    // SAFETY: `spawn` passes a valid `Launch` and does not touch it before this process has executed or ended
    // (clone(2), CLONE_VFORK).
    let launch = unsafe { &mut *launch };
    if let Err(failure) = become_program(launch) {
        launch.failure = Some(failure);
        report(launch.report, failure);
    }
    // SAFETY: ends this process only, without running what the parent registered (_exit(2)).
    unsafe { libc::_exit(127) }
}

/// Reports to a parent that does not share the memory. If writing fails, the parent takes the child as
/// started.
fn report(pipe: RawFd, failure: Failure) {
    let mut step = 0;
    while usize::from(step) < STEPS.len() && STEPS[usize::from(step)] != failure.step {
        step += 1;
    }
    let [a, b, c, d] = failure.errno.to_ne_bytes();
    let report = [step, a, b, c, d];
    // A parent that waits no longer must see an exit status, not SIGPIPE.
    // SAFETY: the new set is valid, the old one not wanted (rt_sigprocmask(2)).
    let _ = unsafe { set_signal_mask(&KernelSigSet::MAX, ptr::null_mut()) };
    // SAFETY: writes from a buffer of that size; a descriptor of -1 is refused (write(2)).
    unsafe { libc::write(pipe, report.as_ptr().cast(), report.len()) };
}

/// Returns only on failure.
fn become_program(launch: &mut Launch<'_>) -> Result<(), Failure> {
    let spawn = launch.spawn;
    reset_dispositions();
    // A group of its own, and without a terminal: the child of another user could type into the one
    // that the daemon was started from (TIOCSTI, ioctl_tty(2)).
    call("setsid", libc::SYS_setsid, [0, 0, 0])?;
    move_descriptors([spawn.stdin, spawn.stdout, spawn.stderr])?;
    if launch.report >= 0 {
        leave_descriptors(launch)?;
    }
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
    execute(launch)
}

/// Signals that are ignored stay ignored across execve(2), and Rust ignores SIGPIPE: `yes | head` in a shell
/// would not end. Signals that are caught must not run their handlers in the child.
fn reset_dispositions() {
    /// SIG_DFL, no flags, no restorer, an empty mask: all zero in every layout of the kernel's
    /// `struct sigaction`, which has at most 32 bytes here.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=KernelSigSet::BITS {
        let (action, before) = (DEFAULT.as_ptr(), ptr::null_mut::<c_void>());
        // SAFETY: the action is larger than what the kernel reads (rt_sigaction(2)). SIGKILL and SIGSTOP
        // give EINVAL; their disposition is always the default.
        let _ = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, action, before, size_of::<KernelSigSet>())
        };
    }
}

/// Duplicates the descriptors to 0, 1 and 2, without close-on-exec. A descriptor that is itself 0, 1 or 2 is
/// duplicated to a higher number first, so that any permutation works.
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

/// Closes all descriptors that `execve` would close, except the report's: a user who stops the child before
/// `execve` must not keep the daemon's pipes and locks open.
fn leave_descriptors(launch: &mut Launch<'_>) -> Result<(), Failure> {
    const REPORT: RawFd = libc::STDERR_FILENO + 1;
    const FIRST: usize = REPORT as usize + 1;
    if launch.report != REPORT {
        let (report, cloexec) =
            (launch.report.unsigned_abs() as usize, libc::O_CLOEXEC.unsigned_abs() as usize);
        call("dup3", libc::SYS_dup3, [report, REPORT as usize, cloexec])?;
        launch.report = REPORT;
    }
    // close_range(2) exists since Linux 5.9. Without it, or where a sandbox does not know it, each is closed
    // alone.
    if call("close_range", libc::SYS_close_range, [FIRST, c_uint::MAX as usize, 0]).is_err() {
        for fd in FIRST..launch.descriptors {
            // EBADF: it is not open.
            let _ = call("close", libc::SYS_close, [fd, 0, 0]);
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
    // The system call returns 20 - nice, which is never negative.
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

/// Sets the groups first: the new user may not set them.
fn change_identity(identity: &Identity) -> Result<(), Failure> {
    let (count, groups) = (identity.groups.len(), identity.groups.as_ptr());
    let (uid, gid) = (identity.uid as usize, identity.gid as usize);
    call("setgroups", ids::SYS_setgroups, [count, groups.expose_provenance(), 0])?;
    call("setresgid", ids::SYS_setresgid, [gid; 3])?;
    call("setresuid", ids::SYS_setresuid, [uid; 3])
}

/// Tries the candidates in order. Returns when all have failed, or when one has failed with an error other
/// than ENOENT, ENOTDIR and EACCES.
fn execute(launch: &Launch<'_>) -> Result<(), Failure> {
    let mut worst = libc::ENOENT;
    for candidate in launch.spawn.candidates {
        let arguments = [
            candidate.as_ptr().expose_provenance(),
            launch.argv.as_ptr().expose_provenance(),
            launch.env.as_ptr().expose_provenance(),
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

/// A system call whose arguments are integers, or addresses of memory that the `Launch` keeps alive.
fn call(step: &'static str, number: c_long, arguments: [usize; 3]) -> Result<(), Failure> {
    let [first, second, third] = arguments;
    // SAFETY: the callers pass only calls that read memory, from addresses of NUL-terminated
    // strings, null-terminated arrays and slices that live in the `Launch` (syscall(2)).
    check(step, unsafe { libc::syscall(number, first, second, third) })
}

fn check(step: &'static str, outcome: c_long) -> Result<(), Failure> {
    if outcome == -1 { Err(Failure { step, errno: Errno::last_raw() }) } else { Ok(()) }
}
