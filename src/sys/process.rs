//! Children after their start, and what the daemon sets up around them.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;

use super::{Errno, bytes_to_read, proc_path, retry};
use crate::types::ExitStatus;

/// The process id of a child, and the id of its process group. Never 0, 1 or negative: for `kill(2)` those
/// mean the own group, init and groups, and all processes.
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

/// A child that has ended; `None` when no further child has ended yet. The child stays until [`reap`], and so
/// long no other process can get its process group. The caller asks until `None`: one SIGCHLD may stand for
/// several children.
///
/// Raw, as [`reap`] is: nix gives EINVAL for a child that a real-time signal has ended.
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
        // SAFETY: for SIGCHLD the field is the pid, and it is 0 when no child has ended (waitid(2)).
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

/// Waits until a child that is about to end has ended.
///
/// # Errors
/// ECHILD when it is not a child, or was reaped.
pub(super) fn wait_for(pid: Pid) -> Result<Option<(Pid, ExitStatus)>, Errno> {
    wait(pid.0, 0)
}

fn wait(pid: i32, options: libc::c_int) -> Result<Option<(Pid, ExitStatus)>, Errno> {
    let mut status = 0;
    let pid = retry(|| {
        // SAFETY: waitpid(2) writes one int through the pointer.
        Errno::result(unsafe { libc::waitpid(pid, &raw mut status, options) })
    })?;
    let ended = if libc::WIFSIGNALED(status) {
        ExitStatus::Signaled(libc::WTERMSIG(status))
    } else {
        ExitStatus::Exited(libc::WEXITSTATUS(status))
    };
    Ok(Pid::from_raw(pid).map(|pid| (pid, ended)))
}

/// Sends a signal to the process group of a child.
///
/// # Errors
/// ESRCH when all processes of the group have ended, EPERM when none of them may be signalled.
pub fn signal_group(group: Pid, sig: Sig) -> Result<(), Errno> {
    let signal = match sig {
        Sig::Terminate => Signal::SIGTERM,
        Sig::Kill => Signal::SIGKILL,
    };
    killpg(nix::unistd::Pid::from_raw(group.0), signal)
}

/// Sends SIGKILL to a child that was not reaped, and to nothing else of its group.
///
/// # Errors
/// EPERM for a child of another user, when the daemon is not root.
pub(super) fn kill_child(child: Pid) -> Result<(), Errno> {
    kill(nix::unistd::Pid::from_raw(child.0), Signal::SIGKILL)
}

/// Makes writing beyond the largest allowed file size (`setrlimit(2)`, RLIMIT_FSIZE) fail with EFBIG instead
/// of ending the process.
///
/// # Errors
/// None that the kernel documents for this signal.
pub fn survive_file_size_limit() -> Result<(), Errno> {
    // SAFETY: SIG_IGN runs no code; children get the default disposition of every signal (`spawn`).
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.map(drop)
}

/// A pipe for a child's output: the read end does not block; the write end, which the child gets, blocks.
/// Returns (read, write).
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

/// A pipe for a child's input: the read end, which the child gets, blocks; the write end does not.
/// Returns (read, write).
///
/// # Errors
/// EMFILE, ENFILE.
pub fn input_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

/// Opens the read end of a pipe by its write end. [`unread`] needs it once the write end is closed.
///
/// # Errors
/// ENOENT without `/proc`, EMFILE, ENFILE.
pub fn read_end(write: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    retry(|| open(proc_path(write.as_fd()).as_c_str(), flags, Mode::empty()))
}

/// How many bytes are in a pipe. Works with either end, also after the other end was closed.
///
/// # Errors
/// ENOTTY for a descriptor without such a number.
pub fn unread(pipe: impl AsFd) -> Result<usize, Errno> {
    bytes_to_read(pipe.as_fd())
}

/// `/dev/null`, for reading and writing.
///
/// # Errors
/// ENOENT, EACCES, EMFILE, ENFILE.
pub fn dev_null() -> Result<OwnedFd, Errno> {
    retry(|| open(c"/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty()))
}

/// The number of CPUs that affinity and control group allow this process; at least 1.
#[must_use]
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Marks every descriptor from `first` on as close-on-exec: descriptors that the daemon has inherited must
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

/// Raw, because nix has no `close_range(2)`.
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
        // SAFETY: the number was open a moment ago. If it is closed by now, F_SETFD gives EBADF and changes
        // nothing (fcntl(2)).
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
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn no_pid_stands_for_several_processes() {
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
    fn unread_bytes_are_counted_after_the_reader_has_closed() {
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
