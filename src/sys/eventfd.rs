//! How another thread wakes the loop. See `eventfd(2)`.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Errno, retry};

/// A descriptor that is readable once somebody has rung it.
#[derive(Debug)]
pub struct Bell(EventFd);

impl Bell {
    /// One that nobody has rung.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Self)
    }

    /// Makes it readable; rings add up.
    pub fn ring(&self) {
        // EAGAIN: it was rung 2^64 times, and so is readable.
        let _ = retry(|| self.0.write(1));
    }

    /// Makes it quiet again.
    pub fn quiet(&self) {
        // EAGAIN: nobody has rung.
        let _ = retry(|| self.0.read());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::epoll::{Epoll, Events, Interest};

    #[test]
    fn it_is_readable_until_it_is_quiet() {
        let bell = Bell::new().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(&bell, 1, Interest::READ).unwrap();
        let mut events = Events::new(1);
        assert_eq!(epoll.wait(&mut events, Some(0)), Ok(0));
        bell.ring();
        bell.ring();
        assert_eq!(epoll.wait(&mut events, Some(0)), Ok(1));
        bell.quiet();
        bell.quiet();
        assert_eq!(epoll.wait(&mut events, Some(0)), Ok(0));
    }
}
