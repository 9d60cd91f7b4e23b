//! Waiting for descriptors. See `epoll(7)`.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::epoll::{Epoll as Kernel, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::Errno;
use crate::types::Millis;

/// What to wait for. Hang-ups and errors are always reported, also for [`Interest::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Data to read, or the end of the stream.
    pub readable: bool,
    /// Room to write.
    pub writable: bool,
    /// An urgent condition, by which `/proc/self/mountinfo` reports a change of mounts (`proc(5)`). That file
    /// is always readable, so ask for this alone.
    pub priority: bool,
    /// Report once, and again only after `modify`.
    pub oneshot: bool,
}

impl Interest {
    /// Data to read.
    pub const READ: Self = Self { readable: true, writable: false, priority: false, oneshot: false };
    /// Room to write.
    pub const WRITE: Self = Self { readable: false, writable: true, priority: false, oneshot: false };
    /// Nothing for now; the descriptor stays in the set.
    pub const NONE: Self = Self { readable: false, writable: false, priority: false, oneshot: false };
    /// A change of mounts.
    pub const PRIORITY: Self = Self { readable: false, writable: false, priority: true, oneshot: false };

    fn flags(self) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, self.readable);
        flags.set(EpollFlags::EPOLLOUT, self.writable);
        flags.set(EpollFlags::EPOLLPRI, self.priority);
        flags.set(EpollFlags::EPOLLONESHOT, self.oneshot);
        flags
    }
}

/// One descriptor that is ready, identified by its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token of [`Epoll::add`].
    pub token: u64,
    /// Reading will not block. Also true for every hang-up and error: the caller reads, learns which, and
    /// removes the descriptor; otherwise it would be reported again and again.
    pub readable: bool,
    /// Writing will not block, or will fail at once.
    pub writable: bool,
    /// The peer has closed, or the descriptor has an error.
    pub hangup: bool,
    /// An urgent condition; see [`Interest::priority`].
    pub priority: bool,
}

impl From<&EpollEvent> for Ready {
    fn from(event: &EpollEvent) -> Self {
        let flags = event.events();
        let hangup = flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        Self {
            token: event.data(),
            readable: hangup || flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP),
            writable: flags.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLERR),
            hangup,
            priority: flags.contains(EpollFlags::EPOLLPRI),
        }
    }
}

/// A buffer for the results of [`Epoll::wait`], to be reused.
#[derive(Debug)]
pub struct Events {
    buffer: Vec<EpollEvent>,
    count: usize,
}

impl Events {
    /// Room for `capacity` descriptors, at least one. If more are ready, the next wait returns the others.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { buffer: vec![EpollEvent::empty(); capacity.max(1)], count: 0 }
    }

    /// The results of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Ready> + '_ {
        self.buffer[..self.count].iter().map(Ready::from)
    }
}

/// A set of descriptors to wait for, level-triggered.
#[derive(Debug)]
pub struct Epoll(Kernel);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        Kernel::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Adds a descriptor. The kernel removes it when its last duplicate is closed; call [`Epoll::delete`] if
    /// a duplicate may stay open.
    ///
    /// # Errors
    /// EPERM for files that cannot be waited for (regular files, `/dev/null`), EEXIST, ENOMEM, ENOSPC.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<(), Errno> {
        self.0.add(fd, EpollEvent::new(interest.flags(), token))
    }

    /// Changes token and interest, and arms a oneshot again.
    ///
    /// # Errors
    /// ENOENT when it was never added.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<(), Errno> {
        self.0.modify(fd, &mut EpollEvent::new(interest.flags(), token))
    }

    /// Removes a descriptor. Readiness that an earlier wait returned may still name its token.
    ///
    /// # Errors
    /// ENOENT when it was never added.
    pub fn delete(&self, fd: impl AsFd) -> Result<(), Errno> {
        self.0.delete(fd)
    }

    /// Waits until a descriptor is ready, at most `timeout` milliseconds, or without a limit. Returns how
    /// many are ready, 0 when the time is over.
    ///
    /// An interruption also returns 0, because only the caller knows how much of the time is left. Signals
    /// are blocked, but a process that is stopped and continued is interrupted too.
    ///
    /// # Errors
    /// None that the kernel documents for a valid set.
    pub fn wait(&self, events: &mut Events, timeout: Option<Millis>) -> Result<usize, Errno> {
        events.count = match self.0.wait(&mut events.buffer, epoll_timeout(timeout)) {
            Err(Errno::EINTR) => 0,
            outcome => outcome?,
        };
        Ok(events.count)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

/// The kernel takes milliseconds in a signed integer; a longer wait ends early and is repeated.
fn epoll_timeout(timeout: Option<Millis>) -> EpollTimeout {
    let Some(timeout) = timeout else { return EpollTimeout::NONE };
    i32::try_from(timeout).ok().and_then(|ms| EpollTimeout::try_from(ms).ok()).unwrap_or(EpollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;
    use crate::sys::process;

    fn ready(epoll: &Epoll) -> Vec<Ready> {
        let mut events = Events::new(4);
        epoll.wait(&mut events, Some(0)).unwrap();
        events.iter().collect()
    }

    #[test]
    fn readable_writable_and_hangup_differ() {
        let epoll = Epoll::new().unwrap();
        let (read, write) = process::pipe().unwrap();
        epoll.add(&read, 1, Interest::READ).unwrap();
        epoll.add(&write, u64::MAX, Interest::WRITE).unwrap();
        let writable =
            Ready { token: u64::MAX, readable: false, writable: true, hangup: false, priority: false };
        assert_eq!(ready(&epoll), [writable]);
        File::from(write).write_all(b"x").unwrap();
        let found = ready(&epoll);
        assert_eq!(
            found,
            [Ready { token: 1, readable: true, writable: false, hangup: true, priority: false }]
        );
    }

    #[test]
    fn a_hangup_is_reported_without_any_interest() {
        let epoll = Epoll::new().unwrap();
        let (read, write) = process::pipe().unwrap();
        epoll.add(&read, 1, Interest::default()).unwrap();
        assert_eq!(ready(&epoll), []);
        drop(write);
        assert!(ready(&epoll)[0].readable && ready(&epoll)[0].hangup);
    }

    #[test]
    fn oneshot_reports_once_until_modified() {
        let epoll = Epoll::new().unwrap();
        let (_read, write) = process::pipe().unwrap();
        let interest = Interest { oneshot: true, ..Interest::WRITE };
        epoll.add(&write, 1, interest).unwrap();
        assert_eq!(ready(&epoll).len(), 1);
        assert_eq!(ready(&epoll).len(), 0);
        epoll.modify(&write, 2, interest).unwrap();
        assert_eq!(ready(&epoll)[0].token, 2);
        epoll.delete(&write).unwrap();
        assert_eq!(epoll.modify(&write, 2, interest), Err(Errno::ENOENT));
    }

    #[test]
    fn a_regular_file_cannot_be_waited_for() {
        let epoll = Epoll::new().unwrap();
        let file = tempfile::tempfile().unwrap();
        assert_eq!(epoll.add(&file, 1, Interest::READ), Err(Errno::EPERM));
    }

    #[test]
    fn mounts_are_silent_until_they_change() {
        let epoll = Epoll::new().unwrap();
        let mounts = File::open("/proc/self/mountinfo").unwrap();
        epoll.add(&mounts, 1, Interest::PRIORITY).unwrap();
        // Another process may change a mount, which is reported. Data that is always readable is not.
        assert!(ready(&epoll).iter().all(|ready| ready.priority));
    }

    #[test]
    fn timeouts_beyond_the_kernels_range_are_cut() {
        assert_eq!(epoll_timeout(None), EpollTimeout::NONE);
        assert_eq!(epoll_timeout(Some(0)), EpollTimeout::ZERO);
        assert_eq!(epoll_timeout(Some(u64::MAX)), EpollTimeout::MAX);
    }
}
