//! Is somebody writing to this file?
//!
//! The kernel grants a read lease only on a file that nobody holds open for writing
//! (`fcntl(2)`, F_SETLEASE). So the daemon asks for one and gives it back at once.
//!
//! Probing makes IN_OPEN and IN_CLOSE_NOWRITE for whoever watches the file. For the microseconds
//! between grant and return, an opener for writing waits, or with `O_NONBLOCK` gets EWOULDBLOCK.

use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::stat::{Kind, Stat, stat};
use super::{Errno, proc_path, retry};

/// Who writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// No process holds it open for writing.
    Nobody,
    /// At least one does.
    Somebody,
    /// The filesystem has no leases, or the daemon may not have one: it is neither root nor the
    /// owner. Look twice: if the number is the same, probably nobody.
    Unknown {
        /// Stands for size and times: nearly always another one when they are others.
        stamp: u64,
    },
    /// There is no such file any more.
    Gone,
    /// The name stands for something that is not a regular file.
    NotAFile,
}

/// Who writes to the file `name` in `dir`. Anything but a regular file is not even opened: a FIFO
/// would wake its writer, a device might rewind.
///
/// # Errors
/// EACCES when `dir` may not be searched, EMFILE, ENFILE, ENOMEM, and what the filesystem says.
pub fn writer(dir: BorrowedFd<'_>, name: &CStr) -> Result<Writer, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = match retry(|| openat(dir, name, flags, Mode::empty())) {
        Err(Errno::ENOENT | Errno::ESTALE) => return Ok(Writer::Gone),
        outcome => outcome?,
    };
    let stat = stat(file.as_fd())?;
    match (stat.kind, stat.links) {
        (Kind::File, 0) => Ok(Writer::Gone),
        (Kind::File, _) => writer_of(file.as_fd(), &stat),
        _ => Ok(Writer::NotAFile),
    }
}

/// Who writes to a regular file that is held.
///
/// # Errors
/// As [`writer`].
pub fn writer_of(file: BorrowedFd<'_>, stat: &Stat) -> Result<Writer, Errno> {
    match retry(|| reopen(file)) {
        Ok(readable) => Ok(ask_for_lease(&readable, stat)),
        // Another program holds a write lease, which it can only have as an opener for writing.
        Err(Errno::EAGAIN) => Ok(Writer::Somebody),
        Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => Err(errno),
        // No right to read, or no /proc to open it through.
        Err(_) => Ok(unknown(stat)),
    }
}

/// Through `/proc`, so that it is the file that was looked at, whatever its name now stands for.
fn reopen(file: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_LARGEFILE;
    open(proc_path(file).as_c_str(), flags, Mode::empty())
}

fn ask_for_lease(readable: &OwnedFd, stat: &Stat) -> Writer {
    // A writer who comes while the lease is held makes the kernel send a signal: SIGIO, which
    // kills, unless another is chosen (fcntl(2), F_SETSIG). SIGURG is ignored by default.
    if retry(|| fcntl(readable, F_SETSIG, libc::SIGURG)).is_err() {
        return unknown(stat);
    }
    match retry(|| fcntl(readable, libc::F_SETLEASE, libc::F_RDLCK)) {
        Ok(()) => {
            // Closing the descriptor would give it back too, if this could fail.
            let _ = fcntl(readable, libc::F_SETLEASE, libc::F_UNLCK);
            Writer::Nobody
        }
        Err(Errno::EAGAIN) => Writer::Somebody,
        Err(_) => unknown(stat),
    }
}

/// `asm-generic/fcntl.h`; x86, ARM and RISC-V use it unchanged. libc does not have it.
const F_SETSIG: libc::c_int = 10;

fn fcntl(fd: &OwnedFd, command: libc::c_int, argument: libc::c_int) -> Result<(), Errno> {
    // SAFETY: both commands used here take an integer and touch no memory (fcntl(2)).
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) };
    Errno::result(outcome).map(drop)
}

fn unknown(stat: &Stat) -> Writer {
    let mut hasher = DefaultHasher::new();
    (stat.id, stat.size, stat.mtime_ns, stat.ctime_ns).hash(&mut hasher);
    Writer::Unknown { stamp: hasher.finish() }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::os::unix::fs::{OpenOptionsExt, symlink};

    use super::*;

    fn scratch() -> (tempfile::TempDir, File) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = File::open(scratch.path()).unwrap();
        (scratch, dir)
    }

    #[test]
    fn sees_a_writer_for_as_long_as_there_is_one() {
        let (scratch, dir) = scratch();
        let path = scratch.path().join("file");
        let writing = File::create(&path).unwrap();
        assert_eq!(writer(dir.as_fd(), c"file"), Ok(Writer::Somebody));
        drop(writing);
        let reading = File::open(&path).unwrap();
        assert_eq!(writer(dir.as_fd(), c"file"), Ok(Writer::Nobody));
        assert_eq!(writer(dir.as_fd(), c"file"), Ok(Writer::Nobody), "the lease was given back");
        drop(reading);
        // Nothing stays behind that would make this opener wait.
        OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(writer(dir.as_fd(), c"file"), Ok(Writer::Gone));
    }

    #[test]
    fn a_fifo_is_never_opened() {
        let (scratch, dir) = scratch();
        let path = scratch.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert_eq!(writer(dir.as_fd(), c"fifo"), Ok(Writer::NotAFile));
        symlink("fifo", scratch.path().join("link")).unwrap();
        assert_eq!(writer(dir.as_fd(), c"link"), Ok(Writer::NotAFile));
        assert_eq!(writer(dir.as_fd(), c"."), Ok(Writer::NotAFile));
        // A writer of a FIFO without reader is refused: so nobody opened it.
        let refused = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENXIO));
    }

    #[test]
    fn without_leases_there_are_size_and_time() {
        // Only regular files have leases (fcntl(2)); a directory stands for all that have none.
        let (_scratch, dir) = scratch();
        let before = stat(dir.as_fd()).unwrap();
        let dir = dir.into();
        let answer = ask_for_lease(&dir, &before);
        assert!(matches!(answer, Writer::Unknown { .. }));
        assert_eq!(ask_for_lease(&dir, &before), answer);
        for after in [
            Stat { size: before.size + 1, ..before },
            Stat { mtime_ns: before.mtime_ns + 1, ..before },
            Stat { ctime_ns: before.ctime_ns + 1, ..before },
        ] {
            assert_ne!(ask_for_lease(&dir, &after), answer);
        }
    }

    #[test]
    fn a_writer_who_comes_during_the_lease_kills_nobody() {
        let (scratch, dir) = scratch();
        let path = scratch.path().join("file");
        fs::write(&path, b"").unwrap();
        let file = File::open(&path).unwrap();
        let lease = retry(|| reopen(file.as_fd())).unwrap();
        fcntl(&lease, F_SETSIG, libc::SIGURG).unwrap();
        fcntl(&lease, libc::F_SETLEASE, libc::F_RDLCK).unwrap();
        let breaker = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(breaker.unwrap_err().raw_os_error(), Some(libc::EWOULDBLOCK));
        drop(lease);
        assert_eq!(writer(dir.as_fd(), c"file"), Ok(Writer::Nobody));
    }
}
