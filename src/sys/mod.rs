//! All system calls of the daemon, and all of its `unsafe`.
//!
//! Each file is a thin wrapper around one facility of the kernel and knows nothing of tasks and
//! configuration. Descriptors are owned and close-on-exec. EINTR is retried here and never returned. EAGAIN
//! ("nothing to read yet") is an outcome of its own wherever it can happen. A call goes through nix where nix
//! has it; the others are raw, and say why.
//!
//! Read in this order:
//!
//! - time and waiting: [`clock`], [`timerfd`], [`signalfd`], [`eventfd`], [`epoll`]
//! - the tree: [`stat`], [`kind`], [`dir`], [`lease`], [`inotify`], [`limits`]
//! - changing files: [`resolve`], [`file`], [`transfer`], [`xattr`], [`origin`]
//! - other programs: [`process`], [`spawn`]
//! - the daemon itself: [`trusted_file`], [`output`], [`lock`], [`socket`], [`user`], [`rooted`]

#![allow(unsafe_code, reason = "system calls that nix does not wrap, or wraps with a loss")]

pub mod clock;
pub mod dir;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod inotify;
pub mod kind;
pub mod lease;
pub mod limits;
pub mod lock;
pub mod origin;
pub mod output;
pub mod process;
pub mod resolve;
pub mod rooted;
pub mod signalfd;
pub mod socket;
pub mod spawn;
pub mod stat;
pub mod timerfd;
pub mod transfer;
pub mod trusted_file;
pub mod user;
pub mod xattr;

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

pub use nix::errno::Errno;

use crate::quote::Quoted;

/// A system call that failed, and its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The operation in one word, such as `open`.
    pub op: &'static str,
    /// The path of its object; empty when it has none.
    pub path: Vec<u8>,
    /// The reason.
    pub errno: Errno,
}

impl Error {
    /// An error about a path.
    #[must_use]
    pub fn new(op: &'static str, path: impl AsRef<[u8]>, errno: Errno) -> Self {
        Self { op, path: path.as_ref().to_vec(), errno }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op)?;
        if !self.path.is_empty() {
            write!(f, " {}", Quoted(&self.path))?;
        }
        write!(f, ": {:?} ({})", self.errno, self.errno.desc())
    }
}

impl std::error::Error for Error {}

/// Repeats a call that a signal has interrupted.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            outcome => return outcome,
        }
    }
}

/// The errno of a standard library error.
#[must_use]
pub fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// How many bytes can be read from an inotify instance or a pipe. Raw, because nix has no FIONREAD, and what
/// its `ioctl_read_bad!` defines is `unsafe` to call all the same.
fn bytes_to_read(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut size: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int through the pointer (inotify(7), pipe(7), ioctl_tty(2)).
    let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut size) };
    Errno::result(outcome)?;
    usize::try_from(size).map_err(|_| Errno::EOVERFLOW)
}

/// `/proc/self/fd/N`: the open file of a descriptor, whatever its name is now (`proc(5)`).
fn proc_path(fd: BorrowedFd<'_>) -> ProcPath {
    let mut path = ProcPath([0; PROC_PATH_SIZE]);
    path.0[..PROC_PREFIX.len()].copy_from_slice(PROC_PREFIX);
    let mut digits = [0; PROC_PATH_SIZE - PROC_PREFIX.len() - 1];
    let mut at = digits.len();
    let mut number = fd.as_raw_fd().unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let digits = &digits[at..];
    path.0[PROC_PREFIX.len()..PROC_PREFIX.len() + digits.len()].copy_from_slice(digits);
    path
}

const PROC_PREFIX: &[u8] = b"/proc/self/fd/";

/// The prefix, the ten digits of the largest descriptor, and the final NUL.
const PROC_PATH_SIZE: usize = PROC_PREFIX.len() + 10 + 1;

/// A path on the stack: the daemon makes one for every directory that it watches.
struct ProcPath([u8; PROC_PATH_SIZE]);

impl ProcPath {
    fn as_c_str(&self) -> &std::ffi::CStr {
        std::ffi::CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_path_and_reason() {
        let error = Error::new("open", b"/x\n", Errno::EACCES);
        assert_eq!(error.to_string(), r#"open "/x\n": EACCES (Permission denied)"#);
        assert_eq!(Error::new("poll", b"", Errno::EINVAL).to_string(), "poll: EINVAL (Invalid argument)");
    }

    #[test]
    fn only_an_interruption_is_retried() {
        let mut outcomes = vec![Ok(7), Err(Errno::EINTR), Err(Errno::EINTR)];
        assert_eq!(retry(|| outcomes.pop().unwrap()), Ok(7));
        let mut calls = 0;
        let outcome: Result<(), _> = retry(|| {
            calls += 1;
            Err(Errno::EAGAIN)
        });
        assert_eq!((outcome, calls), (Err(Errno::EAGAIN), 1));
    }

    #[test]
    fn the_path_of_a_descriptor_holds_its_number() {
        let check = |number: i32, expected: &std::ffi::CStr| {
            // SAFETY: the descriptor is only printed, never used; open(2) gives no promise needed.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            assert_eq!(proc_path(fd).as_c_str(), expected);
        };
        check(0, c"/proc/self/fd/0");
        check(10, c"/proc/self/fd/10");
        check(i32::MAX, c"/proc/self/fd/2147483647");
    }
}
