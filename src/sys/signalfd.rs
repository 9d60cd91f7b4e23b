//! Signals that are read from a descriptor instead of interrupting the program.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Errno, retry};

/// The signals the daemon listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGHUP.
    Hangup,
    /// SIGUSR1.
    User1,
    /// SIGCHLD. One signal may stand for several children (`signal(7)`): reap until none is left.
    Child,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Terminate, Self::Interrupt, Self::Hangup, Self::User1, Self::Child];

    const fn number(self) -> Number {
        match self {
            Self::Terminate => Number::SIGTERM,
            Self::Interrupt => Number::SIGINT,
            Self::Hangup => Number::SIGHUP,
            Self::User1 => Number::SIGUSR1,
            Self::Child => Number::SIGCHLD,
        }
    }
}

/// Blocks signals and returns them one at a time. See `signalfd(2)`.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks these signals in the calling thread and in every thread that it starts from now on. Call this
    /// before other threads start: the kernel may deliver a signal to any thread that does not block it.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new(signals: &[Signal]) -> Result<Self, Errno> {
        let set: SigSet = signals.iter().map(|signal| signal.number()).collect();
        set.thread_block()?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// The next signal; `None` when there is none.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn read(&self) -> Result<Option<Signal>, Errno> {
        let info = retry(|| self.0.read_signal())?;
        Ok(info.and_then(|info| Signal::ALL.into_iter().find(|signal| is(*signal, info.ssi_signo))))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is(signal: Signal, number: u32) -> bool {
    u32::try_from(signal.number() as i32) == Ok(number)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn signals_are_read_one_at_a_time_and_each_once() {
        // In a thread of its own, because a mask belongs to a thread. Without SIGCHLD, because children of
        // other tests send it.
        std::thread::spawn(|| {
            let wanted = [Signal::Terminate, Signal::Interrupt, Signal::Hangup, Signal::User1];
            let signals = Signals::new(&wanted).unwrap();
            assert_eq!(signals.read(), Ok(None));
            for signal in wanted {
                raise(signal.number()).unwrap();
                raise(signal.number()).unwrap();
                assert_eq!(signals.read(), Ok(Some(signal)));
                assert_eq!(signals.read(), Ok(None), "equal signals coalesce");
            }
        })
        .join()
        .unwrap();
    }
}
