//! Standard error for the log, written without ever blocking.
//!
//! `O_NONBLOCK` belongs to the open file description, which the daemon shares with its parent and its
//! children: if the daemon set it, writes of a shell or a child would fail. So a pipe or terminal is opened
//! again, through `/proc`; for a socket, every `send(2)` has a flag for it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};
use nix::sys::stat::Mode;
use nix::unistd::write;

use super::epoll::{Epoll, Interest};
use super::stat::{Kind, stat};
use super::{Errno, errno_of, proc_path, retry};
use crate::types::Millis;

/// How a write is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `send(2)` with MSG_DONTWAIT.
    Socket,
    /// An open file description of the daemon's own, with `O_NONBLOCK`.
    Own,
    /// `poll(2)` before every write, and then at most as many bytes as a pipe takes at once.
    Polled,
    /// A regular file, which never makes a writer wait. The daemon writes through the shared description: its
    /// position keeps lines of the daemon and of children from overwriting each other.
    File,
}

/// Where the log goes.
#[derive(Debug)]
pub struct Output {
    fd: OwnedFd,
    way: Way,
    pollable: bool,
    journal: bool,
}

impl Output {
    /// Standard error.
    ///
    /// # Errors
    /// EBADF when it is closed, EMFILE, ENFILE.
    pub fn stderr() -> Result<Self, Errno> {
        let stderr = std::io::stderr();
        let fd = stderr.as_fd().try_clone_to_owned().map_err(|error| errno_of(&error))?;
        let journal = std::env::var_os("JOURNAL_STREAM");
        let journal = journal.is_some_and(|stream| is_journal(fd.as_fd(), stream.as_encoded_bytes()));
        Ok(Self { journal, ..Self::new(fd) })
    }

    /// Any other stream.
    #[must_use]
    pub fn new(stream: OwnedFd) -> Self {
        let (fd, way) = choose(stream);
        let pollable = Epoll::new().and_then(|epoll| epoll.add(&fd, 0, Interest::WRITE)).is_ok();
        Self { fd, way, pollable, journal: false }
    }

    /// Writes as many bytes as the stream has room for, and returns how many that was.
    ///
    /// # Errors
    /// EAGAIN when there is no room now; EPIPE, ENOSPC, EIO and the like when the stream is broken.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match self.way {
            Way::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                retry(|| send(self.fd.as_raw_fd(), bytes, flags))
            }
            Way::Own | Way::File => retry(|| write(&self.fd, bytes)),
            Way::Polled => {
                if !self.wait(0)? {
                    return Err(Errno::EAGAIN);
                }
                let size = bytes.len().min(libc::PIPE_BUF);
                retry(|| write(&self.fd, &bytes[..size]))
            }
        }
    }

    /// Waits until there is room, at most `timeout_ms`; returns whether there is. A broken stream counts as
    /// having room: writing gives its error.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn wait(&self, timeout_ms: Millis) -> Result<bool, Errno> {
        wait_writable(self.fd.as_fd(), timeout_ms)
    }

    /// The descriptor to wait on with epoll; `None` for regular files and `/dev/null`, which epoll refuses
    /// and which never give EAGAIN.
    #[must_use]
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.pollable.then(|| self.fd.as_fd())
    }

    /// Whether the journal reads the stream: then lines need a priority, and no time.
    #[must_use]
    pub fn is_journal(&self) -> bool {
        self.journal
    }
}

/// As [`Output::wait`], for any stream.
///
/// # Errors
/// ENOMEM.
pub fn wait_writable(fd: BorrowedFd<'_>, timeout_ms: Millis) -> Result<bool, Errno> {
    let timeout = i32::try_from(timeout_ms).ok().and_then(|ms| PollTimeout::try_from(ms).ok());
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    let ready = retry(|| poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)))?;
    Ok(ready > 0)
}

fn choose(stream: OwnedFd) -> (OwnedFd, Way) {
    if getsockopt(&stream, sockopt::SockType).is_ok() {
        return (stream, Way::Socket);
    }
    if stat(stream.as_fd()).is_ok_and(|stat| stat.kind == Kind::File) {
        return (stream, Way::File);
    }
    match retry(|| reopen(stream.as_fd())) {
        Ok(own) => (own, Way::Own),
        // No /proc, no right to open the terminal, or the pipe has no reader.
        Err(_) => (stream, Way::Polled),
    }
}

fn reopen(stream: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(proc_path(stream).as_c_str(), flags, Mode::empty())
}

/// Whether `JOURNAL_STREAM`, `device:inode` in decimal, names this descriptor (`systemd.exec(5)`). Programs
/// whose standard error goes elsewhere inherit the variable too.
fn is_journal(fd: BorrowedFd<'_>, stream: &[u8]) -> bool {
    let Ok(id) = stat(fd).map(|stat| stat.id) else { return false };
    stream == format!("{}:{}", id.dev, id.ino).as_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::unix::net::UnixStream;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::unistd::pipe;

    use super::*;

    /// Writes until there is no room; returns how much there was.
    fn fill(output: &mut Output) -> usize {
        let mut total = 0;
        loop {
            match output.write(&[b'x'; 10_000]) {
                Ok(size) => total += size,
                Err(errno) => {
                    assert_eq!(errno, Errno::EAGAIN);
                    return total;
                }
            }
        }
    }

    fn is_blocking(fd: impl AsFd) -> bool {
        !OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK)
    }

    /// A full stream gives EAGAIN, stays blocking for others, and takes more once it was read.
    fn check(stream: OwnedFd, mut reader: impl Read, way: Way, force: bool) {
        let shared = stream.try_clone().unwrap();
        let mut output = Output::new(stream);
        if force {
            output = Output { fd: shared.try_clone().unwrap(), way, pollable: true, journal: false };
        }
        assert_eq!(output.way, way);
        assert!(output.pollable().is_some());
        let total = fill(&mut output);
        assert!(total > 4096);
        assert!(!output.wait(0).unwrap());
        assert!(is_blocking(&shared));
        reader.read_exact(&mut vec![0; total]).unwrap();
        assert!(output.wait(0).unwrap());
        assert_eq!(output.write(b"y"), Ok(1));
        drop(reader);
        assert_eq!(output.write(b"y"), Err(Errno::EPIPE));
    }

    #[test]
    fn a_full_pipe_does_not_block() {
        let (read, write) = pipe().unwrap();
        check(write, File::from(read), Way::Own, false);
        let (read, write) = pipe().unwrap();
        check(write, File::from(read), Way::Polled, true);
    }

    #[test]
    fn a_full_socket_does_not_block() {
        let (read, write) = UnixStream::pair().unwrap();
        check(write.into(), read, Way::Socket, false);
    }

    #[test]
    fn a_file_is_shared_with_others_who_write_to_it() {
        let mut file = tempfile::tempfile().unwrap();
        let mut output = Output::new(file.try_clone().unwrap().into());
        assert_eq!(output.way, Way::File);
        assert!(output.pollable().is_none());
        assert_eq!(output.write(b"one "), Ok(4));
        file.write_all(b"two ").unwrap();
        assert_eq!(output.write(b"three"), Ok(5));
        file.rewind().unwrap();
        assert_eq!(std::io::read_to_string(file).unwrap(), "one two three");
    }

    #[test]
    fn dev_null_takes_everything_and_cannot_be_waited_for() {
        let mut output = Output::new(crate::sys::process::dev_null().unwrap());
        assert!(output.pollable().is_none());
        assert_eq!(output.write(&[0; 100_000]), Ok(100_000));
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let id = stat(stream.as_fd()).unwrap().id;
        let check = |text: String, expected| {
            assert_eq!(is_journal(stream.as_fd(), text.as_bytes()), expected, "{text}");
        };
        check(format!("{}:{}", id.dev, id.ino), true);
        check(format!("{}:{}", id.dev, id.ino + 1), false);
        check(format!("{}:{}", id.dev + 1, id.ino), false);
        check(String::new(), false);
        assert!(!Output::new(stream.as_fd().try_clone_to_owned().unwrap()).is_journal());
    }
}
