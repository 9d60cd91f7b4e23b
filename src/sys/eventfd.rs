//! How another thread wakes the loop. See `eventfd(2)`.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd as Kernel};

use super::{Errno, retry};

/// A counter in the kernel; its descriptor is readable while the counter is not 0.
#[derive(Debug)]
pub struct EventFd(Kernel);

impl EventFd {
    /// A counter that is 0.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        Kernel::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Self)
    }

    /// Adds 1 to the counter.
    pub fn notify(&self) {
        // EAGAIN: the counter is at its maximum, and so the descriptor is readable.
        let _ = retry(|| self.0.write(1));
    }

    /// Sets the counter to 0.
    pub fn clear(&self) {
        // EAGAIN: the counter is 0 already.
        let _ = retry(|| self.0.read());
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::epoll::{Epoll, Events, Interest};

    #[test]
    fn it_is_readable_until_it_is_cleared() {
        let event = EventFd::new().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(&event, 1, Interest::READ).unwrap();
        let mut events = Events::new(1);
        assert_eq!(epoll.wait(&mut events, Some(0)), Ok(0));
        event.notify();
        event.notify();
        assert_eq!(epoll.wait(&mut events, Some(0)), Ok(1));
        event.clear();
        event.clear();
        assert_eq!(epoll.wait(&mut events, Some(0)), Ok(0));
    }
}
