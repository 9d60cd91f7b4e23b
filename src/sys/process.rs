//! Children after their start, and what a process needs around them.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;

use super::{Errno, proc_path, retry};
use crate::types::ExitStatus;

/// A child's process id, which is also its process group's. Never 0, 1 or negative: `kill(2)` takes
/// those for "my own group" and "everybody".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(i32);

impl Pid {
    /// `None` for what cannot be a child of the daemon.
    #[must_use]
    pub const fn from_raw(pid: i32) -> Option<Self> {
        if pid > 1 { Some(Self(pid)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

/// What to send to a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sig {
    /// SIGTERM: please end.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// A child that has ended; `None` when there is none (now). It stays to be reaped, and until then
/// nobody else can have its process group. Ask until there is none: one SIGCHLD may stand for
/// several.
///
/// # Errors
/// None that the kernel documents for these arguments.
pub fn ended() -> Result<Option<Pid>, Errno> {
    // SAFETY: `siginfo_t` holds integers and pointers, for which all zeroes are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid(2) writes one siginfo_t through the pointer.
    let outcome = retry(|| Errno::result(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) }));
    match outcome {
        Err(Errno::ECHILD) => Ok(None),
        Err(errno) => Err(errno),
        // SAFETY: for SIGCHLD, and all zeroes when nobody has ended, the field is the pid (waitid(2)).
        Ok(_) => Ok(Pid::from_raw(unsafe { info.si_pid() })),
    }
}

/// Takes the status of a child that has ended.
///
/// # Errors
/// ECHILD when it is not a child, or was reaped.
pub fn reap(pid: Pid) -> Result<Option<ExitStatus>, Errno> {
    wait(pid.0, libc::WNOHANG).map(|ended| ended.map(|(_, status)| status))
}

/// Waits for the end of one child, which is known to be near.
///
/// # Errors
/// ECHILD when it is not a child, or was reaped.
pub(super) fn wait_for(pid: Pid) -> Result<Option<(Pid, ExitStatus)>, Errno> {
    wait(pid.0, 0)
}

fn wait(pid: i32, options: libc::c_int) -> Result<Option<(Pid, ExitStatus)>, Errno> {
    let mut status = 0;
    let pid = retry(|| {
        // SAFETY: waitpid(2) writes one int through the pointer. (nix's wrapper fails for children
        // that a real-time signal ended.)
        Errno::result(unsafe { libc::waitpid(pid, &raw mut status, options) })
    })?;
    let ended = if libc::WIFSIGNALED(status) {
        ExitStatus::Signaled(libc::WTERMSIG(status))
    } else {
        ExitStatus::Exited(libc::WEXITSTATUS(status))
    };
    Ok(Pid::from_raw(pid).map(|pid| (pid, ended)))
}

/// Sends a signal to a child's process group, and so to its own children that did not leave it.
///
/// # Errors
/// ESRCH when all of the group have ended, EPERM when none of them may be signalled.
pub fn signal_group(group: Pid, sig: Sig) -> Result<(), Errno> {
    let number = match sig {
        Sig::Terminate => libc::SIGTERM,
        Sig::Kill => libc::SIGKILL,
    };
    // SAFETY: killpg(3) takes no memory.
    Errno::result(unsafe { libc::killpg(group.0, number) }).map(drop)
}

/// Makes writing beyond the limit of a file's size (`setrlimit(2)`, RLIMIT_FSIZE) an error, EFBIG, and
/// not the end of the process.
///
/// # Errors
/// None that the kernel documents for this signal.
pub fn survive_file_size_limit() -> Result<(), Errno> {
    // SAFETY: SIG_IGN runs no code of ours; children get all signals back as they were (`spawn`).
    unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn)
    }
    .map(drop)
}

/// A pipe for a child's output: the read end does not block, the write end, which the child gets,
/// does. Returns (read, write).
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

/// A pipe for a child's input: the read end, which the child gets, blocks, the write end does not.
/// Returns (read, write).
///
/// # Errors
/// EMFILE, ENFILE.
pub fn input_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

/// The read end of a pipe whose write end this is, for [`unread`] once the write end is closed.
///
/// # Errors
/// ENOENT without `/proc`, EMFILE, ENFILE.
pub fn read_end(write: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    retry(|| open(proc_path(write.as_fd()).as_c_str(), flags, Mode::empty()))
}

/// How many bytes are in a pipe, asked at either end, also after the other one was closed.
///
/// # Errors
/// ENOTTY for what has no such number.
pub fn unread(pipe: impl AsFd) -> Result<usize, Errno> {
    let mut size: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int through the pointer (pipe(7), ioctl_tty(2)).
    let outcome = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut size) };
    Errno::result(outcome).map(|_| usize::try_from(size).unwrap_or(0))
}

/// `/dev/null`, for reading and writing.
///
/// # Errors
/// ENOENT, EACCES, EMFILE, ENFILE.
pub fn dev_null() -> Result<OwnedFd, Errno> {
    retry(|| open(c"/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty()))
}

/// CPUs that this process may use, as affinity and control group allow; at least 1.
#[must_use]
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Marks every descriptor from `first` on as close-on-exec: what the daemon was started with must
/// not reach its children.
///
/// # Errors
/// ENOENT on a kernel before 5.11 without `/proc`.
pub fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    match close_range_on_exec(first) {
        // EINVAL: Linux 5.9 and 5.10 know the call but not the flag. EPERM: a sandbox.
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => close_listed_on_exec(first),
        outcome => outcome,
    }
}

fn close_range_on_exec(first: RawFd) -> Result<(), Errno> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed and no memory touched (close_range(2)).
    let outcome =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(outcome).map(drop)
}

fn close_listed_on_exec(first: RawFd) -> Result<(), Errno> {
    let entries = std::fs::read_dir("/proc/self/fd").map_err(|error| super::errno_of(&error))?;
    for entry in entries.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|number| *number >= first) else {
            continue;
        };
        // SAFETY: the number was open a moment ago; if it no longer is, F_SETFD says EBADF and
        // touches nothing (fcntl(2)).
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            Ok(_) | Err(Errno::EBADF) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn no_pid_means_everybody() {
        for pid in [i32::MIN, -1, 0, 1] {
            assert_eq!(Pid::from_raw(pid), None);
        }
        assert_eq!(Pid::from_raw(2).map(Pid::as_raw), Some(2));
    }

    #[test]
    fn only_the_read_end_of_a_pipe_does_not_block() {
        let (read, write) = pipe().unwrap();
        let flags = |fd: &OwnedFd| OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
        assert!(flags(&read).contains(OFlag::O_NONBLOCK));
        assert!(!flags(&write).contains(OFlag::O_NONBLOCK));
        for fd in [&read, &write] {
            assert_eq!(fcntl(fd, FcntlArg::F_GETFD), Ok(FdFlag::FD_CLOEXEC.bits()));
        }
    }

    #[test]
    fn what_nobody_read_is_counted_after_the_reader_is_gone() {
        let (read, write) = input_pipe().unwrap();
        let mut write = std::fs::File::from(write);
        write.write_all(b"12345").unwrap();
        let mut read = std::fs::File::from(read);
        read.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(unread(&write), Ok(3));
        let again = read_end(&write).unwrap();
        assert_eq!(unread(&again), Ok(3));
        drop((read, again));
        assert_eq!(unread(&write), Ok(3));
        assert_eq!(write.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_full_pipe_does_not_block_the_writer() {
        let (_read, write) = input_pipe().unwrap();
        let mut write = std::fs::File::from(write);
        while write.write(&[0; 4096]).is_ok() {}
        assert_eq!(write.write(b"x").unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn dev_null_is_empty_and_takes_all() {
        let mut null = std::fs::File::from(dev_null().unwrap());
        null.write_all(b"x").unwrap();
        assert_eq!(null.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn there_is_a_cpu() {
        assert!(cpu_count() >= 1);
    }

    #[test]
    fn inherited_descriptors_are_closed_on_exec() {
        for way in [close_on_exec_from, close_range_on_exec, close_listed_on_exec] {
            let fds = [dev_null().unwrap(), dev_null().unwrap()];
            for fd in &fds {
                fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            }
            way(fds[1].as_raw_fd()).unwrap();
            let flags = fds.each_ref().map(|fd| fcntl(fd, FcntlArg::F_GETFD).unwrap());
            assert_eq!(flags, [0, FdFlag::FD_CLOEXEC.bits()]);
        }
    }
}
