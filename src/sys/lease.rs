//! Whether a process holds a file open for writing.
//!
//! The kernel grants a read lease only on a file that no process holds open for writing
//! (`fcntl(2)`, F_SETLEASE). So the daemon asks for a lease and gives it back at once.
//!
//! Asking makes IN_OPEN and IN_CLOSE_NOWRITE for every watch on the file. For the microseconds
//! between grant and return, a process that opens the file for writing waits, or with `O_NONBLOCK` gets
//! EWOULDBLOCK.

use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::stat::{Kind, Stat, stat};
use super::{Errno, proc_path, retry};

/// Whether a process holds a file open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenForWriting {
    /// No process does.
    No,
    /// At least one process does.
    Yes,
    /// The filesystem has no leases, or the daemon may not take one because it is neither root nor the
    /// file's owner. The caller looks twice: while the stamp changes, a process writes.
    Unknown {
        /// A hash of size and times.
        stamp: u64,
    },
    /// The file no longer exists.
    Gone,
    /// The name stands for something other than a regular file.
    NotAFile,
}

/// Whether a process holds the file `name` in `dir` open for writing. Only a regular file is opened to find
/// out: opening a FIFO would wake its writer, opening a device might rewind it.
///
/// # Errors
/// EACCES when `dir` may not be searched, EMFILE, ENFILE, ENOMEM, and what the filesystem says.
pub fn open_for_writing(dir: BorrowedFd<'_>, name: &CStr) -> Result<OpenForWriting, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = match retry(|| openat(dir, name, flags, Mode::empty())) {
        Err(Errno::ENOENT | Errno::ESTALE) => return Ok(OpenForWriting::Gone),
        outcome => outcome?,
    };
    let stat = stat(file.as_fd())?;
    match (stat.kind, stat.links) {
        (Kind::File, 0) => Ok(OpenForWriting::Gone),
        (Kind::File, _) => of_file(file.as_fd(), &stat),
        _ => Ok(OpenForWriting::NotAFile),
    }
}

/// As [`open_for_writing`], for a regular file that is held; `stat` says what it is.
///
/// # Errors
/// As [`open_for_writing`].
pub fn of_file(file: BorrowedFd<'_>, stat: &Stat) -> Result<OpenForWriting, Errno> {
    match retry(|| reopen(file)) {
        Ok(readable) => Ok(ask_for_lease(&readable, stat)),
        // Another program holds a write lease, which it can only have as an opener for writing.
        Err(Errno::EAGAIN) => Ok(OpenForWriting::Yes),
        Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => Err(errno),
        // No right to read, or no /proc to open it through.
        Err(_) => Ok(unknown(stat)),
    }
}

/// Opens the held file through `/proc`: by its name, another file could be opened by now.
fn reopen(file: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_LARGEFILE;
    open(proc_path(file).as_c_str(), flags, Mode::empty())
}

fn ask_for_lease(readable: &OwnedFd, stat: &Stat) -> OpenForWriting {
    // When a process opens the file for writing while the lease is held, the kernel sends the daemon a
    // signal. SIGIO, the default, would end it (fcntl(2), F_SETSIG); SIGURG is ignored by default.
    if retry(|| fcntl(readable, F_SETSIG, libc::SIGURG)).is_err() {
        return unknown(stat);
    }
    match retry(|| fcntl(readable, libc::F_SETLEASE, libc::F_RDLCK)) {
        Ok(()) => {
            // If this failed, closing the descriptor would give the lease back too.
            let _ = fcntl(readable, libc::F_SETLEASE, libc::F_UNLCK);
            OpenForWriting::No
        }
        Err(Errno::EAGAIN) => OpenForWriting::Yes,
        Err(_) => unknown(stat),
    }
}

/// `asm-generic/fcntl.h`; x86, ARM and RISC-V use it unchanged. Neither libc nor nix has it.
const F_SETSIG: libc::c_int = 10;

/// Raw, because `nix::fcntl::FcntlArg` has neither F_SETSIG nor F_SETLEASE.
fn fcntl(fd: &OwnedFd, command: libc::c_int, argument: libc::c_int) -> Result<(), Errno> {
    // SAFETY: both commands used here take an integer and touch no memory (fcntl(2)).
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) };
    Errno::result(outcome).map(drop)
}

fn unknown(stat: &Stat) -> OpenForWriting {
    let mut hasher = DefaultHasher::new();
    (stat.id, stat.size, stat.mtime_ns, stat.ctime_ns).hash(&mut hasher);
    OpenForWriting::Unknown { stamp: hasher.finish() }
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
        assert_eq!(open_for_writing(dir.as_fd(), c"file"), Ok(OpenForWriting::Yes));
        drop(writing);
        let reading = File::open(&path).unwrap();
        assert_eq!(open_for_writing(dir.as_fd(), c"file"), Ok(OpenForWriting::No));
        assert_eq!(
            open_for_writing(dir.as_fd(), c"file"),
            Ok(OpenForWriting::No),
            "the lease was given back"
        );
        drop(reading);
        // No lease stays behind that would make this opener wait.
        OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(open_for_writing(dir.as_fd(), c"file"), Ok(OpenForWriting::Gone));
    }

    #[test]
    fn a_fifo_is_never_opened() {
        let (scratch, dir) = scratch();
        let path = scratch.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert_eq!(open_for_writing(dir.as_fd(), c"fifo"), Ok(OpenForWriting::NotAFile));
        symlink("fifo", scratch.path().join("link")).unwrap();
        assert_eq!(open_for_writing(dir.as_fd(), c"link"), Ok(OpenForWriting::NotAFile));
        assert_eq!(open_for_writing(dir.as_fd(), c"."), Ok(OpenForWriting::NotAFile));
        // The kernel refuses to open a FIFO without reader for writing: so the FIFO was not opened.
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
        assert!(matches!(answer, OpenForWriting::Unknown { .. }));
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
    fn a_writer_that_comes_during_the_lease_does_not_end_the_process() {
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
        assert_eq!(open_for_writing(dir.as_fd(), c"file"), Ok(OpenForWriting::No));
    }
}
